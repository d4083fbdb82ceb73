package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/billing"
	"phantom/connect"
	"phantom/db"
	"phantom/gate"
	"phantom/playbook"
	"phantom/task"
)

const (
	oneADay  = 24 * time.Hour // between charges
	mostSent = 6              // tries after which an unknown outcome is only read

	refusalsBorne = 3 // of a permission, before a person is asked
)

// job is one try at a mutation.
type job struct {
	s       *Service
	t       *task.Task
	p       frozen
	reader  *connect.Reader
	attempt db.Attempt
	hunt    db.Hunt
	ghost   db.GhostTarget // zero where it is gone
	now     time.Time      // by PHANTOM's clock, as Stripe's objects tell it
	looked  time.Time      // now when the charges were about to be read
	facts   gate.Facts
	charges []billing.Charge // the customer's, the newest first
}

// HandleMutation is the handler of every kind that changes something at Stripe.
func (s *Service) HandleMutation(ctx context.Context, t *task.Task) error {
	return lost(connect.Unhurried(ctx, s.mutate(ctx, t)))
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
	by, ok, err := j.awaitLeave(ctx)
	if !ok {
		return err
	}
	failpoint("looked")
	if ok, err := j.commitSend(ctx); !ok {
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

// awaitLeave looks until the request may leave, with Stripe's pace waited for. by is when the
// first thing that was read becomes too old: the request leaves before that, or not at all.
func (j *job) awaitLeave(ctx context.Context) (by time.Time, ok bool, err error) {
	look := j.checkBeforeSend
	if j.t.FirstSentAt != nil {
		look = j.settle
	}
	for try := range 3 {
		if try > 0 {
			if err := j.load(ctx); err != nil {
				return by, false, err
			}
		}
		if r, enough := j.unasked(); enough {
			return by, false, j.obey(ctx, r)
		}
		// The account's pace is waited for before the first read, and then this charge goes before
		// those that have not begun.
		if err := j.reader.Reserve(ctx); err != nil {
			return by, false, err
		}
		// by the wall clock, which goes on while a machine sleeps
		by = j.s.config.Now().Round(0).Add(gate.Freshness)
		ahead := connect.Urgent(ctx)
		if !unread {
			if ok, err := look(ahead); !ok {
				return by, false, err
			}
		}
		if err := j.reader.Turn(ahead); err != nil {
			return by, false, err
		}
		if j.s.config.Now().Round(0).Before(by) {
			return by, true, nil
		}
	}
	return by, false, task.Snooze(time.Minute)
}

// lost has a task looked at again that could not be marked or ended: it is somebody else's by now,
// and the queue changes nothing, or its key has become too old in this very moment, and the next
// try settles it. Nil would call it done.
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
	if err := j.loadHunt(ctx, j.s.queries); err != nil {
		return err
	}
	j.facts.Stripe, j.facts.Ledger = nil, nil
	return nil
}

// loadHunt reads what the database says of the attempt and its hunt now. A ghost that is gone
// leaves both: what was sent for it is still to be settled.
func (j *job) loadHunt(ctx context.Context, queries *db.Queries) error {
	row, err := queries.AttemptLoad(ctx, db.AttemptLoadParams{MerchantID: j.t.MerchantID, TaskID: j.t.ID})
	if errors.Is(err, pgx.ErrNoRows) {
		if j.attempt, err = queries.AttemptGet(ctx, db.AttemptGetParams{MerchantID: j.t.MerchantID, TaskID: j.t.ID}); err != nil {
			return fmt.Errorf("read attempt: %w", err)
		}
		if j.hunt, err = queries.HuntGet(ctx, db.HuntGetParams{MerchantID: j.t.MerchantID, ID: j.p.Hunt}); err != nil {
			return fmt.Errorf("read hunt: %w", err)
		}
		now, err := queries.HuntHalted(ctx, j.t.MerchantID)
		if err != nil {
			return fmt.Errorf("read halts: %w", err)
		}
		j.now, j.ghost = now.Now, db.GhostTarget{}
		j.facts.Hunt = gate.HuntFacts{Hunt: j.hunt, Halted: now.Halted, Disconnected: now.Disconnected}
		return nil
	}
	if err != nil {
		return fmt.Errorf("load the attempt: %w", err)
	}
	playbook, _, err := playbook.Of(row.Playbook, row.Newest, row.GhostTarget)
	if err != nil {
		return fmt.Errorf("read playbook %d: %w", row.Hunt.PlaybookVersion, err)
	}
	j.attempt, j.hunt, j.ghost, j.now = row.Attempt, row.Hunt, row.GhostTarget, row.Now
	j.facts.Hunt = gate.HuntFacts{Hunt: j.hunt, Ghost: j.ghost, Playbook: playbook, Halted: row.Halted, Disconnected: row.Disconnected}
	return nil
}

// commitSend commits that the request leaves now, after the gate was asked for the last time:
// anyone who stops the hunt comes before this and is seen, or waits and comes after.
func (j *job) commitSend(ctx context.Context) (ok bool, err error) {
	var r gate.Ruling
	err = db.InTx(ctx, j.s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		var card []byte
		if j.t.Kind == gate.KindPay && j.facts.Stripe != nil {
			card = j.hashOf(j.facts.Stripe.Object.PaymentMethod().Key())
		}
		// A statement sees what was committed before it began: all that is waited for comes first,
		// and what is asked last is true.
		if err := queries.AttemptLock(ctx, db.AttemptLockParams{MerchantID: j.t.MerchantID, Hunt: j.p.Hunt, Card: card}); err != nil {
			return fmt.Errorf("lock the hunt and the card: %w", err)
		}
		if err := j.loadHunt(ctx, queries); err != nil {
			return err
		}
		if _, capped := j.facts.Hunt.Playbook.DailyCap[j.p.Currency]; capped && j.t.Kind == gate.KindPay {
			if err := queries.AttemptLockMerchant(ctx, j.t.MerchantID); err != nil {
				return fmt.Errorf("lock the merchant's cap: %w", err)
			}
			if err := j.loadHunt(ctx, queries); err != nil {
				return err
			}
		}
		if err := j.count(ctx, queries, card); err != nil {
			return err
		}
		if r = gate.MayLeave(j.t.Kind, j.p.planned(), j.facts, j.now); !r.Yes() {
			return nil
		}
		marked, err := queries.AttemptMarkSent(ctx, j.marking(card))
		if err != nil {
			return fmt.Errorf("mark the attempt: %w", err)
		}
		if marked == 0 {
			return task.ErrLost
		}
		failpoint("marking")
		return task.MarkSent(ctx, tx, j.t)
	})
	switch {
	case err != nil:
		return false, err
	case r.Yes():
		return true, nil
	case j.t.FirstSentAt != nil:
		wall, err := j.s.queries.WallClock(ctx)
		if err != nil {
			return false, fmt.Errorf("read clock: %w", err)
		}
		return false, j.leaveUnsent(ctx, r, wall.Sub(*j.t.FirstSentAt))
	}
	return false, j.obey(ctx, r)
}

// count asks the ledger what was sent with the card and for the merchant, and adds what the look
// has seen. Both are locked.
func (j *job) count(ctx context.Context, queries *db.Queries, card []byte) error {
	m := j.t.MerchantID
	f := &gate.LedgerFacts{}
	var err error
	if f.Twin, err = queries.AttemptUnknown(ctx, db.AttemptUnknownParams{MerchantID: m, Object: j.object(), TaskID: j.t.ID}); err != nil {
		return fmt.Errorf("ask for another request: %w", err)
	}
	if len(card) > 0 {
		rows, err := queries.CardAttemptList(ctx, db.CardAttemptListParams{MerchantID: m, Card: card, Customer: j.hunt.Customer, TaskID: j.t.ID})
		if err != nil {
			return fmt.Errorf("count attempts: %w", err)
		}
		f.Attempts = j.unite(rows, card)
		f.Twin = f.Twin || slices.ContainsFunc(rows, func(row db.CardAttemptListRow) bool {
			return row.Out
		})
	}
	if _, capped := j.facts.Hunt.Playbook.DailyCap[j.p.Currency]; capped && j.t.Kind == gate.KindPay {
		if f.Asked, err = queries.AttemptSumSent(ctx, db.AttemptSumSentParams{MerchantID: m, Currency: j.p.Currency, TaskID: j.t.ID}); err != nil {
			return fmt.Errorf("sum up charges: %w", err)
		}
	}
	j.facts.Ledger = f
	return nil
}

// unanswered says what becomes of a task whose request has no final answer. What it returns itself
// is the same row and key again.
func (j *job) unanswered(ctx context.Context, err error) error {
	var unknown *connect.UnknownError
	switch {
	case errors.Is(err, connect.ErrKeyReused):
		return j.review(ctx, "Stripe knows this task's key from another request: find in the dashboard what task_"+j.t.ID.String()+" did")
	case errors.As(err, &unknown) && unknown.Stored:
		return j.awaitKeyDeadline(ctx)
	case errors.Is(err, connect.ErrTooLate):
		return task.Snooze(time.Second)
	case errors.Is(err, connect.ErrRefused) && j.t.Attempt >= refusalsBorne:
		// it was not executed, and will not be
		return j.review(ctx, "Stripe does not allow PHANTOM to do this in the account: give the key the permission, or cancel the task")
	}
	return err
}

// awaitKeyDeadline leaves the key alone until it is too old to be sent, and reads then.
func (j *job) awaitKeyDeadline(ctx context.Context) error {
	wall, err := j.s.queries.WallClock(ctx)
	if err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	return task.Snooze(max(j.t.FirstSentAt.Add(task.KeyDeadline).Sub(wall), time.Minute))
}
