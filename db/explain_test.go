package db_test

import (
	"context"
	"testing"

	"github.com/google/uuid"

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
		"ANALYZE",
	} {
		if _, err := pool.Exec(ctx, statement); err != nil {
			t.Fatalf("%v\n%s", err, statement)
		}
	}
	for name, q := range db.QueriesOfOne(merchant) {
		tx, err := pool.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if rows, plan := db.ReadRows(ctx, t, tx, q); rows > q.Rows {
			t.Errorf("%s reads %.0f rows, of %.0f that it may\n%s", name, rows, q.Rows, plan)
		}
		_ = tx.Rollback(context.Background())
	}
}
