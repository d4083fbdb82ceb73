package recovery

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/gate"
	"phantom/message"
	"phantom/playbook"
	"phantom/state"
	"phantom/task"
)

// heldOut says whether a customer is left alone: the hash under the merchant's salt, as a number
// from 0 to 100, against the percentage. So a customer stays where they are when the percentage
// grows, and over a purge.
func heldOut(customer []byte, percent int) bool {
	place := float64(binary.BigEndian.Uint64(customer)>>11) / (1 << 53) * 100
	return place < float64(percent)
}

// opening begins hunts of one merchant in a transaction.
type opening struct {
	s        *Service
	tx       db.DBTX
	merchant uuid.UUID
	playbook playbook.Versioned // the newest
	byHand   bool               // somebody has named the ghosts
	hash     message.Hasher     // the merchant's
	started  *Started           // what has begun is added to it
}

// begin stores the hunts of these ghosts with their tasks: one that plans its first steps, and one
// that ends its window. Where the playbook recovers, a hunt that only watches ends for it.
func (o *opening) begin(ctx context.Context, ghosts []db.GhostTarget) error {
	queries := db.New(o.tx)
	now, err := queries.Now(ctx)
	if err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	batch, lines, err := o.choose(ctx, ghosts, now)
	if err != nil {
		return err
	}
	// Anyone who closes a ghost comes before this and is seen, or waits and sees the hunt.
	if err := queries.HuntShareGhosts(ctx, db.HuntShareGhostsParams{MerchantID: o.merchant, Ghosts: batch.Ghosts}); err != nil {
		return fmt.Errorf("lock ghosts: %w", err)
	}
	if o.playbook.Mode == state.ModeRecover {
		if err := o.replaceWatching(ctx, batch.Ghosts); err != nil {
			return err
		}
	}
	added, err := queries.HuntCreateMany(ctx, batch)
	if err != nil {
		return fmt.Errorf("create hunts: %w", err)
	}
	o.started.Hunts += len(added)
	o.started.Skipped += len(batch.Ids) - len(added)
	return o.follow(ctx, batch, lines, unique(added), now)
}

// choose says which ghosts are to be hunted, and for each of them the first line of its history.
func (o *opening) choose(ctx context.Context, ghosts []db.GhostTarget, now time.Time) (batch db.HuntCreateManyParams, lines []string, err error) {
	queries := db.New(o.tx)
	suppressing, err := queries.SuppressionExists(ctx, o.merchant)
	if err != nil {
		return batch, nil, fmt.Errorf("read suppressions: %w", err)
	}
	batch = db.HuntCreateManyParams{MerchantID: o.merchant, PlaybookVersion: o.playbook.Version, Mode: o.playbook.Mode, ByHand: o.byHand}
	for _, g := range ghosts {
		plan, segment := o.playbook.For(g)
		skip := !gate.MayHunt(plan, g, o.byHand, now)
		if !skip && suppressing { // no matter which arm they would be in
			if skip, err = message.Unwanted(ctx, queries, g, o.hash, plan.Steps); err != nil {
				return batch, nil, err
			}
		}
		if skip {
			o.started.Skipped++
			continue
		}
		customer := o.hash("customer", g.StripeCustomerID)
		batch.Ids, batch.Ghosts, batch.Customers = append(batch.Ids, newID()), append(batch.Ghosts, g.ID), append(batch.Customers, customer)
		batch.Helds = append(batch.Helds, heldOut(customer, o.playbook.HoldoutPercent))
		lines = append(lines, beginning(o.playbook, plan, segment, g, o.byHand, now))
	}
	return batch, lines, nil
}

// follow stores the first line of the history and the tasks of each hunt that has begun.
func (o *opening) follow(ctx context.Context, batch db.HuntCreateManyParams, lines []string, begun map[uuid.UUID]bool, now time.Time) error {
	notes, tasks := db.HuntNoteCreateManyParams{MerchantID: o.merchant}, []task.New{}
	for i, id := range batch.Ids {
		if !begun[id] {
			continue
		}
		line := lines[i]
		if batch.Helds[i] {
			o.started.HeldOut++
			line = "held out: this customer is left to what would have happened anyway, so that the others can be compared with them"
		} else {
			tasks = append(tasks, task.New{ID: newID(), UniqueKey: beginKey(id), RunAt: now, Params: huntParams{id, "begin"}})
		}
		notes.Hunts, notes.Ids, notes.Notes = append(notes.Hunts, id), append(notes.Ids, newID()), append(notes.Notes, line)
		tasks = append(tasks, task.New{
			ID: newID(), UniqueKey: endKey(id), RunAt: now.Add(time.Duration(o.playbook.WindowDays) * 24 * time.Hour), Params: huntParams{id, "end"},
		})
	}
	if err := db.New(o.tx).HuntNoteCreateMany(ctx, notes); err != nil {
		return fmt.Errorf("note: %w", err)
	}
	_, err := task.EnqueueKeyed(ctx, o.tx, o.merchant, KindHunt, tasks)
	return err
}

// replaceWatching ends the hunts of these ghosts that only watch, so that hunts that recover can
// begin.
func (o *opening) replaceWatching(ctx context.Context, ghosts []uuid.UUID) error {
	hunts, err := db.New(o.tx).HuntListActiveOf(ctx, db.HuntListActiveOfParams{MerchantID: o.merchant, Ghosts: ghosts})
	if err != nil {
		return fmt.Errorf("list hunts: %w", err)
	}
	for _, hunt := range hunts {
		if hunt.Mode != state.ModeObserve {
			continue
		}
		if err := o.s.endHunt(ctx, o.tx, hunt, state.HuntStopped, "a hunt in mode recover takes its place"); err != nil {
			return err
		}
	}
	return nil
}

// beginning is the first line of a hunt's history.
func beginning(playbook playbook.Versioned, plan playbook.Playbook, segment string, g db.GhostTarget, byHand bool,
	now time.Time) string {
	words := fmt.Sprintf("begun in mode %s with version %d of the playbook", playbook.Mode,
		playbook.Version)
	if segment != "" {
		words = "segment " + segment + ": " + words
	}
	if old := len(g.Owed()) - len(plan.Chosen(g, byHand, now)); old > 0 {
		words += fmt.Sprintf("; invoices left alone because they are older than %d days: %d",
			plan.MaxDebtAgeDays, old)
	}
	return words
}
