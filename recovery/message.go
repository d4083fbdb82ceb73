package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/task"
)

// States of a message.
const (
	messagePlanned = "planned"
	messageSending = "sending" // a request may be out
	messageSent    = "sent"
	messageSkipped = "skipped"
	messageFailed  = "failed"
	messageUnclear = "unclear"
)

const (
	// listedWithin is how long an SMS of an unknown outcome is looked for. What Twilio has taken it lists well before that.
	listedWithin = time.Hour
	// modeWait is how long a message waits where the newest playbook lets nobody be written to.
	modeWait = 15 * time.Minute
	// endPatience bounds what is written when a send has ended, also if the process is told to stop.
	endPatience = 10 * time.Second
)

// message is a message that is due, with its hunt.
type message struct {
	db.MessageLoadRow
	task *task.Task
	hash hasher
}

// HandleMessage is the handler of the tasks of kind "email" and "sms". Whoever plans a message adds its row and its task, of the same
// id, in one transaction.
func (s *Service) HandleMessage(ctx context.Context, t *task.Task) error {
	row, err := s.queries.MessageLoad(ctx, db.MessageLoadParams{MerchantID: t.MerchantID, ID: t.ID})
	if errors.Is(err, pgx.ErrNoRows) {
		return task.Fail(errors.New("there is no such message"))
	}
	if err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	m := &message{MessageLoadRow: row, task: t}
	switch m.State {
	case messagePlanned:
		return s.beginMessage(ctx, m)
	case messageSending:
		return s.resume(ctx, m)
	default:
		return task.Fail(errors.New("the message is " + m.State + ": nothing is left to do"))
	}
}

// beginMessage takes a planned message up to its first send, or puts it off, or skips it.
func (s *Service) beginMessage(ctx context.Context, m *message) error {
	switch {
	case m.HuntState != "active":
		return s.end(ctx, m, skipped("the hunt has ended"))
	case m.Mode != ModeRecover || m.HeldOut:
		return s.end(ctx, m, skipped("this hunt writes to nobody"))
	case m.Halted:
		return task.Snooze(time.Minute)
	}
	playbook, err := s.playbookOf(ctx, m)
	if err != nil {
		return err
	}
	if m.Now.After(windowEnd(db.Hunt{BeganAt: m.BeganAt}, playbook)) { // it waited: for a cap, a quiet hour, a provider
		return s.end(ctx, m, skipped("the window is over"))
	}
	var letter *letter
	if err = s.mayWrite(ctx, s.queries, m, "", m.Now); err == nil {
		letter, err = s.compose(ctx, m)
	}
	by := s.leaveBy()
	if err == nil {
		err = s.freeze(ctx, m, letter)
	}
	var ended *ending
	var wait *putOff
	switch {
	case errors.As(err, &ended):
		return s.end(ctx, m, *ended)
	case errors.As(err, &wait):
		return s.putOff(ctx, m, wait)
	case err != nil:
		return err
	}
	return s.send(ctx, m, letter, true, by)
}

// mayWrite asks the merchant's newest playbook, whichever version the hunt keeps, whether a message may be sent now: who turns recovering
// off, or wants another night, means all messages from then on. Its error is a snooze or a [*putOff]. number is that of an SMS, once it is
// known.
func (s *Service) mayWrite(ctx context.Context, queries *db.Queries, m *message, number string, now time.Time) error {
	newest, err := newestPlaybook(ctx, queries, m.task.MerchantID)
	if err != nil {
		return err
	}
	if newest.Mode != ModeRecover {
		return task.Snooze(modeWait)
	}
	quiet := newest.QuietHours.NextFor(now, zonesFor(m.Channel, zoneOf(m.Zone, m.Timezone), number))
	if quiet.After(now) {
		return &putOff{now, quiet}
	}
	return nil
}

// playbookOf is the version that the hunt keeps.
func (s *Service) playbookOf(ctx context.Context, m *message) (Playbook, error) {
	row, err := s.queries.PlaybookGet(ctx, db.PlaybookGetParams{MerchantID: m.task.MerchantID, Version: m.PlaybookVersion})
	if err != nil {
		return Playbook{}, fmt.Errorf("read playbook: %w", err)
	}
	v, err := versioned(row)
	return v.Playbook, err
}

// putOff hands a message to a later moment. That is no failed try.
func (s *Service) putOff(ctx context.Context, m *message, p *putOff) error {
	err := s.queries.MessageDefer(ctx, db.MessageDeferParams{PlannedFor: p.until, MerchantID: m.task.MerchantID, ID: m.task.ID})
	if err != nil {
		return fmt.Errorf("put the message off: %w", err)
	}
	return task.Snooze(p.until.Sub(p.now))
}

// ending is how a message ends. As an error it ends a message that is being composed.
type ending struct {
	status  string // of the task
	state   string // of the message
	why     string // in plain words, without an address
	outcome any    // of the task

	letter *letter // of a message that is skipped because its person has said stop; else nil
}

func (e *ending) Error() string { return e.why }

func skipped(why string) ending {
	return ending{status: "canceled", state: messageSkipped, why: why}
}

func failed(why string) ending {
	return ending{status: "failed", state: messageFailed, why: why}
}

func unclear(why string) ending {
	return ending{status: "needs_review", state: messageUnclear, why: why}
}

func sent(id string) ending {
	return ending{status: "succeeded", state: messageSent, outcome: map[string]string{"id": id}}
}

// end writes down how a message ended and plans what comes next, in one transaction. It does not stop halfway when the process must.
func (s *Service) end(ctx context.Context, m *message, e ending) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endPatience)
	defer cancel()
	t := m.task
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		if err := queries.MessageLockHunt(ctx, db.MessageLockHuntParams{MerchantID: t.MerchantID, ID: m.HuntID}); err != nil {
			return err
		}
		if err := queries.MessageCloseTask(ctx, db.MessageCloseTaskParams{MerchantID: t.MerchantID, ID: t.ID, Fence: t.Fence}); err != nil {
			return err
		}
		if err := task.Finish(ctx, tx, t, e.status, e.outcome, e.why); err != nil {
			return err
		}
		if e.letter != nil {
			if err := queries.MessageNamePerson(ctx, db.MessageNamePersonParams{
				MerchantID: t.MerchantID, ID: t.ID, Person: e.letter.Person, Persons: e.letter.Persons,
			}); err != nil {
				return err
			}
		}
		if _, err := queries.MessageEnd(ctx, db.MessageEndParams{MerchantID: t.MerchantID, ID: t.ID, State: e.state, Why: e.why}); err != nil {
			return err
		}
		if e.state == messageSent {
			if err := queries.MessageCountSent(ctx, db.MessageCountSentParams{MerchantID: t.MerchantID, ID: m.HuntID}); err != nil {
				return err
			}
		}
		if err := noteMessage(ctx, queries, m, e.note(m.MessageLoadRow)); err != nil {
			return err
		}
		if e.letter != nil || slices.Contains(unreachable, e.why) {
			hunt, err := queries.HuntGet(ctx, db.HuntGetParams{MerchantID: t.MerchantID, ID: m.HuntID})
			if err != nil {
				return err
			}
			if ended, err := s.endUnwanted(ctx, tx, hunt); ended || err != nil {
				return err
			}
		}
		return s.planNext(ctx, tx, t.MerchantID, m.HuntID)
	})
	if err != nil {
		return fmt.Errorf("end the message: %w", err)
	}
	return nil
}

// Writes says whether tasks of a kind write to a customer.
func Writes(kind string) bool { return kind == Email || kind == SMS }

// CancelMessage ends the message of a task that a person has canceled in the same transaction, and says so in its hunt's history. The
// hunt goes on with the next step by the task of [PlanAgain].
func CancelMessage(ctx context.Context, tx db.DBTX, merchantID, taskID uuid.UUID) error {
	queries := db.New(tx)
	const why = "a person has canceled it"
	row, err := queries.MessageCancel(ctx, db.MessageCancelParams{MerchantID: merchantID, ID: taskID, Why: why})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // it has ended before
	}
	if err != nil {
		return fmt.Errorf("end the message: %w", err)
	}
	e := ending{state: row.State, why: why}
	return note(ctx, queries, merchantID, row.HuntID, taskID, e.note(db.MessageLoadRow{Channel: row.Channel, Template: row.Template}))
}

func noteMessage(ctx context.Context, queries *db.Queries, m *message, text string) error {
	return note(ctx, queries, m.task.MerchantID, m.HuntID, m.task.ID, text)
}

// note says in a hunt's history how a message ended.
func (e ending) note(m db.MessageLoadRow) string {
	what := "The email " + m.Template
	if m.Channel == SMS {
		what = "The SMS " + m.Template
	}
	switch e.state {
	case messageSent:
		return what + " was sent."
	case messageSkipped:
		return what + " was skipped: " + e.why + "."
	case messageFailed:
		return what + " could not be sent: " + e.why + "."
	default:
		return what + " may or may not have been sent: " + e.why + "."
	}
}
