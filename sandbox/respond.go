package sandbox

import (
	"net/mail"
	"slices"
	"strings"
)

// willing is the probability that a customer who must act does so after the first email, the second
// and so on; the last one holds for all that follow.
var willing = []float64{0.35, 0.20, 0.12, 0.05}

// hear lets the customers behind an email's addresses answer it, where Config.Respond asks for
// that. Callers hold the lock.
func (s *Sandbox) hear(e *Email, now int64) {
	if !s.cfg.Respond {
		return
	}
	for _, id := range s.ids { // in order, so that the same emails give the same answers
		a := s.accounts[id]
		if !a.loaded { // nobody can have read an address there
			continue
		}
		a.advance(now)
		for _, to := range slices.Concat(e.To, e.CC, e.BCC) {
			parsed, err := mail.ParseAddress(to)
			if err != nil {
				continue // cannot happen: it was accepted
			}
			for _, o := range a.tables["customers"].rows {
				if cu := o.(*customer); strings.EqualFold(string(cu.Email), parsed.Address) {
					a.remind(cu, now)
				}
			}
		}
	}
}

// remind has a customer read an email. Who owes money that only they can set right may take out
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
