package shield

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/task"
)

// The kinds of tasks of this package. A merchant has one of each at most.
const (
	KindSweep = "shield_sweep" // judges those anew whom time may change
	KindJudge = "shield_judge" // judges all anew: the policy has changed
)

// KeptAfterEnd is for how long a subscription that has ended keeps its level.
const KeptAfterEnd = 30 * 24 * time.Hour

// judgeBatch is how many rows one transaction judges.
const judgeBatch = 200

// plan has those looked at again whom time will change.
func (s *Service) plan(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, rulings []ruling, now time.Time) error {
	var next time.Time
	for _, r := range rulings {
		if at := r.after.NextAt; at != nil && (next.IsZero() || at.Before(next)) {
			next = *at
		}
	}
	if next.IsZero() {
		return nil
	}
	planned, err := db.New(tx).ShieldSweepAt(ctx, merchantID)
	if err != nil {
		return fmt.Errorf("look for the next look: %w", err)
	}
	if planned.Year() > 1 && !planned.After(next) {
		return nil
	}
	return sweepIn(ctx, tx, merchantID, next.Sub(now))
}

func sweepIn(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, wait time.Duration) error {
	wait = max(wait, time.Second)
	return task.Join(ctx, tx, task.New{MerchantID: merchantID, Kind: KindSweep, UniqueKey: "sweep", Wait: wait, Pause: wait})
}

// HandleSweep is the handler of [KindSweep].
func (s *Service) HandleSweep(ctx context.Context, t *task.Task) error {
	for {
		var count int
		err := db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
			rows, err := db.New(tx).ShieldListDue(ctx, db.ShieldListDueParams{MerchantID: t.MerchantID, Page: judgeBatch})
			if err != nil {
				return fmt.Errorf("list who is due: %w", err)
			}
			count = len(rows)
			return s.judge(ctx, tx, t.MerchantID, rows, bench{})
		})
		if err != nil {
			return err
		}
		if count < judgeBatch {
			break
		}
	}
	seconds, err := s.queries.ShieldNext(ctx, t.MerchantID)
	if err != nil {
		return fmt.Errorf("look when somebody is due: %w", err)
	}
	if seconds < 0 {
		return nil
	}
	return db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		return sweepIn(ctx, tx, t.MerchantID, time.Duration(seconds*float64(time.Second)))
	})
}

// HandleJudge is the handler of [KindJudge].
func (s *Service) HandleJudge(ctx context.Context, t *task.Task) error {
	for after := ""; ; {
		var rows []db.ShieldState
		err := db.InTx(ctx, s.pool, func(tx pgx.Tx) (err error) {
			if rows, err = db.New(tx).ShieldPage(ctx, db.ShieldPageParams{MerchantID: t.MerchantID, After: after, Page: judgeBatch}); err != nil {
				return fmt.Errorf("list levels: %w", err)
			}
			return s.judge(ctx, tx, t.MerchantID, rows, bench{})
		})
		if err != nil {
			return err
		}
		if len(rows) < judgeBatch {
			return nil
		}
		after = rows[len(rows)-1].Subscription
	}
}

// Forget ends the rows of subscriptions that have ended 30 days ago, and drops what nobody needs
// any more. It is for every day.
func (s *Service) Forget(ctx context.Context, merchantID uuid.UUID) error {
	for {
		var count int
		err := db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
			queries := db.New(tx)
			rows, err := queries.ShieldListOver(ctx, db.ShieldListOverParams{MerchantID: merchantID, Page: judgeBatch})
			if err != nil || len(rows) == 0 {
				return err
			}
			count = len(rows)
			rulings := make([]ruling, len(rows))
			for i, row := range rows {
				rulings[i].before, rulings[i].after = row, row
				rulings[i].after.Gone, rulings[i].after.NextAt, rulings[i].after.Held = true, nil, false
				rulings[i].settle()
			}
			var b bench
			if err := b.prepare(ctx, queries, merchantID, nil); err != nil {
				return err
			}
			return s.write(ctx, tx, merchantID, rulings, b)
		})
		if err != nil {
			return fmt.Errorf("forget levels: %w", err)
		}
		if count < judgeBatch {
			break
		}
	}
	if _, err := s.queries.ShieldForget(ctx, merchantID); err != nil {
		return fmt.Errorf("forget what is over: %w", err)
	}
	return nil
}
