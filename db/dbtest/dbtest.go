// Package dbtest gives each test a fresh, migrated database on a real PostgreSQL.
//
// One private server is shared by all test binaries that run at the same time; the last one to end
// stops it. TEST_DATABASE_URL names another server, whose user must be allowed to create databases.
package dbtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/db/local"
	"phantom/sql/migrations"
	"phantom/vault"
)

// Key is the ENCRYPTION_KEY of every test that does not bring its own.
const Key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

// small keeps what the server leaves behind from one run to the next small: it may lie in memory.
var small = []string{"max_wal_size=128MB", "min_wal_size=32MB", "wal_recycle=off"}

// serverURL is set by Main before any test runs.
var serverURL string

// Main starts or joins the shared server, runs the package's tests and leaves the server. TestMain
// passes its result to os.Exit.
func Main(m *testing.M) int {
	if errClock != nil {
		fmt.Fprintln(os.Stderr, "dbtest:", errClock)
		return 1
	}
	ctx := context.Background()
	if serverURL = os.Getenv("TEST_DATABASE_URL"); serverURL == "" {
		dir := filepath.Join(folder(), "phantom-test-"+strconv.Itoa(os.Geteuid()))
		server, err := local.Start(ctx, local.Config{Dir: dir, Database: "phantom_test", Unsafe: true, Settings: small})
		if err != nil {
			fmt.Fprintln(os.Stderr, "dbtest:", err)
			return 1
		}
		defer func() {
			if err := server.Stop(ctx); err != nil {
				fmt.Fprintln(os.Stderr, "dbtest:", err)
			}
		}()
		serverURL = server.URL()
	}
	if err := makeTemplate(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "dbtest:", err)
		return 1
	}
	return m.Run()
}

// Ring returns the keyring of Key.
func Ring(t testing.TB) *vault.Keyring {
	t.Helper()
	ring, err := NewRing()
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// NewRing is Ring for a process that a test started.
func NewRing() (*vault.Keyring, error) {
	key, err := vault.ParseKey(Key)
	if err != nil {
		return nil, err
	}
	return vault.NewKeyring(key)
}

// URL returns the URL of a migrated database that is the test's own and is dropped after it.
func URL(t testing.TB) string {
	t.Helper()
	made := create(t, templateName())
	setClock(t, made)
	return made
}

// EmptyURL returns the URL of a database without a schema that is the test's own and is dropped
// after it.
func EmptyURL(t testing.TB) string {
	t.Helper()
	return create(t, "template1")
}

// Pool returns a pool, opened as the program opens it, on a database of the test's own.
func Pool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return Open(t, URL(t), Ring(t))
}

// Open returns a pool on the database at url after ring has been verified, as the program does.
func Open(t testing.TB, url string, ring *vault.Keyring) *pgxpool.Pool {
	t.Helper()
	pool, err := db.Open(t.Context(), url, ring)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if err := db.VerifyKeyring(t.Context(), pool, ring); err != nil {
		t.Fatal(err)
	}
	return pool
}

func create(t testing.TB, template string) string {
	t.Helper()
	if serverURL == "" {
		t.Fatal("dbtest.Main has not run: call it in TestMain")
	}
	// The day in the name lets a later run sweep what a killed one left.
	name := fmt.Sprintf("%s%d_%s", testPrefix, time.Now().Unix(), strings.ToLower(rand.Text()[:12]))
	admin(t, fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", name, template))
	t.Cleanup(func() { admin(t, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)") })
	return patient(withDatabase(name))
}

// patient is url with the patience to connect that a busy machine may need.
func patient(url string) string {
	if strings.Contains(url, "connect_timeout=") {
		return url
	}
	if strings.Contains(url, "?") {
		return url + "&connect_timeout=60"
	}
	return url + "?connect_timeout=60"
}

func admin(t testing.TB, statement string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, serverURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func withDatabase(name string) string {
	parsed, err := url.Parse(serverURL)
	if err != nil {
		panic("dbtest: TEST_DATABASE_URL is not an URL")
	}
	parsed.Path = "/" + name
	return parsed.String()
}

const (
	testPrefix     = "phantom_t_"
	templatePrefix = "phantom_template_"
)

// templateName holds the migrations' hash, so that a changed migration makes a new template.
func templateName() string {
	sum := sha256.New()
	_ = fs.WalkDir(migrations.Files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			text, _ := fs.ReadFile(migrations.Files, path)
			fmt.Fprintf(sum, "%s\n%s\n", path, text)
		}
		return err
	})
	return templatePrefix + hex.EncodeToString(sum.Sum(nil)[:8])
}

// makeTemplate migrates the template database once for all test binaries and sweeps leftovers older
// than an hour.
func makeTemplate(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, serverURL)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	// Released with the connection.
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock(7264519)"); err != nil {
		return err
	}
	rows, err := conn.Query(ctx, `SELECT datname, coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database
		WHERE datname LIKE 'phantom\_t\_%' OR datname LIKE 'phantom\_template\_%' ORDER BY datname`)
	if err != nil {
		return err
	}
	databases, err := pgx.CollectRows(rows, pgx.RowToStructByPos[database])
	if err != nil {
		return err
	}
	found := false
	for _, d := range databases {
		if d.Name == templateName() {
			found = true
		} else if d.stale() {
			if _, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+d.Name+" WITH (FORCE)"); err != nil {
				return err
			}
		}
	}
	if found {
		return used(ctx, conn)
	}
	// Migrated under another name and renamed, so that a killed run leaves no half template.
	building := testPrefix + "0_building"
	if _, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+building+" WITH (FORCE)"); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+building); err != nil {
		return err
	}
	if _, err := db.Migrate(ctx, withDatabase(building), slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "ALTER DATABASE "+building+" RENAME TO "+templateName())
	var pgErr *pgconn.PgError
	if err != nil && !(errors.As(err, &pgErr) && pgErr.Code == "42P04") {
		return err
	}
	return used(ctx, conn)
}

// used notes in the template when it was last used.
func used(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, fmt.Sprintf("COMMENT ON DATABASE %s IS '%d'", templateName(), time.Now().Unix()))
	return err
}

// database is one that tests have made. Comment is when a template was last used, in Unix seconds.
type database struct{ Name, Comment string }

// stale reports a template that nobody has used for an hour, or a test's database that is older
// than any run. Another checkout's tests, with other migrations, may run at this moment.
func (d database) stale() bool {
	last := d.Comment
	if rest, isTest := strings.CutPrefix(d.Name, testPrefix); isTest {
		last, _, _ = strings.Cut(rest, "_")
	}
	seconds, err := strconv.ParseInt(last, 10, 64)
	return err != nil || time.Since(time.Unix(seconds, 0)) > time.Hour
}
