package demo

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/shield"
)

// access is what PHANTOM has told the merchant's app about subscriptions.
type access struct {
	Lost   int // that have lost access for what is owed on them: parts of it, or all
	Back   int // of these, those that have it again because they paid
	closed []closing
}

// closing is how many subscriptions are without access from a moment on, for what is owed on them.
type closing struct {
	at      time.Time
	without int
}

// enforce sets a policy of access as a merchant would: with a look at the preview. Debts from
// before the demo count from its start.
func (p *phantom) enforce(ctx context.Context, d *run) error {
	policy := shield.Default()
	policy.Mode, policy.EffectiveFrom = shield.Enforce, shield.Moment{Time: d.start}
	preview, err := p.services.Shield.Preview(ctx, p.merchant, policy)
	if err != nil {
		return fmt.Errorf("[SERVER] preview of the policy of access: %w", err)
	}
	if _, _, err := p.services.Shield.SetPolicy(ctx, p.merchant, policy, preview.Token); err != nil {
		return fmt.Errorf("[SERVER] set the policy of access: %w", err)
	}
	return nil
}

// release is the person who looks once a day at what the breaker holds, and lets it through.
func (p *phantom) release(ctx context.Context) error {
	holds, _, err := p.services.Shield.Holds(ctx, p.merchant, uuid.Nil, 100)
	if err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	for _, hold := range holds {
		if hold.ClosedAt == nil {
			if _, err := p.services.Shield.Release(ctx, p.merchant, hold.ID); err != nil {
				return fmt.Errorf("[SERVER] release what the breaker holds: %w", err)
			}
		}
	}
	return nil
}

// readAccess reads what has become of everybody.
func (p *phantom) readAccess(ctx context.Context) (a access, err error) {
	var all []shield.Transition
	for before := uuid.Nil; ; {
		page, next, err := p.services.Shield.Transitions(ctx, p.merchant, "", before, 1000)
		if err != nil {
			return a, fmt.Errorf("[DATABASE] %s", db.Describe(err))
		}
		all = append(all, page...)
		if before = next; next == uuid.Nil {
			break
		}
	}
	return accessOf(all), nil
}

// accessOf reads transitions, the newest first.
func accessOf(all []shield.Transition) (a access) {
	closed := func(l shield.Level) bool { return l == shield.Limited || l == shield.Blocked }
	without, back, now := map[string]bool{}, map[string]bool{}, 0
	for _, t := range slices.Backward(all) {
		owed := t.Reason == shield.ByFailure || t.Reason == shield.ByChargeback
		switch {
		case !t.Enforced:
			continue
		case closed(t.To) && owed && !without[t.Subscription]:
			without[t.Subscription] = true
			delete(back, t.Subscription)
			now++
		case !closed(t.To) && without[t.Subscription]:
			without[t.Subscription] = false
			if t.Reason == shield.ByPayment || t.Reason == shield.ByAnnouncement {
				back[t.Subscription] = true
			}
			now--
		default:
			continue
		}
		a.closed = append(a.closed, closing{t.At, now})
	}
	a.Lost, a.Back = len(without), len(back)
	return a
}
