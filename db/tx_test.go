package db_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/db/dbtest"
)

// Every transaction is bounded, behind a pooler too, and leaves nothing of that with the
// connection.
func TestTransactionsAreBounded(t *testing.T) {
	t.Parallel()
	direct := dbtest.URL(t)
	for name, url := range map[string]string{"direct": direct, "through PgBouncer": throughPgBouncer(t, direct)} {
		pool := open(t, db.WithPool(url, 1), dbtest.Ring(t))
		settings := func(from interface {
			QueryRow(context.Context, string, ...any) pgx.Row
		}) (all string) {
			t.Helper()
			if err := from.QueryRow(t.Context(), `SELECT concat_ws(' ', current_setting('idle_in_transaction_session_timeout'),
				current_setting('lock_timeout'), current_setting('jit'), current_setting('transaction_isolation'), current_setting('transaction_read_only'),
				current_setting('tcp_keepalives_idle') = '10')`).Scan(&all); err != nil {
				t.Fatal(err)
			}
			return all
		}
		for _, begin := range []struct {
			in   func(context.Context, *pgxpool.Pool, func(pgx.Tx) error) error
			want string
		}{
			{db.InTx, "20s 25s off read committed off"}, {db.InCopyTx, "20s 25s off read committed off"}, {db.InSnapshot, "20s 25s off repeatable read on"},
		} {
			if err := begin.in(t.Context(), pool, func(tx pgx.Tx) error {
				if got := settings(tx); got != begin.want+" f" && got != begin.want+" t" {
					t.Errorf("%s: a transaction with %s, want %s", name, got, begin.want)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if got := settings(pool); got != "0 0 on read committed off f" {
				t.Errorf("%s: the connection keeps %s", name, got)
			}
		}
		failed := errors.New("no")
		if err := db.InTx(t.Context(), pool, func(pgx.Tx) error { return failed }); !errors.Is(err, failed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A host that is lost amid a transaction keeps its locks for less than half a minute: others need
// not wait until TCP gives up.
func TestALostHostKeepsNoLocks(t *testing.T) {
	t.Parallel()
	direct := dbtest.URL(t)
	through, cut, _ := dbtest.Proxy(t, direct)
	lost, alive := open(t, through, dbtest.Ring(t)), open(t, direct, dbtest.Ring(t))
	const lock = "SELECT pg_advisory_xact_lock(12)"
	held, end := make(chan error, 1), make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		held <- db.InTx(ctx, lost, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, lock)
			held <- err
			<-end
			return err
		})
	}()
	if err := <-held; err != nil {
		t.Fatal(err)
	}
	cut()
	began := time.Now()
	if err := db.InTx(t.Context(), alive, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), lock)
		return err
	}); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("another one waited for %s", took)
	}
	stop()
	close(end)
	if err := <-held; err == nil {
		t.Error("what was lost is committed")
	}
}

// Who keeps a transaction open is named, with those who wait for it.
func TestOpenTransactionsAreNamed(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	pool := open(t, url, dbtest.Ring(t))
	queries := db.New(pool)
	named := func() []db.DoctorTransactionsRow {
		rows, err := queries.DoctorTransactions(t.Context(), db.DoctorTransactionsParams{Transactions: 1 << 30})
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	if rows := named(); len(rows) != 0 {
		t.Errorf("named for nothing: %+v", rows)
	}
	holder, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const lock = "SELECT pg_advisory_xact_lock(4)"
	if _, err := holder.Exec(t.Context(), lock); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() {
		_, err := pool.Exec(context.WithoutCancel(t.Context()), lock)
		waited <- err
	}()
	var rows []db.DoctorTransactionsRow
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if rows = named(); len(rows) == 2 && rows[0].Waiting == 1 {
			break
		}
	}
	if len(rows) != 2 || rows[0].Name != "phantom" || rows[0].State != "idle in transaction" || rows[0].Waiting != 1 || rows[1].Waiting != 0 ||
		rows[0].Pid != int32(holder.Conn().PgConn().PID()) || rows[0].Age < rows[1].Age {
		t.Errorf("%+v", rows)
	}
	if old, err := queries.DoctorTransactions(t.Context(), db.DoctorTransactionsParams{Seconds: 3600, Transactions: 1 << 30}); err != nil || len(old) != 0 {
		t.Errorf("%v %+v", err, old)
	}
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
}

// Several servers in one URL, of which the writable one is taken.
func TestSeveralHosts(t *testing.T) {
	t.Parallel()
	direct := dbtest.URL(t)
	config, err := pgx.ParseConfig(direct)
	if err != nil {
		t.Fatal(err)
	}
	through, _, _ := dbtest.Proxy(t, direct)
	last, err := pgx.ParseConfig(through)
	if err != nil {
		t.Fatal(err)
	}
	dead, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	address := dead.Addr().String()
	_ = dead.Close()
	user := ""
	if config.User != "" {
		user = config.User + ":" + config.Password + "@"
	}
	both := "postgres://" + user + address + "," + net.JoinHostPort("localhost", strconv.Itoa(int(last.Port))) + "/" + config.Database +
		"?sslmode=disable&target_session_attrs=read-write"
	if err := db.WaitReachable(t.Context(), both, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	pool := open(t, db.WithPool(both, 3), dbtest.Ring(t))
	if got := pool.Config(); got.MaxConns != 3 || got.ConnConfig.DefaultQueryExecMode != pgx.QueryExecModeCacheDescribe {
		t.Errorf("a pool of %d in mode %s", got.MaxConns, got.ConnConfig.DefaultQueryExecMode)
	}
	for text, good := range map[string]bool{
		"postgres://u:p@h1,h2/x":               true,
		"postgres://u:p@h1:1,h2:2/x":           true,
		"postgres://u:p@[::1]:1,h2:2/x":        true,
		"postgres://h1:1,h2:2,h3:3/x":          true,
		"postgres://u:p@h1:1,h2:no/x":          false,
		"postgres://u:p@h1:1,u:secret@h2:2/x":  false,
		"postgres://u:p@h1:1,h2:2/secret,h3/x": true, // a name with a comma
		"postgres://u:p@,h2:2/x":               false,
		"postgres://u:p@h1,h2:2/x?port=5":      false, // the driver takes 5 for all of them
		"postgres://u:p@h1:1,/x":               false,
	} {
		if err := db.CheckURL(text); good != (err == nil) {
			t.Errorf("%s: %v", text, err)
		}
	}
	var unreachable *db.UnreachableError
	err = db.WaitReachable(t.Context(), "postgres://u:secret@"+address+",localhost:1/x?sslmode=disable", time.Millisecond)
	if !errors.As(err, &unreachable) || unreachable.Address != address+",localhost:1/x" {
		t.Errorf("%v", err)
	}
}
