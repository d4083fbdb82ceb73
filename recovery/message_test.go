package recovery

import (
	"encoding/json"
	"strings"
	"testing"
)

var ada = person{"cus_ada", address}

func TestEmailIsSent(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	id, hunt := p.plan(ada, Email, "payment_failed")
	if status := p.try(id); status != "succeeded" {
		t.Fatalf("%s: %s", status, p.log)
	}
	if state, why := p.state(id); state != messageSent || why != "" {
		t.Errorf("%s %s", state, why)
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
		email.Subject != "Your payment to Example Software didn't go through" || !strings.Contains(email.Text, "USD 49.00") ||
		!strings.Contains(email.HTML, "Visa ending in 4242") || !strings.Contains(email.HTML, "Ada Canary") {
		t.Errorf("%+v", email)
	}
	row := p.row(id)
	if row.SealedParams != nil || row.FirstSentAt == nil || !strings.Contains(string(row.Outcome), took.id) {
		t.Errorf("%+v", row)
	}
	if n := p.count("SELECT messages FROM hunts WHERE id = $1", hunt); n != 1 {
		t.Errorf("counted %d", n)
	}
	if n := p.count("SELECT count(*) FROM hunt_notes WHERE hunt_id = $1 AND note = 'The email payment_failed was sent.' AND task_id = $2", hunt, id); n != 1 {
		t.Errorf("%d notes", n)
	}
}
