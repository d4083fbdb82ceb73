package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/connect"
	"phantom/db"
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
	by := s.config.Now().Round(0).Add(sendTime)
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
		seen := j.s.config.Now()
		if err := j.reader.Turn(ctx); err != nil {
			return false, err
		}
		if j.s.config.Now().Sub(seen) < freshness {
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

// withinCaps asks what was sent to the customer, with his card and for the merchant, one transaction at a time. A cap that is reached puts
// the task off.
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
