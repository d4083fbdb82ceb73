package connect

import (
	"io"
	"net"
	"net/http"
	"time"
)

// readers is how many requests to one account are under way at most.
const readers = 16

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: stripeTimeout,
		IdleConnTimeout:       60 * time.Second,
		MaxIdleConnsPerHost:   2 * readers,
	}
}

// sendOnce keeps net/http from replaying a request by itself, as it does on a reused connection
// that closes: what carries a single-use code goes out on a connection of its own, without a key
// that would mark it as safe to repeat and without a second copy of its body.
type sendOnce struct{ next http.RoundTripper }

func (t sendOnce) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.Header.Del("Idempotency-Key")
	request.GetBody = nil
	request.Close = true
	return t.next.RoundTrip(request)
}

// noReplay sends a mutation on a reused connection, but keeps net/http from sending it a second
// time where that one closes: without a copy of its body a request that may have arrived is not
// repeated.
type noReplay struct{ next http.RoundTripper }

func (t noReplay) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.GetBody = nil
	return t.next.RoundTrip(request)
}

// capped bounds an answer's body, so that no host can fill the memory.
type capped struct {
	next http.RoundTripper
	most int64
}

const (
	maxAnswer = 1 << 20
	maxPage   = 32 << 20 // a hundred objects, none of which Stripe bounds
)

func (t capped) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, t.most), response.Body}
	return response, nil
}

// observed tells Observe of each request that goes out.
type observed struct {
	next    http.RoundTripper
	observe func(status int, took time.Duration)
}

func (t observed) RoundTrip(request *http.Request) (*http.Response, error) {
	if t.observe == nil {
		return t.next.RoundTrip(request)
	}
	started := time.Now()
	response, err := t.next.RoundTrip(request)
	status := 0
	if err == nil {
		status = response.StatusCode
	}
	t.observe(status, time.Since(started))
	return response, err
}
