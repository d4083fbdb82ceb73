//go:build failpoints

package recovery

import (
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

// simGoOn lets a world go on after its first breach.
const simGoOn = false

// TestSimulation turns one small world for each seed and holds the invariants of
// docs/adr/0013-mutations.md against it. PHANTOM_SEED replays one and prints its steps;
// PHANTOM_SEEDS and PHANTOM_FIRST_SEED say how many, and from which on. PHANTOM_IGNORE names rules
// that are known not to hold ("I2 cap,I5 parked"); PHANTOM_MOST_RED ends the run after so many
// worlds that break one. internal/mutants reads what the last lines say.
func TestSimulation(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // worlds are small, and many
	database := newSimDatabase(t)
	first, seeds := envNumber(t, "PHANTOM_FIRST_SEED", 1), envNumber(t, "PHANTOM_SEEDS", 300)
	mostRed := envNumber(t, "PHANTOM_MOST_RED", seeds)
	if os.Getenv("PHANTOM_SEED") != "" {
		first, seeds = envNumber(t, "PHANTOM_SEED", 1), 1
	}
	began, total, broken, executed := time.Now(), map[string]int{}, map[string][]int{}, 0
	worlds, red := 0, 0
	for seed := first; seed < first+seeds && red < mostRed; seed++ {
		s := simulate(t, database, uint64(seed))
		executed += s.executed
		if worlds++; len(s.broken) > 0 {
			red++
		}
		for what, n := range s.counts {
			total[what] += n
		}
		if seeds == 1 {
			t.Log(strings.Join(s.trace, "\n"))
		}
		if worlds%500 == 0 {
			// a long run shows how far it is, and where to go on after it is stopped
			t.Logf("%d of %d worlds, the last of seed %d, %d broke a rule; %s left", worlds, seeds, seed, red,
				(time.Since(began) / time.Duration(worlds) * time.Duration(seeds-worlds)).Truncate(time.Second))
		}
		for _, v := range s.broken {
			broken[v.rule] = append(broken[v.rule], seed)
			if len(broken[v.rule]) <= 2 {
				t.Errorf("seed %d, step %d, %s: %s\nreplay it: PHANTOM_SEED=%d go test -tags failpoints "+
					"-run 'TestSimulation$' ./recovery\n%s", seed, v.step, v.rule, v.what, seed,
					strings.Join(s.trace[max(0, len(s.trace)-40):], "\n"))
			}
		}
	}
	for rule, list := range broken {
		t.Errorf("%s does not hold in %d of %d worlds: %v", rule, len(list), worlds,
			list[:min(len(list), 12)])
	}
	took := time.Since(began)
	t.Logf("%d worlds in %s (%.0f a minute), %d executions, %d broke a rule\n%s", worlds,
		took.Truncate(time.Second), float64(worlds)/took.Minutes(), executed, red,
		strings.Join(sortedCounts(total), "\n"))
}

// A failing seed can be replayed: the same seed is the same world, step by step.
func TestSimulationIsDeterministic(t *testing.T) {
	database := newSimDatabase(t)
	for seed := uint64(1); seed <= 8; seed++ {
		one, two := simulate(t, database, seed), simulate(t, database, seed)
		if one.sum == two.sum {
			continue
		}
		for i := range min(len(one.trace), len(two.trace)) {
			if one.trace[i] != two.trace[i] {
				t.Errorf("seed %d, line %d:\n%s\n%s", seed, i, strings.Join(one.trace[max(0, i-5):i+1], "\n"),
					two.trace[i])
				break
			}
		}
	}
}

func simulate(t testing.TB, database *simDatabase, seed uint64) *sim {
	t.Helper()
	var s *sim
	Failpoint = func(point string) {
		if s != nil {
			s.point(point)
		}
	}
	defer func() { Failpoint = nil }()
	s = newSim(t, database, seed)
	s.schedule()
	s.turn(s.now.Add(time.Duration(s.weather.days)*24*time.Hour), 4000)
	if len(s.broken) == 0 || simGoOn {
		s.calm()
	} else {
		s.killAll()
	}
	if len(s.broken) == 0 || simGoOn {
		s.checkExecutions()
		s.checkEnd()
	}
	s.killAll()
	slices.SortFunc(s.broken, func(a, b violation) int { return a.step - b.step })
	return s
}
