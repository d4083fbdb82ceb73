package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"phantom/db/dbtest"
)

// The database fails in every way that it has, while events are posted and charges fall due: it is
// restarted in order and after a crash, takes no writes, has no connection left, no disk, loses its
// connections again and again, and at last is lost to a standby and comes back read-only. No event
// that was acknowledged is lost, nothing is done twice, and how long events were refused is stated.
// In make soak-failures each failure lasts longer, and connections are killed for ten minutes.
func TestFailures(t *testing.T) { //nolint:paralleltest // it takes the whole machine
	soakAlone(t)
	first, second := fmt.Sprintf("127.77.%d.1", os.Getpid()%250), fmt.Sprintf("127.77.%d.2", os.Getpid()%250)
	for _, address := range []string{first, second} {
		listener, err := net.Listen("tcp", net.JoinHostPort(address, "5432"))
		if err != nil {
			t.Skipf("two servers need two addresses of this machine: %v", err)
		}
		_ = listener.Close()
	}
	settings := []string{
		"max_connections=80", "fsync=off", "max_wal_size=64MB", "min_wal_size=32MB", "wal_keep_size=64MB",
	}
	server, why := dbtest.NewSmall(t, 768, append(settings, "listen_addresses="+first)...)
	if why != nil {
		t.Logf("the disk does not become full: %v", why)
		server = dbtest.NewPrivate(t, append(settings, "listen_addresses="+first)...)
	}
	trust(t, server)
	f := &failures{moment: 3 * time.Second, killing: 5 * time.Second, patience: 90 * time.Second, hasDisk: why == nil}
	debts, lasts := 300, 30*time.Second
	if os.Getenv("PHANTOM_LONG") != "" {
		f.moment, f.killing, debts, lasts = 10*time.Second, 10*time.Minute, 1200, 12*time.Minute
		f.patience = 30 * time.Second
	}
	f.soak = newSoak(t, server, debts)
	f.primary = server
	both := "postgres://postgres@" + first + ":5432," + second + ":5432/phantom?sslmode=disable&target_session_attrs=read-write&application_name="
	worker := f.program(with(f.env, "DATABASE_URL", both+"soak_worker"), []string{"work"})
	worker.awaitLine(t, "[WORKER] ready")
	env := with(f.env, "DATABASE_URL", both+"soak_server")
	env["PORT"], env["WORKERS"] = freePort(t), "0"
	served, base := ready(t, env)
	t.Cleanup(func() { // what was answered with 500
		for line := range strings.Lines(served.stdout.String()) {
			if t.Failed() && strings.Contains(line, "request failed") {
				t.Log(line)
			}
		}
	})
	f.posts = f.post(base, 4)
	f.over(lasts)

	f.during("nothing", func() { time.Sleep(f.moment) })
	f.during("restarted in order", func() { f.must(server.Restart(false)) })
	f.during("restarted after a crash", func() { f.must(server.Restart(true)) })
	f.during("read-only", f.readOnly)
	f.during("connections used up", f.usedUp)
	if f.hasDisk {
		f.during("disk full", f.diskFull)
	}
	f.during("connections killed", f.killed)
	standby := server.Standby(t, append(settings, "listen_addresses="+second)...)
	// or what was acknowledged last may not have reached it
	f.alter("synchronous_standby_names = '*'")
	f.await(time.Minute, "the standby follows", func() bool {
		return f.count("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 1
	})
	f.during("lost to a standby", func() {
		f.must(server.Stop(true))
		time.Sleep(f.moment / 2)
		f.must(standby.Promote())
	})
	f.pool = dbtest.Open(t, standby.URL(), dbtest.Ring(t))
	f.during("the old one back, read-only", func() {
		server.Set(append(settings, "listen_addresses="+first, "default_transaction_read_only=on")...)
		f.must(server.Start())
		time.Sleep(f.moment)
	})
	f.posts.end()
	f.drained(5 * time.Minute)
	f.posts.kept()
	executed := f.books()
	t.Logf("%d charges, %d executed, none twice; %d events acknowledged, none lost, answers %v, the slowest after %.1f s",
		f.charges, executed, len(f.posts.acked), f.posts.statuses, f.posts.slowest.Seconds())
	for name, p := range map[string]*process{"server": served, "worker": worker} {
		select {
		case <-p.exited:
			t.Errorf("the %s has ended by itself: %v\n%s%s", name, p.err, p.stdout, p.stderr)
		default:
		}
		if strings.Contains(p.stdout.String(), "panic") {
			t.Errorf("the %s has panicked:\n%s", name, p.stdout)
		}
	}
}

type failures struct {
	*soak
	primary *dbtest.Private
	posts   *posts
	moment  time.Duration // that a failure lasts
	killing time.Duration // that connections are killed
	// of those who wait until events are acknowledged again
	patience time.Duration
	hasDisk  bool // of its own
}

func (f *failures) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// during has the database fail, waits until events are acknowledged again, and tells how long they
// were refused.
func (f *failures) during(name string, fail func()) {
	f.t.Helper()
	began := time.Now()
	fail()
	healed := time.Now()
	f.await(f.patience, name+": events are acknowledged again", func() bool { return f.posts.lastAcked().After(healed) })
	again := time.Since(healed)
	refused, n, others := f.posts.down(began)
	f.t.Logf("%-28s %6.1f s; %4d posts refused over %5.1f s; acknowledged again %4.1f s after its end", name, healed.Sub(began).Seconds(), n, refused.Seconds(), again.Seconds())
	if len(others) > 0 {
		f.t.Errorf("%s: not every refusal was a 503: %v", name, others)
	}
}

// admin runs statements over a connection of its own.
func (f *failures) admin(statements ...string) {
	f.t.Helper()
	conn, err := pgx.Connect(f.t.Context(), f.primary.URL())
	f.must(err)
	defer func() { _ = conn.Close(context.Background()) }()
	for _, statement := range statements {
		_, err := conn.Exec(f.t.Context(), statement)
		f.must(err)
	}
}

func (f *failures) alter(setting string) {
	f.t.Helper()
	f.admin("ALTER SYSTEM SET "+setting, "SELECT pg_reload_conf()")
}

func (f *failures) readOnly() {
	f.alter("default_transaction_read_only = on")
	time.Sleep(f.moment)
	f.alter("default_transaction_read_only = off")
}

// theirs ends all connections of the product's.
const theirs = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'soak%'"

// usedUp takes every connection that the server has, those of the product too, and keeps them.
func (f *failures) usedUp() {
	admin, err := pgx.Connect(f.t.Context(), f.primary.URL())
	f.must(err)
	taken := []*pgx.Conn{admin}
	f.await(time.Minute, "the product has no connection", func() bool {
		_, err := admin.Exec(f.t.Context(), theirs)
		f.must(err)
		for {
			conn, err := pgx.Connect(f.t.Context(), f.primary.URL())
			if err != nil {
				break
			}
			taken = append(taken, conn)
		}
		var left int
		f.must(admin.QueryRow(f.t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'soak%'").Scan(&left))
		return left == 0
	})
	time.Sleep(f.moment)
	for _, conn := range taken {
		_ = conn.Close(context.Background())
	}
}

func (f *failures) killed() {
	conn, err := pgx.Connect(f.t.Context(), f.primary.URL())
	f.must(err)
	defer func() { _ = conn.Close(context.Background()) }()
	for over := time.Now().Add(f.killing); time.Now().Before(over); time.Sleep(time.Second) {
		_, err := conn.Exec(f.t.Context(), theirs)
		f.must(err)
	}
}

// diskFull lasts from the first refusal on. A server that has given up meanwhile is started again,
// as its operator would.
func (f *failures) diskFull() {
	began := time.Now()
	f.must(f.primary.FillDisk())
	f.await(f.patience, "the disk is full", func() bool { _, n, _ := f.posts.down(began); return n > 0 })
	time.Sleep(f.moment)
	f.must(f.primary.FreeDisk())
	ctx, cancel := context.WithTimeout(f.t.Context(), 5*time.Second)
	defer cancel()
	if conn, err := pgx.Connect(ctx, f.primary.URL()); err == nil {
		_ = conn.Close(ctx)
		return
	}
	f.t.Log("the server has given up for want of disk, and is started again")
	f.must(f.primary.Restart(false))
}
