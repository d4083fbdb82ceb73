package sandbox

import (
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Fault makes requests go wrong. Without After it strikes before anything is done or stored; with
// After the request is carried out first, its effect stays, and only then does the fault strike. A
// Fault of Delay or Hold alone is a slow but right answer.
//
// In the JSON of POST /sandbox/faults, delay is in milliseconds and hold is missing.
type Fault struct {
	Account string `json:"account"` // acct_…; "" strikes all
	Method  string `json:"method"`  // "" strikes every method
	Path    string `json:"path"`    // prefix of the URL's path; "" strikes every path
	// a part of the decoded query, as in "starting_after"; "" strikes every query
	Query string `json:"query"`
	Skip  int    `json:"skip"`  // so many requests pass first: page N of a list is Skip: N-1
	Every int    `json:"every"` // after Skip only every so-many-th is struck; 0 means each
	Times int    `json:"times"` // how many are struck; 0 means 1, with Chance all; below 0 all

	// Chance is the probability that a request that is met is struck, from the seed's random
	// numbers: 0.05 with Method "POST" and Path "/v1/" spoils one POST in twenty until Mend. 0
	// strikes for certain.
	Chance float64 `json:"chance"`

	// answer with this status; without Body in the error shape of whose path it is
	Status int `json:"status"`
	// the error's code: a 429 is a rate_limit unless this is "lock_timeout";
	// "idempotency_key_in_use" goes with 409
	Code string `json:"code"`
	// answer with this body; with Status 0 under the real status
	Body   string      `json:"body"`
	Header http.Header `json:"header"` // added to what is answered
	// wait this long, or until the client leaves; with After the Idempotency-Key is in flight
	// meanwhile
	Delay time.Duration `json:"-"`
	// like Delay, but returns when the test says so; called without any lock
	Hold func() `json:"-"`
	Drop bool   `json:"drop"` // close the connection without an answer
	// like Drop, but the client sees "connection reset by peer"
	Reset bool `json:"reset"`
	After bool `json:"after"` // carry out first, then strike
	// once the answer is made, so many paid invoices with their charges appear in the account
	Rows int `json:"rows"`

	// Truncate sends half of the real answer under its full Content-Length and closes the
	// connection. (Invalid JSON under a 200 is Status: 200, Body: "{", After: true.)
	Truncate bool `json:"truncate"`

	// Store lets Status and Body take the place of the execution's own answer under its
	// Idempotency-Key, as Stripe stores its 500s: a replay brings them again. Without After nothing
	// is carried out. Only below /v1/.
	Store bool `json:"store"`

	seen, left int
	luck       *rand.Rand
}

// Fail arms a fault. Armed faults are tried in the order of arming; a request meets one at most.
func (s *Sandbox) Fail(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.left = f.Times
	if f.Times == 0 && f.Chance == 0 {
		f.left = 1
	}
	if f.left == 0 {
		f.left = -1 // without end: counting down never meets 0
	}
	s.armed++
	f.luck = stream(s.cfg.Seed, "fault", s.armed)
	f.Header = f.Header.Clone()
	s.faults = append(s.faults, &f)
}

func (s *Sandbox) takeFault(r *http.Request, account string) *Fault {
	for i, f := range s.faults {
		if !f.meets(r, account) {
			continue
		}
		f.seen++
		if n := f.seen - f.Skip; n <= 0 || f.Every > 1 && n%f.Every != 0 {
			continue
		}
		if f.Chance > 0 && f.luck.Float64() >= f.Chance {
			continue
		}
		if f.left--; f.left == 0 {
			s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
		}
		return f
	}
	return nil
}

func (f *Fault) meets(r *http.Request, account string) bool {
	if !strings.HasPrefix(r.URL.Path, f.Path) || f.Method != "" && f.Method != r.Method || f.Account != "" && f.Account != account {
		return false
	}
	if f.Query == "" {
		return true
	}
	query, err := url.QueryUnescape(r.URL.RawQuery)
	return err == nil && strings.Contains(query, f.Query)
}

// hold waits as the request's fault says, once.
func (q *request) hold() {
	if q.fault == nil || q.held {
		return
	}
	q.held = true
	if q.fault.Hold != nil {
		q.fault.Hold()
	}
	if q.fault.Delay > 0 {
		t := time.NewTimer(q.fault.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-q.Context().Done():
		}
	}
}

// answer replaces a real answer.
func (f *Fault) answer(q *request, real answer) answer {
	if f.Status == 0 && f.Body == "" && real.status != 0 {
		return real
	}
	a := answer{status: f.Status, body: []byte(f.Body)}
	if a.status == 0 {
		a.status = real.status
	}
	if a.status == 0 { // Store without a Status: nothing real to fall back on
		a.status = http.StatusInternalServerError
	}
	if f.Body != "" {
		return a
	}
	switch {
	case f.Status >= 400 && strings.HasPrefix(q.URL.Path, "/resend/"):
		return resendFault(f.Status)
	case f.Status >= 400 && strings.HasPrefix(q.URL.Path, "/twilio/"):
		return twilioFault(f.Status)
	case f.Status == http.StatusConflict && f.Code == "idempotency_key_in_use":
		return keyInUse(q.key)
	case f.Status == http.StatusTooManyRequests && f.Code == "lock_timeout":
		return apiError(f.Status, "invalid_request_error", "lock_timeout", "", "This object cannot be accessed right now because another API "+
			"request or Stripe process is currently accessing it. If you see this error intermittently, retry the request.")
	case f.Status == http.StatusTooManyRequests:
		return rateLimited()
	case f.Code != "":
		return apiError(a.status, "invalid_request_error", f.Code, "", http.StatusText(a.status))
	case a.status >= 500:
		return apiError(a.status, "api_error", "", "", "An unknown error occurred")
	case f.Status >= 400:
		return apiError(f.Status, "invalid_request_error", "", "", http.StatusText(f.Status))
	}
	a.body = []byte("{}")
	return a
}

// reset closes the connection so that its other end gets an RST. It returns where that cannot be
// done.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return // HTTP/2, or no connection at all: the caller aborts instead
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // what is unsent is thrown away, and the close becomes a reset
	}
	_ = conn.Close()
}

// Mend disarms all faults.
func (s *Sandbox) Mend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}
