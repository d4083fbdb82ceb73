package model

import (
	"math"
	"slices"
	"time"
)

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

// Customer follows one customer's charges, in order of time.
type Customer struct {
	country  string
	memory   []charge
	invoices map[string][]Tried // the failures of each that is open
}

// charge is a past one with its invoice.
type charge struct {
	Past
	invoice string
}

// NewCustomer is one of whom nothing is known.
func NewCustomer() *Customer { return &Customer{invoices: make(map[string][]Tried)} }

// Tell adds a charge. It counts for the model where it was not the first of its invoice, and
// nobody but who charges chose its moment.
func (who *Customer) Tell(c Charge) (count Count, told bool) {
	who.country = c.Country
	if tried := who.invoices[c.Invoice]; len(tried) > 0 && !c.Alone {
		count, told = countOf(c, tried, who.Memory()), true
	}
	who.Add(c)
	return count, told
}

// Memory is what is remembered, the oldest first.
func (who *Customer) Memory() []Past { return who.past("") }

// MemoryFor is what is remembered for a question about an invoice, whose own failures are those
// that the question tells: not all of them need be known.
func (who *Customer) MemoryFor(invoice string, zone *time.Location, tried []Tried) []Past {
	memory := who.past(invoice)
	for _, t := range tried {
		memory = append(memory, Past{At: t.At.In(zone), Weight: weightOf(false, false, t.Class)})
	}
	slices.SortStableFunc(memory, func(a, b Past) int { return a.At.Compare(b.At) })
	return memory[max(len(memory)-remembered, 0):]
}

// MonthOf is the month of a charge, the finest time that is kept of it.
func MonthOf(at time.Time) time.Time {
	at = at.UTC()
	return time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// AgeOf is how many whole days lie between a month's midst and a night.
func AgeOf(month, night time.Time) float32 {
	return float32(max(math.Floor(night.Sub(month.AddDate(0, 0, 15)).Hours()/24), 0))
}

// countOf is what a charge tells the model, by what its invoice's charges and the customer's were
// before it. It goes by what is widely known of paydays and not by what was learned of them: else
// those from whom that was learned would show through for as long as it is kept.
func countOf(c Charge, tried []Tried, memory []Past) Count {
	w, local := weekendOf(c.Country), c.At.In(c.Zone)
	last := tried[len(tried)-1]
	cell := cellOf(c.Debt, last, len(tried))
	cell.Age, cell.Gap = waitOf(c.At.Sub(tried[0].At)), waitOf(c.At.Sub(last.At))
	cell.Weekday, cell.Hour, cell.Rest = uint8(local.Weekday()), uint8(local.Hour()), w.has(local.Weekday())
	cell.Billed = uint8(tried[0].At.In(c.Zone).Hour())
	b := believe(w, memory, before(c.Country))
	cell.Lift, cell.Level, cell.Own = quarter(b.lift(w, local)), quarter(b.level-noLevel), quarter(ownHours(memory)[cell.Hour])
	return Count{Merchant: c.Merchant, Ours: c.Ours, Cell: cell, Attempts: 1, Successes: int32(flag(c.OK))}
}

// Add keeps a charge among the last ones that are remembered. It counts for nothing else.
func (who *Customer) Add(c Charge) {
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

// CellOf is where a charge at a moment counts that a question is about.
func CellOf(q Question, at time.Time) Cell {
	return countOf(Charge{Debt: q.Debt, At: at}, q.Tried, q.Memory).Cell
}

// past is what is remembered, but for one invoice.
func (who *Customer) past(but string) []Past {
	if who == nil {
		return nil
	}
	all := make([]Past, 0, len(who.memory)+4)
	for _, c := range who.memory {
		if c.invoice != but {
			all = append(all, c.Past)
		}
	}
	return all
}
