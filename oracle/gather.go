package oracle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/decline"
	"phantom/money"
	"phantom/oracle/model"
	"phantom/zone"
)

// Months is for how many months of charges cells are kept.
const Months = 24

// Gather takes from an audit of a merchant's whole history what the oracle learns from: cells of
// charges by month, and what customers tell about paydays. It replaces what an earlier history has
// told, in one transaction, and may be repeated. Charges of hunts are left out: they were told of
// when they were settled. Customers who owe something are remembered, each for themselves. hash is
// the merchant's keyed one. It holds a connection while it uses another.
func Gather(ctx context.Context, pool *pgxpool.Pool, merchant db.Merchant, auditID uuid.UUID, until time.Time,
	hash func(subject, value string) []byte,
) error {
	g := newGathering(merchant, until, hash)
	g.keep = func() error { return g.keepMemories(ctx, pool) }
	if err := g.readOurs(ctx, db.New(pool)); err != nil {
		return err
	}
	err := db.New(pool).OracleHistoryEach(ctx, db.OracleHistoryParams{MerchantID: merchant.ID, AuditID: auditID, Before: until}, g.add)
	if err != nil {
		return fmt.Errorf("read charges for the oracle: %w", err)
	}
	g.end()
	if g.flush(); g.failed != nil {
		return g.failed
	}
	cells, paydays := g.rows()
	err = db.InTx(ctx, pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		// Who has left meanwhile has told nothing, and who leaves now waits for this.
		if _, err := queries.OracleLockMerchant(ctx, merchant.ID); err != nil {
			if errors.Is(err, pgx.ErrNoRows) {
				return nil
			}
			return err
		}
		if err := queries.OracleDropCells(ctx, db.OracleDropCellsParams{MerchantID: merchant.ID, Livemode: merchant.Livemode}); err != nil {
			return err
		}
		if err := queries.OracleDropPaydays(ctx, db.OracleDropPaydaysParams{MerchantID: merchant.ID, Livemode: merchant.Livemode}); err != nil {
			return err
		}
		if _, err := queries.OracleAddCells(ctx, cells); err != nil {
			return err
		}
		_, err := queries.OracleAddPaydays(ctx, paydays)
		return err
	})
	if err != nil {
		return fmt.Errorf("store cells for the oracle: %w", err)
	}
	return nil
}

// place is where a count lies.
type place struct {
	month time.Time
	cell  string
}

type gathering struct {
	merchant db.Merchant
	from     time.Time
	cells    map[place]counts
	paydays  map[string]*model.Paid // by country
	// of the customer whose charges are being read: a customer's country and zone are told by their
	// failures alone, so these are kept until all are read
	customer string
	charges  []db.OracleHistoryRow

	until    time.Time
	hash     func(subject, value string) []byte
	ours     map[string][]time.Time // when charges of hunts have left, by the hash of the customer
	memories map[string]Memory      // by customer, to be kept
	keep     func() error           // keeps these
	failed   error                  // of keep
}

// atOnce is of how many customers memories are kept at a time.
const atOnce = 500

func newGathering(merchant db.Merchant, until time.Time, hash func(subject, value string) []byte) *gathering {
	return &gathering{
		merchant: merchant, from: model.MonthOf(until).AddDate(0, -Months, 0),
		cells: make(map[place]counts), paydays: make(map[string]*model.Paid),
		until: until, hash: hash, ours: make(map[string][]time.Time), memories: make(map[string]Memory),
	}
}

// readOurs reads when charges of hunts have left.
func (g *gathering) readOurs(ctx context.Context, queries *db.Queries) error {
	rows, err := queries.OracleListOurs(ctx, db.OracleListOursParams{MerchantID: g.merchant.ID, Livemode: g.merchant.Livemode, Since: g.from})
	if err != nil {
		return fmt.Errorf("list charges of hunts: %w", err)
	}
	for _, row := range rows {
		g.ours[string(row.Customer)] = append(g.ours[string(row.Customer)], row.SentAt)
	}
	return nil
}

// isOurs says whether a charge of the customer at hand was a hunt's.
func (g *gathering) isOurs(at time.Time) bool {
	return len(g.ours) > 0 && slices.ContainsFunc(g.ours[string(g.hash("customer", g.customer))], func(sent time.Time) bool {
		return at.Sub(sent).Abs() < sameCharge
	})
}

// remember keeps what is remembered of the customer whose charges have been read.
func (g *gathering) remember() {
	var seen []Seen
	for _, row := range g.charges {
		seen = append(seen, Seen{
			At: row.CreatedAt, Invoice: row.Invoice, Class: decline.Class(text(row.DeclineClass)), Code: text(row.DeclineCode), Brand: text(row.Brand), Funding: text(row.Funding),
		})
	}
	g.memories[g.customer] = Remember(seen, g.until)
	if len(g.memories) >= atOnce {
		g.flush()
	}
}

// keepMemories keeps what is remembered of customers with all their open ghosts.
func (g *gathering) keepMemories(ctx context.Context, pool *pgxpool.Pool) error {
	ghosts, err := db.New(pool).GhostListOpenOfCustomers(ctx, db.GhostListOpenOfCustomersParams{
		MerchantID: g.merchant.ID, Customers: slices.Sorted(maps.Keys(g.memories)),
	})
	if err != nil {
		return fmt.Errorf("list ghosts to remember: %w", err)
	}
	of := make(map[uuid.UUID]Memory, len(ghosts))
	for _, ghost := range ghosts {
		of[ghost.ID] = g.memories[ghost.StripeCustomerID]
	}
	return KeepMemories(ctx, pool, g.merchant.ID, of)
}

func (g *gathering) flush() {
	if g.failed == nil {
		g.failed = g.keep()
	}
	clear(g.memories)
}

func (g *gathering) add(row db.OracleHistoryRow) {
	if row.Customer == nil {
		return
	}
	if *row.Customer != g.customer {
		g.end()
		g.customer = *row.Customer
	}
	g.charges = append(g.charges, row)
}

// end goes through the charges of one customer.
func (g *gathering) end() {
	if len(g.charges) == 0 {
		return
	}
	debt := model.Debt{Merchant: g.merchant.ID.String(), Category: text(g.merchant.BusinessCategory), Country: text(g.merchant.Country)}
	zoneName := text(g.merchant.Timezone)
	for _, row := range g.charges {
		if row.Country != nil {
			debt.Country = *row.Country
		}
		if row.Zone != nil {
			zoneName = *row.Zone
		}
	}
	if debt.Zone = zone.Named(zoneName); len(zone.InCountries(debt.Country)) == 0 {
		debt.Country = ""
	}
	who, attempts := model.NewCustomer(), make(map[string]int)
	hard := make(map[string]bool) // whose last failure leaves nothing to time
	for _, row := range g.charges {
		attempts[row.Invoice]++
		c := model.Charge{
			Debt: debt, Customer: g.customer, Invoice: row.Invoice, Attempt: attempts[row.Invoice], At: row.CreatedAt, OK: row.Outcome == "succeeded",
			Code: model.Word(text(row.DeclineCode)),
		}
		c.Brand, c.Funding, c.Decimals = model.Word(text(row.Brand)), model.Word(text(row.Funding)), money.Decimals(text(row.Currency))
		if row.Amount != nil {
			c.Amount = *row.Amount
		}
		was := hard[row.Invoice]
		if row.DeclineClass != nil {
			c.Class = model.ClassOf(*row.DeclineClass)
			if hard[row.Invoice] = row.DeclineClass.IsHard(); hard[row.Invoice] {
				continue
			}
		}
		if was { // another card, or another mind: it says nothing about when
			continue
		}
		count, told := who.Tell(c)
		if !told || c.At.Before(g.from) || g.isOurs(c.At) {
			continue
		}
		at := place{model.MonthOf(c.At), count.Cell.Text()}
		n := g.cells[at]
		g.cells[at] = counts{n.attempts + int64(count.Attempts), n.successes + int64(count.Successes)}
	}
	if g.paydays[debt.Country] == nil {
		g.paydays[debt.Country] = &model.Paid{Merchant: debt.Merchant, Country: debt.Country}
	}
	g.paydays[debt.Country].Add(who.Memory())
	g.remember()
	g.charges = g.charges[:0]
}

// rows are what is stored, in order.
func (g *gathering) rows() (cells []db.OracleAddCellsParams, paydays []db.OracleAddPaydaysParams) {
	for at, n := range g.cells {
		cells = append(cells, db.OracleAddCellsParams{
			MerchantID: g.merchant.ID, Livemode: g.merchant.Livemode, Month: pgtype.Date{Time: at.month, Valid: true}, Cell: at.cell,
			Attempts: int32(n.attempts), Successes: int32(n.successes),
		})
	}
	for _, p := range model.Pooled(g.paydays) {
		paydays = append(paydays, db.OracleAddPaydaysParams{
			MerchantID: g.merchant.ID, Livemode: g.merchant.Livemode, Country: p.Country, Customers: int32(p.Customers), Habits: p.Habits,
		})
	}
	return cells, paydays
}

func text[T ~string](t *T) string {
	if t == nil {
		return ""
	}
	return string(*t)
}
