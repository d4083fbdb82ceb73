package web

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// merchantRequests is how many requests of one merchant's keys are answered at a time: so many
	// cannot take the database from the others, however much each of them reads.
	merchantRequests = 4
	// leaving is how long a statement goes on whose client has left. A quick one ends by itself,
	// and the connection stays; a long one is ended, at the price of a new connection.
	leaving = 250 * time.Millisecond
	// placeTime is how long a request waits for a place among those of the API.
	placeTime = 3 * time.Second
)

// inFlight counts the requests that are being answered, by merchant.
type inFlight struct {
	mutex sync.Mutex
	of    map[uuid.UUID]int
}

// enter reports how many more of the merchant's may begin, and whether this one may.
func (f *inFlight) enter(merchant uuid.UUID) (left int, ok bool) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.of[merchant] >= merchantRequests {
		return 0, false
	}
	if f.of == nil {
		f.of = make(map[uuid.UUID]int)
	}
	f.of[merchant]++
	return merchantRequests - f.of[merchant], true
}

func (f *inFlight) leave(merchant uuid.UUID) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.of[merchant]--; f.of[merchant] == 0 {
		delete(f.of, merchant)
	}
}

// limited runs answer unless too many of the merchant's requests are being answered, or all those
// of the API take what they may of the pool. The rest of it is for webhooks, handshakes and
// workers.
func (s *Server) limited(ctx context.Context, w http.ResponseWriter, r *http.Request, merchant uuid.UUID, answer func(http.ResponseWriter) error) error {
	left, ok := s.inFlight.enter(merchant)
	w.Header().Set("RateLimit-Policy", `"concurrent";q=`+strconv.Itoa(merchantRequests))
	w.Header().Set("RateLimit", `"concurrent";r=`+strconv.Itoa(left))
	if !ok {
		w.Header().Set("Retry-After", "1")
		writeError(w, http.StatusTooManyRequests, codeTooMany,
			"More than "+strconv.Itoa(merchantRequests)+" requests at a time. Wait for an answer before you ask again.")
		return nil
	}
	defer s.inFlight.leave(merchant)
	// Nobody holds a place while they send or read: neither a slow body nor a slow reader keeps the
	// others out.
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), failing{err}))
	waiting, cancel := context.WithTimeout(ctx, placeTime)
	defer cancel()
	if err := s.api.Acquire(waiting, 1); err != nil {
		writeOverloaded(w)
		return nil
	}
	held := &heldAnswer{ResponseWriter: w, status: http.StatusOK}
	err = func() error {
		defer s.api.Release(1)
		return answer(held)
	}()
	if held.written {
		w.WriteHeader(held.status)
		_, _ = w.Write(held.body.Bytes())
	}
	return err
}

// failing ends a body as it ended, in error or not.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return 0, io.EOF
}

// heldAnswer keeps an answer until its place is free again.
type heldAnswer struct {
	http.ResponseWriter
	status  int
	body    bytes.Buffer
	written bool
}

func (h *heldAnswer) WriteHeader(status int) { h.status, h.written = status, true }

func (h *heldAnswer) Write(text []byte) (int, error) {
	h.written = true
	return h.body.Write(text)
}

// untilLeft is the context of a request's statements. What only reads ends soon after its client
// has left; what changes something is done whether or not somebody still listens.
func (s *Server) untilLeft(r *http.Request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), s.config.DatabaseTimeout)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return ctx, cancel
	}
	stop := context.AfterFunc(r.Context(), func() { time.AfterFunc(leaving, cancel) })
	return ctx, func() {
		stop()
		cancel()
	}
}
