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
	freeBytes   = 512 // of each body, beside the budgets
	firstBytes  = 16 << 10
	firstBudget = 16 << 20
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

// read reads a body to its end. The caller calls done when it needs it no more, once or again. What
// is held grows with what has come: a sender who is silent holds next to nothing.
func (u unverified) read(r io.Reader) (body []byte, done func(), err error) {
	held := int64(0)
	done = func() {
		u.of(held).Release(held)
		held = 0
	}
	body = make([]byte, 0, freeBytes)
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
		if !u.of(size).TryAcquire(size) {
			return nil, done, errTooManyBytes
		}
		body = append(make([]byte, 0, size), body...)
		u.of(held).Release(held)
		held = size
	}
}

// of is the budget that a buffer of this size is of.
func (u unverified) of(size int64) *semaphore.Weighted {
	if size <= firstBytes {
		return u.first
	}
	return u.more
}

// readUnverified reads a body that anybody may send. Meanwhile its connection counts as silent.
func (s *Server) readUnverified(r *http.Request) (body []byte, done func(), err error) {
	if c, ok := r.Context().Value(boundedKey{}).(*boundedConn); ok {
		c.answering(false)
		defer c.answering(true)
	}
	return s.unverified.read(r.Body)
}
