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
	customers map[string]*customer
	counts    []dated
}

// dated is one charge, with its month.
type dated struct {
	month time.Time
	count Count
}

type customer struct {
	id       string
	country  string
	memory   []charge
	invoices map[string][]Tried
}

// charge is a past one with its invoice.
type charge struct {
	Past
	invoice string
}

// Charge is one that was made.
type Charge struct {
	Debt
	Customer string
	Invoice  string
	Attempt  int // 1 is the invoice's first charge
	At       time.Time
	OK       bool
	Class    Class // of a failure
	Code     string
	Ours     bool // the oracle chose the moment
	Alone    bool // the customer paid of their own accord: failures of that kind are not seen
}

// NewLedger knows what the product knows before any charge.
func NewLedger() *Ledger { return &Ledger{model: New(), merchants: make(map[string]*merchant)} }

// Tell adds a charge. The customer's memory has it at once, the model from the next
// [Ledger.Rebuild] on.
func (l *Ledger) Tell(c Charge) {
	of := l.merchants[c.Merchant]
	if of == nil {
		of = &merchant{customers: make(map[string]*customer)}
		l.merchants[c.Merchant] = of
	}
	who := of.customers[c.Customer]
	if who == nil {
		who = &customer{id: c.Customer, invoices: make(map[string][]Tried)}
		of.customers[c.Customer] = who
	}
	who.country = c.Country
	if tried := who.invoices[c.Invoice]; len(tried) > 0 && !c.Alone {
		of.counts = append(of.counts, dated{monthOf(c.At), CountOf(c, tried, who.past(""))})
	}
	who.remember(c)
}

func monthOf(at time.Time) time.Time {
	return time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// CountOf is what a charge tells the model, by what its invoice's charges and the customer's were
// before it. It goes by what is widely known of paydays and not by what was learned of them: else
// those from whom that was learned would show through for as long as it is kept.
func CountOf(c Charge, tried []Tried, memory []Past) Count {
	w, local := weekendOf(c.Country), c.At.In(c.Zone)
	last := tried[len(tried)-1]
	cell := cellOf(c.Debt, last, len(tried))
	cell.Age, cell.Gap = waitOf(c.At.Sub(tried[0].At)), waitOf(c.At.Sub(last.At))
	cell.Weekday, cell.Hour, cell.Rest = uint8(local.Weekday()), uint8(local.Hour()), w.has(local.Weekday())
	cell.Billed = uint8(tried[0].At.In(c.Zone).Hour())
	b := believe(w, memory, before(c.Country))
	cell.Lift, cell.Level, cell.Own = quarter(b.lift(w, local)), quarter(b.level-noLevel), quarter(ownHours(memory)[cell.Hour])
	return Count{Merchant: c.Merchant, Ours: c.Ours, Cell: cell, Attempts: 1, Successes: flag(c.OK)}
}

// remember keeps a charge among the last ones.
func (who *customer) remember(c Charge) {
	past := Past{At: c.At.In(c.Zone), OK: c.OK, Weight: weightOf(c.OK, c.Attempt <= 1, c.Class)}
	who.memory = append(who.memory, charge{past, c.Invoice})
	if len(who.memory) > remembered {
		who.memory = slices.Delete(who.memory, 0, len(who.memory)-remembered)
	}
	if c.OK {
		delete(who.invoices, c.Invoice)
		return
	}
	who.invoices[c.Invoice] = append(who.invoices[c.Invoice], Tried{c.At, c.Class, c.Code})
}

// past is what is remembered, but for one invoice.
func (who *customer) past(but string) []Past {
	if who == nil {
		return nil
	}
	all := make([]Past, 0, len(who.memory)+4)
	for _, c := range who.memory {
		if but == "" || c.invoice != but {
			all = append(all, c.Past)
		}
	}
	return all
}

// MemoryOf is what is remembered of a customer, with an invoice's own failures as they are told in
// a question: not all of them need be known.
func (l *Ledger) MemoryOf(merchant, customer, invoice string, zone *time.Location, tried []Tried) []Past {
	var memory []Past
	if of := l.merchants[merchant]; of != nil {
		memory = of.customers[customer].past(invoice)
	}
	return Remember(memory, zone, tried)
}

// Remember adds an invoice's failures to what is remembered of a customer.
func Remember(memory []Past, zone *time.Location, tried []Tried) []Past {
	for _, t := range tried {
		memory = append(memory, Past{At: t.At.In(zone), Weight: weightOf(false, false, t.Class)})
	}
	slices.SortStableFunc(memory, func(a, b Past) int { return a.At.Compare(b.At) })
	return memory[max(len(memory)-remembered, 0):]
}

// Model is the last night's.
func (l *Ledger) Model() *Model { return l.model }

// Rebuild makes a night's model from all that was told and not forgotten.
func (l *Ledger) Rebuild(now time.Time) {
	var counts []Count
	var customers []Customer
	for _, name := range slices.Sorted(maps.Keys(l.merchants)) {
		of := l.merchants[name]
		for _, d := range of.counts {
			age := max(now.Sub(d.month.AddDate(0, 0, 15)).Hours()/24, 0) // of a charge in the midst of the month
			d.count.Age = age
			counts = append(counts, d.count)
		}
		for _, who := range of.customers {
			customers = append(customers, Customer{Merchant: name, ID: who.id, Country: who.country, Memory: who.past("")})
		}
	}
	l.model = Learn(merge(counts), customers)
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
