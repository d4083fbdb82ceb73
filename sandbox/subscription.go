package sandbox

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// subscriptionFor finds the contract behind the subscription of a mutation and refuses unknown
// parameters.
func (q *request) subscriptionFor(allowed ...string) (*contract, *answer) {
	if a := q.unknown(append(allowed, "expand")...); a != nil {
		return nil, a
	}
	id := q.PathValue("id")
	if c := q.acc.contract(id, nil); c != nil {
		q.target = c.sub
		return c, nil
	}
	if q.acc.tables["subscriptions"].has(id) {
		return nil, badParam("", "", "The sandbox cannot change what lies in a merchant's bulk history.")
	}
	a := missing(http.StatusNotFound, "subscription", id, "id")
	return nil, &a
}

// pauseBehaviors are what pause_collection can do with the invoices that are made meanwhile.
var pauseBehaviors = []string{"keep_as_draft", "mark_uncollectible", "void"}

// pause reads pause_collection: nil with asked is to resume.
func (q *request) pause() (to *pauseCollection, asked bool, refused *answer) {
	for name, values := range q.form {
		base, field, nested := strings.Cut(name, "[")
		if base != "pause_collection" {
			continue
		}
		asked = true
		switch {
		case !nested && values[0] != "":
			return nil, true, badParam("", "pause_collection", "Invalid object")
		case nested && field != "behavior]" && field != "resumes_at]":
			return nil, true, badParam("parameter_unknown", name, "Received unknown parameter: "+name)
		}
	}
	behavior, resumes := q.form.Get("pause_collection[behavior]"), q.form.Get("pause_collection[resumes_at]")
	if !q.form.Has("pause_collection[behavior]") {
		if q.form.Has("pause_collection[resumes_at]") {
			return nil, true, badParam("parameter_missing", "pause_collection[behavior]", "Missing required param: pause_collection[behavior].")
		}
		return nil, asked, nil
	}
	if !slices.Contains(pauseBehaviors, behavior) {
		return nil, true, badParam("", "pause_collection[behavior]", "Invalid pause_collection[behavior]: must be one of "+
			strings.Join(pauseBehaviors, ", "))
	}
	to = &pauseCollection{Behavior: behavior}
	if resumes != "" {
		at, err := strconv.ParseInt(resumes, 10, 64)
		if err != nil || at <= q.now.Unix() {
			return nil, true, badParam("parameter_invalid_integer", "pause_collection[resumes_at]", "Invalid timestamp: must be in the future.")
		}
		to.ResumesAt = stamp(at)
	}
	return to, true, nil
}

func (s *Sandbox) updateSubscription(q *request) (func() answer, *answer) {
	c, refused := q.subscriptionFor("pause_collection", "metadata", "cancel_at_period_end")
	if refused != nil {
		return nil, refused
	}
	to, pauses, refused := q.pause()
	if refused != nil {
		return nil, refused
	}
	atEnd, refused := q.boolean("cancel_at_period_end")
	if refused != nil {
		return nil, refused
	}
	meta, refused := q.metadata(c.sub.Metadata)
	if refused != nil {
		return nil, refused
	}
	return func() answer {
		return q.caused(c, func() answer {
			now, before := q.now.Unix(), map[string]any{}
			if c.sub.Status == "canceled" && (pauses || q.form.Has("cancel_at_period_end")) {
				// metadata may still be changed
				return stateError("", "A canceled subscription can only update its cancellation_details and metadata.")
			}
			if pauses {
				before["pause_collection"] = c.sub.PauseCollection
				c.pause(to)
			}
			if q.form.Has("cancel_at_period_end") && atEnd != c.sub.CancelAtPeriodEnd {
				before["cancel_at_period_end"] = c.sub.CancelAtPeriodEnd
				c.sub.CancelAtPeriodEnd, c.sub.CancelAt, c.sub.CanceledAt = atEnd, 0, 0
				if atEnd {
					c.sub.CancelAt, c.sub.CanceledAt = stamp(c.sub.CurrentPeriodEnd), stamp(now)
				}
			}
			if meta != nil {
				before["metadata"], c.sub.Metadata = c.sub.Metadata, meta(c.sub.Metadata)
			}
			q.acc.emit(now, "customer.subscription.updated", c.sub, before)
			return q.show(c.sub)
		})
	}, nil
}

// pause stops collection, or with nil takes it up again. A pause with an end takes it up by itself.
func (c *contract) pause(to *pauseCollection) {
	c.sub.PauseCollection = to
	if to == nil || to.ResumesAt == 0 {
		return
	}
	c.at(int64(to.ResumesAt), func(t int64) {
		if c.sub.PauseCollection != to || c.sub.Status == "canceled" {
			return // resumed or paused anew in between
		}
		c.sub.PauseCollection = nil
		c.acc.emit(t, "customer.subscription.updated", c.sub, map[string]any{"pause_collection": to})
	})
}

func (s *Sandbox) cancelSubscription(q *request) (func() answer, *answer) {
	c, refused := q.subscriptionFor("invoice_now", "prorate", "cancellation_details")
	if refused != nil {
		return nil, refused
	}
	for _, name := range []string{"invoice_now", "prorate"} {
		if _, refused := q.boolean(name); refused != nil {
			return nil, refused
		}
	}
	return func() answer {
		return q.caused(c, func() answer {
			if c.sub.Status == "canceled" || c.sub.Status == "incomplete_expired" {
				// as if it were not there, though a GET shows it
				return missing(http.StatusNotFound, "subscription", c.sub.ID, "id")
			}
			c.cancel(q.now.Unix())
			return q.show(c.sub)
		})
	}, nil
}

func (s *Sandbox) createSubscription(q *request) (func() answer, *answer) {
	if a := q.unknown("customer", "items", "default_payment_method", "metadata", "trial_period_days", "expand"); a != nil {
		return nil, a
	}
	for name := range q.form {
		if strings.HasPrefix(name, "items") && name != "items[0][price]" && name != "items[0][quantity]" {
			// one item is all that the sandbox bills
			return nil, badParam("parameter_unknown", name, "Received unknown parameter: "+name)
		}
	}
	for _, name := range []string{"customer", "items[0][price]"} {
		if q.form.Get(name) == "" {
			return nil, badParam("parameter_missing", name, "Missing required param: "+name+".")
		}
	}
	if n := q.form.Get("items[0][quantity]"); n != "" && n != "1" {
		return nil, badParam("", "items[0][quantity]", "The sandbox bills a quantity of 1 alone.")
	}
	id := q.form.Get("customer")
	cu, found := q.acc.tables["customers"].byID[id].(*customer)
	if !found {
		a := missing(http.StatusBadRequest, "customer", id, "customer")
		return nil, &a
	}
	at := slices.IndexFunc(q.acc.prices, func(p *price) bool { return p.ID == q.form.Get("items[0][price]") })
	if at < 0 {
		a := missing(http.StatusBadRequest, "price", q.form.Get("items[0][price]"), "items[0][price]")
		return nil, &a
	}
	pm := q.form.Get("default_payment_method")
	k := cu.cardOf(orElse(pm, string(cu.InvoiceSettings.DefaultPaymentMethod)))
	if pm != "" && k == nil {
		a := missing(http.StatusBadRequest, "PaymentMethod", pm, "default_payment_method")
		return nil, &a
	}
	days, err := strconv.Atoi(orElse(q.form.Get("trial_period_days"), "0"))
	if err != nil || days < 0 || days > 730 {
		return nil, badParam("parameter_invalid_integer", "trial_period_days", "Invalid integer: must be between 0 and 730.")
	}
	meta, refused := q.metadata(nil)
	if refused != nil {
		return nil, refused
	}
	return func() answer {
		if k == nil && days == 0 {
			return stateError("resource_missing", "This customer has no attached payment source or default payment method. Please consider "+
				"adding a default payment method.")
		}
		c := q.acc.newContract(cu, q.acc.prices[at], k, q.now.Unix())
		c.sub.DefaultPaymentMethod, c.trial = text(pm), days
		if meta != nil {
			c.sub.Metadata = meta(nil)
		}
		q.target = c.sub
		return q.caused(c, func() answer {
			c.start(q.now.Unix())
			return q.show(c.sub)
		})
	}, nil
}

// newContract makes a further subscription of a customer, which has yet to start.
func (a *account) newContract(cu *customer, p *price, k *card, now int64) *contract {
	nth := cu.subs
	cu.subs++
	s := &subscription{CollectionMethod: "charge_automatically", Currency: p.Currency, Customer: cu.ID, Metadata: dict{}, TestClock: cu.TestClock}
	s.head = head{ID: a.id("sub_1", 23, cu.ID, nth), Object: "subscription", Created: now}
	s.BillingCycleAnchor = now
	s.Items = list[*subItem]{Object: "list", URL: "/v1/subscription_items?subscription=" + s.ID, Data: []*subItem{{
		ID: a.id("si_", 14, s.ID), Object: "subscription_item", Created: now, Metadata: dict{}, Price: p, Quantity: 1, Subscription: s.ID}}}
	c := &contract{acc: a, cust: cu, sub: s, price: p, card: k, nth: nth}
	a.contracts = append(a.contracts, c)
	return c
}
