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

// beginner begins hunts of one merchant in a transaction.
type beginner struct {
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
func (b *beginner) begin(ctx context.Context, ghosts []db.GhostTarget) error {
	queries := db.New(b.tx)
	now, err := queries.Now(ctx)
	if err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	batch, notes, err := b.choose(ctx, ghosts, now)
	if err != nil {
		return err
	}
	// Anyone who closes a ghost comes before this and is seen, or waits and sees the hunt.
	if err := queries.HuntShareGhosts(ctx, db.HuntShareGhostsParams{MerchantID: b.merchant, Ghosts: batch.Ghosts}); err != nil {
		return fmt.Errorf("lock ghosts: %w", err)
	}
	if b.playbook.Mode == state.ModeRecover {
		if err := b.replaceWatching(ctx, batch.Ghosts); err != nil {
			return err
		}
	}
	added, err := queries.HuntCreateMany(ctx, batch)
	if err != nil {
		return fmt.Errorf("create hunts: %w", err)
	}
	b.started.Hunts += len(added)
	b.started.Skipped += len(batch.Ids) - len(added)
	return b.enqueue(ctx, batch, notes, unique(added), now)
}

// choose says which ghosts are to be hunted, and for each of them the first line of its history.
func (b *beginner) choose(ctx context.Context, ghosts []db.GhostTarget, now time.Time) (batch db.HuntCreateManyParams, notes []string, err error) {
	queries := db.New(b.tx)
	some, err := queries.SuppressionExists(ctx, b.merchant)
	if err != nil {
		return batch, nil, fmt.Errorf("read suppressions: %w", err)
	}
	batch = db.HuntCreateManyParams{MerchantID: b.merchant, PlaybookVersion: b.playbook.Version, Mode: b.playbook.Mode, ByHand: b.byHand}
	for _, g := range ghosts {
		plan, segment := b.playbook.For(g)
		skip := !gate.MayHunt(plan, g, b.byHand, now)
		if !skip && some { // no matter which arm they would be in
			if skip, err = message.Unwanted(ctx, queries, g, b.hash, plan.Steps); err != nil {
				return batch, nil, err
			}
		}
		if skip {
			b.started.Skipped++
			continue
		}
		customer := b.hash("customer", g.StripeCustomerID)
		batch.Ids, batch.Ghosts, batch.Customers = append(batch.Ids, newID()), append(batch.Ghosts, g.ID), append(batch.Customers, customer)
		batch.Helds = append(batch.Helds, heldOut(customer, b.playbook.HoldoutPercent))
		notes = append(notes, beginning(b.playbook, plan, segment, g, b.byHand, now))
	}
	return batch, notes, nil
}

// enqueue stores the first note and the tasks of each hunt that has begun.
func (b *beginner) enqueue(ctx context.Context, batch db.HuntCreateManyParams, words []string, begun map[uuid.UUID]bool, now time.Time) error {
	notes, tasks := db.HuntNoteCreateManyParams{MerchantID: b.merchant}, []task.New{}
	for i, id := range batch.Ids {
		if !begun[id] {
			continue
		}
		text := words[i]
		if batch.Helds[i] {
			b.started.HeldOut++
			text = "held out: this customer is left to what would have happened anyway, so that the others can be compared with them"
		} else {
			tasks = append(tasks, task.New{ID: newID(), UniqueKey: beginKey(id), RunAt: now, Params: huntParams{id, "begin"}})
		}
		notes.Hunts, notes.Ids, notes.Notes = append(notes.Hunts, id), append(notes.Ids, newID()), append(notes.Notes, text)
		tasks = append(tasks, task.New{
			ID: newID(), UniqueKey: endKey(id), RunAt: now.Add(time.Duration(b.playbook.WindowDays) * 24 * time.Hour), Params: huntParams{id, "end"},
		})
	}
	if err := db.New(b.tx).HuntNoteCreateMany(ctx, notes); err != nil {
		return fmt.Errorf("note: %w", err)
	}
	_, err := task.EnqueueKeyed(ctx, b.tx, b.merchant, KindHunt, tasks)
	return err
}

// replaceWatching ends the hunts of these ghosts that only watch, so that hunts that recover can
// begin.
func (b *beginner) replaceWatching(ctx context.Context, ghosts []uuid.UUID) error {
	hunts, err := db.New(b.tx).HuntListActiveOf(ctx, db.HuntListActiveOfParams{MerchantID: b.merchant, Ghosts: ghosts})
	if err != nil {
		return fmt.Errorf("list hunts: %w", err)
	}
	for _, hunt := range hunts {
		if hunt.Mode != state.ModeObserve {
			continue
		}
		if err := b.s.endHunt(ctx, b.tx, hunt, state.HuntStopped, "a hunt in mode recover takes its place"); err != nil {
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
