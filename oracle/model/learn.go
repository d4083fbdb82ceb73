package model

import (
	"cmp"
	"math"
	"slices"
)

// Customer is what is remembered of one customer, for a night's fit of paydays.
type Customer struct {
	Merchant string
	ID       string // unique within the merchant
	Country  string
	Memory   []Past
}

// Learn is a night's work: a model from all that is known. Nothing goes into it but what is given.
func Learn(counts []Count, customers []Customer) *Model {
	return &Model{coefficients: learn(counts), paydays: learnPaydays(customers)}
}

// A customer tells something about paydays who has so many failures and as many successes.
const tells = 2

// strength is how many customers what was known before weighs as much as.
const strength = 15

// learnPaydays finds how usual each habit is, in each country that has enough merchants, by two
// steps of expectation and maximisation.
func learnPaydays(customers []Customer) map[string]*paydays {
	type teller struct {
		country  string
		weight   float64
		explains *paydays
	}
	var all []teller
	customers = slices.Clone(customers)
	slices.SortFunc(customers, func(a, b Customer) int { // sums of floats depend on their order
		return cmp.Or(cmp.Compare(a.Merchant, b.Merchant), cmp.Compare(a.ID, b.ID))
	})
	count := make(map[string]float64)
	for _, c := range customers {
		count[c.Merchant]++
	}
	shares := share(count)
	merchants := make(map[string]map[string]bool)
	for _, c := range customers {
		ok, no := 0, 0
		for _, past := range c.Memory {
			if past.OK {
				ok++
			} else {
				no++
			}
		}
		if ok < tells || no < tells {
			continue
		}
		all = append(all, teller{c.Country, shares[c.Merchant], explain(evidence(weekendOf(c.Country), c.Memory))})
		for _, country := range []string{"", c.Country} {
			if merchants[country] == nil {
				merchants[country] = make(map[string]bool)
			}
			merchants[country][c.Merchant] = true
		}
	}
	learned := make(map[string]*paydays)
	var countries []string
	for country, of := range merchants {
		if len(of) >= enough {
			countries = append(countries, country)
		}
	}
	slices.Sort(countries)
	for _, country := range countries {
		learned[country] = before(country)
	}
	for range 2 {
		next := make(map[string]*paydays)
		for _, country := range countries { // "" comes first
			sums, n := new(paydays), 0.0
			for i := range all {
				t := &all[i]
				if country != "" && t.country != country {
					continue
				}
				n += t.weight
				total := 0.0
				for g, x := range t.explains {
					total += learned[country][g] * x
				}
				for g, x := range t.explains {
					sums[g] += t.weight * learned[country][g] * x / total
				}
			}
			base := before(country)
			if country != "" && customs[country] == nil {
				base = next[""]
			}
			for g := range sums {
				sums[g] = (strength*base[g] + sums[g]) / (strength + n)
			}
			next[country] = sums
		}
		learned = next
	}
	return learned
}

// explain is how well each guess explains what is remembered, whatever the mood.
func explain(logs *[guesses]guess) *paydays {
	most, all := math.Inf(-1), new(paydays)
	for g := range logs {
		most = max(most, slices.Max(logs[g][:]))
	}
	for g := range logs {
		for m := range moods {
			all[g] += moodPrior[m] * math.Exp(logs[g][m]-most)
		}
	}
	return all
}
