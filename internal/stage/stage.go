// Package stage builds what the tests of several packages act on. There is a sandbox as Stripe, a
// merchant who has agreed, a database asked by plain SQL, and a log that is read while it is
// written.
package stage

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/sandbox"
	"phantom/vault"
)

// RedirectURI is where a sandbox sends a merchant who has agreed. Nobody listens there.
const RedirectURI = "http://localhost:8080/api/auth/callback"

// Stripe starts a sandbox that goes by the tests' clock, unless config names another one, and
// returns it with its URL.
func Stripe(t testing.TB, config sandbox.Config) (world *sandbox.Sandbox, url string) {
	t.Helper()
	if config.Now == nil {
		config.Now = dbtest.Now
	}
	world, err := sandbox.New(config)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(world)
	t.Cleanup(server.Close)
	return world, server.URL
}

// Agree opens a page of Stripe's, as the browser of a merchant who agrees, and returns what Stripe
// sends back. An empty account is the sandbox's first.
func Agree(t testing.TB, page, account string) (state, code string) {
	t.Helper()
	if account != "" {
		page += "&sandbox_account=" + account
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Get(page)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	back, err := response.Location()
	if err != nil {
		t.Fatal(err)
	}
	return back.Query().Get("state"), back.Query().Get("code")
}

// Merchant stores a connected merchant, as a handshake does, and returns its id.
func Merchant(t testing.TB, tx db.DBTX, account string, change ...func(*db.MerchantCreateParams)) uuid.UUID {
	t.Helper()
	token := vault.NewToken("merchants.access_token:"+account, "sk_test_canary_"+account)
	row := db.MerchantCreateParams{ID: uuid.Must(uuid.NewV7()), StripeUserID: account, AccessToken: &token, Scope: "read_write"}
	for _, f := range change {
		f(&row)
	}
	id, err := db.New(tx).MerchantCreate(t.Context(), row)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Live makes a merchant that [Merchant] stores one in live mode.
func Live(row *db.MerchantCreateParams) { row.Livemode = true }

// Database is a test's database that is asked by plain SQL. What fails ends the test.
type Database struct {
	t    testing.TB
	pool *pgxpool.Pool
}

// On returns the database of a pool.
func On(t testing.TB, pool *pgxpool.Pool) Database {
	t.Helper()
	return Database{t, pool}
}

// Exec runs a statement.
func (d Database) Exec(statement string, args ...any) {
	d.t.Helper()
	if _, err := d.pool.Exec(d.t.Context(), statement, args...); err != nil {
		d.t.Fatal(err)
	}
}

// Count reads a number.
func (d Database) Count(query string, args ...any) (n int) {
	d.t.Helper()
	d.scan(query, args, &n)
	return n
}

// Text reads a text.
func (d Database) Text(query string, args ...any) (text string) {
	d.t.Helper()
	d.scan(query, args, &text)
	return text
}

func (d Database) scan(query string, args []any, into any) {
	d.t.Helper()
	if err := d.pool.QueryRow(d.t.Context(), query, args...).Scan(into); err != nil {
		d.t.Fatal(err)
	}
}

// patience is long: a busy machine may need it, and an idle one does not wait.
const patience = 3 * time.Minute

// Await asks until the answer is yes. A no after three minutes ends the test, and shows the log if
// there is one.
func Await(t testing.TB, what string, log fmt.Stringer, ask func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ask(); time.Sleep(10 * time.Millisecond) {
		if !time.Now().After(end) {
			continue
		}
		if log == nil {
			t.Fatalf("waited in vain: %s", what)
		}
		t.Fatalf("waited in vain: %s\n%s", what, log)
	}
}

// Log collects what several goroutines write, and may be read meanwhile.
type Log struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

// Logger writes text into the log.
func (l *Log) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *Log) Write(p []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.Write(p)
}

func (l *Log) String() string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.String()
}
