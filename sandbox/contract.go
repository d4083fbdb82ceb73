package sandbox

import (
	"fmt"
	"slices"
	"time"
)

// contract is the inner life of one subscription: it bills, retries and ends by itself as the clock
// moves.
type contract struct {
	acc    *account
	cust   *customer
	sub    *subscription
	price  *price
	card   *card  // what the subscription is charged to; nil if there is none
	after  ending // what follows when the retries are used up
	late   int    // send_invoice: days after which the customer pays; 0 = never
	mild   bool   // the merchant's setting: an overdue invoice leaves the subscription active
	trial  int    // days
	bill   int64  // the next period begins; 0 = never
	open   []*invoice
	all    []*invoice // oldest first
	moves  []move     // oldest first
	period int
	extra  int // invoices that no renewal made
	nth    int // among the customer's subscriptions, from 0
	// invoices; numbered by subscription, so that it does not matter which of a customer's two is
	// played first
	made int
}

// move is a turn in the story of a customer at a fixed time.
type move struct {
	at int64
	do func(t int64)
}

type ending int

const (
	keepPastDue ending = iota
	markUnpaid
	cancelNow
	writeOff // the invoice becomes uncollectible, the subscription goes on
)

const (
	hour = 3600
	day  = 86400
)

func (c *contract) at(t int64, do func(t int64)) {
	c.moves = append(c.moves, move{t, do})
	slices.SortStableFunc(c.moves, func(a, b move) int { return int(min(max(a.at-b.at, -1), 1)) })
}

// play runs what is due up to now and returns when something is due next, 0 for never.
func (c *contract) play(now int64) int64 {
	for {
		t, do := c.next()
		if t == 0 || t > now {
			return t
		}
		do(t)
	}
}

func (c *contract) next() (at int64, do func(int64)) {
	if len(c.moves) > 0 {
		at, do = c.moves[0].at, func(t int64) {
			m := c.moves[0]
			c.moves = c.moves[1:]
			m.do(t)
		}
	}
	for _, inv := range c.open {
		if inv.step != 0 && (at == 0 || inv.step < at) {
			at, do = inv.step, func(t int64) { c.stepInvoice(inv, t) }
		}
	}
	if c.bill != 0 && (at == 0 || c.bill < at) {
		at, do = c.bill, c.renew
	}
	return at, do
}

// periodStart is the beginning of the n-th period. Subscriptions begin on the 28th at the latest,
// so no month is short.
func (c *contract) periodStart(n int) int64 {
	t := time.Unix(c.sub.BillingCycleAnchor, 0).UTC()
	if c.price.Recurring.Interval == "year" {
		return t.AddDate(n, 0, 0).Unix()
	}
	return t.AddDate(0, n, 0).Unix()
}

func (c *contract) start(t int64) {
	s := c.sub
	s.Created, s.StartDate, s.BillingCycleAnchor = t, t, t
	s.Items.Data[0].Created = t
	c.acc.put("subscriptions", s)
	if c.trial > 0 {
		end := t + int64(c.trial)*day
		s.Status, s.TrialStart, s.TrialEnd, s.BillingCycleAnchor = "trialing", stamp(t), stamp(end), end
		s.CurrentPeriodStart, s.CurrentPeriodEnd = t, end
		c.bill = end
		c.freeInvoice(t, "subscription_create")
		c.acc.emit(t, "customer.subscription.created", s, nil)
		return
	}
	s.Status = "incomplete"
	if s.CollectionMethod == "send_invoice" {
		s.Status = "active"
	}
	c.nextPeriod()
	inv := c.newInvoice(t, "subscription_create")
	c.acc.emit(t, "customer.subscription.created", s, nil)
	c.finalize(inv, t)
	if s.Status == "incomplete" {
		c.at(t+23*hour, func(t int64) { // Stripe's limit for the first payment
			if s.Status == "incomplete" {
				c.setStatus("incomplete_expired", t)
				c.bill = 0
				c.void(inv, t)
			}
		})
	}
}

// nextPeriod moves the period on and says when the one after begins.
func (c *contract) nextPeriod() {
	c.sub.CurrentPeriodStart = c.periodStart(c.period)
	c.period++
	c.sub.CurrentPeriodEnd = c.periodStart(c.period)
	c.bill = c.sub.CurrentPeriodEnd
}

func (c *contract) renew(t int64) {
	s := c.sub
	if s.Status == "incomplete" { // its first invoice decides, not the calendar
		c.bill = 0
		return
	}
	if s.Status == "trialing" && c.card == nil && s.CollectionMethod == "charge_automatically" {
		c.bill = 0
		c.setStatus("paused", t)
		return
	}
	if s.CancelAtPeriodEnd {
		c.cancel(t)
		return
	}
	if s.Status == "trialing" {
		s.BillingCycleAnchor, c.period = t, 0
		c.setStatus("active", t)
	}
	c.nextPeriod()
	inv := c.newInvoice(t, "subscription_cycle")
	switch {
	case s.PauseCollection != nil:
		inv.AutoAdvance = false
		switch s.PauseCollection.Behavior {
		case "void":
			c.finalizeQuietly(inv, t)
			c.void(inv, t)
		case "mark_uncollectible":
			c.finalizeQuietly(inv, t)
			c.writeOff(inv, t)
		}
	case s.Status == "unpaid":
		inv.AutoAdvance = false // drafts pile up until somebody acts
	default:
		inv.step = t + hour
		if s.CollectionMethod == "charge_automatically" {
			inv.NextPaymentAttempt = stamp(inv.step)
		}
		c.open = append(c.open, inv)
	}
}

// stepInvoice does what an invoice does by itself at this time.
func (c *contract) stepInvoice(inv *invoice, t int64) {
	inv.step = 0
	switch {
	case inv.Status == "draft":
		c.finalize(inv, t)
	case inv.Status != "open" && inv.Status != "uncollectible":
	case inv.CollectionMethod == "send_invoice":
		if inv.DueDate != 0 && t >= int64(inv.DueDate) && c.sub.Status == "active" {
			if !c.mild {
				c.setStatus("past_due", t)
			}
			c.acc.emit(t, "invoice.overdue", inv, nil)
		}
	case c.acc.pending(inv) != nil:
		c.settle(inv, t)
	case c.card != nil && c.card.never && stream(c.acc.world.seed, "skip", inv.ID, t).IntN(10) < 7:
		// Smart Retries keeps its calendar but does not knock where "never again" was said; now and
		// then it is blocked.
		inv.AttemptCount++
		c.schedule(inv, t)
	default:
		inv.AttemptCount++
		if !c.acc.quiet && inv.Attempted && c.card != nil {
			c.acc.retried++
		}
		c.attempt(inv, c.card, t)
	}
}

// schedule sets the next automatic attempt after a failure: eight tries within two weeks, Stripe's
// default.
func (c *contract) schedule(inv *invoice, t int64) {
	inv.step, inv.NextPaymentAttempt = 0, 0
	if !inv.AutoAdvance || inv.CollectionMethod != "charge_automatically" || inv.Status != "open" ||
		c.sub.Status == "canceled" || c.sub.Status == "incomplete" {
		return
	}
	if inv.firstFail == 0 {
		inv.firstFail = t
	}
	r := stream(c.acc.world.seed, "retry", inv.ID, inv.AttemptCount)
	local := time.Unix(t, 0).In(c.acc.loc)
	next := time.Date(local.Year(), local.Month(), local.Day()+1+r.IntN(3), 7+r.IntN(12), r.IntN(60), r.IntN(60), 0, c.acc.loc).Unix()
	if inv.AttemptCount < 8 && next < inv.firstFail+14*day {
		inv.step, inv.NextPaymentAttempt = next, stamp(next)
		return
	}
	if c.sub.Status == "trialing" {
		return
	}
	switch c.after {
	case markUnpaid:
		inv.AutoAdvance = false
		c.setStatus("unpaid", t)
	case cancelNow:
		c.cancel(t)
	case writeOff:
		c.writeOff(inv, t)
	case keepPastDue:
	}
}

// follow lets the status of a subscription follow its newest invoice that is neither void nor a
// draft, as it does at Stripe when one is voided or given up.
func (c *contract) follow(t int64) {
	if c.sub.Status != "active" && c.sub.Status != "past_due" {
		return
	}
	for _, inv := range slices.Backward(c.all) {
		sent := inv.CollectionMethod == "send_invoice"
		switch {
		case inv.Status == "void" || inv.Status == "draft":
			continue
		case inv.Status == "paid" || inv.Status == "uncollectible":
			c.setStatus("active", t)
		case !sent && inv.Attempted && c.acc.pending(inv) == nil,
			sent && !c.mild && inv.DueDate != 0 && int64(inv.DueDate) <= t:
			c.setStatus("past_due", t)
		}
		return
	}
}

func (c *contract) setStatus(status string, t int64) {
	old := c.sub.Status
	if old == status {
		return
	}
	c.sub.Status = status
	typ := "customer.subscription.updated"
	switch status {
	case "canceled":
		typ = "customer.subscription.deleted"
	case "paused":
		typ = "customer.subscription.paused"
	}
	c.acc.emit(t, typ, c.sub, map[string]any{"status": old})
}

func (c *contract) cancel(t int64) {
	c.bill = 0
	c.sub.CanceledAt, c.sub.EndedAt = stamp(t), stamp(t)
	for _, inv := range c.open { // the debt stays, but Stripe stops asking for it
		inv.AutoAdvance, inv.NextPaymentAttempt, inv.step = false, 0, 0
	}
	c.setStatus("canceled", t)
}

// switchCard replaces what the subscription is charged to.
func (c *contract) switchCard(to *card) {
	c.card = to
	if to == nil {
		return
	}
	if c.sub.DefaultPaymentMethod != "" {
		c.sub.DefaultPaymentMethod = text(to.pm.ID)
	}
	c.cust.InvoiceSettings.DefaultPaymentMethod = text(to.pm.ID)
}

// replaceCard is switchCard for a customer who has other subscriptions too: those without a method
// of their own are charged with the customer's from now on.
func (c *contract) replaceCard(to *card) {
	c.switchCard(to)
	for _, o := range c.acc.contracts {
		if o.cust == c.cust && o.sub.DefaultPaymentMethod == "" {
			o.card = to
		}
	}
}

func (c *contract) newInvoice(t int64, reason string) *invoice {
	a := c.acc
	c.made++
	inv := &invoice{
		AccountCountry: a.Country, AccountName: a.profile.Name, AutoAdvance: true, BillingReason: reason,
		CollectionMethod: c.sub.CollectionMethod, Currency: c.price.Currency, Customer: c.cust.ID, CustomerEmail: c.cust.Email,
		CustomerName: c.cust.Name, Metadata: dict{}, PeriodStart: c.sub.CurrentPeriodStart, PeriodEnd: t, Status: "draft",
		Subscription: text(c.sub.ID), TestClock: c.cust.TestClock, of: c,
	}
	if reason == "subscription_cycle" {
		// the invoice names the period behind it, its line the one ahead
		inv.PeriodStart = c.periodStart(max(c.period-2, 0))
	}
	inv.head = head{ID: a.id("in_1", 23, c.sub.ID, c.made), Object: "invoice", Created: t}
	inv.Number = text(fmt.Sprintf("%s-%04d", c.cust.InvoicePrefix, 1000*c.nth+c.made))
	p := c.price
	inv.Lines = list[*line]{Object: "list", URL: "/v1/invoices/" + inv.ID + "/lines", Data: []*line{{
		ID: a.id("il_1", 23, inv.ID), Object: "line_item", Amount: p.UnitAmount, Currency: p.Currency, Description: "1 × " + p.Nickname,
		Metadata: dict{}, Period: period{c.sub.CurrentPeriodStart, c.sub.CurrentPeriodEnd}, Price: p, Quantity: 1,
		Subscription: text(c.sub.ID), Type: "subscription",
	}}}
	inv.setAmount(p.UnitAmount)
	c.sub.LatestInvoice = text(inv.ID)
	c.all = append(c.all, inv)
	a.put("invoices", inv)
	a.emit(t, "invoice.created", inv, nil)
	return inv
}

func (inv *invoice) setAmount(n int64) {
	inv.Subtotal, inv.Total, inv.AmountDue, inv.AmountRemaining = n, n, n, n
}

// freeInvoice is the invoice over nothing that opens a trial.
func (c *contract) freeInvoice(t int64, reason string) {
	inv := c.newInvoice(t, reason)
	inv.Lines.Data[0].Amount = 0
	inv.Lines.Data[0].Description = "Trial period for " + c.price.Nickname
	inv.setAmount(0)
	c.finalizeQuietly(inv, t)
	inv.Attempted = true
	c.markPaid(inv, t)
}
