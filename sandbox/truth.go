package sandbox

import (
	"cmp"
	"slices"
)

// Ghost is one line of the truth: a customer who keeps access by a subscription while money is owed in a currency.
type Ghost struct {
	Account      string   `json:"account"`
	Customer     string   `json:"customer"`
	Subscription string   `json:"subscription"`
	Currency     string   `json:"currency"`
	Amount       int64    `json:"amount"`   // minor units: the sum of amount_remaining of Invoices
	Invoices     []string `json:"invoices"` // oldest first
	Hidden       bool     `json:"hidden"`   // the subscription is active and its latest decided invoice is paid
	Why          string   `json:"why"`      // the row of "who is a ghost"
}

// The rows of "who is a ghost" that say yes.
const (
	WhyFailed   = "active or past_due: open, charged automatically, attempted"
	WhyHidden   = "active: an older one open or uncollectible while the latest is paid"
	WhyOverdue  = "past_due: open, sent, overdue beyond the grace"
	WhyTrialing = "trialing: earlier open debt"
)

// grace is how long a sent invoice may be overdue before it is a debt.
const grace = 7 * day

// openDisputes are the statuses in which a dispute is not decided.
var openDisputes = []string{"warning_needs_response", "warning_under_review", "needs_response", "under_review"}

// Truth says who is a ghost at the sandbox's clock, ordered by customer, subscription and currency; nil for an account
// that is not there. It knows from the world's own state, not from what the API shows.
func (s *Sandbox) Truth(account string) []Ghost {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.accounts[account]
	if a == nil {
		return nil
	}
	now := s.now().Unix()
	a.advance(now)
	ghosts := a.livingGhosts(now)
	if sh := a.tables["subscriptions"].shelf; sh != nil {
		ghosts = append(ghosts, sh.h.ghosts(now)...)
	}
	slices.SortFunc(ghosts, func(x, y Ghost) int {
		return cmp.Or(cmp.Compare(x.Customer, y.Customer), cmp.Compare(x.Subscription, y.Subscription), cmp.Compare(x.Currency, y.Currency))
	})
	return ghosts
}

// bill is an invoice as the judgement sees it.
type bill struct {
	id, currency, status, method, intent string
	remaining, attempts, due             int64
	outOfBand, disputed                  bool
}

// debt says whether a bill is one that its customer should have paid.
func (b *bill) debt(now int64) bool {
	if b.remaining <= 0 || b.outOfBand || b.disputed || b.status != "open" && b.status != "uncollectible" {
		return false
	}
	if b.method == "send_invoice" {
		return b.status == "open" && b.due != 0 && b.due < now-grace
	}
	return b.attempts > 0 && b.intent != "processing" && b.intent != "requires_action"
}

// judge holds the bills of one subscription, oldest first, against the table.
func judge(status string, bills []bill, now int64, found func(currency string, amount int64, invoices []string, hidden bool, why string)) {
	hidden := false
	for i := len(bills) - 1; i >= 0; i-- {
		// One that is open and no debt is not decided yet, and says nothing.
		if b := &bills[i]; b.status != "draft" && (b.status != "open" || b.debt(now)) {
			hidden = status == "active" && bills[i].status == "paid"
			break
		}
	}
	counts := func(b *bill) string {
		open, sent := b.status == "open", b.method == "send_invoice"
		switch {
		case hidden:
			return WhyHidden
		case (status == "active" || status == "past_due") && open && !sent:
			return WhyFailed
		case status == "past_due" && open:
			return WhyOverdue
		case status == "trialing" && open:
			return WhyTrialing
		}
		return ""
	}
	type sum struct {
		amount   int64
		invoices []string
		why      string
	}
	sums := map[string]*sum{}
	for i := range bills {
		b := &bills[i]
		why := ""
		if b.debt(now) {
			why = counts(b)
		}
		if why == "" {
			continue
		}
		if sums[b.currency] == nil {
			sums[b.currency] = &sum{}
		}
		of := sums[b.currency]
		of.amount += b.remaining
		of.invoices = append(of.invoices, b.id)
		if of.why != WhyFailed {
			of.why = why
		}
	}
	for currency, of := range sums {
		found(currency, of.amount, of.invoices, hidden, of.why)
	}
}

func (a *account) livingGhosts(now int64) (ghosts []Ghost) {
	disputed := map[string]bool{}
	for _, o := range a.tables["disputes"].rows {
		if d := o.(*dispute); slices.Contains(openDisputes, d.Status) {
			disputed[string(d.PaymentIntent)] = true
		}
	}
	bills := map[text][]bill{}
	for _, o := range a.tables["invoices"].rows {
		inv := o.(*invoice)
		b := bill{inv.ID, inv.Currency, inv.Status, inv.CollectionMethod, "", inv.AmountRemaining, inv.AttemptCount, int64(inv.DueDate),
			inv.PaidOutOfBand, inv.PaymentIntent != "" && disputed[string(inv.PaymentIntent)]}
		if pi := a.intent(inv); pi != nil {
			b.intent = pi.Status
		}
		bills[inv.Subscription] = append(bills[inv.Subscription], b)
	}
	for _, o := range a.tables["subscriptions"].rows {
		sub := o.(*subscription)
		if sub.TestClock != "" {
			continue
		}
		judge(sub.Status, bills[text(sub.ID)], now, func(currency string, amount int64, invoices []string, hidden bool, why string) {
			ghosts = append(ghosts, Ghost{a.ID, sub.Customer, sub.ID, currency, amount, invoices, hidden, why})
		})
	}
	return ghosts
}

func (h *history) ghosts(now int64) (ghosts []Ghost) {
	var bills []bill
	for s := range h.subs {
		sub := &h.subs[s]
		if h.customers[sub.customer].clock {
			continue
		}
		bills = bills[:0]
		for _, v := range h.invoicesOf.of(uint32(s)) {
			inv := &h.invoices[v]
			b := bill{currency: sub.price.Currency, status: inv.status, method: sub.method, intent: inv.intent, remaining: inv.remaining,
				attempts: int64(inv.attempts), due: inv.due, outOfBand: inv.outOfBand}
			if inv.remaining > 0 {
				b.id = h.ids["invoices"].name(int(v))
				for _, c := range h.chargesOf.of(v) {
					if d, is := h.disputeOf[c]; is && slices.Contains(openDisputes, h.disputes[d].status) {
						b.disputed = true
					}
				}
			}
			bills = append(bills, b)
		}
		judge(sub.status, bills, now, func(currency string, amount int64, invoices []string, hidden bool, why string) {
			ghosts = append(ghosts, Ghost{h.acc.ID, h.ids["customers"].name(int(sub.customer)), h.ids["subscriptions"].name(s), currency, amount,
				invoices, hidden, why})
		})
	}
	return ghosts
}
