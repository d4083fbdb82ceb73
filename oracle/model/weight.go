package model

import (
	"math"
	"slices"
)

// What an old charge, and one whose moment was not ours, weighs beside a new one of ours. Merchants
// charge at moments that hang together with who their customers are, which ours do less.
const (
	halfLife = 180 // days in which a weight halves
	notOurs  = .3
)

// The rules of privacy for what merchants share.
const (
	Enough = 6   // merchants stand behind what is shared: five besides the one who asks
	most   = .25 // of all weight is any merchant's
)

// share is by how much each merchant's weight is lowered, so that none has more than their part of
// all. Fewer than [Enough] merchants share nothing, and keep all of theirs.
func share(weights map[string]float64) map[string]float64 {
	limit, all := math.Inf(1), make([]float64, 0, len(weights))
	for _, weight := range weights {
		all = append(all, weight)
	}
	slices.Sort(all) // sums of floats depend on their order
	if len(all) >= Enough {
		for range 100 {
			sum := 0.0
			for _, weight := range all {
				sum += min(weight, limit)
			}
			limit = most * sum
		}
	}
	shares := make(map[string]float64, len(weights))
	for merchant, weight := range weights {
		shares[merchant] = min(1, limit/weight)
	}
	return shares
}

// ruled are the blocks whose coefficients one merchant might rule. Those of a class are ruled by
// who rules the class, and beside these there is only what is each merchant's own.
var ruled = [...]block{codeBlock, categoryBlock, countryBlock, fundingBlock, brandBlock}

// rounds are how often limits are set: what lowers one merchant raises the part of the others.
const rounds = 6

// limit lowers the weights of counts until no merchant has more than their part: of each class,
// code, category, country, funding and brand that is shared, and of all.
func (f *fit) limit(counts []Count) {
	groups := make([]map[string]float64, len(f.sd)+classes+1)
	of := func(i int) [len(ruled) + 2]int {
		var all [len(ruled) + 2]int
		for j, b := range ruled {
			all[j] = int(f.rows[i*int(blocks)+int(b)])
		}
		all[len(ruled)], all[len(ruled)+1] = len(f.sd)+int(counts[i].Cell.Class), len(f.sd)+classes
		return all
	}
	total := func() {
		for g := range groups {
			clear(groups[g])
		}
		for i := range counts {
			for _, g := range of(i) {
				if groups[g] == nil {
					groups[g] = make(map[string]float64)
				}
				groups[g][counts[i].Merchant] += f.n[i]
			}
		}
	}
	lower := func(only func(g int) bool) {
		for g := range groups {
			if g == 0 || groups[g] == nil || !only(g) { // 0 is what says nothing
				groups[g] = nil
				continue
			}
			groups[g] = share(groups[g])
		}
		for i := range counts {
			part := 1.0
			for _, g := range of(i) {
				if shares := groups[g]; shares != nil {
					part = min(part, shares[counts[i].Merchant])
				}
			}
			f.n[i] *= part
			f.k[i] *= part
		}
	}
	for range rounds {
		total()
		lower(func(int) bool { return true })
	}
	total() // of all at the very last
	lower(func(g int) bool { return g == len(f.sd)+classes })
}

// seen notes for each class at which hours of the week enough merchants have charged.
func seen(counts []Count) map[key][]coefficient {
	all := make(map[key][]coefficient)
	var merchants [classes][7 * 24]map[string]bool
	for i := range counts {
		c := &counts[i].Cell
		at := &merchants[c.Class][int(c.Weekday)*24+int(c.Hour)]
		if *at == nil {
			*at = make(map[string]bool)
		}
		(*at)[counts[i].Merchant] = true
	}
	for class := range merchants {
		hours, any := make([]coefficient, 7*24), false
		for i, of := range merchants[class] {
			if len(of) >= Enough {
				hours[i].Mean, any = 1, true
			}
		}
		if any {
			all[key{seenBlock, Class(class), ""}] = hours
		}
	}
	return all
}
