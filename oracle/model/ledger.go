package model

import (
	"maps"
	"slices"
	"time"
)

// Ledger keeps in memory what the oracle has been told, as its tables do in the product.
type Ledger struct {
	model     *Model
	merchants map[string]*merchant
}

type merchant struct {
	customers map[string]*Customer
	counts    []dated
}

// dated is one charge, with its month.
type dated struct {
	month time.Time
	count Count
}

// NewLedger knows what the product knows before any charge.
func NewLedger() *Ledger { return &Ledger{model: New(), merchants: make(map[string]*merchant)} }

// Tell adds a charge. The customer's memory has it at once, the model from the next
// [Ledger.Rebuild] on.
func (l *Ledger) Tell(c Charge) {
	of := l.merchants[c.Merchant]
	if of == nil {
		of = &merchant{customers: make(map[string]*Customer)}
		l.merchants[c.Merchant] = of
	}
	who := of.customers[c.Customer]
	if who == nil {
		who = NewCustomer()
		of.customers[c.Customer] = who
	}
	if count, told := who.Tell(c); told {
		of.counts = append(of.counts, dated{MonthOf(c.At), count})
	}
}

// MemoryOf is what is remembered of a customer, with an invoice's own failures as they are told in
// a question: not all of them need be known.
func (l *Ledger) MemoryOf(merchant, customer, invoice string, zone *time.Location, tried []Tried) []Past {
	var who *Customer
	if of := l.merchants[merchant]; of != nil {
		who = of.customers[customer]
	}
	return who.MemoryFor(invoice, zone, tried)
}

// Model is the last night's.
func (l *Ledger) Model() *Model { return l.model }

// Rebuild makes a night's model from all that was told and not forgotten.
func (l *Ledger) Rebuild(now time.Time) {
	var counts []Count
	var paid []Paid
	for _, name := range slices.Sorted(maps.Keys(l.merchants)) {
		of := l.merchants[name]
		for _, d := range of.counts {
			d.count.Age = AgeOf(d.month, now)
			counts = append(counts, d.count)
		}
		paid = append(paid, of.paid(name)...)
	}
	l.model = Learn(merge(counts), paid)
}

// paid is what a merchant's customers tell about paydays.
func (of *merchant) paid(name string) []Paid {
	by := make(map[string]*Paid)
	// Sums of floats depend on their order.
	for _, id := range slices.Sorted(maps.Keys(of.customers)) {
		who := of.customers[id]
		if by[who.country] == nil {
			by[who.country] = &Paid{Merchant: name, Country: who.country}
		}
		by[who.country].Add(who.Memory())
	}
	return Pooled(by)
}

// merge makes one of counts that are alike.
func merge(counts []Count) []Count {
	slices.SortFunc(counts, compare)
	merged := counts[:0]
	for _, c := range counts {
		if n := len(merged); n > 0 {
			last := &merged[n-1]
			if last.Merchant == c.Merchant && last.Age == c.Age && last.Ours == c.Ours && last.Cell == c.Cell {
				last.Attempts += c.Attempts
				last.Successes += c.Successes
				continue
			}
		}
		merged = append(merged, c)
	}
	return merged
}

// Forget drops all that a merchant has told. The model goes without it from the next
// [Ledger.Rebuild] on.
func (l *Ledger) Forget(merchant string) { delete(l.merchants, merchant) }
