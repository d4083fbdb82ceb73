package shield

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/trail"
	"phantom/vault"
)

// SigningKey is an Ed25519 pair that signs verdicts. Private is nil of one that does not sign yet,
// or any more.
type SigningKey struct {
	ID        string
	Public    ed25519.PublicKey
	Private   ed25519.PrivateKey
	State     string // current, next or retired
	CreatedAt time.Time
	RetiredAt *time.Time
}

// RetiredFor is for how long a key is published that does not sign any more: longer than anything
// that it has signed.
const RetiredFor = 31 * 24 * time.Hour

// SigningKeys are all that are published, the one that signs first. Where there is none yet it
// makes one that signs and one that will.
func (s *Service) SigningKeys(ctx context.Context) (keys []SigningKey, err error) {
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		rows, err := ensureKeys(ctx, db.New(tx))
		if err != nil {
			return err
		}
		keys, err = openKeys(rows)
		return err
	})
	return keys, err
}

// ensureKeys lists the keys, and makes them where there are none.
func ensureKeys(ctx context.Context, queries *db.Queries) ([]db.ShieldKeyListRow, error) {
	rows, err := listKeys(ctx, queries)
	if err != nil || len(rows) > 0 {
		return rows, err
	}
	if err := queries.ShieldKeyLock(ctx); err != nil {
		return nil, fmt.Errorf("lock signing keys: %w", err)
	}
	for _, state := range []string{"current", "next"} {
		if err := createKey(ctx, queries, state); err != nil {
			return nil, err
		}
	}
	return listKeys(ctx, queries)
}

func listKeys(ctx context.Context, queries *db.Queries) ([]db.ShieldKeyListRow, error) {
	rows, err := queries.ShieldKeyList(ctx)
	if err != nil {
		return nil, fmt.Errorf("list signing keys: %w", err)
	}
	return rows, nil
}

// RotateKeys has the next key sign from now on, and makes another next one. The key before is still
// published: what it has signed is good until it expires. It need not open for that.
func (s *Service) RotateKeys(ctx context.Context) (keys []SigningKey, err error) {
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		if _, err := ensureKeys(ctx, queries); err != nil {
			return err
		}
		if err := queries.ShieldKeyLock(ctx); err != nil {
			return fmt.Errorf("lock signing keys: %w", err)
		}
		if keys, err = rotate(ctx, queries); err != nil {
			return err
		}
		return trail.Record(ctx, tx, trail.Change{Action: "shield.keys.rotate", Object: keys[0].ID})
	})
	return keys, err
}

// rotate passes over a next key that does not open either: the one that it makes does.
func rotate(ctx context.Context, queries *db.Queries) (keys []SigningKey, err error) {
	for range 2 {
		if err := queries.ShieldKeyRetire(ctx); err != nil {
			return nil, fmt.Errorf("retire a signing key: %w", err)
		}
		if err := queries.ShieldKeyPromote(ctx); err != nil {
			return nil, fmt.Errorf("promote a signing key: %w", err)
		}
		if err := createKey(ctx, queries, "next"); err != nil {
			return nil, err
		}
		if err := queries.ShieldKeyForget(ctx); err != nil {
			return nil, fmt.Errorf("forget old signing keys: %w", err)
		}
		rows, err := listKeys(ctx, queries)
		if err != nil {
			return nil, err
		}
		if keys, err = openKeys(rows); err == nil {
			return keys, nil
		}
	}
	return nil, err
}

func createKey(ctx context.Context, queries *db.Queries, state string) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make a signing key: %w", err)
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails since Go 1.24
	name := hex.EncodeToString(id[:])
	if err := queries.ShieldKeyCreate(ctx, db.ShieldKeyCreateParams{
		ID: name, Secret: vault.Store("shield_keys.secret:"+name, base64.RawURLEncoding.EncodeToString(private.Seed())), Public: public, State: state,
	}); err != nil {
		return fmt.Errorf("store a signing key: %w", err)
	}
	return nil
}

// openKeys opens the one that signs. Of the others only the public half is needed.
func openKeys(rows []db.ShieldKeyListRow) ([]SigningKey, error) {
	var keys []SigningKey
	for _, row := range rows {
		key := SigningKey{ID: row.ID, Public: row.Public, State: row.State, CreatedAt: row.CreatedAt, RetiredAt: row.RetiredAt}
		if row.State == "current" {
			seed, err := row.Secret.Reveal("shield_keys.secret:" + row.ID)
			if err != nil {
				return nil, fmt.Errorf("open signing key %s: %w", row.ID, err)
			}
			raw, err := base64.RawURLEncoding.DecodeString(seed)
			if err != nil || len(raw) != ed25519.SeedSize {
				return nil, fmt.Errorf("signing key %s is none", row.ID)
			}
			key.Private = ed25519.NewKeyFromSeed(raw)
		}
		keys = append(keys, key)
	}
	return keys, nil
}
