// Package model is what the oracle thinks with: from counts of charges it learns how likely the
// next one of an invoice is to succeed at each hour, and plans when to make it. It knows no
// database, no network and no clock, and the same input always has the same output.
//
// The model is a logistic regression, fitted anew from counts each night ([Learn]), whose
// coefficients are trusted on three levels: what all merchants share, what is a merchant's own, and
// what is remembered of a customer, which is used for that customer alone. docs/oracle.md has the
// maths and where it comes from.
package model

import (
	"math"
	"time"
)

// Model is what one night has learned. It is not changed after that. Two of them from the same
// counts are the same.
type Model struct {
	coefficients map[key][]coefficient
	paydays      map[string]*paydays // by country, "" for all others
}

// Debt is a failed invoice with what is known of who owes it. Names are opaque; what is empty or
// unknown counts for nothing.
type Debt struct {
	Merchant string
	Category string
	Country  string // of the card, ISO 3166
	Zone     *time.Location
	Brand    string
	Funding  string
	Amount   int64 // minor units
	Decimals int   // of the currency
}

// Tried is a charge of a debt that has failed.
type Tried struct {
	At    time.Time
	Class Class
	Code  string
}

// Question is what is asked about a debt.
type Question struct {
	Debt
	Tried     []Tried // all its charges, the oldest first
	Memory    []Past  // the customer's charges, these included
	NotBefore time.Time
	NotAfter  time.Time
	Left      int // charges that may still be made
}

// paydaysOf is what is thought of a country's paydays: what was learned there, or everywhere, or
// what is widely known.
func (m *Model) paydaysOf(country string) *paydays {
	if learned := m.paydays[country]; learned != nil {
		return learned
	}
	everywhere := m.paydays[""]
	switch {
	case everywhere == nil:
		return before(country)
	case customs[country] == nil:
		return everywhere
	}
	known := before(country)
	for g := range known {
		known[g] = (known[g] + everywhere[g]) / 2
	}
	return known
}

// reader reads the model for one question: what does not depend on the moment is looked up once.
type reader struct {
	model   *Model
	q       *Question
	weekend weekend
	belief  *belief
	cell    Cell // of the debt, without a moment
	own     [24]float64
	days    map[int]day // by local date
	// what was learned of each block for this debt; nil: nothing
	learned [blocks][]coefficient
}

// day is what a local date adds.
type day struct {
	rest bool
	lift float64
}

func (m *Model) reader(q *Question) *reader {
	w := weekendOf(q.Country)
	last := q.Tried[len(q.Tried)-1]
	r := &reader{
		model: m, q: q, weekend: w, own: ownHours(q.Memory), days: make(map[int]day),
		belief: believe(w, q.Memory, m.paydaysOf(q.Country)),
		cell:   cellOf(q.Debt, last, len(q.Tried)),
	}
	c := r.cell
	if c.Funding == "debit" {
		c.Hour = 0
	}
	c.Rest, c.Lift, c.Level, c.Own = true, 4, 4, 4 // so that all have a term
	for b, t := range c.terms(q.Merchant) {
		r.learned[b] = m.coefficients[t.key]
	}
	return r
}

// of is what was learned of a term, its prior where that is nothing.
func (r *reader) of(b block, t term) coefficient {
	if learned := r.learned[b]; learned != nil {
		return learned[t.place]
	}
	variance := kinds[b].sd * kinds[b].sd
	switch {
	case kinds[b].hours:
		variance *= reach
	case kinds[b].steps:
		variance *= float64(t.place + 1)
	}
	return coefficient{t.key.prior(t.place), variance}
}

// cellOf is the cell of a debt's next charge, without a moment.
func cellOf(d Debt, last Tried, tried int) Cell {
	return Cell{
		Class: last.Class, Code: last.Code, Attempt: uint8(min(max(tried, 1), 5) - 1),
		Category: d.Category, Country: d.Country, Funding: d.Funding, Brand: d.Brand, Amount: amountOf(d.Amount, d.Decimals),
	}
}

// part is a sort of reason for a chance.
type part uint8

// The parts of the log-odds of a moment.
const (
	standing part = iota // what does not depend on the moment
	waiting
	clock
	weekdays
	money
	habit
	parts
)

var partOf = [blocks]part{
	ageBlock: waiting, gapBlock: waiting,
	hourBlock: clock, restHourBlock: clock, categoryHourBlock: clock, categoryRestHourBlock: clock, countryHourBlock: clock,
	merchantHourBlock: clock, midnightBlock: clock,
	weekdayBlock: weekdays, categoryWeekdayBlock: weekdays, merchantWeekdayBlock: weekdays,
	liftBlock: money, liftAmountBlock: money, ownBlock: habit,
}

// odds are the log-odds of a charge at a moment, by their parts, and the variance of their sum.
func (r *reader) odds(at time.Time) (by [parts]float64, variance float64) {
	local := at.In(r.q.Zone)
	date := local.Year()*366 + local.YearDay()
	today, known := r.days[date]
	if !known {
		today = day{r.weekend.has(local.Weekday()), r.belief.lift(r.weekend, local)}
		r.days[date] = today
	}
	c := r.cell
	c.Billed = uint8(r.q.Tried[0].At.In(r.q.Zone).Hour())
	c.Hour, c.Weekday, c.Rest = uint8(local.Hour()), uint8(local.Weekday()), today.rest
	c.Age, c.Gap = waitOf(at.Sub(r.q.Tried[0].At)), waitOf(at.Sub(r.q.Tried[len(r.q.Tried)-1].At))
	terms := c.terms(r.q.Merchant)
	amount := float64(c.Amount)
	put := func(b block, class Class, value float64) { terms[b] = term{key{b, class, ""}, 0, value} }
	put(liftBlock, c.Class, today.lift)
	put(levelBlock, c.Class, r.belief.level-noLevel)
	put(liftAmountBlock, 0, today.lift*amount)
	put(ownBlock, c.Class, r.own[c.Hour])
	by[clock] = daylight(int(c.Hour))
	for b, t := range terms {
		if t.value == 0 {
			continue
		}
		learned := r.of(block(b), t)
		by[partOf[b]] += t.value * learned.Mean
		variance += t.value * t.value * learned.Variance
	}
	return by, variance
}

func sum(by [parts]float64) (eta float64) {
	for _, x := range by {
		eta += x
	}
	return eta
}

// New is what is known before anything was learned.
func New() *Model { return &Model{} }

// Sound says that no coefficient is larger than any that charges can teach: one that is shows that
// something is wrong with what was told, or with how it was learned.
func (m *Model) Sound() bool {
	const most = 6
	for _, all := range m.coefficients {
		for _, c := range all {
			if !(math.Abs(c.Mean) <= most) {
				return false
			}
		}
	}
	return true
}

// bounded keeps chances within what a charge can have.
func bounded(p float64) float64 {
	if math.IsNaN(p) {
		return .001
	}
	return min(max(p, .001), .999)
}
