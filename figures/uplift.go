package figures

import (
	"math"
)

// Arm is one side of the comparison: customers whose window is over, and those of them who paid
// within it all that they had owed when it began.
type Arm struct {
	Customers int64 `json:"customers"`
	Recovered int64 `json:"recovered"`
}

func (a Arm) share() float64 { return float64(a.Recovered) / float64(a.Customers) }

// What a comparison says.
const (
	VerdictMore      = "more is recovered"
	VerdictLess      = "less is recovered"
	VerdictNone      = "no difference shown"
	VerdictNotEnough = "not enough data yet"
)

// Uplift compares customers who were treated with those who were held out, by intention to treat:
// everybody counts in the arm that they were drawn for, no matter what was sent to them.
// Differences are of shares, from -1 to 1, and nil where there is not enough data.
type Uplift struct {
	Treated Arm `json:"treated"`
	HeldOut Arm `json:"held_out"`
	// customers of either arm whose window is not over, or was not a day ago; not in the arms yet
	Waiting int64 `json:"waiting"`
	// the treated share that recovered less the held-out one
	Difference *float64 `json:"difference"`
	Low        *float64 `json:"low"` // 95 % interval of Difference
	High       *float64 `json:"high"`
	// the smallest difference that so many customers would show four times in five
	Detectable *float64 `json:"detectable"`
	Verdict    string   `json:"verdict"`
}

const (
	z95      = 1.959963984540054 // of the normal distribution: 2.5 % lie above
	z80      = 0.8416212335729143
	leastArm = 20 // customers
	// customers expected in each arm who pay, and who do not, if the arms were the same
	leastIn = 5
)

// compare makes the comparison of two arms.
func compare(treated, heldOut Arm, waiting int64) Uplift {
	u := Uplift{Treated: treated, HeldOut: heldOut, Waiting: waiting, Verdict: VerdictNotEnough}
	if !enough(treated, heldOut) {
		return u
	}
	low, high := scoreInterval(treated, heldOut, z95)
	difference, smallest := treated.share()-heldOut.share(), detectable(treated, heldOut)
	u.Difference, u.Low, u.High, u.Detectable = &difference, &low, &high, &smallest
	switch {
	case low > 0:
		u.Verdict = VerdictMore
	case high < 0:
		u.Verdict = VerdictLess
	default:
		u.Verdict = VerdictNone
	}
	return u
}

// enough says whether the comparison may be made at all.
func enough(a, b Arm) bool {
	fewer := float64(min(a.Customers, b.Customers))
	if fewer < leastArm {
		return false
	}
	p := pooled(a, b)
	return fewer*p >= leastIn && fewer*(1-p) >= leastIn
}

func pooled(a, b Arm) float64 {
	return float64(a.Recovered+b.Recovered) / float64(a.Customers+b.Customers)
}

// Difference is the interval of the difference between the shares of a and b that recovered, which
// misses the truth with a probability of alpha. It reports false where there is not enough data.
func Difference(a, b Arm, alpha float64) (low, high float64, ok bool) {
	if !enough(a, b) {
		return 0, 0, false
	}
	low, high = scoreInterval(a, b, math.Sqrt2*math.Erfinv(1-alpha))
	return low, high, true
}

// scoreInterval is the interval of the difference a - b by Newcombe's hybrid score method
// without continuity correction: method 10 of "Interval estimation for the difference between
// independent proportions", Statistics in Medicine 17 (1998), 873-890. Unlike the textbook's
// interval it keeps its level in small arms and near 0 and 1. z is the normal distribution's
// quantile of its level.
func scoreInterval(a, b Arm, z float64) (low, high float64) {
	p, q := a.share(), b.share()
	pLow, pHigh := wilson(a, z)
	qLow, qHigh := wilson(b, z)
	return p - q - math.Hypot(p-pLow, qHigh-q), p - q + math.Hypot(pHigh-p, q-qLow)
}

// wilson is the score interval of one share.
func wilson(a Arm, z float64) (low, high float64) {
	n, p := float64(a.Customers), a.share()
	middle := (p + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return max(middle-half, 0), min(middle+half, 1)
}

// detectable is the smallest true difference from the held-out arm's share that a two-sided test at
// 5 % finds with a power of 80 %, by the normal approximation. It is looked for towards one half,
// where shares vary more: the other way a smaller one would do.
func detectable(treated, heldOut Arm) float64 {
	p, n, m := heldOut.share(), float64(treated.Customers), float64(heldOut.Customers)
	if p > 0.5 {
		p = 1 - p
	}
	low, high := 0.0, 1-p
	for range 50 {
		effect := (low + high) / 2
		q := p + effect
		both := (n*q + m*p) / (n + m)
		if effect < z95*math.Sqrt(both*(1-both)*(1/n+1/m))+z80*math.Sqrt(q*(1-q)/n+p*(1-p)/m) {
			low = effect
		} else {
			high = effect
		}
	}
	return high
}
