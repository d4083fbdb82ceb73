package recovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"phantom/billing"
	"phantom/connect"
	"phantom/db"
	"phantom/gate"
	"phantom/state"
	"phantom/task"
)

// unasked says, before Stripe is asked anything, that nothing may leave now. What ends a charge is
// not said before it is known that it was not executed, and the longest wait is not so long that
// Stripe has forgotten what happened meanwhile.
func (j *job) unasked() (r gate.Ruling, enough bool) {
	if r = gate.MayLeave(j.t.Kind, j.p.planned(), gate.Facts{Hunt: j.facts.Hunt}, j.now); r.Yes() || j.t.FirstSentAt != nil {
		return r, false
	}
	if j.t.Kind != gate.KindPay || r.Code == gate.Disconnected {
		return r, true
	}
	return r, r.Code.Passes() && j.now.Sub(j.attempt.ClearUntil) < clearLife
}

// clearLife is how long a charge may wait without a look. Stripe tells of events for 30 days.
const clearLife = 20 * 24 * time.Hour

// checkBeforeSend reads at Stripe what decides, before anything was sent. It reports false where
// the task is not to be sent now, having ended it or with the error that puts it off. What may
// change soonest, the invoice, is read last.
func (j *job) checkBeforeSend(ctx context.Context) (bool, error) {
	first := gate.MayLeave(j.t.Kind, j.p.planned(), j.facts, j.now)
	if err := j.readCharges(ctx, j.attempt.ClearUntil); err != nil {
		return false, err
	}
	if j.t.Kind == gate.KindPay {
		// A database that was put back knows nothing of what was sent since, and no time of its own
		// says how late it is.
		done, err := j.findExecution(ctx, j.charges, j.attempt.ClearUntil)
		if err != nil {
			return false, err
		}
		switch {
		case done.charge != nil:
			return false, j.end(ctx, chargeOutcome(*done.charge))
		case done.crowd:
			return false, j.suspect(ctx, "the account has had too many events around a charge of this invoice to be sure that it was not sent before a backup was put back")
		case len(done.unsure) > 0:
			return false, j.awaitEvent(ctx, done.unsure)
		}
	}
	if !first.Yes() {
		return false, j.obey(ctx, first)
	}
	o, err := readObject(ctx, j.reader, j.t.Kind, j.p.Object)
	if errors.Is(err, connect.ErrNotFound) {
		return false, j.end(ctx, notSent("Stripe does not know it any more", true))
	}
	if err != nil {
		return false, err
	}
	if j.t.Kind != gate.KindPay && mutations[j.t.Kind].done(o) {
		done, err := j.doneBefore(ctx, o)
		if err != nil {
			return false, err
		}
		return false, j.end(ctx, done)
	}
	if err := j.see(ctx, o); err != nil {
		return false, err
	}
	if r := gate.MayLeave(j.t.Kind, j.p.planned(), j.facts, j.now); !r.Yes() {
		return false, j.obey(ctx, r)
	}
	return true, nil
}

// readCharges reads the charges of the customer, for what asks for them.
func (j *job) readCharges(ctx context.Context, since time.Time) (err error) {
	j.looked = j.now
	if j.t.Kind == gate.KindResume || j.t.Kind == gate.KindRelease {
		return nil
	}
	j.charges, err = billing.ReadCharges(ctx, j.reader, j.p.Customer, since.Add(-clockSkew))
	if errors.Is(err, billing.ErrTooManyCharges) {
		return task.Review(err)
	}
	return err
}

// see makes facts of what was read; o is read last but for the invoice of a final step.
func (j *job) see(ctx context.Context, o billing.Object) (err error) {
	seen := &gate.StripeFacts{Object: o, Charges: j.charges}
	switch kind := j.t.Kind; {
	case kind == gate.KindPay && o.NextAttempt != nil:
		if seen.Taken, err = j.letGo(ctx); err != nil {
			return err
		}
	case kind == gate.KindRelease || kind == gate.KindResume:
		if seen.Taken, err = j.isOurs(ctx, o); err != nil {
			return err
		}
		if kind == gate.KindRelease {
			// another hunt of the ghost counts on it, and gives it back at its own end
			if seen.Needed, err = j.s.queries.HuntActiveBeside(ctx, db.HuntActiveBesideParams{MerchantID: j.t.MerchantID, GhostID: j.hunt.GhostID, ID: j.hunt.ID}); err != nil {
				return fmt.Errorf("ask for another hunt: %w", err)
			}
		}
	case kind == gate.KindUncollectible:
		seen.Invoice = o
	case gate.IsFinal(kind):
		if seen.Paying, err = billing.ReadPaying(ctx, j.reader, j.p.Object, j.now); err != nil {
			return err
		}
		if seen.Invoice, err = billing.ReadInvoice(ctx, j.reader, j.ghost.StripeInvoiceID); err != nil {
			return err
		}
	}
	j.facts.Stripe = seen
	return nil
}

// doneBefore is the outcome of a step whose effect the object shows already: PHANTOM has done it,
// though its answer or the commits of it are lost, or a hunt of before whose take-over still
// stands, or somebody else. What others have done is not PHANTOM's to take back.
func (j *job) doneBefore(ctx context.Context, o billing.Object) (outcome, error) {
	done := outcome{status: state.TaskSucceeded, result: state.AttemptDone}
	if j.t.FirstSentAt == nil {
		done.why = "it was so already"
	}
	if j.t.Kind != gate.KindHold && j.t.Kind != gate.KindPause {
		return done, nil
	}
	if j.attempt.Marked && o.Metadata[marker] == j.t.ID.String() {
		return done, nil
	}
	if j.t.Kind == gate.KindHold {
		taken, err := j.isOurs(ctx, o)
		if taken || err != nil {
			return done, err
		}
	}
	done.others, done.gate = true, gate.NotOurs
	return done, nil
}

// obey does what the gate says: the task waits, or ends with what follows from that.
func (j *job) obey(ctx context.Context, r gate.Ruling) error {
	if r.Code == gate.Disconnected {
		return connect.ErrRevoked
	}
	o := outcome{status: state.TaskCanceled, result: state.AttemptNotSent, why: r.Code.Words(), gate: r.Code}
	switch r.Code.Effect() {
	case gate.Holds:
		if gate.IsFinal(j.t.Kind) { // its time is over
			o.over = o.why
			break
		}
		if r.Until.IsZero() {
			r.Until = j.now.Add(gate.HeldPatience)
		}
		return j.makePlace(ctx, r, o)
	case gate.Waits:
		if r.Code == gate.AttemptsUsedUp {
			return j.makePlace(ctx, r, o)
		}
		return j.wait(ctx, r)
	case gate.Ends:
		o.over = o.why
	case gate.Expires:
		o.outdated = r.Code != gate.TakeOverFirst
	case gate.Drops:
	}
	return j.end(ctx, o)
}

// makePlace has the next invoice of the ghost take the task's turn, where there is another one.
// Else the task waits.
func (j *job) makePlace(ctx context.Context, r gate.Ruling, o outcome) error {
	if len(j.ghost.Owed()) == 1 {
		return j.wait(ctx, r)
	}
	o.until = r.Until
	return j.end(ctx, o)
}

// isOurs says whether it is PHANTOM that keeps Smart Retries from an invoice, or that has paused a
// subscription: the object names the task that did. Before requests marked what they change, the
// attempt alone tells.
func (j *job) isOurs(ctx context.Context, o billing.Object) (bool, error) {
	attempts, err := j.attemptsOnObject(ctx)
	if err != nil {
		return false, err
	}
	kind := gate.KindHold
	if !gate.OfInvoice(j.t.Kind) {
		kind = gate.KindPause
	} else if !isTaken(attempts, j.object()) {
		return false, nil
	}
	return slices.ContainsFunc(attempts, func(a db.Attempt) bool {
		mine := a.Action == kind && a.Result != nil && *a.Result == state.AttemptDone && (a.Code == nil || gate.Code(*a.Code) != gate.NotOurs)
		return mine && (a.TaskID.String() == o.Metadata[marker] || !a.Marked && o.Metadata[marker] == "")
	}), nil
}

// letGo says whether Smart Retries has let go of the invoice before: then somebody has turned it on
// again.
func (j *job) letGo(ctx context.Context) (bool, error) {
	attempts, err := j.attemptsOnObject(ctx)
	return isLetGo(attempts, j.object()), err
}

func (j *job) attemptsOnObject(ctx context.Context) ([]db.Attempt, error) {
	attempts, err := j.s.queries.AttemptListOfObject(ctx, db.AttemptListOfObjectParams{MerchantID: j.t.MerchantID, Object: j.object()})
	if err != nil {
		return nil, fmt.Errorf("list attempts: %w", err)
	}
	return attempts, nil
}

// isTaken says whether PHANTOM has taken an object over and not given it back, as far as these
// attempts tell.
func isTaken(attempts []db.Attempt, object []byte) (taken bool) {
	var last uuid.UUID // ids grow with time
	for _, a := range attempts {
		if a.Result == nil || *a.Result != state.AttemptDone || a.Action != gate.KindHold && a.Action != gate.KindRelease || !bytes.Equal(a.Object, object) {
			continue
		}
		if bytes.Compare(a.TaskID[:], last[:]) > 0 {
			last, taken = a.TaskID, a.Action == gate.KindHold && (a.Code == nil || gate.Code(*a.Code) != gate.NotOurs)
		}
	}
	return taken
}

// isLetGo says whether Smart Retries has let go of an object, no matter who made it.
func isLetGo(attempts []db.Attempt, object []byte) (free bool) {
	var last uuid.UUID
	for _, a := range attempts {
		done := a.Result != nil && *a.Result == state.AttemptDone && (a.Action == gate.KindHold || a.Action == gate.KindRelease) && bytes.Equal(a.Object, object)
		if done && bytes.Compare(a.TaskID[:], last[:]) > 0 {
			last, free = a.TaskID, a.Action == gate.KindHold
		}
	}
	return free
}

// object is the keyed hash under which attempts are counted.
func (j *job) object() []byte {
	if gate.OfInvoice(j.t.Kind) {
		return j.reader.Hash("invoice", j.p.Object)
	}
	return j.reader.Hash("subscription", j.p.Object)
}

// eventPatience is how long an event of a charge is waited for before a person is asked. Stripe's
// come within seconds.
const eventPatience = 3 * 24 * time.Hour

// awaitEvent puts a task off beside charges of which nobody knows yet who made them: they may be
// its own. Nothing leaves meanwhile. The longer it takes, the more rarely it is asked, and at last
// a person is.
func (j *job) awaitEvent(ctx context.Context, charges []billing.Charge) error {
	oldest := slices.MinFunc(charges, func(a, b billing.Charge) int { return int(a.Created - b.Created) })
	age := j.now.Sub(oldest.At())
	if age >= eventPatience {
		return j.suspect(ctx, "no event tells who made a charge of this invoice, and it may be this task's: look in the dashboard for the request with the key task_"+j.t.ID.String())
	}
	return task.Snooze(min(max(age/4, time.Minute), 6*time.Hour))
}

// suspect leaves a charge to a person that may have been executed, and so counts as one that was
// sent.
func (j *job) suspect(ctx context.Context, why string) error {
	if err := j.s.queries.AttemptSuspect(ctx, db.AttemptSuspectParams{MerchantID: j.t.MerchantID, TaskID: j.t.ID}); err != nil {
		return fmt.Errorf("count the charge: %w", err)
	}
	return j.review(ctx, why)
}

// wait puts the task off: nothing was sent, so that the same row may go later. The attempt tells
// that this moment is not the one that was chosen, and that no charge from before this look is its
// own.
func (j *job) wait(ctx context.Context, r gate.Ruling) error {
	p := db.AttemptPutOffParams{MerchantID: j.t.MerchantID, TaskID: j.t.ID, PlannedFor: r.Until, Reason: "put off: " + r.Code.Words(), Code: string(r.Code)}
	if !j.looked.IsZero() && j.t.FirstSentAt == nil {
		// all its charges up to the beginning of this look are known
		p.ClearUntil = &j.looked
	}
	if err := j.s.queries.AttemptPutOff(ctx, p); err != nil {
		return fmt.Errorf("put the attempt off: %w", err)
	}
	if r.Code.Effect() == gate.Holds {
		if err := j.s.queries.HuntHoldCharges(ctx, db.HuntHoldChargesParams{
			MerchantID: j.t.MerchantID, ID: j.p.Hunt, Why: r.Code.Words(),
		}); err != nil {
			return fmt.Errorf("note why nothing is charged: %w", err)
		}
		return task.Snooze(max(r.Until.Sub(j.now), time.Minute))
	}
	// The merchant may raise a limit, or the customer leave another card, long before the time has
	// come.
	return task.Snooze(min(max(r.Until.Sub(j.now), time.Minute), oneADay))
}
