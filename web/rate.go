package web

import (
	"hash/maphash"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/time/rate"
)

// Limits of what one address may cause in a process.
const (
	beginsAMinute    = 60 // handshakes begun: each is a row for ten minutes
	exchangesAMinute = 20 // codes exchanged at Stripe
	// exchangesAtOnce is how many codes are exchanged at a time, of all addresses.
	exchangesAtOnce = 16
)

// rates bounds how often each address may do something. Addresses share a fixed number of buckets,
// by a hash with a key of this process: however many of them flood it, it takes no more memory, and
// nobody can choose whose bucket they empty. Another process, or a restart, gives an address its
// own once more, and that is little: the states of all processes are bounded in the database.
type rates struct {
	key     maphash.Seed
	buckets []*rate.Limiter
}

const rateBuckets = 1 << 14

// newRates allows so many a minute of each address, and as many at once.
func newRates(perMinute int) *rates {
	r := &rates{key: maphash.MakeSeed(), buckets: make([]*rate.Limiter, rateBuckets)}
	for i := range r.buckets {
		r.buckets[i] = rate.NewLimiter(rate.Every(time.Minute/time.Duration(perMinute)), perMinute)
	}
	return r
}

func (r *rates) of(address netip.Addr) *rate.Limiter {
	return r.buckets[maphash.Comparable(r.key, address)%rateBuckets]
}

// take counts one more of an address, unless it has used its own up.
func (r *rates) take(address netip.Addr, now time.Time) (ok bool) {
	return r.of(address).AllowN(now, 1)
}

// has says whether an address may do it, and count counts one that was done.
func (r *rates) has(address netip.Addr, now time.Time) bool { return r.of(address).TokensAt(now) >= 1 }

func (r *rates) count(address netip.Addr, now time.Time) { r.of(address).ReserveN(now, 1) }

// refuse answers an address that has used its own up.
func (r *rates) refuse(w http.ResponseWriter, address netip.Addr, now time.Time, message string) {
	limiter := r.of(address)
	seconds := (1 - limiter.TokensAt(now)) / float64(limiter.Limit())
	w.Header().Set("Retry-After", strconv.Itoa(max(int(math.Ceil(seconds)), 1)))
	writeError(w, http.StatusTooManyRequests, codeTooMany, message)
}
