package message

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/gate"
	"phantom/state"
	"phantom/task"
	"phantom/vault"
)

func sealedContext(t *task.Task) string { return "scheduled_tasks.sealed_params:" + t.ID.String() }

// idempotencyKey is the one key under which a task's request ever leaves.
func idempotencyKey(t *task.Task) string { return "task_" + t.ID.String() }

// putOff is the error of a message that must wait until later.
type putOff struct{ now, until time.Time }

func (p *putOff) Error() string { return "the message is put off" }

// underCaps fails with a [*putOff] where a person has had enough messages.
func (s *Service) underCaps(ctx context.Context, queries *db.Queries, m *message, persons [][]byte, now time.Time) error {
	rows, err := queries.MessageListSent(ctx, db.MessageListSentParams{MerchantID: m.task.MerchantID, Persons: persons})
	if err != nil {
		return fmt.Errorf("count messages: %w", err)
	}
	if at := gate.AllowedAt(rows, m.Channel, now); at.After(now) {
		return &putOff{now, at}
	}
	return nil
}

// freeze stores a letter as it will leave, in the transaction that looks for the last time whether
// it may. As mayWrite's, its error may be an [*ending] or a snooze, or a [*putOff].
func (s *Service) freeze(ctx context.Context, m *message, l *letter) error {
	text, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("marshal letter: %w", err)
	}
	t := m.task
	sealed := vault.NewToken(sealedContext(t), string(text))
	return db.InTx(ctx, s.pool, func(tx pgx.Tx) error { return s.freezeIn(ctx, tx, m, l, sealed) })
}

func (s *Service) freezeIn(ctx context.Context, tx pgx.Tx, m *message, l *letter, sealed vault.EncryptedToken) error {
	t, queries := m.task, db.New(tx)
	// From here on nobody else counts this person's messages.
	if err := queries.MessageLockPersons(ctx, locks(l.Persons)); err != nil {
		return fmt.Errorf("lock the person: %w", err)
	}
	// It may have become night while Stripe was read, and much else.
	if err := s.mayWrite(ctx, queries, m, l, true); err != nil {
		return err
	}
	if err := task.MarkSent(ctx, tx, t); err != nil {
		return err
	}
	if _, err := queries.MessageSealTask(ctx, db.MessageSealTaskParams{MerchantID: t.MerchantID, ID: t.ID, Fence: t.Fence, SealedParams: sealed}); err != nil {
		return fmt.Errorf("freeze the message: %w", err)
	}
	changed, err := queries.MessageFreeze(ctx, db.MessageFreezeParams{MerchantID: t.MerchantID, ID: t.ID, Person: l.Person, Persons: l.Persons})
	if err == nil && changed == 0 {
		err = errors.New("it is not planned any more")
	}
	if err != nil {
		return fmt.Errorf("freeze the message: %w", err)
	}
	return nil
}

// leaveBy is until when by the wall clock a request may leave whose last look begins now. A machine
// that slept in between would else send an SMS in the middle of the night, or to somebody who has
// said stop meanwhile.
func (s *Service) leaveBy() time.Time { return s.config.Now().Round(0).Add(gate.Freshness) }

// send makes one attempt and judges its end. The first of a letter is certain that nothing has left
// before.
func (s *Service) send(ctx context.Context, m *message, l *letter, first bool, by time.Time) error {
	var got answer
	if l.SMS != nil {
		got = s.sendSMS(ctx, l.secret, *l.SMS, by)
	} else {
		got = s.sendEmail(ctx, l.secret, idempotencyKey(m.task), l.Email, by)
	}
	switch got.outcome {
	case taken:
		return s.end(ctx, m, sent(got.id))
	case refused:
		return s.end(ctx, m, failed(got.why))
	case optedOut:
		if err := s.Suppress(ctx, m.task.MerchantID, m.Channel, l.Person, "opted_out"); err != nil {
			return err
		}
		return s.end(ctx, m, skipped(got.why))
	case conflict:
		return s.end(ctx, m, unclear(got.why))
	case unknown, keyRefused, busy, late: // it has not ended
	}
	if first && got.outcome != unknown {
		if err := s.thaw(ctx, m); err != nil {
			return err
		}
	}
	s.log.Warn("[WORKER] a message has not been taken yet", "task", m.task.ID, "kind", m.Channel, "cause", got.why)
	switch {
	case got.outcome == keyRefused:
		return task.Review(errors.New(got.why))
	case first && got.outcome == late:
		return task.Snooze(time.Second) // and looks at everything anew
	case first && got.outcome == busy:
		return task.Snooze(max(got.wait, time.Minute))
	default:
		return again(m)
	}
}

// thaw makes a message planned again after an attempt that certainly left nothing behind.
func (s *Service) thaw(ctx context.Context, m *message) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endPatience)
	defer cancel()
	t := m.task
	err := db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		held, err := queries.MessageThawTask(ctx, db.MessageThawTaskParams{MerchantID: t.MerchantID, ID: t.ID, Fence: t.Fence})
		if err != nil {
			return err
		}
		if held == 0 {
			return task.ErrLost
		}
		_, err = queries.MessageThaw(ctx, db.MessageThawParams{MerchantID: t.MerchantID, ID: t.ID})
		return err
	})
	if err != nil {
		return fmt.Errorf("thaw the message: %w", err)
	}
	return nil
}

// again asks for another look: soon at first, and ever more rarely. A failed try it is not: eight
// of those would end what has 20 hours.
func again(m *message) error {
	age := time.Duration(0)
	if m.State == state.MessageSending && m.task.FirstSentAt != nil {
		age = m.Clock.Sub(*m.task.FirstSentAt)
	}
	return task.Snooze(min(max(age/2, 10*time.Second), 30*time.Minute))
}

// resume goes on with a message that may be out.
func (s *Service) resume(ctx context.Context, m *message) error {
	t := m.task
	l, err := s.thawed(ctx, m)
	var ended *ending
	switch {
	case errors.As(err, &ended):
		return s.end(ctx, m, *ended)
	case err != nil:
		return err
	case l.SMS != nil:
		return s.lookUp(ctx, m, l)
	case m.Clock.Sub(*t.FirstSentAt) >= task.KeyDeadline:
		return s.end(ctx, m, unclear("Resend gave no clear answer for 20 hours"))
	}
	began := s.config.Now()
	err = s.mayRepeat(ctx, m, l)
	if err == nil && s.config.Now().Sub(began) > composing {
		err = task.Snooze(time.Minute)
	}
	by := s.leaveBy()
	if err == nil { // once more: reading Stripe may have taken its time
		err = s.unstopped(ctx, m, l)
	}
	if errors.As(err, &ended) {
		return s.end(ctx, m, unclear(ended.why+", and no answer had come"))
	} else if err != nil {
		return err
	}
	return s.send(ctx, m, l, false, by)
}

// thawed opens a frozen letter, if it can still go the same way.
func (s *Service) thawed(ctx context.Context, m *message) (*letter, error) {
	t := m.task
	if t.SealedParams == nil || t.FirstSentAt == nil {
		return nil, stop(unclear("what was sent is not known any more"))
	}
	sealed, err := t.SealedParams.Reveal(sealedContext(t))
	if errors.Is(err, vault.ErrOpen) {
		return nil, stop(unclear("what was sent does not open any more"))
	}
	if err != nil { // under a key that this process does not hold: another one may
		return nil, err
	}
	var l letter
	if err := json.Unmarshal([]byte(sealed), &l); err != nil {
		return nil, stop(unclear("what was sent cannot be read any more"))
	}
	account, err := s.open(ctx, t.MerchantID, providerOf(m.Channel))
	if errors.Is(err, ErrNotFound) {
		return nil, stop(unclear("the channel is not set up any more, and no answer had come"))
	}
	if err != nil {
		return nil, err
	}
	hash, err := s.connect.Hasher(ctx, t.MerchantID)
	if err != nil {
		return nil, err
	}
	if m.hash = hash; !bytes.Equal(account.fingerprint(m.hash), l.Channel) {
		return nil, stop(unclear("the channel leads to another account or key, and no answer had come"))
	}
	l.secret = account.secret
	return &l, nil
}

// unstopped looks whether an email may still be sent again, as far as the database knows. As
// mayWrite's, its error may be an [*ending] or a snooze.
func (s *Service) unstopped(ctx context.Context, m *message, l *letter) error {
	err := s.mayWrite(ctx, s.queries, m, l, false)
	var wait *putOff
	if errors.As(err, &wait) {
		return task.Snooze(wait.until.Sub(wait.now))
	}
	return err
}

// mayRepeat looks before an email is sent again. As mayWrite's, its error may be an [*ending] or a
// snooze.
func (s *Service) mayRepeat(ctx context.Context, m *message, l *letter) error {
	if err := s.unstopped(ctx, m, l); err != nil {
		return err
	}
	reader, err := s.connect.Reader(ctx, m.task.MerchantID)
	if err != nil {
		return err
	}
	ghost, err := s.queries.MessageGetGhost(ctx, db.MessageGetGhostParams{MerchantID: m.task.MerchantID, ID: m.GhostID})
	if errors.Is(err, pgx.ErrNoRows) {
		return stop(skipped("the ghost is gone"))
	}
	if err != nil {
		return fmt.Errorf("read ghost: %w", err)
	}
	if err := writable(ctx, reader, ghost.StripeCustomerID, l.Invoice); err != nil {
		return err
	}
	invoice, err := readBill(ctx, reader, l.Invoice)
	if err != nil {
		return err
	}
	if invoice.settled() {
		return stop(skipped("the invoice is settled"))
	}
	return m.mayTouch(invoice)
}

// lookUp settles an SMS by looking for it at Twilio. It is never sent again, no matter what is
// found.
func (s *Service) lookUp(ctx context.Context, m *message, l *letter) error {
	id, err := s.findSMS(ctx, l.secret, *l.SMS, *m.task.FirstSentAt)
	age := m.Clock.Sub(*m.task.FirstSentAt)
	switch {
	case id != "":
		return s.end(ctx, m, sent(id))
	case err == nil && age >= listedWithin:
		return s.end(ctx, m, unclear("Twilio gave no answer and does not list it"))
	case age >= task.KeyDeadline:
		return s.end(ctx, m, unclear("Twilio gave no answer for 20 hours"))
	}
	return again(m)
}
