package db_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/db/dbtest"
)

// A pooler is assumed, no matter what the driver's default is, unless the URL names a mode itself.
func TestExecMode(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]pgx.QueryExecMode{
		"":                                  pgx.QueryExecModeCacheDescribe,
		"?sslmode=disable&pool_max_conns=2": pgx.QueryExecModeCacheDescribe,
		"?default_query_exec_mode=cache_statement": pgx.QueryExecModeCacheStatement,
		"?default_query_exec_mode=exec":            pgx.QueryExecModeExec,
	} {
		pool, err := db.Open(t.Context(), "postgres://localhost/x"+query, dbtest.Ring(t))
		if err != nil {
			t.Fatal(err)
		}
		if got := pool.Config().ConnConfig.DefaultQueryExecMode; got != want {
			t.Errorf("%q: %s, want %s", query, got, want)
		}
		pool.Close()
	}
}

// What a URL says of a pool is for pools alone: anyone who makes one connection takes the same URL.
func TestPoolOfTheURL(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	for text, want := range map[string]string{
		"postgres://?host=/run/postgresql&dbname=x":    "postgres://?host=/run/postgresql&dbname=x&pool_max_conns=7",
		"postgres://u:p%20%2B@h/x":                     "postgres://u:p%20%2B@h/x?pool_max_conns=7",
		"postgres://h/x?pool_max_conns=3&sslmode=none": "postgres://h/x?sslmode=none&pool_max_conns=7",
		"postgres://h:1,g:2/x":                         "postgres://h:1,g:2/x?pool_max_conns=7",
	} {
		if got := db.WithPool(text, 7); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if err := db.CheckURL("postgres://?host=/run/postgresql&dbname=x&pool_max_conns=7"); err != nil {
		t.Error(err)
	}
	for _, test := range []struct {
		url  string
		size int32
	}{{db.WithPool(url, 7), 7}, {db.WithPool(db.WithPool(url, 3), 7), 7}} {
		pool, err := db.Open(t.Context(), test.url, dbtest.Ring(t))
		if err != nil {
			t.Fatal(err)
		}
		if got := pool.Config().MaxConns; got != test.size {
			t.Errorf("a pool of %d connections, want %d", got, test.size)
		}
		pool.Close()
		if err := db.WaitReachable(t.Context(), test.url, time.Second); err != nil {
			t.Error(err)
		}
		if _, err := db.Migrate(t.Context(), test.url, slog.New(slog.DiscardHandler)); err != nil {
			t.Error(err)
		}
		conn, err := db.Connect(t.Context(), test.url)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close(t.Context())
	}
}

// A server that does not answer is given up after three seconds, unless the URL says otherwise.
func TestConnectTimeout(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]time.Duration{"": 3 * time.Second, "?connect_timeout=20": 20 * time.Second} {
		pool, err := db.Open(t.Context(), "postgres://nobody@127.0.0.1:1/none"+query, dbtest.Ring(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		if got := pool.Config().ConnConfig.ConnectTimeout; got != want {
			t.Errorf("%q: %s, want %s", query, got, want)
		}
	}
}
