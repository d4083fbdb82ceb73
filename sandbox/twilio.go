package sandbox

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // Twilio signs with HMAC-SHA-1
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The part of Twilio's API of 2010-04-01 that sends text messages, below /twilio/. Any account AC…
// is known; its auth token is accepted if it begins with twilio_sandbox or, because twilio-go sends
// letters and digits alone, twiliosandbox. Nothing is delivered. Twilio has no Idempotency-Key: a
// second POST is a second message.

// SMS is one message, sent or received.
type SMS struct {
	SID     string    `json:"sid"`
	Account string    `json:"account_sid"`
	To      string    `json:"to"`
	From    string    `json:"from"`
	Body    string    `json:"body"`
	Inbound bool      `json:"inbound"`
	At      time.Time `json:"at"`    // wall clock
	Clock   time.Time `json:"clock"` // the sandbox's clock
}

// Messages lists the text messages of all accounts, oldest first.
func (s *Sandbox) Messages() []SMS {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]SMS{}, s.texts...)
}

// texting is two numbers that write to each other.
type texting struct{ ours, theirs string }

const twilioVersion = "/2010-04-01"

func twilioError(status, code int, msg string) answer {
	b, _ := json.Marshal(map[string]any{"code": code, "message": msg, "more_info": fmt.Sprintf("https://www.twilio.com/docs/errors/%d", code),
		"status": status}) // cannot fail
	return answer{status: status, body: b}
}

// twilioFault is a fault's answer in Twilio's shape.
func twilioFault(status int) answer {
	switch {
	case status == http.StatusTooManyRequests:
		return twilioError(status, 20429, "Too Many Requests")
	case status == http.StatusServiceUnavailable:
		return twilioError(status, 20503, "Service is temporarily unavailable")
	case status >= 500:
		return twilioError(status, 20500, "An internal server error has occurred")
	}
	return twilioError(status, 20000+status, http.StatusText(status))
}

// twilio wraps a handler that speaks for an account. It runs under the lock.
func (s *Sandbox) twilio(h func(q *request, sid string) answer) func(*request) answer {
	return func(q *request) answer {
		s.mu.Lock()
		defer s.mu.Unlock()
		sid := strings.TrimSuffix(q.PathValue("sid"), ".json")
		user, token, _ := q.BasicAuth()
		if user != sid || !strings.HasPrefix(sid, "AC") || !twilioTokens.MatchString(token) {
			return twilioError(http.StatusUnauthorized, 20003, "Authenticate")
		}
		s.tokens[sid] = token
		return h(q, sid)
	}
}

func (s *Sandbox) twilioNowhere(q *request) answer {
	return twilioError(http.StatusNotFound, 20404, "The requested resource "+strings.TrimPrefix(q.URL.Path, "/twilio")+" was not found")
}

func (s *Sandbox) twilioAccount(q *request, sid string) answer {
	uri := twilioVersion + "/Accounts/" + sid
	return ok(map[string]any{"sid": sid, "friendly_name": "Sandbox", "status": "active", "type": "Full", "owner_account_sid": sid,
		"date_created": q.now.UTC().Format(time.RFC1123Z), "date_updated": q.now.UTC().Format(time.RFC1123Z), "uri": uri + ".json",
		"subresource_uris": map[string]string{"messages": uri + "/Messages.json"}})
}

var twilioTokens = regexp.MustCompile(`^twilio_?sandbox`)

var e164 = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)

// sender is a number, a short code or a name of up to eleven characters.
var sender = regexp.MustCompile(`^(\+[1-9][0-9]{6,14}|[0-9]{5,6}|[A-Za-z0-9 ]{1,11})$`)

// sendSMS takes a message. Numbers of Twilio's own for tests: +15005550001 is invalid, +15005550004
// has opted out.
func (s *Sandbox) sendSMS(q *request, sid string) answer {
	to, from, body := q.form.Get("To"), q.form.Get("From"), q.form.Get("Body")
	bad := func(code int, msg string) answer { return twilioError(http.StatusBadRequest, code, msg) }
	switch {
	case to == "":
		return bad(21604, "A 'To' phone number is required.")
	case from == "" && q.form.Get("MessagingServiceSid") == "":
		return bad(21603, "A 'From' phone number is required.")
	case body == "":
		return bad(21602, "Message body is required.")
	case len([]rune(body)) > 1600:
		return bad(21617, "The concatenated message body exceeds the 1600 character limit.")
	case !e164.MatchString(to) || to == "+15005550001":
		return bad(21211, "Invalid 'To' Phone Number: "+to)
	case from != "" && !sender.MatchString(from):
		return bad(21212, "Invalid 'From' Phone Number: "+from)
	case s.optedOut[texting{from, to}] || to == "+15005550004":
		return bad(21610, "Attempt to send to unsubscribed recipient")
	}
	m := s.text(SMS{Account: sid, To: to, From: from, Body: body, Clock: q.now})
	s.hear(q.now.Unix(), func(cu *customer) bool { return string(cu.Phone) == to })
	q.target = &nameOnly{ID: m.SID}
	shown := m.show()
	shown["status"], shown["date_sent"] = "queued", nil // it goes out a moment later
	a := ok(shown)
	a.status = http.StatusCreated
	s.enter(q, sid, "", a.status)
	return a
}

// text keeps a message.
func (s *Sandbox) text(m SMS) *SMS {
	r := stream(s.cfg.Seed, "sms", len(s.texts))
	m.SID = "SM" + hex.EncodeToString(slices.Concat(u64(r.Uint64()), u64(r.Uint64())))
	m.At = time.Now()
	s.texts = append(s.texts, m)
	return &m
}

func (m *SMS) show() map[string]any {
	at, uri := m.Clock.UTC().Format(time.RFC1123Z), twilioVersion+"/Accounts/"+m.Account+"/Messages/"+m.SID
	direction, status := "outbound-api", "delivered"
	if m.Inbound {
		direction, status = "inbound", "received"
	}
	return map[string]any{"sid": m.SID, "account_sid": m.Account, "api_version": "2010-04-01", "to": m.To, "from": m.From, "body": m.Body,
		"direction": direction, "status": status, "date_created": at, "date_sent": at, "date_updated": at, "error_code": nil, "error_message": nil,
		"messaging_service_sid": nil, "num_media": "0", "num_segments": fmt.Sprint(1 + len(m.Body)/161), "price": nil, "price_unit": "USD",
		"uri": uri + ".json", "subresource_uris": map[string]string{"media": uri + "/Media.json"}}
}

func (s *Sandbox) oneSMS(q *request, sid string) answer {
	id := strings.TrimSuffix(q.PathValue("message"), ".json")
	for i := range s.texts {
		if m := &s.texts[i]; m.Account == sid && m.SID == id {
			return ok(m.show())
		}
	}
	return s.twilioNowhere(q)
}

// SignTwilio is the value of X-Twilio-Signature: HMAC-SHA-1 by the auth token over the URL and the
// form, sorted by name.
func SignTwilio(token, target string, form url.Values) string {
	mac := hmac.New(sha1.New, []byte(token))
	mac.Write([]byte(target))
	for _, name := range slices.Sorted(maps.Keys(form)) {
		for _, value := range form[name] {
			mac.Write([]byte(name + value))
		}
	}
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
