package sandbox

import (
	"net/mail"
	"slices"
	"strings"
)

// willing is the probability that a customer who must act does so after the first message, the
// second and so on; the last one holds for all that follow.
var willing = []float64{0.35, 0.20, 0.12, 0.05}

// hearEmail lets the customers behind an email's addresses answer it. Callers hold the lock.
func (s *Sandbox) hearEmail(e *Email, now int64) {
	for _, to := range slices.Concat(e.To, e.CC, e.BCC) {
		if parsed, err := mail.ParseAddress(to); err == nil { // it was accepted
			s.hear(now, func(cu *customer) bool { return strings.EqualFold(string(cu.Email), parsed.Address) })
		}
	}
}

// hear lets customers answer a message, where Config.Respond asks for that.
func (s *Sandbox) hear(now int64, reads func(*customer) bool) {
	if !s.cfg.Respond {
		return
	}
	for _, id := range s.ids { // in order, so that the same messages give the same answers
		a := s.accounts[id]
		if !a.loaded { // nobody can have read an address there
			continue
		}
		a.advance(now)
		for _, o := range a.tables["customers"].rows {
			if cu := o.(*customer); reads(cu) {
				a.remind(cu, now)
			}
		}
	}
}

// remind has a customer read a message. Who owes money that only they can set right may take out
// another card one to 48 hours later and pay.
func (a *account) remind(cu *customer, now int64) {
	var stuck []*contract
	for _, c := range a.contracts {
		if c.cust == cu && c.stuck(now) {
			stuck = append(stuck, c)
		}
	}
	if len(stuck) == 0 || cu.moved {
		return
	}
	cu.reminded++
	r := stream(a.world.seed, "respond", cu.ID, cu.reminded)
	if r.Float64() >= willing[min(cu.reminded, len(willing))-1] {
		return
	}
	cu.moved = true
	at := now + hour + int64(r.IntN(47*hour+1))
	for _, c := range stuck {
		c.at(at, c.comesRound)
		a.expect(c)
	}
}

// writes has Stripe write to a customer about a payment that failed, where Config.StripeEmails asks
// for that.
func (a *account) writes(cu *customer, t int64) {
	if !a.world.emails || a.quiet || cu.Email == "" {
		return
	}
	a.written++
	if a.world.respond {
		a.remind(cu, t)
	}
}

// Own counts what Stripe has done by itself since the generated past: charges of invoices that had
// failed before, and emails to the merchant's customers. Nothing for an account that is not there.
func (s *Sandbox) Own(account string) (retries, emails int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.accounts[account]; a != nil {
		return a.retried, a.written
	}
	return 0, 0
}

// stuck says whether a contract has an open invoice that no retry will ever settle: its card is
// dead in a way that only the customer can mend.
func (c *contract) stuck(now int64) bool {
	dead := c.card == nil || c.card.never || c.card.dies != 0 && now >= c.card.dies && (c.card.end.class == "customer" || c.card.end.class == "never")
	return dead && slices.ContainsFunc(c.open, c.payable)
}

func (c *contract) payable(inv *invoice) bool {
	return inv.Status == "open" && inv.Attempted && inv.CollectionMethod == "charge_automatically" && c.acc.pending(inv) == nil
}

// comesRound is the customer on the invoice's own page: a new card, and all that is open is paid
// with it.
func (c *contract) comesRound(t int64) {
	a, cu := c.acc, c.cust
	cu.moved = false
	if !c.stuck(t) {
		return // settled in between
	}
	fresh := cu.wallet[len(cu.wallet)-1]
	if fresh.pm.Created < t { // the first of the customer's contracts to come round brings it
		before := map[string]any{"invoice_settings": cu.InvoiceSettings}
		w := &author{acc: a, r: stream(a.world.seed, "new card", cu.ID, len(cu.wallet)), epoch: t, start: t + 30, customer: cu}
		fresh = w.card(liquid)
		a.emit(t, "payment_method.attached", fresh.pm, nil)
		a.emit(t, "customer.updated", cu, before)
	}
	own := c.sub.DefaultPaymentMethod
	c.replaceCard(fresh)
	if own != c.sub.DefaultPaymentMethod {
		a.emit(t, "customer.subscription.updated", c.sub, map[string]any{"default_payment_method": own})
	}
	for _, inv := range slices.Clone(c.open) {
		if c.payable(inv) {
			inv.welcome = true
			c.attempt(inv, fresh, t)
			a.emit(t, "invoice.updated", inv, nil)
		}
	}
}
