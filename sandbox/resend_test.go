package sandbox

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	resendTestKey = "re_sandbox_1"
	letter        = `{"from":"Billing <billing@example.com>","to":["ada@example.com"],"subject":"Your card","html":"<p>Hi</p>","text":"Hi",` +
		`"headers":{"List-Unsubscribe":"<https://example.com/u>","List-Unsubscribe-Post":"List-Unsubscribe=One-Click"},"tags":[{"name":"hunt","value":"1"}]}`
)

// email posts a body to Resend's stand-in.
func (b *bench) email(auth, body string, header ...string) (reply, error) {
	req, err := http.NewRequest(http.MethodPost, b.url+"/resend/emails", strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if auth != "" {
		req.Header.Set("Authorization", "Bearer "+auth)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return b.roundTrip(req)
}

func TestEmailsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Customers = 1 })
	many := `"a@example.com"` + strings.Repeat(`,"a@example.com"`, 50)
	for name, c := range map[string]struct {
		auth, body string
		status     int
		want       string
	}{
		"no key":        {"", letter, 401, "missing_api_key"},
		"unknown key":   {"re_123", letter, 401, "validation_error"},
		"not JSON":      {resendTestKey, `{"from":`, 422, "validation_error"},
		"no from":       {resendTestKey, `{"to":"a@example.com","subject":"s","text":"t"}`, 422, "missing_required_field"},
		"no to":         {resendTestKey, `{"from":"a@example.com","to":[],"subject":"s","text":"t"}`, 422, "missing_required_field"},
		"no subject":    {resendTestKey, `{"from":"a@example.com","to":"a@example.com","text":"t"}`, 422, "missing_required_field"},
		"no content":    {resendTestKey, `{"from":"a@example.com","to":"a@example.com","subject":"s"}`, 422, "missing_required_field"},
		"bad from":      {resendTestKey, `{"from":"nobody","to":"a@example.com","subject":"s","text":"t"}`, 422, "invalid_from_address"},
		"bad to":        {resendTestKey, `{"from":"a@example.com","to":"nobody","subject":"s","text":"t"}`, 422, "validation_error"},
		"51 recipients": {resendTestKey, `{"from":"a@example.com","to":[` + many + `],"subject":"s","text":"t"}`, 422, "validation_error"},
		// Few bytes more than it takes: they are read, so that the answer is not lost to a reset.
		"a body of 1 MB": {resendTestKey, `{"text":"` + strings.Repeat("x", 1<<20) + `"}`, 413, ""},
	} {
		r, err := b.email(c.auth, c.body, key("k_"+name)...)
		if err != nil || r.status != c.status || r.text("name") != c.want || c.want != "" && (r.field("statusCode") != float64(c.status) || r.text("message") == "") {
			t.Errorf("%s: %v %d %s", name, err, r.status, r.body)
		}
	}
	if r, _ := b.email(resendTestKey, letter, key(strings.Repeat("k", 257))...); r.status != 400 || r.text("name") != "invalid_idempotency_key" {
		t.Errorf("a long key: %d %s", r.status, r.body)
	}
	if n := len(b.s.Emails()); n != 0 || len(b.s.Ledger("")) != 0 {
		t.Errorf("%d emails were accepted", n)
	}
}

func TestEmails(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Customers = 1 })
	send := func(body, k string) reply {
		t.Helper()
		r, err := b.email(resendTestKey, body, key(k)...)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	began := time.Now()
	first := send(letter, "task_1")
	if first.status != http.StatusOK || len(first.text("id")) != 36 {
		t.Fatalf("%d %s", first.status, first.body)
	}
	if again := send(letter, "task_1"); again.body != first.body || again.status != http.StatusOK {
		t.Errorf("again: %d %s", again.status, again.body)
	}
	if changed := send(strings.Replace(letter, "Hi", "Ho", 1), "task_1"); changed.status != 409 || changed.text("name") != "invalid_idempotent_request" {
		t.Errorf("changed: %d %s", changed.status, changed.body)
	}
	if other := send(letter, "task_2"); other.status != 200 || other.text("id") == first.text("id") {
		t.Errorf("another key: %d %s", other.status, other.body)
	}
	r, _ := b.email("re_sandbox_send_1", `{"from":"a@example.com","to":"b@example.com","subject":"100 %","text":"t"}`)
	if r.status != 200 { // one recipient as a string, no key, and a body that is no form
		t.Errorf("%d %s", r.status, r.body)
	}
	b.clock.add(keyLife)
	if late := send(letter, "task_1"); late.text("id") == first.text("id") || late.status != 200 {
		t.Errorf("a day later: %d %s", late.status, late.body)
	}
	got := control[[]Email](b, http.MethodGet, "/sandbox/emails", "")
	if len(got) != 4 {
		t.Fatalf("%d emails", len(got))
	}
	e := got[0]
	if e.ID != first.text("id") || e.Key != "task_1" || e.To[0] != "ada@example.com" || e.From != "Billing <billing@example.com>" || e.Subject != "Your card" ||
		e.HTML != "<p>Hi</p>" || e.Text != "Hi" || e.Headers["List-Unsubscribe"] != "<https://example.com/u>" || e.Tags[0] != (EmailTag{"hunt", "1"}) ||
		e.At.Before(began) || !e.Clock.Equal(birth) {
		t.Errorf("%+v", e)
	}
	if l := b.s.Ledger("resend"); len(l) != 4 || l[0].Key != "task_1" || l[0].Object != e.ID || l[0].Status != 200 || b.s.Executions("task_1") != 2 {
		t.Errorf("ledger %+v", l)
	}
}

func TestEmailFaults(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Customers = 1 })
	for name, c := range map[string]struct {
		fault Fault
		want  int // 0: no answer
		sent  int
		says  string
	}{
		"429":            {Fault{Status: 429}, 429, 0, "rate_limit_exceeded"},
		"500":            {Fault{Status: 500}, 500, 0, "application_error"},
		"409 in flight":  {Fault{Status: 409}, 409, 0, "concurrent_idempotent_requests"},
		"dropped before": {Fault{Drop: true}, 0, 0, ""},
		"dropped after":  {Fault{Drop: true, After: true}, 0, 1, ""},
		"truncated":      {Fault{Truncate: true}, 0, 1, ""},
	} {
		c.fault.Path, c.fault.Method = "/resend/", http.MethodPost
		b.s.Fail(c.fault)
		r, err := b.email(resendTestKey, letter, key(name)...)
		if (err != nil) != (c.want == 0) || err == nil && (r.status != c.want || r.text("name") != c.says) {
			t.Errorf("%s: %v %d %s", name, err, r.status, r.body)
		}
		if n := b.s.Executions(name); n != c.sent {
			t.Errorf("%s: %d sent", name, n)
		}
		if r, err = b.email(resendTestKey, letter, key(name)...); err != nil || r.status != 200 || b.s.Executions(name) != 1 {
			t.Errorf("%s, again: %v %d %s", name, err, r.status, r.body)
		}
	}
	entered, release, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	b.s.Fail(Fault{Path: "/resend/", After: true, Hold: func() { close(entered); <-release }})
	go func() {
		defer close(done)
		_, _ = b.email(resendTestKey, letter, key("twin")...)
	}()
	<-entered
	if r, _ := b.email(resendTestKey, letter, key("twin")...); r.status != 409 || r.text("name") != "concurrent_idempotent_requests" {
		t.Errorf("twin: %d %s", r.status, r.body)
	}
	close(release)
	<-done
}

func TestResendKeyCheck(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Customers = 1 })
	for _, path := range []string{"/resend/domains", "/resend/api-keys"} {
		if r := b.get(path, resendTestKey, nil); r.status != 200 || r.text("object") != "list" {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
		if r := b.get(path, "re_sandbox_send", nil); r.status != 401 || r.text("name") != "restricted_api_key" {
			t.Errorf("%s restricted: %d %s", path, r.status, r.body)
		}
	}
	if r := b.get("/resend/nowhere", resendTestKey, nil); r.status != 404 || r.text("name") != "not_found" {
		t.Errorf("%d %s", r.status, r.body)
	}
}
