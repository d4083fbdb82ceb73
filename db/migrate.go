package db

import (
	"context"
	"errors"
	"fmt"

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

// Migrate brings the database at url to the newest schema and returns how many migrations it ran. Any number of processes may
// call it at once: the first migrates, the others wait and find nothing to do. The URL must not lead through a transaction
// pooler, because the wait is an advisory lock of the session.
func Migrate(ctx context.Context, url string) (int, error) {
	config, err := parseURL(url)
	if err != nil {
		return 0, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return 0, &UnreachableError{Address: address(config), Err: err}
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()

	migrator, err := migrate.NewMigrator(ctx, conn, "public.schema_version")
	if err != nil {
		return 0, fmt.Errorf("prepare schema_version: %w", err)
	}
	if err := migrator.LoadMigrations(migrations.Files); err != nil {
		return 0, fmt.Errorf("load migrations: %w", err)
	}
	version, err := migrator.GetCurrentVersion(ctx)
	if err != nil {
		return 0, fmt.Errorf("read schema version: %w", err)
	}
	if newest := int32(len(migrator.Migrations)); version > newest {
		return 0, SchemaTooNewError{Database: version, Binary: newest}
	} else if version == newest {
		return 0, nil
	}
	ran := 0
	migrator.OnStart = func(int32, string, string, string) { ran++ }
	if err := migrator.Migrate(ctx); err != nil {
		var failed migrate.MigrationPgError
		if errors.As(err, &failed) {
			return ran, fmt.Errorf("migration %s: %w", failed.MigrationName, failed.PgError)
		}
		return ran, fmt.Errorf("migrate: %w", err)
	}
	return ran, nil
}

// VerifySchema makes sure that the database behind pool has exactly the schema of this binary. It is asked through the pool,
// which may lead elsewhere than the URL that was migrated.
func VerifySchema(ctx context.Context, pool *pgxpool.Pool) error {
	entries, err := migrations.Files.ReadDir(".")
	if err != nil {
		return err
	}
	newest := int32(len(entries))
	var version int32
	if err := pool.QueryRow(ctx, "SELECT version FROM public.schema_version").Scan(&version); err != nil {
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) && pgErr.Code == "42P01" {
			return errors.New("it has no schema: run phantom migrate, and let DATABASE_URL and DATABASE_DIRECT_URL name the same database")
		}
		return err
	}
	if version > newest {
		return SchemaTooNewError{Database: version, Binary: newest}
	}
	if version < newest {
		return fmt.Errorf("the schema is at version %d and this binary needs %d: run phantom migrate, and let DATABASE_URL and "+
			"DATABASE_DIRECT_URL name the same database", version, newest)
	}
	return nil
}
