package sandbox

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Ghost is one line of the truth: money in one currency that a customer owes, or has taken back,
// for one subscription.
type Ghost struct {
	Account      string `json:"account"`
	Customer     string `json:"customer"`
	Subscription string `json:"subscription"`
	Currency     string `json:"currency"`
	// one of the kinds below; a subscription may have a line of each
	Kind string `json:"kind"`

	// Amount is in minor units: the sum of amount_remaining of Invoices, or of what lost disputes
	// about them took.
	Amount   int64    `json:"amount"`
	Invoices []string `json:"invoices"` // oldest first
	Why      string   `json:"why"`      // the row of "who is a ghost"

	// Hidden says of what is owed that the subscription is active and its latest decided invoice
	// paid.
	Hidden bool `json:"hidden"`

	// Resubscribed says that the customer has a later subscription to the same product, which is
	// active, trialing or past_due.
	Resubscribed bool `json:"resubscribed"`
}

// The kinds of debt.
const (
	Owed        = "owed"
	WrittenOff  = "written_off"  // the merchant has given it up, and the service goes on
	ChargedBack = "charged_back" // it was paid, and the bank has taken the money back
)

// The rows of "who is a ghost" that say yes.
const (
	WhyFailed      = "active or past_due: open, charged automatically, attempted"
	WhyHidden      = "active: an older one open or uncollectible while the latest is paid"
	WhyOverdue     = "past_due: open, sent, overdue beyond the grace"
	WhySent        = "active: open, sent, overdue beyond the grace, nothing paid since"
	WhyTrialing    = "trialing: earlier open debt"
	WhyWrittenOff  = "active or past_due: uncollectible after failing or overdue, the newest not paid"
	WhyChargedBack = "any: paid, then charged back"
)

// grace is how long a sent invoice may be overdue before it is a debt.
const grace = 7 * day

// decidedDisputes are the statuses in which a dispute is over. All others are open, those too that
// nobody knows yet: a wrong guess that way costs a delay, the other way a charge on a customer who
// is in dispute.
var decidedDisputes = []string{"won", "lost", "warning_closed", "prevented", "charge_refunded"}

// undecided says whether a dispute of this status is still open.
func undecided(status string) bool { return !slices.Contains(decidedDisputes, status) }

// Truth says who is a ghost at the sandbox's clock, ordered by customer, subscription, currency and
// kind; nil for an account that is not there. It knows from the world's own state, not from what
// the API shows.
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
		return cmp.Or(cmp.Compare(x.Customer, y.Customer), cmp.Compare(x.Subscription, y.Subscription),
			cmp.Compare(x.Currency, y.Currency), cmp.Compare(x.Kind, y.Kind))
	})
	return ghosts
}

// bill is an invoice as the judgement sees it.
type bill struct {
	id, currency, status, method, intent string
	remaining, attempts, due             int64
	gaveUp                               int64  // when it was marked uncollectible
	outOfBand, disputed                  bool   // disputed: one of its charges has an open dispute
	lost                                 []loss // what lost disputes took
	separate                             bool   // the merchant says that it is a debt of its own
	// what it bills, without the time; "" is like nothing
	lines    string
	from, to int64 // the whole time that its lines bill
	copied   bool  // another asks for the same, or has brought it in
}

type loss struct {
	currency string
	amount   int64
}

// underWay says whether a payment may still decide a bill.
func (b *bill) underWay() bool { return b.intent == "processing" || b.intent == "requires_action" }

// debt says whether a bill, taken alone, is one that its customer should have paid.
func (b *bill) debt(now int64) bool {
	unpaid := b.remaining > 0 && (b.status == "open" || b.status == "uncollectible")
	if !unpaid || b.outOfBand || b.disputed || b.underWay() {
		return false
	}
	if b.method != "send_invoice" {
		return b.attempts > 0
	}
	// What was given up before it was overdue, as while collection is paused, was given away.
	until := now
	if b.status == "uncollectible" {
		until = b.gaveUp
	}
	return b.due != 0 && b.due < until-grace
}

// same says whether two bills ask for the same thing: the same lines, for the same time or for
// mostly the same.
func (b *bill) same(o *bill) bool {
	if b.separate || o.separate || b.lines == "" || b.lines != o.lines || b.currency != o.currency {
		return false
	}
	for _, x := range []*bill{b, o} {
		if x.status != "open" && x.status != "uncollectible" && x.status != "paid" {
			return false
		}
	}
	shorter := min(b.to-b.from, o.to-o.from)
	return b.from == o.from && b.to == o.to || 2*(min(b.to, o.to)-max(b.from, o.from)) > shorter
}

// markCopies finds the bills that ask for one debt several times. The oldest debt of them counts;
// none does when one of them is paid, or is being paid, or is in dispute.
func markCopies(bills []bill, now int64) {
	for i := range bills {
		if bills[i].copied || !bills[i].debt(now) {
			continue
		}
		group, in := []int{i}, map[int]bool{i: true}
		for k := 0; k < len(group); k++ {
			for j := range bills {
				if !in[j] && bills[group[k]].same(&bills[j]) {
					group, in[j] = append(group, j), true
				}
			}
		}
		settled := slices.ContainsFunc(group, func(j int) bool {
			b := &bills[j]
			return b.status == "paid" || b.outOfBand || b.disputed || b.underWay()
		})
		for _, j := range group {
			bills[j].copied = settled || j != i // they are visited oldest first
		}
	}
}

// newestStatus is the status of the newest bill that is decided: that is not void, no draft and not
// open without being a debt, as one is that has not been attempted or whose payment is under way.
// A copy of another bill decides nothing.
func newestStatus(bills []bill, now int64) string {
	for i := len(bills) - 1; i >= 0; i-- {
		b := &bills[i]
		if !b.copied && b.status != "draft" && b.status != "void" && (b.status != "open" || b.debt(now)) {
			return b.status
		}
	}
	return ""
}

// row is the row of the table that a debt is in: its kind and why, or nothing.
func (b *bill) row(subscription, newest string) (kind, why string) {
	live, open, sent := subscription == "active" || subscription == "past_due", b.status == "open",
		b.method == "send_invoice"
	switch {
	case subscription == "active" && newest == "paid":
		return Owed, WhyHidden
	case live && open && !sent:
		return Owed, WhyFailed
	case subscription == "past_due" && open:
		return Owed, WhyOverdue
	case subscription == "active" && open:
		return Owed, WhySent
	case subscription == "trialing" && open:
		return Owed, WhyTrialing
	case live && !open && newest != "paid":
		return WrittenOff, WhyWrittenOff
	}
	return "", ""
}

// judge holds the bills of one subscription, oldest first, against the table. The lines name
// neither account nor customer.
func judge(subscription string, bills []bill, now int64) (ghosts []Ghost) {
	markCopies(bills, now)
	newest := newestStatus(bills, now)
	note := func(kind, why, currency string, amount int64, invoice string) {
		at := slices.IndexFunc(ghosts, func(g Ghost) bool {
			return g.Kind == kind &&
				g.Currency == currency
		})
		if at < 0 {
			ghosts = append(ghosts, Ghost{Kind: kind, Currency: currency, Why: why,
				Hidden: why == WhyHidden})
			at = len(ghosts) - 1
		}
		g := &ghosts[at]
		g.Amount += amount
		if !slices.Contains(g.Invoices, invoice) {
			g.Invoices = append(g.Invoices, invoice)
		}
		if g.Why != WhyFailed {
			g.Why = why
		}
	}
	for i := range bills {
		b := &bills[i]
		if b.status == "paid" {
			for _, l := range b.lost {
				note(ChargedBack, WhyChargedBack, l.currency, l.amount, b.id)
			}
		}
		if b.copied || !b.debt(now) {
			continue
		}
		if kind, why := b.row(subscription, newest); kind != "" {
			note(kind, why, b.currency, b.remaining, b.id)
		}
	}
	return ghosts
}

// again says whether a subscription of this status is a customer's new beginning.
func again(status string) bool {
	return status == "active" || status == "trialing" || status == "past_due"
}

// billed writes down what lines ask for without the time, and the whole of their times.
func billed(lines []*line) (what string, from, to int64) {
	var all []string
	for i, l := range lines {
		id := ""
		if l.Price != nil {
			id = l.Price.ID
		}
		all = append(all, fmt.Sprint(id, " ", l.Quantity, " ", l.Amount))
		if i == 0 {
			from, to = l.Period.Start, l.Period.End
		}
		from, to = min(from, l.Period.Start), max(to, l.Period.End)
	}
	slices.Sort(all)
	return strings.Join(all, ", "), from, to
}

func (a *account) livingGhosts(now int64) (ghosts []Ghost) {
	disputed, lost := map[string]bool{}, map[string][]loss{}
	for _, o := range a.tables["disputes"].rows {
		// By the charge: an invoice shows its newest payment intent alone, and the dispute may be
		// of an older one.
		d := o.(*dispute)
		ch, _ := a.tables["charges"].byID[d.Charge].(*charge)
		if ch == nil || ch.Invoice == "" {
			continue
		}
		id := string(ch.Invoice)
		disputed[id] = disputed[id] || undecided(d.Status)
		if d.Status == "lost" {
			lost[id] = append(lost[id], loss{d.Currency, d.Amount})
		}
	}
	bills := map[text][]bill{}
	for _, o := range a.tables["invoices"].rows {
		inv := o.(*invoice)
		b := bill{id: inv.ID, currency: inv.Currency, status: inv.Status, method: inv.CollectionMethod,
			remaining: inv.AmountRemaining,
			attempts:  inv.AttemptCount, due: int64(inv.DueDate),
			gaveUp:    int64(inv.Transitions.MarkedUncollectibleAt),
			outOfBand: inv.PaidOutOfBand, disputed: disputed[inv.ID], lost: lost[inv.ID],
			separate: inv.Metadata["phantom"] == "owed"}
		if pi := a.intent(inv); pi != nil {
			b.intent = pi.Status
		}
		b.lines, b.from, b.to = billed(inv.Lines.Data)
		bills[inv.Subscription] = append(bills[inv.Subscription], b)
	}
	subs := map[string][]*subscription{}
	for _, o := range a.tables["subscriptions"].rows {
		sub := o.(*subscription)
		subs[sub.Customer] = append(subs[sub.Customer], sub)
	}
	for _, o := range a.tables["subscriptions"].rows {
		sub := o.(*subscription)
		if sub.TestClock != "" {
			continue
		}
		for _, g := range judge(sub.Status, bills[text(sub.ID)], now) {
			g.Account, g.Customer, g.Subscription = a.ID, sub.Customer, sub.ID
			g.Resubscribed = slices.ContainsFunc(subs[sub.Customer], func(o *subscription) bool {
				return o.Created > sub.Created && again(o.Status) && o.product() == sub.product()
			})
			ghosts = append(ghosts, g)
		}
	}
	return ghosts
}

func (s *subscription) product() string { return s.Items.Data[0].Price.Product }

func (h *history) ghosts(now int64) (ghosts []Ghost) {
	disputes := map[uint32][]uint32{} // by invoice; there are few
	for d := range h.disputes {
		v := h.charges[h.disputes[d].charge].invoice
		disputes[v] = append(disputes[v], uint32(d))
	}
	var bills []bill
	for s := range h.subs {
		sub := &h.subs[s]
		if h.customers[sub.customer].clock {
			continue
		}
		bills = bills[:0]
		debts := false
		all := h.invoicesOf.of(uint32(s))
		for _, v := range all {
			inv := &h.invoices[v]
			b := bill{currency: sub.price.Currency, status: inv.status, method: sub.method,
				intent: inv.intent, remaining: inv.remaining,
				attempts: int64(inv.attempts), due: inv.due, outOfBand: inv.outOfBand}
			if inv.status == "uncollectible" {
				b.gaveUp = inv.closed
			}
			for _, d := range disputes[v] {
				b.disputed = b.disputed || undecided(h.disputes[d].status)
				if h.disputes[d].status == "lost" {
					b.lost = append(b.lost, loss{b.currency, h.charges[h.disputes[d].charge].amount})
				}
			}
			if debt := b.debt(now); debt || b.lost != nil {
				b.id = h.ids["invoices"].name(int(v))
				debts = debts || debt
			}
			bills = append(bills, b)
		}
		if debts { // only then it matters what the others bill
			for i, v := range all {
				inv := &h.invoices[v]
				bills[i].lines = fmt.Sprint(sub.price.ID, " ", inv.amount)
				bills[i].from, bills[i].to = inv.created, month(inv.created, 1)
			}
		}
		for _, g := range judge(sub.status, bills, now) {
			g.Account, g.Customer, g.Subscription = h.acc.ID, h.ids["customers"].name(int(sub.customer)),
				h.ids["subscriptions"].name(s)
			g.Resubscribed = slices.ContainsFunc(h.subsOf.of(sub.customer), func(o uint32) bool {
				other := &h.subs[o]
				return other.created > sub.created && again(other.status) &&
					other.price.Product == sub.price.Product
			})
			ghosts = append(ghosts, g)
		}
	}
	return ghosts
}
