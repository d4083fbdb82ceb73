package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// No merchant has more than a quarter of the weight, of all and of their category; where fewer than
// six are, nothing is shared and nothing is taken away.
func TestNobodyRules(t *testing.T) {
	t.Parallel()
	var counts []Count
	add := func(merchant, category string, n int32) {
		counts = append(counts, Count{Merchant: merchant, Ours: true, Cell: Cell{Category: category}, Attempts: n})
	}
	for i := range 40 {
		add(fmt.Sprint("acct_s", i), "software", 100)
	}
	for i := range 5 {
		add(fmt.Sprint("acct_m", i), "media", 10*(1+int32(i)))
	}
	add("acct_loud", "media", 6000)
	add("acct_other", "media", 500)
	add("acct_alone", "travel", 300)
	f := newFit(counts)
	all, media := 0.0, 0.0
	for i, c := range counts {
		all += f.n[i]
		if c.Cell.Category == "media" {
			media += f.n[i]
		}
	}
	for i, c := range counts {
		if f.n[i] > most*all+1e-6 {
			t.Errorf("%s has %.1f of %.1f", c.Merchant, f.n[i], all)
		}
		if c.Cell.Category == "media" && f.n[i] > most*media+1e-6 {
			t.Errorf("%s has %.1f of the %.1f of media", c.Merchant, f.n[i], media)
		}
		if c.Merchant == "acct_alone" && f.n[i] != 300 {
			t.Errorf("of who is alone in their category %.1f is left", f.n[i])
		}
	}
}

// No merchant has more than a quarter of anything that is shared, among merchants of any size and
// kind.
func TestNobodyRulesAnything(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 3))
	for range 50 {
		var counts []Count
		for m := range 6 + r.IntN(40) {
			for range 1 + r.IntN(3) {
				counts = append(counts, Count{Merchant: fmt.Sprint(m), Ours: true, Attempts: 1 + int32(math.Exp(8*r.Float64())), Cell: Cell{
					Class: Class(r.IntN(4)), Category: fmt.Sprint("c", r.IntN(12)), Country: fmt.Sprint("x", r.IntN(4)), Code: fmt.Sprint("d", r.IntN(3)),
				}})
			}
		}
		slices.SortFunc(counts, compare)
		f := newFit(counts)
		of := make(map[string]map[string]float64)
		for i, c := range counts {
			for _, group := range []string{"all", fmt.Sprint("class ", c.Cell.Class), c.Cell.Category, c.Cell.Country, c.Cell.Code} {
				if of[group] == nil {
					of[group] = make(map[string]float64)
				}
				of[group][c.Merchant] += f.n[i]
			}
		}
		for group, weights := range of {
			sum, largest := 0.0, 0.0
			for _, weight := range weights {
				sum, largest = sum+weight, max(largest, weight)
			}
			if len(weights) >= Enough && largest > most*sum*1.001 {
				t.Errorf("one of %d merchants has %.4f of %s", len(weights), largest/sum, group)
			}
		}
	}
}

func someCounts() ([]Count, *rand.Rand) {
	r := rand.New(rand.NewPCG(1, 1))
	var counts []Count
	for i := range 400 {
		counts = append(counts, Count{Merchant: fmt.Sprint(i % 7), Attempts: 3, Successes: r.Int32N(4), Age: float32(r.IntN(90)), Cell: Cell{
			Class: Class(r.IntN(4)), Code: "c", Attempt: uint8(r.IntN(5)), Age: uint8(r.IntN(6)), Gap: uint8(r.IntN(6)), Category: "media",
			Country: "US", Funding: "debit", Amount: int8(r.IntN(9) - 4), Weekday: uint8(r.IntN(7)), Hour: uint8(r.IntN(24)), Rest: r.IntN(3) == 0,
			Billed: uint8(r.IntN(24)), Lift: int8(r.IntN(9)), Level: int8(r.IntN(9) - 4), Own: int8(r.IntN(5)),
		}})
	}
	return counts, r
}

// Counts that come in another order make the same model.
func TestOrderOfCounts(t *testing.T) {
	t.Parallel()
	counts, r := someCounts()
	other := slices.Clone(counts)
	r.Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
	if !reflect.DeepEqual(learn(counts), learn(other)) {
		t.Error("another order makes another model")
	}
}

// The slopes that the fit follows are those of its loss.
func TestGradient(t *testing.T) {
	t.Parallel()
	counts, r := someCounts()
	f := newFit(counts)
	theta := make([]float64, len(f.sd))
	for i := range theta {
		if f.sd[i] > 0 {
			theta[i] = r.NormFloat64() / 2
		}
	}
	_, gradient, curvature := f.loss(theta)
	v := make([]float64, len(theta))
	for i := range v {
		if f.sd[i] > 0 {
			v[i] = r.NormFloat64()
		}
	}
	at := func(step float64) (loss, slope float64) {
		moved := make([]float64, len(theta))
		for i := range moved {
			moved[i] = theta[i] + step*v[i]
		}
		loss, g, _ := f.loss(moved)
		for i := range g {
			slope += g[i] * v[i]
		}
		return loss, slope
	}
	const step = 1e-5
	right, rightSlope := at(step)
	left, leftSlope := at(-step)
	slope, bend := 0.0, 0.0
	for i, hv := range f.times(v, curvature) {
		slope += gradient[i] * v[i]
		bend += hv * v[i]
	}
	if measured := (right - left) / (2 * step); math.Abs(measured-slope) > 1e-4*math.Abs(slope) {
		t.Errorf("the slope is %v, and the gradient says %v", measured, slope)
	}
	if measured := (rightSlope - leftSlope) / (2 * step); math.Abs(measured-bend) > 1e-4*math.Abs(bend) {
		t.Errorf("the bend is %v, and the second derivative says %v", measured, bend)
	}
	best := f.solve(make([]float64, len(theta)), still)
	_, gradient, _ = f.loss(best)
	for i, g := range gradient {
		if math.Abs(g) > 1e-3 {
			t.Fatalf("after the fit coefficient %d still slopes by %v", i, g)
		}
	}
}

// The hour at which merchants charge first moves no hour of the heatmap: it says who is charged,
// and not when charges succeed.
func TestHeatmapWithoutFirstHours(t *testing.T) {
	t.Parallel()
	billed := make([]coefficient, 24)
	billed[3] = coefficient{Mean: 2, Variance: .01}
	m := &Model{coefficients: map[key][]coefficient{{billedBlock, 0, ""}: billed}}
	if got, want := m.Heatmap(Debt{Country: "US"}, Timed, time.Unix(0, 0)), New().Heatmap(Debt{Country: "US"}, Timed, time.Unix(0, 0)); got != want {
		t.Errorf("3 o'clock is %.3f, before %.3f", got.Hours[1][3].P, want.Hours[1][3].P)
	}
}
