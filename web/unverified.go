package web

import (
	"errors"
	"io"
	"net/http"

	"golang.org/x/sync/semaphore"
)

// Anybody can send a body with a header that looks like a signature, and it must be held until the
// signature is checked. So all of them together may hold only so much. What nearly every event of
// Stripe's needs is apart from what large ones need, so that a flood of large bodies refuses no
// small event.
const (
	firstBytes  = 16 << 10
	firstBudget = 1024 * firstBytes
	moreBudget  = 16 << 20
)

// errTooManyBytes says that bodies which are being read hold all the memory that they may.
var errTooManyBytes = errors.New("too many events are being read")

func writeOverloaded(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	writeError(w, http.StatusServiceUnavailable, "overloaded", "Too many requests are being read. Send it again later.")
}

// unverified is the memory that bodies may hold whose signature is not checked.
type unverified struct{ first, more *semaphore.Weighted }

func newUnverified() unverified {
	return unverified{semaphore.NewWeighted(firstBudget), semaphore.NewWeighted(moreBudget)}
}

// read reads a body to its end. The caller calls done when it needs it no more.
func (u unverified) read(r io.Reader) (body []byte, done func(), err error) {
	if !u.first.TryAcquire(firstBytes) {
		return nil, func() {}, errTooManyBytes
	}
	more := int64(0)
	done = func() {
		u.first.Release(firstBytes)
		u.more.Release(more)
	}
	body = make([]byte, 0, firstBytes)
	for {
		n, err := r.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case errors.Is(err, io.EOF):
			return body, done, nil
		case err != nil:
			return nil, done, err
		case len(body) < cap(body):
			continue
		}
		size := int64(2 * cap(body))
		if !u.more.TryAcquire(size) {
			return nil, done, errTooManyBytes
		}
		grown := append(make([]byte, 0, size), body...)
		u.more.Release(more) // the smaller one
		body, more = grown, size
	}
}
