package oracle

import (
	"fmt"
	"math"
	"time"

	"phantom/decline"
	"phantom/figures"
)

// State is whether the oracle chooses.
type State string

// The states of the oracle, in each mode.
const (
	Shadow   State = "shadow"   // the fixed rules choose, and its answers are kept beside theirs
	On       State = "on"       // it chooses for most customers
	Fallback State = "fallback" // it did harm, or could not be trusted: the fixed rules choose again
)

// Words say in plain words why it is in this state, without a figure: those are of everybody.
func (s State) Words() string {
	switch s {
	case On:
		return "it has shown that it predicts well"
	case Fallback:
		return "it did harm, or could not be trusted"
	case Shadow:
	}
	return untried
}

// What it takes to go on: charges that were foretold and settled within 90 days, of so many
// merchants.
const (
	LeastMerchants = 5
	LeastCharges   = 2000
)

// What else a state depends on.
const (
	leastToDistrust = 500 // charges, for a calibration that is too bad to go on with
	wellCalibrated  = .05
	illCalibrated   = .10
	fallbackFor     = 30 * 24 * time.Hour  // the first time, twice as long the second, and so on
	longest         = 4                    // of these doublings
	trusted         = 180 * 24 * time.Hour // after which falls of before are forgotten
	// customers of both arms whose window is over; then twice as many, and so on
	firstLook = 200
	// customers of each are compared apart: harm that is new shows there first
	fortnight = 14 * 24 * time.Hour
	// how likely all looks together are to find harm where there is none
	mayErr = .05
)

// Standing is a state with its history.
type Standing struct {
	State State
	Since time.Time
	Why   string // in plain words
	// since it is on: looks at the comparison of its arms, and fortnights that were compared
	Looks, Fortnights int
	Compared          time.Time // the last fortnight was
	Falls             int       // fallbacks, since it was last on for half a year
}

// Evidence is what a night knows about how well the oracle does.
type Evidence struct {
	Now       time.Time
	Merchants int   // whose charges were settled within 90 days
	Charges   int   // of theirs
	Score     Score // of the last 28 days
	Knowledge       // the newest model
	All       Arms  // since it is on
	Late      Arms  // of these, those whose window was over since the last comparison
	Replay    Replay
}

// Replay is what the oracle's moments have brought in, and what the fixed rules' would have on the
// same charges: self-normalised inverse propensity scoring (Swaminathan and Joachims, "The
// Self-Normalized Estimator for Counterfactual Learning", 2015) over moments that were drawn by
// chance. It is shown, and decides nothing.
type Replay struct {
	Charges int     // that the oracle has chosen, settled in 90 days
	Paid    float64 // share of them, over 0 to 1
	Rules   float64 // share that the fixed rules' moments would have paid, where Worth is over 0
	Worth   float64 // how many charges of equal weight the estimate is worth
}

// Until is when a fallback ends; zero in other states.
func (s Standing) Until() time.Time {
	if s.State != Fallback {
		return time.Time{}
	}
	return s.Since.Add(s.fallback())
}

// Next is the state after a night.
func (s Standing) Next(e Evidence) Standing {
	switch s.State {
	case On:
		return s.whileOn(e)
	case Fallback:
		if e.Now.Sub(s.Since) < s.fallback() {
			return s
		}
		return Standing{State: Shadow, Since: e.Now, Why: "its days of fallback are over: it has to show again that it predicts well", Falls: s.Falls}
	default:
		if e.Version == 0 || e.distrust() != "" || e.Merchants < LeastMerchants || e.Charges < LeastCharges || !e.Score.better() || e.Score.ECE > wellCalibrated {
			return s
		}
		return Standing{
			State: On, Since: e.Now, Compared: e.Now, Falls: s.Falls,
			Why: fmt.Sprintf("it predicts better than one share for each class of failure, over %d charges of 28 days", e.Score.Charges),
		}
	}
}

// fallback is how long it lasts. An oracle that keeps falling gets fewer and fewer chances.
func (s Standing) fallback() time.Duration { return fallbackFor << min(max(s.Falls-1, 0), longest) }

// fall is the state of an oracle that may not choose any more.
func (s Standing) fall(now time.Time, why string) Standing {
	falls := s.Falls + 1
	if now.Sub(s.Since) >= trusted {
		falls = 1
	}
	return Standing{State: Fallback, Since: now, Why: why, Falls: falls}
}

func (s Standing) whileOn(e Evidence) Standing {
	if e.Version == 0 && !e.Spoilt {
		return s // somebody has left, and the models with them: the next one is made within minutes
	}
	if why := e.distrust(); why != "" {
		return s.fall(e.Now, why)
	}
	harm := ""
	// a look that sees too little to say anything is none: it comes again
	if e.All.Oracle.Customers+e.All.Heuristic.Customers >= firstLook<<s.Looks {
		if says, ok := e.All.harm(alpha(s.Looks + 1)); ok {
			s.Looks, harm = s.Looks+1, says
		}
	}
	if harm == "" && e.Now.Sub(s.Compared) >= fortnight {
		if says, ok := e.Late.harm(alpha(s.Fortnights + 1)); ok {
			s.Fortnights, s.Compared, harm = s.Fortnights+1, e.Now, says
		}
	}
	if harm != "" {
		return s.fall(e.Now, harm)
	}
	return s
}

// alpha is how likely the nth look of either kind may be to err: those of all looks add up to
// mayErr.
func alpha(n int) float64 { return mayErr / 2 * 6 / (math.Pi * math.Pi * float64(n*n)) }

// Arms are customers whose window is over, by who chose the moments of their charges.
type Arms struct{ Oracle, Heuristic figures.Arm }

// harm says that fewer pay where the oracle chooses, or "". It reports false where there are too
// few to tell.
func (a Arms) harm(alpha float64) (says string, ok bool) {
	low, _, ok := figures.Difference(a.Heuristic, a.Oracle, 2*alpha) // only one of its ends matters
	if !ok || low <= 0 {
		return "", ok
	}
	return fmt.Sprintf("more customers pay where the fixed rules choose: %d of %d, against %d of %d",
		a.Heuristic.Recovered, a.Heuristic.Customers, a.Oracle.Recovered, a.Oracle.Customers), true
}

// distrust says why the oracle cannot be trusted at all, or "".
func (e Evidence) distrust() string {
	switch {
	case e.Spoilt:
		return "its model cannot be read, or is not sound"
	case e.Version > 0 && e.Now.Sub(*e.BuiltAt) > Oldest:
		return "its model is older than seven days"
	case e.Score.Charges >= leastToDistrust && e.Score.ECE > illCalibrated:
		return fmt.Sprintf("its chances are wrong by %.0f points of a hundred on average", 100*e.Score.ECE)
	}
	return ""
}

// Settled is a charge with the chance that was foretold for it.
type Settled struct {
	Class decline.Class // of the failure before it
	P     float64
	Paid  bool
}

// Score is how well chances were foretold.
type Score struct {
	Charges int
	LogLoss float64 // mean of each charge's, in nats
	Base    float64 // that of the share of each class which was paid, known afterwards
	Gain    float64 // Base less LogLoss
	Error   float64 // standard error of Gain
	ECE     float64 // expected calibration error, over ten bins
}

// better says that the chances are better than shares of classes, and not by luck.
func (s Score) better() bool { return s.Charges > 1 && s.Gain >= 2*s.Error && s.Gain > 0 }

// Rate compares chances with what has happened.
func Rate(all []Settled) (s Score) {
	if s.Charges = len(all); s.Charges == 0 {
		return s
	}
	type count struct{ paid, of, p float64 }
	classes, bins := make(map[decline.Class]count), [10]count{}
	for _, one := range all {
		paid := 0.0
		if one.Paid {
			paid = 1
		}
		c := classes[one.Class]
		classes[one.Class] = count{c.paid + paid, c.of + 1, 0}
		b := &bins[min(int(one.P*10), 9)]
		b.paid, b.of, b.p = b.paid+paid, b.of+1, b.p+one.P
	}
	n, squares := float64(len(all)), 0.0
	for _, one := range all {
		c := classes[one.Class]
		base, loss := lossOf((c.paid+.5)/(c.of+1), one.Paid), lossOf(one.P, one.Paid)
		s.Base += base / n
		s.LogLoss += loss / n
		squares += (base - loss) * (base - loss) / n
	}
	s.Gain = s.Base - s.LogLoss
	s.Error = math.Sqrt(max(squares-s.Gain*s.Gain, 0) / n)
	for _, b := range bins {
		s.ECE += math.Abs(b.paid-b.p) / n
	}
	return s
}

func lossOf(p float64, paid bool) float64 {
	p = min(max(p, 1e-6), 1-1e-6)
	if paid {
		return -math.Log(p)
	}
	return -math.Log(1 - p)
}
