package shield

import (
	"slices"
	"time"

	"phantom/debt"
)

// Facts are what was read of a subscription at Stripe. They are stored as JSON, and hold nothing
// that identifies anybody.
type Facts struct {
	Subscription string `json:"-"` // Stripe's ids
	Customer     string `json:"-"`

	Products        []string     `json:"products,omitempty"`
	Prices          []string     `json:"prices,omitempty"`
	Service         ServiceState `json:"service,omitempty"`
	EndedAt         time.Time    `json:"ended_at,omitzero"`
	PaidUntil       time.Time    `json:"paid_until,omitzero"`
	Disputed        bool         `json:"disputed,omitempty"`
	PaymentUnderWay bool         `json:"payment_under_way,omitempty"` // of all that is owed
	Debts           []Debt       `json:"debts,omitempty"`             // one of each kind and currency
	Monthly         int64        `json:"monthly,omitempty"`           // in minor units
	Currency        string       `json:"currency,omitempty"`
}

// product is the one that apps are told.
func (f Facts) product() string {
	if len(f.Products) == 0 {
		return ""
	}
	return f.Products[0]
}

// judged is what a judgement goes by. Of several debts the policy sees one: what was written off
// and what is small counts only where there is nothing else, and then the oldest. was says whether
// the debt was small when its amount was still known.
func (f Facts) judged(p Policy, was State, heldOut bool) Subscription {
	s := Subscription{
		Products: f.Products, Prices: f.Prices, Service: f.Service, EndedAt: f.EndedAt, PaidUntil: f.PaidUntil,
		Disputed: f.Disputed, PaymentUnderWay: f.PaymentUnderWay, HeldOut: heldOut,
	}
	debts := slices.Clone(f.Debts)
	ladders := laddersOf(p, s)
	for i := range debts {
		if debts[i].Forgotten && was.Reason != ByMinimum {
			debts[i].Amount = mostOwed
		}
	}
	slices.SortStableFunc(debts, func(a, b Debt) int {
		for _, less := range []func(Debt) bool{
			func(d Debt) bool { return d.Kind == debt.WrittenOff },
			func(d Debt) bool { return isSmall(ladders, d) },
			func(d Debt) bool { return d.Since.IsZero() },
		} {
			if x, y := less(a), less(b); x != y {
				if x {
					return 1
				}
				return -1
			}
		}
		return a.Since.Compare(b.Since)
	})
	if len(debts) > 0 {
		s.Debt = &debts[0]
	}
	return s
}

// mostOwed is more than any policy's minimum.
const mostOwed = 1 << 62
