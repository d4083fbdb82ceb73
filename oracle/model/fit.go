package model

import (
	"cmp"
	"maps"
	"math"
	"runtime"
	"slices"
)

// Count is a number of charges that are alike, of one merchant and month.
type Count struct {
	Merchant  string
	Age       float32 // days from then to the night of the fit
	Ours      bool    // the moment was the oracle's
	Cell      Cell
	Attempts  int32
	Successes int32
}

// spread is how an hour's coefficients reach its neighbours: what is seen at one hour is true of
// those about it.
var spread = [...]float64{.3, .6, .8, .6, .3}

// group is where the coefficients of a key lie.
type group struct {
	key   key
	first int
}

// fit is a penalised logistic regression over counts, in units of each coefficient's prior.
type fit struct {
	groups []group
	sd     []float64 // 0 for what too few merchants stand behind
	rows   []int32   // of each count, the place of each block's coefficient
	values []float32 // of each count, of the blocks from amountBlock on
	n, k   []float64 // weighted attempts and successes
	offset []float64 // log-odds by the priors
}

const linear = int(blocks - amountBlock)

// learn fits all coefficients to the counts, beginning with their priors. The same counts in any
// order give the same bytes: they are put in order.
func learn(counts []Count) map[key][]coefficient {
	slices.SortFunc(counts, compare)
	tidy := func() {}
	if len(counts) > 100_000 {
		tidy = runtime.GC // a million counts take 130 MB, and what they were read with as much
	}
	tidy()
	f, hours := newFit(counts), seen(counts)
	tidy()
	theta := make([]float64, len(f.sd))
	for range widenings {
		theta = f.solve(theta, roughly)
		f.widen(theta)
	}
	all := f.coefficients(f.solve(theta, still))
	maps.Copy(all, hours)
	return all
}

// Of how wide priors are.
const (
	widenings = 3 // times that it is learned from the coefficients
	firm      = 4 // coefficients that what was thought before weighs as much as
	widest    = 3 // times as wide, or as narrow, as was thought before
)

// widen makes the prior of each block of what is shared as wide as its coefficients differ: wide
// where a block says much, narrow where it says little (MacKay's evidence approximation). What is a
// merchant's own keeps its width: else others would move it.
func (f *fit) widen(theta []float64) {
	_, _, curvature := f.loss(theta)
	diagonal := f.diagonal(curvature)
	var size, free [blocks]float64
	for _, g := range f.groups {
		for at := g.first; at < g.first+kinds[g.key.block].places; at++ {
			size[g.key.block] += f.sd[at] * f.sd[at] * theta[at] * theta[at]
			free[g.key.block] += 1 - 1/diagonal[at]
		}
	}
	for _, g := range f.groups {
		b := g.key.block
		if kinds[b].own {
			continue
		}
		sd := kinds[b].sd
		wide := math.Sqrt((size[b] + firm*sd*sd) / (free[b] + firm))
		wide = min(max(wide, sd/widest), widest*sd)
		for at := g.first; at < g.first+kinds[b].places; at++ {
			if f.sd[at] > 0 {
				theta[at] *= f.sd[at] / wide
				f.sd[at] = wide
			}
		}
	}
}

// rounded leaves of a number what matters. The search for the best coefficients goes over all at
// once: where merchants share nothing, the last digits of their own would still hang on others.
func rounded(x float64) float64 { return math.Round(x*1e4) / 1e4 }

func compare(a, b Count) int {
	x, y := &a.Cell, &b.Cell
	return cmp.Or(
		cmp.Compare(a.Merchant, b.Merchant), cmp.Compare(a.Age, b.Age), cmp.Compare(flag(a.Ours), flag(b.Ours)),
		cmp.Compare(x.Class, y.Class), cmp.Compare(x.Code, y.Code), cmp.Compare(x.Attempt, y.Attempt),
		cmp.Compare(x.Age, y.Age), cmp.Compare(x.Gap, y.Gap), cmp.Compare(x.Category, y.Category),
		cmp.Compare(x.Country, y.Country), cmp.Compare(x.Funding, y.Funding), cmp.Compare(x.Brand, y.Brand),
		cmp.Compare(x.Amount, y.Amount), cmp.Compare(x.Weekday, y.Weekday), cmp.Compare(x.Hour, y.Hour),
		cmp.Compare(flag(x.Rest), flag(y.Rest)), cmp.Compare(x.Billed, y.Billed), cmp.Compare(x.Lift, y.Lift), cmp.Compare(x.Level, y.Level),
		cmp.Compare(x.Own, y.Own), cmp.Compare(a.Attempts, b.Attempts), cmp.Compare(a.Successes, b.Successes),
	)
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

func newFit(counts []Count) *fit {
	f := &fit{}
	index := make(map[key]int)
	for i := range counts {
		for _, term := range counts[i].Cell.terms(counts[i].Merchant) {
			if term.value != 0 {
				index[term.key] = 0
			}
		}
	}
	for _, k := range sortedKeys(index) {
		f.groups = append(f.groups, group{key: k})
	}
	next := 1 // 0 is what says nothing
	for i := range f.groups {
		f.groups[i].first, index[f.groups[i].key] = next, next
		next += kinds[f.groups[i].key.block].places
	}
	f.fill(counts, index, next)
	if len(counts) > 0 {
		f.limit(counts)
	}
	return f
}

// sortedKeys are the keys of a map in their order.
func sortedKeys[V any](m map[key]V) []key {
	return slices.SortedFunc(maps.Keys(m), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.block, b.block), cmp.Compare(a.class, b.class), cmp.Compare(a.name, b.name))
	})
}

// fill makes a row of each count.
func (f *fit) fill(counts []Count, index map[key]int, size int) {
	merchants, last := make([]int, size), make([]string, size)
	f.rows = make([]int32, len(counts)*int(blocks))
	f.values = make([]float32, len(counts)*linear)
	f.n, f.k, f.offset = make([]float64, len(counts)), make([]float64, len(counts)), make([]float64, len(counts))
	for i := range counts {
		c := &counts[i]
		weight := math.Exp2(-float64(c.Age) / halfLife)
		if !c.Ours {
			weight *= notOurs
		}
		f.n[i], f.k[i] = weight*float64(c.Attempts), weight*float64(c.Successes)
		f.offset[i] = daylight(int(c.Cell.Hour))
		for b, term := range c.Cell.terms(c.Merchant) {
			if term.value == 0 {
				continue
			}
			at := index[term.key] + term.place
			f.rows[i*int(blocks)+b] = int32(at)
			if b >= int(amountBlock) {
				f.values[i*linear+b-int(amountBlock)] = float32(term.value)
			}
			f.offset[i] += term.value * term.key.prior(term.place)
			seen := func(at int) {
				if merchants[at] == 0 || last[at] != c.Merchant {
					merchants[at]++
					last[at] = c.Merchant
				}
			}
			switch {
			case kinds[b].hours:
				for d := range spread {
					seen(index[term.key] + (term.place+d-len(spread)/2+24)%24)
				}
			case kinds[b].steps:
				for step := index[term.key]; step <= at; step++ {
					seen(step)
				}
			default:
				seen(at)
			}
		}
	}
	f.sd = make([]float64, size)
	for _, g := range f.groups {
		kind := kinds[g.key.block]
		for at := g.first; at < g.first+kind.places; at++ {
			if kind.own && merchants[at] > 0 || merchants[at] >= Enough {
				f.sd[at] = kind.sd
			}
		}
	}
}

// effects are what coefficients in units of their prior add to log-odds, and transposed the way
// back, from what was gathered of the rows to the coefficients.
func (f *fit) effects(theta []float64) []float64 {
	out := make([]float64, len(theta))
	for i := range theta {
		out[i] = f.sd[i] * theta[i]
	}
	f.mix(out, spread[:])
	for _, g := range f.groups {
		if kind := kinds[g.key.block]; kind.steps {
			for at := g.first + 1; at < g.first+kind.places; at++ {
				out[at] += out[at-1]
			}
		}
	}
	return out
}

func (f *fit) gather(sums []float64) {
	f.mix(sums, spread[:]) // the spread is the same both ways
	f.back(sums)
	for i := range sums {
		sums[i] *= f.sd[i]
	}
}

// back adds to each step what was gathered of those after it.
func (f *fit) back(sums []float64) {
	for _, g := range f.groups {
		if kind := kinds[g.key.block]; kind.steps {
			for at := g.first + kind.places - 2; at >= g.first; at-- {
				sums[at] += sums[at+1]
			}
		}
	}
}

// mix has the hours of each group reach their neighbours.
func (f *fit) mix(x, kernel []float64) {
	var old [24]float64
	for _, g := range f.groups {
		if !kinds[g.key.block].hours {
			continue
		}
		hours := x[g.first : g.first+24]
		copy(old[:], hours)
		for h := range hours {
			hours[h] = 0
			for d, part := range kernel {
				hours[h] += part * old[(h+d-len(kernel)/2+24)%24]
			}
		}
	}
}

// dot is what effects add to the log-odds of a count.
func (f *fit) dot(effects []float64, i int) float64 {
	row, sum := f.rows[i*int(blocks):(i+1)*int(blocks)], 0.0
	for _, at := range row[:amountBlock] {
		sum += effects[at]
	}
	values := f.values[i*linear : (i+1)*linear]
	for j, at := range row[amountBlock:] {
		sum += effects[at] * float64(values[j])
	}
	return sum
}

// add gathers a number for all coefficients of a count.
func (f *fit) add(sums []float64, i int, x float64) {
	row := f.rows[i*int(blocks) : (i+1)*int(blocks)]
	for _, at := range row[:amountBlock] {
		sums[at] += x
	}
	values := f.values[i*linear : (i+1)*linear]
	for j, at := range row[amountBlock:] {
		sums[at] += x * float64(values[j])
	}
}

// loss is the penalised log loss of coefficients, with the gradient and each count's curvature.
func (f *fit) loss(theta []float64) (loss float64, gradient, curvature []float64) {
	effects := f.effects(theta)
	gradient, curvature = make([]float64, len(theta)), make([]float64, len(f.n))
	for i := range f.n {
		eta := f.offset[i] + f.dot(effects, i)
		p := logistic(eta)
		loss += f.n[i]*softplus(eta) - f.k[i]*eta
		curvature[i] = f.n[i] * p * (1 - p)
		f.add(gradient, i, f.n[i]*p-f.k[i])
	}
	f.gather(gradient)
	for i, x := range theta {
		loss += x * x / 2
		gradient[i] += x
	}
	return loss, gradient, curvature
}

// softplus is log(1+exp(x)).
func softplus(x float64) float64 {
	if x > 30 {
		return x
	}
	return math.Log1p(math.Exp(x))
}

// diagonal is that of the second derivative.
func (f *fit) diagonal(curvature []float64) []float64 {
	sums := make([]float64, len(f.sd))
	for i, c := range curvature {
		row := f.rows[i*int(blocks) : (i+1)*int(blocks)]
		for _, at := range row[:amountBlock] {
			sums[at] += c
		}
		for j, at := range row[amountBlock:] {
			v := float64(f.values[i*linear+j])
			sums[at] += c * v * v
		}
	}
	f.mix(sums, squares[:])
	f.back(sums)
	for i := range sums {
		sums[i] = 1 + f.sd[i]*f.sd[i]*sums[i]
	}
	return sums
}

var squares = func() (s [len(spread)]float64) {
	for i, x := range spread {
		s[i] = x * x
	}
	return s
}()

// reach is the variance of an hour beside that of the coefficients it is made of.
var reach = func() (sum float64) {
	for _, x := range squares {
		sum += x
	}
	return sum
}()

// Newton's steps stop when none is larger than this, in units of the priors.
const (
	still   = 1e-4
	roughly = .02 // where only the widths of priors are wanted
	steps   = 20
	within  = 60 // steps of the conjugate gradients within one
)

// solve finds the coefficients of least loss, which is convex, by Newton's method with conjugate
// gradients.
func (f *fit) solve(theta []float64, still float64) []float64 {
	loss, gradient, curvature := f.loss(theta)
	for range steps {
		step := f.step(gradient, curvature)
		largest := 0.0
		for _, x := range step {
			largest = max(largest, math.Abs(x))
		}
		if largest < still {
			break
		}
		next := make([]float64, len(theta))
		for size := 1.0; size > 1e-3; size /= 2 {
			for i := range theta {
				next[i] = theta[i] + size*step[i]
			}
			l, g, c := f.loss(next)
			if l <= loss {
				theta, loss, gradient, curvature = next, l, g, c
				break
			}
		}
	}
	return theta
}

// step solves the second derivative times step = -gradient.
func (f *fit) step(gradient, curvature []float64) []float64 {
	diagonal := f.diagonal(curvature)
	x, r, z, p := make([]float64, len(gradient)), make([]float64, len(gradient)), make([]float64, len(gradient)), make([]float64, len(gradient))
	rz := 0.0
	for i, g := range gradient {
		r[i] = -g
		z[i] = r[i] / diagonal[i]
		p[i] = z[i]
		rz += r[i] * z[i]
	}
	start := rz
	for range within {
		if rz <= start*1e-6 || rz == 0 {
			break
		}
		hp := f.times(p, curvature)
		php := 0.0
		for i := range p {
			php += p[i] * hp[i]
		}
		alpha, before := rz/php, rz
		rz = 0
		for i := range x {
			x[i] += alpha * p[i]
			r[i] -= alpha * hp[i]
			z[i] = r[i] / diagonal[i]
			rz += r[i] * z[i]
		}
		for i := range p {
			p[i] = z[i] + rz/before*p[i]
		}
	}
	return x
}

// times is the second derivative times a vector.
func (f *fit) times(v, curvature []float64) []float64 {
	effects, out := f.effects(v), make([]float64, len(v))
	for i, c := range curvature {
		f.add(out, i, c*f.dot(effects, i))
	}
	f.gather(out)
	for i := range out {
		out[i] += v[i]
	}
	return out
}

// coefficient is what was learned, as it is added to log-odds.
type coefficient struct {
	Mean     float64
	Variance float64
}

func (f *fit) coefficients(theta []float64) map[key][]coefficient {
	_, _, curvature := f.loss(theta)
	variance := f.diagonal(curvature)
	for _, g := range f.groups {
		for at := g.first; at < g.first+kinds[g.key.block].places; at++ {
			wide := f.sd[at]
			if wide == 0 { // nothing was learned
				wide = kinds[g.key.block].sd
			}
			variance[at] = wide * wide / variance[at]
		}
	}
	f.mix(variance, squares[:])
	for _, g := range f.groups {
		if kind := kinds[g.key.block]; kind.steps {
			for at := g.first + 1; at < g.first+kind.places; at++ {
				variance[at] += variance[at-1]
			}
		}
	}
	effects := f.effects(theta)
	all := make(map[key][]coefficient, len(f.groups))
	for _, g := range f.groups {
		kind, known := kinds[g.key.block], false
		learned := make([]coefficient, kind.places)
		for place := range learned {
			at := g.first + place
			learned[place] = coefficient{rounded(g.key.prior(place) + effects[at]), rounded(variance[at])}
			known = known || f.sd[at] > 0
		}
		if known { // of what too few stand behind, not even the name is kept
			all[g.key] = learned
		}
	}
	return all
}
