package model

import (
	"cmp"
	"maps"
	"slices"
)

// Learn is a night's work: a model from all that is known. Nothing goes into it but what is given,
// in any order.
func Learn(counts []Count, paid []Paid) *Model {
	return &Model{coefficients: learn(counts), paydays: learnPaydays(paid)}
}

// Paid is what the customers of a merchant in one country tell about paydays: sums over all who
// have failures and successes enough. It goes by what is widely known, so that it depends on nobody
// else.
type Paid struct {
	Merchant  string
	Country   string
	Customers int
	Habits    []float64 // of each guess: of how many customers it is true, as far as is known
}

// A customer tells something about paydays who has so many failures and as many successes.
const tells = 2

// Add adds a customer's charges to p. It reports false for one who tells nothing.
func (p *Paid) Add(memory []Past) bool {
	ok := 0
	for _, past := range memory {
		ok += flag(past.OK)
	}
	if ok < tells || len(memory)-ok < tells {
		return false
	}
	if p.Habits == nil {
		p.Habits = make([]float64, guesses)
	}
	b := believe(weekendOf(p.Country), memory, before(p.Country))
	for g := range b.of {
		for _, weight := range b.of[g] {
			p.Habits[g] += weight
		}
	}
	p.Customers++
	return true
}

// fewCustomers are too few for their sum to be kept: it would be a customer's own paydays.
const fewCustomers = 5

// Pooled are what may be kept of a merchant's countries, in their order: those with few customers
// go together into one without a name, and nothing is left where they are few together.
func Pooled(by map[string]*Paid) (all []Paid) {
	rest := Paid{Habits: make([]float64, guesses)}
	for _, country := range slices.Sorted(maps.Keys(by)) { // sums of floats depend on their order
		p := by[country]
		if country != "" && p.Customers >= fewCustomers {
			all = append(all, *p)
			continue
		}
		rest.Merchant = p.Merchant
		rest.Customers += p.Customers
		for g, x := range p.Habits {
			rest.Habits[g] += x
		}
	}
	if rest.Customers >= fewCustomers {
		all = append(all, rest)
	}
	return all
}

// strength is how many customers what was known before weighs as much as.
const strength = 15

// learnPaydays finds how usual each habit is, everywhere ("") and in each country that has enough
// merchants: a step of expectation and maximisation from what is widely known.
func learnPaydays(paid []Paid) map[string]*paydays {
	paid = slices.DeleteFunc(slices.Clone(paid), func(p Paid) bool { return len(p.Habits) != guesses })
	slices.SortFunc(paid, func(a, b Paid) int { // sums of floats depend on their order
		return cmp.Or(cmp.Compare(a.Merchant, b.Merchant), cmp.Compare(a.Country, b.Country))
	})
	of := make(map[string]map[string]float64) // customers by country and merchant
	for _, p := range paid {
		for _, country := range slices.Compact([]string{"", p.Country}) {
			if of[country] == nil {
				of[country] = make(map[string]float64)
			}
			of[country][p.Merchant] += float64(p.Customers)
		}
	}
	learned := make(map[string]*paydays)
	for _, country := range slices.Sorted(maps.Keys(of)) { // "" comes first
		if len(of[country]) < Enough {
			continue
		}
		names := slices.Sorted(maps.Keys(of[country]))
		weights := make([]float64, len(names))
		for i, name := range names {
			weights[i] = of[country][name]
		}
		parts := share(weights)
		sums, n := before(country), 0.0
		if everywhere := learned[""]; customs[country] == nil && everywhere != nil {
			*sums = *everywhere
		}
		for g := range sums {
			sums[g] *= strength
		}
		for _, p := range paid {
			if country != "" && p.Country != country {
				continue
			}
			at, _ := slices.BinarySearch(names, p.Merchant)
			n += parts[at] * float64(p.Customers)
			for g, x := range p.Habits {
				sums[g] += parts[at] * x
			}
		}
		for g := range sums {
			sums[g] /= strength + n
		}
		learned[country] = sums
	}
	return learned
}
