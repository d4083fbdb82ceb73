package recovery

import (
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

// Each code of a declined charge does what its class says, in the answer to our own charge and in what is read before the next.
func TestDeclinesByCode(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for class, codes := range listedCodes {
		for code := range strings.FieldsSeq(codes) {
			body := fmt.Sprintf(`{"error":{"code":"card_declined","decline_code":%q,"type":"card_error"}}`, code)
			o := outcomeOf(KindPay, connect.Answer{Status: http.StatusPaymentRequired, Body: []byte(body)})
			over := class == "never" || class == "customer"
			if o.class != class || o.code != code || (o.over != "") != over || o.result != "declined" || o.status != "failed" {
				t.Errorf("%s: %+v", code, o)
			}
			c := charge{Status: "failed", Invoice: "in_1", Created: now.Add(-48 * time.Hour).Unix()}
			c.Outcome.Reason, c.Outcome.NetworkStatus = code, "declined_by_network"
			v := judgeCharges([]charge{c}, frozen{Object: "in_1"}, DefaultPlaybook(), now)
			if (v.over != "") != over || !over && v != (verdict{}) {
				t.Errorf("%s read before the charge: %+v", code, v)
			}
		}
	}
}

// Whatever Stripe does beside us and however the banks answer: our charges never pass the budgets within any 30 days, are a day apart
// from every failure, and do not follow a hard decline.
func TestBudgetsHoldOverAnySequence(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	sent := 0
	for range 800 {
		playbook := DefaultPlaybook()
		playbook.MaxAttempts, playbook.CardBudget = random.IntN(16), random.IntN(16)
		now := time.Unix(1_700_000_000, 0)
		var charges []charge // the newest first
		hard := map[string]bool{}
		for range 60 + random.IntN(200) {
			now = now.Add(time.Duration(random.IntN(20*3600)) * time.Second)
			invoice := fmt.Sprintf("in_%d", random.IntN(2))
			ours := random.IntN(3) > 0
			recent := within30Days(charges, now)
			if ours {
				if judgeCharges(recent, frozen{Object: invoice}, playbook, now) != (verdict{}) {
					continue
				}
				sent++
				mustBeAllowed(t, recent, invoice, playbook, now)
				if hard[invoice] && len(recent) > 0 && lastOf(recent, invoice) {
					t.Fatal("charged after a hard decline")
				}
			}
			c := charge{Status: "failed", Invoice: invoice, Created: now.Unix()}
			c.Outcome.NetworkStatus = "declined_by_network"
			switch dice := random.IntN(20); {
			case dice == 0:
				c.Outcome.Reason, hard[invoice] = "stolen_card", true
			case dice == 1:
				c.Outcome.NetworkStatus = "not_sent_to_network"
			case dice < 4:
				c.Status = "succeeded"
			default:
				c.Outcome.Reason = "insufficient_funds"
			}
			charges = append([]charge{c}, charges...)
		}
	}
	if sent < 1000 {
		t.Fatalf("only %d charges were allowed: the test says little", sent)
	}
}

func within30Days(charges []charge, now time.Time) (recent []charge) {
	for _, c := range charges {
		if c.Created >= now.AddDate(0, 0, -budgetDays).Unix() {
			recent = append(recent, c)
		}
	}
	return recent
}

func lastOf(charges []charge, invoice string) bool {
	for _, c := range charges {
		if c.Invoice == invoice && c.Status == "failed" && !c.blocked() {
			return c.Outcome.Reason == "stolen_card"
		}
	}
	return false
}

func mustBeAllowed(t *testing.T, recent []charge, invoice string, playbook Playbook, now time.Time) {
	t.Helper()
	all, same := 0, 0
	for _, c := range recent {
		if c.blocked() {
			continue
		}
		all++
		if c.Invoice == invoice {
			same++
		}
		if c.Status == "failed" && now.Sub(time.Unix(c.Created, 0)) < oneADay {
			t.Fatalf("charged %s after a failure", now.Sub(time.Unix(c.Created, 0)))
		}
	}
	if all >= playbook.CardBudget || same >= playbook.MaxAttempts {
		t.Fatalf("charged with %d of %d on the cards and %d of %d on the invoice", all, playbook.CardBudget, same, playbook.MaxAttempts)
	}
}

// Everything that forbids a charge does, whatever else is so.
func TestJudge(t *testing.T) {
	t.Parallel()
	now := time.Now()
	next := now.Add(time.Hour).Unix()
	good := func() object {
		o := object{ID: "in_1", Status: "open", Currency: "usd", AmountRemaining: 4900, CollectionMethod: "charge_automatically", Attempted: true}
		o.Subscription.Status = "past_due"
		return o
	}
	p := frozen{Object: "in_1", Amount: 4900, Currency: "usd"}
	for name, c := range map[string]struct {
		change func(*object, *db.GhostTarget, *Playbook)
		want   string // "yes", "over", "again" or "wait"
	}{
		"nothing forbids it":        {func(*object, *db.GhostTarget, *Playbook) {}, "yes"},
		"paid":                      {func(o *object, _ *db.GhostTarget, _ *Playbook) { o.Status = "paid" }, "again"},
		"void":                      {func(o *object, _ *db.GhostTarget, _ *Playbook) { o.Status = "void" }, "again"},
		"uncollectible":             {func(o *object, _ *db.GhostTarget, _ *Playbook) { o.Status = "uncollectible" }, "over"},
		"paid elsewhere":            {func(o *object, _ *db.GhostTarget, _ *Playbook) { o.PaidOutOfBand = true }, "again"},
		"nothing left":              {func(o *object, _ *db.GhostTarget, _ *Playbook) { o.AmountRemaining = 0 }, "again"},
		"another amount":            {func(o *object, _ *db.GhostTarget, _ *Playbook) { o.AmountRemaining = 4800 }, "again"},
		"another currency":          {func(o *object, _ *db.GhostTarget, _ *Playbook) { o.Currency = "eur" }, "again"},
		"sent to the customer":      {func(o *object, _ *db.GhostTarget, _ *Playbook) { o.CollectionMethod = "send_invoice" }, "over"},
		"a payment under way":       {func(o *object, _ *db.GhostTarget, _ *Playbook) { o.Intent.Status = "processing" }, "wait"},
		"the customer must confirm": {func(o *object, _ *db.GhostTarget, _ *Playbook) { o.Intent.Status = "requires_action" }, "over"},
		"never attempted":           {func(o *object, _ *db.GhostTarget, _ *Playbook) { o.Attempted = false }, "wait"},
		"collection paused":         {func(o *object, _ *db.GhostTarget, _ *Playbook) { o.Subscription.Pause = []byte(`{"behavior":"void"}`) }, "over"},
		"canceled":                  {func(o *object, _ *db.GhostTarget, _ *Playbook) { o.Subscription.Status = "canceled" }, "over"},
		"canceled, but seen using it": {func(o *object, g *db.GhostTarget, _ *Playbook) {
			o.Subscription.Status, g.Access = "canceled", "proven"
		}, "yes"},
		"Smart Retries runs":                     {func(o *object, _ *db.GhostTarget, _ *Playbook) { o.NextAttempt = &next }, "wait"},
		"Smart Retries runs and is to hand over": {func(o *object, _ *db.GhostTarget, b *Playbook) { o.NextAttempt, b.TakeOver = &next, true }, "again"},
	} {
		o, g, b := good(), db.GhostTarget{Access: "presumed"}, DefaultPlaybook()
		c.change(&o, &g, &b)
		v := judge(o, nil, p, g, b, now)
		got := "yes"
		switch {
		case v.over != "":
			got = "over"
		case v.again != "":
			got = "again"
		case !v.wait.IsZero():
			got = "wait"
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	disputed := []charge{{Status: "succeeded", Invoice: "in_9", Created: now.Add(-100 * time.Hour).Unix(), Disputed: true}}
	if v := judge(good(), disputed, p, db.GhostTarget{}, DefaultPlaybook(), now); v.over == "" {
		t.Error("a customer with a dispute is charged")
	}
}

// What forbids a charge beside the budgets: an open dispute however old its charge is, a network that has asked to wait, and any attempt
// of the last day, Stripe's and paid ones too.
func TestJudgeOfOtherCharges(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	owed := object{Status: "open", AmountRemaining: 4900, Currency: "usd", CollectionMethod: "charge_automatically", Attempted: true}
	owed.Subscription.Status = "past_due"
	p := frozen{Object: "in_1", Amount: 4900, Currency: "usd"}
	made := func(age time.Duration, status string, change func(*charge)) charge {
		c := charge{Status: status, Invoice: "in_0", Created: now.Add(-age).Unix()}
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
		over bool
		wait time.Duration
	}{
		{"nothing of note", made(40*day, "succeeded", nil), false, 0},
		{"an old charge, disputed", made(40*day, "succeeded", func(c *charge) { c.Disputed, c.Dispute.Status = true, "needs_response" }), true, 0},
		{"an old dispute that was won", made(40*day, "succeeded", func(c *charge) { c.Disputed, c.Dispute.Status = true, "won" }), false, 0},
		{"paid an hour ago", made(time.Hour, "succeeded", nil), false, 23 * time.Hour},
		{"the network asks for ten days", made(2*day, "failed", func(c *charge) { c.Outcome.NetworkAdviceCode, c.Method.Card.Brand = "30", "mastercard" }), false, 8 * day},
	} {
		got := judge(owed, []charge{test.c}, p, db.GhostTarget{Access: "likely"}, DefaultPlaybook(), now)
		wait := time.Duration(0)
		if !got.wait.IsZero() {
			wait = got.wait.Sub(now)
		}
		if (got.over != "") != test.over || wait != test.wait || (got.why != "") != (wait != 0) {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
}
