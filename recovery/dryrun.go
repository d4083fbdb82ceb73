package recovery

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"phantom/db"
)

const (
	dryRunTime = 7 * 24 * time.Hour
	mostListed = 1000 // things that a dry run names
)

// DryRun is what a playbook would do in the first seven days. Its JSON is part of the HTTP API.
type DryRun struct {
	Data []Planned `json:"data"` // the first thousand, in order of time
	Started
	Truncated bool           `json:"truncated"` // there is more than Data names
	Segments  map[string]int `json:"segments"`  // of these hunts, those of each segment that takes any
	Auto      Auto           `json:"auto"`      // what would begin by itself in mode recover
}

// DryRun says what [Service.Start] would begin for all open ghosts with this playbook, and what those hunts would do in their first
// seven days if every charge were declined for the same reason as the last one. It stores nothing and asks Stripe nothing: what only Stripe
// knows at that moment (a payment meanwhile, a retry of Smart Retries, a dispute, a customer's number) is not in it. In mode observe it is
// what recover would do.
func (s *Service) DryRun(ctx context.Context, merchantID uuid.UUID, p Playbook) (DryRun, error) {
	run := DryRun{Data: []Planned{}, Segments: map[string]int{}, Auto: Auto{Amounts: map[string]int64{}}}
	if err := s.checkSteps(ctx, merchantID, p); err != nil {
		return run, err
	}
	if p.Mode == ModeOff {
		return run, nil
	}
	base, err := s.lookAhead(ctx, merchantID, p)
	if err != nil {
		return run, err
	}
	if p.Auto {
		auto, err := readAuto(ctx, s.pool, merchantID, p)
		if err != nil {
			return run, err
		}
		run.Auto = *auto
	}
	sim := newSimulation(s.advisor)
	if err := s.remember(ctx, merchantID, sim); err != nil {
		return run, err
	}
	after := uuid.Nil
	for {
		list, err := s.queries.HuntListTargets(ctx, db.HuntListTargetsParams{MerchantID: merchantID, Mode: p.Mode, After: after, Most: startBatch})
		if err != nil {
			return run, fmt.Errorf("list ghosts: %w", err)
		}
		if len(list) == 0 {
			break
		}
		for _, g := range list {
			if err := run.begin(ctx, sim, base, g); err != nil {
				return run, err
			}
		}
		after = list[len(list)-1].ID
	}
	err = sim.run(ctx, base.began.Add(dryRunTime), func(p Planned) {
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
func (run *DryRun) begin(ctx context.Context, sim *simulation, l outlook, g db.GhostTarget) error {
	var segment string
	l.playbook, segment = l.playbook.For(g)
	if !l.playbook.hunts(g, false, l.began) {
		run.Skipped++
		return nil
	}
	customer := l.hash("customer", g.StripeCustomerID)
	l.zone = zoneNamed(g.Zone, l.zone)
	h, err := imagine(g, string(customer), l, l.began, false)
	if err != nil {
		return err
	}
	if sim.letters.unwanted(h) { // before it is decided who is held out: both groups lack them
		run.Skipped++
		return nil
	}
	run.Hunts++
	if h.segment = segment; segment != "" {
		run.Segments[segment]++
	}
	if heldOut(customer, l.playbook.HoldoutPercent) {
		run.HeldOut++
		return nil
	}
	return sim.begin(ctx, h)
}

// lookAhead is the outlook of a hunt that begins now, without its invoice, in its merchant's zone.
func (s *Service) lookAhead(ctx context.Context, merchantID uuid.UUID, p Playbook) (l outlook, err error) {
	merchant, err := s.queries.MerchantGet(ctx, merchantID)
	if err != nil {
		return l, fmt.Errorf("read merchant: %w", err)
	}
	l = outlook{playbook: p, zone: zoneOf(nil, merchant.Timezone), category: category(merchant), livemode: merchant.Livemode}
	if l.hash, err = s.connect.Hasher(ctx, merchantID); err != nil {
		return l, err
	}
	if l.began, err = s.queries.Now(ctx); err != nil {
		return l, fmt.Errorf("read clock: %w", err)
	}
	l.end = l.began.Add(time.Duration(p.WindowDays) * 24 * time.Hour)
	return l, nil
}

// remember tells a simulation of the charges and messages that count against budgets and caps already, and of who wants none.
func (s *Service) remember(ctx context.Context, merchantID uuid.UUID, sim *simulation) error {
	sent, err := s.queries.HuntReadSent(ctx, merchantID)
	if err != nil {
		return fmt.Errorf("list charges: %w", err)
	}
	for _, a := range sent {
		sim.asked[a.Currency] = append(sim.asked[a.Currency], asked{a.SentAt, a.Amount})
	}
	tried, err := s.queries.CardAttemptCount(ctx, merchantID)
	if err != nil {
		return fmt.Errorf("count attempts on cards: %w", err)
	}
	for _, c := range tried {
		sim.last[string(c.Card)], sim.cards[string(c.Card)] = c.Last, int(c.Attempts)
	}
	return sim.letters.load(ctx, s.queries, merchantID)
}
