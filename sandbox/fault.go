package sandbox

import (
	"net/http"
	"strings"
	"time"
)

// Fault makes requests go wrong. Without After it strikes before anything is done or stored; with After the request is
// carried out first, its effect stays, and only then does the fault strike. A Fault of Delay or Hold alone is a slow
// but right answer.
type Fault struct {
	Method string        // "" strikes every method
	Path   string        // prefix of the URL's path; "" strikes every path
	Times  int           // how many requests; 0 means 1
	Status int           // answer with this status; without Body in Stripe's error shape
	Body   string        // answer with this body; with Status 0 under the real status
	Header http.Header   // added to whatever is answered
	Delay  time.Duration // wait this long, or until the client leaves; with After the Idempotency-Key is in flight meanwhile
	Hold   func()        // like Delay, but returns when the test says so; called without any lock
	Drop   bool          // close the connection without an answer
	After  bool          // carry out first, then strike

	// Truncate sends half of the real answer under its full Content-Length and closes the connection. (Invalid JSON under
	// a 200 is Status: 200, Body: "{", After: true.)
	Truncate bool

	// Store lets Status and Body take the place of the execution's own answer under its Idempotency-Key, as Stripe stores
	// its 500s: a replay brings them again. Without After nothing is carried out.
	Store bool

	left int
}

// Fail arms a fault. Armed faults are tried in the order of arming; a request meets one at most.
func (s *Sandbox) Fail(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.left = max(f.Times, 1)
	f.Header = f.Header.Clone()
	s.faults = append(s.faults, &f)
}

func (s *Sandbox) takeFault(r *http.Request) *Fault {
	for i, f := range s.faults {
		if !strings.HasPrefix(r.URL.Path, f.Path) || f.Method != "" && f.Method != r.Method {
			continue
		}
		if f.left--; f.left == 0 {
			s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
		}
		return f
	}
	return nil
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
func (f *Fault) answer(real answer) answer {
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
	case f.Status == http.StatusTooManyRequests:
		return apiError(f.Status, "invalid_request_error", "rate_limit", "",
			"Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.")
	case a.status >= 500:
		return apiError(a.status, "api_error", "", "", "An unknown error occurred")
	case f.Status >= 400:
		return apiError(f.Status, "invalid_request_error", "", "", http.StatusText(f.Status))
	}
	a.body = []byte("{}")
	return a
}
