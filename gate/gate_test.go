package gate

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"phantom/billing"
	"phantom/db"
	"phantom/playbook"
	"phantom/state"
)

// onFile is the card that will be charged.
var onFile = billing.Method{ID: "pm_1", Type: "card", Brand: "visa", Fingerprint: "f", Country: "US"}

// No matter what Stripe does beside us and however the banks answer: our charges never pass the
// budgets of the card and the invoice within any 30 days, are a day apart from every attempt that
// counts, and do not follow a hard decline. Blocks and other cards count for nothing, and neither
// does what was paid.
func TestBudgetsHoldOverAnySequence(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	sent, refilled := 0, 0
	for range 800 {
		playbook := playbook.Default()
		playbook.MaxAttempts, playbook.CardBudget = random.IntN(16), random.IntN(16)
		now := time.Unix(1_700_000_000, 0)
		var charges []billing.Charge // the newest first
		for range 60 + random.IntN(200) {
			now = now.Add(time.Duration(random.IntN(20*3600)) * time.Second)
			invoice, card := fmt.Sprintf("in_%d", random.IntN(2)), onFile
			if random.IntN(5) == 0 {
				card = billing.Method{ID: "pm_2", Type: "card", Brand: "mastercard", Fingerprint: "g"}
			}
			if random.IntN(3) > 0 { // ours
				if !MayAsk(charges, Request{Object: invoice}, card, playbook, now).Yes() {
					continue
				}
				sent++
				if mustBeAllowed(t, charges, invoice, card, playbook, now) {
					refilled++
				}
			}
			c := billing.Charge{Status: "failed", Invoice: invoice, Created: now.Unix(), Method: card}
			c.Outcome.NetworkStatus = "declined_by_network"
			switch dice := random.IntN(60); {
			case dice == 0:
				c.Outcome.Reason = "stolen_card"
			case dice < 4:
				c.Outcome.NetworkStatus = "not_sent_to_network"
			case dice < 8:
				c.Status = "succeeded"
			default:
				c.Outcome.Reason = "insufficient_funds"
			}
			charges = append([]billing.Charge{c}, charges...)
		}
	}
	if sent < 1000 || refilled == 0 {
		t.Fatalf("only %d charges were allowed, %d behind a budget that had refilled: the test says little", sent, refilled)
	}
}

// mustBeAllowed counts by itself what a charge has behind it, and says whether the invoice's whole
// budget was used up before.
func mustBeAllowed(t *testing.T, charges []billing.Charge, invoice string, card billing.Method, playbook playbook.Playbook, now time.Time) bool {
	t.Helper()
	onCard, same, ever, paid := 0, 0, 0, false
	for _, c := range charges { // the newest first
		at := time.Unix(c.Created, 0)
		if c.Method.Fingerprint != card.Fingerprint || c.Outcome.NetworkStatus == "not_sent_to_network" {
			continue
		}
		month := !at.Before(now.AddDate(0, 0, -30))
		if c.Status == "succeeded" {
			paid = true
			continue
		}
		if c.Invoice == invoice {
			ever++
		}
		if !month {
			continue
		}
		if onCard++; c.Invoice == invoice {
			same++
		}
		if now.Sub(at) < 24*time.Hour {
			t.Fatalf("charged %s after a failure", now.Sub(at))
		}
		if c.Outcome.Reason == "stolen_card" && !paid {
			t.Fatal("charged after a hard decline")
		}
	}
	if onCard >= playbook.CardBudget || same >= playbook.MaxAttempts {
		t.Fatalf("charged with %d of %d on the card and %d of %d on the invoice", onCard, playbook.CardBudget, same, playbook.MaxAttempts)
	}
	return ever >= playbook.MaxAttempts
}

// owing is an invoice that may be charged, and the hunt that would.
func owing() (billing.Object, HuntFacts, Request) {
	o := billing.Object{ID: "in_1", Status: "open", Currency: "usd", AmountRemaining: 4900, CollectionMethod: "charge_automatically", Attempted: true}
	o.Subscription.Status = "past_due"
	o.Customer.Settings.Method = onFile
	h := HuntFacts{Playbook: playbook.Default(), Hunt: db.Hunt{State: state.HuntActive, Mode: state.ModeRecover, BeganAt: time.Now().Add(-time.Hour)}}
	h.Ghost.Status, h.Ghost.Access, h.Ghost.Currency, h.Playbook.Mode = state.GhostOpen, "presumed", "usd", state.ModeRecover
	return o, h, Request{Object: "in_1", Amount: 4900, Currency: "usd"}
}

// Everything that forbids a charge does, no matter what else is so, and says for how long.
func TestGateOfCharges(t *testing.T) {
	t.Parallel()
	now := time.Now()
	next := now.Add(time.Hour).Unix()
	for name, c := range map[string]struct {
		change func(*billing.Object, *HuntFacts)
		want   Code
	}{
		"nothing forbids it":        {func(*billing.Object, *HuntFacts) {}, ""},
		"paid":                      {func(o *billing.Object, _ *HuntFacts) { o.Status = "paid" }, NotOpen},
		"void":                      {func(o *billing.Object, _ *HuntFacts) { o.Status = "void" }, NotOpen},
		"uncollectible":             {func(o *billing.Object, _ *HuntFacts) { o.Status = "uncollectible" }, WrittenOff},
		"paid elsewhere":            {func(o *billing.Object, _ *HuntFacts) { o.PaidOutOfBand = true }, NothingLeft},
		"nothing left":              {func(o *billing.Object, _ *HuntFacts) { o.AmountRemaining = 0 }, NothingLeft},
		"another amount":            {func(o *billing.Object, _ *HuntFacts) { o.AmountRemaining = 4800 }, AmountChanged},
		"another currency":          {func(o *billing.Object, _ *HuntFacts) { o.Currency = "eur" }, AmountChanged},
		"sent to the customer":      {func(o *billing.Object, _ *HuntFacts) { o.CollectionMethod = "send_invoice" }, SentInvoice},
		"a payment under way":       {func(o *billing.Object, _ *HuntFacts) { o.Intent.Status = "processing" }, UnderWay},
		"the customer must confirm": {func(o *billing.Object, _ *HuntFacts) { o.Intent.Status = "requires_action" }, MustConfirm},
		"never attempted":           {func(o *billing.Object, _ *HuntFacts) { o.Attempted = false }, NotTried},
		"collection paused":         {func(o *billing.Object, _ *HuntFacts) { o.Subscription.Pause = []byte(`{"behavior":"void"}`) }, Paused},
		"canceled":                  {func(o *billing.Object, _ *HuntFacts) { o.Subscription.Status = "canceled" }, NotAlive},
		"canceled, but seen using it": {func(o *billing.Object, h *HuntFacts) {
			o.Subscription.Status, h.Ghost.Access = "canceled", "proven"
		}, ""},
		"Smart Retries runs":                     {func(o *billing.Object, _ *HuntFacts) { o.NextAttempt = &next }, StripeRetries},
		"Smart Retries runs and is to hand over": {func(o *billing.Object, h *HuntFacts) { o.NextAttempt, h.Playbook.TakeOver = &next, true }, TakeOverFirst},
		"no payment method":                      {func(o *billing.Object, _ *HuntFacts) { o.Customer.Settings.Method = billing.Method{} }, NoMethod},
		"a wallet": {func(o *billing.Object, _ *HuntFacts) {
			o.Subscription.Method = billing.Method{ID: "pm_9", Type: "cashapp"}
		}, UnknownMethod},
		"halted":              {func(_ *billing.Object, h *HuntFacts) { h.Halted = true }, Halted},
		"disconnected":        {func(_ *billing.Object, h *HuntFacts) { h.Disconnected = true }, Disconnected},
		"the hunt has ended":  {func(_ *billing.Object, h *HuntFacts) { h.Hunt.State = state.HuntStopped }, HuntEnded},
		"held out":            {func(_ *billing.Object, h *HuntFacts) { h.Hunt.HeldOut = true }, Untouched},
		"only watching":       {func(_ *billing.Object, h *HuntFacts) { h.Hunt.Mode = state.ModeObserve }, Untouched},
		"the ghost is closed": {func(_ *billing.Object, h *HuntFacts) { h.Ghost.Status = state.GhostClosed }, GhostClosed},
		"the ghost is purged": {func(_ *billing.Object, h *HuntFacts) { h.Ghost = db.GhostTarget{} }, GhostClosed},
		"switched off since":  {func(_ *billing.Object, h *HuntFacts) { h.Playbook.Mode = state.ModeOff }, SwitchedOff},
		"to observe since":    {func(_ *billing.Object, h *HuntFacts) { h.Playbook.Mode = state.ModeObserve }, SwitchedOff},
		"the window is over":  {func(_ *billing.Object, h *HuntFacts) { h.Hunt.BeganAt = now.AddDate(0, 0, -31) }, WindowOver},
		"too little":          {func(_ *billing.Object, h *HuntFacts) { h.Playbook.MinAmount = map[string]int64{"usd": 1} }, BelowMinimum},
		"over the daily cap":  {func(_ *billing.Object, h *HuntFacts) { h.Playbook.DailyCap = map[string]int64{"usd": 4899} }, DailyCap},
	} {
		o, h, p := owing()
		c.change(&o, &h)
		if r := MayLeave(KindPay, p, Facts{Hunt: h, Stripe: &StripeFacts{Object: o}, Ledger: &LedgerFacts{}}, now); r.Code != c.want {
			t.Errorf("%s: %q, want %q", name, r.Code, c.want)
		} else if !r.Yes() && (r.Code.Effect() == Waits) != r.Until.After(now) {
			t.Errorf("%s: %q until %s", name, r.Code, r.Until)
		}
	}
	o, h, p := owing()
	disputed := []billing.Charge{{Status: "succeeded", Invoice: "in_9", Created: now.Add(-100 * time.Hour).Unix(), Disputed: true}}
	if r := MayLeave(KindPay, p, Facts{Hunt: h, Stripe: &StripeFacts{Object: o, Charges: disputed}}, now); r.Code != InDispute {
		t.Errorf("a customer with a dispute is charged: %+v", r)
	}
	if r := MayLeave(KindPay, p, Facts{Hunt: h, Stripe: &StripeFacts{Object: o}, Ledger: &LedgerFacts{Twin: true}}, now); r.Code != TwinOut {
		t.Errorf("another request is out: %+v", r)
	}
	for c, rule := range rules {
		if rule.words == "" {
			t.Errorf("%s has no words", c)
		}
	}
}

// What forbids a charge beside the budgets: an open dispute however old its charge is, a network
// that has asked to wait, and any attempt of the last day that was declined, no matter who made it.
// What was paid counts against nothing.
func TestGateOfOtherCharges(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	o, h, p := owing()
	h.Hunt.BeganAt = now
	made := func(age time.Duration, status string, change func(*billing.Charge)) billing.Charge {
		c := billing.Charge{Status: status, Invoice: "in_0", Created: now.Add(-age).Unix(), Method: onFile}
		c.Outcome.NetworkStatus = "approved_by_network"
		if change != nil {
			change(&c)
		}
		return c
	}
	day := 24 * time.Hour
	for _, test := range []struct {
		name string
		c    billing.Charge
		want Code
		wait time.Duration
	}{
		{"nothing of note", made(40*day, "succeeded", nil), "", 0},
		{"an old charge, disputed", made(40*day, "succeeded", func(c *billing.Charge) { c.Disputed, c.Dispute.Status = true, "needs_response" }), InDispute, 0},
		{"an old dispute that was won", made(40*day, "succeeded", func(c *billing.Charge) { c.Disputed, c.Dispute.Status = true, "won" }), "", 0},
		{"paid an hour ago", made(time.Hour, "succeeded", nil), "", 0},
		{"declined an hour ago", made(time.Hour, "failed", nil), OnceADay, 23*time.Hour + time.Second},
		{"another card, declined an hour ago", made(time.Hour, "failed", func(c *billing.Charge) { c.Method.Fingerprint = "g" }), "", 0},
		{"the card on file, charged as a debit an hour ago", made(time.Hour, "failed", func(c *billing.Charge) {
			c.MethodID, c.Method.Type, c.Method.Fingerprint = onFile.ID, "sepa_debit", "g"
		}), OnceADay, 23*time.Hour + time.Second},
		{"the card on file before its bank renewed it, an hour ago", made(time.Hour, "failed", func(c *billing.Charge) {
			c.MethodID, c.Method.Type, c.Method.Fingerprint = onFile.ID, onFile.Type, "g"
		}), "", 0},
		{"blocked an hour ago", made(time.Hour, "failed", func(c *billing.Charge) { c.Outcome.NetworkStatus = "not_sent_to_network" }), "", 0},
		{"blocked for good", made(2*day, "failed", func(c *billing.Charge) {
			c.Outcome.NetworkStatus, c.Outcome.Reason = "not_sent_to_network", "highest_risk_level"
		}), CardDead, 0},
		{"the network asks for ten days", made(2*day, "failed", func(c *billing.Charge) { c.Outcome.NetworkAdviceCode, c.Method.Brand = "30", "mastercard" }), NetworkWaits, 8 * day},
		{"the network asked another card", made(2*day, "failed", func(c *billing.Charge) {
			c.Outcome.NetworkAdviceCode, c.Method.Brand, c.Method.Fingerprint = "30", "mastercard", "g"
		}), "", 0},
	} {
		r := MayLeave(KindPay, p, Facts{Hunt: h, Stripe: &StripeFacts{Object: o, Charges: []billing.Charge{test.c}}}, now)
		wait := time.Duration(0)
		if !r.Until.IsZero() {
			wait = r.Until.Sub(now)
		}
		if r.Code != test.want || wait != test.wait {
			t.Errorf("%s: %+v", test.name, r)
		}
	}
}

// The networks' own limits hold under a playbook that would allow more, each for its network.
func TestNetworkLimits(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	every := func(n int, apart time.Duration) (at []time.Time) {
		for i := range n {
			at = append(at, now.Add(-25*time.Hour-time.Duration(i)*apart))
		}
		return at
	}
	generous := playbook.Default()
	generous.CardBudget = 100
	for _, test := range []struct {
		brand    string
		attempts []time.Time
		want     Code
	}{
		{"visa", every(14, time.Hour), ""},
		{"visa", every(15, time.Hour), NetworkLimit},
		{"mastercard", every(15, time.Hour), ""},
		{"mastercard", every(34, time.Hour), ""},
		{"mastercard", every(35, time.Hour), NetworkLimit},
		{"amex", every(60, time.Hour), ""},
	} {
		f := LedgerFacts{Attempts: test.attempts}
		if r := f.mayCharge(Request{Currency: "usd"}, billing.Method{Brand: test.brand}, generous, now); r.Code != test.want {
			t.Errorf("%s with %d attempts: %+v", test.brand, len(test.attempts), r)
		}
	}
	day := LedgerFacts{Attempts: every(10, time.Minute)}
	for i := range day.Attempts {
		day.Attempts[i] = day.Attempts[i].Add(24*time.Hour + 30*time.Minute)
	}
	if r := day.mayCharge(Request{Currency: "usd"}, billing.Method{Brand: "mastercard"}, generous, now); r.Code != OnceADay && r.Code != NetworkLimit {
		t.Errorf("ten on a day: %+v", r)
	}
}

// Bank debits are presented again twice at most, days apart, and after a lack of money alone; cards
// issued in India are not charged again.
func TestGateByRail(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	day := 24 * time.Hour
	debit := billing.Method{ID: "pm_d", Type: "sepa_debit", Fingerprint: "d", Country: "DE"}
	indian := onFile
	indian.Country = "IN"
	failed := func(m billing.Method, reason string, ages ...time.Duration) (list []billing.Charge) {
		for _, age := range ages {
			c := billing.Charge{Status: "failed", Invoice: "in_1", Created: now.Add(-age).Unix(), Method: m, FailureCode: reason}
			c.Outcome.NetworkStatus = "declined_by_network"
			list = append(list, c)
		}
		return list
	}
	for _, test := range []struct {
		name    string
		m       billing.Method
		charges []billing.Charge
		want    Code
	}{
		{"a lack of money, days ago", debit, failed(debit, "insufficient_funds", 4*day), ""},
		{"a lack of money, yesterday", debit, failed(debit, "insufficient_funds", 25*time.Hour), DebitRests},
		{"presented twice", debit, failed(debit, "insufficient_funds", 4*day, 9*day), ""},
		{"presented three times", debit, failed(debit, "insufficient_funds", 4*day, 9*day, 14*day), DebitPresented},
		{"three times, long ago", debit, failed(debit, "insufficient_funds", 34*day, 39*day, 44*day), DebitPresented},
		{"unauthorised", debit, failed(debit, "debit_not_authorized", 4*day), DebitRefused},
		{"closed", debit, failed(debit, "account_closed", 4*day), DebitRefused},
		{"no reason", debit, failed(debit, "", 4*day), DebitRefused},
		{"a card before, an account now", debit, failed(onFile, "stolen_card", 4*day), ""},
		{"an account before, a card now", onFile, failed(debit, "account_closed", time.Hour), ""},
		{"issued in India", indian, failed(indian, "insufficient_funds", 4*day), IssuedInIndia},
		{"issued in India and never refused", indian, nil, ""},
	} {
		if r := MayAsk(test.charges, Request{Object: "in_1"}, test.m, playbook.Default(), now); r.Code != test.want {
			t.Errorf("%s: %+v, want %q", test.name, r, test.want)
		}
	}
}
