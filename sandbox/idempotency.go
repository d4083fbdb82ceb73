package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"time"
)

// keyLife is how long a key is remembered. Stripe promises "at least 24 hours"; the sandbox forgets
// as early as allowed, because that is the case that hurts.
const keyLife = 24 * time.Hour

// idemKey: the same key in two accounts is two keys.
type idemKey struct{ account, key string }

type idemEntry struct {
	method, path, params string // params is a hash
	request              string // Request-Id of the first request
	started              time.Time
	done                 bool
	answer               answer
}

// write wraps a mutation in Stripe's layers, in this order: credential, validation, idempotency,
// execution. (Rate limits come before all of them, as faults.) prepare validates what does not
// depend on the object's state and returns the execution; what it refuses leaves no trace under
// the key.
func (s *Sandbox) write(prepare func(*request) (func() answer, *answer)) func(*request) answer {
	return func(q *request) answer {
		run, a := s.begin(q, prepare)
		if a != nil {
			return *a
		}
		if q.fault != nil && q.fault.After {
			q.hold() // the key is in flight, and no lock is held
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		run.done = true
		return run.answer
	}
}

// begin goes as far as an answer without a wait: either an answer to send as it is, or an execution
// that is done but still in flight under its key.
func (s *Sandbox) begin(q *request, prepare func(*request) (func() answer, *answer)) (*idemEntry, *answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if refused := s.authenticate(q); refused != nil {
		return nil, refused
	}
	if q.scope != "read_write" {
		a := apiError(http.StatusForbidden, "invalid_request_error", "more_permissions_required", "",
			"The provided key does not have the required permissions for this endpoint: it was granted read_only.")
		return nil, &a
	}
	if len(q.key) > 255 {
		return nil, badParam("", "", "Idempotency keys may be at most 255 characters long.")
	}
	q.acc.advance(q.now.Unix())
	execute, refused := prepare(q)
	if refused != nil {
		return nil, refused
	}
	// sorted by name, so the order of the body does not matter
	sum := sha256.Sum256([]byte(q.form.Encode()))
	e := &idemEntry{method: q.Method, path: q.URL.Path, params: hex.EncodeToString(sum[:]), request: q.id, started: q.now}
	if q.key != "" {
		k := idemKey{q.acc.ID, q.key}
		if old := s.keys[k]; old != nil && !(old.done && q.now.Sub(old.started) >= keyLife) {
			a := old.again(q, e)
			return nil, &a
		}
		s.forgetOldKeys(q.now)
		s.keys[k] = e
	}
	f := q.fault
	if f == nil || !f.Store || f.After {
		before := statusOf(q.target)
		e.answer = execute()
		q.acc.sortTables()
		s.enter(q, q.acc.ID, before, e.answer.status)
	}
	if f != nil && f.Store {
		e.answer = f.answer(q, e.answer)
	}
	return e, nil
}

func keyInUse(key string) answer {
	return apiError(http.StatusConflict, "idempotency_error", "idempotency_key_in_use", "",
		"There is currently another in-progress request using this Idempotency Key (that probably means you submitted twice, "+
			"and the other request is still going through): "+key+". Please try again later.")
}

// again answers a request whose key is known. now is the entry it would have made.
func (e *idemEntry) again(q *request, now *idemEntry) answer {
	switch {
	case e.path != now.path || e.method != now.method:
		return apiError(http.StatusBadRequest, "idempotency_error", "", "",
			"Keys for idempotent requests can only be used for the same endpoint they were first used for ('"+now.path+"' vs '"+
				e.path+"'). Try using a key other than '"+q.key+"' if you meant to execute a different request.")
	case e.params != now.params:
		return apiError(http.StatusBadRequest, "idempotency_error", "", "",
			"Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '"+
				q.key+"' if you meant to execute a different request.")
	case !e.done:
		return keyInUse(q.key)
	}
	a := e.answer
	a.replayed = true
	a.header = a.header.Clone()
	if a.header == nil {
		a.header = http.Header{}
	}
	a.header.Set("Idempotent-Replayed", "true")
	a.header.Set("Original-Request", e.request)
	return a
}

// ForgetKeys forgets all Idempotency-Keys but those in flight, as Stripe may after 24 hours and a
// test wants at once.
func (s *Sandbox) ForgetKeys() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, e := range s.keys {
		if e.done {
			delete(s.keys, k)
		}
	}
}

func (s *Sandbox) forgetOldKeys(now time.Time) {
	if len(s.keys)%1024 != 1023 { // a scan now and then is enough: expired keys are ignored anyway
		return
	}
	for k, e := range s.keys {
		if e.done && now.Sub(e.started) >= keyLife {
			delete(s.keys, k)
		}
	}
}
