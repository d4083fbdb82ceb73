package message

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"time"
)

// providerTimeout is how long one attempt to Resend or Twilio takes at most.
const providerTimeout = 10 * time.Second

// maxProviderAnswer bounds what is read of an answer. A page of messages is the largest.
const maxProviderAnswer = 4 << 20

// providers dials. A connection serves one request, so that net/http replays nothing on one that
// has closed.
var providers = &http.Transport{
	Proxy:                 http.ProxyFromEnvironment,
	DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
	TLSHandshakeTimeout:   5 * time.Second,
	ResponseHeaderTimeout: providerTimeout,
	DisableKeepAlives:     true,
}

var (
	errSecondAttempt = errors.New("one exchange is one attempt")
	errTooLate       = errors.New("it is too late to send this")
)

// exchange is one attempt to a provider, made through the provider's own library. It notes what
// happened, because the libraries' errors do not say which status came, nor whether the request
// left at all, and quote what was sent.
type exchange struct {
	ctx    context.Context
	begun  bool
	left   bool   // a connection was there: the request may have arrived
	late   bool   // it was too late, and nothing left
	status int    // 0: no answer
	body   []byte // whole, or status is 0

	now func() time.Time // the wall clock, with by
	by  time.Time        // after which nothing leaves; zero: it may always
}

func newExchange(ctx context.Context) *exchange { return &exchange{ctx: ctx} }

// leaveBy keeps a request back where a moment has passed by the wall clock, which goes on while a
// machine sleeps.
func (e *exchange) leaveBy(by time.Time, now func() time.Time) { e.by, e.now = by, now }

func (e *exchange) client() *http.Client {
	return &http.Client{
		Transport: e, Timeout: providerTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// RoundTrip implements [http.RoundTripper].
func (e *exchange) RoundTrip(request *http.Request) (*http.Response, error) {
	if e.begun {
		return nil, errSecondAttempt
	}
	e.begun = true
	// The client's time-out is in the request's own context; the caller's end is added to it.
	ctx, cancel := context.WithCancel(request.Context())
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { e.left = true }}
	request = request.Clone(httptrace.WithClientTrace(ctx, trace))
	request.GetBody = nil
	if !e.by.IsZero() && e.now().Round(0).After(e.by) {
		e.late = true
		return nil, errTooLate
	}
	response, err := providers.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxProviderAnswer))
	if err != nil {
		return nil, err
	}
	e.status, e.body = response.StatusCode, body
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

// Ways in which an attempt to send ends.
type sendResult int

const (
	unknown    sendResult = iota // it may have been taken
	taken                        // the provider has the message
	refused                      // not taken, and never will be
	keyRefused                   // not taken, because of the key
	busy                         // not taken this time
	optedOut                     // not taken: the person has said stop to the provider
	conflict                     // the key was used before, with other bytes
	late                         // not sent: the process stood still since the last look
)

// whyLate is noted of what did not leave in time.
const whyLate = "the process stood still, and the message did not leave in time"

// answer is a result and what to note of it: the provider's id of the message, or why not.
type answer struct {
	outcome sendResult
	id      string
	why     string        // plain words without an address
	wait    time.Duration // with busy: how long the provider is left alone, a minute at least
}
