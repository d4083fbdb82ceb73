package oracle

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/oracle/model"
	"phantom/zone"
)

const (
	leastBilled = 4   // invoices of a customer that are remembered, of which
	leastFailed = 2   // so many have failed
	leastGain   = .15 // in the chance to be paid
	lastDay     = 28  // that every month has
)

// BillingDate is a customer who would pay more surely if they were billed on another day of the
// month. It is a suggestion: nothing follows from it.
type BillingDate struct {
	Ghost        uuid.UUID
	Customer     string // Stripe's id
	Subscription string
	Billed       int // day of the month on which they are mostly billed
	Better       int // the best one of those that every month has
	P, PBetter   float64
	Invoices     int // that are remembered
	Failed       int // of these, at the first charge
}

// BillingDates looks at some open ghosts of a merchant, those whose ids come after one, and says
// who would pay more surely on another day. last is the one that was looked at last; zero where
// there is none left.
func (s *Service) BillingDates(ctx context.Context, merchantID, after uuid.UUID, most int) (all []BillingDate, last uuid.UUID, err error) {
	queries := db.New(s.pool)
	merchant, err := queries.OracleReadMerchant(ctx, merchantID)
	if err != nil {
		return nil, last, fmt.Errorf("read the merchant: %w", err)
	}
	now, err := queries.Now(ctx)
	if err != nil {
		return nil, last, fmt.Errorf("read the clock: %w", err)
	}
	m, _, err := s.Model(ctx, merchant.Livemode)
	if err != nil {
		return nil, last, err
	}
	rows, err := queries.GhostMemoryPage(ctx, db.GhostMemoryPageParams{MerchantID: merchantID, After: after, Most: int32(most)})
	if err != nil {
		return nil, last, fmt.Errorf("read what is remembered: %w", err)
	}
	for _, row := range rows {
		country := text(merchant.Country)
		if row.Country != nil {
			country = *row.Country
		}
		debt := model.Debt{Country: country, Zone: zone.OfGhost(row.Zone, merchant.Timezone)}
		one, is := billingDate(m, debt, MemoryOf(row.GhostID, row.Memory), now)
		if !is {
			continue
		}
		one.Ghost, one.Customer, one.Subscription = row.GhostID, row.StripeCustomerID, row.StripeSubscriptionID
		all = append(all, one)
	}
	if len(rows) == most {
		last = rows[len(rows)-1].GhostID
	}
	return all, last, nil
}

// billingDate compares the day on which a customer is billed with all others.
func billingDate(m *model.Model, debt model.Debt, memory Memory, now time.Time) (one BillingDate, is bool) {
	var days [32]int
	seen := make(map[string]bool)
	for _, c := range memory.Charges {
		failed := c.Class != ""
		if c.Late || failed && seen[c.Invoice] {
			continue // no first charge
		}
		if failed {
			seen[c.Invoice] = true
			one.Failed++
		}
		one.Invoices++
		days[time.Unix(c.At, 0).In(debt.Zone).Day()]++
	}
	if one.Invoices < leastBilled || one.Failed < leastFailed {
		return one, false
	}
	for day, n := range days {
		if n > days[one.Billed] {
			one.Billed = day
		}
	}
	month := m.MonthOfOne(debt, memory.customer(debt).MemoryFor("", debt.Zone, nil), now)
	one.Better = 1
	for day := 1; day <= lastDay; day++ {
		if month[day-1] > month[one.Better-1] {
			one.Better = day
		}
	}
	one.P, one.PBetter = month[one.Billed-1], month[one.Better-1]
	return one, one.PBetter-one.P >= leastGain
}
