//go:build failpoints

package recovery

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"phantom/playbook"
	"phantom/state"
)

// weather is what goes wrong in one world, and how often. Many worlds have little of it, so that
// what is seen has few causes.
type weather struct {
	playbook  playbook.Playbook
	heuristic bool
	days      int // that the world is turned for, before it is left alone

	crashes      float64 // at a named point
	stalls       float64 // at a named point
	slowReads    float64
	turns        float64 // of an invoice between two reads
	spoiltReads  float64
	spoiltWrites float64
	refusals     bool // 401, 403 and HTML are among what is spoilt
	lies         bool // Stripe refuses accounts that it will accept again

	lateEvents  time.Duration // at most
	neverEvents bool
	lostHooks   float64
	forgets     bool
	restores    bool
	outside     int // turns of the world
	operators   int // what operators and merchants do
	retries     float64
	shared      int // customers who pay with one card
}

func newWeather(r *rand.Rand) weather {
	p := playbook.Default()
	p.Mode, p.HoldoutPercent, p.Steps = state.ModeRecover, 0, []playbook.Step{}
	p.Auto = false
	p.MaxAttempts = 3 + r.IntN(6) // Stripe's own are counted in
	p.CardBudget = 3 + r.IntN(6)
	p.WindowDays = 2 + r.IntN(4)
	p.TakeOver = r.IntN(3) == 0
	p.FinalStep = []string{playbook.FinalNone, playbook.FinalNone, playbook.FinalPause, playbook.FinalCancel,
		playbook.FinalUncollectible}[r.IntN(5)]
	w := weather{heuristic: r.IntN(5) == 0, lostHooks: 0.5, outside: r.IntN(7)}
	sometimes := func(chance float64) bool { return r.Float64() < chance }
	if sometimes(0.1) { // a whole window, with renewals, in which little is charged
		p.WindowDays, p.MaxAttempts = 20+r.IntN(10), r.IntN(3)
	}
	if sometimes(0.5) {
		w.crashes = 0.01 + 0.05*r.Float64()
	}
	if sometimes(0.3) {
		w.stalls = 0.02
	}
	if sometimes(0.5) {
		w.slowReads = 0.02 + 0.2*r.Float64()
	}
	if sometimes(0.5) {
		w.spoiltReads = 0.01 + 0.04*r.Float64()
	}
	if sometimes(0.6) {
		w.spoiltWrites = 0.05 + 0.4*r.Float64()
	}
	if sometimes(0.25) {
		w.turns = 0.05
	}
	w.refusals = sometimes(0.3)
	if sometimes(0.4) {
		w.lateEvents = time.Duration(1+r.IntN(90)) * time.Minute
		if sometimes(0.2) {
			w.lateEvents = time.Duration(1+r.IntN(26)) * time.Hour
		}
		w.neverEvents = sometimes(0.2)
	}
	w.lies = w.refusals && sometimes(0.5)
	w.forgets = sometimes(0.4)
	w.restores = sometimes(0.3)
	if sometimes(0.5) {
		w.operators = 1 + r.IntN(5)
	}
	if sometimes(0.25) {
		w.retries = 0.5
	}
	if sometimes(0.4) {
		w.shared = 2 + r.IntN(2)
	}
	w.days = p.WindowDays
	if sometimes(0.2) {
		p.DailyCap = map[string]int64{"eur": 5000, "jpy": 7000}
	}
	w.playbook = p
	return w
}

// delayOf says when an event is shown, and whether it ever is.
func (w weather) delayOf(seed uint64, event string) (time.Duration, bool) {
	h := fnv.New64a()
	fmt.Fprint(h, event)
	r := rand.New(rand.NewPCG(seed, h.Sum64()))
	if w.neverEvents && r.IntN(20) == 0 {
		return 0, true
	}
	if w.lateEvents == 0 || r.IntN(2) == 0 {
		return time.Duration(r.IntN(2000)) * time.Millisecond, false
	}
	return time.Duration(r.Int64N(int64(w.lateEvents))), false
}
