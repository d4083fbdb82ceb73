package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/vault"
)

const wrongKey = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"

// Every way to be misconfigured ends with exit code 1, a wrong call with 2, and each with one exact
// line that says what to do, before anything is served.
func TestBootFailures(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	ring := dbtest.Ring(t)
	dbtest.Open(t, url, ring)
	newer := dbtest.URL(t)
	conn, err := pgx.Connect(t.Context(), newer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "UPDATE schema_version SET version = 999"); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(t.Context())
	taken, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	_, takenPort, _ := net.SplitHostPort(taken.Addr().String())
	folder := t.TempDir()
	empty := filepath.Join(folder, "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	nobody := "127.0.0.1:" + freePort(t)
	wrongID, _ := vault.ParseKey(wrongKey)

	good := map[string]string{
		"PORT": freePort(t), "DATABASE_URL": url, "ENCRYPTION_KEY": dbtest.Key,
		"STRIPE_SECRET_KEY": "sk_test_phantom_sandbox", "STRIPE_CLIENT_ID": "ca_phantom_sandbox",
	}
	const unset = "\x00"
	for name, test := range map[string]struct {
		change map[string]string
		args   []string
		line   string
	}{
		"three missing": {
			change: map[string]string{"ENCRYPTION_KEY": unset, "STRIPE_SECRET_KEY": unset, "STRIPE_CLIENT_ID": unset},
			line:   "[SERVER] ENCRYPTION_KEY, STRIPE_SECRET_KEY, STRIPE_CLIENT_ID are not set: provide them (README, Environment), or set PHANTOM_DEV=1 to try PHANTOM with stand-ins",
		},
		"no DATABASE_URL": {
			change: map[string]string{"DATABASE_URL": unset},
			line:   "[DATABASE] DATABASE_URL is not set: provide postgres://user:password@host:5432/name",
		},
		"two sizes of the pool": {
			change: map[string]string{"DATABASE_URL": url + "&pool_max_conns=3", "DATABASE_POOL": "9"},
			line:   "[DATABASE] DATABASE_POOL and pool_max_conns in DATABASE_URL are both set: keep one of them",
		},
		"a pool of no number": {
			change: map[string]string{"DATABASE_POOL": "many"},
			line:   `[DATABASE] DATABASE_POOL "many" is not usable: provide a number from 0 to 1000`,
		},
		"no ENCRYPTION_KEY": {
			change: map[string]string{"ENCRYPTION_KEY": unset},
			line:   "[SECURITY] ENCRYPTION_KEY is not set: provide 64 hex characters (openssl rand -hex 32)",
		},
		"no STRIPE_SECRET_KEY": {
			change: map[string]string{"STRIPE_SECRET_KEY": unset},
			line:   "[STRIPE] STRIPE_SECRET_KEY is not set: provide the platform's secret key (sk_…), or STRIPE_MERCHANT_KEY_FILE for one account without a platform",
		},
		"no STRIPE_CLIENT_ID": {
			change: map[string]string{"STRIPE_CLIENT_ID": unset},
			line:   "[STRIPE] STRIPE_CLIENT_ID is not set: provide the platform's Connect client id (ca_…)",
		},
		"short key": {
			change: map[string]string{"ENCRYPTION_KEY": dbtest.Key[:63]},
			line:   "[SECURITY] ENCRYPTION_KEY: malformed key: provide 64 hex characters (openssl rand -hex 32) or base64 of exactly 32 bytes",
		},
		"malformed previous key": {
			change: map[string]string{"ENCRYPTION_KEYS_PREVIOUS": wrongKey + ",password"},
			line:   "[SECURITY] ENCRYPTION_KEYS_PREVIOUS, item 2: malformed key: provide 64 hex characters (openssl rand -hex 32) or base64 of exactly 32 bytes",
		},
		"wrong key": {
			change: map[string]string{"ENCRYPTION_KEY": wrongKey},
			line:   "[SECURITY] ENCRYPTION_KEY (key id " + wrongID.ID() + ") does not match this database (sealed under " + ring.KeyID() + ")",
		},
		"key swapped without the previous one": {
			change: map[string]string{"ENCRYPTION_KEY": wrongKey, "ENCRYPTION_KEYS_PREVIOUS": strings.Repeat("ab", 32)},
			line:   "[SECURITY] ENCRYPTION_KEY (key id " + wrongID.ID() + ") does not match this database (sealed under " + ring.KeyID() + ")",
		},
		"key twice": {
			change: map[string]string{"ENCRYPTION_KEY_FILE": empty},
			line:   "[SERVER] ENCRYPTION_KEY and ENCRYPTION_KEY_FILE are both set: provide one of them",
		},
		"no such file": {
			change: map[string]string{"ENCRYPTION_KEY": unset, "ENCRYPTION_KEY_FILE": "/no/such/file"},
			line:   "[SERVER] ENCRYPTION_KEY_FILE names a file that cannot be read: no such file or directory",
		},
		"empty file": {
			change: map[string]string{"ENCRYPTION_KEY": unset, "ENCRYPTION_KEY_FILE": empty},
			line:   "[SERVER] ENCRYPTION_KEY_FILE names an empty file",
		},
		"port by name": {
			change: map[string]string{"PORT": "http"},
			line:   `[SERVER] PORT "http" is not a port: provide a number from 1 to 65535`,
		},
		"port out of range": {
			change: map[string]string{"PORT": "65536"},
			line:   `[SERVER] PORT "65536" is not a port: provide a number from 1 to 65535`,
		},
		"port taken": {
			change: map[string]string{"PORT": takenPort},
			line:   "[SERVER] cannot listen on port " + takenPort + ": listen tcp :" + takenPort + ": bind: address already in use: set PORT to a free one",
		},
		"no address for metrics": {
			change: map[string]string{"METRICS_ADDR": "9090"},
			line:   `[SERVER] METRICS_ADDR "9090" is no address: provide host:port, such as 127.0.0.1:9090, or :9090 for all of this machine's`,
		},
		"no port for metrics": {
			change: map[string]string{"METRICS_ADDR": "127.0.0.1:http"},
			line:   `[SERVER] METRICS_ADDR "127.0.0.1:http" is no address: provide host:port, such as 127.0.0.1:9090, or :9090 for all of this machine's`,
		},
		"metrics' port taken": {
			change: map[string]string{"METRICS_ADDR": ":" + takenPort},
			line:   "[SERVER] cannot listen at METRICS_ADDR :" + takenPort + ": listen tcp :" + takenPort + ": bind: address already in use: provide a free host:port of this machine",
		},
		"public URL without a scheme": {
			change: map[string]string{"PUBLIC_URL": "phantom.example.com"},
			line:   "[SERVER] PUBLIC_URL is malformed: provide an address such as https://phantom.example.com",
		},
		"public URL with a query": {
			change: map[string]string{"PUBLIC_URL": "https://phantom.example.com/?next=x"},
			line:   "[SERVER] PUBLIC_URL is malformed: provide an address such as https://phantom.example.com",
		},
		"public URL with a path": {
			change: map[string]string{"PUBLIC_URL": "https://phantom.example.com/app"},
			line:   "[SERVER] PUBLIC_URL is malformed: provide an address such as https://phantom.example.com",
		},
		"dev mode forced off with nothing set": {
			change: map[string]string{"PHANTOM_DEV": "0", "DATABASE_URL": unset, "ENCRYPTION_KEY": unset, "STRIPE_SECRET_KEY": unset, "STRIPE_CLIENT_ID": unset},
			line:   "[SERVER] DATABASE_URL, ENCRYPTION_KEY, STRIPE_SECRET_KEY, STRIPE_CLIENT_ID are not set: provide them (README, Environment), or set PHANTOM_DEV=1 to try PHANTOM with stand-ins",
		},
		"a secret where its file belongs": {
			change: map[string]string{"ENCRYPTION_KEY": unset, "ENCRYPTION_KEY_FILE": dbtest.Key},
			line:   "[SERVER] ENCRYPTION_KEY_FILE names a file that cannot be read: no such file or directory",
		},
		"unescaped @ in the password": {
			change: map[string]string{"DATABASE_URL": "postgres://u:1@hunter2@127.0.0.1:1/db"},
			line:   "[DATABASE] DATABASE_URL: malformed: provide postgres://user:password@host:5432/name, with special characters percent-encoded",
		},
		"unescaped / in the password": {
			change: map[string]string{"DATABASE_URL": "postgres://u:12/hunter2@127.0.0.1:1/db"},
			line:   "[DATABASE] DATABASE_URL: malformed: provide postgres://user:password@host:5432/name, with special characters percent-encoded",
		},
		"missing TLS file": {
			change: map[string]string{"DATABASE_URL": "postgres://u:hunter2@127.0.0.1:1/db?sslmode=verify-full&sslrootcert=/missing.pem"},
			line:   "[DATABASE] DATABASE_URL: a file that its query names cannot be read: no such file or directory",
		},
		"two databases": {
			change: map[string]string{"DATABASE_DIRECT_URL": url, "DATABASE_URL": dbtest.EmptyURL(t)},
			line: "[DATABASE] look up type sealed_token: it does not exist: run phantom migrate, and let DATABASE_URL and DATABASE_DIRECT_URL " +
				"name the same database",
		},
		"a key with a newline": {
			change: map[string]string{"STRIPE_SECRET_KEY": "sk_test_1\n"},
			line:   "[STRIPE] STRIPE_SECRET_KEY is malformed: provide the platform's secret key (sk_live_… or sk_test_…)",
		},
		"another database": {
			change: map[string]string{"DATABASE_URL": "mysql://root:hunter2@localhost/phantom"},
			line:   "[DATABASE] DATABASE_URL: malformed: provide postgres://user:password@host:5432/name, with special characters percent-encoded",
		},
		"malformed direct URL": {
			change: map[string]string{"DATABASE_DIRECT_URL": "localhost"},
			line:   "[DATABASE] DATABASE_DIRECT_URL: malformed: provide postgres://user:password@host:5432/name, with special characters percent-encoded",
		},
		"database unreachable": {
			change: map[string]string{"DATABASE_URL": "postgres://phantom:hunter2@" + nobody + "/phantom"},
			line:   "[DATABASE] cannot reach PostgreSQL at " + nobody + "/phantom after 10s: dial tcp " + nobody + ": connect: connection refused",
		},
		"newer schema": {
			change: map[string]string{"DATABASE_URL": newer},
			line:   fmt.Sprintf("[DATABASE] the schema is at version 999 and this binary knows only %d: run a newer phantom", migrations(t)),
		},
		"publishable key": {
			change: map[string]string{"STRIPE_SECRET_KEY": "pk_test_1"},
			line:   "[STRIPE] STRIPE_SECRET_KEY is malformed: provide the platform's secret key (sk_live_… or sk_test_…)",
		},
		"client id of something else": {
			change: map[string]string{"STRIPE_CLIENT_ID": "acct_1"},
			line:   "[STRIPE] STRIPE_CLIENT_ID is malformed: provide the platform's Connect client id (ca_…)",
		},
		"an API key for a webhook's secret": {
			change: map[string]string{"STRIPE_WEBHOOK_SECRET": "sk_test_1"},
			line:   "[STRIPE] STRIPE_WEBHOOK_SECRET, item 1, is malformed: provide the endpoint's signing secret (whsec_…)",
		},
		"an empty secret, which signs for everybody": {
			change: map[string]string{"STRIPE_WEBHOOK_SECRET": "whsec_old,"},
			line:   "[STRIPE] STRIPE_WEBHOOK_SECRET, item 2, is malformed: provide the endpoint's signing secret (whsec_…)",
		},
		"an account that is none": {
			change: map[string]string{"CONNECT_ACCOUNTS": "acct_1, ca_2"},
			line:   "[STRIPE] CONNECT_ACCOUNTS, item 2, is no account: provide ids of Stripe accounts (acct_…) with commas, or leave it unset and any may connect",
		},
		"no accounts": {
			change: map[string]string{"CONNECT_ACCOUNTS": ","},
			line:   "[STRIPE] CONNECT_ACCOUNTS, item 1, is no account: provide ids of Stripe accounts (acct_…) with commas, or leave it unset and any may connect",
		},
		"a proxy by name": {
			change: map[string]string{"TRUSTED_PROXIES": "10.0.0.0/8,proxy.internal"},
			line:   "[SERVER] TRUSTED_PROXIES, item 2, is no network of proxies: provide CIDRs with commas, such as 10.0.0.0/8,fd00::/8",
		},
		"everybody a proxy": {
			change: map[string]string{"TRUSTED_PROXIES": "::/0"},
			line:   "[SERVER] TRUSTED_PROXIES, item 1, is no network of proxies: provide CIDRs with commas, such as 10.0.0.0/8,fd00::/8",
		},
		"one base of Stripe's": {
			change: map[string]string{"STRIPE_API_BASE": "http://127.0.0.1:1"},
			line:   "[STRIPE] only one of STRIPE_API_BASE and STRIPE_CONNECT_BASE is set: provide both, or neither for Stripe itself",
		},
		"a live key in the clear": {
			change: map[string]string{"STRIPE_SECRET_KEY": "sk_live_1", "PUBLIC_URL": "https://phantom.example.com", "STRIPE_API_BASE": "http://127.0.0.1:1", "STRIPE_CONNECT_BASE": "https://connect.example.com"},
			line:   "[STRIPE] STRIPE_API_BASE is not https: a live key is never sent over a plain connection",
		},
		"a live key without an address that customers can reach": {
			change: map[string]string{"STRIPE_SECRET_KEY": "sk_live_1", "PUBLIC_URL": ""},
			line:   "[SERVER] PUBLIC_URL must begin with https:// where the key is a live one: provide the address that the server is reached under, for phantom work too; the links in messages to customers lead there",
		},
		"dev mode with a live key": {
			change: map[string]string{"PHANTOM_DEV": "1", "STRIPE_SECRET_KEY": "sk_live_1"},
			line:   "[STRIPE] dev mode never runs with a live key: unset PHANTOM_DEV, or provide a test key (sk_test_…)",
		},
		"dev mode perhaps": {
			change: map[string]string{"PHANTOM_DEV": "yes"},
			line:   "[SERVER] PHANTOM_DEV is malformed: provide 1 or 0, or leave it unset",
		},
		"unknown log format": {
			change: map[string]string{"LOG_FORMAT": "xml"},
			line:   `[SERVER] LOG_FORMAT "xml" is unknown: provide text or json`,
		},
		"unknown command": {
			args: []string{"audti"},
			line: `phantom has no command "audti": phantom help lists them`,
		},
		"argument too many": {
			args: []string{"migrate", "now"},
			line: `phantom migrate takes no argument "now": phantom migrate -h shows what it takes`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			variables := maps.Clone(good)
			for key, value := range test.change {
				if value == unset {
					delete(variables, key)
				} else {
					variables[key] = value
				}
			}
			p := start(t, variables, test.args)
			want := 1
			if len(test.args) > 0 && strings.HasPrefix(test.line, "phantom ") { // called in a wrong way
				want = 2
			}
			if code := p.wait(t); code != want {
				t.Errorf("exit code %d, want %d", code, want)
			}
			if got := p.stderr.String(); got != test.line+"\n" {
				t.Errorf("said\n%swant\n%s", got, test.line)
			}
			if strings.Contains(p.stdout.String(), "[SERVER] ready") {
				t.Error("it served all the same")
			}
		})
	}
	t.Cleanup(func() { // runs after the parallel subtests
		pool, err := db.Open(context.Background(), url, ring)
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		var sentinels int
		if err := pool.QueryRow(context.Background(), "SELECT count(*) FROM vault_sentinels").Scan(&sentinels); err != nil || sentinels != 1 {
			t.Errorf("a refused key left its sentinel: %d, %v", sentinels, err)
		}
	})
}
