package db_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/vault"
)

const (
	checkViolation      = "23514"
	notNullViolation    = "23502"
	uniqueViolation     = "23505"
	foreignKeyViolation = "23503"
)

// code is the SQLSTATE of an error of PostgreSQL, or "".
func code(err error) string {
	var pgErr *pgconn.PgError
	errors.As(err, &pgErr)
	if pgErr == nil {
		return ""
	}
	return pgErr.Code
}

// A writer to the database puts every kind of nonsense into every sealed column: none gets in.
func TestHostileRowsAreRefused(t *testing.T) {
	t.Parallel()
	ctx, pool, ring := t.Context(), dbtest.Pool(t), dbtest.Ring(t)
	merchant, err := db.New(pool).MerchantCreate(ctx, newMerchant(account))
	if err != nil {
		t.Fatal(err)
	}
	ghost, task := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	if _, err := pool.Exec(ctx, `INSERT INTO ghost_targets (merchant_id, id, stripe_customer_id, stripe_subscription_id, stripe_invoice_id, email, amount, currency, rule)
		VALUES ($1, $2, 'cus_1', 'sub_1', 'in_1', $3, 100, 'usd', 'open invoice')`,
		merchant, ghost, vault.NewToken("ghost_targets.email:"+ghost.String(), "ghost@example.com")); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(ctx, "INSERT INTO ghost_memories (merchant_id, ghost_id, memory) VALUES ($1, $2, $3)",
		merchant, ghost, vault.NewToken("ghost_memories.memory:"+ghost.String(), "{}")); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(ctx, "INSERT INTO scheduled_tasks (merchant_id, id, kind, sealed_params) VALUES ($1, $2, 'email', $3)",
		merchant, task, vault.NewToken("scheduled_tasks.sealed_params:"+task.String(), "{}")); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(ctx, `INSERT INTO audit_invoices (merchant_id, audit_id, subscription, id, status, created_at, send_invoice, currency, amount_remaining, attempt_count, paid_out_of_band, email)
		VALUES ($1, $2, 'sub_1', 'in_1', 'open', now(), false, 'usd', 100, 1, false, $3)`,
		merchant, uuid.New(), vault.NewToken("audit_invoices.email:in_1", "ghost@example.com")); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(ctx, "INSERT INTO channels (merchant_id, provider, sender, secret) VALUES ($1, 'resend', 'a@example.com', $2)",
		merchant, vault.NewToken("channels.secret:"+merchant.String()+"/resend", "re_secret")); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(ctx, "INSERT INTO shield_keys (id, secret, public, state) VALUES ('k1', $1, sha256('k1'), 'current')",
		vault.NewToken("shield_keys.secret:k1", "seed")); err != nil {
		t.Fatal(err)
	}
	// Without a key of their own they have no endpoint, and so no secret of one.
	if _, err := pool.Exec(ctx, "UPDATE merchants SET own_key = true"); err != nil {
		t.Fatal(err)
	}
	endpoint := uuid.Must(uuid.NewV7())
	if _, err := pool.Exec(ctx, "INSERT INTO event_endpoints (merchant_id, id, url, secret) VALUES ($1, $2, 'https://app.example', $3)",
		merchant, endpoint, vault.NewToken("event_endpoints.secret:"+endpoint.String(), "whsec_x")); err != nil {
		t.Fatal(err)
	}

	columns := []struct {
		table, column, context string
		nullable               bool
	}{
		{"merchants", "access_token", accessContext(account), false},
		{"merchants", "refresh_token", refreshContext(account), true},
		{"merchants", "hash_salt", "merchants.hash_salt:" + account, true},
		{"merchants", "webhook_secret", "merchants.webhook_secret:" + account, true},
		{"ghost_targets", "email", "ghost_targets.email:" + ghost.String(), true},
		{"ghost_memories", "memory", "ghost_memories.memory:" + ghost.String(), false},
		{"scheduled_tasks", "sealed_params", "scheduled_tasks.sealed_params:" + task.String(), true},
		{"audit_invoices", "email", "audit_invoices.email:in_1", true},
		{"channels", "secret", "channels.secret:" + merchant.String() + "/resend", false},
		{"shield_keys", "secret", "shield_keys.secret:k1", false},
		{"event_endpoints", "secret", "event_endpoints.secret:" + endpoint.String(), false},
		{"vault_sentinels", "sentinel", "vault_sentinels.sentinel:" + ring.KeyID(), false},
	}
	var listed []string
	for _, c := range columns {
		listed = append(listed, c.table+"."+c.column)
	}
	assertAllSealedColumns(t, pool, listed)

	for _, c := range columns {
		t.Run(c.table+"."+c.column, func(t *testing.T) {
			good, err := ring.Seal("secret", c.context)
			if err != nil {
				t.Fatal(err)
			}
			set := func(ciphertext, iv, tag, keyID, context any) error {
				_, err := pool.Exec(ctx, fmt.Sprintf("UPDATE %s SET %s = ROW($1::text, $2::text, $3::text, $4::text, $5::text)::sealed_token", c.table, c.column),
					ciphertext, iv, tag, keyID, context)
				return err
			}
			if err := set(good.Ciphertext, good.IV, good.Tag, good.KeyID, good.Context); err != nil {
				t.Fatalf("a sealed value is refused: %v", err)
			}
			hostile := map[string][5]any{
				"row of NULLs":         {nil, nil, nil, nil, nil},
				"NULL ciphertext":      {nil, good.IV, good.Tag, good.KeyID, good.Context},
				"NULL iv":              {good.Ciphertext, nil, good.Tag, good.KeyID, good.Context},
				"NULL tag":             {good.Ciphertext, good.IV, nil, good.KeyID, good.Context},
				"NULL key id":          {good.Ciphertext, good.IV, good.Tag, nil, good.Context},
				"NULL context":         {good.Ciphertext, good.IV, good.Tag, good.KeyID, nil},
				"plain text":           {"sk_live_plain", good.IV, good.Tag, good.KeyID, good.Context},
				"plain text alone":     {"sk_live_plain", "", "", "", ""},
				"empty ciphertext":     {"", good.IV, good.Tag, good.KeyID, good.Context},
				"odd ciphertext":       {good.Ciphertext + "0", good.IV, good.Tag, good.KeyID, good.Context},
				"upper-case":           {strings.Repeat("AB", 8), good.IV, good.Tag, good.KeyID, good.Context},
				"trailing newline":     {good.Ciphertext + "\n", good.IV, good.Tag, good.KeyID, good.Context},
				"short iv":             {good.Ciphertext, good.IV[:24], good.Tag, good.KeyID, good.Context},
				"long iv":              {good.Ciphertext, good.IV + "00", good.Tag, good.KeyID, good.Context},
				"empty iv":             {good.Ciphertext, "", good.Tag, good.KeyID, good.Context},
				"iv no hex":            {good.Ciphertext, strings.Repeat("g", 32), good.Tag, good.KeyID, good.Context},
				"iv trailing newline":  {good.Ciphertext, good.IV + "\n", good.Tag, good.KeyID, good.Context},
				"short tag":            {good.Ciphertext, good.IV, good.Tag[:24], good.KeyID, good.Context},
				"long tag":             {good.Ciphertext, good.IV, good.Tag + "00", good.KeyID, good.Context},
				"empty tag":            {good.Ciphertext, good.IV, "", good.KeyID, good.Context},
				"tag trailing newline": {good.Ciphertext, good.IV, good.Tag + "\n", good.KeyID, good.Context},
				"malformed key id":     {good.Ciphertext, good.IV, good.Tag, "none", good.Context},
				"foreign context":      {good.Ciphertext, good.IV, good.Tag, good.KeyID, c.table + "." + c.column + ":acct_other"},
				"other column":         {good.Ciphertext, good.IV, good.Tag, good.KeyID, "merchants.other:" + account},
				"empty context":        {good.Ciphertext, good.IV, good.Tag, good.KeyID, ""},
			}
			for name, value := range hostile {
				if err := set(value[0], value[1], value[2], value[3], value[4]); code(err) != checkViolation {
					t.Errorf("%s: %v", name, err)
				}
			}
			if !c.nullable {
				_, err := pool.Exec(ctx, fmt.Sprintf("UPDATE %s SET %s = NULL", c.table, c.column))
				if code(err) != checkViolation && code(err) != notNullViolation {
					t.Errorf("NULL: %v", err)
				}
			}
		})
	}

	t.Run("operators of the writer's own", func(t *testing.T) {
		// With operators that is_sealed does not name by schema, this lets plain text in.
		tx, err := pool.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(ctx) }()
		if _, err := tx.Exec(ctx, `CREATE SCHEMA evil; CREATE FUNCTION evil.yes(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
			CREATE OPERATOR evil.~ (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.yes); SET LOCAL search_path = evil, pg_catalog, public`); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(ctx, "UPDATE merchants SET access_token.tag = 'PLAIN', access_token.ciphertext = 'sk_live_plain'"); code(err) != checkViolation {
			t.Errorf("plain text: %v", err)
		}
	})

	t.Run("the same IV twice under one key", func(t *testing.T) {
		other := newMerchant("acct_other")
		if _, err := db.New(pool).MerchantCreate(ctx, other); err != nil {
			t.Fatal(err)
		}
		_, err := pool.Exec(ctx, `UPDATE merchants SET access_token = ROW((access_token).ciphertext,
			(SELECT (access_token).iv FROM merchants WHERE stripe_user_id = $1), (access_token).tag, (access_token).key_id, (access_token).context)::sealed_token
			WHERE stripe_user_id = 'acct_other'`, account)
		if code(err) != uniqueViolation {
			t.Errorf("repeated IV: %v", err)
		}
	})
}

// The other tables' constraints refuse nonsense too.
func TestNonsenseIsRefused(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), dbtest.Pool(t)
	merchant, err := db.New(pool).MerchantCreate(ctx, newMerchant(account))
	if err != nil {
		t.Fatal(err)
	}
	ghost := func(columns, values string) string {
		return `INSERT INTO ghost_targets (merchant_id, id, stripe_customer_id, stripe_subscription_id, stripe_invoice_id, amount, currency, rule` + columns +
			`) VALUES ('` + merchant.String() + `', gen_random_uuid(), 'cus_1', 'sub_' || gen_random_uuid(), 'in_1', ` + values + `)`
	}
	task := func(columns, values string) string {
		return `INSERT INTO scheduled_tasks (merchant_id, id, kind` + columns + `) VALUES ('` + merchant.String() + `', gen_random_uuid(), ` + values + `)`
	}
	oracle := func(values string) string {
		return `INSERT INTO liquidity_oracle (business_category, decline_class, action, day_of_week, hour_of_day, livemode, attempts, successes) VALUES ('software', ` + values + `)`
	}
	for _, statement := range []string{
		ghost("", "1, 'usd', 'r'"), task("", "'audit'"), oracle("'timed', 'charge', 0, 23, true, 5, 5"),
	} {
		if _, err := pool.Exec(ctx, statement); err != nil {
			t.Errorf("sense is refused: %s: %v", statement, err)
		}
	}
	for name, statement := range map[string]string{
		"ghost without debt":           ghost("", "0, 'usd', 'r'"),
		"negative amount":              ghost("", "-1, 'usd', 'r'"),
		"currency in capitals":         ghost("", "1, 'USD', 'r'"),
		"unknown access":               ghost(", access", "1, 'usd', 'r', 'maybe'"),
		"unknown decline class":        ghost(", decline_class", "1, 'usd', 'r', 'hard'"),
		"unknown status":               ghost(", status", "1, 'usd', 'r', 'gone'"),
		"closed without a reason":      ghost(", status", "1, 'usd', 'r', 'closed'"),
		"open with a reason":           ghost(", closed_reason", "1, 'usd', 'r', 'paid'"),
		"failed last before first":     ghost(", first_failed_at, last_failed_at", "1, 'usd', 'r', now(), now() - interval '1 day'"),
		"negative attempts of a ghost": ghost(", attempt_count", "1, 'usd', 'r', -1"),
		"unknown task status":          task(", status", "'audit', 'done'"),
		"kind in capitals":             task("", "'Audit'"),
		"running without a lease":      task(", status", "'audit', 'running'"),
		"lease without running":        task(", lease_until", "'audit', now()"),
		"final without finished_at":    task(", status", "'audit', 'succeeded'"),
		"pending with finished_at":     task(", finished_at", "'audit', now()"),
		"params that are no object":    task(", params", "'audit', '[]'"),
		"negative attempts":            task(", attempts", "'audit', -1"),
		"negative fence":               task(", fence", "'audit', -1"),
		"day 7":                        oracle("'timed', 'charge', 7, 0, true, 1, 1"),
		"somebody's id in the oracle":  oracle("'timed', 'cus_abc', 1, 0, true, 1, 1"),
		"hour 24":                      oracle("'timed', 'charge', 0, 24, true, 1, 1"),
		"more successes than attempts": oracle("'timed', 'charge', 1, 0, true, 1, 2"),
		"unknown class in the oracle":  oracle("'', 'charge', 1, 0, true, 1, 1"),
		"short state hash":             `INSERT INTO oauth_states (state_hash, browser_hash) VALUES ('\x00', sha256('b'))`,
		"short browser hash":           `INSERT INTO oauth_states (state_hash, browser_hash) VALUES (sha256('a'), '\x00')`,
		"state that never lived":       `INSERT INTO oauth_states (state_hash, browser_hash, expires_at) VALUES (sha256('a'), sha256('b'), now() - interval '1 hour')`,
		"no account":                   `UPDATE merchants SET stripe_user_id = 'cus_1'`,
		"disconnected but not":         `UPDATE merchants SET access_token = NULL`,
		"unknown scope":                `UPDATE merchants SET scope = 'everything'`,
		"unknown category":             `UPDATE merchants SET business_category = 'gold'`,
		"country by name":              `UPDATE merchants SET country = 'Germany'`,
		"currency of a merchant":       `UPDATE merchants SET default_currency = 'EURO'`,
		"empty time zone":              `UPDATE merchants SET timezone = ''`,
		"time zone of two lines":       `UPDATE merchants SET timezone = E'\n\n'`,
		"disconnected at no time":      `UPDATE merchants SET disconnected_at = 'infinity'`,
		"state that never ends":        `INSERT INTO oauth_states (state_hash, browser_hash, expires_at) VALUES (sha256('a'), sha256('b'), 'infinity')`,
		"ghost without a rule":         ghost("", "1, 'usd', ''"),
	} {
		if _, err := pool.Exec(ctx, statement); code(err) != checkViolation {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := pool.Exec(ctx, "UPDATE merchants SET access_token = NULL, refresh_token = NULL, disconnected_at = now()"); err != nil {
		t.Errorf("disconnecting is refused: %v", err)
	}
}
