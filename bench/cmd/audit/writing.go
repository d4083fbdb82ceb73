package main

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/vault"
)

const (
	written = 20_000
	batch   = 500
)

// writing measures rows a second of findings into ghost_targets: as an audit writes them, the same
// ones again unchanged, and by COPY into the same table with its indexes and checks. Addresses are
// sealed on both sides.
func writing(ctx context.Context, url string, rounds int) (upsert, copied, again []float64, err error) {
	key, err := vault.ParseKey("0000000000000000000000000000000000000000000000000000000000000001")
	if err != nil {
		return nil, nil, nil, err
	}
	ring, err := vault.NewKeyring(key)
	if err != nil {
		return nil, nil, nil, err
	}
	pool, err := db.Open(ctx, url, ring)
	if err != nil {
		return nil, nil, nil, err
	}
	defer pool.Close()
	var merchant uuid.UUID
	if err := pool.QueryRow(ctx, "SELECT id FROM merchants LIMIT 1").Scan(&merchant); err != nil {
		return nil, nil, nil, err
	}
	queries := db.New(pool)
	for range rounds {
		if _, err := pool.Exec(ctx, "TRUNCATE ghost_targets, ghost_memories"); err != nil {
			return nil, nil, nil, err
		}
		batches := findings(merchant)
		write := func() (float64, error) {
			begin := time.Now()
			for _, p := range batches {
				if _, err := queries.GhostUpsert(ctx, p); err != nil {
					return 0, err
				}
			}
			return written / time.Since(begin).Seconds(), nil
		}
		first, err := write()
		if err != nil {
			return nil, nil, nil, err
		}
		var versions, after string
		const hash = "SELECT md5(string_agg(ctid::text || xmin::text, '' ORDER BY id)) FROM ghost_targets"
		if err := pool.QueryRow(ctx, hash).Scan(&versions); err != nil {
			return nil, nil, nil, err
		}
		second, err := write()
		if err != nil {
			return nil, nil, nil, err
		}
		if err := pool.QueryRow(ctx, hash).Scan(&after); err != nil {
			return nil, nil, nil, err
		}
		if after != versions {
			return nil, nil, nil, fmt.Errorf("unchanged rows were rewritten")
		}
		if _, err := pool.Exec(ctx, "TRUNCATE ghost_targets, ghost_memories"); err != nil {
			return nil, nil, nil, err
		}
		begin := time.Now()
		for _, p := range batches {
			if err := copyIn(ctx, pool, p); err != nil {
				return nil, nil, nil, err
			}
		}
		upsert, again, copied = append(upsert, first), append(again, second), append(copied, written/time.Since(begin).Seconds())
	}
	return upsert, copied, again, nil
}

func findings(merchant uuid.UUID) (batches []db.GhostUpsertParams) {
	now := time.Now().Truncate(time.Microsecond)
	for i := range written {
		if i%batch == 0 {
			batches = append(batches, db.GhostUpsertParams{MerchantID: merchant})
		}
		p, id := &batches[len(batches)-1], uuid.Must(uuid.NewV7())
		p.Ids = append(p.Ids, id)
		p.Customers = append(p.Customers, fmt.Sprintf("cus_%014d", i))
		p.Subscriptions = append(p.Subscriptions, fmt.Sprintf("sub_1%023d", i))
		p.Invoices = append(p.Invoices, fmt.Sprintf("in_1%023d", i))
		p.Emails = append(p.Emails, vault.NewToken("ghost_targets.email:"+id.String(), fmt.Sprintf("customer.%d@example.com", i)))
		p.HasEmails = append(p.HasEmails, true)
		p.Amounts = append(p.Amounts, int64(i+1))
		p.Currencies = append(p.Currencies, "usd")
		p.Rules = append(p.Rules, "A payment for this subscription failed, the invoice is still open, and the subscription goes on.")
		p.Hiddens = append(p.Hiddens, i%3 == 0)
		p.Classes = append(p.Classes, "timed")
		p.Codes = append(p.Codes, "insufficient_funds")
		p.Attempts = append(p.Attempts, 4)
		p.Cards = append(p.Cards, make([]byte, 32))
		p.CardAttempts = append(p.CardAttempts, 2)
		p.FirstFailed = append(p.FirstFailed, now.AddDate(0, -1, 0))
		p.LastFailed = append(p.LastFailed, now)
		p.Zones = append(p.Zones, "Europe/Berlin")
		p.Owed = append(p.Owed, fmt.Appendf(nil, `[{"id":"in_1%023d","amount":%d,"created":1790000000}]`, i, i+1))
		p.Kinds = append(p.Kinds, "owed")
		p.Products = append(p.Products, "prod_00000000000001")
		p.Prices = append(p.Prices, "price_100000000000000000000001")
		p.Countries = append(p.Countries, "DE")
		p.Leavings = append(p.Leavings, false)
		p.Resubscribeds = append(p.Resubscribeds, false)
		p.Ignoreds = append(p.Ignoreds, false)
	}
	return batches
}

func copyIn(ctx context.Context, pool interface {
	CopyFrom(context.Context, pgx.Identifier, []string, pgx.CopyFromSource) (int64, error)
}, p db.GhostUpsertParams) error {
	_, err := pool.CopyFrom(ctx, pgx.Identifier{"ghost_targets"}, []string{
		"merchant_id", "id", "stripe_customer_id", "stripe_subscription_id", "stripe_invoice_id", "email", "amount", "currency", "rule",
		"hidden", "decline_class", "decline_code", "attempt_count", "card", "card_attempts", "first_failed_at", "last_failed_at", "zone",
		"invoices", "kind", "products", "prices", "country", "leaving", "resubscribed", "ignored",
	}, pgx.CopyFromSlice(len(p.Ids), func(i int) ([]any, error) {
		return []any{
			p.MerchantID, p.Ids[i], p.Customers[i], p.Subscriptions[i], p.Invoices[i], p.Emails[i], p.Amounts[i], p.Currencies[i], p.Rules[i],
			p.Hiddens[i], p.Classes[i], p.Codes[i], p.Attempts[i], p.Cards[i], p.CardAttempts[i], p.FirstFailed[i], p.LastFailed[i],
			p.Zones[i], p.Owed[i], p.Kinds[i], []string{p.Products[i]}, []string{p.Prices[i]}, p.Countries[i], p.Leavings[i],
			p.Resubscribeds[i], p.Ignoreds[i],
		}, nil
	}))
	return err
}
