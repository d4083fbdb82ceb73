package task

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
)

// A series is a merchant's tasks of one kind of which each plans the next: the daily purge, the
// weekly audit. Their unique key is the day.

// Slot is when a merchant's next task of a series is due. The queries of all series give its
// columns.
type Slot = db.PurgeListSlotsRow

// EnsureSeries plans a page of merchants at a time, until none lacks a task. plan plans for one
// merchant or, for the zero id, for a page of those that have none ahead.
func EnsureSeries(ctx context.Context, pool *pgxpool.Pool, plan func(context.Context, db.DBTX, uuid.UUID) (int, error)) error {
	for {
		var planned int
		err := db.InTx(ctx, pool, func(tx pgx.Tx) (err error) {
			planned, err = plan(ctx, tx, uuid.Nil)
			return err
		})
		if err != nil || planned == 0 {
			return err
		}
	}
}

// EnqueueSlots plans these tasks, and says how many were not planned yet.
func EnqueueSlots(ctx context.Context, tx db.DBTX, kind string, slots []Slot) (planned int, err error) {
	for _, slot := range slots {
		id, err := Enqueue(ctx, tx, New{MerchantID: slot.MerchantID, Kind: kind, RunAt: slot.RunAt, UniqueKey: slot.Day})
		if err != nil {
			return 0, err
		}
		if id != uuid.Nil {
			planned++
		}
	}
	return planned, nil
}
