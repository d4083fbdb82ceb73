package task

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/state"
)

// lookAgain is how long [Queue.RunOne] waits at most before it looks at its task again.
const lookAgain = 250 * time.Millisecond

// StatusError says that a task came to rest otherwise than by success.
type StatusError struct {
	Status    state.Task // failed, canceled, parked or needs_review
	LastError string     // "" if none was noted
}

func (e *StatusError) Error() string {
	if e.LastError == "" {
		return "task is " + string(e.Status)
	}
	return "task is " + string(e.Status) + ": " + e.LastError
}

// RunOne sees one task through and touches no other: it runs the task here whenever it is due, and
// waits while another process holds it. It needs no [Queue.Run]. It returns nil when the task has
// succeeded, a [*StatusError] when it has failed, was canceled, is parked or waits for a person,
// and pgx.ErrNoRows, wrapped, when there is no such task. When ctx ends, a running handler is told
// so and the task is given back.
func (q *Queue) RunOne(ctx context.Context, merchantID, id uuid.UUID) error {
	for {
		now, err := q.queries.TaskProgress(ctx, db.TaskProgressParams{MerchantID: merchantID, ID: id})
		switch {
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("look at task %s: %w", id, err)
		case now.Status == state.TaskSucceeded:
			return nil
		case now.Status != state.TaskPending && now.Status != state.TaskRunning:
			return &StatusError{Status: now.Status, LastError: now.LastError}
		case now.Seconds > 0:
			q.pause(ctx, time.Duration(min(now.Seconds+0.001, lookAgain.Seconds())*float64(time.Second)))
		case now.Status == state.TaskRunning:
			_, err = q.queries.TaskRescueOne(ctx, db.TaskRescueOneParams{MaxAttempts: q.config.MaxAttempts, MerchantID: merchantID, ID: id})
		default:
			err = q.tryOne(ctx, merchantID, id)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("run task %s: %w", id, err)
		}
	}
}

// tryOne claims a task, unless somebody was faster, runs its handler and settles it.
func (q *Queue) tryOne(ctx context.Context, merchantID, id uuid.UUID) error {
	claiming, heard := hearOut(ctx)
	row, err := q.queries.TaskClaimOne(claiming, db.TaskClaimOneParams{LeaseSeconds: q.config.Lease.Seconds(), MerchantID: merchantID, ID: id})
	heard()
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	h := &held{task: &Task{
		MerchantID: row.MerchantID, ID: row.ID, Kind: row.Kind, Params: row.Params, SealedParams: row.SealedParams,
		Attempt: row.Attempts, Fence: row.Fence, FirstSentAt: row.FirstSentAt, RunAt: row.RunAt, First: row.First,
	}}
	h.ctx, h.cancel = context.WithCancelCause(ctx)
	// The heartbeats and the result outlive ctx, though not for long.
	alive, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(q.config.Grace, end) })()
	var beats sync.WaitGroup
	defer beats.Wait()
	beating, stop := context.WithCancel(alive)
	defer stop()
	beats.Go(func() {
		q.every(beating, q.config.Lease/4, "heartbeat", func(ctx context.Context) error { return q.beat(ctx, []*held{h}) })
	})
	r := q.try(h)
	if ctx.Err() != nil && r.status == state.TaskPending && r.counted {
		r = result{held: h, status: state.TaskPending} // it was told to stop: no failed try
	}
	q.write(alive, []result{r})
	return nil
}
