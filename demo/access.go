package demo

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/shield"
)

// access is what PHANTOM has told the merchant's app: how many subscriptions have lost access for
// what is owed on them, how many of these have it again after a payment, and how many are without
// it.
type access struct{ Lost, Back, Without int }

// enforce sets a policy of access as a merchant would: with a look at the preview. Debts of before
// the demo count from its start.
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
	closed := func(l shield.Level) bool { return l == shield.Limited || l == shield.Blocked }
	without := map[string]bool{}
	back := map[string]bool{}
	for _, t := range slices.Backward(all) { // the oldest first
		switch {
		case !t.Enforced:
		case closed(t.To) && !closed(t.From) && (t.Reason == shield.ByFailure || t.Reason == shield.ByChargeback):
			without[t.Subscription] = true
		case closed(t.From) && !closed(t.To) && without[t.Subscription]:
			without[t.Subscription], back[t.Subscription] = false, true
		}
	}
	a = access{Lost: len(without), Back: len(back)}
	for _, is := range without {
		if is {
			a.Without++
		}
	}
	return a, nil
}
