package recovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"phantom/connect"
	"phantom/db"
	"phantom/task"
)

// look reads at Stripe what decides, before anything was sent. It reports false where the task is not to be sent now, having ended it or
// with the error that puts it off. What may change soonest, the invoice, is read last.
func (j *job) look(ctx context.Context) (bool, error) {
	// Before Stripe is asked anything. What ends a charge is not said before it is known that it was not executed.
	first := mayLeave(j.t.Kind, j.p, j.facts, j.now)
	if !first.yes() && (j.t.Kind != KindPay || first.code.effect() == waits || first.code == codeDisconnected) {
		return false, j.obey(ctx, first)
	}
	if err := j.readCharges(ctx, j.attempt.ClearUntil); err != nil {
		return false, err
	}
	if j.t.Kind == KindPay {
		// A database that was put back knows nothing of what was sent since, and no time of its own says how late it is.
		done, err := j.findExecution(ctx, j.charges, j.attempt.ClearUntil)
		if err != nil {
			return false, err
		}
		switch {
		case done.charge != nil:
			return false, j.end(ctx, done.charge.outcome())
		case done.crowd:
			return false, j.review(ctx, "the account has had too many events around a charge of this invoice to be sure that it was not sent before a backup was put back")
		case len(done.unsure) > 0:
			return false, j.awaitEvent(ctx, done.unsure)
		}
	}
	if !first.yes() {
		return false, j.obey(ctx, first)
	}
	o, err := readObject(ctx, j.reader, j.t.Kind, j.p.Object)
	if errors.Is(err, connect.ErrNotFound) {
		return false, j.end(ctx, notSent("Stripe does not know it any more", true))
	}
	if err != nil {
		return false, err
	}
	if j.t.Kind != KindPay && mutations[j.t.Kind].done(o) {
		done, err := j.doneBefore(ctx, o)
		if err != nil {
			return false, err
		}
		return false, j.end(ctx, done)
	}
	if err := j.see(ctx, o); err != nil {
		return false, err
	}
	if r := mayLeave(j.t.Kind, j.p, j.facts, j.now); !r.yes() {
		return false, j.obey(ctx, r)
	}
	return true, nil
}

// readCharges reads the charges of the customer, for what asks for them.
func (j *job) readCharges(ctx context.Context, since time.Time) (err error) {
	j.looked = j.now
	if j.t.Kind == KindResume || j.t.Kind == KindRelease {
		return nil
	}
	j.charges, err = readCharges(ctx, j.reader, j.p.Customer, since.Add(-clockSkew))
	if errors.Is(err, errTooManyCharges) {
		return task.Review(err)
	}
	return err
}

// see makes facts of what was read; o is read last but for the invoice of a final step.
func (j *job) see(ctx context.Context, o object) (err error) {
	seen := &stripeFacts{object: o, charges: j.charges}
	switch kind := j.t.Kind; {
	case kind == KindPay && o.NextAttempt != nil, kind == KindRelease:
		if seen.taken, err = j.takenOver(ctx, o); err != nil {
			return err
		}
	case kind == KindUncollectible:
		seen.invoice = o
	case isFinal(kind):
		if seen.paying, err = readPaying(ctx, j.reader, j.p.Object); err != nil {
			return err
		}
		if seen.invoice, err = readInvoice(ctx, j.reader, j.ghost.StripeInvoiceID); err != nil {
			return err
		}
	}
	j.facts.stripe = seen
	return nil
}

// doneBefore is the outcome of a step whose effect the object shows already, though PHANTOM has sent nothing: somebody else has done it, or
// a hunt of before whose take-over still stands.
func (j *job) doneBefore(ctx context.Context, o object) (outcome, error) {
	why := outcome{status: "succeeded", result: "done", why: "it was so already", others: true}
	if j.t.Kind == KindHold {
		taken, err := j.takenOver(ctx, o)
		if err != nil {
			return why, err
		}
		why.others = !taken
	}
	if why.others {
		why.gate = codeNotOurs
	}
	return why, nil
}

// obey does what the gate says: the task waits, or ends with what follows from that.
func (j *job) obey(ctx context.Context, r ruling) error {
	if r.code == codeDisconnected {
		return connect.ErrRevoked
	}
	o := outcome{status: "canceled", result: "not_sent", why: r.code.words(), gate: r.code}
	switch r.code.effect() {
	case waits:
		if r.code == codeAttemptsUsedUp && len(invoicesOf(j.ghost)) > 1 { // its place is another invoice's meanwhile
			o.until = r.until
			return j.end(ctx, o)
		}
		return j.wait(ctx, r)
	case ends:
		o.over = o.why
	case expires:
		o.outdated = r.code != codeTakeOverFirst
	case drops:
	}
	return j.end(ctx, o)
}

// takenOver says whether it is PHANTOM that keeps Smart Retries from an invoice. The invoice names the task that took it over.
func (j *job) takenOver(ctx context.Context, o object) (bool, error) {
	attempts, err := j.attemptsOnObject(ctx)
	if err != nil {
		return false, err
	}
	if j.t.Kind == KindPay { // it was let go once, and somebody has turned it on again
		return isLetGo(attempts, j.object()), nil
	}
	return isTaken(attempts, j.object()) && slices.ContainsFunc(attempts, func(a db.Attempt) bool {
		return a.Action == KindHold && a.TaskID.String() == o.Metadata[marker]
	}), nil
}

func (j *job) attemptsOnObject(ctx context.Context) ([]db.Attempt, error) {
	attempts, err := j.s.queries.AttemptListOfObject(ctx, db.AttemptListOfObjectParams{MerchantID: j.t.MerchantID, Object: j.object()})
	if err != nil {
		return nil, fmt.Errorf("list attempts: %w", err)
	}
	return attempts, nil
}

// isTaken says whether PHANTOM has taken an object over and not given it back, as far as these attempts tell.
func isTaken(attempts []db.Attempt, object []byte) (taken bool) {
	var last uuid.UUID // ids grow with time
	for _, a := range attempts {
		if a.Result == nil || *a.Result != "done" || a.Action != KindHold && a.Action != KindRelease || !bytes.Equal(a.Object, object) {
			continue
		}
		if bytes.Compare(a.TaskID[:], last[:]) > 0 {
			last, taken = a.TaskID, a.Action == KindHold && (a.Code == nil || code(*a.Code) != codeNotOurs)
		}
	}
	return taken
}

// isLetGo says whether Smart Retries has let go of an object, whoever made it.
func isLetGo(attempts []db.Attempt, object []byte) (free bool) {
	var last uuid.UUID
	for _, a := range attempts {
		done := a.Result != nil && *a.Result == "done" && (a.Action == KindHold || a.Action == KindRelease) && bytes.Equal(a.Object, object)
		if done && bytes.Compare(a.TaskID[:], last[:]) > 0 {
			last, free = a.TaskID, a.Action == KindHold
		}
	}
	return free
}

// object is the keyed hash under which attempts are counted.
func (j *job) object() []byte {
	if ofInvoice(j.t.Kind) {
		return j.reader.Hash("invoice", j.p.Object)
	}
	return j.reader.Hash("subscription", j.p.Object)
}

// eventPatience is how long an event of a charge is waited for before a person is asked. Stripe's come within seconds.
const eventPatience = 3 * 24 * time.Hour

// awaitEvent puts a task off beside charges of which nobody knows yet who made them: they may be its own. Nothing leaves meanwhile. The
// longer it takes, the more rarely it is asked, and at last a person is.
func (j *job) awaitEvent(ctx context.Context, charges []charge) error {
	oldest := slices.MinFunc(charges, func(a, b charge) int { return int(a.Created - b.Created) })
	age := j.now.Sub(oldest.at())
	if age >= eventPatience {
		return j.review(ctx, "no event tells who made a charge of this invoice, and it may be this task's: look in the dashboard for the request with the key task_"+j.t.ID.String())
	}
	return task.Snooze(min(max(age/4, time.Minute), 6*time.Hour))
}

// wait puts the task off: nothing was sent, so that the same row may go later. The attempt tells that this moment is not the one that
// was chosen, and that no charge from before this look is its own.
func (j *job) wait(ctx context.Context, r ruling) error {
	p := db.AttemptPutOffParams{MerchantID: j.t.MerchantID, TaskID: j.t.ID, PlannedFor: r.until, Reason: "put off: " + r.code.words(), Code: string(r.code)}
	if j.facts.stripe != nil && j.t.FirstSentAt == nil { // all its charges up to the beginning of this look are known
		p.ClearUntil = &j.looked
	}
	if err := j.s.queries.AttemptPutOff(ctx, p); err != nil {
		return fmt.Errorf("put the attempt off: %w", err)
	}
	// What is decided here is decided by what was read a while ago: a hunt that ends meanwhile, or a debt that changes, cannot cancel a
	// task that runs. So the longest wait is looked at each day.
	return task.Snooze(max(min(r.until.Sub(j.now), oneADay), time.Minute))
}
