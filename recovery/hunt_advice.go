package recovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/gate"
	"phantom/oracle"
	"phantom/oracle/model"
	"phantom/state"
)

// Said is what the oracle said about a charge when it was planned. Its JSON is part of the HTTP
// API. Chances are over 0 to 1.
type Said struct {
	Model       int64      `json:"model"` // version; 0: what is known before any charge
	P           float64    `json:"p"`     // chance of success at the moment that was planned
	Low         float64    `json:"low"`   // of the range that holds it nine times in ten
	High        float64    `json:"high"`
	Confidence  string     `json:"confidence"`   // "low", "medium" or "high"
	Arm         *string    `json:"arm"`          // null: the oracle was not on
	OracleAt    *time.Time `json:"oracle_at"`    // the moment it chose; null: none
	OracleP     float64    `json:"oracle_p"`     // chance of success then
	Propensity  float64    `json:"propensity"`   // with which it chose that moment
	Reason      string     `json:"reason"`       // for that moment, in plain words
	HeuristicAt time.Time  `json:"heuristic_at"` // the moment of the fixed rules
}

func saidOf(o db.OracleAdvice) *Said {
	return &Said{
		Model: o.Model, P: o.P, Low: o.Low, High: o.High, Confidence: o.Confidence, Arm: o.Arm, OracleAt: inUTC(o.ChosenFor), OracleP: o.ChosenP,
		Propensity: o.Propensity, Reason: o.Reason, HeuristicAt: o.HeuristicFor.UTC(),
	}
}

// Advice is what the oracle says about a hunt's next charge now. Its JSON is part of the HTTP API.
type Advice struct {
	Hunt    uuid.UUID    `json:"hunt"`
	State   oracle.State `json:"state"` // whether the oracle chooses
	Model   *int64       `json:"model"` // version; null: what is known before any charge
	Planned *time.Time   `json:"planned"`
	// null where no charge is thought of
	Next         *AdvisedMoment  `json:"next"`
	Alternatives []AdvisedMoment `json:"alternatives"` // on other days, the best first
	Rules        *AdvisedMoment  `json:"rules"`        // the moment of the fixed rules
	Why          *string         `json:"why"`          // no charge is thought of
}

// AdvisedMoment is a moment of a charge with what is known of it.
type AdvisedMoment struct {
	At         time.Time `json:"at"`
	P          float64   `json:"p"` // chance of success then, 0 to 1
	Low        float64   `json:"low"`
	High       float64   `json:"high"`
	Confidence string    `json:"confidence"`
	Reason     string    `json:"reason"`
}

func advised(a model.Advice) AdvisedMoment {
	return AdvisedMoment{a.At.UTC(), a.P, a.Low, a.High, a.Confidence, a.Reason}
}

// Advice asks the oracle about a hunt's next charge as if it were planned now, or returns
// [ErrNotFound]. Nothing follows from it.
func (s *Service) Advice(ctx context.Context, merchantID, huntID uuid.UUID) (a Advice, err error) {
	a = Advice{Hunt: huntID, Alternatives: []AdvisedMoment{}}
	var hunt db.Hunt
	var question *oracle.Question
	err = db.InSnapshot(ctx, s.pool, func(tx pgx.Tx) (err error) {
		hunt, err = db.New(tx).HuntGet(ctx, db.HuntGetParams{MerchantID: merchantID, ID: huntID})
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("read hunt: %w", err)
		}
		question, err = a.question(ctx, s.planning(tx, hunt))
		return err
	})
	if err != nil {
		return a, err
	}
	outlook, err := s.config.Look(ctx, hunt.Livemode, question)
	if err != nil {
		return a, err
	}
	if a.State = outlook.State; outlook.Version > 0 {
		a.Model = &outlook.Version
	}
	if a.Why == nil && len(outlook.Choices) == 0 {
		why := "no moment within the window is allowed"
		a.Why = &why
	}
	if a.Why != nil {
		return a, nil
	}
	rules := advised(outlook.OfRules)
	rules.Reason = outlook.Heuristic.Reason
	a.Rules = &rules
	for i, choice := range outlook.Choices {
		moment := advised(choice)
		if i == 0 {
			a.Next = &moment
			continue
		}
		a.Alternatives = append(a.Alternatives, moment)
	}
	return a, nil
}

// question is what the oracle would be asked about a hunt's next charge; nil where none is thought
// of, and a says why.
func (a *Advice) question(ctx context.Context, p *planning) (*oracle.Question, error) {
	because := func(why string) (*oracle.Question, error) {
		a.Why = &why
		return nil, nil //nolint:nilnil // no question, no error
	}
	switch {
	case p.hunt.State != state.HuntActive:
		return because("the hunt has ended")
	case p.hunt.HeldOut:
		return because("the customer is held out")
	}
	there, err := p.load(ctx)
	if err != nil {
		return nil, err
	}
	if !there || p.ghost.Status != state.GhostOpen {
		return because("nothing is owed any more")
	}
	for _, one := range p.attempts {
		if one.Result == nil && one.Action == gate.KindPay {
			a.Planned = inUTC(&one.PlannedFor)
		}
	}
	p.attempts = slices.DeleteFunc(p.attempts, func(one db.Attempt) bool { return one.Result == nil })
	p.thought = true
	over := ""
	next, _, err := p.choose(ctx, func(_ []byte, why string) error {
		over = why
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case next.Asked != nil:
		return next.Asked, nil
	case next.Held != "":
		return because(next.Held.Words())
	case next.Kind != "":
		return because(next.Moment.Reason)
	case p.hunt.ChargesOver != nil:
		over = *p.hunt.ChargesOver
	}
	return because(cmp.Or(over, "no charge follows"))
}
