package sandbox

import "slices"

// finalizeQuietly opens a draft without asking for money.
func (c *contract) finalizeQuietly(inv *invoice, t int64) {
	a := c.acc
	inv.Status, inv.Transitions.FinalizedAt = "open", stamp(t)
	inv.HostedInvoiceURL = text("https://invoice.stripe.example.com/i/" + a.ID + "/test_" + inv.ID[3:])
	inv.InvoicePDF = inv.HostedInvoiceURL + "/pdf"
	zero := int64(0)
	inv.EndingBalance = &zero
	if inv.Total > 0 {
		inv.newIntent(t)
	}
	a.emit(t, "invoice.finalized", inv, nil)
}

// newIntent makes the payment intent through which an invoice is paid from now on.
func (inv *invoice) newIntent(t int64) *intent {
	a := inv.of.acc
	pi := &intent{
		Amount: inv.AmountRemaining, CaptureMethod: "automatic", ConfirmationMethod: "automatic",
		Currency: inv.Currency, Customer: inv.Customer, Invoice: text(inv.ID), Metadata: dict{},
		PaymentMethodTypes: []string{"card"}, Status: "requires_payment_method",
	}
	parts := []any{inv.ID}
	if n := len(inv.former); n > 0 {
		parts = append(parts, n)
	}
	pi.head = head{ID: a.id("pi_3", 23, parts...), Object: "payment_intent", Created: t}
	inv.PaymentIntent = text(pi.ID)
	a.put("payment_intents", pi)
	return pi
}

// replaceIntent cancels an invoice's payment intent and makes another. What was charged through the
// old one stays charged through it.
func (inv *invoice) replaceIntent(t int64) {
	a, old := inv.of.acc, inv.of.acc.intent(inv)
	old.Status = "canceled"
	a.emit(t, "payment_intent.canceled", old, nil)
	inv.former = append(inv.former, old.ID)
	a.emit(t, "payment_intent.created", inv.newIntent(t), nil)
	a.emit(t, "invoice.updated", inv, map[string]any{"payment_intent": old.ID})
}

func (c *contract) finalize(inv *invoice, t int64) {
	c.finalizeQuietly(inv, t)
	if !slices.Contains(c.open, inv) {
		c.open = append(c.open, inv)
	}
	if inv.CollectionMethod == "send_invoice" {
		inv.DueDate = stamp(t + int64(c.sub.DaysUntilDue)*day)
		inv.step = int64(inv.DueDate)
		c.acc.emit(t, "invoice.sent", inv, nil)
		if c.late > 0 {
			c.at(t+int64(c.late)*day, func(t int64) {
				if inv.Status == "open" && c.card != nil {
					c.attempt(inv, c.card, t)
				}
			})
		}
		return
	}
	inv.AttemptCount++
	c.attempt(inv, c.card, t)
}

// attempt charges a card for an invoice and carries the result into every object. It returns the
// charge and, unless it went well, why not. A nil card is a missing payment method: nothing is
// charged.
func (c *contract) attempt(inv *invoice, k *card, t int64) (*charge, *decline) {
	a := c.acc
	inv.Attempted = true
	if k == nil {
		c.failed(inv, t)
		return nil, nil
	}
	pi, ch := a.intent(inv), c.newCharge(inv, k, t)
	brand := ""
	if k.pm.Card != nil {
		brand = k.pm.Card.Brand
	}
	if k.habit == bankDebit && !(k.dies != 0 && t >= k.dies) {
		ch.Status, ch.Captured = "pending", true
		ch.AmountCaptured = ch.Amount
		ch.Outcome = outcome{NetworkStatus: "approved_by_network", SellerMessage: "Payment complete.", Type: "authorized"}
		pi.Status, pi.PaymentMethodTypes = "processing", []string{"sepa_debit"}
		inv.NextPaymentAttempt, inv.step = 0, t+5*day
		if c.sub.Status == "incomplete" {
			c.setStatus("active", t) // Stripe trusts a debit while it is under way
		}
		a.emit(t, "charge.pending", ch, nil)
		a.emit(t, "payment_intent.processing", pi, nil)
		return ch, nil
	}
	d := a.verdict(inv, k, t)
	if inv.welcome {
		d = nil
	}
	ch.Outcome = d.outcome(brand)
	if d != nil {
		k.never = k.never || d.class == "never"
		c.decline(inv, ch, d, t)
		return ch, d
	}
	c.succeed(inv, ch, t)
	return ch, nil
}

func (c *contract) newCharge(inv *invoice, k *card, t int64) *charge {
	a := c.acc
	pi := a.intent(inv)
	inv.tries++
	ch := &charge{
		Amount: inv.AmountRemaining, BillingDetails: k.pm.BillingDetails, Captured: true, Currency: inv.Currency, Customer: inv.Customer,
		Description: "Subscription update", Invoice: text(inv.ID), Metadata: dict{}, PaymentIntent: inv.PaymentIntent,
		PaymentMethod: text(k.pm.ID), PaymentMethodDetails: k.details(),
	}
	if inv.BillingReason == "subscription_create" {
		ch.Description = "Subscription creation"
	}
	ch.head = head{ID: a.id("ch_3", 23, inv.ID, inv.tries), Object: "charge", Created: t}
	if k.pm.Card != nil && k.habit == bankDebit { // the card has given way to an account
		ch.PaymentMethodDetails = paymentMethodDetails{Type: "sepa_debit", SepaDebit: &sepaDetails{"37040044", "DE", a.id("", 16, "account", k.pm.ID), k.pm.Card.Last4}}
	}
	inv.Charge = text(ch.ID)
	pi.LatestCharge, pi.PaymentMethod = text(ch.ID), text(k.pm.ID)
	a.put("charges", ch)
	return ch
}

// details are those of a charge.
func (k *card) details() paymentMethodDetails {
	d := paymentMethodDetails{Type: k.pm.Type, SepaDebit: k.pm.SepaDebit}
	if k.pm.Card != nil {
		used := *k.pm.Card
		used.Network = used.Brand
		d.Card = &used
	}
	return d
}

// payPart lets a part of what an invoice asks for come in. The rest stays open.
func (c *contract) payPart(inv *invoice, amount, t int64) *charge {
	ch := c.newCharge(inv, c.card, t)
	ch.Amount, ch.AmountCaptured, ch.Status, ch.Paid = amount, amount, "succeeded", true
	ch.Outcome = (*decline)(nil).outcome("")
	inv.AmountPaid += amount
	inv.AmountRemaining -= amount
	pi := c.acc.intent(inv)
	pi.AmountReceived += amount
	c.acc.emit(t, "charge.succeeded", ch, nil)
	c.acc.emit(t, "invoice.updated", inv, nil)
	return ch
}

func (c *contract) succeed(inv *invoice, ch *charge, t int64) {
	pi := c.acc.intent(inv)
	ch.Status, ch.Paid, ch.Captured, ch.AmountCaptured = "succeeded", true, true, ch.Amount
	pi.Status, pi.AmountReceived, pi.LastPaymentError = "succeeded", pi.AmountReceived+ch.Amount, nil
	c.acc.emit(t, "charge.succeeded", ch, nil)
	c.acc.emit(t, "payment_intent.succeeded", pi, nil)
	c.markPaid(inv, t)
}

func (c *contract) decline(inv *invoice, ch *charge, d *decline, t int64) {
	pi := c.acc.intent(inv)
	ch.Status, ch.Captured, ch.AmountCaptured, ch.Paid = "failed", false, 0, false
	ch.FailureCode, ch.FailureMessage = text(d.errorCode()), text(d.message())
	pi.Status, pi.LastPaymentError = "requires_payment_method", d.err(ch)
	if d.reason == authRequired.reason {
		pi.Status = "requires_action"
	}
	c.acc.emit(t, "charge.failed", ch, nil)
	c.acc.emit(t, "payment_intent.payment_failed", pi, nil)
	c.failed(inv, t)
	if pi.Status == "requires_action" {
		c.acc.emit(t, "invoice.payment_action_required", inv, nil)
	}
}

// failed is what a failed attempt does to invoice, subscription and customer.
func (c *contract) failed(inv *invoice, t int64) {
	if inv.NextPaymentAttempt <= stamp(t) { // an attempt by hand leaves the retry calendar as it is
		c.schedule(inv, t)
	}
	c.acc.emit(t, "invoice.payment_failed", inv, nil)
	c.acc.writes(c.cust, t)
	c.cust.Delinquent = true
	// The subscription of an invoice that has just been given up stays active.
	if c.sub.Status == "active" && string(c.sub.LatestInvoice) == inv.ID && inv.Status == "open" {
		c.setStatus("past_due", t)
	}
}

// settle ends a bank debit that was under way.
func (c *contract) settle(inv *invoice, t int64) {
	ch := c.acc.pending(inv)
	at := slices.IndexFunc(c.cust.wallet,
		func(k *card) bool { return k.pm.ID == string(ch.PaymentMethod) }) // detached or not
	if d := c.acc.verdict(inv, c.cust.wallet[at], t); d != nil && !inv.welcome {
		c.bounce(inv, t)
		return
	}
	c.succeed(inv, ch, t)
}

// bounce ends a bank debit that was under way badly.
func (c *contract) bounce(inv *invoice, t int64) {
	ch := c.acc.pending(inv)
	bounced := decline{class: "timed", code: "insufficient_funds", reason: "insufficient_funds"}
	ch.Outcome = bounced.outcome("")
	inv.AutoAdvance = inv.AutoAdvance && inv.AttemptCount < 2
	c.decline(inv, ch, &bounced, t)
}

// markPaid closes an invoice, wherever the money came from.
func (c *contract) markPaid(inv *invoice, t int64) {
	inv.Status, inv.Paid, inv.AutoAdvance = "paid", true, false
	inv.NextPaymentAttempt, inv.step = 0, 0
	inv.Transitions.PaidAt = stamp(t)
	inv.AmountPaid, inv.AmountRemaining = inv.AmountDue, 0
	c.closed(inv)
	c.acc.emit(t, "invoice.paid", inv, nil)
	c.acc.emit(t, "invoice.payment_succeeded", inv, nil)
	if string(c.sub.LatestInvoice) != inv.ID && c.sub.Status != "unpaid" {
		return // paying an older debt does not change the subscription
	}
	switch c.sub.Status {
	case "incomplete", "past_due", "unpaid":
		c.setStatus("active", t)
	}
}

func (c *contract) void(inv *invoice, t int64) {
	inv.Status, inv.AutoAdvance, inv.NextPaymentAttempt, inv.step = "void", false, 0, 0
	inv.Transitions.VoidedAt = stamp(t)
	if pi := c.acc.intent(inv); pi != nil {
		pi.Status = "canceled"
	}
	c.closed(inv)
	c.acc.emit(t, "invoice.voided", inv, nil)
	c.follow(t)
}

func (c *contract) writeOff(inv *invoice, t int64) {
	inv.Status, inv.AutoAdvance, inv.NextPaymentAttempt, inv.step = "uncollectible", false, 0, 0
	inv.Transitions.MarkedUncollectibleAt = stamp(t)
	c.closed(inv)
	c.acc.emit(t, "invoice.marked_uncollectible", inv, nil)
	c.follow(t)
}

// closed takes an invoice out of collection and looks whether its customer is still in debt.
func (c *contract) closed(inv *invoice) {
	c.open = slices.DeleteFunc(c.open, func(o *invoice) bool { return o == inv })
	c.cust.Delinquent = slices.ContainsFunc(c.open, func(o *invoice) bool { return o.Status == "open" && o.Attempted })
}

func (a *account) intent(inv *invoice) *intent {
	pi, _ := a.tables["payment_intents"].byID[string(inv.PaymentIntent)].(*intent)
	return pi
}

// pending is the bank debit that is under way for an invoice, or nil.
func (a *account) pending(inv *invoice) *charge {
	ch, _ := a.tables["charges"].byID[string(inv.Charge)].(*charge)
	if ch != nil && ch.Status == "pending" {
		return ch
	}
	return nil
}

// cardOf is the card with this id, unless it has been detached.
func (cu *customer) cardOf(pm string) *card {
	for _, k := range cu.wallet {
		if k.pm.ID == pm && k.pm.Customer != "" {
			return k
		}
	}
	return nil
}
