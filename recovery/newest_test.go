package recovery

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"phantom/gate"
	"phantom/playbook"
	"phantom/sandbox"
	"phantom/state"
)

func uuidOf(text string) uuid.UUID { return uuid.MustParse(text) }

// What a merchant switches off or lowers holds for hunts that run, from the next send on. The plan
// stays the hunt's own. Nothing is asked of Stripe for what the database forbids already.
func TestNewestPlaybookHoldsForRunningHunts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*playbook.Playbook)
		do     func(*bench)
		want   gate.Code
		reads  bool
	}{
		"switched off":         {func(p *playbook.Playbook) { p.Mode = state.ModeOff }, nil, gate.SwitchedOff, false},
		"to observe":           {func(p *playbook.Playbook) { p.Mode = state.ModeObserve }, nil, gate.SwitchedOff, false},
		"a minimum":            {func(p *playbook.Playbook) { p.MinAmount = everyCurrency(1 << 40) }, nil, gate.BelowMinimum, false},
		"a daily cap":          {func(p *playbook.Playbook) { p.DailyCap = everyCurrency(1) }, nil, gate.DailyCap, true},
		"no attempts any more": {func(p *playbook.Playbook) { p.MaxAttempts = 0 }, nil, gate.NoBudget, true},
		"one attempt":          {func(p *playbook.Playbook) { p.MaxAttempts = 1 }, nil, gate.AttemptsUsedUp, true},
		"a budget of one":      {func(p *playbook.Playbook) { p.CardBudget = 1 }, nil, gate.CardBudgetSpent, true},
		"halted": {nil, func(b *bench) {
			b.Exec("INSERT INTO halts (scope) VALUES ('00000000-0000-0000-0000-000000000000')")
		}, gate.Halted, false},
		"the plan alone": {func(p *playbook.Playbook) { p.FinalStep, p.TakeOver, p.WindowDays = playbook.FinalCancel, true, 1 }, nil, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, id := setupCharge(t)
			if test.change != nil {
				b.recoverWith(test.change)
			}
			if test.do != nil {
				test.do(b)
			}
			var reads atomic.Int64
			b.world.Fail(sandbox.Fault{Method: http.MethodGet, Path: "/v1/", Times: -1, Hold: func() { reads.Add(1) }})
			b.during(func() {
				b.await("it is looked at", func() bool {
					return b.Count("SELECT count(*) FROM scheduled_tasks WHERE id = $1 AND (finished_at IS NOT NULL OR fence > 0 AND status = 'pending' AND run_at > phantom_now())", id) == 1
				})
			})
			if n := len(b.world.Ledger(b.account)); (n == 1) != (test.want == "") {
				t.Errorf("%d charges were executed", n)
			}
			if got := b.Text("SELECT coalesce(code, '') FROM attempts WHERE task_id = $1", id); got != string(test.want) {
				t.Errorf("%q forbade it, want %q", got, test.want)
			}
			if (reads.Load() > 0) != test.reads {
				t.Errorf("%d reads", reads.Load())
			}
		})
	}
}

func everyCurrency(amount int64) map[string]int64 {
	return map[string]int64{"usd": amount, "eur": amount, "jpy": amount, "gbp": amount}
}
