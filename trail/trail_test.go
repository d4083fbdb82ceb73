package trail_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/trail"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

func record(ctx context.Context, pool *pgxpool.Pool, change trail.Change) error {
	return db.InTx(ctx, pool, func(tx pgx.Tx) error { return trail.Record(ctx, tx, change) })
}

func count(t *testing.T, pool *pgxpool.Pool) (n int) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM audit_log").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// The database itself refuses to change, empty or shorten the log. What has had its 400 days may
// go.
func TestTheLogOnlyGrows(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	ctx := trail.By(t.Context(), trail.Operator("stop"))
	for range 3 {
		if err := record(ctx, pool, trail.Change{Action: "halt.set", After: map[string]int{"n": 1}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, age := range []string{"9599 hours", "9601 hours", "2 years"} {
		if _, err := pool.Exec(ctx, `INSERT INTO audit_log (id, at, by, command, action)
			VALUES (gen_random_uuid(), phantom_now() - $1::text::interval, 'operator', 'stop', 'halt.lift')`, age); err != nil {
			t.Fatal(err)
		}
	}
	for _, statement := range []string{
		"UPDATE audit_log SET after = NULL",
		"UPDATE audit_log SET at = at - interval '3 years'",
		"UPDATE audit_log SET action = 'halt.lift' WHERE at < phantom_now() - interval '1 year'",
		"INSERT INTO audit_log SELECT * FROM audit_log ON CONFLICT (id) DO UPDATE SET command = 'x'",
		"DELETE FROM audit_log",
		"DELETE FROM audit_log WHERE action = 'halt.set'",
		"TRUNCATE audit_log",
		"TRUNCATE merchants CASCADE",
	} {
		if _, err := pool.Exec(ctx, statement); err == nil || !strings.Contains(err.Error(), "audit_log only grows") {
			t.Errorf("%s: %v", statement, err)
		}
		if n := count(t, pool); n != 6 {
			t.Fatalf("%s: %d rows are left", statement, n)
		}
	}
	gone, err := db.New(pool).AuditLogPurge(ctx, 1)
	if err != nil || gone != 1 {
		t.Errorf("a batch of one: %d, %v", gone, err)
	}
	if gone, err = db.New(pool).AuditLogPurge(ctx, 100); err != nil || gone != 1 {
		t.Errorf("the others: %d, %v", gone, err)
	}
	if n := count(t, pool); n != 4 {
		t.Errorf("%d rows are left", n)
	}
}

// A row is there if its change is, and only then. What nobody has asked for leaves none.
func TestRecord(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	ctx := trail.By(t.Context(), trail.Operator("tasks retry"))
	failed := errors.New("the change fails")
	if err := db.InTx(ctx, pool, func(tx pgx.Tx) error {
		return errors.Join(trail.Record(ctx, tx, trail.Change{Action: "task.retry"}), failed)
	}); !errors.Is(err, failed) {
		t.Fatal(err)
	}
	for _, silent := range []context.Context{t.Context(), trail.By(ctx, trail.Nobody)} {
		if err := record(silent, pool, trail.Change{Action: "task.retry"}); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(t, pool); n != 0 {
		t.Errorf("%d rows", n)
	}
	// Of all merchants only the operator changes something, and each has what belongs to them.
	for _, actor := range []trail.Actor{trail.Key(uuid.New()), trail.Merchant, trail.Stripe} {
		if err := record(trail.By(ctx, actor), pool, trail.Change{Action: "halt.set"}); err == nil {
			t.Errorf("%+v changed something of all merchants", actor)
		}
	}
	if err := record(ctx, pool, trail.Change{Action: "task.retry", Object: "x", Before: map[string]string{"status": "a"}}); err != nil {
		t.Fatal(err)
	}
	rows, err := db.New(pool).AuditLogListAll(ctx, db.AuditLogListAllParams{Most: 10})
	if err != nil || len(rows) != 1 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	row := rows[0]
	if row.By != "operator" || *row.Command != "tasks retry" || row.KeyID != nil || row.Account != "" || *row.Object != "x" || string(row.Before) != `{"status": "a"}` || row.After != nil {
		t.Errorf("%+v, before %s", row, row.Before)
	}
}
