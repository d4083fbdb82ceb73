package bench

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/db/local"
	"phantom/vault"
)

// merchants without the vault: the same columns hold plain text, those made from the sealed ones
// are made from it, nothing checks that a value is sealed or its key known, and the two indexes on
// key id and IV lie on two text columns too. All that sealing costs is in the ratio.
const plainTable = `
CREATE TABLE merchants_plain (
    id uuid PRIMARY KEY,
    stripe_user_id text NOT NULL,
    stripe_connect_id text GENERATED ALWAYS AS (stripe_user_id) STORED,
    access_token text,
    refresh_token text,
    access_token_key_id text,
    refresh_token_key_id text,
    encrypted_token text GENERATED ALWAYS AS (access_token) STORED,
    iv text GENERATED ALWAYS AS (left(access_token, 32)) STORED,
    tag text GENERATED ALWAYS AS (right(access_token, 32)) STORED,
    encrypted_refresh_token text GENERATED ALWAYS AS (refresh_token) STORED,
    refresh_iv text GENERATED ALWAYS AS (left(refresh_token, 32)) STORED,
    refresh_tag text GENERATED ALWAYS AS (right(refresh_token, 32)) STORED,
    scope text NOT NULL,
    livemode boolean NOT NULL,
    business_category text,
    country text,
    default_currency text,
    timezone text,
    connected_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    disconnected_at timestamptz,
    CONSTRAINT merchants_plain_stripe_user_id_key UNIQUE (stripe_user_id),
    CONSTRAINT merchants_plain_stripe_user_id_account CHECK (stripe_user_id ~ '^acct_[A-Za-z0-9]{1,64}$'),
    CONSTRAINT merchants_plain_access_token_present CHECK (access_token IS NOT NULL OR disconnected_at IS NOT NULL),
    CONSTRAINT merchants_plain_scope_known CHECK (scope IN ('read_write', 'read_only')),
    CONSTRAINT merchants_plain_business_category_known CHECK (business_category IN (
        'software', 'media', 'education', 'health', 'professional_services', 'retail', 'food', 'travel', 'finance',
        'nonprofit', 'other')),
    CONSTRAINT merchants_plain_country_iso CHECK (country ~ '^[A-Z]{2}$'),
    CONSTRAINT merchants_plain_default_currency_iso CHECK (default_currency ~ '^[a-z]{3}$'),
    CONSTRAINT merchants_plain_timezone_name CHECK (timezone ~ '^[A-Za-z0-9_+/-]{1,64}$'),
    CONSTRAINT merchants_plain_times_finite
        CHECK (isfinite(connected_at) AND isfinite(updated_at) AND isfinite(coalesce(disconnected_at, connected_at)))
);
CREATE UNIQUE INDEX merchants_plain_access_token_key ON merchants_plain (scope, access_token);
CREATE UNIQUE INDEX merchants_plain_refresh_token_key ON merchants_plain (scope, refresh_token);
CREATE INDEX ON merchants_plain (stripe_connect_id)`

// The statements of sql/queries/merchant.sql on that table.
const (
	plainCreate = `
INSERT INTO merchants_plain (id, stripe_user_id, access_token, refresh_token, scope, livemode)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (stripe_user_id) DO UPDATE SET
    access_token = excluded.access_token,
    refresh_token = excluded.refresh_token,
    scope = excluded.scope,
    livemode = excluded.livemode,
    connected_at = clock_timestamp(),
    updated_at = clock_timestamp(),
    disconnected_at = NULL
RETURNING id`
	plainGet = `
SELECT id, stripe_user_id, stripe_connect_id, access_token, refresh_token, access_token_key_id, refresh_token_key_id,
    encrypted_token, iv, tag, encrypted_refresh_token, refresh_iv, refresh_tag, scope, livemode, business_category, country,
    default_currency, timezone, connected_at, updated_at, disconnected_at
FROM merchants_plain WHERE id = $1`
)

// plainMerchant is db.Merchant with text for tokens.
type plainMerchant struct {
	db.Merchant
	AccessToken, RefreshToken *string
}

// Database compares a sealed merchant with one in plain text, on one pool of a private PostgreSQL
// that close ends and deletes.
func Database(ctx context.Context) (pairs []Pair, closeAll func() error, err error) {
	// Not os.MkdirTemp: run by root, the server belongs to another user and could not enter such a
	// folder.
	folder := filepath.Join(os.TempDir(), "phantom-bench-"+strconv.Itoa(os.Getpid()))
	// Without fsync: a disk's waits would hide what sealing costs.
	server, err := local.Start(ctx, local.Config{Dir: folder, Database: "phantom_bench", Unsafe: true})
	if err != nil {
		return nil, nil, err
	}
	stop := func() error {
		err := server.Stop(context.WithoutCancel(ctx))
		if err != nil {
			return err
		}
		return os.RemoveAll(folder)
	}
	pool, err := openPool(ctx, server.URL())
	if err != nil {
		_ = stop()
		return nil, nil, err
	}
	closeAll = func() error {
		pool.Close()
		return stop()
	}
	if pairs, err = databasePairs(ctx, pool); err != nil {
		_ = closeAll()
		return nil, nil, err
	}
	return pairs, closeAll, nil
}

func openPool(ctx context.Context, url string) (*pgxpool.Pool, error) {
	if _, err := db.Migrate(ctx, url, slog.New(slog.DiscardHandler)); err != nil {
		return nil, err
	}
	ring, _, err := newRing()
	if err != nil {
		return nil, err
	}
	pool, err := db.Open(ctx, url, ring)
	if err != nil {
		return nil, err
	}
	if err := db.VerifyKeyring(ctx, pool, ring); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

func databasePairs(ctx context.Context, pool *pgxpool.Pool) ([]Pair, error) {
	if _, err := pool.Exec(ctx, plainTable); err != nil {
		return nil, fmt.Errorf("create merchants_plain: %w", err)
	}
	queries := db.New(pool)
	created := 0
	next := func() (id uuid.UUID, account, access, refresh string) {
		created++
		// Tokens differ, as real ones do: both tables have a unique index on something random.
		return uuid.Must(uuid.NewV7()), fmt.Sprintf("acct_%016d", created),
			fmt.Sprintf("%016d%s", created*7919, token[16:]), fmt.Sprintf("%016d%s", created*104729, token[16:])
	}
	createSealed := func() (uuid.UUID, error) {
		id, account, access, refresh := next()
		accessToken := vault.NewToken("merchants.access_token:"+account, access)
		refreshToken := vault.NewToken("merchants.refresh_token:"+account, refresh)
		return queries.MerchantCreate(ctx, db.MerchantCreateParams{
			ID: id, StripeUserID: account, AccessToken: &accessToken, RefreshToken: &refreshToken, Scope: "read_write",
		})
	}
	createPlain := func() (created uuid.UUID, err error) {
		id, account, access, refresh := next()
		err = pool.QueryRow(ctx, plainCreate, id, account, &access, &refresh, "read_write", false).Scan(&created)
		return created, err
	}
	getPlain := func(id uuid.UUID) (plainMerchant, error) {
		var i plainMerchant
		err := pool.QueryRow(ctx, plainGet, id).Scan(
			&i.ID, &i.StripeUserID, &i.StripeConnectID, &i.AccessToken, &i.RefreshToken, &i.AccessTokenKeyID, &i.RefreshTokenKeyID,
			&i.EncryptedToken, &i.IV, &i.Tag, &i.EncryptedRefreshToken, &i.RefreshIV, &i.RefreshTag,
			&i.Scope, &i.Livemode, &i.BusinessCategory, &i.Country, &i.DefaultCurrency, &i.Timezone,
			&i.ConnectedAt, &i.UpdatedAt, &i.DisconnectedAt)
		return i, err
	}

	var sealedIDs, plainIDs []uuid.UUID
	for range 1_000 {
		id, err := createSealed()
		if err != nil {
			return nil, err
		}
		sealedIDs = append(sealedIDs, id)
		if id, err = createPlain(); err != nil {
			return nil, err
		}
		plainIDs = append(plainIDs, id)
	}
	for _, table := range []string{"merchants", "merchants_plain"} {
		if _, err := pool.Exec(ctx, "VACUUM ANALYZE "+table); err != nil {
			return nil, err
		}
	}
	sealedAt, plainAt := 0, 0
	return []Pair{
		{
			Name: "select a merchant, beside plain text", Bar: 1.2,
			Ours: func() error {
				sealedAt = (sealedAt + 389) % len(sealedIDs)
				_, err := queries.MerchantGet(ctx, sealedIDs[sealedAt])
				return err
			},
			Peer: func() error {
				plainAt = (plainAt + 389) % len(plainIDs)
				_, err := getPlain(plainIDs[plainAt])
				return err
			},
		},
		{
			Name: "insert a merchant, beside plain text", Bar: 1.3,
			Ours: func() error { _, err := createSealed(); return err },
			Peer: func() error { _, err := createPlain(); return err },
		},
	}, nil
}
