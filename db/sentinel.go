package db

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/vault"
)

// KeyMismatchError says that the keyring does not belong to this database.
type KeyMismatchError struct {
	KeyID       string   // of the key that seals
	SealedUnder []string // the key ids in use that the keyring does not open
	Partly      bool     // some other key id in use does open
}

func (e KeyMismatchError) Error() string {
	text := fmt.Sprintf("ENCRYPTION_KEY (key id %s) does not match this database (sealed under %s)", e.KeyID, strings.Join(e.SealedUnder, ", "))
	if e.Partly {
		text += ": add the missing key to ENCRYPTION_KEYS_PREVIOUS until phantom rewrap is done"
	}
	return text
}

// VerifyKeyring makes sure that ring opens everything in the database, by one sealed sentinel row per key id, before anything is
// written under it. A key that the database has not seen gets its sentinel only if all others open. Failure is a
// [KeyMismatchError], and nothing is written.
func VerifyKeyring(ctx context.Context, pool *pgxpool.Pool, ring *vault.Keyring) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		queries := New(tx)
		if err := queries.VaultSentinelLock(ctx); err != nil {
			return err
		}
		sentinels, err := queries.VaultSentinelListKeyIDs(ctx)
		if err != nil {
			return err
		}
		inUse := slices.Clone(sentinels)
		for _, column := range sealedColumns {
			ids, err := column.keyIDs(ctx, tx)
			if err != nil {
				return err
			}
			inUse = append(inUse, ids...)
		}
		slices.Sort(inUse)
		inUse = slices.Compact(inUse)

		mismatch := KeyMismatchError{KeyID: ring.KeyID()}
		for _, id := range inUse {
			opens := ring.Opens(id)
			if opens && slices.Contains(sentinels, id) {
				if opens, err = sentinelOpens(ctx, queries, id); err != nil {
					return err
				}
			}
			if opens {
				mismatch.Partly = true
			} else {
				mismatch.SealedUnder = append(mismatch.SealedUnder, id)
			}
		}
		if len(mismatch.SealedUnder) > 0 {
			return mismatch
		}
		if slices.Contains(sentinels, ring.KeyID()) {
			return nil
		}
		sentinel := vault.NewToken(sentinelContext(ring.KeyID()), "phantom")
		return queries.VaultSentinelCreate(ctx, VaultSentinelCreateParams{KeyID: ring.KeyID(), Sentinel: sentinel})
	})
}

func sentinelContext(keyID string) string { return "vault_sentinels.sentinel:" + keyID }

// sentinelOpens tells a wrong key, which fails to open, from a database that does not answer.
func sentinelOpens(ctx context.Context, queries *Queries, keyID string) (bool, error) {
	sentinel, err := queries.VaultSentinelGet(ctx, keyID)
	if errors.Is(err, vault.ErrOpen) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = sentinel.Reveal(sentinelContext(keyID))
	return err == nil, nil
}
