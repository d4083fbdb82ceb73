// Package rarely keeps a log from being filled by what happens often.
package rarely

import (
	"sync"
	"time"
)

// Lines bounds the lines that may come as often as anything: of each kind the first is logged, and
// then one a minute with how many there were in between. It is safe for concurrent use.
type Lines struct {
	mutex sync.Mutex
	kinds map[string]*seen
}

type seen struct {
	logged time.Time
	since  int
}

// Say reports whether one more of a kind is to be logged, and how many before it were not. Kinds
// are our own words: few.
func (r *Lines) Say(kind string, now time.Time) (unlogged int, is bool) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	s := r.kinds[kind]
	if s == nil {
		if r.kinds == nil {
			r.kinds = make(map[string]*seen)
		}
		s = &seen{}
		r.kinds[kind] = s
	}
	if now.Sub(s.logged) < time.Minute {
		s.since++
		return 0, false
	}
	unlogged = s.since
	s.logged, s.since = now, 0
	return unlogged, true
}
