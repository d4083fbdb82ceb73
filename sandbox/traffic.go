package sandbox

import (
	"net/http"
	"time"
)

// traffic is what one account's requests to /v1/ have been like, by the wall clock: a limit is
// about real load.
type traffic struct {
	arrived, served []time.Time // of the last second, oldest first
	peak            int
}

// count takes note of a request that arrives now and says whether it is over the limit.
func (s *Sandbox) count(account string) (limited bool) {
	t := s.traffic[account]
	if t == nil {
		t = &traffic{}
		s.traffic[account] = t
	}
	return t.count(time.Now(), s.cfg.RateLimit)
}

func (t *traffic) count(now time.Time, limit int) (limited bool) {
	t.arrived = append(lastSecond(t.arrived, now), now)
	t.peak = max(t.peak, len(t.arrived))
	t.served = lastSecond(t.served, now)
	if limit > 0 && len(t.served) >= limit {
		return true
	}
	t.served = append(t.served, now)
	return false
}

// lastSecond drops what lies a second or more back.
func lastSecond(times []time.Time, now time.Time) []time.Time {
	n := 0
	for n < len(times) && now.Sub(times[n]) >= time.Second {
		n++
	}
	return times[n:]
}

// PeakRate is the most requests of an account to /v1/ that arrived within any one second, refused
// ones too.
func (s *Sandbox) PeakRate(account string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.traffic[account]; t != nil {
		return t.peak
	}
	return 0
}

// whose is the account that a request's credential speaks for, as far as it can be told before it
// is checked. Callers hold the lock.
func (s *Sandbox) whose(r *http.Request) string {
	key := credential(r)
	if key == s.cfg.SecretKey {
		if asked := r.Header.Get("Stripe-Account"); asked != "" {
			return asked
		}
		return s.platform.ID
	}
	if t := s.grants.find(key, "access"); t != nil {
		return t.Account
	}
	if own, _ := s.ownKey(key); own != nil {
		return own.ID
	}
	return ""
}

// rateLimited is the 429 of too many requests. The other one, lock_timeout, has no such header.
func rateLimited() answer {
	a := apiError(http.StatusTooManyRequests, "invalid_request_error", "rate_limit", "",
		"Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.")
	a.header = http.Header{"Stripe-Rate-Limited-Reason": {"global-rate"}}
	return a
}
