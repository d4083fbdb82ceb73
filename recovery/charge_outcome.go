package recovery

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/billing"
	"phantom/connect"
	"phantom/db"
	"phantom/decline"
	"phantom/gate"
	"phantom/money"
	"phantom/oracle"
	"phantom/state"
	"phantom/task"
)

// outcome is what became of a mutation.
type outcome struct {
	status state.Task    // the task's
	result state.Attempt // the attempt's
	why    string        // in plain words
	class  decline.Class // of a decline
	code   string        // of a decline
	charge string        // that was made; "" where none is known
	at     time.Time     // of that charge; zero where the answer told
	over   string        // why no further charge is planned; "" where one may be
	held   gate.Code     // why none is planned before something changes
	others bool          // somebody else had done it before
	// what was planned is not so any more: the next look at the ghost says what follows
	outdated bool

	gate  gate.Code // why the gate let nothing leave
	until time.Time // before which the gate will not let it leave
}

// MarshalJSON is the shape of scheduled_tasks.outcome.
func (o outcome) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Result       state.Attempt `json:"result"`
		DeclineClass decline.Class `json:"decline_class,omitempty"`
		DeclineCode  string        `json:"decline_code,omitempty"`
	}{o.result, o.class, o.code})
}

func notSent(why string, over bool) outcome {
	o := outcome{status: state.TaskCanceled, result: state.AttemptNotSent, why: why}
	if over {
		o.over = why
	}
	return o
}

// outcomeOf reads Stripe's final word.
func outcomeOf(kind string, a connect.Answer) outcome {
	var body struct {
		Status string
		Charge json.RawMessage `json:"charge"` // an id, or the whole
		Error  struct {
			Charge             string         `json:"charge"`
			Code               string         `json:"code"`
			DeclineCode        string         `json:"decline_code"`
			AdviceCode         string         `json:"advice_code"`
			NetworkAdviceCode  string         `json:"network_advice_code"`
			NetworkDeclineCode string         `json:"network_decline_code"`
			PaymentMethod      billing.Method `json:"payment_method"`
		}
	}
	_ = json.Unmarshal(a.Body, &body) // it is valid; what is missing stays ""
	var charge billing.Method         // read for its id alone
	_ = json.Unmarshal(body.Charge, &charge)
	switch {
	case a.Status < 300 && kind != gate.KindPay:
		return outcome{status: state.TaskSucceeded, result: state.AttemptDone}
	case a.Status < 300 && body.Status == billing.InvoicePaid:
		return outcome{status: state.TaskSucceeded, result: state.AttemptPaid, why: "paid", charge: charge.ID}
	case a.Status < 300:
		return outcome{status: state.TaskSucceeded, result: state.AttemptProcessing, why: "the bank is still moving the money", charge: charge.ID}
	case a.Status == http.StatusPaymentRequired:
		code := body.Error.DeclineCode
		if code == "" && body.Error.Code != "card_declined" {
			code = body.Error.Code
		}
		o := declined(decline.Classify(body.Error.NetworkAdviceCode, body.Error.AdviceCode, code, body.Error.NetworkDeclineCode,
			body.Error.PaymentMethod.Brand))
		if o.charge = body.Error.Charge; body.Error.PaymentMethod.Rail() == billing.RailDebit && o.class != decline.Timed {
			o.held = gate.DebitRefused
		}
		return o
	}
	why := "Stripe refused the request"
	if body.Error.Code != "" {
		why += ": " + body.Error.Code
	}
	return outcome{status: state.TaskFailed, result: state.AttemptRefused, why: why, held: gate.Refused}
}

func declined(class decline.Class, code string) outcome {
	o := outcome{status: state.TaskFailed, result: state.AttemptDeclined, why: "declined: " + class.Words(), class: class, code: code}
	switch class {
	case decline.Never:
		o.held = gate.CardDead
	case decline.Customer:
		o.held = gate.MustAct
	case decline.Timed, decline.Low, decline.Soon, decline.Unknown: // another try may do
	}
	return o
}

// end ends the task with what became of it, and plans what follows, in one transaction.
func (j *job) end(ctx context.Context, o outcome) error {
	failpoint("concluding")
	err := db.InTx(ctx, j.s.pool, func(tx pgx.Tx) error {
		queries, m := db.New(tx), j.t.MerchantID
		hunt, err := queries.HuntLock(ctx, db.HuntLockParams{MerchantID: m, ID: j.p.Hunt})
		if err != nil {
			return fmt.Errorf("lock hunt: %w", err)
		}
		why := o.why
		if o.status == state.TaskSucceeded {
			why = "" // no error
		}
		if err := task.Finish(ctx, tx, j.t, o.status, o, why); err != nil {
			return err
		}
		finish := db.AttemptFinishParams{
			MerchantID: m, TaskID: j.t.ID, Result: string(o.result), DeclineClass: string(o.class), DeclineCode: o.code,
			Code: string(cmp.Or(o.gate, o.held)),
		}
		if o.charge != "" {
			finish.Charge = j.reader.Hash("charge", o.charge)
		}
		if !o.at.IsZero() {
			finish.ExecutedAt = &o.at
		}
		if !o.until.IsZero() {
			finish.NotBefore = &o.until
		}
		if _, err := queries.AttemptFinish(ctx, finish); err != nil {
			return fmt.Errorf("finish the attempt: %w", err)
		}
		if err := note(ctx, queries, m, j.p.Hunt, j.t.ID, j.words(o)); err != nil {
			return err
		}
		if o.held != "" && !gate.IsFinal(j.t.Kind) {
			if err := queries.HuntHoldCharges(ctx, db.HuntHoldChargesParams{MerchantID: m, ID: j.p.Hunt, Why: o.why}); err != nil {
				return fmt.Errorf("note why nothing is charged: %w", err)
			}
		}
		if o.over != "" && (j.t.Kind == gate.KindPay || j.t.Kind == gate.KindHold) {
			if err := queries.HuntGiveUpInvoice(ctx, db.HuntGiveUpInvoiceParams{MerchantID: m, ID: j.p.Hunt, Invoice: j.object(), Why: o.over}); err != nil {
				return fmt.Errorf("end the invoice's charges: %w", err)
			}
		}
		if err := j.planAfterOutcome(ctx, tx, hunt, o); err != nil {
			return err
		}
		if err := j.tellOracle(ctx, tx, o); err != nil {
			return err
		}
		failpoint("ending")
		return nil
	})
	failpoint("ended")
	return err
}

// tellOracle has the oracle learn from a charge. What was refused for good tells nothing about
// when. Its counts are shared by all hunts of the merchant, so that it comes last: nothing is
// locked after it.
func (j *job) tellOracle(ctx context.Context, tx db.DBTX, o outcome) error {
	if j.t.Kind != gate.KindPay || o.result != state.AttemptPaid && (o.result != state.AttemptDeclined || o.class.IsHard()) {
		return nil
	}
	return oracle.Settle(ctx, tx, j.t.MerchantID, j.t.ID, o.result == state.AttemptPaid)
}

// planAfterOutcome is what an outcome brings about.
func (j *job) planAfterOutcome(ctx context.Context, tx db.DBTX, hunt db.Hunt, o outcome) error {
	queries, m := db.New(tx), j.t.MerchantID
	if j.t.Kind == gate.KindPay && (o.result == state.AttemptPaid || o.result == state.AttemptProcessing || o.result == state.AttemptDeclined) {
		if err := queries.HuntCountCharge(ctx, db.HuntCountChargeParams{MerchantID: m, ID: hunt.ID}); err != nil {
			return fmt.Errorf("count the charge: %w", err)
		}
	}
	if (o.result != state.AttemptNotSent || o.outdated) && j.s.config.Refresh != nil {
		if err := j.s.config.Refresh(ctx, tx, m, j.p.Subscription); err != nil {
			return fmt.Errorf("have the ghost judged anew: %w", err)
		}
	}
	switch {
	case o.result == state.AttemptDone && !o.others && j.t.Kind == gate.KindPause, o.result == state.AttemptDone && j.t.Kind == gate.KindResume:
		if err := queries.HuntSetPaused(ctx, db.HuntSetPausedParams{MerchantID: m, ID: hunt.ID, Paused: j.t.Kind == gate.KindPause}); err != nil {
			return fmt.Errorf("note the pause: %w", err)
		}
	}
	if j.t.Kind == gate.KindRelease || hunt.State != state.HuntActive && j.t.Kind == gate.KindHold && o.result == state.AttemptDone {
		if j.t.Kind == gate.KindHold || o.result == state.AttemptAbsent {
			// its hunt has ended meanwhile, or it did not arrive: it is given back all the same
			return j.s.giveBack(ctx, tx, hunt)
		}
		return nil
	}
	final := gate.IsFinal(j.t.Kind)
	if final && (o.outdated || o.result == state.AttemptAbsent) {
		// what is owed now, if anything, gets its final step once it is known
		return planEnd(ctx, tx, hunt, j.now.Add(time.Hour))
	}
	next := j.s.planning(tx, hunt)
	if final {
		if j.t.Kind == gate.KindUncollectible { // there may be other invoices
			if there, err := next.load(ctx); err != nil {
				return err
			} else if there && next.ghost.Status == state.GhostOpen {
				if planned, err := next.final(ctx); planned || err != nil {
					return err
				}
			}
		}
		reason := "the window is over; final step: " + mutations[j.t.Kind].words
		if o.result != state.AttemptDone {
			reason = "the window is over; its final step was not taken: " + o.why
		}
		return j.s.endHunt(ctx, tx, hunt, state.HuntExhausted, reason)
	}
	if o.result == state.AttemptPaid || o.result == state.AttemptProcessing || o.outdated {
		return nil // the next look at the ghost says what follows
	}
	if j.t.Kind == gate.KindResume && o.result == state.AttemptAbsent {
		// the debt is paid, and the pause still there
		return countRecoveriesLater(ctx, tx, hunt)
	}
	return next.plan(ctx)
}

func (j *job) words(o outcome) string {
	words := mutations[j.t.Kind].words
	if j.t.Kind == gate.KindPay {
		words = fmt.Sprintf("%s, attempt %d, %s", words, j.p.Number, money.Format(j.p.Amount, j.p.Currency))
	}
	switch {
	case o.result == state.AttemptNotSent:
		return words + ": not sent, because " + o.why
	case o.why != "":
		return words + ": " + o.why
	}
	return words + ": done"
}

// review leaves the task to a person. The hunt plans no further charge until then: the task keeps
// its place.
func (j *job) review(ctx context.Context, why string) error {
	return db.InTx(ctx, j.s.pool, func(tx pgx.Tx) error {
		if err := task.Finish(ctx, tx, j.t, state.TaskNeedsReview, nil, why); err != nil {
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

// fails only without randomness, which Go ends the process for
func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }
