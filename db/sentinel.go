package db

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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

// VerifyKeyring makes sure that ring opens everything in the database, by one sealed sentinel row
// per key id in use, before anything is written under it. A key that the database has not seen gets
// its sentinel only if all others open. Failure is a [KeyMismatchError], and nothing is written.
func VerifyKeyring(ctx context.Context, pool *pgxpool.Pool, ring *vault.Keyring) error {
	return InTx(ctx, pool, func(tx pgx.Tx) error {
		queries := New(tx)
		if err := lockSentinels(ctx, tx); err != nil {
			return err
		}
		sentinels, err := queries.VaultSentinelListKeyIDs(ctx)
		if err != nil {
			return err
		}
		mismatch := KeyMismatchError{KeyID: ring.KeyID()}
		for _, id := range sentinels {
			opens, err := sentinelOpens(ctx, queries, ring, id)
			if err != nil {
				return err
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

// lockSentinels lets one process at a time decide about keys: two with different new keys must not
// both find the database empty. A lock that somebody holds for long is an error, not a boot that
// hangs.
func lockSentinels(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '10s'"); err != nil {
		return err
	}
	err := New(tx).VaultSentinelLock(ctx)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == "55P03" {
		return errors.New("another session has held a lock on vault_sentinels for 10 s: end it (pg_stat_activity shows it)")
	}
	return err
}

func sentinelContext(keyID string) string { return "vault_sentinels.sentinel:" + keyID }

// sentinelOpens tells a wrong key, which fails to open, from a database that does not answer.
func sentinelOpens(ctx context.Context, queries *Queries, ring *vault.Keyring, keyID string) (bool, error) {
	if !ring.Opens(keyID) {
		return false, nil
	}
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
