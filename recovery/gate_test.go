package recovery

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"phantom/connect"
	"phantom/db"
)

// The codes as the project's notes on Stripe list them, with what becomes of the hunt's charges.
var listedCodes = map[string]string{
	"never": `incorrect_number lost_card pickup_card stolen_card revocation_of_authorization revocation_of_all_authorizations
		stop_payment_order invalid_account fraudulent merchant_blacklist restricted_card security_violation transaction_not_allowed
		highest_risk_level do_not_try_again`,
	"customer": `authentication_required expired_card incorrect_cvc invalid_cvc invalid_expiry_month invalid_expiry_year incorrect_zip
		card_not_supported currency_not_supported new_account_information_available call_issuer pin_try_exceeded a_code_of_next_year`,
	"timed": "insufficient_funds card_velocity_exceeded withdrawal_count_limit_exceeded",
	"low":   "do_not_honor generic_decline no_action_taken",
	"soon":  "processing_error issuer_not_available reenter_transaction try_again_later",
}

// onFile is the card that will be charged.
var onFile = method{ID: "pm_1", Type: "card", Brand: "visa", Fingerprint: "f", Country: "US"}

// Each code of a declined charge does what its class says, in the answer to our own charge and in what is read before the next.
func TestDeclinesByCode(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for class, codes := range listedCodes {
		for code := range strings.FieldsSeq(codes) {
			body := fmt.Sprintf(`{"error":{"code":"card_declined","decline_code":%q,"type":"card_error"}}`, code)
			o := outcomeOf(KindPay, connect.Answer{Status: http.StatusPaymentRequired, Body: []byte(body)})
			over := class == "never" || class == "customer"
			if o.class != class || o.code != code || (o.held != "") != over || o.result != "declined" || o.status != "failed" {
				t.Errorf("%s: %+v", code, o)
			}
			c := charge{Status: "failed", Invoice: "in_1", Created: now.Add(-48 * time.Hour).Unix(), Method: onFile}
			c.Outcome.Reason, c.Outcome.NetworkStatus = code, "declined_by_network"
			r := mayAsk([]charge{c}, frozen{Object: "in_1"}, onFile, DefaultPlaybook(), now)
			if over != (!r.yes() && r.code.effect() == holds) || !over && !r.yes() {
				t.Errorf("%s read before the charge: %+v", code, r)
			}
			c.Method.Fingerprint = "another"
			if r := mayAsk([]charge{c}, frozen{Object: "in_1"}, onFile, DefaultPlaybook(), now); !r.yes() {
				t.Errorf("%s of another card: %+v", code, r)
			}
		}
	}
}

// Whatever Stripe does beside us and however the banks answer: our charges never pass the budgets of the card and the invoice within any
// 30 days, are a day apart from every attempt that counts, and do not follow a hard decline. Blocks and other cards count for nothing, and
// neither does what was paid.
func TestBudgetsHoldOverAnySequence(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	sent, refilled := 0, 0
	for range 800 {
		playbook := DefaultPlaybook()
		playbook.MaxAttempts, playbook.CardBudget = random.IntN(16), random.IntN(16)
		now := time.Unix(1_700_000_000, 0)
		var charges []charge // the newest first
		for range 60 + random.IntN(200) {
			now = now.Add(time.Duration(random.IntN(20*3600)) * time.Second)
			invoice, card := fmt.Sprintf("in_%d", random.IntN(2)), onFile
			if random.IntN(5) == 0 {
				card = method{ID: "pm_2", Type: "card", Brand: "mastercard", Fingerprint: "g"}
			}
			if random.IntN(3) > 0 { // ours
				if !mayAsk(charges, frozen{Object: invoice}, card, playbook, now).yes() {
					continue
				}
				sent++
				if mustBeAllowed(t, charges, invoice, card, playbook, now) {
					refilled++
				}
			}
			c := charge{Status: "failed", Invoice: invoice, Created: now.Unix(), Method: card}
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
			charges = append([]charge{c}, charges...)
		}
	}
	if sent < 1000 || refilled == 0 {
		t.Fatalf("only %d charges were allowed, %d behind a budget that had refilled: the test says little", sent, refilled)
	}
}

// mustBeAllowed counts by itself what a charge has behind it, and says whether the invoice's whole budget was used up before.
func mustBeAllowed(t *testing.T, charges []charge, invoice string, card method, playbook Playbook, now time.Time) bool {
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
func owing() (object, huntFacts, frozen) {
	o := object{ID: "in_1", Status: "open", Currency: "usd", AmountRemaining: 4900, CollectionMethod: "charge_automatically", Attempted: true}
	o.Subscription.Status = "past_due"
	o.Customer.Settings.Method = onFile
	h := huntFacts{playbook: DefaultPlaybook(), hunt: db.Hunt{State: "active", Mode: ModeRecover, BeganAt: time.Now().Add(-time.Hour)}}
	h.ghost.Status, h.ghost.Access, h.ghost.Currency, h.playbook.Mode = "open", "presumed", "usd", ModeRecover
	return o, h, frozen{Object: "in_1", Amount: 4900, Currency: "usd"}
}

// Everything that forbids a charge does, whatever else is so, and says for how long.
func TestGateOfCharges(t *testing.T) {
	t.Parallel()
	now := time.Now()
	next := now.Add(time.Hour).Unix()
	for name, c := range map[string]struct {
		change func(*object, *huntFacts)
		want   code
	}{
		"nothing forbids it":        {func(*object, *huntFacts) {}, ""},
		"paid":                      {func(o *object, _ *huntFacts) { o.Status = "paid" }, codeNotOpen},
		"void":                      {func(o *object, _ *huntFacts) { o.Status = "void" }, codeNotOpen},
		"uncollectible":             {func(o *object, _ *huntFacts) { o.Status = "uncollectible" }, codeWrittenOff},
		"paid elsewhere":            {func(o *object, _ *huntFacts) { o.PaidOutOfBand = true }, codeNothingLeft},
		"nothing left":              {func(o *object, _ *huntFacts) { o.AmountRemaining = 0 }, codeNothingLeft},
		"another amount":            {func(o *object, _ *huntFacts) { o.AmountRemaining = 4800 }, codeAmountChanged},
		"another currency":          {func(o *object, _ *huntFacts) { o.Currency = "eur" }, codeAmountChanged},
		"sent to the customer":      {func(o *object, _ *huntFacts) { o.CollectionMethod = "send_invoice" }, codeSentInvoice},
		"a payment under way":       {func(o *object, _ *huntFacts) { o.Intent.Status = "processing" }, codeUnderWay},
		"the customer must confirm": {func(o *object, _ *huntFacts) { o.Intent.Status = "requires_action" }, codeMustConfirm},
		"never attempted":           {func(o *object, _ *huntFacts) { o.Attempted = false }, codeNotTried},
		"collection paused":         {func(o *object, _ *huntFacts) { o.Subscription.Pause = []byte(`{"behavior":"void"}`) }, codePaused},
		"canceled":                  {func(o *object, _ *huntFacts) { o.Subscription.Status = "canceled" }, codeNotAlive},
		"canceled, but seen using it": {func(o *object, h *huntFacts) {
			o.Subscription.Status, h.ghost.Access = "canceled", "proven"
		}, ""},
		"Smart Retries runs":                     {func(o *object, _ *huntFacts) { o.NextAttempt = &next }, codeStripeRetries},
		"Smart Retries runs and is to hand over": {func(o *object, h *huntFacts) { o.NextAttempt, h.playbook.TakeOver = &next, true }, codeTakeOverFirst},
		"no payment method":                      {func(o *object, _ *huntFacts) { o.Customer.Settings.Method = method{} }, codeNoMethod},
		"a wallet":                               {func(o *object, _ *huntFacts) { o.Subscription.Method = method{ID: "pm_9", Type: "cashapp"} }, codeUnknownMethod},
		"halted":                                 {func(_ *object, h *huntFacts) { h.halted = true }, codeHalted},
		"disconnected":                           {func(_ *object, h *huntFacts) { h.disconnected = true }, codeDisconnected},
		"the hunt has ended":                     {func(_ *object, h *huntFacts) { h.hunt.State = "stopped" }, codeHuntEnded},
		"held out":                               {func(_ *object, h *huntFacts) { h.hunt.HeldOut = true }, codeUntouched},
		"only watching":                          {func(_ *object, h *huntFacts) { h.hunt.Mode = ModeObserve }, codeUntouched},
		"the ghost is closed":                    {func(_ *object, h *huntFacts) { h.ghost.Status = "closed" }, codeGhostClosed},
		"the ghost is purged":                    {func(_ *object, h *huntFacts) { h.ghost = db.GhostTarget{} }, codeGhostClosed},
		"switched off since":                     {func(_ *object, h *huntFacts) { h.playbook.Mode = ModeOff }, codeSwitchedOff},
		"to observe since":                       {func(_ *object, h *huntFacts) { h.playbook.Mode = ModeObserve }, codeSwitchedOff},
		"the window is over":                     {func(_ *object, h *huntFacts) { h.hunt.BeganAt = now.AddDate(0, 0, -31) }, codeWindowOver},
		"too little":                             {func(_ *object, h *huntFacts) { h.playbook.MinAmount = map[string]int64{"usd": 1} }, codeBelowMinimum},
		"over the daily cap":                     {func(_ *object, h *huntFacts) { h.playbook.DailyCap = map[string]int64{"usd": 4899} }, codeDailyCap},
	} {
		o, h, p := owing()
		c.change(&o, &h)
		if r := mayLeave(KindPay, p, facts{hunt: h, stripe: &stripeFacts{object: o}, ledger: &ledgerFacts{}}, now); r.code != c.want {
			t.Errorf("%s: %q, want %q", name, r.code, c.want)
		} else if !r.yes() && (r.code.effect() == waits) != r.until.After(now) {
			t.Errorf("%s: %q until %s", name, r.code, r.until)
		}
	}
	o, h, p := owing()
	disputed := []charge{{Status: "succeeded", Invoice: "in_9", Created: now.Add(-100 * time.Hour).Unix(), Disputed: true}}
	if r := mayLeave(KindPay, p, facts{hunt: h, stripe: &stripeFacts{object: o, charges: disputed}}, now); r.code != codeInDispute {
		t.Errorf("a customer with a dispute is charged: %+v", r)
	}
	if r := mayLeave(KindPay, p, facts{hunt: h, stripe: &stripeFacts{object: o}, ledger: &ledgerFacts{twin: true}}, now); r.code != codeTwinOut {
		t.Errorf("another request is out: %+v", r)
	}
	for c, rule := range rules {
		if rule.words == "" {
			t.Errorf("%s has no words", c)
		}
	}
}

// What forbids a charge beside the budgets: an open dispute however old its charge is, a network that has asked to wait, and any attempt
// of the last day that was declined, whoever made it. What was paid counts against nothing.
func TestGateOfOtherCharges(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	o, h, p := owing()
	h.hunt.BeganAt = now
	made := func(age time.Duration, status string, change func(*charge)) charge {
		c := charge{Status: status, Invoice: "in_0", Created: now.Add(-age).Unix(), Method: onFile}
		c.Outcome.NetworkStatus = "approved_by_network"
		if change != nil {
			change(&c)
		}
		return c
	}
	day := 24 * time.Hour
	for _, test := range []struct {
		name string
		c    charge
		want code
		wait time.Duration
	}{
		{"nothing of note", made(40*day, "succeeded", nil), "", 0},
		{"an old charge, disputed", made(40*day, "succeeded", func(c *charge) { c.Disputed, c.Dispute.Status = true, "needs_response" }), codeInDispute, 0},
		{"an old dispute that was won", made(40*day, "succeeded", func(c *charge) { c.Disputed, c.Dispute.Status = true, "won" }), "", 0},
		{"paid an hour ago", made(time.Hour, "succeeded", nil), "", 0},
		{"declined an hour ago", made(time.Hour, "failed", nil), codeOnceADay, 23*time.Hour + time.Second},
		{"another card, declined an hour ago", made(time.Hour, "failed", func(c *charge) { c.Method.Fingerprint = "g" }), "", 0},
		{"the card on file, charged as a debit an hour ago", made(time.Hour, "failed", func(c *charge) {
			c.MethodID, c.Method.Type, c.Method.Fingerprint = onFile.ID, "sepa_debit", "g"
		}), codeOnceADay, 23*time.Hour + time.Second},
		{"the card on file before its bank renewed it, an hour ago", made(time.Hour, "failed", func(c *charge) {
			c.MethodID, c.Method.Type, c.Method.Fingerprint = onFile.ID, onFile.Type, "g"
		}), "", 0},
		{"blocked an hour ago", made(time.Hour, "failed", func(c *charge) { c.Outcome.NetworkStatus = "not_sent_to_network" }), "", 0},
		{"blocked for good", made(2*day, "failed", func(c *charge) {
			c.Outcome.NetworkStatus, c.Outcome.Reason = "not_sent_to_network", "highest_risk_level"
		}), codeCardDead, 0},
		{"the network asks for ten days", made(2*day, "failed", func(c *charge) { c.Outcome.NetworkAdviceCode, c.Method.Brand = "30", "mastercard" }), codeNetworkWaits, 8 * day},
		{"the network asked another card", made(2*day, "failed", func(c *charge) {
			c.Outcome.NetworkAdviceCode, c.Method.Brand, c.Method.Fingerprint = "30", "mastercard", "g"
		}), "", 0},
	} {
		r := mayLeave(KindPay, p, facts{hunt: h, stripe: &stripeFacts{object: o, charges: []charge{test.c}}}, now)
		wait := time.Duration(0)
		if !r.until.IsZero() {
			wait = r.until.Sub(now)
		}
		if r.code != test.want || wait != test.wait {
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
	generous := DefaultPlaybook()
	generous.CardBudget = 100
	for _, test := range []struct {
		brand    string
		attempts []time.Time
		want     code
	}{
		{"visa", every(14, time.Hour), ""},
		{"visa", every(15, time.Hour), codeNetworkLimit},
		{"mastercard", every(15, time.Hour), ""},
		{"mastercard", every(34, time.Hour), ""},
		{"mastercard", every(35, time.Hour), codeNetworkLimit},
		{"amex", every(60, time.Hour), ""},
	} {
		f := ledgerFacts{attempts: test.attempts}
		if r := f.mayCharge(frozen{Currency: "usd"}, method{Brand: test.brand}, generous, now); r.code != test.want {
			t.Errorf("%s with %d attempts: %+v", test.brand, len(test.attempts), r)
		}
	}
	day := ledgerFacts{attempts: every(10, time.Minute)}
	for i := range day.attempts {
		day.attempts[i] = day.attempts[i].Add(24*time.Hour + 30*time.Minute)
	}
	if r := day.mayCharge(frozen{Currency: "usd"}, method{Brand: "mastercard"}, generous, now); r.code != codeOnceADay && r.code != codeNetworkLimit {
		t.Errorf("ten on a day: %+v", r)
	}
}

// Bank debits are presented again twice at most, days apart, and after a lack of money alone; cards issued in India are not charged again.
func TestGateByRail(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	day := 24 * time.Hour
	debit := method{ID: "pm_d", Type: "sepa_debit", Fingerprint: "d", Country: "DE"}
	indian := onFile
	indian.Country = "IN"
	failed := func(m method, reason string, ages ...time.Duration) (list []charge) {
		for _, age := range ages {
			c := charge{Status: "failed", Invoice: "in_1", Created: now.Add(-age).Unix(), Method: m, FailureCode: reason}
			c.Outcome.NetworkStatus = "declined_by_network"
			list = append(list, c)
		}
		return list
	}
	for _, test := range []struct {
		name    string
		m       method
		charges []charge
		want    code
	}{
		{"a lack of money, days ago", debit, failed(debit, "insufficient_funds", 4*day), ""},
		{"a lack of money, yesterday", debit, failed(debit, "insufficient_funds", 25*time.Hour), codeDebitRests},
		{"presented twice", debit, failed(debit, "insufficient_funds", 4*day, 9*day), ""},
		{"presented three times", debit, failed(debit, "insufficient_funds", 4*day, 9*day, 14*day), codeDebitPresented},
		{"three times, long ago", debit, failed(debit, "insufficient_funds", 34*day, 39*day, 44*day), codeDebitPresented},
		{"unauthorised", debit, failed(debit, "debit_not_authorized", 4*day), codeDebitRefused},
		{"closed", debit, failed(debit, "account_closed", 4*day), codeDebitRefused},
		{"no reason", debit, failed(debit, "", 4*day), codeDebitRefused},
		{"a card before, an account now", debit, failed(onFile, "stolen_card", 4*day), ""},
		{"an account before, a card now", onFile, failed(debit, "account_closed", time.Hour), ""},
		{"issued in India", indian, failed(indian, "insufficient_funds", 4*day), codeIssuedInIndia},
		{"issued in India and never refused", indian, nil, ""},
	} {
		if r := mayAsk(test.charges, frozen{Object: "in_1"}, test.m, DefaultPlaybook(), now); r.code != test.want {
			t.Errorf("%s: %+v, want %q", test.name, r, test.want)
		}
	}
}

// What is charged is the first that is set, in Stripe's order, in whichever shape it comes.
func TestMethodByStripesOrder(t *testing.T) {
	t.Parallel()
	card := func(id string) string {
		return fmt.Sprintf(`{"id":%q,"object":"payment_method","type":"card","card":{"brand":"visa","fingerprint":"f_%s","country":"US"}}`, id, id)
	}
	full := fmt.Sprintf(`{"id":"in_1","default_payment_method":%s,"default_source":%s,"subscription":{"status":"active","default_payment_method":%s,"default_source":%s},
		"customer":{"id":"cus_1","invoice_settings":{"default_payment_method":%s},"default_source":{"id":"card_6","object":"card","brand":"Visa","fingerprint":"f_6"}}}`,
		card("1"), card("2"), card("3"), card("4"), card("5"))
	var o object
	if err := json.Unmarshal([]byte(full), &o); err != nil {
		t.Fatal(err)
	}
	for i, take := range []func(){
		func() { o.Method = method{} }, func() { o.Source = method{} }, func() { o.Subscription.Method = method{} },
		func() { o.Subscription.Source = method{} }, func() { o.Customer.Settings.Method = method{} }, func() { o.Customer.Source = method{} },
	} {
		if m := o.method(); m.Fingerprint != fmt.Sprint("f_", i+1) || m.rail() != railCard {
			t.Errorf("%d: %+v", i, m)
		}
		take()
	}
	if m := o.method(); m.known() {
		t.Errorf("without any: %+v", m)
	}
	for text, want := range map[string]method{
		`{"customer":"cus_1","subscription":null}`:                                                                {},
		`{"default_source":{"id":"ba_1","object":"bank_account","country":"US","fingerprint":"x"}}`:               {ID: "ba_1", Type: "bank_account", Fingerprint: "x", Country: "US"},
		`{"default_payment_method":{"id":"pm_1","type":"us_bank_account","us_bank_account":{"fingerprint":"y"}}}`: {ID: "pm_1", Type: "us_bank_account", Fingerprint: "y"},
		`{"default_payment_method":"pm_7"}`:                                                                       {ID: "pm_7"},
	} {
		var o object
		if err := json.Unmarshal([]byte(text), &o); err != nil || o.method() != want {
			t.Errorf("%s: %+v, %v", text, o.method(), err)
		}
	}
}
