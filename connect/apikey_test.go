package connect_test

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/connect"
	"phantom/db"
	"phantom/db/dbtest"
	"phantom/internal/stage"
	"phantom/vault"
)

func keyService(pool *pgxpool.Pool) *connect.Service {
	return connect.New(connect.Config{Log: slog.New(slog.DiscardHandler)}, pool)
}

func TestAPIKeys(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), dbtest.Pool(t)
	service := keyService(pool)
	first, second := stage.Merchant(t, pool, "acct_1"), stage.Merchant(t, pool, "acct_2")
	key, id, err := service.CreateAPIKey(ctx, "acct_1", connect.NewAPIKey{Scope: connect.ScopeWrite})
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^phk_[A-Za-z0-9_-]{43}$`).MatchString(key) {
		t.Errorf("key %q", key)
	}
	other, otherID, err := service.CreateAPIKey(ctx, "acct_2", connect.NewAPIKey{Scope: connect.ScopeWrite})
	if err != nil || other == key {
		t.Fatalf("%v, the same key twice: %t", err, other == key)
	}
	spare, spareID, err := service.CreateAPIKey(ctx, "acct_1", connect.NewAPIKey{Scope: connect.ScopeWrite})
	if err != nil {
		t.Fatal(err)
	}
	want := func(key string, merchant uuid.UUID) {
		t.Helper()
		caller, err := service.Authenticate(ctx, key)
		got := caller.Merchant
		var refused *connect.Error
		if merchant == uuid.Nil && (!errors.As(err, &refused) || refused.Code != connect.CodeUnauthorized || got != uuid.Nil) {
			t.Errorf("got %s, %v, want unauthorized", got, err)
		}
		if merchant != uuid.Nil && (err != nil || got != merchant) {
			t.Errorf("got %s, %v, want %s", got, err, merchant)
		}
	}
	want(key, first)
	want(other, second)
	for _, wrong := range []string{"", "phk_", key + "A", key[:46], strings.ToUpper(key), key[4:], "pk_" + key[4:], " " + key, key + "\n", key[:46] + "=", "phk_" + strings.Repeat("A", 43)} {
		want(wrong, uuid.Nil)
	}

	// Nobody revokes another's key, and revoking works at once, for this key alone, and once.
	if err := service.RevokeAPIKey(ctx, "acct_2", id); !errors.Is(err, connect.ErrUnknownAPIKey) {
		t.Errorf("another's key: %v", err)
	}
	want(key, first)
	if err := service.RevokeAPIKey(ctx, "acct_1", id); err != nil {
		t.Fatal(err)
	}
	want(key, uuid.Nil)
	want(spare, first)
	want(other, second)
	keys, err := service.ListAPIKeys(ctx, "acct_1")
	if err != nil || len(keys) != 2 || keys[0].ID != id || keys[1].ID != spareID || keys[0].RevokedAt == nil || keys[1].RevokedAt != nil {
		t.Fatalf("%+v, %v", keys, err)
	}
	if err := service.RevokeAPIKey(ctx, "acct_1", id); err != nil {
		t.Errorf("again: %v", err)
	}
	again, err := service.ListAPIKeys(ctx, "acct_1")
	if err != nil || !again[0].RevokedAt.Equal(*keys[0].RevokedAt) {
		t.Errorf("revoking again moved the time: %v", err)
	}
	if keys, err := service.ListAPIKeys(ctx, "acct_2"); err != nil || len(keys) != 1 || keys[0].ID != otherID {
		t.Errorf("%+v, %v", keys, err)
	}

	for _, err := range []error{
		func() error {
			_, _, err := service.CreateAPIKey(ctx, "acct_3", connect.NewAPIKey{Scope: connect.ScopeWrite})
			return err
		}(),
		func() error { _, err := service.ListAPIKeys(ctx, "acct_3"); return err }(),
		service.RevokeAPIKey(ctx, "acct_3", id),
	} {
		if !errors.Is(err, connect.ErrUnknownAccount) {
			t.Errorf("an unknown account: %v", err)
		}
	}
}

// Anyone who reads the table has nothing that opens the API.
func TestDumpOfAPIKeysIsUseless(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), dbtest.Pool(t)
	service := keyService(pool)
	stage.Merchant(t, pool, "acct_1")
	key, _, err := service.CreateAPIKey(ctx, "acct_1", connect.NewAPIKey{Scope: connect.ScopeWrite})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := service.Authenticate(ctx, key); err != nil {
		t.Fatal(err)
	}
	var dump string
	var stored []byte
	if err := pool.QueryRow(ctx, "SELECT k::text, key_hash FROM api_keys k").Scan(&dump, &stored); err != nil {
		t.Fatal(err)
	}
	secret, _ := base64.RawURLEncoding.DecodeString(key[4:])
	for _, form := range []string{key, key[4:], hex.EncodeToString(secret), hex.EncodeToString([]byte(key)), hex.EncodeToString([]byte(key[4:]))} {
		if strings.Contains(dump, form) {
			t.Errorf("the row holds the key as %q", form)
		}
	}
	for _, try := range []string{
		"phk_" + base64.RawURLEncoding.EncodeToString(stored), "phk_" + hex.EncodeToString(stored), hex.EncodeToString(stored), string(stored), "phk_" + string(stored), `\x` + hex.EncodeToString(stored),
	} {
		if _, err := service.Authenticate(ctx, try); err == nil {
			t.Errorf("what is stored opens the API as %q", try)
		}
	}
}

// The last use is noted at most once a minute, however many requests come at once.
func TestUseOfAPIKeyIsNotedOnceAMinute(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), dbtest.Pool(t)
	service := keyService(pool)
	stage.Merchant(t, pool, "acct_1")
	key, _, err := service.CreateAPIKey(ctx, "acct_1", connect.NewAPIKey{Scope: connect.ScopeWrite})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(ctx, `CREATE TABLE writes (n int);
		CREATE FUNCTION count_write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO writes VALUES (1); RETURN NEW; END $$;
		CREATE TRIGGER count_write AFTER UPDATE ON api_keys FOR EACH ROW EXECUTE FUNCTION count_write()`); err != nil {
		t.Fatal(err)
	}
	for round, age := range []string{"", "59 seconds", "61 seconds", "1 year"} {
		if age != "" {
			if _, err := pool.Exec(ctx, `ALTER TABLE api_keys DISABLE TRIGGER count_write`); err != nil {
				t.Fatal(err)
			}
			if _, err := pool.Exec(ctx, `UPDATE api_keys SET last_used_at = clock_timestamp() - $1::interval`, age); err != nil {
				t.Fatal(err)
			}
			if _, err := pool.Exec(ctx, `ALTER TABLE api_keys ENABLE TRIGGER count_write`); err != nil {
				t.Fatal(err)
			}
		}
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if _, err := service.Authenticate(ctx, key); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		var writes int
		if err := pool.QueryRow(ctx, "SELECT count(*) FROM writes").Scan(&writes); err != nil {
			t.Fatal(err)
		}
		if want := []int{1, 1, 2, 3}[round]; writes != want {
			t.Errorf("after %q: %d writes, want %d", age, writes, want)
		}
	}
}

// phantom apikey opens the database without the ENCRYPTION_KEY: all of this works there, and no
// sealed column can be read.
func TestAPIKeysNeedNoKeyring(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), dbtest.URL(t)
	stage.Merchant(t, dbtest.Open(t, url, dbtest.Ring(t)), "acct_1")
	pool, err := db.OpenWithoutKeyring(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	service := keyService(pool)
	key, id, err := service.CreateAPIKey(ctx, "acct_1", connect.NewAPIKey{Scope: connect.ScopeWrite})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := service.Authenticate(ctx, key); err != nil {
		t.Error(err)
	}
	if keys, err := service.ListAPIKeys(ctx, "acct_1"); err != nil || len(keys) != 1 {
		t.Errorf("%+v, %v", keys, err)
	}
	if err := service.RevokeAPIKey(ctx, "acct_1", id); err != nil {
		t.Error(err)
	}
	if _, err := db.New(pool).MerchantGetByStripeUserID(ctx, "acct_1"); err == nil {
		t.Error("a sealed column was read without a keyring")
	}
	access := vault.NewToken("merchants.access_token:acct_2", "sk_test_1")
	if _, err := db.New(pool).MerchantCreate(ctx, db.MerchantCreateParams{ID: uuid.Must(uuid.NewV7()), StripeUserID: "acct_2", AccessToken: &access, Scope: "read_write"}); err == nil {
		t.Error("a sealed column was written without a keyring")
	}
}
