package worlds

import (
	"encoding/binary"
	"flag"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"phantom/decline"
	"phantom/oracle"
	"phantom/oracle/model"
)

var (
	seeds = flag.Int("seeds", 0, "examine all worlds in their full size with so many seeds, from 2 on")
	only  = flag.String("worlds", "", "examine only worlds whose name contains this")
)

// heuristic is the advisor of before there was a model, as a player.
type heuristic struct{}

var classNames = map[model.Class]decline.Class{model.Timed: decline.Timed, model.Low: decline.Low, model.Soon: decline.Soon, model.Unknown: decline.Unknown}

func (heuristic) Tell(model.Charge)                                        {}
func (heuristic) Rebuild(time.Time)                                        {}
func (heuristic) Chance(model.Question, string, string, time.Time) float64 { return .2 }

func (heuristic) Ask(q model.Question, customer, invoice string, die float64, _ bool) (time.Time, float64) {
	var seed [9]byte
	binary.BigEndian.PutUint64(seed[:], uint64(die*(1<<53))<<11)
	last := q.Tried[len(q.Tried)-1]
	m, err := oracle.Heuristic{}.Next(nil, oracle.Question{ //nolint:staticcheck // it asks nobody
		Class: classNames[last.Class], Code: last.Code, Attempt: len(q.Tried), LastFailed: last.At, NotBefore: q.NotBefore, NotAfter: q.NotAfter,
		Zone: q.Zone, Seed: seed[:],
	})
	if err != nil || m.At.After(q.NotAfter) {
		return time.Time{}, 0
	}
	return m.At, .2
}

// mean adds scores up.
type mean struct {
	n     float64
	sum   Score
	worst float64 // of the shares after play
}

func (m *mean) add(s Score) {
	if m.n == 0 || s.Play < m.worst {
		m.worst = s.Play
	}
	m.n++
	for _, of := range []struct{ sum, x *float64 }{
		{&m.sum.Cold, &s.Cold}, {&m.sum.History, &s.History}, {&m.sum.Play, &s.Play}, {&m.sum.Skill, &s.Skill}, {&m.sum.Explained, &s.Explained},
		{&m.sum.Calibration, &s.Calibration}, {&m.sum.Chosen, &s.Chosen}, {&m.sum.Overclaim, &s.Overclaim}, {&m.sum.Charges, &s.Charges},
		{&m.sum.Fixed, &s.Fixed}, {&m.sum.Spread, &s.Spread}, {&m.sum.Best, &s.Best},
	} {
		*of.sum += *of.x
	}
}

func (m *mean) score(name string) Score {
	s := m.sum
	for _, x := range []*float64{&s.Cold, &s.History, &s.Play, &s.Skill, &s.Explained, &s.Calibration, &s.Chosen, &s.Overclaim, &s.Charges, &s.Fixed, &s.Spread, &s.Best} {
		*x /= m.n
	}
	s.World = name
	return s
}

// timeless are worlds in which there is nothing to win by time: what must not happen there is a
// loss.
func timeless(s Score) bool { return s.Best-s.Fixed < .02 }

// TestExam examines the model and the heuristic. In its short form, of small worlds, it holds
// floors that a broken model does not reach; with -seeds it prints the figures of
// docs/benchmarks.md.
func TestExam(t *testing.T) {
	if *seeds > 0 {
		for _, family := range []func(uint64, Size) []World{Formulas, Agents} {
			examineFamily(t, family)
		}
		return
	}
	t.Parallel()
	all := append(Formulas(9, Size{12, 24})[:1], Agents(9, Size{12, 24})[:1]...)
	explained := 0.0
	for _, w := range all {
		ours, theirs := Examine(w, NewOurs, 3), Examine(w, func() Player { return heuristic{} }, 3)
		t.Log(ours)
		t.Log(theirs)
		if ours.History < theirs.History+.1 || ours.Play < theirs.Play+.1 || ours.Cold < theirs.Cold {
			t.Errorf("%s: the model is no better than the heuristic", w.Name())
		}
		explained += ours.Explained / float64(len(all))
		if ours.Calibration > .11 || math.Abs(ours.Overclaim) > .1 || ours.Charges > .8 {
			t.Errorf("%s: it claims what is not so, or charges too often", w.Name())
		}
	}
	if explained < .05 { // a constant chance for each class explains nothing
		t.Errorf("%.3f of the log loss is explained", explained)
	}
}

func examineFamily(t *testing.T, family func(uint64, Size) []World) {
	t.Helper()
	var ours, theirs mean
	for seed := range uint64(*seeds) {
		for _, w := range family(seed+2, Size{40, 40}) {
			if !strings.Contains(w.Name(), *only) {
				continue
			}
			s, h := Examine(w, NewOurs, 4), Examine(w, func() Player { return heuristic{} }, 4)
			t.Logf("%d %s", seed+2, s)
			if timeless(s) {
				t.Logf("  time matters little there: fixed schedule %.4f, cold %+.4f, play %+.4f", s.Fixed, s.Cold*(s.Best-s.Fixed), s.Play*(s.Best-s.Fixed))
				continue
			}
			ours.add(s)
			theirs.add(h)
		}
	}
	if ours.n == 0 {
		return
	}
	t.Logf("mean of %.0f worlds, worst play %.1f %%\n  %s\n  %s", ours.n, 100*ours.worst, ours.score("model"), theirs.score("heuristic"))
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(m.Run())
}
