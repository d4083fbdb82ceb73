package recovery

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/forecast"
	"phantom/gate"
	"phantom/oracle"
	"phantom/playbook"
	"phantom/state"
	"phantom/zone"
)

const (
	dryRunTime = 7 * 24 * time.Hour
	mostListed = 1000            // things that a dry run names
	mostLooked = 10 * startBatch // ghosts that it looks at: it keeps their hunts in memory
)

// DryRun is what a playbook would do in the first seven days. Its JSON is part of the HTTP API.
type DryRun struct {
	Data []forecast.Planned `json:"data"` // the first thousand, in order of time
	Started
	Truncated bool  `json:"truncated"` // there is more than Data names
	LookedAt  int   `json:"looked_at"` // open ghosts, found first: all else is about them
	Ghosts    int64 `json:"ghosts"`    // open ones
	// of these hunts, those of each segment that takes any
	Segments map[string]int `json:"segments"`
	Auto     Auto           `json:"auto"` // what would begin by itself in mode recover
}

// DryRun says what [Service.Start] would begin for all open ghosts with this playbook, and what
// those hunts would do in their first seven days if every charge were declined for the same reason
// as the last one. It stores nothing and asks Stripe nothing: what only Stripe knows at that moment
// (a payment meanwhile, a retry of Smart Retries, a dispute, a customer's number) is not in it. In
// mode observe it is what recover would do. It looks at the first [mostLooked] ghosts, closed ones
// among them, and says how many of the open ones that were.
func (s *Service) DryRun(ctx context.Context, merchantID uuid.UUID, p playbook.Playbook) (DryRun, error) {
	run := DryRun{Data: []forecast.Planned{}, Segments: map[string]int{}, Auto: Auto{Amounts: map[string]int64{}}}
	if err := s.messages.CheckSteps(ctx, merchantID, p); err != nil {
		return run, err
	}
	ghosts, err := s.queries.HuntCountOpen(ctx, merchantID)
	if err != nil {
		return run, fmt.Errorf("count ghosts: %w", err)
	}
	if run.Ghosts = ghosts; p.Mode == state.ModeOff {
		return run, nil
	}
	base, err := s.lookAhead(ctx, merchantID, p)
	if err != nil {
		return run, err
	}
	if p.Auto {
		auto, err := readAuto(ctx, s.pool, merchantID, p, mostLooked)
		if err != nil {
			return run, err
		}
		run.Auto = *auto
	}
	sim := forecast.NewSimulation(s.advisor)
	if err := sim.Remember(ctx, s.queries, merchantID); err != nil {
		return run, err
	}
	rows, whole := 0, false
	for page, err := range targets(ctx, s.queries, merchantID, p.Mode) {
		if err != nil {
			return run, err
		}
		ids := make([]uuid.UUID, len(page.ghosts))
		for i, g := range page.ghosts {
			ids[i] = g.ID
		}
		memories, err := oracle.Memories(ctx, s.queries, merchantID, ids)
		if err != nil {
			return run, err
		}
		for _, g := range page.ghosts {
			base.Memory = memories[g.ID]
			if err := run.begin(ctx, sim, base, g); err != nil {
				return run, err
			}
		}
		run.LookedAt += page.open
		whole = page.last
		if rows += page.rows; rows == mostLooked {
			break
		}
	}
	run.Truncated = !whole && int64(run.LookedAt) < run.Ghosts
	err = sim.Run(ctx, base.Began.Add(dryRunTime), func(p forecast.Planned) {
		if len(run.Data) == mostListed {
			run.Truncated = true
			return
		}
		p.At = p.At.UTC()
		run.Data = append(run.Data, p)
	})
	return run, err
}

// begin decides as [Service.begin] does whether a ghost is hunted.
func (run *DryRun) begin(ctx context.Context, sim *forecast.Simulation, l forecast.Forecast, g db.GhostTarget) error {
	var segment string
	l.Playbook, segment = l.Playbook.For(g)
	if !gate.MayHunt(l.Playbook, g, false, l.Began) {
		run.Skipped++
		return nil
	}
	customer := l.Hash("customer", g.StripeCustomerID)
	l.Zone = zone.NamedOr(g.Zone, l.Zone)
	h := forecast.NewHunt(g, string(customer), l, l.Began, false)
	if sim.Letters.Unwanted(h) { // before it is decided who is held out: both groups lack them
		run.Skipped++
		return nil
	}
	run.Hunts++
	if h.Segment = segment; segment != "" {
		run.Segments[segment]++
	}
	if heldOut(customer, l.Playbook.HoldoutPercent) {
		run.HeldOut++
		return nil
	}
	return sim.Begin(ctx, h)
}

// lookAhead is the forecast of a hunt that begins now, without its invoice, in its merchant's zone.
func (s *Service) lookAhead(ctx context.Context, merchantID uuid.UUID, p playbook.Playbook) (l forecast.Forecast, err error) {
	merchant, err := s.queries.MerchantGet(ctx, merchantID)
	if err != nil {
		return l, fmt.Errorf("read merchant: %w", err)
	}
	l = forecast.Forecast{Playbook: p, Zone: zone.OfGhost(nil, merchant.Timezone), Merchant: merchant.ID, Livemode: merchant.Livemode}
	l.Category, l.Country = placeOf(merchant)
	if l.Hash, err = s.connect.Hasher(ctx, merchantID); err != nil {
		return l, err
	}
	if l.Began, err = s.queries.Now(ctx); err != nil {
		return l, fmt.Errorf("read clock: %w", err)
	}
	l.End = l.Began.Add(time.Duration(p.WindowDays) * 24 * time.Hour)
	return l, nil
}
