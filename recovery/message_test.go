package recovery

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/message"
	"phantom/playbook"
	"phantom/state"
	"phantom/task"
)

var ada = person{"cus_ada", address}

func TestEmailIsSent(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	id, hunt := p.plan(ada, playbook.Email, "payment_failed")
	if status := p.try(id); status != state.TaskSucceeded {
		t.Fatalf("%s: %s", status, p.log)
	}
	if got, why := p.state(id); got != state.MessageSent || why != "" {
		t.Errorf("%s %s", got, why)
	}
	took := p.world.emails["task_"+id.String()]
	var email struct {
		From, Subject, HTML, Text string
		To                        []string
		Headers                   map[string]string
	}
	p.must(json.Unmarshal([]byte(took.body), &email))
	link := strings.Trim(email.Headers["List-Unsubscribe"], "<>")
	if email.To[0] != address || email.From != "Example Billing <billing@example.com>" || !strings.HasPrefix(link, "https://phantom.example/u/") ||
		email.Headers["List-Unsubscribe-Post"] != "List-Unsubscribe=One-Click" || !strings.Contains(email.Text, link) || !linksTo(email.HTML, link) ||
		email.Subject != "Your payment to Example Software didn't go through" || !strings.Contains(email.Text, "$49.00") ||
		!strings.Contains(email.HTML, "Visa ending in 4242") || !strings.Contains(email.HTML, "Ada Canary") {
		t.Errorf("%+v", email)
	}
	if !strings.Contains(p.log.String(), "a message was sent") || !strings.Contains(p.log.String(), "hunt="+hunt.String()) {
		t.Errorf("the log says nothing of it: %s", p.log)
	}
	row := p.row(id)
	if row.SealedParams != nil || row.FirstSentAt == nil || !strings.Contains(string(row.Outcome), took.id) {
		t.Errorf("%+v", row)
	}
	if n := p.Count("SELECT messages FROM hunts WHERE id = $1", hunt); n != 1 {
		t.Errorf("counted %d", n)
	}
	if n := p.Count("SELECT count(*) FROM hunt_notes WHERE hunt_id = $1 AND note = 'The email payment_failed was sent.' AND task_id = $2", hunt, id); n != 1 {
		t.Errorf("%d notes", n)
	}
}

// What is not to be sent is skipped and says why; what is to be sent later waits.
func TestNotSent(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	p.world.disputed["cus_14"] = true
	p.world.invoices["in_paid"] = `"status":"paid","amount_remaining":0`
	for _, test := range []struct {
		name    string
		who     person
		channel string
		change  string // SQL, $1 is the message's id
		state   state.Message
		why     string
	}{
		{"no address", person{"cus_1", ""}, playbook.Email, "", state.MessageSkipped, "email address"},
		{"no real address", person{"cus_2", "a@b\r\nBcc: c@example.com"}, playbook.Email, "", state.MessageSkipped, "email address"},
		{"two addresses", person{"cus_3", "a@example.com, b@example.com"}, playbook.Email, "", state.MessageSkipped, "email address"},
		{"an address that does not open", person{"cus_16", "p@example.com"}, playbook.Email, "UPDATE ghost_targets SET email.tag = md5('x') WHERE id = (SELECT ghost_id FROM hunts h JOIN messages m ON m.hunt_id = h.id WHERE m.id = $1)", state.MessageSkipped, "does not open"},
		{"a stopped hunt", person{"cus_4", "d@example.com"}, playbook.Email, "UPDATE hunts SET state = 'stopped', ended_reason = 'x', ended_at = phantom_now() WHERE id = (SELECT hunt_id FROM messages WHERE id = $1)", state.MessageSkipped, "hunt has ended"},
		{"behind the window", person{"cus_15", "o@example.com"}, playbook.Email, "UPDATE hunts SET began_at = began_at - interval '90 days' WHERE id = (SELECT hunt_id FROM messages WHERE id = $1)", state.MessageSkipped, "window is over"},
		{"observing", person{"cus_5", "e@example.com"}, playbook.Email, "UPDATE hunts SET mode = 'observe' WHERE id = (SELECT hunt_id FROM messages WHERE id = $1)", state.MessageSkipped, "writes to nobody"},
		{"held out", person{"cus_6", "f@example.com"}, playbook.Email, "UPDATE hunts SET held_out = true WHERE id = (SELECT hunt_id FROM messages WHERE id = $1)", state.MessageSkipped, "writes to nobody"},
		{"a closed ghost", person{"cus_7", "g@example.com"}, playbook.Email, "UPDATE ghost_targets SET status = 'closed', closed_reason = 'paid', closed_at = phantom_now() WHERE id = (SELECT ghost_id FROM hunts h JOIN messages m ON m.hunt_id = h.id WHERE m.id = $1)", state.MessageSkipped, "ghost is gone"},
		{"a paid invoice", person{"cus_8", "h@example.com"}, playbook.Email, "UPDATE ghost_targets SET stripe_invoice_id = 'in_paid' WHERE id = (SELECT ghost_id FROM hunts h JOIN messages m ON m.hunt_id = h.id WHERE m.id = $1)", state.MessageSkipped, "settled"},
		{"a dispute about another charge", person{"cus_14", "n@example.com"}, playbook.Email, "", state.MessageSkipped, "disputes a charge"},
		{"an unknown template", person{"cus_9", "i@example.com"}, playbook.Email, "UPDATE messages SET template = 'none' WHERE id = $1", state.MessageFailed, "does not exist"},
		{"a bad template", person{"cus_10", "j@example.com"}, playbook.Email, "WITH t AS (INSERT INTO templates SELECT merchant_id, 'email', 'bad', 'x', '<p>', 'x' FROM messages WHERE id = $1) UPDATE messages SET template = 'bad' WHERE id = $1", state.MessageFailed, "html must link"},
		{"halted", person{"cus_11", "k@example.com"}, playbook.Email, "INSERT INTO halts (scope) SELECT merchant_id FROM messages WHERE id = $1", state.MessagePlanned, ""},
		{"all halted", person{"cus_12", "l@example.com"}, playbook.Email, "WITH h AS (DELETE FROM halts) INSERT INTO halts (scope) SELECT '00000000-0000-0000-0000-000000000000' FROM messages WHERE id = $1", state.MessagePlanned, ""},
		{"quiet hours", person{"cus_13", "m@example.com"}, playbook.Email, `WITH h AS (DELETE FROM halts) UPDATE playbooks SET body = jsonb_set(body, '{quiet_hours}', '{"from":"00:00","to":"23:59","zone":"UTC"}') FROM messages m WHERE m.id = $1`, state.MessagePlanned, ""},
	} {
		id, _ := p.plan(test.who, test.channel, "payment_failed")
		if test.change != "" {
			p.Exec(test.change, id)
		}
		p.try(id)
		got, why := p.state(id)
		row := p.row(id)
		if got != test.state || !strings.Contains(why, test.why) || row.FirstSentAt != nil {
			t.Errorf("%s: %s, %s, task %s %v", test.name, got, why, row.Status, row.LastError)
		}
		if got == state.MessagePlanned && row.Status != state.TaskPending || got != state.MessagePlanned && p.Count("SELECT count(*) FROM hunt_notes WHERE task_id = $1", id) != 1 {
			t.Errorf("%s: task %s", test.name, row.Status)
		}
	}
	if n := p.Count("SELECT count(*) FROM messages WHERE step = 0 AND planned_for > phantom_now() + interval '10 minutes'"); n != 1 {
		t.Errorf("%d messages were put off, want the one in quiet hours", n)
	}
	if requests, _, _ := p.world.took(); requests != 0 {
		t.Errorf("%d requests to send", requests)
	}
}

// Who has unsubscribed gets no email, and an SMS only until they say STOP; a person is one over all
// hunts, regardless of the case of their address.
func TestSuppressedPersons(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	first, _ := p.plan(ada, playbook.Email, "payment_failed")
	p.try(first)
	token, _, _ := strings.Cut(strings.SplitAfter(p.world.emails["task_"+first.String()].body, "/u/")[1], `"`)
	token, _, _ = strings.Cut(token, "\\")
	p.must(p.s.messages.CheckUnsubscribe(t.Context(), token))
	p.must(p.s.messages.Unsubscribe(t.Context(), token))
	p.Exec("UPDATE messages SET sent_at = sent_at - interval '2 days'")
	second, _ := p.plan(person{"cus_other", strings.ToUpper(address)}, playbook.Email, "reminder")
	p.try(second)
	if got, why := p.state(second); got != state.MessageSkipped || !strings.Contains(why, "asked not to be") {
		t.Errorf("%s, %s", got, why)
	}
	texted, _ := p.plan(ada, playbook.SMS, "reminder")
	p.try(texted)
	_, _, texts := p.world.took()
	if got, why := p.state(texted); got != state.MessageSent || texts != 1 {
		t.Errorf("an SMS: %s, %s", got, why)
	}
}

// steps sets the channels of the playbook's steps.
func (p *office) steps(channels ...string) {
	p.t.Helper()
	chosen := playbook.Default()
	chosen.Mode, chosen.QuietHours, chosen.Steps = state.ModeRecover, playbook.QuietHours{From: "00:00", To: "00:00", Zone: "customer"}, []playbook.Step{}
	chosen.Auto = false // chosen by hand
	for _, channel := range channels {
		chosen.Steps = append(chosen.Steps, playbook.Step{AfterDays: 0, Channel: channel, Template: "reminder"})
	}
	body, err := json.Marshal(chosen)
	p.must(err)
	p.Exec("UPDATE playbooks SET body = $1", body)
}

// stop is a person's word on a channel.
func (p *office) stop(channel, value string) {
	p.t.Helper()
	hash, err := p.s.connect.Hasher(p.t.Context(), p.merchant)
	p.must(err)
	person := message.Hasher(hash).Email(value)
	if channel == playbook.SMS {
		person = message.Hasher(hash).Phone(value)
	}
	p.must(p.s.messages.Suppress(p.t.Context(), p.merchant, channel, person, "unsubscribed"))
}

func (p *office) hunt(id uuid.UUID) (got string) {
	p.t.Helper()
	p.must(p.pool.QueryRow(p.t.Context(), `SELECT state || CASE WHEN EXISTS (SELECT 1 FROM scheduled_tasks t WHERE t.kind = 'invoice_pay' AND t.status = 'pending' AND t.params ->> 'hunt' = h.id::text)
		THEN ', charging' ELSE '' END FROM hunts h WHERE h.id = $1`, id).Scan(&got))
	return got
}

// Who has unsubscribed from everything is charged no more: in none of their hunts, also in one that
// begins later or that has not written yet, and also where they said stop to another hunt or a
// channel does not reach them at all.
func TestUnsubscribedFromEverything(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		channels []string
		play     func(p *office) uuid.UUID
		want     string
	}{
		"their second hunt": {[]string{playbook.Email, playbook.Email}, func(p *office) uuid.UUID {
			first, _ := p.plan(ada, playbook.Email, "reminder")
			_, second := p.plan(ada, playbook.Email, "reminder")
			p.try(first)
			p.stop(playbook.Email, address)
			return second
		}, "stopped"},
		"a hunt that begins later": {[]string{playbook.Email}, func(p *office) uuid.UUID {
			p.stop(playbook.Email, address)
			id, hunt := p.plan(ada, playbook.Email, "reminder")
			p.try(id)
			return hunt
		}, "stopped"},
		"another customer of the same address": {[]string{playbook.Email}, func(p *office) uuid.UUID {
			first, _ := p.plan(ada, playbook.Email, "reminder")
			p.try(first)
			p.stop(playbook.Email, address)
			p.Exec("UPDATE messages SET sent_at = sent_at - interval '2 days'")
			id, hunt := p.plan(person{"cus_other", strings.ToUpper(address)}, playbook.Email, "reminder")
			p.try(id)
			return hunt
		}, "stopped"},
		"an old STOP and an unsubscribe": {[]string{playbook.Email, playbook.SMS}, func(p *office) uuid.UUID {
			texted, _ := p.plan(ada, playbook.SMS, "reminder")
			p.try(texted)
			p.stop(playbook.SMS, number)
			id, hunt := p.plan(ada, playbook.Email, "reminder")
			p.try(id)
			p.stop(playbook.Email, address)
			return hunt
		}, "stopped"},
		"a STOP that is lifted": {[]string{playbook.Email, playbook.SMS}, func(p *office) uuid.UUID {
			texted, _ := p.plan(ada, playbook.SMS, "reminder")
			p.try(texted)
			p.stop(playbook.SMS, number)
			p.Exec("DELETE FROM suppressions")
			id, hunt := p.plan(ada, playbook.Email, "reminder")
			p.try(id)
			p.stop(playbook.Email, address)
			return hunt
		}, "active, charging"},
		"an unsubscribe alone": {[]string{playbook.Email, playbook.SMS}, func(p *office) uuid.UUID {
			id, hunt := p.plan(ada, playbook.Email, "reminder")
			p.try(id)
			p.stop(playbook.Email, address)
			return hunt
		}, "active, charging"},
		"an unsubscribe without a number": {[]string{playbook.Email, playbook.SMS}, func(p *office) uuid.UUID {
			p.world.phones[ada.customer] = ""
			p.stop(playbook.Email, address)
			id, hunt := p.plan(ada, playbook.SMS, "reminder")
			p.try(id)
			return hunt
		}, "stopped"},
		"a STOP without an address": {[]string{playbook.Email, playbook.SMS}, func(p *office) uuid.UUID {
			nobody := person{"cus_nobody", ""}
			id, hunt := p.plan(nobody, playbook.SMS, "reminder")
			p.try(id)
			p.stop(playbook.SMS, number)
			return hunt
		}, "stopped"},
		"neither an address nor a number, and no word": {[]string{playbook.Email, playbook.SMS}, func(p *office) uuid.UUID {
			nobody := person{"cus_nobody", ""}
			p.world.phones[nobody.customer] = ""
			id, hunt := p.plan(nobody, playbook.SMS, "reminder")
			p.try(id)
			return hunt
		}, "active, charging"},
		"another address": {[]string{playbook.Email}, func(p *office) uuid.UUID {
			first, _ := p.plan(ada, playbook.Email, "reminder")
			p.try(first)
			_, hunt := p.plan(person{ada.customer, "new@example.com"}, playbook.Email, "reminder")
			p.stop(playbook.Email, address) // it is the same customer
			return hunt
		}, "stopped"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := setupPost(t)
			p.steps(test.channels...)
			if got := p.hunt(test.play(p)); got != test.want {
				t.Errorf("%s, want %s\n%s", got, test.want, p.log)
			}
		})
	}
}

// A refused key leaves the message as it was, for a person to see to; with a good key it is sent.
func TestRefusedKey(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	for i, test := range []struct {
		channel string
		status  int
		answer  string
	}{
		{playbook.Email, 403, `{"name":"invalid_api_key"}`}, {playbook.SMS, 403, `{"code":20003}`},
		{playbook.SMS, 400, `{"code":21606}`}, // a sender's number that may not send
	} {
		channel := test.channel
		id, _ := p.plan(person{"cus_" + strconv.Itoa(i), "canary" + strconv.Itoa(i) + "@example.com"}, channel, "payment_failed")
		p.world.set(func() {
			p.world.status, p.world.answer, p.world.phones["cus_"+strconv.Itoa(i)] = test.status, test.answer, "+1415555012"+strconv.Itoa(i)
		})
		if status := p.try(id); status != state.TaskNeedsReview {
			t.Errorf("%s: %s", channel, status)
		}
		row := p.row(id)
		if got, _ := p.state(id); got != state.MessagePlanned || row.FirstSentAt != nil || row.SealedParams != nil || p.Count("SELECT count(*) FROM messages WHERE sent_at IS NOT NULL AND id = $1", id) != 0 {
			t.Errorf("%s: %s %+v", channel, got, row)
		}
		if row.LastError == nil || !strings.Contains(*row.LastError, "PUT /api/channels/") {
			t.Errorf("%s: %v", channel, row.LastError)
		}
		p.world.set(func() { p.world.status = 0 })
		p.Exec("UPDATE scheduled_tasks SET status = 'pending' WHERE id = $1", id)
		if status := p.try(id); status != state.TaskSucceeded {
			t.Errorf("%s with a good key: %s", channel, status)
		}
	}
}

// An outage of Stripe's puts a message off and is no failed try of it.
func TestMessageWaitsForStripe(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	for _, test := range []struct{ channel, path string }{{playbook.Email, "/v1/invoices/"}, {playbook.SMS, "/v1/invoices/"}, {playbook.SMS, "/v1/customers/"}} {
		id, _ := p.plan(person{"cus_" + test.channel + test.path[4:6], test.path[4:6] + test.channel + "@example.com"}, test.channel, "payment_failed")
		p.world.set(func() { p.world.down = test.path })
		claimed := p.claim(id)
		err := p.s.messages.HandleMessage(t.Context(), claimed)
		if err == nil || err.Error() != task.Snooze(0).Error() {
			t.Errorf("%s without %s: %v", test.channel, test.path, err)
		}
		p.settle(claimed, err)
		if got, _ := p.state(id); got != state.MessagePlanned {
			t.Errorf("%s without %s: %s", test.channel, test.path, got)
		}
		p.world.set(func() { p.world.down = "" })
		p.world.set(func() {
			p.world.phones["cus_"+test.channel+test.path[4:6]] = "+1415555014" + strconv.Itoa(len(p.world.texts))
		})
		if status := p.try(id); status != state.TaskSucceeded {
			t.Errorf("%s with %s: %s\n%s", test.channel, test.path, status, p.log)
		}
	}
}

// Reading Stripe may take minutes, and the quiet hours may begin meanwhile.
func TestQuietHoursBeginWhileStripeIsRead(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	p.Exec("CREATE TABLE test_clock AS SELECT $1 * interval '1 microsecond' AS ahead", dbtest.Ahead().Microseconds())
	p.Exec("CREATE OR REPLACE FUNCTION phantom_now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now() + ahead FROM test_clock'")
	p.Exec(`UPDATE playbooks SET body = jsonb_set(body, '{quiet_hours}', jsonb_build_object('zone', 'UTC',
		'from', to_char(phantom_now() AT TIME ZONE 'UTC' + interval '1 hour', 'HH24:MI'), 'to', to_char(phantom_now() AT TIME ZONE 'UTC' + interval '3 hours', 'HH24:MI')))`)
	id, _ := p.plan(ada, playbook.Email, "payment_failed")
	p.world.reading = func() { p.Exec("UPDATE test_clock SET ahead = ahead + interval '90 minutes'") }
	if status := p.try(id); status != state.TaskPending {
		t.Errorf("task %s", status)
	}
	requests, _, _ := p.world.took()
	got, _ := p.state(id)
	if n := p.Count("SELECT count(*) FROM messages WHERE planned_for > phantom_now() + interval '1 hour' AND sent_at IS NULL"); n != 1 || requests != 0 || got != state.MessagePlanned || p.row(id).FirstSentAt != nil {
		t.Errorf("%d put off, %d requests to send, %s", n, requests, got)
	}
}

// A message that a person has canceled leaves the hunt's next one to be planned.
func TestCanceledMessageSilencesNoHunt(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	p.steps(playbook.Email, playbook.Email)
	id, hunt := p.plan(ada, playbook.Email, "payment_failed")
	canceled, err := p.queries.TaskCancel(t.Context(), db.TaskCancelParams{MerchantID: p.merchant, ID: id})
	if p.must(err); canceled != 1 {
		t.Fatal("it was not canceled")
	}
	p.must(noteCanceled(t.Context(), p.pool, p.merchant, id))
	plan, ok := planAgain(p.merchant, p.row(id).Params)
	if !ok {
		t.Fatal("its params name no hunt")
	}
	_, err = p.queries.TaskEnqueue(t.Context(), plan)
	p.must(err)
	p.try(plan.ID)
	if n := p.Count("SELECT count(*) FROM messages m JOIN scheduled_tasks t USING (merchant_id, id) WHERE m.hunt_id = $1 AND m.step = 1 AND m.state = 'planned' AND t.status = 'pending'", hunt); n != 1 {
		t.Errorf("%d next messages\n%s", n, p.log)
	}
}

// What Resend says of its own plan is no lost answer: nothing was taken, and the message waits as
// it was.
func TestQuotaIsNoLostAnswer(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	id, _ := p.plan(ada, playbook.Email, "payment_failed")
	p.world.set(func() { p.world.status, p.world.answer = 429, `{"name":"monthly_quota_exceeded"}` })
	status := p.try(id)
	if got, _ := p.state(id); status != state.TaskPending || got != state.MessagePlanned || p.row(id).FirstSentAt != nil {
		t.Errorf("task %s, message %s", status, got)
	}
	p.world.set(func() { p.world.status = 0 })
	if status := p.try(id); status != state.TaskSucceeded {
		t.Errorf("with room again: %s", status)
	}
}

// Nobody is told that their payment failed, and asked to pay, whose bank is moving the money at the
// moment.
func TestNoMessageBesideADebitUnderWay(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	for _, channel := range []string{playbook.Email, playbook.SMS} {
		who := person{"cus_debit" + channel, channel + "@example.com"}
		id, _ := p.plan(who, channel, "payment_failed")
		var invoice string
		p.must(p.pool.QueryRow(t.Context(), "SELECT stripe_invoice_id FROM ghost_targets WHERE stripe_customer_id = $1", who.customer).Scan(&invoice))
		p.world.set(func() { p.world.pending[who.customer], p.world.phones[who.customer] = invoice, number })
		status := p.try(id)
		if got, _ := p.state(id); status != state.TaskPending || got != state.MessagePlanned {
			t.Errorf("%s: task %s, message %s", channel, status, got)
		}
		p.world.set(func() { delete(p.world.pending, who.customer) })
		if status := p.try(id); status != state.TaskSucceeded {
			t.Errorf("%s after it has bounced: %s\n%s", channel, status, p.log)
		}
	}
}
