package worlds

import (
	"math"
	"testing"
	"time"

	"phantom/oracle/model"
)

// each is a model for each merchant, who has nothing but their own charges.
type each map[string]Player

func (e each) of(merchant string) Player {
	if e[merchant] == nil {
		e[merchant] = NewOurs()
	}
	return e[merchant]
}

func (e each) Tell(c model.Charge) { e.of(c.Merchant).Tell(c) }

func (e each) Rebuild(now time.Time) {
	for _, p := range e {
		p.Rebuild(now)
	}
}

func (e each) Ask(q model.Question, customer, invoice string, die float64, explore bool) (time.Time, float64) {
	return e.of(q.Merchant).Ask(q, customer, invoice, die, explore)
}

func (e each) Chance(q model.Question, customer, invoice string, at time.Time) float64 {
	return e.of(q.Merchant).Chance(q, customer, invoice, at)
}

// unseen asks as a merchant of whom nothing is known, of a category that nobody has.
type unseen struct{ Player }

func (u unseen) Ask(q model.Question, _, _ string, die float64, explore bool) (time.Time, float64) {
	q.Merchant, q.Category = "acct_unseen", "unseen"
	return u.Player.Ask(q, "cus_unseen", "in_unseen", die, explore)
}

// Forty merchants together know more than each alone, and one whom nobody is like is served no
// worse than by the heuristic.
func TestTogetherBeatsAlone(t *testing.T) {
	t.Parallel()
	won := 0.0
	for _, w := range []World{Formulas(9, Size{40, 10})[1], Agents(9, Size{40, 10})[0]} {
		e := newExam(w)
		together, alone := NewOurs(), each{}
		for _, c := range e.history() {
			together.Tell(c)
			alone.Tell(c)
		}
		together.Rebuild(Play)
		alone.Rebuild(Play)
		var asked []int
		for i := range e.invoices {
			if in := &e.invoices[i]; in.Failed && in.At.After(Play) && in.At.Add(Window).Before(End) {
				asked = append(asked, i)
			}
		}
		all, own := e.apart(together, asked).value, e.apart(alone, asked).value
		strange, rules := e.apart(unseen{together}, asked).value, e.apart(heuristic{}, asked).value
		t.Logf("%s: together %.3f, alone %.3f, unseen %.3f, the heuristic %.3f", w.Name(), all, own, strange, rules)
		won += all - own
		if all < own-.005 {
			t.Errorf("%s: together %.3f, alone %.3f", w.Name(), all, own)
		}
		if strange < rules {
			t.Errorf("%s: who is unseen gets %.3f, by the heuristic %.3f", w.Name(), strange, rules)
		}
	}
	if won < .005 {
		t.Errorf("together they win %.4f", won)
	}
}

// From one night's answers to others a simple attack does not tell whether a merchant took part: it
// scores how well answers fit the merchant's charges. Two nights beside each other, one with the
// merchant and one without, tell it: that shows that the attack sees what is there to be seen.
func TestMembership(t *testing.T) {
	t.Parallel()
	const trials = 24
	var with, without, own [trials]float64
	for trial := range trials {
		all := newExam(Formulas(uint64(100+trial), Size{12, 8})[trial%8]).history()
		target := all[0].Merchant
		in, out := model.NewLedger(), model.NewLedger()
		for _, c := range all {
			in.Tell(c)
			if c.Merchant != target {
				out.Tell(c)
			}
		}
		in.Rebuild(Play)
		out.Rebuild(Play)
		with[trial], without[trial] = fit(in.Model(), all, target, "acct_else"), fit(out.Model(), all, target, "acct_else")
		own[trial] = fit(in.Model(), all, target, target)
	}
	shared, nights, personal := found(with[:], without[:]), 0.0, found(own[:], without[:])
	for trial, x := range with {
		if x > without[trial] {
			nights += 1. / trials
		}
	}
	t.Logf("told apart in %.3f of the pairs by one night, chance is .5 ± .083; by two nights in %.3f of the trials; by their own coefficients in %.3f", shared, nights, personal)
	if shared > .5+2*.083 {
		t.Errorf("a merchant is told from one night's answers to others in %.3f of the pairs", shared)
	}
	if nights < .75 {
		t.Errorf("the attack sees little: two nights tell in %.3f of the trials", nights)
	}
}

// fit is how well answers to somebody fit a merchant's charges: the mean log chance of what became
// of them, over that of a constant.
func fit(m *model.Model, all []model.Charge, target, asker string) (mean float64) {
	tried, n, paid := map[string][]model.Tried{}, 0.0, 0.0
	for _, c := range all {
		if c.Merchant != target || c.Alone {
			continue
		}
		if before := tried[c.Invoice]; len(before) > 0 {
			q := model.Question{Debt: c.Debt, Tried: before, Memory: model.NewCustomer().MemoryFor("", c.Zone, before), NotBefore: c.At, NotAfter: c.At, Left: 1}
			q.Merchant = asker
			p := m.Chance(q, c.At).P
			n++
			if c.OK {
				mean += math.Log(p)
				paid++
			} else {
				mean += math.Log(1 - p)
			}
		}
		if !c.OK {
			tried[c.Invoice] = append(tried[c.Invoice], model.Tried{At: c.At, Class: c.Class, Code: c.Code})
		}
	}
	share := min(max(paid/n, .01), .99)
	return mean/n - share*math.Log(share) - (1-share)*math.Log(1-share)
}

// found is in how many pairs of trials the one with the merchant scores more.
func found(with, without []float64) (share float64) {
	n := 0.0
	for i, x := range with {
		for j, y := range without {
			if i == j {
				continue
			}
			n++
			if x > y {
				share++
			}
		}
	}
	return share / n
}
