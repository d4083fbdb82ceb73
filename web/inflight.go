package web

import (
	"context"
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
	// leaving is how long a statement goes on whose client has left. A quick one ends by itself, and
	// the connection stays; a long one is ended, at the price of a new connection.
	leaving = 250 * time.Millisecond
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
func (s *Server) limited(ctx context.Context, w http.ResponseWriter, merchant uuid.UUID, answer func() error) error {
	left, ok := s.inFlight.enter(merchant)
	w.Header().Set("RateLimit-Policy", `"concurrent";q=`+strconv.Itoa(merchantRequests))
	w.Header().Set("RateLimit", `"concurrent";r=`+strconv.Itoa(left))
	if !ok {
		w.Header().Set("Retry-After", "1")
		writeError(w, http.StatusTooManyRequests, "too_many_requests",
			"More than "+strconv.Itoa(merchantRequests)+" requests at a time. Wait for an answer before you ask again.")
		return nil
	}
	defer s.inFlight.leave(merchant)
	if err := s.api.Acquire(ctx, 1); err != nil {
		writeOverloaded(w)
		return nil
	}
	defer s.api.Release(1)
	return answer()
}

// untilLeft is the context of a request's statements. What only reads ends soon after its client has
// left; what changes something is done whether or not somebody still listens.
func untilLeft(r *http.Request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), apiTimeout)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return ctx, cancel
	}
	stop := context.AfterFunc(r.Context(), func() { time.AfterFunc(leaving, cancel) })
	return ctx, func() {
		stop()
		cancel()
	}
}
