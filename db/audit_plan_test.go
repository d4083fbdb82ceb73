package db_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/db/dbtest"
)

// What an audit reads at its end compares no debt with every subscription: on a large account that
// took minutes. An audit analyzes its tables before, as here.
func TestAuditListDebtsComparesLittle(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), dbtest.Pool(t)
	merchant, audit := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	const subscriptions, each, unpaid = 20_000, 8, 2_000
	for _, statement := range []string{
		`INSERT INTO audit_subscriptions (merchant_id, audit_id, id, customer, status, paused)
			SELECT $1, $2, 'sub_' || n, 'cus_' || n, 'active', false FROM generate_series(1, $3::int) AS n, (SELECT $4::int, $5::int) AS unused`,
		`INSERT INTO audit_invoices (merchant_id, audit_id, subscription, id, status, created_at, send_invoice, currency, amount_remaining,
				attempt_count, paid_out_of_band)
			SELECT $1, $2, 'sub_' || n, 'in_' || n || '_' || m, CASE WHEN m = 1 AND n <= $5 THEN 'open' ELSE 'paid' END, now(), false, 'usd',
				CASE WHEN m = 1 AND n <= $5 THEN 100 ELSE 0 END, 1, false
			FROM generate_series(1, $3::int) AS n, generate_series(1, $4::int) AS m`,
		`INSERT INTO audit_charges (merchant_id, audit_id, sequence, created_at, outcome, refunded, day_of_week, hour_of_day)
			SELECT $1, $2, 'in_' || n || '_' || m, now(), CASE WHEN m = 1 AND n <= $5 THEN 'failed' ELSE 'succeeded' END, false, 1, 1
			FROM generate_series(1, $3::int) AS n, generate_series(1, $4::int) AS m`,
		`INSERT INTO audit_intents (merchant_id, audit_id, invoice, status)
			SELECT $1, $2, 'in_' || n || '_1', 'requires_payment_method' FROM generate_series(1, $5::int) AS n, (SELECT $3::int, $4::int) AS unused`,
	} {
		if _, err := pool.Exec(ctx, statement, merchant, audit, subscriptions, each, unpaid); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if _, err := pool.Exec(ctx, "ANALYZE audit_subscriptions, audit_invoices, audit_charges, audit_intents, audit_disputes"); err != nil {
		t.Fatal(err)
	}
	plan := explainDebts(t, pool, merchant, audit)
	for _, each := range []string{"Nested Loop", "Join Filter: (s.id", "Join Filter: (n.invoice"} {
		if strings.Contains(plan, each) {
			t.Errorf("it compares each with each: %s\n%s", each, plan)
		}
	}
	found := 0
	for _, err := range db.AuditStreamDebts(ctx, pool, merchant, audit) {
		if err != nil {
			t.Fatal(err)
		}
		found++
	}
	if found != unpaid*each {
		t.Errorf("it finds %d invoices, and there are %d", found, unpaid*each)
	}
	for range db.AuditStreamDebts(ctx, pool, merchant, audit) {
		break // a reader that has enough may leave
	}
	if n := pool.Stat().AcquiredConns(); n != 0 {
		t.Errorf("%d connections are kept", n)
	}
}

// explainDebts is the plan of AuditListDebts as db.AuditStreamDebts has it run.
func explainDebts(t *testing.T, pool *pgxpool.Pool, merchant, audit uuid.UUID) string {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), db.ByHash); err != nil {
		t.Fatal(err)
	}
	rows, err := tx.Query(t.Context(), "EXPLAIN "+db.AuditListDebtsQuery, merchant, audit)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}
