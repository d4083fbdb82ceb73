package sandbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/mail"
	"slices"
	"strings"
	"time"
)

// The part of Resend's API that sends emails, below /resend/. A key that begins with re_sandbox is
// accepted; one that begins with re_sandbox_send may do nothing else. Nothing is delivered: what
// was accepted is in the mailbox.

// Email is one accepted email.
type Email struct {
	ID      string            `json:"id"`
	Key     string            `json:"key"` // Idempotency-Key; "" if there was none
	From    string            `json:"from"`
	To      []string          `json:"to"`
	CC      []string          `json:"cc"`
	BCC     []string          `json:"bcc"`
	ReplyTo []string          `json:"reply_to"`
	Subject string            `json:"subject"`
	HTML    string            `json:"html"`
	Text    string            `json:"text"`
	Headers map[string]string `json:"headers"` // such as List-Unsubscribe, as they were sent
	Tags    []EmailTag        `json:"tags"`
	At      time.Time         `json:"at"`    // wall clock
	Clock   time.Time         `json:"clock"` // the sandbox's clock
}

// EmailTag is a name and a value that Resend carries along.
type EmailTag struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Emails lists the accepted emails, oldest first.
func (s *Sandbox) Emails() []Email {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Email{}, s.emails...)
}

func resendError(status int, name, msg string) answer {
	// cannot fail
	b, _ := json.Marshal(map[string]any{"statusCode": status, "name": name, "message": msg})
	return answer{status: status, body: b}
}

// resendFault is a fault's answer in Resend's shape.
func resendFault(status int) answer {
	switch {
	case status == http.StatusTooManyRequests:
		a := resendError(status, "rate_limit_exceeded", "Too many requests. You can only make 2 requests per second. See rate limit response headers for more information.")
		a.header = http.Header{"Ratelimit-Limit": {"2"}, "Ratelimit-Remaining": {"0"}, "Ratelimit-Reset": {"1"}, "Retry-After": {"1"}}
		return a
	case status == http.StatusConflict:
		return resendError(status, "concurrent_idempotent_requests", "Same idempotency key used while original request is still in progress.")
	case status >= 500:
		return resendError(status, "application_error", "An unexpected error occurred.")
	}
	return resendError(status, "validation_error", http.StatusText(status))
}

// resendKey checks the API key. Domains and keys are for a key with full access.
func resendKey(q *request, full bool) *answer {
	var a answer
	switch key := credential(q.Request); {
	case key == "":
		a = resendError(http.StatusUnauthorized, "missing_api_key", "Missing API Key")
	case !strings.HasPrefix(key, "re_sandbox"):
		// the reference says 403 invalid_api_key, the service answers this
		a = resendError(http.StatusUnauthorized, "validation_error", "API key is invalid")
	case full && strings.HasPrefix(key, "re_sandbox_send"):
		a = resendError(http.StatusUnauthorized, "restricted_api_key", "This API key is restricted to only send emails")
	default:
		return nil
	}
	return &a
}

func (s *Sandbox) resendNowhere(*request) answer {
	return resendError(http.StatusNotFound, "not_found", "The requested endpoint does not exist")
}

func (s *Sandbox) resendDomains(q *request) answer {
	if refused := resendKey(q, true); refused != nil {
		return *refused
	}
	return ok(map[string]any{"object": "list", "has_more": false, "data": []any{map[string]any{
		"id": "d91cd9bd-1176-453e-8fc1-35364d380206", "name": "example.com", "status": "verified", "region": "us-east-1",
		"created_at": q.now.UTC().Format(time.RFC3339)}}})
}

func (s *Sandbox) resendKeys(q *request) answer {
	if refused := resendKey(q, true); refused != nil {
		return *refused
	}
	return ok(map[string]any{"object": "list", "has_more": false, "data": []any{map[string]any{
		"id": "91f3200a-df72-4654-b0cd-f202395f5354", "name": "sandbox", "created_at": q.now.UTC().Format(time.RFC3339)}}})
}

// sendEmail takes an email. Resend remembers the answer to an accepted one under its
// Idempotency-Key for 24 hours; what it refuses leaves no trace.
func (s *Sandbox) sendEmail(q *request) answer {
	e, refused := s.acceptEmail(q)
	if refused != nil {
		return *refused
	}
	if q.fault != nil && q.fault.After {
		q.hold() // the key is in flight
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.done = true
	return e.answer
}

func (s *Sandbox) acceptEmail(q *request) (*idemEntry, *answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	refuse := func(a answer) (*idemEntry, *answer) { return nil, &a }
	if refused := resendKey(q, false); refused != nil {
		return nil, refused
	}
	if len(q.key) > 256 {
		return refuse(resendError(http.StatusBadRequest, "invalid_idempotency_key", "The key must be between 1-256 chars."))
	}
	mail, refused := readEmail(q.raw)
	if refused != nil {
		return nil, refused
	}
	e := &idemEntry{path: q.URL.Path, params: digestJSON(q.raw), request: q.id, started: q.now}
	if k := (idemKey{"resend", q.key}); q.key != "" {
		if old := s.keys[k]; old != nil && !(old.done && q.now.Sub(old.started) >= keyLife) {
			switch {
			case old.params != e.params:
				return refuse(resendError(http.StatusConflict, "invalid_idempotent_request", "Same idempotency key used with a different request payload."))
			case !old.done:
				return refuse(resendFault(http.StatusConflict))
			}
			again := old.answer
			again.replayed = true
			return refuse(again)
		}
		s.forgetOldKeys(q.now)
		s.keys[k] = e
	}
	mail.ID, mail.Key, mail.At, mail.Clock = s.newUUID("email", len(s.emails)), q.key, time.Now(), q.now
	e.answer = ok(map[string]string{"id": mail.ID})
	s.emails = append(s.emails, *mail)
	q.target = &nameOnly{ID: mail.ID}
	s.enter(q, "resend", "", e.answer.status)
	s.hearEmail(mail, q.now.Unix())
	return e, nil
}

// addresses is a string or an array of them, as Resend takes both.
type addresses []string

func (a *addresses) UnmarshalJSON(b []byte) error {
	if one := ""; json.Unmarshal(b, &one) == nil {
		*a = nil
		if one != "" {
			*a = addresses{one}
		}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

func readEmail(body []byte) (*Email, *answer) {
	refuse := func(status int, name, msg string) (*Email, *answer) {
		a := resendError(status, name, msg)
		return nil, &a
	}
	var in struct {
		From, Subject, HTML, Text string
		To, CC, BCC               addresses
		ReplyTo                   addresses `json:"reply_to"`
		Headers                   map[string]string
		Tags                      []EmailTag
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return refuse(http.StatusUnprocessableEntity, "validation_error", "The request body is not valid: "+err.Error())
	}
	for _, f := range []struct {
		name    string
		missing bool
	}{{"from", in.From == ""}, {"to", len(in.To) == 0}, {"subject", in.Subject == ""}, {"html` or `text", in.HTML == "" && in.Text == ""}} {
		if f.missing {
			return refuse(http.StatusUnprocessableEntity, "missing_required_field", "Missing `"+f.name+"` field.")
		}
	}
	if n := len(in.To); n > 50 {
		return refuse(http.StatusUnprocessableEntity, "validation_error", fmt.Sprintf("The `to` field must have at most 50 items; it has %d.", n))
	}
	if _, err := mail.ParseAddress(in.From); err != nil {
		return refuse(http.StatusUnprocessableEntity, "invalid_from_address", "Invalid `from` field. The email address needs to follow the "+
			"`email@example.com` or `Name <email@example.com>` format.")
	}
	for _, to := range slices.Concat(in.To, in.CC, in.BCC, in.ReplyTo) {
		if _, err := mail.ParseAddress(to); err != nil {
			return refuse(http.StatusUnprocessableEntity, "validation_error", "Invalid `to` field. The email address needs to follow the "+
				"`email@example.com` or `Name <email@example.com>` format.")
		}
	}
	if in.Headers == nil {
		in.Headers = map[string]string{}
	}
	return &Email{From: in.From, To: in.To, CC: in.CC, BCC: in.BCC, ReplyTo: in.ReplyTo, Subject: in.Subject, HTML: in.HTML, Text: in.Text,
		Headers: in.Headers, Tags: in.Tags}, nil
}

// digestJSON is a hash of what a body says, regardless of the order of its fields. It reads well:
// readEmail has taken it.
func digestJSON(body []byte) string {
	var v any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	_ = d.Decode(&v)
	b, _ := json.Marshal(v)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// named lets the ledger name what is no object of Stripe's.
type nameOnly struct{ ID string }

func (n *nameOnly) meta() *head { return &head{ID: n.ID} }

// newUUID is the n-th id for a purpose, in the form of a version 4 UUID.
func (s *Sandbox) newUUID(purpose string, n int) string {
	r := stream(s.cfg.Seed, purpose, n)
	b := slices.Concat(u64(r.Uint64()), u64(r.Uint64()))
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
