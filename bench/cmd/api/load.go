package main

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/vault"
)

// load stores ghosts of one merchant, sealed emails and all, in the order in which an audit would.
// One in 100,000 has the decline class soon, one in 50,000 is of another currency than the three
// common ones: what a rare filter looks for.
func load(ctx context.Context, pool *pgxpool.Pool, merchant uuid.UUID, ghosts int) error {
	classes := []string{"never", "customer", "timed", "low", "unknown"}
	now := time.Now()
	columns := []string{
		"merchant_id", "id", "stripe_customer_id", "stripe_subscription_id", "stripe_invoice_id", "email", "amount", "currency",
		"decline_class", "decline_code", "attempt_count", "first_failed_at", "last_failed_at", "rule", "status", "closed_reason", "closed_at",
	}
	row := func(i int) ([]any, error) {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, err
		}
		email := vault.NewToken("ghost_targets.email:"+id.String(), fmt.Sprintf("customer%07d@example.com", i))
		currency, class, status := []string{"usd", "eur", "gbp"}[i%3], classes[i%5], "open"
		var reason *string
		var closed *time.Time
		if i%50_000 == 49_999 {
			currency = "jpy"
		}
		if i%100_000 == 99_999 {
			class = "soon"
		}
		if i%10 < 3 {
			paid := "paid"
			status, reason, closed = "closed", &paid, &now
		}
		failed := now.Add(-time.Duration(i%500) * 24 * time.Hour)
		return []any{
			merchant, id, fmt.Sprintf("cus_%014d", i), fmt.Sprintf("sub_%024d", i), fmt.Sprintf("in_%024d", i), &email, int64(500 + i%9500), currency,
			class, "insufficient_funds", int32(i % 9), failed, failed, "an open invoice of an active subscription", status, reason, closed,
		}, nil
	}
	if _, err := pool.CopyFrom(ctx, pgx.Identifier{"ghost_targets"}, columns, pgx.CopyFromSlice(ghosts, row)); err != nil {
		return fmt.Errorf("load ghosts: %w", err)
	}
	_, err := pool.Exec(ctx, "VACUUM ANALYZE ghost_targets")
	return err
}
