package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
)

// databasePatience is how long a boot waits for a database that does not answer.
const databasePatience = 10 * time.Second

// ErrNotServed says that a command's database would be dev mode's private one, which nobody works
// with.
var ErrNotServed = errors.New("DATABASE_URL is not set, and no PHANTOM in dev mode runs from this folder")

// App is a configuration with its database open.
type App struct {
	*Config
	Pool *pgxpool.Pool
	Log  *slog.Logger
	stop func() // ends the stand-ins
}

// Open loads what a command needs and opens its database. Log lines go to logTo.
func Open(ctx context.Context, getenv func(string) string, need Needs, logTo io.Writer) (*App, error) {
	c, err := Load(getenv, need)
	if err != nil {
		return nil, err
	}
	return c.Open(ctx, c.Logger(logTo))
}

// Open starts stand-ins where they are needed and opens the database, having made sure that schema
// and keyring belong to it. A server brings the schema up to date before. The error may be
// ErrNotServed, where a served database is needed.
func (c *Config) Open(ctx context.Context, log *slog.Logger) (*App, error) {
	stop, err := c.StandIn(ctx, log)
	if err != nil {
		return nil, err
	}
	a, err := c.openDatabase(ctx, log)
	if err != nil {
		stop()
		return nil, err
	}
	a.stop = stop
	return a, nil
}

// OpenComplete is Open for a configuration that lacks nothing, whose dev mode is nothing to warn
// of.
func (c *Config) OpenComplete(ctx context.Context, log *slog.Logger) (*App, error) {
	if err := proveVault(c.Ring, log); err != nil {
		return nil, err
	}
	return c.openDatabase(ctx, log)
}

func (c *Config) openDatabase(ctx context.Context, log *slog.Logger) (*App, error) {
	if c.need.Served && c.alone {
		return nil, ErrNotServed
	}
	if c.need.Serves {
		ran, err := c.Migrate(ctx, log)
		if err != nil {
			return nil, err
		}
		log.Info("[DATABASE] schema is current", "migrations_run", ran)
	}
	open := c.openRows
	if c.need.Key {
		open = c.openSealed
	}
	pool, err := open(ctx)
	if err != nil {
		return nil, err
	}
	return &App{Config: c, Pool: pool, Log: log, stop: func() {}}, nil
}

// Close closes the database and ends the stand-ins.
func (a *App) Close() {
	ClosePool(a.Pool)
	a.stop()
}

// Migrate waits for the database and brings it to the newest schema.
func (c *Config) Migrate(ctx context.Context, log *slog.Logger) (ran int, err error) {
	if err := db.WaitReachable(ctx, c.DatabaseDirectURL, databasePatience); err != nil {
		return 0, fmt.Errorf("[DATABASE] %w", err)
	}
	ran, err = db.Migrate(ctx, c.DatabaseDirectURL, log)
	if err != nil {
		return ran, fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	return ran, nil
}

// openRows opens the database for a command that opens nothing sealed, so that it works without a
// key.
func (c *Config) openRows(ctx context.Context) (*pgxpool.Pool, error) {
	return c.openSchema(ctx, func() (*pgxpool.Pool, error) { return db.OpenWithoutKeyring(ctx, c.DatabaseURL) })
}

// openSealed makes sure that the keyring belongs to the database.
func (c *Config) openSealed(ctx context.Context) (*pgxpool.Pool, error) {
	pool, err := c.openSchema(ctx, func() (*pgxpool.Pool, error) {
		return db.Open(ctx, db.WithPool(c.DatabaseURL, c.Connections()), c.Ring)
	})
	if err != nil {
		return nil, err
	}
	if err := db.VerifyKeyring(ctx, pool, c.Ring); err != nil {
		pool.Close()
		var mismatch db.KeyMismatchError
		if errors.As(err, &mismatch) {
			return nil, fmt.Errorf("[SECURITY] %w", mismatch)
		}
		return nil, fmt.Errorf("[DATABASE] cannot verify the keyring: %s", db.Describe(err))
	}
	return pool, nil
}

// openSchema waits for the database, opens it and makes sure of its schema.
func (c *Config) openSchema(ctx context.Context, open func() (*pgxpool.Pool, error)) (*pgxpool.Pool, error) {
	if err := db.WaitReachable(ctx, c.DatabaseURL, databasePatience); err != nil {
		return nil, fmt.Errorf("[DATABASE] %w", err)
	}
	pool, err := open()
	if err != nil {
		return nil, fmt.Errorf("[DATABASE] DATABASE_URL: %w", err)
	}
	if err := db.VerifySchema(ctx, pool); err != nil {
		pool.Close()
		return nil, fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	return pool, nil
}

// ClosePool does not let a database that has stopped answering hold up the end.
func ClosePool(pool *pgxpool.Pool) {
	closed := make(chan struct{})
	go func() {
		pool.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(2 * time.Second):
	}
}

// proveVault runs the self-test. No database is read or written before it has passed.
func proveVault(ring interface{ SelfTest() error }, log *slog.Logger) error {
	if err := ring.SelfTest(); err != nil {
		return fmt.Errorf("[SECURITY] Vault self-test failed: %w: this binary or machine must not hold secrets", err)
	}
	log.Info("[SECURITY] Vault self-test passed: AES-256-GCM Active")
	return nil
}

// LimitMemory has the collector keep within nine tenths of the container's memory. GOMEMLIMIT,
// where it is set, has the last word.
func LimitMemory(log *slog.Logger) {
	limit, err := memlimit.Set()
	if err != nil || limit == math.MaxInt64 { // no container, or one without a limit
		return
	}
	log.Info("[SERVER] the collector keeps within a limit of memory", "limit_bytes", limit)
}
