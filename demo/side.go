package demo

import (
	"context"
	"fmt"
	"maps"
	"time"

	"phantom/db"
)

// side is one way to bring a merchant's money back, in a world of its own, where time passes apart
// from all others.
type side struct {
	*run
	Name, Long string // of a column, and in full
	phantom    *phantom
	learns     bool  // the oracle plays
	others     int   // merchants besides, from whom it learns
	schedule   []int // of a fixed schedule, in days after the first failure
	emails     bool  // Stripe writes to customers
	*world
	now     time.Time
	samples []sample
}

// sample is what a side stands at on a day. Amounts are in minor units by currency: those of two
// currencies are never added.
type sample struct {
	day               float64
	atRisk, recovered map[string]int64
	charges, messages int64 // Stripe's own among them
}

const (
	stride    = 3 * time.Hour    // the clocks move so far at most
	least     = 90 * time.Minute // and so far at least: a task begins by so much late
	lookEvery = 6 * time.Hour    // how often the figures are read
)

// open starts a side's world, and PHANTOM where it is PHANTOM's.
func (s *side) open(ctx context.Context) (err error) {
	if s.world, err = s.openWorld(s.others, s.emails); err != nil || s.phantom == nil {
		return err
	}
	return s.phantom.open(ctx, s.run, s.world)
}

// connect connects the merchant, and where it is PHANTOM's lets PHANTOM begin.
func (s *side) connect(ctx context.Context) error {
	s.now = s.start
	if s.phantom != nil {
		return s.phantom.connect(ctx, s)
	}
	if err := s.authorize(ctx); err != nil {
		return fmt.Errorf("[STRIPE] sandbox of %q: %w", s.Long, err)
	}
	return nil
}

// live lets the days pass, and tells after each sample.
func (s *side) live(ctx context.Context, tell func()) error {
	end := s.start.AddDate(0, 0, s.Days)
	var looked, night time.Time
	for {
		if s.phantom != nil {
			if err := s.phantom.settle(ctx, s.box); err != nil {
				return err
			}
			if s.now.Sub(night) >= 24*time.Hour {
				night = s.now
				if err := s.phantom.night(ctx, s.log); err != nil {
					return err
				}
			}
		}
		if err := s.look(ctx, s.start); err != nil {
			return err
		}
		if err := s.charge(ctx, s.schedule, s.now); err != nil {
			return err
		}
		if looked.IsZero() || s.now.Sub(looked) >= lookEvery || !s.now.Before(end) {
			looked = s.now
			if err := s.sample(ctx); err != nil {
				return err
			}
			tell()
		}
		if !s.now.Before(end) {
			return nil
		}
		if err := s.move(ctx, end); err != nil {
			return err
		}
	}
}

// move moves a side's clocks to the next moment at which something is due.
func (s *side) move(ctx context.Context, end time.Time) error {
	next := func(due time.Time) time.Time {
		next := s.now.Add(stride)
		if due.Before(next) {
			next = due
		}
		if least := s.now.Add(least); next.Before(least) {
			next = least
		}
		if next = next.Truncate(time.Second).Add(time.Second); next.After(end) {
			next = end
		}
		return next
	}
	world := func(at time.Time) error {
		if err := s.box.AdvanceClock(at.Sub(s.now)); err != nil {
			return fmt.Errorf("[STRIPE] sandbox: %w", err)
		}
		s.now = at
		return nil
	}
	if s.phantom != nil {
		return s.phantom.move(ctx, next, world)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	due := end
	if at := s.next(s.schedule); at != nil {
		due = *at
	}
	return world(next(due))
}

// sample notes what a side stands at.
func (s *side) sample(ctx context.Context) error {
	retries, emails := s.box.Own(s.account)
	now := sample{
		day: s.now.Sub(s.start).Hours() / 24, atRisk: maps.Clone(s.atRisk), recovered: maps.Clone(s.recovered),
		charges: int64(s.attempts + retries), messages: int64(emails),
	}
	if s.phantom != nil {
		booked, err := s.phantom.services.Hunts.Figures(ctx, s.phantom.merchant)
		if err != nil {
			return fmt.Errorf("[DATABASE] %s", db.Describe(err))
		}
		now.charges += booked.Costs.Charges
		now.messages += booked.Costs.Emails + booked.Costs.SMS
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.main == "" { // all sides begin with the same debts
		s.main = s.mainCurrency()
	}
	s.samples = append(s.samples, now)
	return nil
}
