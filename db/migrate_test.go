package db_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/tern/v2/migrate"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/internal/stage"
	"phantom/sql/migrations"
)

func TestMigrateFromSeveralProcessesAtOnce(t *testing.T) {
	t.Parallel()
	url := dbtest.EmptyURL(t)
	var group sync.WaitGroup
	ran := make([]int, 8)
	for i := range ran {
		group.Go(func() {
			count, err := db.Migrate(t.Context(), url, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Error(err)
			}
			ran[i] = count
		})
	}
	group.Wait()
	files, err := migrations.Files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, count := range ran {
		sum += count
	}
	if sum != len(files) {
		t.Errorf("%d migrations were run by %v, there are %d", sum, ran, len(files))
	}
}

func TestMigrateRefusesANewerSchema(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), dbtest.URL(t)
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(ctx, "UPDATE schema_version SET version = 999"); err != nil {
		t.Fatal(err)
	}
	_, err = db.Migrate(ctx, url, slog.New(slog.DiscardHandler))
	if !errors.As(err, &db.SchemaTooNewError{}) || !strings.Contains(err.Error(), "run a newer phantom") {
		t.Errorf("got %v", err)
	}
}

func TestAddIndexesAsGiven(t *testing.T) {
	t.Parallel()
	text, err := migrations.Files.ReadFile("0002_add_indexes.sql")
	if err != nil {
		t.Fatal(err)
	}
	const given = `CREATE INDEX IF NOT EXISTS idx_scheduled_tasks_status_run_at ON scheduled_tasks (status, run_at);
CREATE INDEX IF NOT EXISTS idx_merchants_stripe_connect_id ON merchants (stripe_connect_id);
`
	if string(text) != given {
		t.Errorf("0002_add_indexes.sql was changed:\n%s", text)
	}
}

func TestWaitReachable(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()

	t.Run("nobody listens", func(t *testing.T) {
		t.Parallel()
		err := db.WaitReachable(t.Context(), "postgres://user:hunter2@"+address+"/name", 300*time.Millisecond)
		if err == nil || !strings.HasPrefix(err.Error(), "cannot reach PostgreSQL at "+address+"/name after 1s: ") ||
			strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no such database", func(t *testing.T) {
		t.Parallel()
		url := strings.Replace(dbtest.URL(t), "/phantom_t_", "/no_such_", 1)
		err := db.WaitReachable(t.Context(), url, time.Minute)
		var unreachable *db.UnreachableError
		if !errors.As(err, &unreachable) || unreachable.Waited != 0 || !strings.Contains(err.Error(), "refuses") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("malformed, with a password", func(t *testing.T) {
		t.Parallel()
		err := db.WaitReachable(t.Context(), "postgres://user:hunter2@host:port/name", time.Second)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v", err)
		}
		if _, err := db.Open(t.Context(), "postgres://user:hunter2@host:port/name", dbtest.Ring(t)); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("comes up late", func(t *testing.T) {
		t.Parallel()
		late, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = late.Close() }()
		config, err := pgx.ParseConfig(dbtest.URL(t))
		if err != nil {
			t.Fatal(err)
		}
		network, address := pgconn.NetworkAddress(config.Host, config.Port)
		var refused atomic.Int64
		go func() {
			for {
				client, err := late.Accept()
				if err != nil {
					return
				}
				if refused.Add(1) <= 3 {
					_ = client.Close()
					continue
				}
				server, err := net.Dial(network, address)
				if err != nil {
					_ = client.Close()
					continue
				}
				go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
				go func() { _, _ = io.Copy(client, server); _ = client.Close() }()
			}
		}()
		url := "postgres://" + config.User + ":" + config.Password + "@" + late.Addr().String() + "/" + config.Database + "?sslmode=disable"
		if err := db.WaitReachable(t.Context(), url, 30*time.Second); err != nil || refused.Load() <= 3 {
			t.Errorf("after %d connections: %v", refused.Load(), err)
		}
	})
}

// A migration beside a long reader keeps nobody waiting behind it, says who it waits for, and goes
// on when the reader has ended.
func TestMigrateBesideAReader(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), dbtest.EmptyURL(t)
	connect := func() *pgx.Conn {
		t.Helper()
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return conn
	}
	migrator, err := migrate.NewMigrator(ctx, connect(), "public.schema_version")
	if err != nil {
		t.Fatal(err)
	}
	if err := migrator.LoadMigrations(migrations.Files); err != nil {
		t.Fatal(err)
	}
	const before = 12 // not the next one, but the one behind it changes scheduled_tasks
	if err := migrator.MigrateTo(ctx, before); err != nil {
		t.Fatal(err)
	}
	reader := connect()
	if _, err := reader.Exec(ctx, "BEGIN; SELECT count(*) FROM scheduled_tasks"); err != nil {
		t.Fatal(err)
	}
	var log stage.Log
	migrated := make(chan int, 1)
	go func() {
		ran, err := db.Migrate(ctx, url, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Error(err)
		}
		migrated <- ran
	}()
	other := connect()
	waited := func(pid uint32) (n int) {
		t.Helper()
		if err := other.QueryRow(ctx, "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> $1", int32(pid)).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for deadline := time.Now().Add(30 * time.Second); waited(reader.PgConn().PID()) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the migration does not wait")
		}
	}
	began := time.Now()
	if _, err := other.Exec(ctx, "SET statement_timeout = '30s'; SELECT count(*) FROM scheduled_tasks"); err != nil || time.Since(began) > 15*time.Second {
		t.Errorf("a query behind the migration: %v after %s", err, time.Since(began))
	}
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(log.String(), fmt.Sprint("pid=", reader.PgConn().PID())); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nobody is told who holds the lock:\n%s", log.String())
		}
	}
	if _, err := reader.Exec(ctx, "COMMIT"); err != nil {
		t.Fatal(err)
	}
	entries, err := migrations.Files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	if ran := <-migrated; ran != len(entries)-before {
		t.Errorf("%d migrations were run, of %d", ran, len(entries)-before)
	}
}

// Keys of before there were scopes may do what they could, and have no name and no end.
func TestKeysOfBeforeWrite(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), dbtest.EmptyURL(t)
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	migrator, err := migrate.NewMigrator(ctx, conn, "public.schema_version")
	if err != nil {
		t.Fatal(err)
	}
	if err := migrator.LoadMigrations(migrations.Files); err != nil {
		t.Fatal(err)
	}
	if err := migrator.MigrateTo(ctx, 16); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, `WITH merchant AS (
			INSERT INTO merchants (id, stripe_user_id, scope, livemode, disconnected_at) VALUES (gen_random_uuid(), 'acct_1', 'read_write', false, now()) RETURNING id)
		INSERT INTO api_keys (merchant_id, id, key_hash) SELECT id, gen_random_uuid(), sha256('x') FROM merchant`); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Migrate(ctx, url, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	var scope string
	var bare bool
	if err := conn.QueryRow(ctx, "SELECT scope, name IS NULL AND expires_at IS NULL FROM api_keys").Scan(&scope, &bare); err != nil || scope != "write" || !bare {
		t.Errorf("scope %q, without name and end: %t, %v", scope, bare, err)
	}
}

// The migration that has the database count ghosts counts those of before too, while others write.
func TestMigrationCountsWhatIsThere(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), dbtest.EmptyURL(t)
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	migrator, err := migrate.NewMigrator(ctx, conn, "public.schema_version")
	if err != nil {
		t.Fatal(err)
	}
	if err := migrator.LoadMigrations(migrations.Files); err != nil {
		t.Fatal(err)
	}
	before := slices.IndexFunc(migrator.Migrations, func(m *migrate.Migration) bool { return strings.HasSuffix(m.Name, "_summary.sql") })
	if err := migrator.MigrateTo(ctx, int32(before)); err != nil {
		t.Fatal(err)
	}
	const insert = `INSERT INTO ghost_targets (merchant_id, id, stripe_customer_id, stripe_subscription_id, stripe_invoice_id, amount, currency, rule,
			first_failed_at, hidden)
		SELECT m.id, gen_random_uuid(), 'cus_' || n || random(), 'sub_' || n, 'in_' || n, 1 + n, 'usd', 'a rule', now() - n * interval '1 hour', n % 3 = 0
		FROM merchants m, generate_series(1, $1::int) n`
	if _, err := conn.Exec(ctx, `INSERT INTO merchants (id, stripe_user_id, scope, livemode, disconnected_at)
		VALUES (gen_random_uuid(), 'acct_1', 'read_write', false, now())`); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, insert, 5000); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	var writers sync.WaitGroup
	for range 2 {
		writers.Go(func() {
			writer, err := pgx.Connect(ctx, url)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = writer.Close(context.Background()) }()
			for {
				for _, statement := range []string{
					"UPDATE ghost_targets SET amount = amount + 1 WHERE id IN (SELECT id FROM ghost_targets ORDER BY random() LIMIT 20 FOR UPDATE SKIP LOCKED)",
					"DELETE FROM ghost_targets WHERE id IN (SELECT id FROM ghost_targets ORDER BY random() LIMIT 5 FOR UPDATE SKIP LOCKED)",
				} {
					if _, err := writer.Exec(ctx, statement); err != nil {
						t.Error(err)
					}
				}
				if _, err := writer.Exec(ctx, insert, 5); err != nil {
					t.Error(err)
				}
				select {
				case <-ended:
					return
				default:
				}
			}
		})
	}
	if _, err := db.Migrate(ctx, url, slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
	close(ended)
	writers.Wait()
	var ghosts, differ int
	if err := conn.QueryRow(ctx, `SELECT (SELECT count(*) FROM ghost_targets), count(*) FROM (
			SELECT sum(ghosts) AS g, sum(hidden) AS h, sum(failed) AS f, sum(owed) AS o FROM (
				SELECT part, name, place, ghosts, hidden, failed, owed FROM ghost_counts
				UNION ALL SELECT p.part, p.name, p.place, p.ghosts, p.hidden, p.failed, p.owed
					FROM ghost_changes c CROSS JOIN LATERAL ghost_change_parts(c) AS p
				UNION ALL SELECT part, name, place, -ghosts, -hidden, -failed, -owed FROM ghost_counts_computed) AS x
			GROUP BY part, name, place) AS y
		WHERE (g, h, f, o) <> (0, 0, 0, 0)`).Scan(&ghosts, &differ); err != nil || ghosts < 3000 || differ != 0 {
		t.Errorf("%d counts of %d ghosts differ: %v", differ, ghosts, err)
	}
}
