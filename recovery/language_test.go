package recovery

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"phantom/message"
	"phantom/playbook"
	"phantom/state"
)

// sentEmail is what has left of a message.
type sentEmail struct {
	Subject, HTML, Text string
	To                  []string
	Headers             map[string]string
}

func (p *office) sent(id string) (e sentEmail) {
	p.t.Helper()
	p.world.set(func() { p.must(json.Unmarshal([]byte(p.world.emails["task_"+id].body), &e)) })
	return e
}

// A message goes to the address that the customer has now, under their name of now, in the language
// that they read.
func TestMessagesGoToThePresentAddress(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	owed := func(customer string) string { return `"status":"open","amount_remaining":4900,"customer":` + customer }
	for i, test := range []struct {
		name, email, customer string
		to, subject, says     string
	}{
		{"moved", "old@example.com", `{"id":"cus_1","email":"ada.new@example.com","name":"Ada New"}`, "ada.new@example.com", "Your payment to", "Hello Ada New,"},
		{"came to have one", "", `{"id":"cus_2","email":"ada.late@example.com"}`, "ada.late@example.com", "Your payment to", "Hello Ada Canary,"},
		{"has none any more", "kept@example.com", `{"id":"cus_3","email":null,"name":null}`, "kept@example.com", "Your payment to", "$49.00"},
		{"has a broken one", "kept3@example.com", `{"id":"cus_4","email":"nobody"}`, "kept3@example.com", "Your payment to", "$49.00"},
		{"is not expanded", "kept2@example.com", `"cus_5"`, "kept2@example.com", "Your payment to", "$49.00"},
		{"reads German", "", `{"id":"cus_6","email":"a6@example.com","preferred_locales":["de-CH"],"address":{"country":"US"}}`, "a6@example.com", "Ihre Zahlung an Example Software", "49,00 $"},
		{"lives in Brazil", "", `{"id":"cus_7","email":"a7@example.com","preferred_locales":[],"address":{"country":"BR"}}`, "a7@example.com", "Seu pagamento", "US$ 49,00"},
		{"reads Korean", "", `{"id":"cus_8","email":"a8@example.com","preferred_locales":["ko"],"address":{"country":"DE"}}`, "a8@example.com", "Your payment to", "$49.00"},
	} {
		name := "cus_" + string(rune('1'+i))
		p.world.set(func() { p.world.charge = "" })
		id, _ := p.plan(person{name, test.email}, playbook.Email, "payment_failed")
		invoice := p.Text("SELECT g.stripe_invoice_id FROM messages m JOIN hunts h ON h.id = m.hunt_id JOIN ghost_targets g ON g.id = h.ghost_id WHERE m.id = $1", id)
		p.world.set(func() { p.world.invoices[invoice] = owed(test.customer) })
		p.try(id)
		if got, why := p.state(id); got != state.MessageSent {
			t.Errorf("%s: %s %s", test.name, got, why)
			continue
		}
		e := p.sent(id.String())
		if e.To[0] != test.to || !strings.HasPrefix(e.Subject, test.subject) || !strings.Contains(e.Text, test.says) {
			t.Errorf("%s: to %v, %q, %s", test.name, e.To, e.Subject, e.Text)
		}
	}
}

// Who has said stop at one address is not written to at another, whichever of the two came first.
func TestStopHoldsAtEveryAddress(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	hash, err := p.s.connect.Hasher(t.Context(), p.merchant)
	p.must(err)
	plan := func(customer, email, present string) (id string, hunt string) {
		t.Helper()
		message, of := p.plan(person{customer, email}, playbook.Email, "payment_failed")
		invoice := p.Text("SELECT g.stripe_invoice_id FROM hunts h JOIN ghost_targets g ON g.id = h.ghost_id WHERE h.id = $1", of)
		p.world.set(func() {
			p.world.invoices[invoice] = `"status":"open","amount_remaining":4900,"customer":{"id":"` + customer + `","email":"` + present + `"}`
		})
		p.try(message)
		return message.String(), of.String()
	}
	p.must(p.s.messages.Suppress(t.Context(), p.merchant, playbook.Email, message.Hasher(hash).Email("first@example.com"), "unsubscribed"))
	id, _ := plan("cus_1", "first@example.com", "second@example.com")
	if got := p.Text("SELECT state || ' ' || coalesce(code, '') FROM messages WHERE id = $1", id); got != "skipped stopped" {
		t.Errorf("a message to the second address of somebody who has said stop at the first: %s", got)
	}

	id, hunt := plan("cus_2", "third@example.com", "fourth@example.com")
	if got := p.sent(id).To; len(got) != 1 || got[0] != "fourth@example.com" {
		t.Fatalf("written to %v", got)
	}
	link := strings.Trim(p.sent(id).Headers["List-Unsubscribe"], "<>")
	p.must(p.s.messages.Unsubscribe(t.Context(), strings.TrimPrefix(link, "https://phantom.example/u/")))
	if got := p.Text("SELECT state FROM hunts WHERE id = $1", hunt); got == "active" {
		t.Error("the hunt of somebody who has unsubscribed at their present address goes on")
	}
	// Nor at a third, of another debt.
	id, _ = plan("cus_2", "fifth@example.com", "fifth@example.com")
	if got := p.Text("SELECT state || ' ' || coalesce(code, '') FROM messages WHERE id = $1", id); got != "skipped stopped" {
		t.Errorf("a message to the third address of somebody who has said stop at the second: %s", got)
	}
}

// What is known of the next attempt and of the end of access is said.
func TestMessagesNameWhatComes(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	p.stand("2026-11-28 12:00:00Z")
	id, hunt := p.plan(person{"cus_1", "next@example.com"}, playbook.Email, "payment_failed")
	p.Exec(`INSERT INTO scheduled_tasks (merchant_id, id, kind, params, unique_key, run_at) VALUES ($1, gen_random_uuid(), 'invoice_pay', '{}', $2, '2026-12-03 15:00:00Z')`,
		p.merchant, "charge:"+hunt.String())
	p.try(id)
	if text := p.sent(id.String()).Text; !strings.Contains(text, "Otherwise we try again on 3 December.") {
		t.Errorf("the next attempt is not named: %s", text)
	}

	id, hunt = p.plan(person{"cus_4", "reads@example.com"}, playbook.Email, "payment_failed")
	p.Exec(`INSERT INTO scheduled_tasks (merchant_id, id, kind, params, unique_key, run_at) VALUES ($1, gen_random_uuid(), 'invoice_pay', '{}', $2, '2026-12-03 15:00:00Z')`,
		p.merchant, "charge:"+hunt.String())
	p.Exec("UPDATE merchants SET scope = 'read_only'")
	p.try(id)
	if text := p.sent(id.String()).Text; strings.Contains(text, "we try again") {
		t.Errorf("an attempt is announced that a key cannot make: %s", text)
	}

	id, hunt = p.plan(person{"cus_2", "last@example.com"}, playbook.Email, "last_notice")
	p.Exec(`INSERT INTO shield_policies (merchant_id, version, body) VALUES ($1, 1, '{"mode":"enforce"}')`, p.merchant)
	p.Exec(`INSERT INTO shield_states (merchant_id, subscription, customer, livemode, facts, ticket, told_at, level, reason, ahead)
		SELECT $1, g.stripe_subscription_id, 'cus_2', false, '{}', 1, phantom_now(), 'grace', 'payment_failed',
			'[{"level":"limited","at":"2026-12-08T09:00:00Z"},{"level":"blocked","at":"2026-12-19T09:00:00Z"}]'
		FROM hunts h JOIN ghost_targets g ON g.id = h.ghost_id WHERE h.id = $2`, p.merchant, hunt)
	p.try(id)
	if text := p.sent(id.String()).Text; !strings.Contains(text, "your access ends on 19 December.") {
		t.Errorf("the end of access is not named: %s", text)
	}

	id, _ = p.plan(person{"cus_3", "rehearsed@example.com"}, playbook.Email, "last_notice")
	p.Exec(`UPDATE shield_policies SET body = '{"mode":"dry_run"}'`)
	p.Exec(`UPDATE shield_states SET subscription = (SELECT g.stripe_subscription_id FROM messages m JOIN hunts h ON h.id = m.hunt_id JOIN ghost_targets g ON g.id = h.ghost_id WHERE m.id = $1)`, id)
	p.try(id)
	if text := p.sent(id.String()).Text; strings.Contains(text, "your access ends on") {
		t.Errorf("an end of access that is only rehearsed is named: %s", text)
	}
}

// Messages that do not leave are counted in the log, by their reason.
func TestSkippedMessagesAreCounted(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	for i := range 5 {
		id, hunt := p.plan(person{fmt.Sprintf("cus_%d", i), fmt.Sprintf("skipped%d@example.com", i)}, playbook.Email, "reminder")
		invoice := p.Text("SELECT g.stripe_invoice_id FROM hunts h JOIN ghost_targets g ON g.id = h.ghost_id WHERE h.id = $1", hunt)
		p.world.set(func() {
			p.world.invoices[invoice] = `"status":"open","amount_remaining":4900,"hosted_invoice_url":null`
		})
		p.try(id)
	}
	if n := strings.Count(p.log.String(), "a message was skipped"); n != 1 || !strings.Contains(p.log.String(), "no page to pay on") {
		t.Errorf("%d lines of five messages: %s", n, p.log)
	}
}
