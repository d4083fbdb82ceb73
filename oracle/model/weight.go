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
func share(weights []float64) (parts []float64) {
	limit, told := math.Inf(1), 0
	for _, weight := range weights {
		told += flag(weight > 0)
	}
	if told >= Enough {
		for range 100 {
			sum := 0.0
			for _, weight := range weights {
				sum += min(weight, limit)
			}
			limit = most * sum
		}
	}
	parts = make([]float64, len(weights))
	for i, weight := range weights {
		parts[i] = 1
		if weight > limit {
			parts[i] = limit / weight
		}
	}
	return parts
}

// ruled are the blocks whose coefficients one merchant might rule. Those of a class are ruled by
// who rules the class, and beside these there is only what is each merchant's own.
var ruled = [...]block{codeBlock, categoryBlock, countryBlock, fundingBlock, brandBlock}

// Limits are set in turns: what lowers one merchant raises the part of the others.
const (
	turns   = 200  // at most
	settled = 1e-4 // of a part that is lowered no more
)

// limit lowers the weights of counts, which are in order of their merchants, until no merchant has
// more than their part: of each class, code, category, country, funding and brand that is shared,
// and of all.
func (f *fit) limit(counts []Count) {
	groups, merchants := f.grouped(counts)
	size := int(merchants[len(counts)-1]) + 1
	const kinds = len(ruled) + 2
	weights := make([]float64, (int(slices.Max(groups))+1)*size)
	for range turns {
		clear(weights)
		for i, n := range f.n {
			for _, g := range groups[i*kinds : (i+1)*kinds] {
				weights[int(g)*size+int(merchants[i])] += n
			}
		}
		least := 1.0
		for g := 1; g*size < len(weights); g++ { // 0 is what says nothing
			parts := share(weights[g*size : (g+1)*size])
			least = min(least, slices.Min(parts))
			copy(weights[g*size:], parts)
		}
		if least > 1-settled {
			return
		}
		for i := range f.n {
			part := 1.0
			for _, g := range groups[i*kinds : (i+1)*kinds] {
				if g > 0 {
					part = min(part, weights[int(g)*size+int(merchants[i])])
				}
			}
			f.n[i] *= part
			f.k[i] *= part
		}
	}
}

// grouped numbers for each count what is shared that it tells of, and its merchant.
func (f *fit) grouped(counts []Count) (groups, merchants []int32) {
	groups = make([]int32, 0, len(counts)*(len(ruled)+2))
	merchants = make([]int32, 0, len(counts))
	numbers := map[int]int32{0: 0}
	number := func(place int) int32 {
		if _, known := numbers[place]; !known {
			numbers[place] = int32(len(numbers))
		}
		return numbers[place]
	}
	for i := range counts {
		for _, b := range ruled {
			groups = append(groups, number(int(f.rows[i*int(blocks)+int(b)])))
		}
		groups = append(groups, number(len(f.sd)+int(counts[i].Cell.Class)), number(len(f.sd)+classes))
		switch {
		case i == 0:
			merchants = append(merchants, 0)
		case counts[i].Merchant == counts[i-1].Merchant:
			merchants = append(merchants, merchants[i-1])
		default:
			merchants = append(merchants, merchants[i-1]+1)
		}
	}
	return groups, merchants
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
