package recovery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"phantom/billing"
	"phantom/connect"
	"phantom/gate"
	"phantom/state"
	"phantom/task"
)

const (
	// after which a request that left no trace was not executed, where it will not be sent again
	settled   = 10 * time.Minute
	eventLife = 29 * 24 * time.Hour // how long Stripe tells of an event, less a day
)

// settle is for a task whose request may have left before: its worker died, or the answer did not
// come. It asks Stripe what our key has done, and only if that is nothing, the object is as it was
// and the key is young may the same request leave again. It reports true for that; else the task is
// ended or put off.
func (j *job) settle(ctx context.Context) (again bool, err error) {
	wall, err := j.s.queries.WallClock(ctx)
	if err != nil {
		return false, fmt.Errorf("read clock: %w", err)
	}
	age := wall.Sub(*j.t.FirstSentAt)
	if err := j.readCharges(ctx, j.attempt.ClearUntil); err != nil {
		return false, err
	}
	var done execution
	// of anything else the object tells, and a repetition changes nothing
	if j.t.Kind == gate.KindPay {
		if done, err = j.findExecution(ctx, j.charges, j.attempt.ClearUntil); err != nil {
			return false, err
		}
	}
	failpoint("searched")
	if done.charge != nil {
		return false, j.end(ctx, chargeOutcome(*done.charge))
	}
	o, err := readObject(ctx, j.reader, j.t.Kind, j.p.Object)
	if err != nil && !errors.Is(err, connect.ErrNotFound) {
		return false, err
	}
	failpoint("reread")
	if j.t.Kind != gate.KindPay && mutations[j.t.Kind].done(o) {
		result, err := j.doneBefore(ctx, o)
		if err != nil {
			return false, err
		}
		return false, j.end(ctx, result)
	}
	return j.settleBy(ctx, o, done, age)
}

// settleBy decides where neither a charge nor the object shows that the request was executed.
func (j *job) settleBy(ctx context.Context, o billing.Object, done execution, age time.Duration) (again bool, err error) {
	switch {
	case age >= eventLife:
		return false, j.review(ctx, "it is not known any more what task_"+j.t.ID.String()+" did: look for it in the dashboard's log, and cancel it")
	case done.crowd:
		// a charge has been made since, and it may be ours: nothing leaves again on the key's word
		// alone
		return false, j.review(ctx, "the account has had too many events at that time to find out what task_"+j.t.ID.String()+" did: look for it in the dashboard's log")
	case len(done.unsure) > 0: // one of these may be ours: it is neither absent nor to be repeated
		return false, j.awaitEvent(ctx, done.unsure)
	case age >= task.KeyDeadline || o.ID == "" && age >= settled:
		return false, j.end(ctx, absent)
	case o.ID == "":
		return false, task.Snooze(time.Minute)
	case j.t.Kind == gate.KindPay && o.Intent.Status == "processing":
		return false, task.Snooze(time.Hour)
	}
	if err := j.see(ctx, o); err != nil {
		return false, err
	}
	// the mark asks once more
	if r := gate.MayLeave(j.t.Kind, j.p.planned(), j.facts, j.now); !r.Yes() {
		return false, j.leaveUnsent(ctx, r, age)
	}
	if j.t.Attempt > mostSent {
		return false, task.Snooze(30 * time.Minute)
	}
	return true, nil
}

// leaveUnsent is what becomes of a request that was not executed and may not leave again. Nothing
// was done, so that after a while it is known to be absent; a halt is waited for.
func (j *job) leaveUnsent(ctx context.Context, r gate.Ruling, age time.Duration) error {
	switch {
	case r.Code == gate.Disconnected:
		return connect.ErrRevoked
	case age >= settled && r.Code != gate.Halted && r.Code != gate.SwitchedOff:
		return j.end(ctx, absent)
	}
	return task.Snooze(max(min(age/4, 30*time.Minute), time.Minute))
}

// absent is the outcome of a request that Stripe never executed. A new attempt is a new row.
var absent = outcome{status: state.TaskFailed, result: state.AttemptAbsent, why: "the request never reached Stripe"}
