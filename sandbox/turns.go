package sandbox

import (
	"errors"
	"fmt"
	"strings"
)

// turnMetadata sets one key of the metadata of a customer, a subscription or an invoice.
func (a *account) turnMetadata(c Change, now int64) (string, error) {
	key, value, found := strings.Cut(c.Status, "=")
	if !found || key == "" {
		return "", fmt.Errorf("status %q is not key=value", c.Status)
	}
	change := func(old dict) (dict, map[string]any) {
		fresh, was := dict{}, any(nil)
		for k, v := range old {
			if fresh[k] = v; k == key {
				was = v
			}
		}
		if fresh[key] = value; value == "" {
			delete(fresh, key)
		}
		return fresh, map[string]any{"metadata": map[string]any{key: was}}
	}
	var before map[string]any
	switch o := a.byID(c.ID).(type) {
	case *customer:
		o.Metadata, before = change(o.Metadata)
		a.emit(now, "customer.updated", o, before)
	case *subscription:
		o.Metadata, before = change(o.Metadata)
		a.emit(now, "customer.subscription.updated", o, before)
	case *invoice:
		o.Metadata, before = change(o.Metadata)
		a.emit(now, "invoice.updated", o, before)
	default:
		return "", errNothingFits
	}
	return c.ID, nil
}

// turnCustomer takes the turns about the customer of a subscription.
func (a *account) turnCustomer(c Change, now int64) (string, error) {
	k := a.contract(c.ID, (*contract).healthy)
	if k == nil {
		return "", errNothingFits
	}
	cu := k.cust
	w := &author{acc: a, r: stream(a.world.seed, "new card", cu.ID, len(cu.wallet)), epoch: now,
		start: now + 30, customer: cu}
	switch c.Do {
	case "charges":
		if c.Amount < 1 || c.Amount > 500 {
			return "", fmt.Errorf("amount %d is not between 1 and 500", c.Amount)
		}
		if k.card == nil {
			return "", errNothingFits
		}
		for range c.Amount {
			k.oneOff(now)
		}
		return cu.ID, nil
	// on a page of the merchant's: the card becomes the subscription's, not the customer's
	case "resubscribe":
		own := cu.InvoiceSettings
		fresh := w.card(liquid)
		cu.InvoiceSettings = own
		a.emit(now, "payment_method.attached", fresh.pm, nil)
		again := a.newContract(cu, k.price, fresh, now)
		again.sub.DefaultPaymentMethod = text(fresh.pm.ID)
		again.start(now)
		return again.sub.ID, nil
	case "attach_card": // which pays when somebody charges it, or with Status "declines" does not
		own := cu.InvoiceSettings
		fresh := w.card(liquid)
		cu.InvoiceSettings = own
		if c.Status == "declines" {
			fresh.dies, fresh.end = now, insufficientFunds
		}
		a.emit(now, "payment_method.attached", fresh.pm, nil)
		return fresh.pm.ID, nil
	case "detach_card":
		gone := cu.cardOf(string(cu.InvoiceSettings.DefaultPaymentMethod))
		if gone == nil {
			return "", errNothingFits
		}
		a.detach(cu, gone, now)
		return gone.pm.ID, nil
	}
	return "", errNothingFits
}

// detach takes a payment method from its customer, and from the subscriptions that are charged to
// it.
func (a *account) detach(cu *customer, gone *card, now int64) {
	before := map[string]any{"invoice_settings": cu.InvoiceSettings}
	gone.pm.Customer, cu.InvoiceSettings.DefaultPaymentMethod = "", ""
	a.emit(now, "payment_method.detached", gone.pm, map[string]any{"customer": cu.ID})
	a.emit(now, "customer.updated", cu, before)
	for _, k := range a.contracts {
		if k.cust != cu || k.card != gone {
			continue
		}
		k.card = nil
		if own := k.sub.DefaultPaymentMethod; string(own) == gone.pm.ID {
			k.sub.DefaultPaymentMethod = ""
			a.emit(now, "customer.subscription.updated", k.sub,
				map[string]any{"default_payment_method": own})
		}
	}
}

// oneOff charges the card for something that is no invoice's.
func (c *contract) oneOff(t int64) {
	a, cu := c.acc, c.cust
	cu.oneOffs++
	pi := &intent{Amount: c.price.UnitAmount, AmountReceived: c.price.UnitAmount,
		CaptureMethod: "automatic", ConfirmationMethod: "automatic",
		Currency: c.price.Currency, Customer: cu.ID, Metadata: dict{}, PaymentMethod: text(c.card.pm.ID),
		PaymentMethodTypes: []string{c.card.pm.Type}, Status: "succeeded"}
	pi.head = head{ID: a.id("pi_3", 23, cu.ID, "one-off", cu.oneOffs), Object: "payment_intent",
		Created: t}
	ch := &charge{Amount: pi.Amount, AmountCaptured: pi.Amount,
		BillingDetails: c.card.pm.BillingDetails, Captured: true, Currency: pi.Currency,
		Customer: cu.ID, Description: "Top-up", Metadata: dict{}, Outcome: (*decline)(nil).outcome(""),
		Paid: true, PaymentIntent: text(pi.ID),
		PaymentMethod: pi.PaymentMethod, PaymentMethodDetails: c.card.details(), Status: "succeeded"}
	ch.head = head{ID: a.id("ch_3", 23, cu.ID, "one-off", cu.oneOffs), Object: "charge", Created: t}
	pi.LatestCharge = text(ch.ID)
	a.put("payment_intents", pi)
	a.put("charges", ch)
	a.emit(t, "charge.succeeded", ch, nil)
	a.emit(t, "payment_intent.succeeded", pi, nil)
}

// turnRenewals adds paid invoices in front of all others. Each has an amount of its own, as those
// over usage that has reached a threshold have, so that none of them looks like another one that
// asks for the same thing.
func (a *account) turnRenewals(c Change, now int64) (string, error) {
	k := a.contract(c.ID, (*contract).healthy)
	if k == nil || k.card == nil || k.sub.CollectionMethod != "charge_automatically" {
		return "", errNothingFits
	}
	if c.Amount < 1 || c.Amount > 500 {
		return "", fmt.Errorf("amount %d is not between 1 and 500", c.Amount)
	}
	own := k.card
	defer func() { k.card = own }()
	paying := *own
	paying.habit, paying.dies, paying.never = liquid, 0, false
	k.card = &paying
	for range c.Amount {
		inv := k.newInvoice(now, "subscription_threshold")
		amount := k.price.UnitAmount + int64(k.made)
		inv.Lines.Data[0].Amount, inv.welcome = amount, true
		inv.setAmount(amount)
		k.finalize(inv, now)
	}
	return k.sub.ID, nil
}

// turnIntent takes the turns about the payment intent of an invoice, and those about what asks for
// it.
func (a *account) turnIntent(c Change, now int64) (string, error) {
	fits := func(v *invoice) bool {
		unpaid := v.Status == "open" || v.Status == "uncollectible"
		return unpaid && v.AmountRemaining > 0 && a.intent(v) != nil && a.pending(v) == nil &&
			(c.ID != "" || v.TestClock == "" && v.Attempted)
	}
	switch c.Do {
	case "bounce_debit":
		fits = func(v *invoice) bool { return a.pending(v) != nil }
	case "action_gone":
		fits = func(v *invoice) bool {
			pi := a.intent(v)
			return pi != nil && pi.Status == "requires_action"
		}
	case "repeat_invoice":
		fits = func(v *invoice) bool {
			return v.Status != "draft" && (c.ID != "" || v.Status == "open" && v.TestClock == "") &&
				v.of.card != nil
		}
	}
	inv := first(a.tables["invoices"], c.ID, fits)
	if inv == nil {
		return "", errNothingFits
	}
	k, pi := inv.of, a.intent(inv)
	switch c.Do {
	case "new_intent":
		inv.replaceIntent(now)
	case "repeat_invoice":
		return k.repeat(inv, now).ID, nil
	case "require_action":
		pi.Status = "requires_action"
		a.emit(now, "payment_intent.requires_action", pi, nil)
		a.emit(now, "invoice.payment_action_required", inv, nil)
	case "action_gone": // the customer did not pass
		pi.Status = "requires_payment_method"
		pi.LastPaymentError = &cardError{Type: "invalid_request_error",
			Code:    "payment_intent_authentication_failure",
			Message: "The provided PaymentMethod has failed authentication.",
			DocURL:  docURL("payment_intent_authentication_failure")}
		a.emit(now, "payment_intent.payment_failed", pi, nil)
		a.emit(now, "invoice.updated", inv, nil)
	case "bounce_debit":
		inv.step = 0
		k.bounce(inv, now)
		a.emit(now, "invoice.updated", inv, nil)
	case "refuse":
		inv.refuse = max(c.Amount, 1)
	}
	return inv.ID, nil
}

// repeat asks once more for what an invoice asks for. It fails as that one did.
func (c *contract) repeat(inv *invoice, t int64) *invoice {
	other := c.newInvoice(t, inv.BillingReason)
	own := other.Lines.Data[0].ID
	other.Lines.Data = nil
	for i, l := range inv.Lines.Data {
		l := *l
		if l.ID = own; i > 0 {
			l.ID = c.acc.id("il_1", 23, other.ID, i)
		}
		other.Lines.Data = append(other.Lines.Data, &l)
	}
	other.PeriodStart, other.PeriodEnd = inv.PeriodStart, inv.PeriodEnd
	other.AutoAdvance = inv.AutoAdvance
	other.setAmount(inv.AmountDue)
	if other.CollectionMethod == "send_invoice" {
		c.finalizeQuietly(other, t)
		other.DueDate = inv.DueDate
		c.open = append(c.open, other)
		c.acc.emit(t, "invoice.sent", other, nil)
		return other
	}
	card, empty := c.card, *c.card
	if empty.dies == 0 || empty.dies > t {
		empty.dies, empty.end = t, insufficientFunds
	}
	c.card = &empty
	c.finalize(other, t)
	c.card = card
	return other
}

// turnEnd takes the turn that lets a subscription end with its period, or go on.
func (a *account) turnEnd(c Change, now int64) (string, error) {
	if c.Status != "" && c.Status != "off" {
		return "", errors.New(`status is neither "" nor "off"`)
	}
	k := a.contract(c.ID, (*contract).healthy)
	if k == nil || k.sub.Status == "canceled" || k.sub.Status == "incomplete_expired" {
		return "", errNothingFits
	}
	s := k.sub
	before := map[string]any{"cancel_at_period_end": s.CancelAtPeriodEnd, "cancel_at": s.CancelAt,
		"canceled_at": s.CanceledAt}
	s.CancelAtPeriodEnd, s.CancelAt, s.CanceledAt = c.Status == "", 0, 0
	if s.CancelAtPeriodEnd {
		s.CancelAt, s.CanceledAt = stamp(s.CurrentPeriodEnd), stamp(now)
	}
	a.emit(now, "customer.subscription.updated", s, before)
	return s.ID, nil
}
