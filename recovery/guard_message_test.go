package recovery

import (
	"net/http"
	"sync"
	"testing"

	"github.com/google/uuid"

	"phantom/internal/stage"
	"phantom/message"
	"phantom/playbook"
	"phantom/state"
)

// messageStops are what keeps a message back. $1 is the message's id.
var messageStops = map[string]struct {
	change string
	state  state.Message
}{
	"the merchant is halted": {`INSERT INTO halts (scope) SELECT merchant_id FROM messages
		WHERE id = $1`, state.MessagePlanned},
	"all are halted": {`INSERT INTO halts (scope)
		SELECT '00000000-0000-0000-0000-000000000000' FROM messages WHERE id = $1`, state.MessagePlanned},
	"the hunt is stopped": {`UPDATE hunts SET state = 'stopped', ended_reason = 'x', ended_at = now()
		WHERE id = (SELECT hunt_id FROM messages WHERE id = $1)`, state.MessageSkipped},
	"the person has said stop": {`INSERT INTO suppressions (merchant_id, channel, person, reason)
		SELECT merchant_id, 'email', $2, 'x' FROM messages WHERE id = $1`, state.MessageSkipped},
	"the merchant has left": {`UPDATE merchants SET disconnected_at = now()
		WHERE id = (SELECT merchant_id FROM messages WHERE id = $1)`, state.MessagePlanned},
	"the ghost is closed": {`UPDATE ghost_targets SET status = 'closed',
		closed_reason = 'paid', closed_at = now()
		WHERE id = (SELECT ghost_id FROM hunts h JOIN messages m ON m.hunt_id = h.id
			WHERE m.id = $1)`, state.MessageSkipped},
	"another message has left": {`INSERT INTO messages (merchant_id, id, hunt_id, step, channel, template,
			planned_for, state, person, persons, sent_at)
		SELECT merchant_id, gen_random_uuid(), hunt_id, 9, 'email', 'reminder', now(), 'sent', $2,
			ARRAY[$2::bytea], phantom_now()
		FROM messages WHERE id = $1`, state.MessagePlanned},
	"it is planned no more": {"UPDATE messages SET state = 'skipped', why = 'x' WHERE id = $1",
		state.MessageSkipped},
}

// change carries a stop out for a message to a person.
func (p *office) change(name string, id uuid.UUID, person []byte) {
	p.t.Helper()
	statement := messageStops[name].change
	if name == "the person has said stop" || name == "another message has left" {
		p.Exec(statement, id, person)
		return
	}
	p.Exec(statement, id)
}

// What stops a message while Stripe is read for it is seen by the transaction that lets it leave.
func TestNoMessageAfterAStop(t *testing.T) {
	t.Parallel()
	for name, stop := range messageStops {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := setupPost(t)
			id, _ := p.plan(ada, playbook.Email, "payment_failed")
			hash, err := p.s.connect.Hasher(t.Context(), p.merchant)
			p.must(err)
			once := sync.OnceFunc(func() { p.change(name, id, message.Hasher(hash).Email(address)) })
			p.world.set(func() { p.world.reading = once })
			status := p.try(id)
			requests, _, _ := p.world.took()
			if got, why := p.state(id); requests != 0 || got != stop.state ||
				p.row(id).FirstSentAt != nil {
				t.Errorf("%d requests to send; the task is %s, the message %s: %s", requests, status, got,
					why)
			}
		})
	}
}

// An email whose answer was lost does not leave again after a stop either, be it one that comes
// while Stripe is read for that.
func TestNoMessageAgainAfterAStop(t *testing.T) {
	t.Parallel()
	again := func(t *testing.T, name string, late bool) {
		t.Parallel()
		p := setupPost(t)
		p.world.set(func() { p.world.faults = func(int) fault { return dropAfter } })
		id, _ := p.plan(ada, playbook.Email, "payment_failed")
		p.try(id)
		hash, err := p.s.connect.Hasher(t.Context(), p.merchant)
		p.must(err)
		once := sync.OnceFunc(func() { p.change(name, id, message.Hasher(hash).Email(address)) })
		if late {
			p.world.set(func() { p.world.reading = once })
		} else {
			once()
		}
		status := p.try(id)
		requests, _, _ := p.world.took()
		if got, _ := p.state(id); requests != 1 || got != state.MessageSending && got != state.MessageUnclear {
			t.Errorf("%d requests to send; the task is %s, the message %s", requests, status, got)
		}
	}
	for name := range messageStops {
		if name == "another message has left" || name == "it is planned no more" {
			continue // the letter itself is what has left
		}
		t.Run(name, func(t *testing.T) { again(t, name, false) })
		t.Run(name+", late", func(t *testing.T) { again(t, name, true) })
	}
}

// Two messages to one person at the same moment: the second waits for the first, counts it and is
// put off. The first is held while it is written down as sent.
func TestTwoMessagesAtOnce(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	first, _ := p.plan(ada, playbook.Email, "payment_failed")
	second, _ := p.plan(person{"cus_other", address}, playbook.Email, "payment_failed")
	tx, err := p.pool.Begin(t.Context())
	p.must(err)
	defer func() { _ = tx.Rollback(t.Context()) }()
	_, err = tx.Exec(t.Context(), "SELECT 1 FROM messages WHERE id = $1 FOR UPDATE", first)
	p.must(err)
	waiting := func() int {
		return p.Count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
			AND wait_event_type = 'Lock'`)
	}
	done := make(chan error, 2)
	begin := func(id uuid.UUID) {
		claimed := p.claim(id)
		go func() { done <- p.s.messages.HandleMessage(t.Context(), claimed) }()
	}
	begin(first)
	p.await("the first one is held", func() bool { return waiting() == 1 })
	begin(second)
	p.await("the second one waits, or is through", func() bool {
		return waiting() == 2 ||
			len(done) == 1
	})
	p.must(tx.Commit(t.Context()))
	<-done
	<-done
	if requests, _, _ := p.world.took(); requests != 1 {
		t.Errorf("%d emails to one person", requests)
	}
	if got, _ := p.state(second); got != state.MessagePlanned {
		t.Errorf("the second one is %s", got)
	}
}

// After an answer that was lost, a refusal proves nothing: what left first may have been taken.
// Before that it proves that nothing was, and the message is as it was planned.
func TestOnlyTheFirstRefusalThaws(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	refused := func() {
		p.world.status, p.world.answer = http.StatusTooManyRequests,
			`{"name":"monthly_quota_exceeded"}`
	}
	lost := func() { p.world.status, p.world.faults = 0, func(int) fault { return dropAfter } }
	taken := func() { p.world.status, p.world.faults = 0, nil }
	id, _ := p.plan(ada, playbook.Email, "payment_failed")
	for i, answer := range []func(){refused, lost, refused, taken} {
		want := []state.Message{state.MessagePlanned, state.MessageSending, state.MessageSending, state.MessageSent}[i]
		p.world.set(answer)
		// a letter composed anew has other bytes
		p.Exec("UPDATE ghost_targets SET amount = amount + 1")
		p.try(id)
		row := p.row(id)
		got, _ := p.state(id)
		if got != want || (row.FirstSentAt == nil) != (want == state.MessagePlanned) {
			t.Errorf("after %d answers the message is %s, first sent at %v", i+1, got, row.FirstSentAt)
		}
		if frozen := row.SealedParams != nil; frozen != (want == state.MessageSending) {
			t.Errorf("after %d answers it is frozen: %t", i+1, frozen)
		}
		if counted := p.Count("SELECT count(*) FROM messages WHERE id = $1 AND sent_at IS NOT NULL",
			id); (counted == 1) != (want != state.MessagePlanned) {
			t.Errorf("after %d answers it counts %d times", i+1, counted)
		}
	}
	if _, emails, _ := p.world.took(); emails != 1 || p.world.changed != 0 {
		t.Errorf("%d emails were taken, %d requests had other bytes", emails, p.world.changed)
	}
}

// A key of Resend's that is 20 hours old is not used again, and an SMS never leaves twice.
func TestNoMessageTwice(t *testing.T) {
	t.Parallel()
	for _, channel := range []string{playbook.Email, playbook.SMS} {
		p := setupPost(t)
		p.world.set(func() { p.world.faults = func(int) fault { return dropBefore } })
		id, _ := p.plan(ada, channel, "payment_failed")
		p.try(id)
		p.world.set(func() { p.world.faults = nil })
		if channel == playbook.Email {
			p.Exec(`UPDATE scheduled_tasks
				SET first_sent_at = clock_timestamp() - interval '20 hours 1 minute' WHERE id = $1`, id)
		}
		p.try(id)
		requests, _, _ := p.world.took()
		if got, _ := p.state(id); requests != 1 || got == state.MessageSent || got == state.MessagePlanned {
			t.Errorf("%s: %d requests to send, and it is %s", channel, requests, got)
		}
	}
}

func (p *office) await(what string, ask func() bool) {
	p.t.Helper()
	stage.Await(p.t, what, p.log, ask)
}
