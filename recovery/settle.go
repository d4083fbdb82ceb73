package recovery

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"phantom/connect"
	"phantom/db"
	"phantom/task"
)

// settle is for a task whose request may have left before: its worker died, or the answer did not come. It asks Stripe what our key has
// done, and only if that is nothing, the object is as it was and the key is young may the same request leave again. It reports true for
// that; else the task is ended or put off.
func (j *job) settle(ctx context.Context) (again bool, err error) {
	wall, err := j.s.queries.WallClock(ctx)
	if err != nil {
		return false, fmt.Errorf("read clock: %w", err)
	}
	age := wall.Sub(*j.t.FirstSentAt)
	attempt, err := j.s.queries.AttemptGet(ctx, db.AttemptGetParams{MerchantID: j.t.MerchantID, TaskID: j.t.ID})
	if err != nil {
		return false, fmt.Errorf("read attempt: %w", err)
	}
	since := *j.t.FirstSentAt
	if attempt.SentAt != nil {
		since = *attempt.SentAt // by the clock that events are told by
	}
	event := ""
	if j.t.Kind == KindPay { // of anything else the object tells, and a repetition changes nothing
		event, err = findCharge(ctx, j.reader, j.p, j.t.ID.String(), since)
	}
	tooMany := errors.Is(err, errTooManyEvents)
	if err != nil && !tooMany {
		return false, err
	}
	failpoint("searched")
	if event != "" {
		o, err := j.outcomeOfEvent(ctx, event)
		if err != nil {
			return false, err
		}
		return false, j.end(ctx, o)
	}
	o, err := readObject(ctx, j.reader, j.t.Kind, j.p.Object)
	if err != nil && !errors.Is(err, connect.ErrNotFound) {
		return false, err
	}
	failpoint("reread")
	return j.settleBy(ctx, o, since, age, tooMany)
}

// settleBy decides by the object where no event tells. since is the first sending's time by PHANTOM's clock.
func (j *job) settleBy(ctx context.Context, o object, since time.Time, age time.Duration, tooMany bool) (again bool, err error) {
	if j.t.Kind != KindPay && mutations[j.t.Kind].done(o) {
		return false, j.end(ctx, outcome{status: "succeeded", result: "done"}) // whoever did it, it is what was wanted
	}
	why, err := j.mayNotSend(ctx, j.s.queries)
	if err != nil {
		return false, err
	}
	changed := o.Status != "open" || o.AmountRemaining != j.p.Amount || o.Currency != j.p.Currency
	if j.t.Kind != KindPay {
		changed = o.ID == ""
	}
	switch {
	case j.t.Kind == KindPay && o.Intent.Status == "processing":
		return false, task.Snooze(time.Hour) // the bank's answer brings an event
	case age >= eventLife:
		return false, j.review(ctx, "it is not known any more what task_"+j.t.ID.String()+" did: look for it in the dashboard's log, and cancel it")
	case tooMany: // a charge has been made since, and it may be ours: nothing leaves again on the key's word alone
		return false, j.review(ctx, "the account has had too many events at that time to find out what task_"+j.t.ID.String()+" did: look for it in the dashboard's log")
	case age >= keyLife:
		return false, j.end(ctx, absent)
	case why == "halted":
		return false, task.Snooze(time.Minute)
	case why != "" || changed:
		if age >= settled {
			return false, j.end(ctx, absent)
		}
		return false, task.Snooze(time.Minute)
	case j.t.Attempt > mostSent:
		return false, task.Snooze(30 * time.Minute)
	}
	if forbidden, err := j.forbidden(ctx, o, since); !forbidden || err != nil {
		return err == nil, err
	}
	if age >= settled {
		return false, j.end(ctx, absent)
	}
	return false, task.Snooze(time.Minute)
}

// forbidden says whether what forbids a first send forbids another one. For a charge so does any charge since: it is ours until an event
// says whose it is, though it be one that no budget counts.
func (j *job) forbidden(ctx context.Context, o object, since time.Time) (bool, error) {
	if j.t.Kind != KindPay && j.t.Kind != KindHold {
		v, err := j.judgeStep(ctx, o)
		return v != verdict{}, err
	}
	charges, err := readCharges(ctx, j.reader, j.p.Customer)
	if err != nil {
		return false, err
	}
	if j.t.Kind == KindHold {
		o.NextAttempt = nil // that is what it ends
		v := j.judge(o, charges)
		return v.over != "" || v.again != "", nil
	}
	return len(chargesSince(charges, j.p, since)) != 0 || j.judge(o, charges) != verdict{}, nil
}

// eventLife is how long Stripe tells of an event, less a day.
const eventLife = 29 * 24 * time.Hour

// absent is the outcome of a request that Stripe never executed. A new attempt is a new row.
var absent = outcome{status: "failed", result: "absent", why: "the request never reached Stripe"}

// outcomeOfEvent says what our request has done by the event that it left.
func (j *job) outcomeOfEvent(ctx context.Context, event string) (outcome, error) {
	if j.t.Kind != KindPay {
		return outcome{status: "succeeded", result: "done"}, nil
	}
	switch event {
	case "invoice.paid", "charge.succeeded":
		return outcome{status: "succeeded", result: "paid", why: "paid"}, nil
	case "charge.pending":
		return outcome{status: "succeeded", result: "processing", why: "the bank is still moving the money"}, nil
	case "invoice.payment_action_required":
		return declined("customer", "authentication_required"), nil
	}
	charges, err := readCharges(ctx, j.reader, j.p.Customer)
	if err != nil {
		return outcome{}, err
	}
	for _, c := range charges { // the newest first
		if c.Invoice == j.p.Object && c.Status == "failed" {
			return declined(c.class()), nil
		}
	}
	return declined("unknown", strings.TrimPrefix(event, "invoice.")), nil
}
