//go:build failpoints

package task

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
)

// Step claims one task, if it is due, tries it once in the calling goroutine and settles it. Unlike
// [Queue.RunOne] it keeps no
// heartbeat and never waits, so that a simulation can say when everything happens. Only builds with
// the tag failpoints have it.
func (q *Queue) Step(ctx context.Context, merchantID, id uuid.UUID) error {
	row, err := q.queries.TaskClaimOne(ctx,
		db.TaskClaimOneParams{LeaseSeconds: q.config.Lease.Seconds(), MerchantID: merchantID, ID: id})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("claim task %s: %w", id, err)
	}
	h := &held{task: &Task{
		MerchantID: row.MerchantID, ID: row.ID, Kind: row.Kind, Params: row.Params,
		SealedParams: row.SealedParams,
		Attempt:      row.Attempts, Fence: row.Fence, FirstSentAt: row.FirstSentAt, RunAt: row.RunAt, First: row.First,
	}}
	h.ctx, h.cancel = context.WithCancelCause(ctx)
	q.write(ctx, []result{q.try(h)})
	return nil
}

// Rescue gives the tasks back whose lease has ended, as [Queue.Run] does every few seconds.
func (q *Queue) Rescue(ctx context.Context) error { return q.rescue(ctx) }
