package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"phantom/db/dbtest"
	"phantom/doctor"
)

// twoRoles is an empty database and two roles: one that owns it, and one that may connect.
func twoRoles(t *testing.T) (owner, runtime string) {
	t.Helper()
	admin := dbtest.EmptyURL(t) // outlives the other, so that the roles can be dropped after it
	name := "phantom_" + strings.ToLower(rand.Text()[:10])
	password := rand.Text()
	t.Cleanup(func() {
		for _, role := range []string{"_owner", "_runtime"} {
			execute(t, admin, "DROP ROLE IF EXISTS "+name+role)
		}
	})
	execute(t, admin, fmt.Sprintf("CREATE ROLE %[1]s_owner LOGIN PASSWORD '%[2]s'; CREATE ROLE %[1]s_runtime LOGIN PASSWORD '%[2]s'; "+
		"GRANT %[1]s_runtime TO %[1]s_owner", name, password))
	database := dbtest.EmptyURL(t)
	execute(t, database, fmt.Sprintf("ALTER DATABASE %s OWNER TO %s_owner; REVOKE CREATE ON SCHEMA public FROM PUBLIC; "+
		"GRANT CREATE ON SCHEMA public TO %[2]s_owner", databaseOf(t, database), name))
	as := func(role string) string {
		parsed, err := url.Parse(database)
		if err != nil {
			t.Fatal(err)
		}
		parsed.User = url.UserPassword(name+role, password)
		return parsed.String()
	}
	return as("_owner"), as("_runtime")
}

func databaseOf(t *testing.T, databaseURL string) string {
	t.Helper()
	parsed, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(parsed.Path, "/")
}

func roleOf(t *testing.T, databaseURL string) string {
	t.Helper()
	parsed, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.User.Username()
}

func execute(t *testing.T, databaseURL, statement string) {
	t.Helper()
	if err := attempt(databaseURL, statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// attempt runs a statement on a connection of its own.
func attempt(databaseURL, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, statement)
	return err
}

// The whole product as a role that may change rows and nothing else, against tables that another
// role has made: boot, handshake, audit, charges, and every command of an operator.
func TestARoleOfRowsAloneRunsAll(t *testing.T) {
	t.Parallel()
	owner, runtime := twoRoles(t)
	env := production(t, runtime)
	env["STRIPE_RATE_LIMIT"] = "0"
	run := func(environment map[string]string, args ...string) (code int, said string) {
		t.Helper()
		p := start(t, environment, args)
		return p.wait(t), p.stdout.String() + p.stderr.String()
	}
	// Before the owner has migrated, nothing begins, and it says what to do.
	for _, args := range [][]string{{"serve"}, {"migrate"}} {
		if code, said := run(env, args...); code != 1 || !strings.Contains(said, "it has no schema, and the role \""+roleOf(t, runtime)+
			"\" may not make one: run phantom migrate with the URL of the role that is to own the tables") {
			t.Errorf("phantom %v on an empty database: %d\n%s", args, code, said)
		}
	}
	migrate := func() string {
		t.Helper()
		code, said := run(map[string]string{"DATABASE_URL": owner}, "migrate", "--runtime", roleOf(t, runtime))
		if code != 0 {
			t.Fatalf("phantom migrate as the owner: %d\n%s", code, said)
		}
		return said
	}
	if said := migrate(); !strings.Contains(said, "the role "+roleOf(t, runtime)+" may read and write rows, and nothing else\n") {
		t.Errorf("phantom migrate says\n%s", said)
	}

	server, base := ready(t, env)
	handshake(t, base)
	conn, err := pgx.Connect(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	await := func(what, query string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			var is bool
			if err := conn.QueryRow(t.Context(), query).Scan(&is); err != nil {
				t.Fatal(err)
			} else if is {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s does not happen\n%s", what, server.stdout)
			}
		}
	}
	await("the audit", "SELECT EXISTS (SELECT FROM audits WHERE state = 'succeeded')")
	var account string
	if err := conn.QueryRow(t.Context(), "SELECT stripe_user_id FROM merchants").Scan(&account); err != nil {
		t.Fatal(err)
	}
	made := start(t, env, []string{"apikey", "create", "--merchant", account})
	if made.wait(t) != 0 {
		t.Fatalf("apikey: %s", made.stderr)
	}
	key := strings.TrimSuffix(made.stdout.String(), "\n")
	call := func(method, path, body string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+key)
		if body != "" {
			request.Header.Set("Content-Type", "application/json")
		}
		response, err := (&http.Client{Timeout: 30 * time.Second}).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode >= 300 {
			t.Fatalf("%s %s: %s %s, %v", method, path, response.Status, text, err)
		}
	}
	call(http.MethodPut, "/api/playbook", `{"mode":"recover","take_over":true,"holdout_percent":0,"steps":[]}`)
	call(http.MethodPost, "/api/hunts", `{"ghosts":"all"}`)
	for _, path := range []string{"/api/ghosts", "/api/summary", "/api/tasks", "/api/hunts", "/api/channels", "/api/templates", "/api/playbook"} {
		call(http.MethodGet, path, "")
	}
	charged := "SELECT EXISTS (SELECT FROM attempts WHERE action = 'invoice_pay' AND result IN ('succeeded', 'declined', 'processing'))"
	for day := 1; day <= 14; day++ { // the time is the owner's to move; the nearest payday is
		var is bool
		if err := conn.QueryRow(t.Context(), charged).Scan(&is); err != nil {
			t.Fatal(err)
		} else if is {
			break
		}
		execute(t, owner, fmt.Sprintf("CREATE OR REPLACE FUNCTION phantom_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE "+
			"RETURN now() + interval '%d days'; SELECT pg_notify('phantom_task', '')", day))
		await("all that is due", "SELECT NOT EXISTS (SELECT FROM scheduled_tasks WHERE status = 'running' OR status = 'pending' AND run_at <= phantom_now())")
	}
	await("a charge", charged)

	for _, args := range [][]string{
		{"tasks", "list", "--merchant", account}, {"audit", "--merchant", account, "--json"}, {"oracle", "rebuild"}, {"oracle", "status"}, {"oracle", "heatmap", "--merchant", account}, {"purge"}, {"rewrap"}, {"stop"}, {"stop", "--lift"},
		{"report", "--merchant", account, "-o", filepath.Join(t.TempDir(), "report.html")}, {"apikey", "list", "--merchant", account}, {"migrate"},
	} {
		if code, said := run(env, args...); code != 0 {
			t.Errorf("phantom %v: %d\n%s", args, code, said)
		}
	}
	_, said := run(env, "doctor", "--json")
	var diagnosis struct{ Checks []doctor.Check }
	if err := json.Unmarshal([]byte(strings.SplitN(said, "\n", 2)[0]), &diagnosis); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for _, c := range diagnosis.Checks {
		if c.Status == "fail" && c.Name != "configuration" {
			t.Errorf("phantom doctor: %+v", c)
		}
		if c.Name == "schema" && !strings.Contains(c.Detail, roleOf(t, runtime)+" reads and writes rows, and changes no table") {
			t.Errorf("phantom doctor says of the schema %q", c.Detail)
		}
		if c.Name == "workers" && !strings.HasPrefix(c.Detail, "1 processes") {
			t.Errorf("phantom doctor says of workers %q", c.Detail)
		}
	}
	if logs := server.stdout.String() + server.stderr.String(); strings.Contains(logs, "permission denied") || strings.Contains(logs, " ERR ") {
		t.Errorf("the server's log has\n%s", logs)
	}

	// A later migration's tables are the runtime's to read and write as they come.
	execute(t, owner, "CREATE TABLE later (id bigserial PRIMARY KEY, note text)")
	execute(t, runtime, "INSERT INTO later (note) VALUES ('a'); UPDATE later SET note = 'b'; DELETE FROM later; SELECT * FROM later")
}

// What a stolen password of the runtime role cannot do.
func TestTheRuntimeRoleChangesNoTable(t *testing.T) {
	t.Parallel()
	owner, runtime := twoRoles(t)
	if p := start(t, map[string]string{"DATABASE_URL": owner}, []string{"migrate", "--runtime", roleOf(t, runtime)}); p.wait(t) != 0 {
		t.Fatalf("%s", p.stderr)
	}
	other, err := pgx.Connect(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close(context.Background()) }()
	for _, statement := range []string{
		"CREATE TABLE mine (id int)", "CREATE TEMP TABLE mine (id int)", "CREATE SCHEMA mine", "CREATE VIEW mine AS SELECT 1",
		"CREATE FUNCTION mine() RETURNS int LANGUAGE sql RETURN 1", "CREATE TYPE mine AS ENUM ('a')",
		"CREATE OR REPLACE FUNCTION phantom_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE RETURN timestamptz 'epoch'",
		"ALTER TABLE merchants ADD COLUMN mine int", "ALTER TABLE merchants DISABLE TRIGGER ALL", "ALTER TABLE hunts OWNER TO CURRENT_USER",
		"ALTER TABLE merchants DROP CONSTRAINT merchants_access_token_sealed", "CREATE INDEX ON hunts (id)", "DROP INDEX attempts_sent_idx",
		"CREATE TRIGGER mine AFTER INSERT ON merchants EXECUTE FUNCTION suppress_redundant_updates_trigger()",
		"CREATE RULE mine AS ON SELECT TO hunts DO INSTEAD NOTHING", "DROP TABLE attempts", "TRUNCATE scheduled_tasks", "DROP FUNCTION phantom_now()",
		"UPDATE schema_version SET version = 0", "DELETE FROM schema_version", "DROP SEQUENCE ghost_tickets", "SELECT setval('ghost_tickets', 1)",
		"SET ROLE " + roleOf(t, owner), "SET session_replication_role = replica", "CREATE ROLE mine", "ALTER ROLE CURRENT_USER SUPERUSER",
		"ALTER DATABASE " + databaseOf(t, owner) + " RENAME TO mine", "DROP SCHEMA public CASCADE", "GRANT ALL ON hunts TO PUBLIC",
		"COPY merchants TO PROGRAM 'cat'", "SELECT pg_read_file('/etc/passwd')", fmt.Sprintf("SELECT pg_terminate_backend(%d)", other.PgConn().PID()),
	} {
		err := attempt(runtime, statement)
		var pgErr *pgconn.PgError
		if statement == "GRANT ALL ON hunts TO PUBLIC" { // a warning: it has no right to give
			if err == nil {
				err = attempt(runtime, "SELECT 1 / (NOT has_table_privilege('public', 'hunts', 'SELECT'))::int")
			}
			if err == nil {
				continue
			}
		}
		if !errors.As(err, &pgErr) || pgErr.Code != "42501" {
			t.Errorf("%s: %v", statement, err)
		}
	}
	execute(t, runtime, "BEGIN; SELECT nextval('ghost_tickets'); SELECT version FROM schema_version; LOCK TABLE vault_sentinels IN SHARE ROW EXCLUSIVE MODE; "+
		"LISTEN phantom_task; NOTIFY phantom_task; SELECT pg_advisory_xact_lock(1); COMMIT")
}

// Where the role lacks something, the start says so and what to do, before any task can fail.
func TestABootSaysWhatTheRoleLacks(t *testing.T) {
	t.Parallel()
	owner, runtime := twoRoles(t)
	env := production(t, runtime)
	boot := func(want string) {
		t.Helper()
		for _, command := range []string{"serve", "work"} {
			p := start(t, env, []string{command})
			if code := p.wait(t); code != 1 || p.stderr.String() != want+"\n" {
				t.Errorf("phantom %s: exit code %d, said\n%swant\n%s", command, code, p.stderr, want)
			}
		}
	}
	migrate := func(want string, roles ...string) {
		t.Helper()
		p := start(t, map[string]string{"DATABASE_URL": owner}, append([]string{"migrate"}, roles...))
		if code := p.wait(t); code != 1 && want != "" || code != 0 && want == "" || strings.TrimSuffix(p.stderr.String(), "\n") != want {
			t.Fatalf("phantom migrate %v: exit code %d, said\n%swant\n%s", roles, code, p.stderr, want)
		}
	}
	role, tables := roleOf(t, runtime), roleOf(t, owner)
	migrate("[DATABASE] --runtime: there is no role \"nobody_here\": an administrator makes it with CREATE ROLE nobody_here LOGIN", "--runtime", "nobody_here")
	migrate(fmt.Sprintf("[DATABASE] --runtime: the role %q owns the tables, or is a member of the role that does: take another one", tables), "--runtime", tables)
	advice := fmt.Sprintf(": run phantom migrate --runtime %s with the URL of %q, which owns the tables", role, tables)
	boot(fmt.Sprintf("[DATABASE] the role %q may not read the schema's version", role) + advice)
	migrate("", "--runtime", role)
	execute(t, owner, fmt.Sprintf("REVOKE DELETE ON hunts, attempts, messages, halts FROM %s; REVOKE USAGE ON SEQUENCE ghost_tickets FROM %[1]s", role))
	boot(fmt.Sprintf("[DATABASE] the role %q may not read and write the rows of attempts, ghost_tickets, halts and 2 more", role) + advice)
	execute(t, owner, "UPDATE schema_version SET version = version - 1")
	boot(fmt.Sprintf("[DATABASE] the schema is at version %d and this binary needs %d, and the role %q may not change it: run phantom migrate "+
		"with the URL of %q, which owns the tables, and start again", migrations(t)-1, migrations(t), role, tables))
	execute(t, owner, "UPDATE schema_version SET version = version + 1")
	migrate("", "--runtime", role)
	server, _ := ready(t, env)
	if !strings.Contains(server.stdout.String(), "migrations_run=0") {
		t.Errorf("it says\n%s", server.stdout)
	}
}
