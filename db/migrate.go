package db

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/tern/v2/migrate"

	"phantom/sql/migrations"
)

// SchemaTooNewError says that a newer binary has migrated the database further than this one knows.
type SchemaTooNewError struct{ Database, Binary int32 }

func (e SchemaTooNewError) Error() string {
	return fmt.Sprintf("the schema is at version %d and this binary knows only %d: run a newer phantom", e.Database, e.Binary)
}

const (
	// lockWait is how long a migration waits for a lock. Who comes later waits behind it, so then
	// it lets them pass, and tries again.
	lockWait = 2 * time.Second
	// lockPatience is how long it tries.
	lockPatience = 10 * time.Minute
)

// Migrate brings the database at url to the newest schema and returns how many migrations it ran.
// Any number of processes may call it at once: the first migrates, the others wait and find nothing
// to do. The URL must not lead through a transaction pooler, because the wait is an advisory lock
// of the session. Beside a long transaction a migration never makes others wait for more than some
// seconds, and log learns whom it waits for.
func Migrate(ctx context.Context, url string, log *slog.Logger) (int, error) {
	config, err := parseURL(url)
	if err != nil {
		return 0, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return 0, &UnreachableError{Address: address(config), Err: err}
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()

	schema, err := readSchema(ctx, conn)
	if err != nil {
		return 0, err
	}
	newest, err := newestVersion()
	switch {
	case err != nil:
		return 0, err
	case schema.Version > newest:
		return 0, SchemaTooNewError{Database: schema.Version, Binary: newest}
	case schema.Version == newest:
		return 0, nil
	case !schema.MayChange: // before anything is tried: what follows takes the migrations' lock
		return 0, schema.pending(newest)
	}
	if err := waitAlone(ctx, conn, log); err != nil {
		return 0, err
	}
	migrator, err := migrate.NewMigrator(ctx, conn, "public.schema_version")
	if err != nil {
		return 0, fmt.Errorf("prepare schema_version: %w", err)
	}
	if err := migrator.LoadMigrations(migrations.Files); err != nil {
		return 0, fmt.Errorf("load migrations: %w", err)
	}
	bounded := func() error { // each migration's end resets what the session has set
		_, err := conn.Exec(ctx, fmt.Sprintf("SET lock_timeout = %d", lockWait.Milliseconds()))
		return err
	}
	ran, begun := 0, false
	migrator.OnStart = func(int32, string, string, string) {
		ran, begun = ran+1, true
		_ = bounded() // what the connection cannot do any more fails in the migration too
	}
	delays := backoff.NewExponentialBackOff()
	delays.InitialInterval, delays.MaxInterval = 200*time.Millisecond, 2*time.Second
	_, err = backoff.Retry(ctx, func() (struct{}, error) {
		begun = false
		if err := bounded(); err != nil {
			return struct{}{}, backoff.Permanent(err)
		}
		err := migrator.Migrate(ctx)
		switch {
		case err == nil:
			return struct{}{}, nil
		case !isLock(err):
			return struct{}{}, backoff.Permanent(err)
		}
		if begun { // and rolled back
			ran--
		}
		tellBlocker(ctx, conn, log)
		return struct{}{}, err
	}, backoff.WithBackOff(delays), backoff.WithMaxElapsedTime(lockPatience))
	var failed migrate.MigrationPgError
	switch {
	case err == nil:
		return ran, nil
	case isLock(err):
		return ran, fmt.Errorf("migrate: others have held a lock for %s: end what holds it, and run phantom migrate again", lockPatience)
	case errors.As(err, &failed):
		return ran, fmt.Errorf("migration %s: %w", failed.MigrationName, failed.PgError)
	}
	return ran, fmt.Errorf("migrate: %w", err)
}

// waitAlone waits until no other process migrates. It asks again and again: a statement that waits
// for a lock holds a snapshot, for whose end the other's CREATE INDEX CONCURRENTLY would wait.
func waitAlone(ctx context.Context, conn *pgx.Conn, log *slog.Logger) error {
	began, told := time.Now(), false
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		var alone bool
		err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock(hashtextextended('phantom migrate', 0))").Scan(&alone)
		switch {
		case err != nil:
			return struct{}{}, backoff.Permanent(err)
		case alone:
			return struct{}{}, nil
		}
		if !told && time.Since(began) > lockWait {
			told = true
			tellBlocker(ctx, conn, log)
		}
		return struct{}{}, errors.New("another process migrates")
	}, backoff.WithBackOff(backoff.NewConstantBackOff(100*time.Millisecond)), backoff.WithMaxElapsedTime(0))
	if err != nil {
		return fmt.Errorf("wait for another process that migrates: %w", err)
	}
	return nil
}

func isLock(err error) bool {
	var failed migrate.MigrationPgError
	if errors.As(err, &failed) {
		return slices.Contains(lockCodes, failed.Code)
	}
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && slices.Contains(lockCodes, pgErr.Code)
}

// lockCodes are PostgreSQL's for lock_timeout and a deadlock.
var lockCodes = []string{"55P03", "40P01"}

// tellBlocker says who has held a lock on one of PHANTOM's tables, or on the migrations, for
// longest.
func tellBlocker(ctx context.Context, conn *pgx.Conn, log *slog.Logger) {
	var pid int32
	var program, state string
	// of another role's session nobody learns it but who may read all statistics
	var seconds *float64
	err := conn.QueryRow(ctx, `SELECT a.pid, a.application_name, coalesce(a.state, ''),
			extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.backend_start))::float8
		FROM pg_stat_activity a
		WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND EXISTS (
			SELECT FROM pg_locks l LEFT JOIN pg_class c ON c.oid = l.relation
			WHERE l.pid = a.pid AND l.granted AND (l.locktype = 'advisory' OR c.relnamespace = 'public'::regnamespace))
		ORDER BY a.xact_start NULLS LAST LIMIT 1`).Scan(&pid, &program, &state, &seconds)
	if err != nil {
		return // it has ended meanwhile, or nothing can be asked: the next try says more
	}
	facts := []any{"pid", pid, "program", program}
	if seconds != nil {
		facts = append(facts, "state", state, "for", time.Duration(*seconds*float64(time.Second)).Round(time.Second))
	}
	log.Warn("[DATABASE] a migration waits for a lock, and lets others pass meanwhile: end what holds it with pg_terminate_backend if it is stuck", facts...)
}

// newestVersion is the version of the schema that this binary needs.
func newestVersion() (int32, error) {
	entries, err := migrations.Files.ReadDir(".")
	return int32(len(entries)), err
}

// VerifySchema makes sure that the database behind pool has exactly the schema of this binary, and
// that the role may read and write its rows. It is asked through the pool, which may lead elsewhere
// than the URL that was migrated.
func VerifySchema(ctx context.Context, pool *pgxpool.Pool) error {
	newest, err := newestVersion()
	if err != nil {
		return err
	}
	schema, err := readSchema(ctx, pool)
	switch {
	case err != nil:
		return err
	case schema.Owner == "":
		return errors.New("it has no schema: run phantom migrate, and let DATABASE_URL and DATABASE_DIRECT_URL name the same database")
	case schema.Version > newest:
		return SchemaTooNewError{Database: schema.Version, Binary: newest}
	case schema.Version < newest && !schema.MayChange:
		return schema.pending(newest)
	case schema.Version < newest:
		return fmt.Errorf("the schema is at version %d and this binary needs %d: run phantom migrate, and let DATABASE_URL and "+
			"DATABASE_DIRECT_URL name the same database", schema.Version, newest)
	}
	return schema.verifyRights(ctx, pool)
}
