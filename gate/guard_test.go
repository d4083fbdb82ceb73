package gate

import (
	"testing"
	"time"

	"phantom/billing"
	"phantom/debt"
	"phantom/playbook"
	"phantom/state"
)

// What the database forbids, by kind: what takes back something of PHANTOM's own waits for a halt
// alone, a final step does not know a window, and a message knows no minimum.
func TestGateOfHunts(t *testing.T) {
	t.Parallel()
	now := time.Now()
	reason := debt.PaymentUnderWay
	kinds := []string{KindPay, KindHold, KindCancel, KindRelease, KindResume, playbook.Email}
	for name, c := range map[string]struct {
		change func(h *HuntFacts)
		want   [6]Code // by kind
	}{
		"nothing forbids it": {func(*HuntFacts) {}, [6]Code{}},
		"disconnected": {func(h *HuntFacts) { h.Disconnected = true }, [6]Code{Disconnected,
			Disconnected, Disconnected, Disconnected, Disconnected, Disconnected}},
		"halted": {func(h *HuntFacts) { h.Halted = true }, [6]Code{Halted, Halted, Halted,
			Halted, Halted, Halted}},
		"ended": {func(h *HuntFacts) { h.Hunt.State = state.HuntStopped }, [6]Code{HuntEnded, HuntEnded,
			HuntEnded, "", "", HuntEnded}},
		"held out": {func(h *HuntFacts) { h.Hunt.HeldOut = true }, [6]Code{Untouched, Untouched,
			Untouched, "", "", Untouched}},
		"only watching": {func(h *HuntFacts) { h.Hunt.Mode = state.ModeObserve }, [6]Code{Untouched,
			Untouched, Untouched, "", "", Untouched}},
		"a debit under way": {func(h *HuntFacts) {
			h.Ghost.Status, h.Ghost.ClosedReason = state.GhostClosed, &reason
		}, [6]Code{GhostPays, GhostPays, GhostPays, "", "", GhostPays}},
		"closed": {func(h *HuntFacts) { h.Ghost.Status = state.GhostClosed }, [6]Code{GhostClosed,
			GhostClosed, GhostClosed, "", "", GhostClosed}},
		"the window is over": {func(h *HuntFacts) { h.Hunt.BeganAt = now.AddDate(0, 0, -31) },
			[6]Code{WindowOver, WindowOver, "", "", "", WindowOver}},
		"switched off": {func(h *HuntFacts) { h.Playbook.Mode = state.ModeOff }, [6]Code{SwitchedOff,
			SwitchedOff, SwitchedOff, "", "", SwitchedOff}},
		"too little": {func(h *HuntFacts) { h.Playbook.MinAmount = map[string]int64{"usd": 1} },
			[6]Code{BelowMinimum, BelowMinimum, BelowMinimum, "", "", BelowMinimum}},
	} {
		_, h, p := owing()
		c.change(&h)
		for i, kind := range kinds {
			r := MayLeave(kind, p, Facts{Hunt: h}, now)
			if r.Code != c.want[i] || r.Code.Effect() == Waits && !r.Yes() && !r.Until.After(now) {
				t.Errorf("%s, %s: %+v, want %q", kind, name, r, c.want[i])
			}
		}
	}
}

// Nobody loses a subscription who has paid, disputes or is paying, nor before Smart Retries has
// ended.
func TestGateOfFinalSteps(t *testing.T) {
	t.Parallel()
	now := time.Now()
	next := now.Add(time.Hour).Unix()
	for name, c := range map[string]struct {
		change func(f *StripeFacts, p *playbook.Playbook)
		want   Code
	}{
		"nothing forbids it": {func(*StripeFacts, *playbook.Playbook) {}, ""},
		"written off": {func(f *StripeFacts, _ *playbook.Playbook) {
			f.Invoice.Status, f.Invoice.NextAttempt = "uncollectible", &next
		}, ""},
		"paid": {func(f *StripeFacts, _ *playbook.Playbook) { f.Invoice.Status = "paid" }, NotOpen},
		"void": {func(f *StripeFacts, _ *playbook.Playbook) { f.Invoice.Status = "void" }, NotOpen},
		"paid elsewhere": {func(f *StripeFacts, _ *playbook.Playbook) {
			f.Invoice.PaidOutOfBand = true
		}, NotOpen},
		"nothing left": {func(f *StripeFacts, _ *playbook.Playbook) {
			f.Invoice.AmountRemaining = 0
		}, NotOpen},
		"a dispute": {func(f *StripeFacts, _ *playbook.Playbook) {
			f.Charges = []billing.Charge{{Status: "succeeded", Disputed: true}}
		}, InDispute},
		"a payment under way": {func(f *StripeFacts, _ *playbook.Playbook) {
			f.Invoice.Intent.Status = "processing"
		}, UnderWay},
		"the newest is paid": {func(f *StripeFacts, _ *playbook.Playbook) { f.Paying = true }, Paying},
		"the newest is paid, and the playbook wants it": {func(f *StripeFacts, p *playbook.Playbook) {
			f.Paying, p.FinalStepIfPaying = true, true
		}, ""},
		"Smart Retries runs": {func(f *StripeFacts, _ *playbook.Playbook) { f.Invoice.NextAttempt = &next },
			StripeRetries},
	} {
		o, h, p := owing()
		f := StripeFacts{Object: billing.Object{ID: "sub_1", Status: "past_due"}, Invoice: o}
		c.change(&f, &h.Playbook)
		r := MayLeave(KindCancel, p, Facts{Hunt: h, Stripe: &f}, now)
		if r.Code != c.want || !r.Yes() && r.Code.Effect() == Waits && !r.Until.After(now) {
			t.Errorf("%s: %+v, want %q", name, r, c.want)
		}
	}
	o, h, p := owing()
	f := Facts{Hunt: h, Stripe: &StripeFacts{Invoice: o}, Ledger: &LedgerFacts{Twin: true}}
	if r := MayLeave(KindCancel, p, f, now); r.Code != TwinOut {
		t.Errorf("beside another request: %+v", r)
	}
}

// Only what PHANTOM keeps from Smart Retries is given back.
func TestGateOfReleases(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(f *StripeFacts)
		want   Code
	}{
		"taken over":      {func(*StripeFacts) {}, ""},
		"paid":            {func(f *StripeFacts) { f.Object.Status = "paid" }, NotOpen},
		"nothing left":    {func(f *StripeFacts) { f.Object.AmountRemaining = 0 }, NotOpen},
		"given back":      {func(f *StripeFacts) { f.Object.AutoAdvance = true }, NotOurs},
		"taken by others": {func(f *StripeFacts) { f.Taken = false }, NotOurs},
	} {
		o, h, p := owing()
		h.Hunt.State = state.HuntExhausted
		f := StripeFacts{Object: o, Taken: true}
		c.change(&f)
		if r := MayLeave(KindRelease, p, Facts{Hunt: h, Stripe: &f}, time.Now()); r.Code != c.want {
			t.Errorf("%s: %+v, want %q", name, r, c.want)
		}
	}
}

// What earlier charges say of the next one, for a charge and for the take-over before it.
func TestGateOfTheNextCharge(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	day := 24 * time.Hour
	made := func(age time.Duration, status, reason string, change ...func(*billing.Charge)) billing.Charge {
		c := billing.Charge{Status: status, Invoice: "in_1", Created: now.Add(-age).Unix(), Method: onFile}
		c.Outcome.NetworkStatus, c.Outcome.Reason = "declined_by_network", reason
		for _, do := range change {
			do(&c)
		}
		return c
	}
	of := func(invoice string) func(*billing.Charge) { return func(c *billing.Charge) { c.Invoice = invoice } }
	lost := func(c *billing.Charge) { c.Disputed, c.Dispute.Status = true, "lost" }
	wait := func(c *billing.Charge) { c.Outcome.NetworkAdviceCode, c.Method.Brand = "30", "mastercard" }
	const low = "insufficient_funds"
	for _, test := range []struct {
		name      string
		charges   []billing.Charge
		change    func(*playbook.Playbook)
		pay, hold Code
	}{
		{"nothing of note", nil, nil, "", ""},
		{"a dispute that was lost", []billing.Charge{made(9*day, "succeeded", "", lost)}, nil, WasDisputed,
			WasDisputed},
		{"a dispute of long ago", []billing.Charge{made(31*day, "succeeded", "", lost)}, nil, "", ""},
		{"under way", []billing.Charge{made(2*day, "pending", "")}, nil, UnderWay, UnderWay},
		{"another invoice's under way", []billing.Charge{made(time.Hour, "pending", "", of("in_2"))}, nil,
			OnceADay, ""},
		{"declined an hour ago", []billing.Charge{made(time.Hour, "failed", low)}, nil, OnceADay, ""},
		{"the network asks for long", []billing.Charge{made(2*day, "failed", "", wait)}, nil, NetworkWaits,
			NetworkWaits},
		{"dead", []billing.Charge{made(9*day, "failed", "stolen_card", of("in_2"))}, nil, CardDead,
			CardDead},
		{"dead, and it has paid since", []billing.Charge{made(8*day, "succeeded", "", of("in_2")),
			made(9*day, "failed", "stolen_card")}, nil, "", ""},
		{"the customer must act", []billing.Charge{made(9*day, "failed", "expired_card")}, nil, MustAct,
			MustAct},
		{"the customer had to act for another", []billing.Charge{made(9*day, "failed", "expired_card",
			of("in_2"))}, nil, "", ""},
		{"the customer had to act before", []billing.Charge{made(8*day, "failed", low),
			made(9*day, "failed", "expired_card")}, nil, "", ""},
		{"no attempts", nil, func(p *playbook.Playbook) { p.MaxAttempts = 0 }, NoBudget, NoBudget},
		{"no budget", nil, func(p *playbook.Playbook) { p.CardBudget = 0 }, NoBudget, NoBudget},
		{"the invoice's attempts", []billing.Charge{made(8*day, "failed", low)},
			func(p *playbook.Playbook) { p.MaxAttempts = 1 }, AttemptsUsedUp, AttemptsUsedUp},
		{"another invoice's attempts", []billing.Charge{made(8*day, "failed", low, of("in_2"))},
			func(p *playbook.Playbook) { p.MaxAttempts = 1 }, "", ""},
		{"the card's attempts", []billing.Charge{made(8*day, "failed", low, of("in_2"))},
			func(p *playbook.Playbook) { p.CardBudget = 1 }, CardBudgetSpent, CardBudgetSpent},
	} {
		o, h, p := owing()
		h.Hunt.BeganAt = now
		if test.change != nil {
			test.change(&h.Playbook)
		}
		f := Facts{Hunt: h, Stripe: &StripeFacts{Object: o, Charges: test.charges}}
		pay, hold := MayLeave(KindPay, p, f, now), MayLeave(KindHold, p, f, now)
		if pay.Code != test.pay || hold.Code != test.hold {
			t.Errorf("%s: %q and before it %q, want %q and %q", test.name, pay.Code, hold.Code, test.pay,
				test.hold)
		}
	}
}

// Smart Retries is let run, or is to let go first; a take-over is there for just that.
func TestGateBesideSmartRetries(t *testing.T) {
	t.Parallel()
	now := time.Now()
	next := now.Add(time.Hour).Unix()
	for _, test := range []struct {
		takeOver, taken bool
		pay             Code
	}{
		{false, false, StripeRetries}, {true, false, TakeOverFirst},
		{true, true, StripeRetries},
	} {
		o, h, p := owing()
		o.NextAttempt, h.Playbook.TakeOver = &next, test.takeOver
		f := Facts{Hunt: h, Stripe: &StripeFacts{Object: o, Taken: test.taken}}
		pay, hold := MayLeave(KindPay, p, f, now), MayLeave(KindHold, p, f, now)
		if pay.Code != test.pay || !hold.Yes() {
			t.Errorf("%+v: %q, and before it %q", test, pay.Code, hold.Code)
		}
	}
}

// The networks' limits are those that Stripe writes of, no matter what a playbook would allow.
func TestNetworkLimitsAreStripes(t *testing.T) {
	t.Parallel()
	limit := func(brand string, within time.Duration) int {
		for _, l := range networkLimits {
			if l.brand == brand && l.within == within {
				return l.most
			}
		}
		return 0
	}
	const month = 30 * 24 * time.Hour
	if v, m, d := limit("visa", month), limit("mastercard", month),
		limit("mastercard", 24*time.Hour); v != 15 || m != 35 || d != 10 {
		t.Errorf("Visa %d; Mastercard %d, and %d a day", v, m, d)
	}
}

// A budget refills when as many attempts as it allows lie behind its time, to the end of Stripe's
// second; of several limits the longest wait counts.
func TestBudgetsRefill(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	at := []time.Time{now.Add(-time.Hour), now.Add(-2 * time.Hour), now.Add(-3 * time.Hour)}
	for most, want := range map[int]time.Time{
		0: {}, 1: at[0].Add(time.Minute + time.Second), 3: at[2].Add(time.Minute + time.Second), 4: {},
	} {
		if free := Refill(at, most, time.Minute); !free.Equal(want) {
			t.Errorf("%d of 3: free at %s, want %s", most, free, want)
		}
	}
	p := playbook.Default()
	p.CardBudget = 3
	f := LedgerFacts{Attempts: at}
	r := f.mayCharge(Request{Currency: "usd"}, onFile, p, now)
	if want := at[2].Add(30*24*time.Hour + time.Second); r.Code != CardBudgetSpent ||
		!r.Until.Equal(want) {
		t.Errorf("%+v, want until %s", r, want)
	}
}
