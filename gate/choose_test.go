package gate

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"phantom/billing"
	"phantom/debt"
	"phantom/playbook"
)

// What a playbook leaves alone is left alone, and nothing else is: by what the list of ghosts says
// and by what Stripe says, for charges and for messages.
func TestGateChooses(t *testing.T) {
	t.Parallel()
	now := time.Now()
	daysAgo := func(days int) int64 { return now.Add(-time.Duration(days) * day).Unix() }
	aged := func(h *HuntFacts, days ...int) {
		list := []debt.Invoice{}
		for i, age := range days {
			list = append(list, debt.Invoice{ID: fmt.Sprint("in_", i+1), Amount: 4900, Created: daysAgo(age)})
		}
		h.Ghost.Invoices, _ = json.Marshal(list)
		h.Ghost.StripeInvoiceID = "in_1"
	}
	leaving := func(say string) func(*billing.Object, *HuntFacts) {
		return func(_ *billing.Object, h *HuntFacts) { h.Ghost.Leaving, h.Playbook.WhenLeaving = true, say }
	}
	leavingAtStripe := func(say string) func(*billing.Object, *HuntFacts) {
		return func(o *billing.Object, h *HuntFacts) { o.Subscription.Leaving, h.Playbook.WhenLeaving = true, say }
	}
	kind := func(kind debt.Kind, hunted bool) func(*billing.Object, *HuntFacts) {
		return func(o *billing.Object, h *HuntFacts) {
			h.Ghost.Kind, h.Playbook.WrittenOff, o.Status = kind, hunted, "uncollectible"
		}
	}
	for name, c := range map[string]struct {
		change              func(*billing.Object, *HuntFacts)
		charge, mail, final Code
	}{
		"nothing forbids it": {func(_ *billing.Object, h *HuntFacts) { aged(h, 119) }, "", "", ""},
		"an age that is not known": {func(_ *billing.Object, h *HuntFacts) {
			h.Ghost.Invoices = []byte(`[{"id":"in_1","amount":4900}]`)
		}, "", "", ""},
		"too old":                 {func(_ *billing.Object, h *HuntFacts) { aged(h, 121) }, TooOld, TooOld, ""},
		"too old, with a younger": {func(_ *billing.Object, h *HuntFacts) { aged(h, 121, 5) }, TooOld, "", ""},
		"young, with an older":    {func(_ *billing.Object, h *HuntFacts) { aged(h, 5, 121) }, "", "", ""},
		"too old at Stripe":       {func(o *billing.Object, _ *HuntFacts) { o.Created = daysAgo(121) }, TooOld, "", ""},
		"young at Stripe":         {func(o *billing.Object, _ *HuntFacts) { o.Created = daysAgo(119) }, "", "", ""},
		"old, and named": {func(o *billing.Object, h *HuntFacts) {
			aged(h, 400)
			o.Created, h.Hunt.ByHand = daysAgo(400), true
		}, "", "", ""},
		"leaves, and is only written to":           {leaving(playbook.LeavingMessage), Leaving, "", Leaving},
		"leaves, and is stopped":                   {leaving(playbook.LeavingStop), Leaving, Leaving, Leaving},
		"leaves, and is hunted":                    {leaving(playbook.LeavingHunt), "", "", ""},
		"leaves at Stripe, and is only written to": {leavingAtStripe(playbook.LeavingMessage), Leaving, "", Leaving},
		"leaves at Stripe, and is stopped":         {leavingAtStripe(playbook.LeavingStop), Leaving, "", Leaving},
		"leaves at Stripe, and is hunted":          {leavingAtStripe(playbook.LeavingHunt), "", "", ""},
		"an excluded customer": {func(_ *billing.Object, h *HuntFacts) {
			h.Ghost.StripeCustomerID, h.Playbook.Exclude.Customers = "cus_1", []string{"cus_0", "cus_1"}
		}, Excluded, Excluded, Excluded},
		"an excluded product": {func(_ *billing.Object, h *HuntFacts) {
			h.Ghost.Products, h.Playbook.Exclude.Products = []string{"prod_1", "prod_2"}, []string{"prod_2"}
		}, Excluded, Excluded, Excluded},
		"an excluded price": {func(_ *billing.Object, h *HuntFacts) {
			h.Ghost.Prices, h.Playbook.Exclude.Prices = []string{"price_1"}, []string{"price_1"}
		}, Excluded, Excluded, Excluded},
		"others are excluded": {func(_ *billing.Object, h *HuntFacts) {
			h.Ghost.StripeCustomerID, h.Ghost.Products, h.Ghost.Prices = "cus_1", []string{"prod_1"}, []string{"price_1"}
			h.Playbook.Exclude = playbook.Exclude{Customers: []string{"cus_2"}, Products: []string{"prod_2"}, Prices: []string{"price_2"}}
		}, "", "", ""},
		"ignored": {func(_ *billing.Object, h *HuntFacts) { h.Ghost.Ignored = true }, Ignored, Ignored, Ignored},
		"a customer who is ignored at Stripe": {func(o *billing.Object, _ *HuntFacts) {
			o.Customer.Metadata = map[string]string{"phantom": "ignore"}
		}, Ignored, "", Ignored},
		"a subscription that is ignored at Stripe": {func(o *billing.Object, _ *HuntFacts) {
			o.Subscription.Metadata = map[string]string{"phantom": "ignore"}
		}, Ignored, "", Ignored},
		"other metadata": {func(o *billing.Object, _ *HuntFacts) {
			o.Subscription.Metadata = map[string]string{"phantom": "owed", "ignore": "phantom"}
		}, "", "", ""},
		"subscribed anew": {func(_ *billing.Object, h *HuntFacts) { h.Ghost.Resubscribed = true }, Resubscribed, Resubscribed, Resubscribed},
		"subscribed anew, and hunted": {func(_ *billing.Object, h *HuntFacts) {
			h.Ghost.Resubscribed, h.Playbook.Resubscribed = true, true
		}, "", "", ""},
		"written off":                               {kind(debt.WrittenOff, false), KindOff, KindOff, KindOff},
		"written off, and hunted":                   {kind(debt.WrittenOff, true), "", "", ""},
		"uncollectible, and of no kind":             {kind("owed", true), WrittenOff, "", ""},
		"charged back, with all that can be hunted": {kind(debt.ChargedBack, true), KindOff, KindOff, KindOff},
	} {
		for sent, want := range map[string]Code{KindPay: c.charge, KindHold: c.charge, playbook.Email: c.mail, KindCancel: c.final, KindUncollectible: c.final} {
			o, h, p := owing()
			c.change(&o, &h)
			f := Facts{Hunt: h, Stripe: &StripeFacts{Object: o, Invoice: o}, Ledger: &LedgerFacts{}}
			if Writes(sent) {
				f.Stripe, f.Ledger, f.Person = nil, nil, &PersonFacts{Channel: sent, Zones: []*time.Location{time.UTC}}
				f.Hunt.Playbook.QuietHours = playbook.QuietHours{From: "00:00", To: "00:00", Zone: "UTC"}
			}
			r := MayLeave(sent, p, f, now)
			if r.Code != want {
				t.Errorf("%s, %s: %q, want %q", name, sent, r.Code, want)
			} else if r.Code.Effect() == Waits && !r.Yes() && !r.Until.Equal(now.Add(day)) {
				t.Errorf("%s, %s: %q until %s", name, sent, r.Code, r.Until)
			}
		}
		for _, back := range []string{KindRelease, KindResume} {
			// PHANTOM's own is taken back all the same
			o, h, p := owing()
			c.change(&o, &h)
			o.Status, o.AutoAdvance = "open", false
			f := Facts{Hunt: h, Stripe: &StripeFacts{Object: o, Taken: true}, Ledger: &LedgerFacts{}}
			if r := MayLeave(back, p, f, now); !r.Yes() {
				t.Errorf("%s, %s: %q", name, back, r.Code)
			}
		}
	}
}
