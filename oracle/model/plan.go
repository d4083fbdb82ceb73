package model

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Advice is an answer about one moment.
type Advice struct {
	At         time.Time // zero: charge this debt no more
	P          float64   // chance of success then
	Low, High  float64   // of it, with nine in ten
	Confidence string    // "low", "medium" or "high"
	Propensity float64   // with which this moment was chosen
	Reason     string    // in plain words
}

// The planner's measures.
const (
	hopeless = .01                 // a chance that is not worth a charge
	farthest = 62 * 24 * time.Hour // from the first moment that is looked at
	nights   = 16                  // days that are weighed against each other
	ahead    = 4                   // charges that are planned ahead
	likely   = 1. / 250            // of a guess that is thought through alone
)

// What exploration costs is bounded by how seldom and how far it strays.
const (
	stray    = .06 // share of moments that are drawn
	closer   = .02 // difference of chances that makes a day 2.7 times less likely to be drawn
	sameHour = .01 // and an hour of that day
)

// moment is an hour of the window.
type moment struct {
	at    time.Time
	eta   float64
	p     float64
	parts [parts]float64
}

// night is a local date of the window.
type night struct {
	hours []moment
	best  int // of hours
	value float64
}

// Plan chooses the next moment of a debt within its window: the first of those that together, as
// far as is known, leave the least chance that the debt stays unpaid. With explore, some moments
// are drawn from all days by a die, uniform in [0, 1).
func (m *Model) Plan(q Question, die float64, explore bool) Advice {
	if len(q.Tried) == 0 || q.Left < 1 || q.NotAfter.Before(q.NotBefore) {
		return Advice{Propensity: 1}
	}
	r := m.reader(&q)
	days := r.window()
	r.value(days)
	best := 0
	for i := range days {
		if days[i].value > days[best].value {
			best = i
		}
	}
	chosen, hour, propensity := best, days[best].best, 1.0
	if explore {
		chosen, hour, propensity = draw(days, best, die)
	}
	top := 0.0
	for _, d := range days {
		top = max(top, d.hours[d.best].p)
	}
	if top < hopeless {
		return Advice{P: top, Propensity: 1}
	}
	advice := r.advise(days[chosen].hours[hour], days)
	advice.Propensity = propensity
	return advice
}

// Choices are the best moments of different days, the best first: most at most. Each is valued by
// the chance that the debt is paid at all, if the next charge is made then.
func (m *Model) Choices(q Question, most int) []Advice {
	if len(q.Tried) == 0 || q.Left < 1 || q.NotAfter.Before(q.NotBefore) {
		return nil
	}
	r := m.reader(&q)
	days := r.window()
	r.value(days)
	by := slices.Clone(days)
	slices.SortStableFunc(by, func(a, b night) int { return cmp.Compare(b.value, a.value) })
	var all []Advice
	for _, d := range by[:min(most, len(by))] {
		all = append(all, r.advise(d.hours[d.best], days))
	}
	return all
}

// At is what is known of a moment's chance, without words. The question has been tried once at
// least.
func (m *Model) At(q Question, at time.Time) Advice {
	return m.reader(&q).advise(moment{at: at}, nil)
}

// Chance is the advice about a moment that is given.
func (m *Model) Chance(q Question, at time.Time) Advice {
	if len(q.Tried) == 0 {
		return Advice{At: at, P: .001, High: 1, Confidence: "low", Propensity: 1, Reason: reasons[standing]}
	}
	r := m.reader(&q)
	advice := r.advise(r.moment(at), r.window())
	advice.Propensity = 1
	return advice
}

func (r *reader) moment(at time.Time) moment {
	by, _ := r.odds(at)
	eta := sum(by)
	return moment{at: at, eta: eta, p: bounded(logistic(eta)), parts: by}
}

// window lists the full hours of the window by their local date; the first moment alone where it
// has none. Of a long one only the most likely days are left.
func (r *reader) window() []night {
	from, to := r.q.NotBefore, r.q.NotAfter
	if limit := from.Add(farthest); to.After(limit) {
		to = limit
	}
	first := from.Truncate(time.Hour)
	if first.Before(from) {
		first = first.Add(time.Hour)
	}
	if first.After(to) {
		return []night{{hours: []moment{r.moment(from)}}}
	}
	var days []night
	date := -1
	for at := first; !at.After(to); at = at.Add(time.Hour) {
		if yearDay := at.In(r.q.Zone).YearDay(); yearDay != date {
			date = yearDay
			days = append(days, night{})
		}
		d := &days[len(days)-1]
		d.hours = append(d.hours, r.moment(at))
		if d.hours[len(d.hours)-1].p > d.hours[d.best].p {
			d.best = len(d.hours) - 1
		}
	}
	if len(days) > nights {
		by := func(d night) float64 { return d.hours[d.best].p }
		slices.SortStableFunc(days, func(a, b night) int { return cmp.Compare(by(b), by(a)) })
		days = days[:nights]
		slices.SortFunc(days, func(a, b night) int { return a.hours[0].at.Compare(b.hours[0].at) })
	}
	return days
}

// possible is one guess, or what is left of all others, with the log-odds by which it differs from
// the mean on each day.
type possible struct {
	weight float64
	shift  []float64
}

// possibilities are the guesses about a customer that matter. Their chances on a day average to the
// day's: what is learned when a charge fails is which of them are less likely.
func (r *reader) possibilities(days []night) []possible {
	class := r.cell.Class
	lift := r.of(liftBlock, term{key: key{liftBlock, class, ""}}).Mean
	level := r.of(levelBlock, term{key: key{levelBlock, class, ""}}).Mean
	lift, level = min(max(lift, .2), 1.2), min(max(level, .2), 1.2)
	since := make([]*[habits]uint8, len(days))
	lifts := make([]float64, len(days))
	for i, d := range days {
		local := d.hours[d.best].at.In(r.q.Zone)
		since[i] = sincePay(r.weekend, local)
		lifts[i] = r.belief.lift(r.weekend, local)
	}
	var all []possible
	left := 1.0
	for g := range r.belief.of {
		shape, habit := g/habits, g%habits
		for m, weight := range r.belief.of[g] {
			if weight < likely {
				continue
			}
			one := possible{weight, make([]float64, len(days))}
			for i := range days {
				own := shapes[shape].lift * math.Exp(-float64(since[i][habit])/shapes[shape].days)
				one.shift[i] = level*(moods[m]-r.belief.level) + lift*(own-lifts[i])
			}
			left -= weight
			all = append(all, one)
		}
	}
	return append(all, possible{max(left, 0), make([]float64, len(days))})
}

// value gives each day the chance that the debt is paid at all if the next charge is made on it and
// later ones are made as well as can be.
func (r *reader) value(days []night) {
	all := r.possibilities(days)
	fails := make([][]float64, len(days)) // of each possibility, by day
	for i := range days {
		fails[i] = failing(days[i].hours[days[i].best].eta, all, i)
	}
	weights := make([]float64, len(all))
	for g := range all {
		weights[g] = all[g].weight
	}
	gaps := r.gaps(days)
	depth := min(r.q.Left, ahead)
	open := make([][]float64, depth+1) // what is still unpaid, by how many charges were made
	for i := range open {
		open[i] = make([]float64, len(all))
	}
	var search func(used, last int) float64
	search = func(used, last int) (least float64) {
		for _, x := range open[used] {
			least += x
		}
		if used == depth {
			return least
		}
		for next := last + 1; next < len(days); next++ {
			factor := gaps[last][next]
			for g, x := range open[used] {
				f := fails[next][g]
				open[used+1][g] = x * f / (f + (1-f)*factor)
			}
			least = min(least, search(used+1, next))
		}
		return least
	}
	for i := range days {
		for g, x := range weights {
			open[1][g] = x * fails[i][g]
		}
		days[i].value = 1 - search(1, i)
	}
}

// gaps are by how much the odds of a charge on a day change for one made on an earlier day.
func (r *reader) gaps(days []night) [][]float64 {
	of := func(wait time.Duration) float64 {
		return r.of(gapBlock, term{key: key{gapBlock, r.cell.Class, ""}, place: int(waitOf(wait))}).Mean
	}
	last := r.q.Tried[len(r.q.Tried)-1].At
	all := make([][]float64, len(days))
	for i, d := range days {
		all[i] = make([]float64, len(days))
		for j := i + 1; j < len(days); j++ {
			at := days[j].hours[days[j].best].at
			all[i][j] = math.Exp(of(at.Sub(d.hours[d.best].at)) - of(at.Sub(last)))
		}
	}
	return all
}

// failing are the chances that a charge on a day fails, for each possibility, whose mean is that of
// the day.
func failing(eta float64, all []possible, day int) []float64 {
	fails, want, delta := make([]float64, len(all)), logistic(eta), 0.0
	for range 4 {
		mean, slope := 0.0, 1e-9
		for g, one := range all {
			p := logistic(eta + one.shift[day] + delta)
			fails[g] = 1 - p
			mean += one.weight * p
			slope += one.weight * p * (1 - p)
		}
		delta += min(max((want-mean)/slope, -2), 2)
	}
	return fails
}

// draw is mostly the best hour, and else an hour of a day that are drawn, the more
// likely the better they are. Propensity is how likely it was to be chosen, either way.
func draw(days []night, best int, die float64) (day, hour int, propensity float64) {
	byDay := make([]float64, len(days))
	for i := range days {
		byDay[i] = (days[i].value - days[best].value) / closer
	}
	softmax(byDay)
	day, hour = best, days[best].best
	if die < stray {
		var within float64
		day, within = pick(byDay, die/stray)
		hour, _ = pick(hoursOf(days[day]), within)
	}
	propensity = stray * byDay[day] * hoursOf(days[day])[hour]
	if day == best && hour == days[best].best {
		propensity += 1 - stray
	}
	return day, hour, propensity
}

func hoursOf(d night) []float64 {
	by := make([]float64, len(d.hours))
	for i, h := range d.hours {
		by[i] = (h.p - d.hours[d.best].p) / sameHour
	}
	softmax(by)
	return by
}

// softmax makes probabilities of numbers of which the largest is 0.
func softmax(x []float64) {
	sum := 0.0
	for i := range x {
		x[i] = math.Exp(x[i])
		sum += x[i]
	}
	for i := range x {
		x[i] /= sum
	}
}

// pick chooses by a die, and leaves the die within what was chosen.
func pick(shares []float64, die float64) (i int, within float64) {
	for i, share := range shares {
		if die < share {
			return i, die / share
		}
		die -= share
	}
	return len(shares) - 1, .5 // what rounding has left
}

// reasons are what may speak for a moment, in plain words.
var reasons = [parts]string{
	standing: "no moment is better than another",
	waiting:  "by then enough time has passed since the last refusal",
	clock:    "charges like this one succeed more often at this hour",
	weekdays: "charges like this one succeed more often on this day of the week",
	money:    "money tends to come in just before, as far as this customer's charges and their country's paydays tell",
	habit:    "this customer's earlier payments came in at about this hour",
}

// advise says what is known of a moment among those of its window.
func (r *reader) advise(chosen moment, days []night) Advice {
	by, variance := r.odds(chosen.at)
	eta, sd := sum(by), math.Sqrt(variance)
	const nine = 1.645
	advice := Advice{
		At: chosen.at, P: bounded(logistic(eta)), Low: bounded(logistic(eta - nine*sd)), High: bounded(logistic(eta + nine*sd)),
		Confidence: "high",
	}
	switch {
	case sd > .5:
		advice.Confidence = "low"
	case sd > .25:
		advice.Confidence = "medium"
	}
	if len(days) == 0 {
		return advice
	}
	var mean [parts]float64
	n := 0.0
	for _, d := range days {
		for _, h := range d.hours {
			for i, x := range h.parts {
				mean[i] += x
			}
			n++
		}
	}
	first, second := standing, standing
	more := [parts]float64{standing: .05} // less than that says nothing
	for i := standing + 1; i < parts; i++ {
		more[i] = by[i] - mean[i]/n
		switch {
		case more[i] > more[first]:
			first, second = i, first
		case more[i] > more[second]:
			second = i
		}
	}
	advice.Reason = reasons[first]
	if second != standing {
		advice.Reason += "; " + reasons[second]
	}
	return advice
}
