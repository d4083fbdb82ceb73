package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/task"
)

const (
	stride    = 3 * time.Hour    // the clocks move so far at most
	least     = 90 * time.Minute // and so far at least: a task begins by so much late
	lookEvery = 6 * time.Hour    // how often the figures are read
)

// live lets the time pass. The clocks of both worlds and of the database stand still while anything
// is under way.
func (d *run) live(ctx context.Context, view *view) error {
	end := d.start.AddDate(0, 0, d.Days)
	var looked time.Time
	for {
		if err := d.settle(ctx); err != nil {
			return err
		}
		if err := d.theirs.look(ctx, d.start); err != nil {
			return err
		}
		if err := d.theirs.charge(ctx, d.now); err != nil {
			return err
		}
		if looked.IsZero() || d.now.Sub(looked) >= lookEvery || !d.now.Before(end) {
			looked = d.now
			if err := d.sample(ctx); err != nil {
				return err
			}
			view.show()
		}
		if !d.now.Before(end) {
			return nil
		}
		if err := d.move(ctx, end); err != nil {
			return err
		}
	}
}

// settle waits until every event is delivered and nothing that is due is left.
func (d *run) settle(ctx context.Context) error {
	idle := 0
	for idle < 2 {
		// what ran in between may have made events: only the second look proves that there are none
		select {
		case <-d.ours.box.Mailed():
		case <-ctx.Done():
			return ctx.Err()
		}
		busy, err := db.New(d.pool).DemoBusy(ctx)
		if err != nil {
			return fmt.Errorf("[DATABASE] %s", db.Describe(err))
		}
		if idle++; !busy {
			continue
		}
		idle = 0
		select {
		case <-time.After(8 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// unknownAfter is how long a request of an unknown outcome may wait to be settled.
const unknownAfter = 10 * time.Minute

var errUnsettled = errors.New("[WORKER] a request of an unknown outcome is waiting: the demo's clock does not pass it by")

// move moves all three clocks to the next moment at which something is due. Nobody can claim or
// plan a task meanwhile.
func (d *run) move(ctx context.Context, end time.Time) error {
	return db.InTx(ctx, d.pool, func(tx pgx.Tx) error {
		// Readers may go on; anyone who would write waits for the new time.
		if _, err := tx.Exec(ctx, "LOCK TABLE scheduled_tasks IN EXCLUSIVE MODE"); err != nil {
			return fmt.Errorf("[DATABASE] %s", db.Describe(err))
		}
		tasks, err := db.New(tx).DemoNext(ctx, unknownAfter.Seconds())
		switch {
		case err != nil:
			return fmt.Errorf("[DATABASE] %s", db.Describe(err))
		case tasks.Busy: // something came in since we settled
			return nil
		case tasks.Unknown:
			return errUnsettled
		}
		next := d.now.Add(stride)
		for _, at := range []*time.Time{&tasks.Due, d.theirs.next()} {
			if at != nil && at.Before(next) {
				next = *at
			}
		}
		if least := d.now.Add(least); next.Before(least) {
			next = least
		}
		if next = next.Truncate(time.Second).Add(time.Second); next.After(end) {
			next = end
		}
		if err := d.setClock(ctx, tx, next); err != nil {
			return err
		}
		if err := task.Rouse(ctx, tx); err != nil {
			return fmt.Errorf("[DATABASE] %s", db.Describe(err))
		}
		for _, world := range []*world{d.ours, d.theirs} {
			if err := world.box.AdvanceClock(next.Sub(d.now)); err != nil {
				return fmt.Errorf("[STRIPE] sandbox: %w", err)
			}
		}
		d.now = next
		return nil
	})
}

// setClock makes phantom_now() stand at a moment.
func (d *run) setClock(ctx context.Context, on db.DBTX, at time.Time) error {
	_, err := on.Exec(ctx, fmt.Sprintf(`CREATE OR REPLACE FUNCTION phantom_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
		RETURN timestamptz '%s'`, at.UTC().Format("2006-01-02 15:04:05+00")))
	if err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	return nil
}
