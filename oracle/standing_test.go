package oracle

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"phantom/decline"
	"phantom/figures"
)

// year is a mode in a simulated year: so many charges a day, of customers whose payday comes once a
// week, with chances that the oracle foretells in its own way.
type year struct {
	*rand.Rand
	now      time.Time
	standing Standing
	settled  []dated
	begun    []hunted
	changes  []Standing
	charges  int // a day
	hunts    int // a day
	// foretold is what the oracle says about a charge whose true chance is p
	foretold func(y *year, day int, p float64) float64
	// oracle and rules are how likely a customer pays within their window, by who chooses
	oracle, rules func(day int) float64
}

type dated struct {
	at time.Time
	Settled
}

type hunted struct {
	began time.Time
	arm   string
	paid  bool
}

const simulatedWindow = 14 // days

func newYear(seed uint64) *year {
	return &year{
		Rand: rand.New(rand.NewPCG(seed, 5)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		standing: Standing{State: Shadow}, charges: 100, hunts: 150,
		foretold: func(y *year, _ int, p float64) float64 { return p },
		oracle:   func(int) float64 { return .5 }, rules: func(int) float64 { return .4 },
	}
}

// run lets days pass, and checks each night.
func (y *year) run(days int) *year {
	for day := range days {
		for range y.charges {
			p := .05 + .3*y.Float64()*y.Float64()
			if y.IntN(7) == 0 {
				p = .5 + .2*y.Float64()
			}
			class := decline.Timed
			if y.IntN(4) == 0 {
				class = decline.Unknown
			}
			y.settled = append(y.settled, dated{y.now, Settled{class, y.foretold(y, day, p), y.Float64() < p}})
		}
		for range y.hunts {
			if y.standing.State == On {
				arm, pays := ArmOracle, y.oracle(day)
				if y.IntN(heuristicOneIn) == 0 {
					arm, pays = ArmHeuristic, y.rules(day)
				}
				y.begun = append(y.begun, hunted{y.now, arm, y.Float64() < pays})
			}
		}
		y.now = y.now.AddDate(0, 0, 1)
		y.check()
	}
	return y
}

func (y *year) evidence() Evidence {
	built := y.now.Add(-time.Hour)
	e := Evidence{Now: y.now, Merchants: 12, Knowledge: Knowledge{Version: 1, BuiltAt: &built}}
	var recent []Settled
	y.settled = slices.DeleteFunc(y.settled, func(one dated) bool { return y.now.Sub(one.at) > 90*24*time.Hour })
	e.Charges = len(y.settled)
	for _, one := range y.settled {
		if y.now.Sub(one.at) <= 28*24*time.Hour {
			recent = append(recent, one.Settled)
		}
	}
	e.Score = Rate(recent)
	for _, h := range y.begun {
		if h.began.Before(y.standing.Since) || y.now.Before(h.began.AddDate(0, 0, simulatedWindow)) {
			continue
		}
		e.All.add(h.arm, h.paid)
		if h.began.AddDate(0, 0, simulatedWindow).After(y.standing.Compared) {
			e.Late.add(h.arm, h.paid)
		}
	}
	return e
}

func (a *Arms) add(name string, paid bool) {
	arm := &a.Oracle
	if name == ArmHeuristic {
		arm = &a.Heuristic
	}
	arm.Customers++
	if paid {
		arm.Recovered++
	}
}

func (y *year) check() {
	was := y.standing
	y.standing = was.Next(y.evidence())
	if y.standing.State != was.State {
		y.changes = append(y.changes, y.standing)
	}
}

func (y *year) states() (all []State) {
	for _, s := range y.changes {
		all = append(all, s.State)
	}
	return all
}

// An oracle that foretells well, and brings more, goes on once and stays.
func TestAGoodOracleGoesOnAndStays(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		y := newYear(seed).run(365)
		if len(y.changes) != 1 || y.changes[0].State != On {
			t.Fatalf("seed %d: %v", seed, y.changes)
		}
		if went := y.changes[0].Since.Sub(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)); went > 30*24*time.Hour {
			t.Errorf("seed %d: it went on only after %s", seed, went)
		}
	}
}

// An oracle that foretells nothing stays in shadow, however long.
func TestAnOracleThatKnowsNothingStaysInShadow(t *testing.T) {
	t.Parallel()
	for name, foretold := range map[string]func(y *year, day int, p float64) float64{
		"the same for all":  func(*year, int, float64) float64 { return .2 },
		"by chance":         func(y *year, _ int, _ float64) float64 { return y.Float64() },
		"the wrong way":     func(_ *year, _ int, p float64) float64 { return max(.4-p, .01) },
		"always too sure":   func(_ *year, _ int, p float64) float64 { return min(p*1.5+.1, .99) },
		"always too little": func(_ *year, _ int, p float64) float64 { return p / 2 },
	} {
		y := newYear(1)
		y.foretold = foretold
		if y.run(200); len(y.changes) > 0 {
			t.Errorf("%s: %v", name, y.changes)
		}
	}
}

// When the world turns, it falls back within thirty days, and does not come and go.
func TestItFallsBackWhenTheWorldTurns(t *testing.T) {
	t.Parallel()
	const turn = 150
	for name, sabotage := range map[string]func(y *year){
		"its chances turn round": func(y *year) {
			y.foretold = func(_ *year, day int, p float64) float64 {
				if day < turn {
					return p
				}
				return min(max(.75-p, .01), .99)
			}
		},
		"its moments turn bad": func(y *year) {
			y.oracle = func(day int) float64 {
				if day < turn-simulatedWindow {
					return .5
				}
				return .2
			}
		},
	} {
		for seed := range uint64(2) {
			y := newYear(seed)
			y.hunts = 400
			sabotage(y)
			y.run(turn)
			if y.standing.State != On {
				t.Fatalf("%s: %v", name, y.changes)
			}
			before := len(y.changes)
			// its days go on where they were
			foretold, oracle := y.foretold, y.oracle
			y.foretold = func(y *year, day int, p float64) float64 { return foretold(y, day+turn, p) }
			y.oracle = func(day int) float64 { return oracle(day + turn) }
			y.run(31)
			if y.standing.State != Fallback {
				t.Errorf("%s, seed %d: after a month it is %s: %+v", name, seed, y.standing.State, y.evidence())
			}
			y.run(170)
			// on at most twice more: its fallbacks grow longer
			if n := len(y.changes) - before; n > 8 {
				t.Errorf("%s, seed %d: it comes and goes: %v", name, seed, y.states())
			}
			for i := 1; i < len(y.changes); i++ {
				if y.changes[i-1].State == Fallback && y.changes[i].Since.Sub(y.changes[i-1].Since) < fallbackFor {
					t.Errorf("%s, seed %d: it was back after %s", name, seed, y.changes[i].Since.Sub(y.changes[i-1].Since))
				}
			}
		}
	}
}

// Where both arms fare alike, all looks of a year together err in one world of twenty at most.
func TestArmsSeldomErr(t *testing.T) {
	t.Parallel()
	const worlds = 1000
	random := rand.New(rand.NewPCG(2, 3))
	wrong := 0
	for range worlds {
		share := .1 + .7*random.Float64()
		began := time.Unix(0, 0)
		built := began
		e := Evidence{Now: built, Knowledge: Knowledge{Version: 1, BuiltAt: &built}}
		s := Standing{State: On, Since: built}
		s.Compared = began
		for day := range 365 {
			for range 5 + random.IntN(60) {
				name, paid := ArmOracle, random.Float64() < share
				if random.IntN(heuristicOneIn) == 0 {
					name = ArmHeuristic
				}
				e.All.add(name, paid)
				e.Late.add(name, paid)
			}
			e.Now = began.AddDate(0, 0, day+1)
			built = e.Now
			if s = s.Next(e); s.Compared.Equal(e.Now) {
				e.Late = Arms{}
			}
		}
		if s.State == Fallback {
			wrong++
		}
	}
	t.Logf("%d of %d worlds without a difference fell back", wrong, worlds)
	if wrong > worlds*5/100 {
		t.Errorf("%d of %d worlds without a difference fell back", wrong, worlds)
	}
	sum := 0.0
	for n := range 100000 {
		sum += alpha(n + 1)
	}
	if math.Abs(2*sum-mayErr) > 1e-5 {
		t.Errorf("all looks together may err in %v", sum)
	}
}

// What cannot be trusted falls back at once, and says why.
func TestItFallsBackAtOnce(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	fresh, old := now.Add(-time.Hour), now.Add(-8*24*time.Hour)
	on := Standing{State: On, Since: now.AddDate(0, -1, 0), Compared: now.AddDate(0, -1, 0)}
	good := Evidence{Now: now, Merchants: 9, Charges: 9000, Knowledge: Knowledge{Version: 3, BuiltAt: &fresh}, Score: Score{Charges: 4000, Gain: .1, Error: .01, ECE: .02}}
	for _, test := range []struct {
		name   string
		change func(e *Evidence)
		want   State
		says   string
	}{
		{"nothing is wrong", func(*Evidence) {}, On, ""},
		{"an old model", func(e *Evidence) { e.BuiltAt = &old }, Fallback, "seven days"},
		{"a spoilt one", func(e *Evidence) { e.Knowledge = Knowledge{Spoilt: true} }, Fallback, "cannot be read"},
		{"none, for somebody has left", func(e *Evidence) { e.Knowledge = Knowledge{} }, On, ""},
		{"chances that are wrong", func(e *Evidence) { e.Score.ECE = .11 }, Fallback, "11 points"},
		{"chances that are wrong in few charges", func(e *Evidence) { e.Score.ECE, e.Score.Charges = .11, 400 }, On, ""},
		{"chances that predict nothing any more", func(e *Evidence) { e.Score.Gain = -.01 }, On, ""},
		{"an arm that brings less", func(e *Evidence) {
			e.All = Arms{figures.Arm{Customers: 1800, Recovered: 500}, figures.Arm{Customers: 200, Recovered: 120}}
		}, Fallback, "120 of 200"},
		{"an arm that brings more", func(e *Evidence) {
			e.All = Arms{figures.Arm{Customers: 1800, Recovered: 1200}, figures.Arm{Customers: 200, Recovered: 60}}
		}, On, ""},
		{"an arm that brings less of late", func(e *Evidence) {
			e.Late = Arms{figures.Arm{Customers: 1800, Recovered: 500}, figures.Arm{Customers: 200, Recovered: 120}}
		}, Fallback, "120 of 200"},
	} {
		e := good
		test.change(&e)
		s := on.Next(e)
		if s.State != test.want || !strings.Contains(s.Why, test.says) {
			t.Errorf("%s: %+v, want %s", test.name, s, test.want)
		}
	}
	shadow := Standing{State: Shadow}
	for name, change := range map[string]func(e *Evidence){
		"few merchants":      func(e *Evidence) { e.Merchants = 4 },
		"few charges":        func(e *Evidence) { e.Charges = 1999 },
		"no model":           func(e *Evidence) { e.Knowledge = Knowledge{} },
		"by luck":            func(e *Evidence) { e.Score.Error = .06 },
		"not calibrated":     func(e *Evidence) { e.Score.ECE = .06 },
		"an old model":       func(e *Evidence) { e.BuiltAt = &old },
		"nothing is settled": func(e *Evidence) { e.Score = Score{} },
	} {
		e := good
		change(&e)
		if s := shadow.Next(e); s.State != Shadow {
			t.Errorf("%s: it goes on", name)
		}
	}
	if s := shadow.Next(good); s.State != On || s.Why == "" {
		t.Errorf("it does not go on: %+v", s)
	}
}

// Chances are rated by hand.
func TestRate(t *testing.T) {
	t.Parallel()
	s := Rate([]Settled{{decline.Timed, .8, true}, {decline.Timed, .2, false}, {decline.Timed, .9, true}, {decline.Timed, .9, false}})
	loss := -(2*math.Log(.8) + math.Log(.9) + math.Log(.1)) / 4
	// bins: .2 foretold .2 and had 0; .8 had 1; .9 foretold 1.8 and had 1
	if s.Charges != 4 || math.Abs(s.LogLoss-loss) > 1e-12 || math.Abs(s.ECE-(.2+.2+.8)/4) > 1e-12 || math.Abs(s.Base-math.Ln2) > 1e-12 {
		t.Errorf("%+v, log loss %v", s, loss)
	}
	if (Rate(nil) != Score{}) {
		t.Error("nothing is rated")
	}
}

// With few customers a fortnight's comparison comes later, and is not used up.
func TestLooksWaitUntilTheyCanTell(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	fresh := now
	s := Standing{State: On, Since: now, Compared: now}
	e := Evidence{Knowledge: Knowledge{Version: 3, BuiltAt: &fresh}}
	e.Late = Arms{figures.Arm{Customers: 90, Recovered: 20}, figures.Arm{Customers: 10, Recovered: 6}}
	for day := range 20 {
		e.Now = now.AddDate(0, 0, day)
		fresh = e.Now
		if s = s.Next(e); s.Fortnights != 0 || !s.Compared.Equal(now) {
			t.Fatalf("day %d: %+v", day, s)
		}
	}
	e.Late = Arms{figures.Arm{Customers: 270, Recovered: 60}, figures.Arm{Customers: 30, Recovered: 22}}
	e.Now = now.AddDate(0, 0, 42)
	fresh = e.Now
	if s = s.Next(e); s.State != Fallback {
		t.Errorf("harm that shows after six weeks: %+v", s)
	}
}
