package db_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/vault"
)

var execModes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
	pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
}

const insertMerchant = "INSERT INTO merchants (id, stripe_user_id, access_token, refresh_token, scope, livemode) VALUES ($1, $2, $3, $4, 'read_write', false)"

func TestTokenRoundTripsInEveryExecMode(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	for i, mode := range execModes {
		t.Run(mode.String(), func(t *testing.T) {
			ctx := t.Context()
			account := fmt.Sprintf("acct_%d", i)
			access := vault.NewToken(accessContext(account), "sk_"+account)
			refresh := vault.NewToken(refreshContext(account), "rt_"+account)
			id := uuid.Must(uuid.NewV7())
			if _, err := pool.Exec(ctx, insertMerchant, mode, id, account, access, &refresh); err != nil {
				t.Fatal(err)
			}
			var gotAccess vault.EncryptedToken
			var gotRefresh *vault.EncryptedToken
			if err := pool.QueryRow(ctx, "SELECT access_token, refresh_token FROM merchants WHERE id = ANY($1)", mode, []uuid.UUID{id}).
				Scan(&gotAccess, &gotRefresh); err != nil {
				t.Fatal(err)
			}
			if got := reveal(t, &gotAccess, accessContext(account)); got != "sk_"+account {
				t.Errorf("access token = %q", got)
			}
			if got := reveal(t, gotRefresh, refreshContext(account)); got != "rt_"+account {
				t.Errorf("refresh token = %q", got)
			}

			other := account + "x"
			var none *vault.EncryptedToken
			if _, err := pool.Exec(ctx, insertMerchant, mode, uuid.Must(uuid.NewV7()), other, vault.NewToken(accessContext(other), "sk"), none); err != nil {
				t.Fatalf("NULL refresh token: %v", err)
			}
			if err := pool.QueryRow(ctx, "SELECT refresh_token FROM merchants WHERE stripe_user_id = $1", mode, other).Scan(&gotRefresh); err != nil {
				t.Fatal(err)
			}
			if gotRefresh != nil {
				t.Error("a NULL token was scanned as a value")
			}
			if err := pool.QueryRow(ctx, "SELECT refresh_token FROM merchants WHERE stripe_user_id = $1", mode, other).Scan(&gotAccess); err == nil {
				t.Error("NULL was scanned into a token that is no pointer")
			}

			third, fourth := account+"y", account+"z"
			tokens := []vault.EncryptedToken{vault.NewToken(accessContext(third), "sk3"), vault.NewToken(accessContext(fourth), "sk4")}
			if _, err := pool.Exec(ctx, `INSERT INTO merchants (id, stripe_user_id, access_token, scope, livemode)
				SELECT unnest($1::uuid[]), unnest($2::text[]), unnest($3::sealed_token[]), 'read_write', false`,
				mode, []uuid.UUID{uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())}, []string{third, fourth}, tokens); err != nil {
				t.Fatalf("unnest: %v", err)
			}
			var scanned []vault.EncryptedToken
			if err := pool.QueryRow(ctx, "SELECT array_agg(access_token ORDER BY stripe_user_id) FROM merchants WHERE stripe_user_id IN ($1, $2)", mode, third, fourth).
				Scan(&scanned); err != nil {
				t.Fatal(err)
			}
			if len(scanned) != 2 || reveal(t, &scanned[1], accessContext(fourth)) != "sk4" {
				t.Errorf("array of %d tokens", len(scanned))
			}
			assertTableHides(t, pool, "sk_"+account, "rt_"+account)
		})
	}
}

// assertTableHides reads merchants as text and looks for the secrets in it.
func assertTableHides(t *testing.T, pool *pgxpool.Pool, secrets ...string) {
	t.Helper()
	var table string
	if err := pool.QueryRow(t.Context(), "SELECT string_agg(m::text, E'\n') FROM merchants m").Scan(&table); err != nil {
		t.Fatal(err)
	}
	for _, secret := range secrets {
		for _, form := range []string{secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret))} {
			if strings.Contains(table, form) {
				t.Errorf("the table shows %q", form)
			}
		}
	}
	if strings.Contains(table, "REDACTED") {
		t.Error("the table holds the redaction in a secret's place")
	}
}

func TestTokenThroughCopyFromAndBatch(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), dbtest.Pool(t)
	var rows [][]any
	for i := range 100 {
		account := fmt.Sprintf("acct_%d", i)
		access := vault.NewToken(accessContext(account), "sk_"+account)
		var refresh *vault.EncryptedToken
		if i%2 == 0 {
			token := vault.NewToken(refreshContext(account), "rt_"+account)
			refresh = &token
		}
		rows = append(rows, []any{uuid.Must(uuid.NewV7()), account, access, refresh, "read_write", false})
	}
	columns := []string{"id", "stripe_user_id", "access_token", "refresh_token", "scope", "livemode"}
	if _, err := pool.CopyFrom(ctx, pgx.Identifier{"merchants"}, columns, pgx.CopyFromRows(rows)); err != nil {
		t.Fatal(err)
	}
	batch := &pgx.Batch{}
	for i := range 100 {
		account := fmt.Sprintf("acct_%d", i)
		batch.Queue("SELECT access_token FROM merchants WHERE stripe_user_id = $1", account).QueryRow(func(row pgx.Row) error {
			var token vault.EncryptedToken
			if err := row.Scan(&token); err != nil {
				return err
			}
			if got := reveal(t, &token, accessContext(account)); got != "sk_"+account {
				t.Errorf("%s: %q", account, got)
			}
			return nil
		})
	}
	if err := pool.SendBatch(ctx, batch).Close(); err != nil {
		t.Fatal(err)
	}
	assertTableHides(t, pool, "sk_acct_0", "rt_acct_0")

	values, err := pool.Query(ctx, "SELECT access_token, refresh_token FROM merchants WHERE stripe_user_id = 'acct_1'")
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectExactlyOneRow(values, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%v %+v %#v", got, got, got); strings.Contains(text, "sk_acct_1") || !strings.Contains(text, "REDACTED") || got[1] != nil {
		t.Errorf("Values() shows %s", text)
	}
}

// Every path that misses the codec must fail, and none may store the redaction or the plaintext.
func TestTokenFailsClosedWithoutTheCodec(t *testing.T) {
	t.Parallel()
	const canary = "sk_live_canary_7f3a"
	ctx, pool := t.Context(), dbtest.Pool(t)
	bare, err := pgx.Connect(ctx, pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bare.Close(context.Background()) })
	if _, err := bare.Exec(ctx, "CREATE TABLE plain (text text, bytes bytea, name varchar(100), number int); CREATE TABLE loose (text text, bytes bytea, document jsonb)"); err != nil {
		t.Fatal(err)
	}
	token := vault.NewToken(accessContext(account), canary)
	for _, mode := range execModes {
		for _, value := range []any{token, &token, []vault.EncryptedToken{token}} {
			attempts := map[string]func() error{
				"sealed column over a connection without codec": func() error {
					_, err := bare.Exec(ctx, insertMerchant, mode, uuid.New().String(), account, value, nil)
					return err
				},
				"text column": func() error {
					_, err := bare.Exec(ctx, "INSERT INTO plain (text) VALUES ($1)", mode, value)
					return err
				},
				"bytea column": func() error {
					_, err := bare.Exec(ctx, "INSERT INTO plain (bytes) VALUES ($1)", mode, value)
					return err
				},
				"varchar column": func() error {
					_, err := bare.Exec(ctx, "INSERT INTO plain (name) VALUES ($1)", mode, value)
					return err
				},
				"integer column": func() error {
					_, err := bare.Exec(ctx, "INSERT INTO plain (number) VALUES ($1)", mode, value)
					return err
				},
			}
			// With the codec, a mode that guesses the type from the Go value may store the sealed
			// form in a text column, as a text; what it must not store is looked for below.
			for _, statement := range []string{"INSERT INTO loose (text) VALUES ($1)", "INSERT INTO loose (bytes) VALUES ($1)", "INSERT INTO loose (document) VALUES ($1)"} {
				if _, err := pool.Exec(ctx, statement, mode, value); err != nil && strings.Contains(err.Error(), canary) {
					t.Errorf("%s, %s, %T: the error shows the secret: %v", statement, mode, value, err)
				}
			}
			for name, attempt := range attempts {
				err := attempt()
				if err == nil {
					t.Errorf("%s, %s, %T: stored", name, mode, value)
				} else if strings.Contains(err.Error(), canary) {
					t.Errorf("%s, %s, %T: the error shows the secret: %v", name, mode, value, err)
				}
			}
		}
	}
	var stored int
	if err := bare.QueryRow(ctx, "SELECT (SELECT count(*) FROM plain) + (SELECT count(*) FROM merchants)").Scan(&stored); err != nil {
		t.Fatal(err)
	}
	if stored != 0 {
		t.Errorf("%d rows were stored", stored)
	}
	var loose string
	if err := bare.QueryRow(ctx, "SELECT coalesce(string_agg(l::text || coalesce(encode(bytes, 'escape'), ''), E'\\n'), '') FROM loose l").Scan(&loose); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{canary, hex.EncodeToString([]byte(canary)), base64.StdEncoding.EncodeToString([]byte(canary))} {
		if strings.Contains(loose, form) {
			t.Errorf("a loose column shows %q", form)
		}
	}
}

func TestTokenNeverShowsInErrorsOfPgx(t *testing.T) {
	t.Parallel()
	const canary = "sk_live_canary_91bc"
	ctx, pool := t.Context(), dbtest.Pool(t)
	token := vault.NewToken(accessContext(account), canary)
	if _, err := pool.Exec(ctx, insertMerchant, uuid.New(), account, token, nil); err != nil {
		t.Fatal(err)
	}
	var number int
	var text string
	for name, err := range map[string]error{
		"duplicate":       execError(pool.Exec(ctx, insertMerchant, uuid.New(), account, token, nil)),
		"check":           execError(pool.Exec(ctx, insertMerchant, uuid.New(), "acct_other", token, nil)),
		"wrong parameter": execError(pool.Exec(ctx, "SELECT $1::int", token)),
		"empty token":     execError(pool.Exec(ctx, insertMerchant, uuid.New(), "acct_3", vault.EncryptedToken{}, nil)),
		"nothing to seal": execError(pool.Exec(ctx, insertMerchant, uuid.New(), "acct_4", vault.NewToken(accessContext("acct_4"), ""), nil)),
		"scan to int":     pool.QueryRow(ctx, "SELECT access_token FROM merchants").Scan(&number),
		"scan to string":  pool.QueryRow(ctx, "SELECT access_token FROM merchants").Scan(&text),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		} else if all := fmt.Sprintf("%v %+v %#v", err, err, errors.Unwrap(err)); strings.Contains(all, canary) {
			t.Errorf("%s: %s", name, all)
		}
	}
}

func execError[T any](_ T, err error) error { return err }

// All ordered pairs of 50 rows: what was sealed for one place opens in no other, however the thief
// labels it.
func TestSwappedTokensNeverOpen(t *testing.T) {
	t.Parallel()
	const merchants = 50
	ctx, pool := t.Context(), dbtest.Pool(t)
	queries := db.New(pool)
	accounts := make([]string, merchants)
	for i := range accounts {
		accounts[i] = fmt.Sprintf("acct_%d", i)
		if _, err := queries.MerchantCreate(ctx, newMerchant(accounts[i])); err != nil {
			t.Fatal(err)
		}
	}
	tried := 0
	for _, from := range []string{"access_token", "refresh_token"} {
		for _, to := range []string{"access_token", "refresh_token"} {
			rows, err := pool.Query(ctx, fmt.Sprintf(`
				SELECT ROW((v.%[1]s).ciphertext, (v.%[1]s).iv, (v.%[1]s).tag, (v.%[1]s).key_id, 'merchants.%[2]s:' || t.stripe_user_id)::sealed_token,
					v.%[1]s, 'merchants.%[2]s:' || t.stripe_user_id
				FROM merchants v CROSS JOIN merchants t WHERE v.id <> t.id OR $1`, from, to), from != to)
			if err != nil {
				t.Fatal(err)
			}
			for rows.Next() {
				// Not rows.Scan, which ends the query at the first error.
				scan := func(i int, target any) error {
					field := rows.FieldDescriptions()[i]
					return rows.Conn().TypeMap().Scan(field.DataTypeOID, field.Format, rows.RawValues()[i], target)
				}
				var relabelled, moved vault.EncryptedToken
				var place string
				if err := errors.Join(scan(1, &moved), scan(2, &place)); err != nil {
					t.Fatal(err)
				}
				if err := scan(0, &relabelled); !errors.Is(err, vault.ErrOpen) {
					t.Errorf("%s opened as %s: %v", from, place, err)
				}
				if _, err := moved.Reveal(place); !errors.Is(err, vault.ErrWrongContext) {
					t.Errorf("%s was revealed as %s", from, place)
				}
				tried++
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
			// Moved with its own label, it does not even get in.
			for j := range accounts {
				thief, victim := accounts[(j+1)%merchants], accounts[j]
				_, err := pool.Exec(ctx, fmt.Sprintf("UPDATE merchants SET %s = (SELECT %s FROM merchants WHERE stripe_user_id = $2) WHERE stripe_user_id = $1", to, from), thief, victim)
				if code(err) != checkViolation {
					t.Errorf("%s of %s moved to %s of %s: %v", from, victim, to, thief, err)
				}
			}
		}
	}
	if want := 2*merchants*(merchants-1) + 2*merchants*merchants; tried != want {
		t.Errorf("%d pairs tried, want %d", tried, want)
	}
}
