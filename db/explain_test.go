package db_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/db/dbtest"
)

// What is asked on behalf of one merchant or person reads no others' rows, however many there are.
func TestQueriesOfOneReadFewRows(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), dbtest.Pool(t)
	merchant := uuid.Must(uuid.NewV7())
	for _, statement := range []string{
		`INSERT INTO merchants (id, stripe_user_id, scope, livemode, disconnected_at)
			SELECT gen_random_uuid(), 'acct_' || n, 'read_write', false, now() FROM generate_series(1, 100) n`,
		`INSERT INTO merchants (id, stripe_user_id, scope, livemode, disconnected_at)
			VALUES ('` + merchant.String() + `', 'acct_one', 'read_write', false, now())`,
		// Each has 100 charges due, 100 for later, some urgent ones that have failed, and some that
		// are done.
		`INSERT INTO scheduled_tasks (merchant_id, id, kind, params, run_at, first)
			SELECT id, gen_random_uuid(), kind, '{}', phantom_now() + due, kind = 'refresh'
			FROM merchants, generate_series(1, 100), (VALUES ('invoice_pay', interval '-1 hour'), ('invoice_pay', interval '1 day')) k (kind, due)`,
		`INSERT INTO scheduled_tasks (merchant_id, id, kind, params, status, finished_at)
			SELECT id, gen_random_uuid(), 'webhook', '{}', 'succeeded', now() FROM merchants, generate_series(1, 100)`,
		`INSERT INTO scheduled_tasks (merchant_id, id, kind, params, first)
			VALUES ('` + merchant.String() + `', gen_random_uuid(), 'refresh', '{}', true)`,
		`INSERT INTO playbooks (merchant_id, version, body) SELECT id, 1, '{}' FROM merchants`,
		`INSERT INTO hunts (merchant_id, id, ghost_id, customer, playbook_version, mode, held_out, currency, amount, decline_class, livemode)
			SELECT id, gen_random_uuid(), gen_random_uuid(), sha256((id::text || n)::bytea), 1, 'recover', false, 'usd', 100, 'timed', false
			FROM merchants, generate_series(1, CASE WHEN stripe_user_id = 'acct_one' THEN 1000 ELSE 20 END) n`,
		`INSERT INTO messages (merchant_id, id, hunt_id, step, channel, template, planned_for, persons)
			SELECT h.merchant_id, gen_random_uuid(), h.id, n, 'email', 'soft', now(), ARRAY[sha256((h.id::text || n)::bytea)]
			FROM hunts h, generate_series(1, 10) n`,
		// One key in a thousand rows of its merchant, and little that is old.
		`INSERT INTO audit_log (id, merchant_id, at, by, key_id, action)
			SELECT gen_random_uuid(), id, phantom_now() - CASE WHEN n = 1 AND stripe_user_id = 'acct_one' THEN interval '2 years' ELSE interval '1 day' END, 'key',
				CASE WHEN n = 2 AND stripe_user_id = 'acct_one' THEN '00000000-0000-0000-0000-000000000001' ELSE id END, 'halt.set'
			FROM merchants, generate_series(1, CASE WHEN stripe_user_id = 'acct_one' THEN 1000 ELSE 100 END) n`,
		`INSERT INTO oauth_states (state_hash, browser_hash)
			SELECT sha256(n::text::bytea), sha256('x') FROM generate_series(1, 5000) n`,
		"ANALYZE",
	} {
		if _, err := pool.Exec(ctx, statement); err != nil {
			t.Fatalf("%v\n%s", err, statement)
		}
	}
	wantFewRows(t, pool, db.QueriesOfOne(merchant), "")
}

// However little a filter lets through, and however many ghosts a merchant has, a page and the
// summary are read from few rows.
func TestGhostsAreReadFromFewRows(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	merchant := uuid.Must(uuid.NewV7())
	fillGhosts(t, pool, merchant)
	queries := db.QueriesOfGhosts(merchant)
	wantFewRows(t, pool, queries, "")
	// As dear as an index looks to the planner where there are a million.
	wantFewRows(t, pool, map[string]db.QueryOfOne{"GhostReadAges": queries["GhostReadAges"]}, "SET LOCAL random_page_cost = 20")
}

// fillGhosts writes 40,000 ghosts of a merchant.
func fillGhosts(t *testing.T, pool *pgxpool.Pool, merchant uuid.UUID) {
	t.Helper()
	for _, statement := range []string{
		`INSERT INTO merchants (id, stripe_user_id, scope, livemode, disconnected_at)
			VALUES ('` + merchant.String() + `', 'acct_one', 'read_write', false, now())`,
		// usd is open where it is timed, so that the two never meet among the closed ones; what is
		// rare comes last.
		`INSERT INTO ghost_targets (merchant_id, id, stripe_customer_id, stripe_subscription_id, stripe_invoice_id, amount, currency, decline_class,
				rule, first_failed_at, last_failed_at, kind, status, closed_reason, closed_at)
			SELECT '` + merchant.String() + `', lpad(to_hex(n), 32, '0')::uuid, 'cus_' || n, 'sub_' || n, 'in_' || n, 500 + n % 9000, currency, class,
				'a rule', now() - n % 500 * interval '1 day' - n * interval '1 second', NULL, CASE WHEN n > 39990 THEN 'written_off' ELSE 'owed' END, status,
				CASE WHEN status = 'closed' THEN 'paid' END, CASE WHEN status = 'closed' THEN now() END
			FROM (SELECT n, currency, class, CASE WHEN currency = 'usd' AND class = 'timed' OR n % 10 > 2 THEN 'open' ELSE 'closed' END AS status
				FROM (SELECT n, CASE WHEN n > 39980 THEN 'jpy' WHEN n % 2 = 0 THEN 'usd' ELSE 'eur' END AS currency,
					CASE WHEN n > 39970 THEN 'soon' ELSE (ARRAY['never', 'customer', 'timed', 'low', 'unknown'])[1 + n % 5] END AS class
					FROM generate_series(1, 40000) n) AS a) AS b`,
		`WITH gone AS (DELETE FROM ghost_changes d RETURNING d)
			INSERT INTO ghost_counts SELECT (gone.d).merchant_id, part, name, place, sum(ghosts), sum(hidden), sum(failed), sum(owed)
			FROM gone CROSS JOIN LATERAL ghost_change_parts(gone.d) AS p GROUP BY 1, 2, 3, 4`,
		"ANALYZE",
	} {
		if _, err := pool.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%v\n%s", err, statement)
		}
	}
}

// wantFewRows explains each query while it runs, after a setting, and undoes what it changes.
func wantFewRows(t *testing.T, pool *pgxpool.Pool, queries map[string]db.QueryOfOne, setting string) {
	t.Helper()
	for name, q := range queries {
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), setting); err != nil {
			t.Fatal(err)
		}
		if rows, plan := db.ReadRows(t.Context(), t, tx, q); rows > q.Rows {
			t.Errorf("%s reads %.0f rows, of %.0f that it may\n%s", name, rows, q.Rows, plan)
		}
		_ = tx.Rollback(context.WithoutCancel(t.Context()))
	}
}
