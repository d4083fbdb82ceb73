package db_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/db/dbtest"
)

// A pooler is assumed, whatever the driver's default is, unless the URL names a mode itself.
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
