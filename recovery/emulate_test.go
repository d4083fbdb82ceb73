package recovery

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/input"
	"phantom/internal/emulator"
	"phantom/message"
	"phantom/playbook"
	"phantom/state"
)

// outcome is the id under which a provider has a task's message.
func (p *office) outcome(row db.ScheduledTask) string {
	p.t.Helper()
	var outcome struct{ ID string }
	p.must(json.Unmarshal(row.Outcome, &outcome))
	return outcome.ID
}

func TestEmulatedResend(t *testing.T) {
	t.Parallel()
	e := emulator.New(t, emulator.Resend)
	p := setupPost(t)
	p.s = postServiceWith(p.pool, p.url, p.log, func(c *message.Config) { c.ResendBase = e.URL })
	const from = "Example Billing <billing@example.com>"
	_, err := p.s.messages.SetResend(t.Context(), p.merchant, resendKey, from)
	p.must(err)
	run := uuid.NewString() // the emulator may remember an earlier one
	for _, test := range []struct {
		name     string
		lose     bool
		template string
	}{{"answered", false, "payment_failed"}, {"the answer is lost", true, "last_notice"}} {
		to := strings.ReplaceAll(test.name, " ", "-") + ".canary7zq@" + run + ".example.com"
		id, _ := p.plan(person{"cus_" + to, to}, playbook.Email, test.template)
		e.Lose.Store(test.lose)
		status := p.try(id)
		if test.lose {
			if n := len(e.Emails(to)); status != state.TaskPending || n != 1 {
				t.Fatalf("%s: %s, the emulator has %d", test.name, status, n)
			}
			status = p.try(id) // the same bytes under the same key
		}
		if status != state.TaskSucceeded {
			t.Fatalf("%s: %s\n%s", test.name, status, p.log)
		}
		took := e.Emails(to)
		if len(took) != 1 {
			t.Fatalf("%s: the emulator has %d emails", test.name, len(took))
		}
		email := took[0]
		link := strings.Trim(email.Headers["List-Unsubscribe"], "<>")
		if email.ID != p.outcome(p.row(id)) || email.From != from || email.Subject == "" || !strings.HasPrefix(link, "https://phantom.example/u/") ||
			email.Headers["List-Unsubscribe-Post"] != "List-Unsubscribe=One-Click" || !strings.Contains(email.Text, link) || !linksTo(email.HTML, link) {
			t.Errorf("%s: %+v", test.name, email)
		}
	}

	to := "test.canary7zq@" + run + ".example.com"
	if err := p.s.messages.TestChannel(t.Context(), p.merchant, message.Resend, to); err != nil || len(e.Emails(to)) != 1 {
		t.Errorf("a test message: %v, %+v", err, e.Emails(to))
	}
}

func TestEmulatedTwilio(t *testing.T) {
	t.Parallel()
	e := emulator.New(t, emulator.Twilio)
	p := setupPost(t)
	p.s = postServiceWith(p.pool, p.url, p.log, func(c *message.Config) { c.TwilioBase = e.URL })
	const from = "+14155559999"
	_, err := p.s.messages.SetTwilio(t.Context(), p.merchant, twilioSID, twilioToken, from)
	p.must(err)
	var refusal *input.FieldError
	if _, err := p.s.messages.SetTwilio(t.Context(), p.merchant, twilioSID, strings.ToLower(twilioToken), from); !errors.As(err, &refusal) {
		t.Errorf("another token: %v", err)
	}
	for _, test := range []struct {
		name string
		lose bool
		to   string
	}{{"answered", false, "+14155550142"}, {"the answer is lost", true, "+14155550143"}} {
		customer := "cus_" + test.to[1:]
		p.world.phones[customer] = test.to
		// of an earlier run
		before := len(e.Texts(twilioSID, twilioToken, test.to))
		// a person of their own, for the caps
		id, _ := p.plan(person{customer, customer + "@example.com"}, playbook.SMS, "payment_failed")
		e.Lose.Store(test.lose)
		status := p.try(id)
		if test.lose {
			if n := len(e.Texts(twilioSID, twilioToken, test.to)) - before; status != state.TaskPending || n != 1 {
				t.Fatalf("%s: %s, the emulator has %d", test.name, status, n)
			}
			status = p.try(id) // looks it up
		}
		if status != state.TaskSucceeded {
			t.Fatalf("%s: %s\n%s", test.name, status, p.log)
		}
		took := e.Texts(twilioSID, twilioToken, test.to)
		if len(took)-before != 1 {
			t.Fatalf("%s: the emulator lists %d", test.name, len(took)-before)
		}
		i := slices.IndexFunc(took, func(m emulator.SMS) bool { return m.SID == p.outcome(p.row(id)) })
		if i < 0 {
			t.Fatalf("%s: the emulator does not list %s", test.name, p.row(id).Outcome)
		}
		sms := took[i]
		if sms.To != test.to || sms.From != from || sms.Direction != "outbound-api" || !strings.Contains(sms.Body, "http://127.0.0.1/i/acct_1/in_") {
			t.Errorf("%s: %+v", test.name, sms)
		}
	}
	before := len(e.Texts(twilioSID, twilioToken, number))
	if err := p.s.messages.TestChannel(t.Context(), p.merchant, message.Twilio, number); err != nil || len(e.Texts(twilioSID, twilioToken, number)) != before+1 {
		t.Errorf("a test message: %v", err)
	}
}
