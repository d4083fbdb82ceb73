package sandbox

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// history is a merchant's past in bulk: a million charges in closed form, written once and then
// only read. Rows are small and refer to each other by number; ids and JSON are made when somebody
// asks.
type history struct {
	acc       *account
	epoch     int64
	customers []oldCustomer
	subs      []oldSub
	invoices  []oldInvoice
	charges   []oldCharge
	disputes  []oldDispute

	// by customer, by subscription, by invoice; each oldest first
	subsOf, invoicesOf, chargesOf groups
	disputeOf                     map[uint32]uint32
	ids                           map[string]idSpace
}

type oldCustomer struct {
	created int64
	clock   bool // belongs to a test clock
}

type oldSub struct {
	created, ended, trialEnd int64
	customer                 uint32
	status, method, pause    string
	price                    *price
	sepa                     bool
	brand                    uint8
	periods                  int // renewals so far, the first period included
}

type oldInvoice struct {
	created, next, due, closed int64 // closed: paid, voided or given up, as status says
	amount, remaining          int64
	sub                        uint32
	number                     uint16
	attempts                   uint8
	attempted, outOfBand       bool
	status, reason, intent     string
}

type oldCharge struct {
	created, amount int64
	invoice         uint32
	decline         uint8 // 0 is success; then the number of a decline, from 1
	pending         bool
}

type oldDispute struct {
	created int64
	charge  uint32
	status  string
}

// groups lists, for each owner, the numbers of its rows in ascending order.
type groups struct{ start, rows []uint32 }

func (g groups) of(owner uint32) []uint32 { return g.rows[g.start[owner]:g.start[owner+1]] }

func groupBy[T any](rows []T, owners int, owner func(*T) uint32) groups {
	g := groups{make([]uint32, owners+1), make([]uint32, len(rows))}
	for i := range rows {
		g.start[owner(&rows[i])+1]++
	}
	for i := range owners {
		g.start[i+1] += g.start[i]
	}
	at := slices.Clone(g.start)
	for i := range rows {
		o := owner(&rows[i])
		g.rows[at[o]] = uint32(i)
		at[o]++
	}
	return g
}

// declines of a history, by number from 1.
var oldDeclines = slices.Concat(hard, velocity, soft, technical, []decline{authRequired, blockedAgain, unknownDecline})

func declineNumber(d decline) uint8 { return uint8(slices.Index(oldDeclines, d) + 1) }

// scribe writes a history, one subscription after another.
type scribe struct {
	*history
	r    *rand.Rand
	plan []int // the stories still to be told before all are shuffled again
	told int
	// days of age: a small history has no long customers, so that one alone does not fill it
	most int
}

// newHistory writes about so many charges.
func newHistory(a *account, charges int) *history {
	h := &history{acc: a, epoch: a.world.epoch, disputeOf: map[uint32]uint32{}}
	h.charges = make([]oldCharge, 0, charges+64)
	h.invoices = make([]oldInvoice, 0, charges+64)
	w := &scribe{history: h, most: 2 * charges, r: stream(a.world.seed, "history", a.ID)}
	for len(h.charges) < charges {
		w.next()
	}
	h.arrange()
	return h
}

// arrange puts everything in order of creation, as lists show it, and ties the rows together again.
func (h *history) arrange() {
	customers := renumber(&h.customers, func(c *oldCustomer) int64 { return c.created })
	for i := range h.subs {
		h.subs[i].customer = customers[h.subs[i].customer]
	}
	subs := renumber(&h.subs, func(s *oldSub) int64 { return s.created })
	for i := range h.invoices {
		h.invoices[i].sub = subs[h.invoices[i].sub]
	}
	invoices := renumber(&h.invoices, func(v *oldInvoice) int64 { return v.created })
	for i := range h.charges {
		h.charges[i].invoice = invoices[h.charges[i].invoice]
	}
	charges := renumber(&h.charges, func(c *oldCharge) int64 { return c.created })
	for i := range h.disputes {
		h.disputes[i].charge = charges[h.disputes[i].charge]
	}
	slices.SortStableFunc(h.disputes, func(a, b oldDispute) int { return cmp.Compare(a.created, b.created) })
	for i, d := range h.disputes {
		h.disputeOf[d.charge] = uint32(i)
	}
	h.subsOf = groupBy(h.subs, len(h.customers), func(s *oldSub) uint32 { return s.customer })
	h.invoicesOf = groupBy(h.invoices, len(h.subs), func(v *oldInvoice) uint32 { return v.sub })
	h.chargesOf = groupBy(h.charges, len(h.invoices), func(c *oldCharge) uint32 { return c.invoice })
	h.nameAll()
}

// renumber puts rows in order of creation and says where each has gone.
func renumber[T any](rows *[]T, created func(*T) int64) []uint32 {
	type key struct {
		created int64
		old     uint32
	}
	keys := make([]key, len(*rows))
	for i := range keys {
		keys[i] = key{created(&(*rows)[i]), uint32(i)}
	}
	slices.SortFunc(keys, func(a, b key) int { return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(a.old, b.old)) })
	sorted, to := make([]T, len(keys)), make([]uint32, len(keys))
	for i, k := range keys {
		sorted[i], to[k.old] = (*rows)[k.old], uint32(i)
	}
	*rows = sorted
	return to
}

// month is the beginning of a subscription's n-th period. They begin on the 28th at the latest.
func month(start int64, n int) int64 { return time.Unix(start, 0).UTC().AddDate(0, n, 0).Unix() }

// started is how many periods have begun by now.
func started(start, now int64) int {
	n := 1
	for month(start, n) <= now {
		n++
	}
	return n
}
