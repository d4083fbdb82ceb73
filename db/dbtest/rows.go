package dbtest

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Exec runs a statement.
func Exec(t testing.TB, pool *pgxpool.Pool, statement string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// Count is the number that a query returns.
func Count(t testing.TB, pool *pgxpool.Pool, query string, args ...any) (n int64) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// AddGhost writes a ghost of sub_<name>, in_<name> and the given customer that was discovered so
// long ago.
func AddGhost(t testing.TB, pool *pgxpool.Pool, merchant uuid.UUID, customer, name string, age time.Duration) uuid.UUID {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	Exec(t, pool, `INSERT INTO ghost_targets (merchant_id, id, stripe_customer_id, stripe_subscription_id, stripe_invoice_id, amount, currency, attempt_count, rule, discovered_at)
		VALUES ($1, $2, $3, $4, $5, 1, 'usd', 3, 'past_due', phantom_now() - $6::interval)`, merchant, id, customer, "sub_"+name, "in_"+name, age)
	return id
}
