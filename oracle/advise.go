package oracle

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"phantom/money"
	"phantom/oracle/model"
	"phantom/zone"
)

// Oldest is the age of a model from which on it does not choose.
const Oldest = 7 * 24 * time.Hour

const (
	// how long an answer may take; after that the fixed rules choose
	answersWithin = time.Second
	// one customer in so many is in the heuristic's arm
	heuristicOneIn = 10
)

// Next implements the interface Advisor of package forecast. Where the oracle is not on, or has no
// sound model, or does not answer in time, the fixed rules choose, and it says what it thinks of
// their moment.
func (s *Service) Next(ctx context.Context, q Question) (Moment, error) {
	plain, err := Heuristic{}.Next(ctx, q)
	if err != nil {
		return plain, err
	}
	k := s.known(ctx, q.Livemode)
	plays := k.plays(q.Now)
	if k.model == nil || !plays && !q.Explore {
		return plain, nil // nobody would look at what it thinks
	}
	arm := ""
	if plays {
		arm = armOf(q.Person)
	}
	m, err := within(answersWithin, func() Moment { return k.answer(q, plain, arm) })
	if err != nil {
		s.count("failed")
		return plain, nil //nolint:nilerr // a charge does not wait for the oracle
	}
	switch {
	case !q.Explore: // nothing follows from it
	case arm != "":
		s.count(arm)
	case k.State == On: // without a model that may choose
		s.count("failed")
	default:
		s.count(string(k.State))
	}
	return m, nil
}

// count counts an answer, by who gave it.
func (s *Service) count(by string) {
	if s.Asked != nil {
		s.Asked(by)
	}
}

// errAnswer says that the oracle has not answered.
var errAnswer = errors.New("the oracle has not answered")

// within returns what f returns, unless that takes too long, or f panics: what goes wrong in a
// model must not keep a charge from being planned.
func within(limit time.Duration, f func() Moment) (Moment, error) {
	answer := make(chan *Moment, 1)
	go func() {
		defer func() {
			if recover() != nil {
				answer <- nil
			}
		}()
		m := f()
		answer <- &m
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case m := <-answer:
		if m == nil || m.Advice == nil {
			return Moment{}, errAnswer
		}
		return *m, nil
	case <-timer.C:
		return Moment{}, errAnswer
	}
}

// armOf is the arm of a customer.
func armOf(person []byte) string {
	if binary.BigEndian.Uint64(person)%heuristicOneIn == 0 {
		return ArmHeuristic
	}
	return ArmOracle
}

// plays says whether the oracle may choose.
func (k known) plays(now time.Time) bool { return k.model != nil && k.Plays(k.Knowledge, now) }

// Plays says whether an oracle in this state may choose with what it knows.
func (s Standing) Plays(k Knowledge, now time.Time) bool {
	return s.State == On && k.Version > 0 && now.Sub(*k.BuiltAt) <= Oldest
}

// answer is what the oracle says. It has no advice where something is no number.
func (k known) answer(q Question, plain Moment, arm string) Moment {
	asked := q.model()
	chosen := k.model.Plan(asked, die(q.Seed), q.Explore)
	if !chosen.At.IsZero() { // spread over the hour, as the fixed rules are
		if at := chosen.At.Add(minutes(q.Seed)); !at.After(q.NotAfter) {
			chosen.At = at
		}
	}
	m := plain
	// It does not give an invoice up: who is not charged would be missing from its arm, and nothing
	// would ever show that it was wrong.
	if arm == ArmOracle && !chosen.At.IsZero() {
		m = Moment{At: chosen.At, Reason: chosen.Reason, Probability: chosen.Propensity}
	}
	at := m.At
	said := k.model.At(asked, at)
	if math.IsNaN(said.P+said.Low+said.High+chosen.P+chosen.Propensity) || chosen.Propensity <= 0 {
		return plain
	}
	cell := model.CellOf(asked, at)
	m.Advice = &Advice{
		Model: k.Version, P: said.P, Low: said.Low, High: said.High, Confidence: said.Confidence, Arm: arm, Cell: cell.Text(),
		Chosen: chosen.At, ChosenP: chosen.P, Propensity: chosen.Propensity, Reason: cmp.Or(chosen.Reason, hopeless), Heuristic: plain.At,
	}
	return m
}

const hopeless = "no charge that may still be made is likely enough to succeed"

// die is uniform in [0, 1).
func die(seed []byte) float64 { return float64(binary.BigEndian.Uint64(seed)>>11) / (1 << 53) }

// model is the question as the model takes it.
func (q Question) model() model.Question {
	country := q.Country
	if len(zone.InCountries(country)) == 0 {
		country = ""
	}
	asked := model.Question{
		Debt: model.Debt{
			Merchant: q.Merchant.String(), Category: q.Category, Country: country, Zone: q.Zone, Brand: q.Memory.Brand, Funding: q.Memory.Funding,
			Amount: q.Amount, Decimals: money.Decimals(q.Currency),
		},
		NotBefore: q.NotBefore, NotAfter: q.NotAfter, Left: max(q.Left, 1),
	}
	tried := q.Tried
	if len(tried) == 0 {
		tried = []Tried{{q.LastFailed, q.Class, q.Code}}
	}
	for _, t := range tried {
		asked.Tried = append(asked.Tried, model.Tried{At: t.At, Class: model.ClassOf(t.Class), Code: model.Word(t.Code)})
	}
	asked.Memory = q.Memory.customer(asked.Debt).MemoryFor(q.Invoice, q.Zone, asked.Tried)
	return asked
}

// Outlook is what the oracle says about a charge that may be made, without choosing for it.
type Outlook struct {
	Knowledge
	Standing
	Choices   []model.Advice // moments of different days, the best first
	Heuristic Moment         // of the fixed rules
	OfRules   model.Advice   // what the oracle says of that
}

// Look answers a question that nothing follows from: the best moments, and the fixed rules' own. Of
// no question (nil) it has what is known of the mode alone.
func (s *Service) Look(ctx context.Context, livemode bool, q *Question) (o Outlook, err error) {
	m, knowledge, err := s.Model(ctx, livemode)
	if err != nil {
		return o, err
	}
	o.Knowledge = knowledge
	if o.Standing, err = s.Standing(ctx, livemode); err != nil || q == nil {
		return o, err
	}
	if o.Heuristic, err = (Heuristic{}).Next(ctx, *q); err != nil {
		return o, err
	}
	asked := q.model()
	o.Choices, o.OfRules = m.Choices(asked, choices), m.Chance(asked, o.Heuristic.At)
	return o, nil
}

const choices = 4 // moments that are shown
