//go:build failpoints

package recovery

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db/dbtest"
)

// simEpoch is where every simulation begins, give or take some hours: far ahead, so that no real
// clock is later.
var simEpoch = time.Date(2030, 1, 7, 9, 0, 0, 0, time.UTC)

// simDatabase is one database whose clock and luck a simulation sets, emptied between seeds. Every
// clock of our SQL is a name that is looked up in schema sim first.
type simDatabase struct {
	pool                    *pgxpool.Pool
	reset, snapshot, revive string // scripts
	emptied                 int    // times
}

const simClock = `
CREATE SCHEMA sim;
CREATE SEQUENCE sim.clock MINVALUE 0; -- microseconds since 1970
CREATE SEQUENCE sim.luck MINVALUE 0;  -- billionths
SELECT setval('sim.clock', 1893488400000000), setval('sim.luck', 500000000);
-- A sequence is read without a plan; a query in here would be planned anew with each call.
CREATE FUNCTION sim.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RETURN timestamptz 'epoch' + pg_sequence_last_value('sim.clock') * interval '1 microsecond';
END $$;
CREATE FUNCTION sim.random() RETURNS double precision LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RETURN pg_sequence_last_value('sim.luck') / 1e9;
END $$;
CREATE FUNCTION sim.now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
    RETURN sim.clock_timestamp();
CREATE OR REPLACE FUNCTION public.phantom_now() RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE RETURN sim.clock_timestamp();
DO $$ DECLARE d record; BEGIN
    FOR d IN SELECT x.adrelid::regclass AS tab, a.attname,
            replace(pg_get_expr(x.adbin, x.adrelid), 'pg_catalog.', '') AS expr
        FROM pg_attrdef x JOIN pg_attribute a ON a.attrelid = x.adrelid AND a.attnum = x.adnum
        WHERE a.attgenerated = '' AND pg_get_expr(x.adbin, x.adrelid) LIKE '%clock_timestamp()%'
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s', d.tab, d.attname,
            replace(d.expr, 'clock_timestamp()', 'sim.clock_timestamp()'));
    END LOOP;
    EXECUTE format('ALTER DATABASE %I SET search_path = sim, pg_catalog, public',
        current_database());
    EXECUTE format('ALTER DATABASE %I SET jit = off', current_database());
    EXECUTE format('ALTER DATABASE %I SET plan_cache_mode = force_generic_plan',
        current_database());
END $$;
ALTER TABLE audit_log DISABLE TRIGGER USER; -- it is emptied for the next world
CREATE SCHEMA past;`

// simTables are all that a backup holds, each with the columns that are written.
const simTables = `
SELECT c.table_name, string_agg(quote_ident(c.column_name), ', ' ORDER BY c.ordinal_position)
FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE' AND c.is_generated = 'NEVER'
    AND c.table_name NOT IN ('vault_sentinels', 'schema_version')
GROUP BY c.table_name ORDER BY c.table_name`

func newSimDatabase(t testing.TB) *simDatabase {
	t.Helper()
	address, err := url.Parse(dbtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), address.String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.PgConn().Exec(t.Context(), simClock).ReadAll(); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(t.Context(), simTables)
	if err != nil {
		t.Fatal(err)
	}
	var tables, reset, snapshot, revive strings.Builder
	var table, columns string
	if _, err := pgx.ForEachRow(rows, []any{&table, &columns}, func() error {
		fmt.Fprintf(&tables, "CREATE TABLE past.%s AS SELECT %s FROM public.%s WITH NO DATA;", table,
			columns, table)
		fmt.Fprintf(&reset, "DELETE FROM public.%s;", table)
		fmt.Fprintf(&snapshot, "DELETE FROM past.%s; INSERT INTO past.%s SELECT %s FROM public.%s;",
			table, table, columns, table)
		fmt.Fprintf(&revive, "INSERT INTO public.%s (%s) OVERRIDING SYSTEM VALUE SELECT * FROM past.%s;", table, columns, table)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	tables.WriteString("CREATE TABLE past.tickets (last bigint)")
	if _, err := conn.PgConn().Exec(t.Context(), tables.String()).ReadAll(); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(t.Context())
	query := address.Query()
	// no pooler is there, and a plan is made once
	query.Set("default_query_exec_mode", "cache_statement")
	query.Set("pool_max_conns", "12")
	address.RawQuery = query.Encode()
	// Without foreign keys being checked, in any order.
	whole := func(script string) string {
		return "BEGIN; SET LOCAL session_replication_role = replica;" + script + "COMMIT"
	}
	snapshot.WriteString("DELETE FROM past.tickets;")
	snapshot.WriteString("INSERT INTO past.tickets SELECT last_value FROM ghost_tickets;")
	revive.WriteString("SELECT setval('ghost_tickets', last) FROM past.tickets;")
	return &simDatabase{
		pool:     dbtest.Open(t, address.String(), dbtest.Ring(t)),
		reset:    whole(reset.String()),
		snapshot: whole(snapshot.String()),
		revive:   whole(reset.String() + revive.String()),
	}
}

func (d *simDatabase) run(ctx context.Context, script string) error {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	_, err = conn.Conn().PgConn().Exec(ctx, script).ReadAll()
	return err
}
