package shield

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/trail"
)

// HoldReport is a time in which the breaker is or was open: nobody is lowered to limited or blocked
// until a person has said so.
type HoldReport struct {
	ID       uuid.UUID  `json:"id"`
	OpenedAt time.Time  `json:"opened_at"`
	ClosedAt *time.Time `json:"closed_at"`
	Outcome  *string    `json:"outcome"` // released or discarded
	// those who would have been lowered within 24 hours when it opened, and all customers
	Customers int64   `json:"customers"`
	Of        int64   `json:"of"`
	Revenue   Revenue `json:"revenue"` // a month's, of those who would have been lowered
	// that are held now
	Subscriptions int64 `json:"subscriptions"`
}

// The outcomes of a hold.
const (
	released  = "released"
	discarded = "discarded"
)

// guard holds rulings that take access where too many do so at once.
func (s *Service) guard(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, rulings []ruling, b bench) error {
	var lowering []*ruling
	for i := range rulings {
		if rulings[i].lowers {
			lowering = append(lowering, &rulings[i])
		}
	}
	if len(lowering) == 0 || b.policy.Mode != Enforce {
		return nil
	}
	queries := db.New(tx)
	count, err := countLowered(ctx, queries, merchantID) // from here on nobody else counts
	if err != nil {
		return err
	}
	open, err := queries.ShieldHeld(ctx, merchantID)
	if err != nil {
		return fmt.Errorf("look for a hold: %w", err)
	}
	for _, r := range lowering {
		count.add(r.after.Subscription, r.after.Customer, r.facts.Currency, r.facts.Monthly)
		if !open && !b.policy.Breaker.Trips(count.Lowered) {
			continue
		}
		open = true
		r.hold()
	}
	if !open {
		return nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make id: %w", err)
	}
	held, err := queries.ShieldHoldOpen(ctx, db.ShieldHoldOpenParams{
		MerchantID: merchantID, ID: id, Customers: int64(count.Customers), OfCustomers: int64(count.Of), Revenue: mustJSON(count.Revenue),
	})
	if err != nil {
		return fmt.Errorf("open the breaker: %w", err)
	}
	if held == id {
		s.log.Warn("[WORKER] too many customers would lose access within 24 hours: nobody loses more until a person says so, see phantom shield status",
			"account", b.context.Account, "hold", id, "customers", count.Customers, "of", count.Of)
		return s.emit(ctx, tx, merchantID, "access.held", struct {
			Hold      uuid.UUID `json:"hold"`
			Customers int       `json:"customers"`
			Of        int       `json:"of"`
		}{id, count.Customers, count.Of})
	}
	return nil
}

// counting is who has been lowered within 24 hours.
type counting struct {
	Lowered
	customers, subscriptions map[string]bool
}

func (c *counting) add(subscription, customer, currency string, monthly int64) {
	if !c.customers[customer] {
		c.customers[customer] = true
		c.Customers++
	}
	if monthly > 0 && !c.subscriptions[subscription] {
		c.subscriptions[subscription] = true
		c.Revenue[currency] += monthly
	}
}

// countLowered counts them under a lock, and all customers once an hour.
func countLowered(ctx context.Context, queries *db.Queries, merchantID uuid.UUID) (*counting, error) {
	counts, err := queries.ShieldLockCounts(ctx, merchantID)
	if err != nil {
		return nil, fmt.Errorf("lock the counts: %w", err)
	}
	c := &counting{Lowered: Lowered{Of: int(counts.Customers), Revenue: Revenue{}, OfRevenue: Revenue{}}, customers: map[string]bool{}, subscriptions: map[string]bool{}}
	if err := json.Unmarshal(counts.Revenue, &c.OfRevenue); err != nil {
		return nil, fmt.Errorf("read the revenue: %w", err)
	}
	if counts.Outdated {
		all, err := queries.ShieldCountAll(ctx, merchantID)
		if err != nil {
			return nil, fmt.Errorf("count customers: %w", err)
		}
		c.Of, c.OfRevenue = 0, Revenue{}
		for _, row := range all {
			c.Of += int(row.Customers)
			c.OfRevenue[row.Currency] += row.Monthly
		}
		if err := queries.ShieldSetCounts(ctx, db.ShieldSetCountsParams{
			MerchantID: merchantID, Customers: int64(c.Of), Revenue: mustJSON(c.OfRevenue),
		}); err != nil {
			return nil, fmt.Errorf("store the counts: %w", err)
		}
	}
	lowered, err := queries.ShieldCountLowered(ctx, merchantID)
	if err != nil {
		return nil, fmt.Errorf("count who was lowered: %w", err)
	}
	for _, row := range lowered {
		c.add(row.Subscription, row.Customer, row.Currency, row.Monthly)
	}
	return c, nil
}

// Holds returns a page of a merchant's holds, the newest first, and the id behind which the next
// page begins, which is zero on the last.
func (s *Service) Holds(ctx context.Context, merchantID, before uuid.UUID, limit int) (holds []HoldReport, next uuid.UUID, err error) {
	rows, err := s.queries.ShieldHoldList(ctx, db.ShieldHoldListParams{MerchantID: merchantID, BeforeID: cmp.Or(before, uuid.Max), Page: int32(limit) + 1})
	if err != nil {
		return nil, uuid.Nil, fmt.Errorf("list holds: %w", err)
	}
	rows, next = onePage(rows, limit, func(row db.ShieldHoldListRow) uuid.UUID { return row.ID })
	holds = make([]HoldReport, 0, len(rows))
	for _, row := range rows {
		h := HoldReport{
			ID: row.ID, OpenedAt: row.OpenedAt.UTC(), ClosedAt: utc(row.ClosedAt), Outcome: row.Outcome, Customers: row.Customers,
			Of: row.OfCustomers, Revenue: Revenue{}, Subscriptions: row.Subscriptions,
		}
		if err := json.Unmarshal(row.Revenue, &h.Revenue); err != nil {
			return nil, uuid.Nil, fmt.Errorf("read a hold: %w", err)
		}
		holds = append(holds, h)
	}
	return holds, next, nil
}

// Release closes a hold: who is held goes where the policy leads. Discard closes it, too: who is
// held keeps what they have for as long as they owe this debt. Both return the revision at which
// that is so. A hold that is not open is [ErrNotFound].
func (s *Service) Release(ctx context.Context, merchantID, id uuid.UUID) (revision string, err error) {
	return s.closeHold(ctx, merchantID, id, released)
}

// Discard is described at [Service.Release].
func (s *Service) Discard(ctx context.Context, merchantID, id uuid.UUID) (revision string, err error) {
	return s.closeHold(ctx, merchantID, id, discarded)
}

func (s *Service) closeHold(ctx context.Context, merchantID, id uuid.UUID, outcome string) (revision string, err error) {
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		closed, err := queries.ShieldHoldClose(ctx, db.ShieldHoldCloseParams{MerchantID: merchantID, ID: id, Outcome: &outcome})
		if err != nil {
			return fmt.Errorf("close a hold: %w", err)
		}
		if closed == 0 {
			return ErrNotFound
		}
		for after := ""; ; {
			rows, err := queries.ShieldListHeld(ctx, db.ShieldListHeldParams{MerchantID: merchantID, After: after, Page: judgeBatch})
			if err != nil {
				return fmt.Errorf("list who is held: %w", err)
			}
			for i := range rows {
				rows[i].Spared, rows[i].Passed = outcome == discarded, outcome == released
			}
			if err := s.judge(ctx, tx, merchantID, rows, bench{}); err != nil {
				return err
			}
			if len(rows) < judgeBatch {
				break
			}
			after = rows[len(rows)-1].Subscription
		}
		if err := trail.Record(ctx, tx, trail.Change{Merchant: merchantID, Action: "shield.hold." + outcome, Object: id.String()}); err != nil {
			return err
		}
		if err := s.emit(ctx, tx, merchantID, "access.released", struct {
			Hold    uuid.UUID `json:"hold"`
			Outcome string    `json:"outcome"`
		}{id, outcome}); err != nil {
			return err
		}
		revision, err = revisionIn(ctx, tx, merchantID)
		return err
	})
	return revision, err
}
