package recovery

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"phantom/connect"
	"phantom/db"
	"phantom/task"
)

// What the database forbids, by kind: what takes back something of PHANTOM's own waits for a halt
// alone, a final step does not know a window, and a message knows no minimum.
func TestGateOfHunts(t *testing.T) {
	t.Parallel()
	now := time.Now()
	reason := closedUnderWay
	kinds := []string{KindPay, KindHold, KindCancel, KindRelease, KindResume, Email}
	for name, c := range map[string]struct {
		change func(h *huntFacts)
		want   [6]code // by kind
	}{
		"nothing forbids it": {func(*huntFacts) {}, [6]code{}},
		"disconnected": {func(h *huntFacts) { h.disconnected = true }, [6]code{codeDisconnected,
			codeDisconnected, codeDisconnected, codeDisconnected, codeDisconnected, codeDisconnected}},
		"halted": {func(h *huntFacts) { h.halted = true }, [6]code{codeHalted, codeHalted, codeHalted,
			codeHalted, codeHalted, codeHalted}},
		"ended": {func(h *huntFacts) { h.hunt.State = "stopped" }, [6]code{codeHuntEnded, codeHuntEnded,
			codeHuntEnded, "", "", codeHuntEnded}},
		"held out": {func(h *huntFacts) { h.hunt.HeldOut = true }, [6]code{codeUntouched, codeUntouched,
			codeUntouched, "", "", codeUntouched}},
		"only watching": {func(h *huntFacts) { h.hunt.Mode = ModeObserve }, [6]code{codeUntouched,
			codeUntouched, codeUntouched, "", "", codeUntouched}},
		"a debit under way": {func(h *huntFacts) {
			h.ghost.Status, h.ghost.ClosedReason = "closed", &reason
		}, [6]code{codeGhostPays, codeGhostPays, codeGhostPays, "", "", codeGhostPays}},
		"closed": {func(h *huntFacts) { h.ghost.Status = "closed" }, [6]code{codeGhostClosed,
			codeGhostClosed, codeGhostClosed, "", "", codeGhostClosed}},
		"the window is over": {func(h *huntFacts) { h.hunt.BeganAt = now.AddDate(0, 0, -31) },
			[6]code{codeWindowOver, codeWindowOver, "", "", "", codeWindowOver}},
		"switched off": {func(h *huntFacts) { h.playbook.Mode = ModeOff }, [6]code{codeSwitchedOff,
			codeSwitchedOff, codeSwitchedOff, "", "", codeSwitchedOff}},
		"too little": {func(h *huntFacts) { h.playbook.MinAmount = map[string]int64{"usd": 1} },
			[6]code{codeBelowMinimum, codeBelowMinimum, codeBelowMinimum, "", "", codeBelowMinimum}},
	} {
		_, h, p := owing()
		c.change(&h)
		for i, kind := range kinds {
			r := mayLeave(kind, p, facts{hunt: h}, now)
			if r.code != c.want[i] || r.code.effect() == waits && !r.yes() && !r.until.After(now) {
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
		change func(f *stripeFacts, p *Playbook)
		want   code
	}{
		"nothing forbids it": {func(*stripeFacts, *Playbook) {}, ""},
		"written off": {func(f *stripeFacts, _ *Playbook) {
			f.invoice.Status, f.invoice.NextAttempt = "uncollectible", &next
		}, ""},
		"paid": {func(f *stripeFacts, _ *Playbook) { f.invoice.Status = "paid" }, codeNotOpen},
		"void": {func(f *stripeFacts, _ *Playbook) { f.invoice.Status = "void" }, codeNotOpen},
		"paid elsewhere": {func(f *stripeFacts, _ *Playbook) {
			f.invoice.PaidOutOfBand = true
		}, codeNotOpen},
		"nothing left": {func(f *stripeFacts, _ *Playbook) {
			f.invoice.AmountRemaining = 0
		}, codeNotOpen},
		"a dispute": {func(f *stripeFacts, _ *Playbook) {
			f.charges = []charge{{Status: "succeeded", Disputed: true}}
		}, codeInDispute},
		"a payment under way": {func(f *stripeFacts, _ *Playbook) {
			f.invoice.Intent.Status = "processing"
		}, codeUnderWay},
		"the newest is paid": {func(f *stripeFacts, _ *Playbook) { f.paying = true }, codePaying},
		"the newest is paid, and the playbook wants it": {func(f *stripeFacts, p *Playbook) {
			f.paying, p.FinalStepIfPaying = true, true
		}, ""},
		"Smart Retries runs": {func(f *stripeFacts, _ *Playbook) { f.invoice.NextAttempt = &next },
			codeStripeRetries},
	} {
		o, h, p := owing()
		f := stripeFacts{object: object{ID: "sub_1", Status: "past_due"}, invoice: o}
		c.change(&f, &h.playbook)
		r := mayLeave(KindCancel, p, facts{hunt: h, stripe: &f}, now)
		if r.code != c.want || !r.yes() && r.code.effect() == waits && !r.until.After(now) {
			t.Errorf("%s: %+v, want %q", name, r, c.want)
		}
	}
	o, h, p := owing()
	f := facts{hunt: h, stripe: &stripeFacts{invoice: o}, ledger: &ledgerFacts{twin: true}}
	if r := mayLeave(KindCancel, p, f, now); r.code != codeTwinOut {
		t.Errorf("beside another request: %+v", r)
	}
}

// Only what PHANTOM keeps from Smart Retries is given back.
func TestGateOfReleases(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(f *stripeFacts)
		want   code
	}{
		"taken over":      {func(*stripeFacts) {}, ""},
		"paid":            {func(f *stripeFacts) { f.object.Status = "paid" }, codeNotOpen},
		"nothing left":    {func(f *stripeFacts) { f.object.AmountRemaining = 0 }, codeNotOpen},
		"given back":      {func(f *stripeFacts) { f.object.AutoAdvance = true }, codeNotOurs},
		"taken by others": {func(f *stripeFacts) { f.taken = false }, codeNotOurs},
	} {
		o, h, p := owing()
		h.hunt.State = "exhausted"
		f := stripeFacts{object: o, taken: true}
		c.change(&f)
		if r := mayLeave(KindRelease, p, facts{hunt: h, stripe: &f}, time.Now()); r.code != c.want {
			t.Errorf("%s: %+v, want %q", name, r, c.want)
		}
	}
}

// What earlier charges say of the next one, for a charge and for the take-over before it.
func TestGateOfTheNextCharge(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	day := 24 * time.Hour
	made := func(age time.Duration, status, reason string, change ...func(*charge)) charge {
		c := charge{Status: status, Invoice: "in_1", Created: now.Add(-age).Unix(), Method: onFile}
		c.Outcome.NetworkStatus, c.Outcome.Reason = "declined_by_network", reason
		for _, do := range change {
			do(&c)
		}
		return c
	}
	of := func(invoice string) func(*charge) { return func(c *charge) { c.Invoice = invoice } }
	lost := func(c *charge) { c.Disputed, c.Dispute.Status = true, "lost" }
	wait := func(c *charge) { c.Outcome.NetworkAdviceCode, c.Method.Brand = "30", "mastercard" }
	const low = "insufficient_funds"
	for _, test := range []struct {
		name      string
		charges   []charge
		change    func(*Playbook)
		pay, hold code
	}{
		{"nothing of note", nil, nil, "", ""},
		{"a dispute that was lost", []charge{made(9*day, "succeeded", "", lost)}, nil, codeWasDisputed,
			codeWasDisputed},
		{"a dispute of long ago", []charge{made(31*day, "succeeded", "", lost)}, nil, "", ""},
		{"under way", []charge{made(2*day, "pending", "")}, nil, codeUnderWay, codeUnderWay},
		{"another invoice's under way", []charge{made(time.Hour, "pending", "", of("in_2"))}, nil,
			codeOnceADay, ""},
		{"declined an hour ago", []charge{made(time.Hour, "failed", low)}, nil, codeOnceADay, ""},
		{"the network asks for long", []charge{made(2*day, "failed", "", wait)}, nil, codeNetworkWaits,
			codeNetworkWaits},
		{"dead", []charge{made(9*day, "failed", "stolen_card", of("in_2"))}, nil, codeCardDead,
			codeCardDead},
		{"dead, and it has paid since", []charge{made(8*day, "succeeded", "", of("in_2")),
			made(9*day, "failed", "stolen_card")}, nil, "", ""},
		{"the customer must act", []charge{made(9*day, "failed", "expired_card")}, nil, codeMustAct,
			codeMustAct},
		{"the customer had to act for another", []charge{made(9*day, "failed", "expired_card",
			of("in_2"))}, nil, "", ""},
		{"the customer had to act before", []charge{made(8*day, "failed", low),
			made(9*day, "failed", "expired_card")}, nil, "", ""},
		{"no attempts", nil, func(p *Playbook) { p.MaxAttempts = 0 }, codeNoBudget, codeNoBudget},
		{"no budget", nil, func(p *Playbook) { p.CardBudget = 0 }, codeNoBudget, codeNoBudget},
		{"the invoice's attempts", []charge{made(8*day, "failed", low)},
			func(p *Playbook) { p.MaxAttempts = 1 }, codeAttemptsUsedUp, codeAttemptsUsedUp},
		{"another invoice's attempts", []charge{made(8*day, "failed", low, of("in_2"))},
			func(p *Playbook) { p.MaxAttempts = 1 }, "", ""},
		{"the card's attempts", []charge{made(8*day, "failed", low, of("in_2"))},
			func(p *Playbook) { p.CardBudget = 1 }, codeCardBudgetSpent, codeCardBudgetSpent},
	} {
		o, h, p := owing()
		h.hunt.BeganAt = now
		if test.change != nil {
			test.change(&h.playbook)
		}
		f := facts{hunt: h, stripe: &stripeFacts{object: o, charges: test.charges}}
		pay, hold := mayLeave(KindPay, p, f, now), mayLeave(KindHold, p, f, now)
		if pay.code != test.pay || hold.code != test.hold {
			t.Errorf("%s: %q and before it %q, want %q and %q", test.name, pay.code, hold.code, test.pay,
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
		pay             code
	}{
		{false, false, codeStripeRetries}, {true, false, codeTakeOverFirst},
		{true, true, codeStripeRetries},
	} {
		o, h, p := owing()
		o.NextAttempt, h.playbook.TakeOver = &next, test.takeOver
		f := facts{hunt: h, stripe: &stripeFacts{object: o, taken: test.taken}}
		pay, hold := mayLeave(KindPay, p, f, now), mayLeave(KindHold, p, f, now)
		if pay.code != test.pay || !hold.yes() {
			t.Errorf("%+v: %q, and before it %q", test, pay.code, hold.code)
		}
	}
}

// The networks' limits are those that Stripe writes of, whatever a playbook would allow.
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
		if free := refill(at, most, time.Minute); !free.Equal(want) {
			t.Errorf("%d of 3: free at %s, want %s", most, free, want)
		}
	}
	p := DefaultPlaybook()
	p.CardBudget = 3
	f := ledgerFacts{attempts: at}
	r := f.mayCharge(frozen{Currency: "usd"}, onFile, p, now)
	if want := at[2].Add(30*24*time.Hour + time.Second); r.code != codeCardBudgetSpent ||
		!r.until.Equal(want) {
		t.Errorf("%+v, want until %s", r, want)
	}
}

// What a merchant lowers or switches off holds for what runs; the plan stays the hunt's own.
func TestTheNewestLimitsHold(t *testing.T) {
	t.Parallel()
	plan, newest := DefaultPlaybook(), DefaultPlaybook()
	plan.Mode, newest.Mode = ModeRecover, ModeOff
	newest.MaxAttempts, newest.CardBudget = plan.MaxAttempts-1, plan.CardBudget-1
	newest.MinAmount, newest.DailyCap = map[string]int64{"usd": 7}, map[string]int64{"usd": 8}
	newest.QuietHours = QuietHours{"01:00", "02:00", "UTC"}
	newest.WindowDays, newest.TakeOver = plan.WindowDays+1, !plan.TakeOver
	newest.FinalStep = FinalCancel
	p := plan.under(newest)
	for name, ok := range map[string]bool{
		"mode": p.Mode == ModeOff, "max_attempts": p.MaxAttempts == newest.MaxAttempts,
		"card_budget": p.CardBudget == newest.CardBudget, "min_amount": p.MinAmount["usd"] == 7,
		"daily_cap": p.DailyCap["usd"] == 8, "quiet_hours": p.QuietHours == newest.QuietHours,
		"window_days": p.WindowDays == plan.WindowDays, "take_over": p.TakeOver == plan.TakeOver,
		"final_step": p.FinalStep == plan.FinalStep,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !ok {
				t.Errorf("%+v", p)
			}
		})
	}
}

// What the ledger knows of a card and what the look has seen are one: each charge counts once, and
// what counts has reached the network, or may have.
func TestSeenChargesJoinTheLedger(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	j := &job{t: &task.Task{}, reader: &connect.Reader{}, now: now}
	made := func(id string, age time.Duration, change func(*charge)) charge {
		c := charge{ID: id, Status: "failed", Created: now.Add(-age).Unix(), Method: onFile}
		c.Outcome.NetworkStatus = "declined_by_network"
		if change != nil {
			change(&c)
		}
		return c
	}
	card := j.hashOf(onFile.key())
	j.charges = []charge{
		made("ch_known", time.Hour, nil),
		made("ch_seen", 2*time.Hour, nil),
		made("ch_pending", 3*time.Hour, func(c *charge) { c.Status = "pending" }),
		made("ch_paid", 4*time.Hour, func(c *charge) { c.Status = "succeeded" }),
		made("ch_blocked", 5*time.Hour, func(c *charge) {
			c.Outcome.NetworkStatus = "not_sent_to_network"
		}),
		made("ch_other", 6*time.Hour, func(c *charge) { c.Method.Fingerprint = "g" }),
		made("ch_old", 31*24*time.Hour, nil),
	}
	rows := []db.CardAttemptListRow{
		{Charge: j.reader.Hash("charge", "ch_known"), At: now.Add(-time.Hour)}, // whoever entered it
		{At: now.Add(-150 * time.Minute)},                                      // sent, and not known
	}
	hours := func(list []time.Time) (h []float64) {
		for _, at := range list {
			h = append(h, now.Sub(at).Hours())
		}
		return h
	}
	if got := hours(j.unite(rows, card)); !slices.Equal(got, []float64{1, 2, 2.5, 3}) {
		t.Errorf("counted were those of %v hours ago", got)
	}
	p := j.marking(card)
	if len(p.Charges) != 4 || !bytes.Equal(p.Card, card) ||
		!slices.Equal(hours(p.Ats), []float64{1, 2, 5, 6}) ||
		!slices.Equal(p.Reached, []bool{true, true, false, true}) ||
		!bytes.Equal(p.Cards[0], card) || bytes.Equal(p.Cards[3], card) {
		t.Errorf("entered were %v of %v hours ago", p.Reached, hours(p.Ats))
	}
}
