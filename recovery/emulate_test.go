package recovery

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/resend/resend-go/v2"

	"phantom/db"
)

// The emulators that others wrote (npm emulate) take what we send. `make emulators` starts them and names them here.
const (
	emulatedResend = "PHANTOM_EMULATE_RESEND"
	emulatedTwilio = "PHANTOM_EMULATE_TWILIO"
)

// emulator is one that runs elsewhere, behind a wire that can lose an answer.
type emulator struct {
	t    *testing.T
	base *url.URL
	wire string      // leads to it
	lose atomic.Bool // the answer to the next POST, once the emulator has given it
}

func setupEmulator(t *testing.T, variable string) *emulator {
	t.Helper()
	base := os.Getenv(variable)
	if base == "" {
		t.Skip(variable + " names no emulator")
	}
	address, err := url.Parse(base)
	if err != nil || address.Host == "" {
		t.Fatalf("%s: %q is no URL", variable, base)
	}
	e := &emulator{t: t, base: address}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(address) },
		ModifyResponse: func(r *http.Response) error {
			if r.Request.Method == http.MethodPost && e.lose.Swap(false) {
				panic(http.ErrAbortHandler)
			}
			return nil
		},
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	e.wire = server.URL
	return e
}

// list asks the emulator itself.
func (e *emulator) list(path string, query url.Values, to any) {
	e.t.Helper()
	address := e.base.JoinPath(path)
	address.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(e.t.Context(), http.MethodGet, address.String(), nil)
	if err != nil {
		e.t.Fatal(err)
	}
	request.SetBasicAuth(twilioSID, twilioToken)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		e.t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(to); err != nil || response.StatusCode != http.StatusOK {
		e.t.Fatalf("%s: %d %v", path, response.StatusCode, err)
	}
}

type emulatedEmail struct {
	ID, From, Subject, HTML, Text string
	To                            []string
	Headers                       map[string]string
}

// emails are all that the emulator has taken for an address.
func (e *emulator) emails(to string) []emulatedEmail {
	e.t.Helper()
	var all struct{ Data []emulatedEmail }
	e.list("/emails", nil, &all)
	return slices.DeleteFunc(all.Data, func(m emulatedEmail) bool { return !slices.Contains(m.To, to) })
}

type emulatedSMS struct{ SID, To, From, Body, Direction string }

// texts are all that the emulator lists for a number.
func (e *emulator) texts(to string) []emulatedSMS {
	e.t.Helper()
	var all struct{ Messages []emulatedSMS }
	e.list("/2010-04-01/Accounts/"+twilioSID+"/Messages.json", url.Values{"To": {to}, "PageSize": {"1000"}}, &all)
	return all.Messages
}

// outcome is the id under which a provider has a task's message.
func (p *office) outcome(row db.ScheduledTask) string {
	p.t.Helper()
	var outcome struct{ ID string }
	p.must(json.Unmarshal(row.Outcome, &outcome))
	return outcome.ID
}

func TestEmulatedResend(t *testing.T) {
	t.Parallel()
	e := setupEmulator(t, emulatedResend)
	p := setupPost(t)
	p.s.config.ResendBase = e.wire
	const from = "Example Billing <billing@example.com>"
	_, err := p.s.SetResend(t.Context(), p.merchant, resendKey, from)
	p.must(err)
	run := uuid.NewString() // the emulator may remember an earlier one
	for _, test := range []struct {
		name     string
		lose     bool
		template string
	}{{"answered", false, "payment_failed"}, {"the answer is lost", true, "last_notice"}} {
		to := strings.ReplaceAll(test.name, " ", "-") + ".canary7zq@" + run + ".example.com"
		id, _ := p.plan(person{"cus_" + to, to}, Email, test.template)
		e.lose.Store(test.lose)
		status := p.try(id)
		if test.lose {
			if n := len(e.emails(to)); status != "pending" || n != 1 {
				t.Fatalf("%s: %s, the emulator has %d", test.name, status, n)
			}
			status = p.try(id) // the same bytes under the same key
		}
		if status != "succeeded" {
			t.Fatalf("%s: %s\n%s", test.name, status, p.log)
		}
		took := e.emails(to)
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

	// The same key gives the same email, and none to other bytes.
	to := "again.canary7zq@" + run + ".example.com"
	key := "task_" + run
	send := func(subject string) answer {
		email, err := emailBytes(&resend.SendEmailRequest{From: from, To: []string{to}, Subject: subject, Text: "text"})
		p.must(err)
		return p.s.sendEmail(t.Context(), resendKey, key, email, time.Time{})
	}
	first, second, other := send("one"), send("one"), send("another")
	if first.outcome != taken || second != first || other.outcome != conflict || len(e.emails(to)) != 1 {
		t.Errorf("%+v, %+v, %+v: %+v", first, second, other, e.emails(to))
	}
	if got := send(""); got.outcome != refused {
		t.Errorf("without a subject: %+v", got)
	}

	to = "test.canary7zq@" + run + ".example.com"
	if err := p.s.TestChannel(t.Context(), p.merchant, Resend, to); err != nil || len(e.emails(to)) != 1 {
		t.Errorf("a test message: %v, %+v", err, e.emails(to))
	}
}

func TestEmulatedTwilio(t *testing.T) {
	t.Parallel()
	e := setupEmulator(t, emulatedTwilio)
	p := setupPost(t)
	p.s.config.TwilioBase = e.wire
	const from = "+14155559999"
	_, err := p.s.SetTwilio(t.Context(), p.merchant, twilioSID, twilioToken, from)
	p.must(err)
	var refusal *FieldError
	if _, err := p.s.SetTwilio(t.Context(), p.merchant, twilioSID, strings.ToLower(twilioToken), from); !errors.As(err, &refusal) {
		t.Errorf("another token: %v", err)
	}
	for _, test := range []struct {
		name string
		lose bool
		to   string
	}{{"answered", false, "+14155550142"}, {"the answer is lost", true, "+14155550143"}} {
		customer := "cus_" + test.to[1:]
		p.world.phones[customer] = test.to
		before := len(e.texts(test.to))                                                     // of an earlier run
		id, _ := p.plan(person{customer, customer + "@example.com"}, SMS, "payment_failed") // a person of his own, for the caps
		e.lose.Store(test.lose)
		status := p.try(id)
		if test.lose {
			if n := len(e.texts(test.to)) - before; status != "pending" || n != 1 {
				t.Fatalf("%s: %s, the emulator has %d", test.name, status, n)
			}
			status = p.try(id) // looks it up
		}
		if status != "succeeded" {
			t.Fatalf("%s: %s\n%s", test.name, status, p.log)
		}
		took := e.texts(test.to)
		if len(took)-before != 1 {
			t.Fatalf("%s: the emulator lists %d", test.name, len(took)-before)
		}
		i := slices.IndexFunc(took, func(m emulatedSMS) bool { return m.SID == p.outcome(p.row(id)) })
		if i < 0 {
			t.Fatalf("%s: the emulator does not list %s", test.name, p.row(id).Outcome)
		}
		sms := took[i]
		if sms.To != test.to || sms.From != from || sms.Direction != "outbound-api" || !strings.Contains(sms.Body, "http://127.0.0.1/i/acct_1/in_") {
			t.Errorf("%s: %+v", test.name, sms)
		}
	}
	before := len(e.texts(number))
	if err := p.s.TestChannel(t.Context(), p.merchant, Twilio, number); err != nil || len(e.texts(number)) != before+1 {
		t.Errorf("a test message: %v", err)
	}

	// What it refuses is read as Twilio's.
	got := p.s.sendSMS(t.Context(), twilioToken, text{twilioSID, "+14155558888", number, "text"}, time.Time{})
	if got.outcome != refused || !strings.Contains(got.why, "21606") {
		t.Errorf("from a number of somebody else's: %+v", got)
	}
	if got := p.s.sendSMS(t.Context(), strings.ToLower(twilioToken), text{twilioSID, from, number, "text"}, time.Time{}); got.outcome != keyRefused {
		t.Errorf("with another token: %+v", got)
	}
}
