package doctor

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/db/dbtest"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

// Who keeps what has changed from being cleared away is named, though another one's transaction is
// older.
func TestDoctorNamesWhoHoldsTheHorizon(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), dbtest.Pool(t)
	begin := func(level pgx.TxIsoLevel) (pgx.Tx, string) {
		t.Helper()
		tx, err := pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: level})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
		if _, err := tx.Exec(ctx, "SELECT FROM merchants"); err != nil {
			t.Fatal(err)
		}
		return tx, fmt.Sprintf("process %d (phantom, idle in transaction) has had one open for ", tx.Conn().PgConn().PID())
	}
	older, first := begin(pgx.ReadCommitted)
	_, holder := begin(pgx.RepeatableRead)
	if _, err := pool.Exec(ctx, "SELECT pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	told := func() Check {
		t.Helper()
		d := &Diagnosis{}
		if err := d.checkTransactions(ctx, db.New(pool), 0); err != nil {
			t.Fatal(err)
		}
		return d.Checks[0]
	}
	if got := told(); got.Status != "warn" || !strings.HasPrefix(got.Detail, first) || !strings.Contains(got.Detail, "not cleared away: "+holder) {
		t.Errorf("beside an older one: %+v", got)
	}
	if err := older.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if got := told(); !strings.HasPrefix(got.Detail, holder) || !strings.HasSuffix(got.Detail, "; what has changed since is not cleared away") {
		t.Errorf("alone: %+v", got)
	}
}
