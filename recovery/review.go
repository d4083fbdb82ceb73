package recovery

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/gate"
	"phantom/state"
	"phantom/task"
	"phantom/trail"
)

// RefusedError says why a task is neither retried nor canceled, and what to do instead. It goes on
// from the words "task ID".
type RefusedError string

func (e RefusedError) Error() string { return string(e) }

// reviewedTask is what the audit log says of a task.
type reviewedTask struct {
	Kind   string     `json:"kind"`
	Status state.Task `json:"status"`
}

// recordReview adds what a person has done with a task to the audit log.
func recordReview(ctx context.Context, tx pgx.Tx, row db.TaskShowRow, action string, status state.Task) error {
	return trail.Record(ctx, tx, trail.Change{
		Merchant: row.MerchantID, Action: action, Object: row.ID.String(),
		Before: reviewedTask{row.Kind, row.Status}, After: reviewedTask{row.Kind, status},
	})
}

// RetryTask runs a task again that waits for a person. It may be a [RefusedError].
func RetryTask(ctx context.Context, tx pgx.Tx, row db.TaskShowRow) error {
	if why := refuseRetry(row); why != "" {
		return RefusedError(why)
	}
	queries := db.New(tx)
	changed, err := retry(ctx, queries, row)
	if err != nil {
		return fmt.Errorf("retry task: %w", err)
	}
	if changed == 0 {
		return RefusedError("has changed at this moment: look at it again with phantom tasks show")
	}
	if err := recordReview(ctx, tx, row, "task.retry", state.TaskPending); err != nil {
		return err
	}
	return task.Rouse(ctx, tx)
}

// refuseRetry says why a task is not run again, or nothing.
func refuseRetry(row db.TaskShowRow) string {
	switch row.Status {
	case state.TaskNeedsReview:
	case state.TaskPending, state.TaskRunning:
		return "is " + string(row.Status) + ": it is tried again by itself"
	case state.TaskParked:
		return "is parked: it goes on by itself when Stripe accepts " + row.Account + "'s token again, or " + row.Account + " connects again"
	default:
		return "is " + string(row.Status) + ": a finished task is never run again"
	}
	if m := state.Message(row.Message); gate.Writes(row.Kind) && m != state.MessagePlanned && m != state.MessageSending {
		return "has ended its message, which is not sent again: look for it in the log of Resend or Twilio, and close it with cancel"
	}
	if row.TooOld && !looksBeforeItSends(row.Kind) {
		return "was first sent over 20 h ago, and Stripe may have forgotten its key: close it with cancel; the hunt plans a new attempt"
	}
	return ""
}

// looksBeforeItSends says whether tasks of a kind know themselves how old their key is: they find
// out what became of it rather than send it again.
func looksBeforeItSends(kind string) bool { return Mutates(kind) || gate.Writes(kind) }

func retry(ctx context.Context, queries *db.Queries, row db.TaskShowRow) (changed int64, err error) {
	if looksBeforeItSends(row.Kind) {
		return queries.TaskRetry(ctx, db.TaskRetryParams{MerchantID: row.MerchantID, ID: row.ID})
	}
	return queries.TaskRetryYoung(ctx, db.TaskRetryYoungParams{MerchantID: row.MerchantID, ID: row.ID})
}

// CancelTask ends a task for good. Its hunt goes on. It may be a [RefusedError].
func CancelTask(ctx context.Context, tx pgx.Tx, row db.TaskShowRow) error {
	changed, err := db.New(tx).TaskCancel(ctx, db.TaskCancelParams{MerchantID: row.MerchantID, ID: row.ID})
	if err != nil {
		return fmt.Errorf("cancel task: %w", err)
	}
	if changed == 0 {
		return RefusedError(whyNotCanceled(row))
	}
	if err := planAfterCancel(ctx, tx, row.MerchantID, row.ID, row.Kind); err != nil {
		return err
	}
	return recordReview(ctx, tx, row, "task.cancel", state.TaskCanceled)
}

func whyNotCanceled(row db.TaskShowRow) string {
	switch row.Status {
	case state.TaskRunning:
		return "runs at this moment: wait until that has ended"
	case state.TaskParked:
		return "was sent before it was parked, and what it did is not known: when " + row.Account +
			" is accepted or connects again it finds that out, and ends by itself or asks for you with status needs_review"
	case state.TaskPending:
		return "has been sent, and what it did is being found out: it ends by itself, or asks for you with status needs_review"
	default:
		return "is " + string(row.Status) + ": there is nothing left to cancel"
	}
}

// planAfterCancel has a hunt go on after a person has given up its charge or message.
func planAfterCancel(ctx context.Context, tx db.DBTX, merchantID, id uuid.UUID, kind string) error {
	queries := db.New(tx)
	switch {
	case gate.Writes(kind):
		if err := noteCanceled(ctx, tx, merchantID, id); err != nil {
			return err
		}
	case !Mutates(kind):
		return nil
	}
	params, err := queries.TaskGetParams(ctx, db.TaskGetParamsParams{MerchantID: merchantID, ID: id})
	if err != nil {
		return fmt.Errorf("read the task's params: %w", err)
	}
	plan, named := planAgain(merchantID, params)
	if !named {
		return nil
	}
	if _, err := queries.TaskEnqueue(ctx, plan); err != nil {
		return fmt.Errorf("plan the hunt again: %w", err)
	}
	return task.Rouse(ctx, tx)
}
