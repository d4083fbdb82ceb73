package message

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/connect"
	"phantom/db"
	"phantom/gate"
	"phantom/playbook"
	"phantom/state"
	"phantom/task"
	"phantom/zone"
)

const (
	// listedWithin is how long an SMS of an unknown outcome is looked for. What Twilio has taken it
	// lists well before that.
	listedWithin = time.Hour
	// composing bounds the time in which Stripe is read for a message: a dispute or a payment is
	// seen after that.
	composing = 30 * time.Second
	// endPatience bounds what is written when a send has ended, also if the process is told to
	// stop.
	endPatience = 10 * time.Second
)

// message is a message that is due, with its hunt.
type message struct {
	db.MessageLoadRow
	task *task.Task
	hash Hasher

	playbook playbook.Playbook // that holds for its hunt, as the gate was asked last
	invoice  string            // that it is about: the oldest one of the ghost that is hunted
	byHand   bool              // somebody has named the ghost

	nextCharge time.Time // of its hunt; zero for none
}

// HandleMessage is the handler of the tasks of kind "email" and "sms". Anyone who plans a message
// adds its row and its task, of the same id, in one transaction.
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
	case state.MessagePlanned:
		return s.beginMessage(ctx, m)
	case state.MessageSending:
		return s.resume(ctx, m)
	default:
		return task.Fail(errors.New("the message is " + string(m.State) + ": nothing is left to do"))
	}
}

// beginMessage takes a planned message up to its first send, or puts it off, or skips it. The gate
// is asked before anything is read at Stripe, and once more in the transaction that freezes the
// message.
func (s *Service) beginMessage(ctx context.Context, m *message) error {
	var letter *letter
	began := s.config.Now()
	err := s.mayWrite(ctx, s.queries, m, nil, false)
	if err == nil {
		letter, err = s.compose(ctx, m)
	}
	if err == nil && s.config.Now().Sub(began) > composing {
		err = task.Snooze(time.Minute) // what was read first may not be so any more
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

// mayWrite asks the gate about a message. Where it may not leave, its error is an [*ending], a
// snooze or a [*putOff]. l is nil before the message is composed; counted says that the messages to
// its person are, which the caller has locked. In a transaction the hunt stays as it is until the
// end of that.
func (s *Service) mayWrite(ctx context.Context, queries *db.Queries, m *message, l *letter, counted bool) error {
	q := Question{
		MerchantID: m.task.MerchantID, HuntID: m.HuntID, Channel: m.Channel, Counted: counted,
		Zones: ZonesFor(m.Channel, zone.OfGhost(m.Zone, m.Timezone), l.number()),
	}
	if l != nil {
		q.Person, q.Persons = l.Person, l.Persons
	}
	a, err := s.Hunts.MayWrite(ctx, queries, q)
	if err != nil {
		return err
	}
	m.playbook, m.invoice, m.byHand, m.nextCharge = a.Playbook, a.Invoice, a.ByHand, a.NextCharge
	r := a.Ruling
	switch {
	case r.Yes():
		return nil
	case r.Code == gate.Disconnected:
		return connect.ErrRevoked
	case r.Code == gate.QuietHours, r.Code == gate.MessageCap:
		return &putOff{a.Now, r.Until}
	case r.Code.Passes():
		return task.Snooze(r.Until.Sub(a.Now))
	}
	e := skippedFor(r.Code)
	if r.Code == gate.Stopped {
		e.letter = l
	}
	return stop(e)
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
	status  state.Task    // of the task
	state   state.Message // of the message
	code    gate.Code     // why it was skipped, where that is known by more than words
	why     string        // in plain words, without an address
	outcome any           // of the task

	letter *letter // of a message that is skipped because its person has said stop; else nil
}

func (e *ending) Error() string { return e.why }

func skipped(why string) ending {
	return ending{status: state.TaskCanceled, state: state.MessageSkipped, why: why}
}

func skippedFor(c gate.Code) ending {
	e := skipped(c.Words())
	e.code = c
	return e
}

func failed(why string) ending {
	return ending{status: state.TaskFailed, state: state.MessageFailed, why: why}
}

func unclear(why string) ending {
	return ending{status: state.TaskNeedsReview, state: state.MessageUnclear, why: why}
}

func sent(id string) ending {
	return ending{status: state.TaskSucceeded, state: state.MessageSent, outcome: map[string]string{"id": id}}
}

// end writes down how a message ended and has its hunt go on, in one transaction. It does not stop
// halfway when the process must.
func (s *Service) end(ctx context.Context, m *message, e ending) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endPatience)
	defer cancel()
	t := m.task
	err := db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
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
		if _, err := queries.MessageEnd(ctx, db.MessageEndParams{MerchantID: t.MerchantID, ID: t.ID, State: e.state, Why: e.why, Code: string(e.code)}); err != nil {
			return err
		}
		if e.state == state.MessageSent {
			if err := queries.MessageCountSent(ctx, db.MessageCountSentParams{MerchantID: t.MerchantID, ID: m.HuntID}); err != nil {
				return err
			}
		}
		stopped := e.letter != nil || slices.Contains(Unreachable, string(e.code))
		return s.Hunts.MessageEnded(ctx, tx, Ended{t.MerchantID, m.HuntID, t.ID, e.note(m.MessageLoadRow), stopped})
	})
	if err != nil {
		return fmt.Errorf("end the message: %w", err)
	}
	s.logEnd(ctx, m, e)
	return nil
}

// logEnd leaves one line of a message that has left. Others are counted: what keeps one from
// leaving may keep thousands.
func (s *Service) logEnd(ctx context.Context, m *message, e ending) {
	log := task.Log(ctx, s.config.Log).With("hunt", m.HuntID, "channel", m.Channel, "template", m.Template)
	if e.state == state.MessageSent {
		log.Info("[WORKER] a message was sent")
		return
	}
	kind := string(e.state)
	if e.state == state.MessageSkipped { // these reasons are ours, and few
		kind += " " + e.why
	}
	before, is := s.ended.Say(kind, s.config.Now())
	if !is {
		return
	}
	if before > 0 {
		log = log.With("others_like_it", before)
	}
	switch e.state {
	case state.MessageSkipped:
		log.Info("[WORKER] a message was skipped", "cause", e.why)
	case state.MessageFailed:
		log.Warn("[WORKER] a message could not be sent", "cause", e.why)
	default:
		log.Warn("[WORKER] it is not known whether a message was sent", "cause", e.why)
	}
}

// Cancel ends the message of a task that a person has canceled in the same transaction. It returns
// the hunt, and what its history is to say; nothing where the message has ended before.
func Cancel(ctx context.Context, tx db.DBTX, merchantID, taskID uuid.UUID) (hunt uuid.UUID, words string, err error) {
	const why = "a person has canceled it"
	row, err := db.New(tx).MessageCancel(ctx, db.MessageCancelParams{MerchantID: merchantID, ID: taskID, Why: why})
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, "", nil
	}
	if err != nil {
		return uuid.Nil, "", fmt.Errorf("end the message: %w", err)
	}
	e := ending{state: row.State, why: why}
	return row.HuntID, e.note(db.MessageLoadRow{Channel: row.Channel, Template: row.Template}), nil
}

// note says in a hunt's history how a message ended.
func (e ending) note(m db.MessageLoadRow) string {
	what := "The email " + m.Template
	if m.Channel == playbook.SMS {
		what = "The SMS " + m.Template
	}
	switch e.state {
	case state.MessageSent:
		return what + " was sent."
	case state.MessageSkipped:
		return what + " was skipped: " + e.why + "."
	case state.MessageFailed:
		return what + " could not be sent: " + e.why + "."
	default:
		return what + " may or may not have been sent: " + e.why + "."
	}
}
