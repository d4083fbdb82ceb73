package sandbox

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// now is the sandbox's clock: the one it was given, and what a test or a demo has added to it.
func (s *Sandbox) now() time.Time { return s.cfg.Now().Add(time.Duration(s.ahead.Load())) }

// maxLeap is the most that the clock moves on at once. Events of the world are 30 days old at most,
// so a longer leap would lose those of its beginning.
const maxLeap = 24 * time.Hour

// AdvanceClock moves the sandbox's own clock on and plays what falls due on the way, a day at a
// time. It fails if d is negative or longer than ten years.
func (s *Sandbox) AdvanceClock(d time.Duration) error {
	if d < 0 || d > 10*365*24*time.Hour {
		return errors.New("the clock moves forward, by ten years at most")
	}
	for d > 0 {
		leap := min(d, maxLeap)
		s.ahead.Add(int64(leap))
		s.Advance()
		d -= leap
	}
	return nil
}

// PassTime lets what falls due happen, and its events be sent, also while nobody asks. It returns
// when ctx ends.
func (s *Sandbox) PassTime(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.Advance()
		}
	}
}

// Server serves the sandbox, with limits of time.
func (s *Sandbox) Server() *http.Server {
	return &http.Server{
		Handler: s, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: time.Minute, IdleTimeout: time.Minute,
	}
}
