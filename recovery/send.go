package recovery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/connect"
	"phantom/db"
	"phantom/decline"
	"phantom/money"
	"phantom/task"
)

const (
	keyLife   = 20 * time.Hour   // a key that was first sent longer ago is never sent again: Stripe and Resend may forget it after 24 hours
	sendTime  = 5 * time.Second  // between marking a task as sent and its request's leaving
	oneADay   = 24 * time.Hour   // between charges
	freshness = 5 * time.Second  // of what was read before a request leaves
	mostSent  = 6                // tries after which an unknown outcome is only read
	settled   = 10 * time.Minute // after which a request that left no event was not executed, where it will not be sent again
)

// job is one try at a mutation.
type job struct {
	s        *Service
	t        *task.Task
	p        frozen
	reader   *connect.Reader
	hunt     db.Hunt
	ghost    db.GhostTarget
	playbook Playbook
	now      time.Time // by PHANTOM's clock, as Stripe's objects tell it
}

// HandleMutation is the handler of every kind that changes something at Stripe.
func (s *Service) HandleMutation(ctx context.Context, t *task.Task) error {
	return lost(unhurried(ctx, s.mutate(ctx, t)))
}

func (s *Service) mutate(ctx context.Context, t *task.Task) error {
	j := &job{s: s, t: t}
	if err := json.Unmarshal(t.Params, &j.p); err != nil || j.p.Hunt == uuid.Nil {
		return task.Review(errors.New("the task's params cannot be read"))
	}
	failpoint("claimed")
	if err := j.load(ctx); err != nil {
		return err
	}
	if ok, err := j.ready(ctx); !ok {
		return err
	}
	failpoint("looked")
	by := time.Now().Round(0).Add(sendTime)
	if ok, err := j.mark(ctx); !ok {
		return err
	}
	failpoint("marked")
	answer, err := j.reader.Mutate(ctx, t, by)
	failpoint("answered")
	if err != nil {
		return j.unanswered(ctx, err)
	}
	return j.end(ctx, outcomeOf(t.Kind, answer))
}

// ready looks until the request may leave, with Stripe's pace waited for: what was seen is not older than freshness then.
func (j *job) ready(ctx context.Context) (bool, error) {
	look := j.look
	if j.t.FirstSentAt != nil {
		look = j.settle
	}
	for range 3 {
		if !unread {
			if ok, err := look(ctx); !ok {
				return false, err
			}
		}
		seen := time.Now()
		if err := j.reader.Turn(ctx); err != nil {
			return false, err
		}
		if time.Since(seen) < freshness {
			return true, nil
		}
	}
	return false, task.Snooze(time.Minute)
}

// lost has a task looked at again that could not be marked or ended: it is somebody else's by now, and the queue changes nothing, or
// its key has become too old in this very moment, and the next try settles it. Nil would call it done.
func lost(err error) error {
	if errors.Is(err, task.ErrLost) {
		return task.Snooze(time.Second)
	}
	return err
}

func (j *job) load(ctx context.Context) (err error) {
	if j.reader, err = j.s.connect.Reader(ctx, j.t.MerchantID); err != nil {
		return err
	}
	row, err := j.s.queries.HuntLoad(ctx, db.HuntLoadParams{MerchantID: j.t.MerchantID, ID: j.p.Hunt})
	if errors.Is(err, pgx.ErrNoRows) { // the ghost is gone: what was sent is still to be settled
		if j.hunt, err = j.s.queries.HuntGet(ctx, db.HuntGetParams{MerchantID: j.t.MerchantID, ID: j.p.Hunt}); err != nil {
			return fmt.Errorf("read hunt: %w", err)
		}
		j.now, err = j.s.queries.Now(ctx)
		return err
	}
	if err != nil {
		return fmt.Errorf("load hunt: %w", err)
	}
	j.hunt, j.ghost, j.now = row.Hunt, row.GhostTarget, row.Now
	if j.playbook, err = ParsePlaybook(row.Playbook); err != nil {
		return fmt.Errorf("read playbook %d: %w", j.hunt.PlaybookVersion, err)
	}
	return nil
}

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

// mark commits that the request leaves now, after the last checks: whoever stops the hunt comes before this and is seen, or waits and
// comes after.
func (j *job) mark(ctx context.Context) (ok bool, err error) {
	var refused error
	var why string
	err = pgx.BeginFunc(ctx, j.s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		// A statement sees what was committed before it began: all that is waited for comes first, and what is asked last is true.
		if err := queries.AttemptLock(ctx, db.AttemptLockParams{MerchantID: j.t.MerchantID, Hunt: j.p.Hunt, Customer: j.hunt.Customer, Card: j.ghost.Card}); err != nil {
			return fmt.Errorf("lock the hunt and the customer: %w", err)
		}
		if twin, err := queries.AttemptUnknown(ctx, db.AttemptUnknownParams{MerchantID: j.t.MerchantID, Object: j.object(), TaskID: j.t.ID}); err != nil || twin {
			refused = task.Snooze(time.Hour) // another one may be out: what it did comes first
			return err
		}
		if j.t.Kind == KindPay && j.t.FirstSentAt == nil {
			if refused, err = j.withinCaps(ctx, queries); refused != nil || err != nil {
				return err
			}
		}
		if why, err = j.mayNotSend(ctx, queries); why != "" || err != nil {
			return err
		}
		if _, err := queries.AttemptMarkSent(ctx, db.AttemptMarkSentParams{MerchantID: j.t.MerchantID, TaskID: j.t.ID, Card: j.ghost.Card}); err != nil {
			return fmt.Errorf("mark the attempt: %w", err)
		}
		failpoint("marking")
		return task.MarkSent(ctx, tx, j.t)
	})
	switch {
	case err != nil:
		return false, err
	case refused != nil:
		return false, refused
	case why == "":
		return true, nil
	case why == "halted":
		return false, task.Snooze(time.Minute)
	case j.t.FirstSentAt != nil:
		return false, task.Snooze(time.Minute) // stopped and unknown: the next try reads, and does not send
	case why == "disconnected":
		return false, connect.ErrRevoked
	}
	return false, j.end(ctx, notSent("the hunt has "+why, false))
}

// mayNotSend says why nothing may be sent for the hunt now, or "".
func (j *job) mayNotSend(ctx context.Context, queries *db.Queries) (string, error) {
	why, err := queries.HuntMayNotSend(ctx, db.HuntMayNotSendParams{MerchantID: j.t.MerchantID, ID: j.p.Hunt})
	if err != nil {
		return "", fmt.Errorf("ask whether the hunt goes on: %w", err)
	}
	if j.t.Kind == KindResume && (why == "ended" || why == "closed") {
		return "", nil // the payment that ended it is what lifts the pause
	}
	return why, nil
}

// withinCaps asks what was sent to the customer, with his card and for the merchant, one transaction at a time. A cap that is reached puts the task
// off.
func (j *job) withinCaps(ctx context.Context, queries *db.Queries) (refused, err error) {
	m := j.t.MerchantID
	sent, err := queries.AttemptCountSent(ctx, db.AttemptCountSentParams{MerchantID: m, Customer: j.hunt.Customer, Card: j.ghost.Card, TaskID: j.t.ID})
	if err != nil {
		return nil, fmt.Errorf("count charges: %w", err)
	}
	if sent.Day > 0 {
		return j.wait(ctx, queries, sent.Last.Add(oneADay), onceADay), nil
	}
	if sent.Month >= int64(j.playbook.CardBudget) {
		return j.wait(ctx, queries, j.now.Add(oneADay), budgetSpent), nil
	}
	most, capped := j.playbook.DailyCap[j.p.Currency]
	if !capped {
		return nil, nil
	}
	if err := queries.AttemptLockMerchant(ctx, m); err != nil {
		return nil, fmt.Errorf("lock the merchant's cap: %w", err)
	}
	asked, err := queries.AttemptSumSent(ctx, db.AttemptSumSentParams{MerchantID: m, Currency: j.p.Currency, TaskID: j.t.ID})
	if err != nil {
		return nil, fmt.Errorf("sum up charges: %w", err)
	}
	if asked+j.p.Amount > most {
		return j.wait(ctx, queries, j.now.Add(time.Hour), "the playbook's daily cap is reached"), nil // it fits alone, or it would not have been planned
	}
	return nil, nil
}

// unanswered says what becomes of a task whose request has no final answer. What it returns itself is the same row and key again.
func (j *job) unanswered(ctx context.Context, err error) error {
	var unknown *connect.UnknownError
	switch {
	case errors.Is(err, connect.ErrKeyReused):
		return j.review(ctx, "Stripe knows this task's key from another request: find in the dashboard what task_"+j.t.ID.String()+" did")
	case errors.As(err, &unknown) && unknown.Stored:
		return j.rest(ctx)
	case errors.Is(err, connect.ErrTooLate):
		return task.Snooze(time.Second)
	}
	return err
}

// rest leaves the key alone until it is too old to be sent, and reads then.
func (j *job) rest(ctx context.Context) error {
	wall, err := j.s.queries.WallClock(ctx)
	if err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	return task.Snooze(max(j.t.FirstSentAt.Add(keyLife).Sub(wall), time.Minute))
}

// unhurried lets a task wait where Stripe fails or asks for fewer requests: that is no failed try of the task's. What Stripe refuses for
// good is one, and what a process that ends has broken off is neither.
func unhurried(ctx context.Context, err error) error {
	var read *connect.ReadError
	if ctx.Err() == nil && errors.As(err, &read) && !errors.Is(err, connect.ErrRevoked) && !errors.Is(err, connect.ErrNotFound) && !errors.Is(err, connect.ErrRefused) {
		return task.Snooze(time.Minute)
	}
	return err
}

// outcome is what became of a mutation.
type outcome struct {
	status      string // the task's
	result      string // the attempt's
	why         string // in plain words
	class, code string // of a decline
	over        string // why no further charge is planned; "" where one may be
	others      bool   // somebody else had done it before
	outdated    bool   // what was planned is not so any more: the next look at the ghost says what follows
}

// MarshalJSON is the shape of scheduled_tasks.outcome.
func (o outcome) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Result       string `json:"result"`
		DeclineClass string `json:"decline_class,omitempty"`
		DeclineCode  string `json:"decline_code,omitempty"`
	}{o.result, o.class, o.code})
}

func notSent(why string, over bool) outcome {
	o := outcome{status: "canceled", result: "not_sent", why: why}
	if over {
		o.over = why
	}
	return o
}

// outcomeOf reads Stripe's final word.
func outcomeOf(kind string, a connect.Answer) outcome {
	var body struct {
		Status string
		Error  struct {
			Code               string `json:"code"`
			DeclineCode        string `json:"decline_code"`
			AdviceCode         string `json:"advice_code"`
			NetworkAdviceCode  string `json:"network_advice_code"`
			NetworkDeclineCode string `json:"network_decline_code"`
			PaymentMethod      struct {
				Card struct {
					Brand string `json:"brand"`
				} `json:"card"`
			} `json:"payment_method"`
		}
	}
	_ = json.Unmarshal(a.Body, &body) // it is valid; what is missing stays ""
	switch {
	case a.Status < 300 && kind != KindPay:
		return outcome{status: "succeeded", result: "done"}
	case a.Status < 300 && body.Status == "paid":
		return outcome{status: "succeeded", result: "paid", why: "paid"}
	case a.Status < 300:
		return outcome{status: "succeeded", result: "processing", why: "the bank is still moving the money"}
	case a.Status == http.StatusPaymentRequired:
		code := body.Error.DeclineCode
		if code == "" && body.Error.Code != "card_declined" {
			code = body.Error.Code
		}
		return declined(decline.Classify(body.Error.NetworkAdviceCode, body.Error.AdviceCode, code, body.Error.NetworkDeclineCode,
			body.Error.PaymentMethod.Card.Brand))
	}
	why := "Stripe refused the request"
	if body.Error.Code != "" {
		why += ": " + body.Error.Code
	}
	return outcome{status: "failed", result: "refused", why: why, over: why}
}

func declined(class, code string) outcome {
	o := outcome{status: "failed", result: "declined", why: "declined: " + classWords(class), class: class, code: code}
	if class == "never" || class == "customer" {
		o.over = o.why
	}
	return o
}

// classWords says what a decline class means for a customer's card.
func classWords(class string) string {
	switch class {
	case "never":
		return "the bank allows no further attempt on this card"
	case "customer":
		return "the customer must act first"
	case "timed":
		return "there was not enough money"
	case "low":
		return "the bank gave no reason"
	case "soon":
		return "the bank could not answer at that moment"
	}
	return "no reason was given"
}

// end ends the task with what became of it, and plans what follows, in one transaction.
func (j *job) end(ctx context.Context, o outcome) error {
	failpoint("concluding")
	err := pgx.BeginFunc(ctx, j.s.pool, func(tx pgx.Tx) error {
		queries, m := db.New(tx), j.t.MerchantID
		hunt, err := queries.HuntLock(ctx, db.HuntLockParams{MerchantID: m, ID: j.p.Hunt})
		if err != nil {
			return fmt.Errorf("lock hunt: %w", err)
		}
		why := o.why
		if o.status == "succeeded" {
			why = "" // no error
		}
		if err := task.Finish(ctx, tx, j.t, o.status, o, why); err != nil {
			return err
		}
		if _, err := queries.AttemptFinish(ctx, db.AttemptFinishParams{
			MerchantID: m, TaskID: j.t.ID, Result: o.result, DeclineClass: o.class, DeclineCode: o.code,
		}); err != nil {
			return fmt.Errorf("finish the attempt: %w", err)
		}
		if err := note(ctx, queries, m, j.p.Hunt, j.t.ID, j.words(o)); err != nil {
			return err
		}
		if o.over != "" && (j.t.Kind == KindPay || j.t.Kind == KindHold) {
			if err := queries.HuntGiveUpInvoice(ctx, db.HuntGiveUpInvoiceParams{MerchantID: m, ID: j.p.Hunt, Invoice: j.object(), Why: o.over}); err != nil {
				return fmt.Errorf("end the invoice's charges: %w", err)
			}
		}
		if err := j.follow(ctx, tx, hunt, o); err != nil {
			return err
		}
		failpoint("ending")
		return nil
	})
	failpoint("ended")
	return err
}

// follow is what an outcome brings about.
func (j *job) follow(ctx context.Context, tx db.DBTX, hunt db.Hunt, o outcome) error {
	queries, m := db.New(tx), j.t.MerchantID
	if j.t.Kind == KindPay && (o.result == "paid" || o.result == "processing" || o.result == "declined") {
		if err := queries.HuntCountCharge(ctx, db.HuntCountChargeParams{MerchantID: m, ID: hunt.ID}); err != nil {
			return fmt.Errorf("count the charge: %w", err)
		}
	}
	if (o.result != "not_sent" || o.outdated) && j.s.config.Refresh != nil {
		if err := j.s.config.Refresh(ctx, tx, m, j.p.Subscription); err != nil {
			return fmt.Errorf("have the ghost judged anew: %w", err)
		}
	}
	switch {
	case o.result == "done" && !o.others && j.t.Kind == KindPause, o.result == "done" && j.t.Kind == KindResume:
		if err := queries.HuntSetPaused(ctx, db.HuntSetPausedParams{MerchantID: m, ID: hunt.ID, Paused: j.t.Kind == KindPause}); err != nil {
			return fmt.Errorf("note the pause: %w", err)
		}
	}
	final := isFinal(j.t.Kind)
	if final && (o.outdated || o.result == "absent") { // what is owed now, if anything, gets its final step once it is known
		return planEnd(ctx, tx, hunt, j.now.Add(time.Hour))
	}
	next := &planning{s: j.s, tx: tx, queries: queries, hunt: hunt}
	if final {
		if j.t.Kind == KindUncollectible { // there may be other invoices
			if there, err := next.load(ctx); err != nil {
				return err
			} else if there && next.ghost.Status == "open" {
				if planned, err := next.final(ctx); planned || err != nil {
					return err
				}
			}
		}
		reason := "the window is over; final step: " + mutations[j.t.Kind].words
		if o.result != "done" {
			reason = "the window is over; its final step was not taken: " + o.why
		}
		return j.s.endHunt(ctx, tx, hunt, "exhausted", reason)
	}
	if o.result == "paid" || o.result == "processing" || o.outdated {
		return nil // the next look at the ghost says what follows
	}
	if j.t.Kind == KindResume && o.result == "absent" { // the debt is paid, and the pause still there
		return accountLater(ctx, tx, hunt)
	}
	return next.plan(ctx)
}

func (j *job) words(o outcome) string {
	words := mutations[j.t.Kind].words
	if j.t.Kind == KindPay {
		words = fmt.Sprintf("%s, attempt %d, %s", words, j.p.Number, money.Format(j.p.Amount, j.p.Currency))
	}
	switch {
	case o.result == "not_sent":
		return words + ": not sent, because " + o.why
	case o.why != "":
		return words + ": " + o.why
	}
	return words + ": done"
}

// review leaves the task to a person. The hunt plans no further charge until then: the task keeps its place.
func (j *job) review(ctx context.Context, why string) error {
	return pgx.BeginFunc(ctx, j.s.pool, func(tx pgx.Tx) error {
		if err := task.Finish(ctx, tx, j.t, "needs_review", nil, why); err != nil {
			return err
		}
		return note(ctx, db.New(tx), j.t.MerchantID, j.p.Hunt, j.t.ID, mutations[j.t.Kind].words+": left to a person, because "+why)
	})
}

// note writes a line of a hunt's history. It names nobody.
func note(ctx context.Context, queries *db.Queries, merchant, hunt, taskID uuid.UUID, text string) error {
	row := db.HuntNoteCreateParams{MerchantID: merchant, HuntID: hunt, ID: newID(), Note: text}
	if taskID != uuid.Nil {
		row.TaskID = &taskID
	}
	if err := queries.HuntNoteCreate(ctx, row); err != nil {
		return fmt.Errorf("note: %w", err)
	}
	return nil
}

func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) } // fails only without randomness, which Go ends the process for
