package db_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/vault"
)

const otherKey = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"

func ringOf(t *testing.T, current string, previous ...string) *vault.Keyring {
	t.Helper()
	var keys []vault.Key
	for _, text := range append([]string{current}, previous...) {
		key, err := vault.ParseKey(text)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	ring, err := vault.NewKeyring(keys[0], keys[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func open(t *testing.T, url string, ring *vault.Keyring) *pgxpool.Pool {
	t.Helper()
	pool, err := db.Open(t.Context(), url, ring)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// assertAllSealedColumns holds a list of table.column against the database's own.
func assertAllSealedColumns(t *testing.T, pool *pgxpool.Pool, listed []string) {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT table_name || '.' || column_name FROM information_schema.columns
		WHERE udt_name = 'sealed_token' AND table_schema = 'public' ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(listed)
	if !slices.Equal(found, listed) {
		t.Errorf("sealed columns of the database: %v\nlisted here:                     %v", found, listed)
	}
}

func TestRewrapCoversEverySealedColumn(t *testing.T) {
	t.Parallel()
	assertAllSealedColumns(t, dbtest.Pool(t), append(db.SealedColumns(), "vault_sentinels.sentinel"))
}

func TestRewrapMovesEverythingToTheNewKey(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), dbtest.URL(t)
	oldRing, bothRing, newRing := ringOf(t, dbtest.Key), ringOf(t, otherKey, dbtest.Key), ringOf(t, otherKey)
	oldPool := open(t, url, oldRing)
	if err := db.VerifyKeyring(ctx, oldPool, oldRing); err != nil {
		t.Fatal(err)
	}
	const merchants = 450 // more than two batches
	for i := range merchants {
		if _, err := db.New(oldPool).MerchantCreate(ctx, newMerchant(fmt.Sprintf("acct_%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	var last, total int64
	result, err := db.Rewrap(ctx, open(t, url, bothRing), bothRing, func(done, all int64) { last, total = done, all })
	if err != nil {
		t.Fatal(err)
	}
	if result.Values != 2*merchants || last != 2*merchants || total != 2*merchants || !slices.Equal(result.Retired, []string{oldRing.KeyID()}) {
		t.Errorf("rewrapped %+v, progress %d of %d", result, last, total)
	}
	newPool := open(t, url, newRing)
	if err := db.VerifyKeyring(ctx, newPool, newRing); err != nil {
		t.Fatalf("the new key alone: %v", err)
	}
	for i := range merchants {
		account := fmt.Sprintf("acct_%d", i)
		merchant, err := db.New(newPool).MerchantGetByStripeUserID(ctx, account)
		if err != nil {
			t.Fatal(err)
		}
		if reveal(t, merchant.AccessToken, accessContext(account)) != "sk_"+account || reveal(t, merchant.RefreshToken, refreshContext(account)) != "rt_"+account {
			t.Errorf("%s came back changed", account)
		}
	}
	if err := db.VerifyKeyring(ctx, oldPool, oldRing); !errors.As(err, &db.KeyMismatchError{}) {
		t.Errorf("the old key alone: %v", err)
	}
	if again, err := db.Rewrap(ctx, newPool, newRing, nil); err != nil || again.Values != 0 || again.Retired != nil {
		t.Errorf("a second rewrap: %+v, %v", again, err)
	}
}

// Two at once share the work: each value is rewrapped once, and neither gives up because the other
// was faster.
func TestRewrapsAtOnce(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), dbtest.URL(t)
	oldRing, bothRing := ringOf(t, dbtest.Key), ringOf(t, otherKey, dbtest.Key)
	oldPool := open(t, url, oldRing)
	if err := db.VerifyKeyring(ctx, oldPool, oldRing); err != nil {
		t.Fatal(err)
	}
	const merchants = 1000
	for i := range merchants {
		if _, err := db.New(oldPool).MerchantCreate(ctx, newMerchant(fmt.Sprintf("acct_%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	var group sync.WaitGroup
	var values atomic.Int64
	for range 3 {
		pool := open(t, url, bothRing)
		group.Go(func() {
			result, err := db.Rewrap(ctx, pool, bothRing, nil)
			if err != nil {
				t.Error(err)
			}
			values.Add(result.Values)
		})
	}
	group.Wait()
	if values.Load() != 2*merchants {
		t.Errorf("%d values were rewrapped, there were %d", values.Load(), 2*merchants)
	}
}

// One damaged value does not keep the others under a key that may have leaked.
func TestRewrapPassesOverWhatDoesNotOpen(t *testing.T) {
	t.Parallel()
	const merchants = 450
	ctx, url := t.Context(), dbtest.URL(t)
	oldRing, bothRing := ringOf(t, dbtest.Key), ringOf(t, otherKey, dbtest.Key)
	oldPool := dbtest.Open(t, url, oldRing)
	for i := range merchants {
		if _, err := db.New(oldPool).MerchantCreate(ctx, newMerchant(fmt.Sprintf("acct_%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	damage := `UPDATE merchants SET access_token = ROW('00', (access_token).iv, (access_token).tag, (access_token).key_id, (access_token).context)::sealed_token
		WHERE stripe_user_id IN ('acct_0', 'acct_7')`
	if _, err := oldPool.Exec(ctx, damage); err != nil {
		t.Fatal(err)
	}
	pool := dbtest.Open(t, url, bothRing)
	result, err := db.Rewrap(ctx, pool, bothRing, nil)
	var damaged db.DamagedError
	if !errors.As(err, &damaged) || !slices.Equal(slices.Sorted(slices.Values(damaged.Places)), []string{accessContext("acct_0"), accessContext("acct_7")}) {
		t.Fatalf("rewrap with damaged values: %v", err)
	}
	if result.Values != 2*merchants-2 || result.Retired != nil {
		t.Errorf("%+v", result)
	}
	for _, account := range damaged.Places { // the merchants connect again
		if _, err := db.New(pool).MerchantCreate(ctx, newMerchant(strings.TrimPrefix(account, accessContext("")))); err != nil {
			t.Fatal(err)
		}
	}
	if result, err := db.Rewrap(ctx, pool, bothRing, nil); err != nil || !slices.Equal(result.Retired, []string{oldRing.KeyID()}) {
		t.Errorf("after the repair: %+v, %v", result, err)
	}
}

// A server that was forgotten in the roll-out cannot seal anything any more under the key that
// rewrap retired.
func TestRetiredKeySealsNothing(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), dbtest.URL(t)
	forgotten := dbtest.Open(t, url, ringOf(t, dbtest.Key, otherKey))
	bothRing := ringOf(t, otherKey, dbtest.Key)
	if result, err := db.Rewrap(ctx, dbtest.Open(t, url, bothRing), bothRing, nil); err != nil || len(result.Retired) != 1 {
		t.Fatalf("%+v, %v", result, err)
	}
	if _, err := db.New(forgotten).MerchantCreate(ctx, newMerchant(account)); code(err) != foreignKeyViolation {
		t.Errorf("sealed under a retired key: %v", err)
	}
}
