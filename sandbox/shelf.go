package sandbox

import (
	"slices"
	"sort"
	"strings"
)

// shelf is one kind of object of a history, oldest first.
type shelf struct {
	h    *history
	kind string
	idSpace
}

// idSpace turns numbers into ids and back: a prefix, a filler of the account's own, and the number
// in disguise.
type idSpace struct {
	prefix string
	n      int
}

const disguise, reveal = 2654435761, 244002641 // inverse of each other modulo 2^32

func (s idSpace) append(dst []byte, n int) []byte {
	dst = append(dst, s.prefix...)
	x := uint64(uint32(n) * disguise)
	var digits [6]byte
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = base62Digits[x%62]
		x /= 62
	}
	return append(dst, digits[:]...)
}

func (s idSpace) name(n int) string { return string(s.append(nil, n)) }

// find is the number behind an id, or -1.
func (s idSpace) find(id string) int {
	tail, ok := strings.CutPrefix(id, s.prefix)
	if !ok || len(tail) != 6 {
		return -1
	}
	x := uint64(0)
	for i := range len(tail) {
		d := strings.IndexByte(base62Digits, tail[i])
		if d < 0 {
			return -1
		}
		x = x*62 + uint64(d)
	}
	n := int(uint32(x) * reveal)
	if x >= 1<<32 || n >= s.n {
		return -1
	}
	return n
}

// nameAll gives every kind its ids.
func (h *history) nameAll() {
	h.ids = map[string]idSpace{}
	for kind, k := range map[string]struct {
		prefix    string
		length, n int
	}{
		"customers": {"cus_", 14, len(h.customers)}, "subscriptions": {"sub_1", 23, len(h.subs)}, "items": {"si_", 14, len(h.subs)},
		"fingerprints":    {"", 16, len(h.subs)},
		"payment_methods": {"pm_1", 23, len(h.subs)}, "invoices": {"in_1", 23, len(h.invoices)}, "lines": {"il_1", 23, len(h.invoices)},
		"payment_intents": {"pi_3", 23, len(h.invoices)}, "charges": {"ch_3", 23, len(h.charges)},
		"balance_transactions": {"txn_3", 23, len(h.charges)}, "disputes": {"dp_1", 23, len(h.disputes)},
	} {
		h.ids[kind] = idSpace{h.acc.id(k.prefix, k.length-6, "history"), k.n}
	}
}

// shelve puts a history beside the living rows of its account.
func (h *history) shelve() {
	for _, kind := range []string{"customers", "subscriptions", "invoices", "charges", "disputes", "payment_intents", "payment_methods"} {
		h.acc.tables[kind].shelf = &shelf{h: h, kind: kind, idSpace: h.ids[kind]}
	}
}

func (s *shelf) size() int { return s.n }

// find is the number of a row, or -1. An invoice without a payment intent leaves a gap in the
// intents' numbers.
func (s *shelf) find(id string) int {
	n := s.idSpace.find(id)
	if n >= 0 && s.kind == "payment_intents" && s.h.invoices[n].intent == "" {
		return -1
	}
	return n
}

func (s *shelf) created(n int) int64 {
	switch s.kind {
	case "customers":
		return s.h.customers[n].created
	case "subscriptions":
		return s.h.subs[n].created
	case "payment_methods":
		return s.h.subs[n].created - 30
	case "invoices":
		return s.h.invoices[n].created
	case "payment_intents":
		return s.h.invoices[n].created + hour
	case "disputes":
		return s.h.disputes[n].created
	}
	return s.h.charges[n].created
}

// search is the number of the first row created at t or later.
func (s *shelf) search(t int64) int {
	return sort.Search(s.n, func(i int) bool { return s.created(i) >= t })
}

// attr is the value of a filterable field, "" for the ids that pick has dealt with.
func (s *shelf) attr(n int, field string) string {
	switch s.kind {
	case "subscriptions":
		switch field {
		case "status":
			return s.h.subs[n].status
		case "collection_method":
			return s.h.subs[n].method
		case "price":
			return s.h.subs[n].price.ID
		}
	case "invoices":
		switch field {
		case "status":
			return s.h.invoices[n].status
		case "collection_method":
			return s.h.subs[s.h.invoices[n].sub].method
		}
	case "customers":
		return string(s.h.email(nil, uint32(n)))
	}
	return ""
}

// pick lists the rows that the filter's ids leave over, ascending. picked is false if it names none
// and all rows count. Every row it returns meets the conditions that it marks.
func (s *shelf) pick(f filter) (rows []uint32, picked bool) {
	h := s.h
	for i, c := range f.fields {
		if c.value == "" {
			continue
		}
		var found []uint32
		switch c.field {
		case "customer":
			if n := h.ids["customers"].find(c.value); n >= 0 {
				found = h.ofCustomer(s.kind, uint32(n))
			}
		case "subscription":
			if n := h.ids["subscriptions"].find(c.value); n >= 0 {
				found = h.invoicesOf.of(uint32(n))
			}
		case "payment_intent":
			if n := h.ids["payment_intents"].find(c.value); n >= 0 {
				found = h.chargesOf.of(uint32(n))
				if s.kind == "disputes" {
					found = h.disputesOf(found)
				}
			}
		case "charge":
			if n := h.ids["charges"].find(c.value); n >= 0 {
				found = h.disputesOf([]uint32{uint32(n)})
			}
		default:
			continue
		}
		if picked {
			found = slices.DeleteFunc(slices.Clone(found), func(n uint32) bool { return !slices.Contains(rows, n) })
		}
		rows, picked = found, true
		f.fields[i].onShelf = true
	}
	return rows, picked
}

func (h *history) ofCustomer(kind string, customer uint32) (rows []uint32) {
	subs := h.subsOf.of(customer)
	if kind == "subscriptions" {
		return subs
	}
	for _, s := range subs {
		for _, v := range h.invoicesOf.of(s) {
			switch kind {
			case "invoices":
				rows = append(rows, v)
			case "payment_intents":
				if h.invoices[v].intent != "" {
					rows = append(rows, v)
				}
			case "charges":
				rows = append(rows, h.chargesOf.of(v)...)
			}
		}
	}
	slices.Sort(rows)
	return rows
}

func (h *history) disputesOf(charges []uint32) (rows []uint32) {
	for _, c := range charges {
		if d, ok := h.disputeOf[c]; ok {
			rows = append(rows, d)
		}
	}
	slices.Sort(rows)
	return rows
}
