package recovery

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/uuid"

	"phantom/playbook"
	"phantom/state"
)

var allFaults = []fault{dropBefore, dropAfter, cutAfter, fail500, fail500After, fail409, fail429}

// mixed draws a fault for two of three requests.
func mixed(seed uint64) func(int) fault {
	random := rand.New(rand.NewPCG(seed, 7))
	return func(int) fault {
		if random.IntN(3) == 0 {
			return none
		}
		return allFaults[random.IntN(len(allFaults))]
	}
}

// After any faults an email is taken once for one task, and every request carried the same key
// and bytes.
func TestEmailOnceUnderFaults(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	p.world.set(func() { p.world.faults = mixed(1) })
	const tasks = 40
	var ids []uuid.UUID
	for i := range tasks {
		id, _ := p.plan(person{fmt.Sprint("cus_", i), fmt.Sprintf("canary%d@example.com", i)}, playbook.Email, "payment_failed")
		ids = append(ids, id)
	}
	for _, id := range ids {
		for tries := 0; ; tries++ {
			if status := p.try(id); status == state.TaskSucceeded {
				break
			} else if status != state.TaskPending || tries > 100 {
				t.Fatalf("%s after %d tries", status, tries)
			}
			// No matter what changes meanwhile, the bytes stay.
			p.Exec("UPDATE ghost_targets SET amount = amount + 1")
			p.Exec("INSERT INTO templates SELECT $1, 'email', 'payment_failed', 's', '<a href=\"{{.PayURL}}\"></a><a href=\"{{.UnsubscribeURL}}\"></a>', '{{.PayURL}} {{.UnsubscribeURL}}' ON CONFLICT DO NOTHING", p.merchant)
		}
	}
	w := p.world
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if len(w.emails) != tasks || w.changed != 0 || w.requests < 2*tasks {
		t.Errorf("%d emails were taken, %d requests changed their bytes, %d requests", len(w.emails), w.changed, w.requests)
	}
	for _, id := range ids {
		if w.emails["task_"+id.String()].id == "" {
			t.Errorf("%s was not sent", id)
		}
	}
	if n := p.Count("SELECT count(*) FROM messages WHERE state = 'sent'"); n != tasks {
		t.Errorf("%d are known to be sent", n)
	}
}

// Under the same faults an SMS leaves once at most: what is known to be sent was, and what is not
// known is left to a person.
func TestSMSAtMostOnceUnderFaults(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	p.world.set(func() { p.world.faults = mixed(2) })
	const tasks = 40
	for i := range tasks {
		who := person{fmt.Sprint("cus_", i), fmt.Sprintf("canary%d@example.com", i)}
		p.world.set(func() { p.world.phones[who.customer] = fmt.Sprintf("+1415555%04d", i) })
		id, _ := p.plan(who, playbook.SMS, "payment_failed")
		for tries := 0; ; tries++ {
			if status := p.try(id); status == state.TaskSucceeded || status == state.TaskNeedsReview || status == state.TaskFailed {
				break
			} else if tries > 100 {
				t.Fatalf("%s after %d tries", status, tries)
			}
			if tries == 2 { // an hour later
				p.Exec("UPDATE scheduled_tasks SET first_sent_at = first_sent_at - interval '61 minutes' WHERE id = $1", id)
			}
		}
	}
	p.world.mutex.Lock()
	defer p.world.mutex.Unlock()
	took := map[string]int{}
	for _, one := range p.world.texts {
		if took[one.to]++; took[one.to] > 1 {
			t.Errorf("%s got two", one.to)
		}
	}
	sentOnes, unclearOnes := p.Count("SELECT count(*) FROM messages WHERE state = 'sent'"), p.Count("SELECT count(*) FROM messages WHERE state = 'unclear'")
	// by a 409 with a code of Twilio's
	refusedOnes := p.Count("SELECT count(*) FROM messages WHERE state = 'failed'")
	if p.world.requests != tasks || sentOnes != len(p.world.texts) || sentOnes+unclearOnes+refusedOnes != tasks || unclearOnes == 0 {
		t.Errorf("%d requests, %d taken, %d known to be sent, %d unclear", p.world.requests, len(p.world.texts), sentOnes, unclearOnes)
	}
}

// A process that dies between the request and its answer: the next one repeats an email under its
// key, and looks an SMS up.
func TestKilledBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	for _, channel := range []string{playbook.Email, playbook.SMS} {
		t.Run(channel, func(t *testing.T) {
			t.Parallel()
			p := setupPost(t)
			id, _ := p.plan(ada, channel, "payment_failed")
			wait, arrived := make(chan struct{}), make(chan struct{}, 1)
			p.world.set(func() { p.world.wait, p.world.arrived = wait, arrived })
			ctx, kill := context.WithCancel(t.Context())
			claimed := p.claim(id)
			done := make(chan error)
			go func() { done <- p.s.messages.HandleMessage(ctx, claimed) }()
			<-arrived
			kill()
			if err := <-done; err == nil {
				t.Fatal("the killed try succeeded")
			}
			p.world.mutex.Lock()
			close(wait)
			p.world.wait = nil
			p.world.mutex.Unlock()
			if got, _ := p.state(id); got != state.MessageSending {
				t.Errorf("state %s", got)
			}
			status := p.try(id)
			p.world.mutex.Lock()
			defer p.world.mutex.Unlock()
			if status != state.TaskSucceeded || len(p.world.emails)+len(p.world.texts) != 1 || p.world.changed != 0 {
				t.Errorf("%s, %d emails, %d SMS", status, len(p.world.emails), len(p.world.texts))
			}
		})
	}
}

// An email of an unknown outcome is not sent again once it is not wanted any more, or its key may
// be forgotten: it is unclear.
func TestNotRepeated(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	for i, test := range []struct{ name, change string }{
		{"20 hours", "UPDATE scheduled_tasks SET first_sent_at = first_sent_at - interval '20 hours' WHERE id = $1"},
		{"the hunt was stopped", "UPDATE hunts SET state = 'stopped', ended_reason = 'x', ended_at = phantom_now() WHERE id = (SELECT hunt_id FROM messages WHERE id = $1)"},
		{"unsubscribed", "INSERT INTO suppressions (merchant_id, channel, person, reason) SELECT merchant_id, channel, person, 'x' FROM messages WHERE id = $1"},
		{"another account", "UPDATE channels SET account = 'x' FROM messages m WHERE m.id = $1 AND provider = 'resend'"},
		{"a letter that does not open", "UPDATE scheduled_tasks SET sealed_params.tag = md5('x') WHERE id = $1"},
		{"no account", "DELETE FROM channels USING messages m WHERE m.id = $1 AND provider = 'resend'"},
	} {
		p.world.set(func() { p.world.faults = func(int) fault { return fail500 } })
		id, _ := p.plan(person{fmt.Sprint("cus_", i), fmt.Sprintf("canary%d@example.com", i)}, playbook.Email, "payment_failed")
		if status := p.try(id); status != state.TaskPending {
			t.Fatalf("%s: %s", test.name, status)
		}
		p.Exec(test.change, id)
		p.world.set(func() { p.world.faults = nil })
		before, _, _ := p.world.took()
		status := p.try(id)
		after, _, _ := p.world.took()
		if got, why := p.state(id); status != state.TaskNeedsReview || got != state.MessageUnclear || why == "" || after != before {
			t.Errorf("%s: %s, %s, %s, %d requests more", test.name, status, got, why, after-before)
		}
		if row := p.row(id); row.SealedParams != nil || row.UniqueKey != nil {
			t.Errorf("%s: %+v", test.name, row)
		}
	}
	// A halt only holds it back.
	_, err := p.s.messages.SetResend(t.Context(), p.merchant, resendKey, "billing@example.com")
	p.must(err)
	p.world.set(func() { p.world.faults = func(int) fault { return dropAfter } })
	id, _ := p.plan(person{"cus_halt", "halt@example.com"}, playbook.Email, "payment_failed")
	p.try(id)
	p.world.set(func() { p.world.faults = nil })
	p.Exec("INSERT INTO halts (scope) VALUES ($1)", p.merchant)
	if status := p.try(id); status != state.TaskPending {
		t.Errorf("halted: %s", status)
	}
	p.Exec("DELETE FROM halts")
	if status := p.try(id); status != state.TaskSucceeded {
		t.Errorf("after the halt: %s", status)
	}
}

// What a provider refuses for good fails; who has told Twilio STOP is suppressed.
func TestRefusals(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	for i, test := range []struct {
		channel string
		status  int
		answer  string
		want    state.Message
	}{
		{playbook.Email, 422, `{"name":"invalid_parameter","message":"canary"}`, state.MessageFailed},
		{playbook.Email, 451, `{"name":"security_error"}`, state.MessageFailed},
		{playbook.Email, 409, `{"name":"invalid_idempotent_request"}`, state.MessageUnclear},
		{playbook.SMS, 400, `{"code":21211,"message":"canary"}`, state.MessageFailed},
		{playbook.SMS, 400, `{"code":21610,"message":"canary"}`, state.MessageSkipped},
	} {
		p.world.set(func() { p.world.status, p.world.answer = test.status, test.answer })
		who := person{fmt.Sprint("cus_", i), fmt.Sprintf("canary%d@example.com", i)}
		p.world.set(func() { p.world.phones[who.customer] = fmt.Sprintf("+1415555%04d", i) })
		id, _ := p.plan(who, test.channel, "payment_failed")
		p.try(id)
		if got, why := p.state(id); got != test.want || strings.Contains(why, "canary") {
			t.Errorf("%s %d: %s, %s", test.channel, test.status, got, why)
		}
	}
	if n := p.Count("SELECT count(*) FROM suppressions WHERE channel = 'sms' AND reason = 'opted_out'"); n != 1 {
		t.Errorf("%d suppressed", n)
	}
	// Twilio's own word that it took nothing: later.
	p.world.set(func() { p.world.status, p.world.answer = 429, `{"code":20429}` })
	id, _ := p.plan(person{"cus_busy", ""}, playbook.SMS, "payment_failed")
	p.try(id)
	if got, _ := p.state(id); got != state.MessagePlanned {
		t.Errorf("busy: %s", got)
	}
}

// A stop that comes while a message is being frozen is seen, or waits until it is: never in
// between.
func TestStopBeforeTheFreeze(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	id, hunt := p.plan(ada, playbook.Email, "payment_failed")
	tx, err := p.pool.Begin(t.Context())
	p.must(err)
	_, err = tx.Exec(t.Context(), "UPDATE hunts SET state = 'stopped', ended_reason = 'x', ended_at = phantom_now() WHERE id = $1", hunt)
	p.must(err)
	claimed := p.claim(id)
	done := make(chan error, 1)
	go func() { done <- p.s.messages.HandleMessage(t.Context(), claimed) }()
	p.await("it waits, or is through", func() bool {
		return len(done) == 1 || p.Count(`SELECT count(*) FROM pg_stat_activity
			WHERE wait_event_type = 'Lock' AND datname = current_database()`) == 1
	})
	p.must(tx.Commit(t.Context()))
	p.must(<-done)
	requests, _, _ := p.world.took()
	if got, why := p.state(id); got != state.MessageSkipped || requests != 0 {
		t.Errorf("%s, %s, %d requests", got, why, requests)
	}
}
