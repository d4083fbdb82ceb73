package main

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"phantom/app"
	"phantom/db"
	"phantom/db/dbtest"
)

// SIGTERM under load, fifty times: every request that the server took is answered, and it exits
// with 0.
func TestSignalUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	variables := production(t, dbtest.URL(t))
	variables["TRUSTED_PROXIES"] = loopback
	rounds, answered := 50, atomic.Int64{}
	for round := range rounds {
		server, base := ready(t, variables)
		var signalled atomic.Bool
		var clients sync.WaitGroup
		for i := range 8 {
			client := browser(t)
			transport := client.Transport.(*http.Transport)
			transport.DisableKeepAlives = i%2 == 0
			transport.DialContext = (&net.Dialer{Timeout: 300 * time.Millisecond}).DialContext
			path := []string{"/healthz", "/", "/api/auth/stripe", "/readyz"}[i%4]
			clients.Go(func() {
				for {
					status, body, err := get(client, base+path)
					switch {
					case isDialError(err) && signalled.Load():
						return // no connection was made, so no request was taken
					case err != nil:
						t.Errorf("round %d: a request to %s was lost: %v", round, path, err)
						return
					case status == http.StatusOK, status == http.StatusServiceUnavailable && strings.Contains(body, "draining"):
						answered.Add(1)
					default:
						t.Errorf("round %d: %s answered %d %s", round, path, status, body)
						return
					}
				}
			})
		}
		// the moment is meant to be random
		time.Sleep(time.Duration(5+rand.IntN(40)) * time.Millisecond)
		signalled.Store(true)
		signal := []syscall.Signal{syscall.SIGTERM, syscall.SIGINT}[round%2]
		server.signal(t, signal)
		clients.Wait()
		if code := server.wait(t); code != 0 {
			t.Errorf("round %d: exit code %d\n%s%s", round, code, server.stdout, server.stderr)
		}
		if !strings.Contains(server.stdout.String(), "[SERVER] stopping") || !strings.Contains(server.stdout.String(), "[SERVER] stopped") {
			t.Errorf("round %d: the signal was not logged:\n%s", round, server.stdout)
		}
	}
	t.Logf("%d requests answered over %d signals", answered.Load(), rounds)
}

func isDialError(err error) bool {
	var netErr *net.OpError
	return errors.As(err, &netErr) && netErr.Op == "dial"
}

// devMode is the environment of `go run .` with nothing set but a free port. Its files go with the
// test.
func devMode(t *testing.T) (map[string]string, func(*exec.Cmd)) {
	t.Helper()
	folder := t.TempDir()
	if os.Geteuid() == 0 {
		t.Cleanup(func() { _ = os.RemoveAll(app.RootFolder(folder)) })
	}
	return map[string]string{"PORT": freePort(t)}, func(command *exec.Cmd) { command.Dir = folder }
}

func TestDevMode(t *testing.T) {
	t.Parallel()
	variables, in := devMode(t)
	first, base := ready(t, variables, in)
	for _, standIn := range []string{"[SERVER] DEV MODE", "private PostgreSQL in place of DATABASE_URL", "a random key in place of ENCRYPTION_KEY", "the built-in sandbox in place of Stripe", bootLine} {
		if !strings.Contains(first.stdout.String(), standIn) {
			t.Errorf("the banner does not say %q:\n%s", standIn, first.stdout)
		}
	}
	handshake(t, base)

	first.signal(t, syscall.SIGKILL)
	first.wait(t)
	second, base := ready(t, variables, in)
	if !strings.Contains(second.stdout.String(), "adopted=true") {
		t.Errorf("PostgreSQL, which survived the crash, was not adopted:\n%s", second.stdout)
	}
	handshake(t, base)
	second.signal(t, syscall.SIGINT)
	if code := second.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}

	third, base := ready(t, variables, in) // with the kept key on the kept database
	if !strings.Contains(third.stdout.String(), "adopted=false") {
		t.Errorf("PostgreSQL was left running:\n%s", third.stdout)
	}
	handshake(t, base)
	third.signal(t, syscall.SIGTERM)
	third.wait(t)
}

// Without PostgreSQL on the machine the message says which command installs it.
func TestDevModeWithoutPostgreSQL(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	root := emptyRoot(t)
	if err := os.Chmod(root, 0o777); err != nil { // nobody makes .phantom in it
		t.Fatal(err)
	}
	p := start(t, map[string]string{"PORT": freePort(t)}, nil, inRoot(root, 65534))
	if code := p.wait(t); code != 1 || !strings.Contains(p.stderr.String(), "[DATABASE] PostgreSQL is not installed") || !strings.Contains(p.stderr.String(), "set DATABASE_URL, ENCRYPTION_KEY") {
		t.Errorf("exit code %d, said %s", code, p.stderr)
	}
}

// needsRoot skips at a desk and fails in CI, where nothing that should run is skipped.
func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("this test needs root, to change the root folder")
	}
	t.Skip("this test needs root, to change the root folder")
}

// emptyRoot is a folder with nothing in it but the binary: what the scratch image holds.
func emptyRoot(t *testing.T) string {
	t.Helper()
	root, err := os.MkdirTemp("", "phantom-root-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	text, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(root, 0o755), os.WriteFile(filepath.Join(root, "phantom"), text, 0o755)); err != nil {
		t.Fatal(err)
	}
	return root
}

func inRoot(root string, uid uint32) func(*exec.Cmd) {
	return func(command *exec.Cmd) {
		command.Path, command.Args[0], command.Dir = "/phantom", "/phantom", "/"
		command.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
}

// The image is the binary and nothing else: in an empty root folder, as a user without rights, it
// runs, and knows time zones and root certificates.
func TestRunsInAnEmptyRootAsNobody(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	url := dbtest.URL(t)
	variables := production(t, url)
	variables["DATABASE_URL"] = throughTCP(t, url)
	server, base := ready(t, variables, inRoot(emptyRoot(t), 65534))
	handshake(t, base)
	var zone *string
	if err := dbtest.Open(t, url, dbtest.Ring(t)).QueryRow(t.Context(), "SELECT timezone FROM merchants").Scan(&zone); err != nil || zone == nil {
		t.Errorf("the time zone was not known: %v", err)
	}
	server.signal(t, syscall.SIGTERM)
	if code := server.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}

	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	settings := make(map[string]string)
	for _, setting := range info.Settings {
		settings[setting.Key] = setting.Value
	}
	if settings["CGO_ENABLED"] != "0" || settings["-trimpath"] != "true" {
		t.Errorf("the binary is not built as promised: %v", settings)
	}
	hasRoots := func(dep *debug.Module) bool { return dep.Path == "golang.org/x/crypto/x509roots/fallback" }
	found := false
	for _, dep := range info.Deps {
		found = found || hasRoots(dep)
	}
	if !found {
		t.Error("the binary holds no root certificates")
	}
}

// A signal during the boot, here while it waits for a database, ends it without an error.
func TestSignalDuringBoot(t *testing.T) {
	t.Parallel()
	variables := production(t, "postgres://phantom@127.0.0.1:"+freePort(t)+"/phantom")
	server := start(t, variables, nil)
	server.awaitLine(t, bootLine)
	server.signal(t, syscall.SIGTERM)
	if code := server.wait(t); code != 0 || server.stderr.String() != "" || !strings.Contains(server.stdout.String(), "[SERVER] stopped before it was ready") {
		t.Errorf("exit code %d\n%s%s", code, server.stdout, server.stderr)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	variables := production(t, dbtest.URL(t))
	stuck := stuckServer(t)
	variables["STRIPE_CONNECT_BASE"], variables["STRIPE_API_BASE"] = stuck.url, stuck.url
	server, base := ready(t, variables)
	go func() { _, _, _ = get(browser(t), base+"/api/auth/stripe") }()
	<-stuck.asked
	server.signal(t, syscall.SIGTERM)
	server.awaitLine(t, "[SERVER] stopping")
	started := time.Now()
	for ended := false; !ended; {
		_ = server.command.Process.Signal(syscall.SIGTERM)
		select {
		case <-server.exited:
			ended = true
		case <-time.After(100 * time.Millisecond):
		}
	}
	if code := server.wait(t); code == 0 {
		t.Error("cut off and yet exit code 0")
	}
	// What is in flight ends by itself after 10 s.
	if took := time.Since(started); took >= 9*time.Second {
		t.Errorf("it took %s", took)
	}
}

// Ten thousand merchants are rewrapped while some of them connect again; the rewrap is killed
// half-way and run again.
func TestRewrapSurvivesKillUnderHandshakes(t *testing.T) {
	t.Parallel()
	const merchants = 10_000
	ctx, url := t.Context(), dbtest.URL(t)
	oldRing := dbtest.Ring(t)
	pool := dbtest.Open(t, url, oldRing)
	seedMerchants(t, pool, merchants)

	// The roll-out's second step: every process has the new key, and the old one among the
	// previous.
	stripe := newReconnectingStripe(t, merchants)
	variables := production(t, url)
	variables["STRIPE_API_BASE"], variables["STRIPE_CONNECT_BASE"] = stripe.url, stripe.url
	variables["ENCRYPTION_KEY"], variables["ENCRYPTION_KEYS_PREVIOUS"] = wrongKey, dbtest.Key
	variables["TRUSTED_PROXIES"] = loopback
	_, base := ready(t, variables)
	stop := make(chan struct{})
	var handshakes sync.WaitGroup
	for range 2 {
		client := browser(t)
		handshakes.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				status, body, err := get(client, base+"/api/auth/stripe")
				if err != nil || status != http.StatusOK || body != success {
					t.Errorf("handshake during rewrap: %d %q, %v", status, body, err)
					return
				}
			}
		})
	}

	underOldKey := func() (count int) {
		if err := pool.QueryRow(ctx, "SELECT count(*) FROM merchants WHERE access_token_key_id = $1 OR refresh_token_key_id = $1", oldRing.KeyID()).Scan(&count); err != nil {
			t.Fatal(err)
		}
		return count
	}
	first := start(t, variables, []string{"rewrap"})
	// A merchant is done when both its tokens are, and the refresh tokens come second: so this is a
	// little past the middle.
	for underOldKey() > merchants-merchants/10 {
		select {
		case <-first.exited:
			t.Fatalf("rewrap ended early: %s%s", first.stdout, first.stderr)
		case <-time.After(5 * time.Millisecond):
		}
	}
	first.signal(t, syscall.SIGKILL)
	first.wait(t)
	left := underOldKey()
	if left == 0 || left > merchants {
		t.Fatalf("the kill came too late or too early to prove anything: %d rows are left", left)
	}
	second := start(t, variables, []string{"rewrap"})
	if code := second.wait(t); code != 0 {
		t.Fatalf("second rewrap: exit code %d: %s%s", code, second.stdout, second.stderr)
	}
	close(stop)
	handshakes.Wait()

	if count := underOldKey(); count != 0 {
		t.Errorf("%d merchants are left under the old key", count)
	}
	newPool := dbtest.Open(t, url, ringOf(t, wrongKey))
	rows, err := newPool.Query(ctx, "SELECT * FROM merchants ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[db.Merchant])
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != merchants {
		t.Errorf("%d merchants, want %d", len(all), merchants)
	}
	reconnected := 0
	for _, m := range all {
		access, err := m.AccessToken.Reveal(accessContext(m.StripeUserID))
		if err != nil {
			t.Fatal(err)
		}
		refresh, err := m.RefreshToken.Reveal("merchants.refresh_token:" + m.StripeUserID)
		if err != nil {
			t.Fatal(err)
		}
		suffix, again := stripe.last(m.StripeUserID)
		if again {
			reconnected++
		}
		if access != "sk_test_"+m.StripeUserID+suffix || refresh != "rt_"+m.StripeUserID+suffix {
			t.Errorf("%s holds %s and %s, want the tokens that end in %q", m.StripeUserID, access, refresh, suffix)
		}
	}
	if reconnected == 0 {
		t.Error("no merchant connected again meanwhile")
	}
	t.Logf("killed with %d of %d merchants left; %d merchants connected again meanwhile; %s", left, merchants, reconnected, strings.TrimSpace(second.stdout.String()))
}

// migrations counts those that this binary carries: the newest is the schema's version.
func migrations(t *testing.T) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("sql", "migrations", "*.sql"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d migrations, %v", len(files), err)
	}
	return len(files)
}

// Migrations go over DATABASE_DIRECT_URL alone: DATABASE_URL may lead through a pooler that is not
// even up yet.
func TestMigrateUsesTheDirectURL(t *testing.T) {
	t.Parallel()
	p := start(t, map[string]string{
		"DATABASE_DIRECT_URL": dbtest.EmptyURL(t), "DATABASE_URL": "postgres://phantom@127.0.0.1:" + freePort(t) + "/phantom",
		"STRIPE_SECRET_KEY": "of no concern", "PORT": "of no concern",
	}, []string{"migrate"})
	if code := p.wait(t); code != 0 || p.stdout.String() != fmt.Sprintf("%d migrations run, the schema is current\n", migrations(t)) {
		t.Errorf("exit code %d: %s%s", code, p.stdout, p.stderr)
	}
}

// The start says who may connect, and the server holds to it.
func TestBootSaysWhoMayConnect(t *testing.T) {
	t.Parallel()
	variables := production(t, dbtest.URL(t))
	open, base := ready(t, variables)
	open.awaitLine(t, "[STRIPE] any account may connect: CONNECT_ACCOUNTS is not set")
	handshake(t, base)
	variables = production(t, dbtest.URL(t))
	variables["CONNECT_ACCOUNTS"] = "acct_1, acct_2"
	closed, base := ready(t, variables)
	closed.awaitLine(t, "[STRIPE] only listed accounts may connect accounts=2")
	status, body, err := get(browser(t), base+"/api/auth/stripe")
	if err != nil || status != http.StatusForbidden || !strings.Contains(body, "account_not_listed") {
		t.Errorf("%d %s, %v", status, body, err)
	}
}
