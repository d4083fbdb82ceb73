package recovery

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/money"
)

// observe writes into the history of a hunt that only watches what it would do in its first seven days, thought through as by
// [Service.DryRun] but for this hunt alone. It does nothing else.
func (s *Service) observe(ctx context.Context, tx db.DBTX, merchantID, huntID uuid.UUID) error {
	p, err := s.lock(ctx, tx, merchantID, huntID)
	if err != nil || p.hunt.State != "active" || p.hunt.HeldOut || p.hunt.Mode != ModeObserve {
		return err
	}
	notes, err := p.queries.HuntNoteList(ctx, db.HuntNoteListParams{MerchantID: merchantID, HuntID: huntID})
	if err != nil {
		return fmt.Errorf("list notes: %w", err)
	}
	if len(notes) > 1 { // besides its beginning: the task comes again after its worker died
		return nil
	}
	if there, err := p.load(ctx); err != nil || !there || p.ghost.Status != "open" {
		return err
	}
	sim := newSimulation(s.advisor)
	h, err := imagine(p.ghost, string(p.hunt.Customer), p.outlook(), p.now, p.hunt.ByHand)
	if err != nil {
		return err
	}
	if err := sim.letters.loadOne(ctx, p.queries, merchantID, h); err != nil {
		return err
	}
	if err := sim.begin(ctx, h); err != nil {
		return err
	}
	var planned []Planned
	if err := sim.run(ctx, h.began.Add(dryRunTime), func(p Planned) { planned = append(planned, p) }); err != nil {
		return err
	}
	if len(planned) == 0 {
		return note(ctx, p.queries, merchantID, huntID, uuid.Nil, "in mode recover nothing would be done in the first seven days")
	}
	for _, one := range planned {
		if err := note(ctx, p.queries, merchantID, huntID, uuid.Nil, one.words(h.zone)); err != nil {
			return err
		}
	}
	return nil
}

// words say what would be done, in a hunt's history.
func (p Planned) words(zone *time.Location) string {
	what := p.Action
	switch {
	case p.Action == actionCharge:
		what = mutations[KindPay].words + ", " + money.Format(p.Amount, p.Currency)
	case p.Action == actionTakeOver:
		what = mutations[KindHold].words
	case finalKinds[p.Action] != "":
		what = mutations[finalKinds[p.Action]].words
	case p.Template != "":
		what += " " + p.Template
	}
	return fmt.Sprintf("in mode recover, on %s: %s (%s)", p.At.In(zone).Format("Mon 2 Jan 15:04 MST"), what, p.Reason)
}
