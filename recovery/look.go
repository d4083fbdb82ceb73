package recovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"phantom/connect"
	"phantom/db"
	"phantom/task"
)

// look reads the object before anything was sent. It reports false where the task is not to be sent now, having ended it or with the
// verdict that puts it off.
func (j *job) look(ctx context.Context) (bool, error) {
	if j.ghost.Status != "open" && j.t.Kind != KindResume {
		o := notSent("the ghost is gone", false)
		o.outdated = j.ghost.ClosedReason != nil && *j.ghost.ClosedReason == closedUnderWay // it may come back
		return false, j.end(ctx, o)
	}
	if (j.t.Kind == KindPay || j.t.Kind == KindHold) && j.now.After(windowEnd(j.hunt, j.playbook)) { // it waited: for a pace, a cap, a merchant
		return false, j.end(ctx, notSent("the window is over", false))
	}
	if j.now.Sub(j.t.RunAt) > keyLife { // a key as young as that keeps it from a second execution
		if done, err := j.doneBefore(ctx); done || err != nil {
			return false, err
		}
	}
	o, err := readObject(ctx, j.reader, j.t.Kind, j.p.Object)
	if errors.Is(err, connect.ErrNotFound) {
		return false, j.end(ctx, notSent("Stripe does not know it any more", true))
	}
	if err != nil {
		return false, err
	}
	if j.t.Kind != KindPay && j.t.Kind != KindHold {
		return j.lookAtStep(ctx, o)
	}
	if j.t.Kind == KindHold {
		if mutations[KindHold].done(o) {
			return false, j.end(ctx, outcome{status: "succeeded", result: "done", why: "it was so already"})
		}
		o.NextAttempt = nil // that is what it ends
	}
	charges, err := readCharges(ctx, j.reader, j.p.Customer)
	if err != nil {
		return false, err
	}
	v := j.judge(o, charges)
	if j.t.Kind == KindHold && v.wait.Before(j.now.Add(oneADay)) && o.Attempted {
		v.wait = time.Time{} // the charge that follows waits for it
	}
	if v.hold {
		held, err := j.heldBefore(ctx)
		if err != nil {
			return false, err
		}
		if held { // somebody has turned Smart Retries on again: theirs goes first
			v = verdict{wait: time.Unix(*o.NextAttempt, 0).Add(time.Hour), why: afterTheirs}
		}
	}
	switch {
	case v.over != "":
		return false, j.end(ctx, notSent(v.over, true))
	case v.again != "":
		return false, j.end(ctx, outcome{status: "canceled", result: "not_sent", why: v.again, outdated: !v.hold})
	case !v.wait.IsZero():
		return false, j.wait(ctx, j.s.queries, v.wait, v.why)
	}
	return true, nil
}

// lookAtStep looks before a step that is no charge: nobody loses his subscription who has paid.
func (j *job) lookAtStep(ctx context.Context, o object) (bool, error) {
	if mutations[j.t.Kind].done(o) {
		return false, j.end(ctx, outcome{status: "succeeded", result: "done", why: "it was so already", others: true})
	}
	v, err := j.judgeStep(ctx, o)
	switch {
	case err != nil:
		return false, err
	case v.over != "":
		return false, j.end(ctx, notSent(v.over, false))
	case v.again != "":
		return false, j.end(ctx, outcome{status: "canceled", result: "not_sent", why: v.again, outdated: true})
	case !v.wait.IsZero():
		return false, j.wait(ctx, j.s.queries, v.wait, v.why)
	}
	return true, nil
}

// judgeStep reads what may forbid a step that is no charge. Lifting our own pause nothing does.
func (j *job) judgeStep(ctx context.Context, o object) (v verdict, err error) {
	if j.t.Kind == KindResume {
		return verdict{}, nil
	}
	if !ofInvoice(j.t.Kind) {
		if o, err = readInvoice(ctx, j.reader, j.ghost.StripeInvoiceID); err != nil {
			return verdict{}, err
		}
	}
	charges, err := readCharges(ctx, j.reader, j.p.Customer)
	if err != nil {
		return verdict{}, err
	}
	switch {
	case o.Status != "open" && o.Status != "uncollectible", o.PaidOutOfBand, o.AmountRemaining <= 0:
		return verdict{again: "the invoice is " + o.Status}, nil
	case slices.ContainsFunc(charges, charge.contested):
		return verdict{over: "the customer disputes a charge"}, nil
	case o.Intent.Status == "processing":
		return verdict{wait: j.now.Add(oneADay), why: underWay}, nil
	case o.Status == "open" && o.NextAttempt != nil:
		return verdict{wait: time.Unix(*o.NextAttempt, 0).Add(time.Hour), why: afterTheirs}, nil
	}
	return verdict{}, nil
}

// judge is [judge] with what other customers have used up of the budget of the ghost's card.
func (j *job) judge(o object, charges []charge) verdict {
	own := 0
	for _, c := range recent(charges, j.now) {
		if card := c.Method.Card.Fingerprint; card != "" && !c.blocked() && bytes.Equal(j.reader.Hash("card", card), j.ghost.Card) {
			own++
		}
	}
	playbook := j.playbook
	playbook.CardBudget -= max(int(j.ghost.CardAttempts)-own, 0)
	return judge(o, charges, j.p, j.ghost, playbook, j.now)
}

// doneBefore looks for an execution of a task that is late and was never sent, as far as the database knows: a backup that was put back
// knows nothing of what was sent since.
func (j *job) doneBefore(ctx context.Context) (bool, error) {
	if j.t.Kind != KindPay {
		return false, nil
	}
	event, err := findCharge(ctx, j.reader, j.p, j.t.ID.String(), j.t.RunAt)
	if errors.Is(err, errTooManyEvents) {
		return true, j.review(ctx, "it is late, and the account has had too many events at that time to be sure that it was not sent before a backup was put back")
	}
	if err != nil {
		return false, err
	}
	if event == "" {
		return false, nil
	}
	o, err := j.outcomeOfEvent(ctx, event)
	if err != nil {
		return false, err
	}
	return true, j.end(ctx, o)
}

// heldBefore says whether the invoice was taken over from Smart Retries already.
func (j *job) heldBefore(ctx context.Context) (bool, error) {
	attempts, err := j.s.queries.AttemptListOfObject(ctx, db.AttemptListOfObjectParams{
		MerchantID: j.t.MerchantID, Object: j.object(),
	})
	if err != nil {
		return false, fmt.Errorf("list attempts: %w", err)
	}
	return slices.ContainsFunc(attempts, func(a db.Attempt) bool {
		return a.Action == KindHold && a.Result != nil && *a.Result == "done"
	}), nil
}

// object is the keyed hash under which attempts are counted.
func (j *job) object() []byte {
	if ofInvoice(j.t.Kind) {
		return j.reader.Hash("invoice", j.p.Object)
	}
	return j.reader.Hash("subscription", j.p.Object)
}

// wait puts the task off: nothing was sent, so that the same row may go later. The attempt tells that this moment is not the one that
// was chosen.
func (j *job) wait(ctx context.Context, queries *db.Queries, until time.Time, why string) error {
	if err := queries.AttemptPutOff(ctx, db.AttemptPutOffParams{
		MerchantID: j.t.MerchantID, TaskID: j.t.ID, PlannedFor: until, Reason: "put off: " + why,
	}); err != nil {
		return fmt.Errorf("put the attempt off: %w", err)
	}
	return task.Snooze(max(until.Sub(j.now), time.Minute))
}
