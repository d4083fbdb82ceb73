package forecast

import (
	"context"
	"testing"
	"time"

	"phantom/db"
	"phantom/decline"
	"phantom/gate"
	"phantom/oracle"
	"phantom/playbook"
)

// recorder is an advisor that keeps what it is asked.
type recorder struct{ oracle.Question }

func (a *recorder) Next(_ context.Context, q oracle.Question) (oracle.Moment, error) {
	a.Question = q
	return oracle.Moment{At: q.NotBefore, Advice: &oracle.Advice{Arm: oracle.ArmHeuristic}}, nil
}

// What Stripe has tried counts against the charges that are left, and an old failure does not.
func TestLeftCountsAllFailures(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 20, 9, 0, 0, 0, time.UTC)
	p := playbook.Default()
	p.MaxAttempts, p.TakeOver = 4, true
	l := Forecast{Playbook: p, End: now.AddDate(0, 0, 14), Zone: time.UTC, Hash: func(string, string) []byte { return make([]byte, 32) }}
	so := History{Class: decline.Timed, LastFailed: now.AddDate(0, 0, -1), Tried: []oracle.Tried{
		{At: now.AddDate(0, 0, -40)}, {At: now.AddDate(0, 0, -5)}, {At: now.AddDate(0, 0, -3)}, {At: now.AddDate(0, 0, -1)},
	}}
	a := &recorder{}
	step, err := l.NextCharge(t.Context(), a, so, now)
	if err != nil || a.Left != 1 {
		t.Fatalf("%d charges are left, want 1; %v", a.Left, err)
	}
	// who is compared is known before the invoice is taken over, and where no charge follows
	if step.Kind != gate.KindHold || step.Arm != oracle.ArmHeuristic || step.Asked == nil {
		t.Errorf("%+v", step)
	}
	l.End, so.LastFailed = now.Add(time.Hour), now.Add(-time.Hour)
	if step, err = l.NextCharge(t.Context(), a, so, now); err != nil || step.Over == "" || step.Arm != oracle.ArmHeuristic {
		t.Errorf("behind the window: %+v, %v", step, err)
	}
}

// The ghost's own last failure is known, however old a memory is, and no other invoice's is taken
// for it.
func TestTriedKnowsTheLastFailure(t *testing.T) {
	t.Parallel()
	day := func(d int) time.Time { return time.Date(2026, 5, d, 9, 0, 0, 0, time.UTC) }
	first, last := day(1), day(9)
	g := db.GhostTarget{StripeInvoiceID: "in_1", DeclineClass: decline.Timed, FirstFailedAt: &first, LastFailedAt: &last}
	l := Forecast{Memory: oracle.Remember([]oracle.Seen{{At: day(1), Invoice: "in_1", Class: decline.Timed}, {At: day(4), Invoice: "in_1", Class: decline.Low}}, day(5))}
	if tried := l.Tried(g, "in_1"); len(tried) != 3 || !tried[2].At.Equal(last) {
		t.Errorf("%+v", tried)
	}
	if tried := l.Tried(g, "in_2"); len(tried) != 0 {
		t.Errorf("of another invoice: %+v", tried)
	}
	l.Memory = oracle.Remember([]oracle.Seen{{At: day(1), Invoice: "in_1", Class: decline.Timed}, {At: day(9), Invoice: "in_2", Class: decline.Low}}, day(10))
	if tried := l.Tried(g, "in_1"); len(tried) != 1 {
		t.Errorf("another invoice's failure is taken for this one's: %+v", tried)
	}
	if tried := (Forecast{}).Tried(g, "in_1"); len(tried) != 2 {
		t.Errorf("without a memory: %+v", tried)
	}
}
