package recovery

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/forecast"
	"phantom/gate"
	"phantom/money"
	"phantom/state"
)

// storeForecast writes into the history of a hunt that only watches what it would do in its first
// seven days, thought through as by [Service.DryRun] but for this hunt alone. It does nothing else.
func (s *Service) storeForecast(ctx context.Context, tx db.DBTX, merchantID, huntID uuid.UUID) error {
	p, err := s.lock(ctx, tx, merchantID, huntID)
	if err != nil || p.hunt.State != state.HuntActive || p.hunt.HeldOut || p.hunt.Mode != state.ModeObserve {
		return err
	}
	notes, err := p.queries.HuntNoteList(ctx, db.HuntNoteListParams{MerchantID: merchantID, HuntID: huntID})
	if err != nil {
		return fmt.Errorf("list notes: %w", err)
	}
	if len(notes) > 1 { // besides its beginning: the task comes again after its worker died
		return nil
	}
	if there, err := p.load(ctx); err != nil || !there || p.ghost.Status != state.GhostOpen {
		return err
	}
	sim := forecast.NewSimulation(s.advisor)
	p.thought = true
	h := forecast.NewHunt(p.ghost, string(p.hunt.Customer), p.forecast(), p.now, p.hunt.ByHand)
	if err := sim.Letters.LoadOne(ctx, p.queries, merchantID, h); err != nil {
		return err
	}
	if err := sim.Begin(ctx, h); err != nil {
		return err
	}
	var planned []forecast.Planned
	if err := sim.Run(ctx, h.Began.Add(dryRunTime), func(p forecast.Planned) { planned = append(planned, p) }); err != nil {
		return err
	}
	if len(planned) == 0 {
		return note(ctx, p.queries, merchantID, huntID, uuid.Nil, "in mode recover nothing would be done in the first seven days")
	}
	for _, one := range planned {
		if err := note(ctx, p.queries, merchantID, huntID, uuid.Nil, plannedWords(one, h.Zone)); err != nil {
			return err
		}
	}
	return nil
}

// plannedWords say what would be done, in a hunt's history.
func plannedWords(p forecast.Planned, zone *time.Location) string {
	what := p.Action
	switch {
	case p.Action == forecast.ActionCharge:
		what = mutations[gate.KindPay].words + ", " + money.Format(p.Amount, p.Currency)
	case p.Action == forecast.ActionTakeOver:
		what = mutations[gate.KindHold].words
	case gate.FinalKinds[p.Action] != "":
		what = mutations[gate.FinalKinds[p.Action]].words
	case p.Template != "":
		what += " " + p.Template
	}
	return fmt.Sprintf("in mode recover, on %s: %s (%s)", p.At.In(zone).Format("Mon 2 Jan 15:04 MST"), what, p.Reason)
}
