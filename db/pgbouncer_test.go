package db_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/vault"
)

// Eight workers over a transaction pooler with only three server connections behind it: everything
// that the program does with tokens, and not one error.
func TestThroughPgBouncer(t *testing.T) {
	t.Parallel()
	const workers, rounds = 8, 100
	ctx, ring := t.Context(), dbtest.Ring(t)
	pool := open(t, throughPgBouncer(t, dbtest.URL(t)), ring)
	if err := db.VerifyKeyring(ctx, pool, ring); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	var done atomic.Int64
	for worker := range workers {
		group.Go(func() {
			for round := range rounds {
				if err := useTokens(ctx, db.New(pool), fmt.Sprintf("acct_%dx%d", worker, round%10)); err != nil {
					t.Errorf("worker %d, round %d: %v", worker, round, err)
					return
				}
				done.Add(1)
			}
		})
	}
	group.Wait()
	if done.Load() != workers*rounds {
		t.Errorf("%d of %d rounds were done", done.Load(), workers*rounds)
	}
	bothRing := ringOf(t, otherKey, dbtest.Key)
	if _, err := db.Rewrap(ctx, open(t, pool.Config().ConnString(), bothRing), bothRing, nil); err != nil {
		t.Errorf("rewrap: %v", err)
	}
}

// useTokens connects, reads, updates and uses up a state, each in a transaction or statement of its
// own.
func useTokens(ctx context.Context, queries *db.Queries, account string) error {
	id, err := queries.MerchantCreate(ctx, newMerchant(account))
	if err != nil {
		return err
	}
	token := vault.NewToken(accessContext(account), "sk_updated")
	if _, err := queries.MerchantUpdate(ctx, db.MerchantUpdateParams{ID: id, AccessToken: &token, Scope: "read_write"}); err != nil {
		return err
	}
	merchant, err := queries.MerchantGet(ctx, id)
	if err != nil {
		return err
	}
	if got, err := merchant.AccessToken.Reveal(accessContext(account)); err != nil || got != "sk_updated" {
		return fmt.Errorf("revealed %q, %w", got, err)
	}
	state := uuid.New()
	hash := append(state[:], state[:]...)
	if _, err := queries.OAuthStateCreate(ctx, db.OAuthStateCreateParams{StateHash: hash, BrowserHash: hash, Most: 1000}); err != nil {
		return err
	}
	if _, err := queries.OAuthStateConsume(ctx, hash); err != nil {
		return err
	}
	if _, err := queries.OAuthStateConsume(ctx, hash); !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("a used state: %w", err)
	}
	return nil
}

// throughPgBouncer starts a PgBouncer in transaction mode before the server at url and returns the
// URL that leads through it.
func throughPgBouncer(t *testing.T, url string) string {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		if program = "/usr/sbin/pgbouncer"; !isExecutable(program) {
			t.Fatal("pgbouncer is not installed: run make deps")
		}
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := os.MkdirTemp("", "phantom-bouncer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	port, password := freePort(t), ""
	if config.Password != "" {
		password = " password=" + config.Password
	}
	ini := fmt.Sprintf(`[databases]
* = host=%s port=%d user=%s%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
`, config.Host, config.Port, config.User, password, port)
	path := filepath.Join(folder, "pgbouncer.ini")
	if err := errors.Join(os.WriteFile(path, []byte(ini), 0o644), os.Chmod(folder, 0o755)); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, path)
	if os.Geteuid() == 0 {
		// as root it refuses to run; it becomes the user who may enter the server's socket folder
		info, err := os.Stat(config.Host)
		if err != nil {
			t.Fatal(err)
		}
		owner := info.Sys().(*syscall.Stat_t)
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	var log strings.Builder
	command.Stderr, command.WaitDelay = &log, 5*time.Second
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		_ = command.Wait()
		if t.Failed() {
			t.Logf("pgbouncer:\n%s", log.String())
		}
	})
	bounced := fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", config.User, port, config.Database)
	if err := db.WaitReachable(t.Context(), bounced, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	return bounced
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&0o111 != 0
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port
}
