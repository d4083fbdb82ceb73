package model

import (
	"math"
	"slices"
	"time"
)

// Past is one of a customer's charges, as it is remembered: for this customer alone.
type Past struct {
	At     time.Time // in the customer's zone
	OK     bool
	Weight float64 // of what it says about their money, 0 to 1
}

// remembered is how many charges of a customer are kept.
const remembered = 40

// weightOf is how much a charge says about a customer's money. Most first charges succeed, on
// any day.
func weightOf(ok, first bool, class Class) float64 {
	switch {
	case ok && first:
		return .3
	case ok:
		return 1
	}
	return [classes]float64{1, .5, .2, .5}[class]
}

// moods are how likely an invoice of a customer is to be paid at any time, in log-odds.
var (
	moods     = [...]float64{-4.5, -3, -2, -1, 0, 1.5}
	moodPrior = [...]float64{.15, .15, .2, .2, .15, .15}
)

// shapes are how a payday lifts the log-odds, and for how many days.
var (
	shapes     = [...]struct{ lift, days float64 }{{2.2, 1.6}, {2.2, 7}}
	shapePrior = [...]float64{.6, .4}
)

const guesses = len(shapes) * habits

// guess is one shape of one habit in one mood.
type guess = [len(moods)]float64

// chances are P(ok) for a shape, days since the payday, and a mood; and the logarithms of both
// outcomes.
var chances, logOK, logNo = func() (p, ok, no [len(shapes)][longAgo + 1]guess) {
	for s, shape := range shapes {
		for d := range longAgo + 1 {
			for m, mood := range moods {
				p[s][d][m] = logistic(mood + shape.lift*math.Exp(-float64(d)/shape.days))
				ok[s][d][m], no[s][d][m] = math.Log(p[s][d][m]), math.Log1p(-p[s][d][m])
			}
		}
	}
	return p, ok, no
}()

// paydays are how usual each shape of each habit is.
type paydays [guesses]float64

// before is what is thought of a country's paydays before any charge was seen.
func before(country string) *paydays {
	known := usual(country)
	all := new(paydays)
	for s := range shapes {
		for habit := range habits {
			all[s*habits+habit] = shapePrior[s] * known[habit]
		}
	}
	return all
}

// belief is what a customer's charges leave of all guesses: probabilities that sum to 1.
type belief struct {
	of    [guesses]guess
	level float64 // of the mean chance in this mood, without paydays, in log-odds
}

// evidence is the logarithm of how well each guess explains what is remembered.
func evidence(w weekend, memory []Past) *[guesses]guess {
	logs := new([guesses]guess)
	for _, past := range memory {
		since, table := sincePay(w, past.At), &logNo
		if past.OK {
			table = &logOK
		}
		for s := range shapes {
			for habit, days := range since {
				sum, add := &logs[s*habits+habit], &table[s][days]
				for m := range add {
					sum[m] += past.Weight * add[m]
				}
			}
		}
	}
	return logs
}

// believe weighs all guesses by what is remembered.
func believe(w weekend, memory []Past, prior *paydays) *belief {
	logs, most := evidence(w, memory), math.Inf(-1)
	for g := range logs {
		most = max(most, slices.Max(logs[g][:]))
	}
	b, sum := new(belief), 0.0
	for g := range logs {
		for m := range moods {
			b.of[g][m] = prior[g] * moodPrior[m] * math.Exp(logs[g][m]-most)
			sum += b.of[g][m]
		}
	}
	mean := 0.0
	for g := range b.of {
		for m := range moods {
			b.of[g][m] /= sum
			mean += b.of[g][m] * moodChance[m]
		}
	}
	b.level = logit(mean)
	return b
}

var moodChance = func() (p guess) {
	for m, mood := range moods {
		p[m] = logistic(mood)
	}
	return p
}()

// noLevel is the level of somebody of whom nothing is known.
var noLevel = func() float64 {
	mean := 0.0
	for m := range moods {
		mean += moodPrior[m] * moodChance[m]
	}
	return logit(mean)
}()

// lift is by how much the log-odds of a date lie over those of a day on which no money comes in.
func (b *belief) lift(w weekend, date time.Time) float64 {
	since, mean := sincePay(w, date), 0.0
	for s := range shapes {
		for habit, days := range since {
			of, p := &b.of[s*habits+habit], &chances[s][days]
			for m := range p {
				mean += of[m] * p[m]
			}
		}
	}
	return logit(mean) - b.level
}

// ownHours says for each hour of the day by how much a customer's charges then do better than
// their others, in log-odds.
func ownHours(memory []Past) (own [24]float64) {
	ok, n := .5, 1.0
	for _, past := range memory {
		n += past.Weight
		if past.OK {
			ok += past.Weight
		}
	}
	share := ok / n
	for hour := range own {
		near, paid := 0.0, 0.0
		for _, past := range memory {
			k := past.Weight * near24[(past.At.Hour()-hour+24)%24]
			near += k
			if past.OK {
				paid += k
			}
		}
		own[hour] = math.Log((paid + 2*share) / (near + 2) / share)
	}
	return own
}

// near24 is how much of an hour is true of one so many hours later, around the clock.
var near24 = func() (k [24]float64) {
	for gap := range k {
		least := float64(min(gap, 24-gap))
		k[gap] = math.Exp(-least * least / 8)
	}
	return k
}()

func logistic(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func logit(p float64) float64 { return math.Log(p / (1 - p)) }
