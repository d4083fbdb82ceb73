package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/state"
)

// ErrLost says that a task is another worker's now: what its old holder would write changes
// nothing.
var ErrLost = errors.New("the task is another worker's now")

// KeyDeadline is how long a request may be sent again under its idempotency key. Stripe and Resend
// may forget a key after 24 hours, and would take it for a new one then.
const KeyDeadline = 20 * time.Hour

// MarkSent notes in the caller's transaction that the task's request is about to leave, and when
// that was first so, in t. It fails with [ErrLost].
func MarkSent(ctx context.Context, tx db.DBTX, t *Task) error {
	at, err := db.New(tx).TaskMarkSent(ctx, db.TaskMarkSentParams{MerchantID: t.MerchantID, ID: t.ID, Fence: t.Fence})
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrLost
	}
	if err != nil {
		return fmt.Errorf("mark the task as sent: %w", err)
	}
	t.FirstSentAt = at
	return nil
}

// Finish ends a task in the caller's transaction, together with what it has brought about. Status
// is 'succeeded', 'failed', 'canceled' or 'needs_review'; outcome is marshalled to JSON, nil for
// none; why goes to last_error. The handler returns nil afterwards: the queue finds the task done.
// It fails with [ErrLost].
func Finish(ctx context.Context, tx db.DBTX, t *Task, status state.Task, outcome any, why string) error {
	row := db.TaskFinishParams{MerchantID: t.MerchantID, ID: t.ID, Fence: t.Fence, Status: status, Error: why}
	if outcome != nil {
		text, err := json.Marshal(outcome)
		if err != nil {
			return fmt.Errorf("marshal outcome: %w", err)
		}
		row.Outcome = text
	}
	changed, err := db.New(tx).TaskFinish(ctx, row)
	if err != nil {
		return fmt.Errorf("finish the task: %w", err)
	}
	if changed == 0 {
		return ErrLost
	}
	t.finished = status
	return nil
}
