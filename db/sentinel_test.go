package db_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/vault"
)

func TestVerifyKeyring(t *testing.T) {
	t.Parallel()
	oldRing, newRing := ringOf(t, dbtest.Key), ringOf(t, otherKey)
	swapped := ringOf(t, otherKey, dbtest.Key)
	mismatch := func(t *testing.T, err error, partly bool, sealedUnder ...string) {
		t.Helper()
		var got db.KeyMismatchError
		if !errors.As(err, &got) || !slices.Equal(got.SealedUnder, sealedUnder) || got.Partly != partly {
			t.Errorf("got %v, want a mismatch with %v", err, sealedUnder)
		}
	}
	for name, test := range map[string]func(t *testing.T, url string){
		"an empty database takes any key": func(t *testing.T, url string) {
			if err := db.VerifyKeyring(t.Context(), open(t, url, newRing), newRing); err != nil {
				t.Error(err)
			}
		},
		"a wrong key is refused and writes nothing": func(t *testing.T, url string) {
			if err := db.VerifyKeyring(t.Context(), open(t, url, oldRing), oldRing); err != nil {
				t.Fatal(err)
			}
			pool := open(t, url, newRing)
			err := db.VerifyKeyring(t.Context(), pool, newRing)
			mismatch(t, err, false, oldRing.KeyID())
			if want := "ENCRYPTION_KEY (key id " + newRing.KeyID() + ") does not match this database (sealed under " + oldRing.KeyID() + ")"; err.Error() != want {
				t.Errorf("%q, want %q", err, want)
			}
			if ids, err := db.New(pool).VaultSentinelListKeyIDs(t.Context()); err != nil || len(ids) != 1 {
				t.Errorf("sentinels %v, %v", ids, err)
			}
		},
		"the roll-out: previous, swap, and a lagging process": func(t *testing.T, url string) {
			if err := db.VerifyKeyring(t.Context(), open(t, url, oldRing), oldRing); err != nil {
				t.Fatal(err)
			}
			first := ringOf(t, dbtest.Key, otherKey)
			for _, ring := range []*vault.Keyring{first, swapped, first} {
				if err := db.VerifyKeyring(t.Context(), open(t, url, ring), ring); err != nil {
					t.Error(err)
				}
			}
			err := db.VerifyKeyring(t.Context(), open(t, url, newRing), newRing)
			mismatch(t, err, true, oldRing.KeyID())
			if !strings.Contains(err.Error(), "ENCRYPTION_KEYS_PREVIOUS") {
				t.Errorf("%q does not say what to do", err)
			}
		},
		"nothing is sealed without a sentinel, and it stays as long as something is": func(t *testing.T, url string) {
			pool := open(t, url, oldRing)
			if _, err := db.New(pool).MerchantCreate(t.Context(), newMerchant(account)); code(err) != foreignKeyViolation {
				t.Errorf("sealed under an unverified key: %v", err)
			}
			if err := db.VerifyKeyring(t.Context(), pool, oldRing); err != nil {
				t.Fatal(err)
			}
			if _, err := db.New(pool).MerchantCreate(t.Context(), newMerchant(account)); err != nil {
				t.Fatal(err)
			}
			if _, err := db.New(pool).VaultSentinelDelete(t.Context(), oldRing.KeyID()); code(err) != foreignKeyViolation {
				t.Errorf("a sentinel in use was dropped: %v", err)
			}
		},
		"a lock held by somebody ends in a line": func(t *testing.T, url string) {
			pool := open(t, url, oldRing)
			tx, err := pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(t.Context()) }()
			if _, err := tx.Exec(t.Context(), "LOCK TABLE vault_sentinels IN ROW EXCLUSIVE MODE"); err != nil {
				t.Fatal(err)
			}
			if err := db.VerifyKeyring(t.Context(), pool, oldRing); err == nil || !strings.Contains(err.Error(), "has held a lock on vault_sentinels") {
				t.Errorf("got %v", err)
			}
		},
		"of two keys at once on an empty database one wins": func(t *testing.T, url string) {
			rings := []*vault.Keyring{oldRing, newRing}
			errs := make([]error, len(rings))
			var group sync.WaitGroup
			for i, ring := range rings {
				pool := open(t, url, ring)
				group.Go(func() { errs[i] = db.VerifyKeyring(t.Context(), pool, ring) })
			}
			group.Wait()
			if (errs[0] == nil) == (errs[1] == nil) {
				t.Errorf("both ended alike: %v, %v", errs[0], errs[1])
			}
		},
		"a sentinel that does not open under a key of its id": func(t *testing.T, url string) {
			pool := open(t, url, oldRing)
			if err := db.VerifyKeyring(t.Context(), pool, oldRing); err != nil {
				t.Fatal(err)
			}
			if _, err := pool.Exec(t.Context(), `UPDATE vault_sentinels SET sentinel = ROW('00', (sentinel).iv, (sentinel).tag, (sentinel).key_id, (sentinel).context)::sealed_token`); err != nil {
				t.Fatal(err)
			}
			mismatch(t, db.VerifyKeyring(t.Context(), pool, oldRing), false, oldRing.KeyID())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, dbtest.URL(t))
		})
	}
}
