package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/lmittmann/tint"
	"golang.org/x/term"

	"phantom/db"
	"phantom/task"
	"phantom/web"
)

//go:embed docs/openapi.json
var openAPI []byte

// databasePatience is how long a boot waits for a database that does not answer.
const databasePatience = 10 * time.Second

func serve(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	if err := parseFlags(newFlags("serve"), args, stderr); err != nil {
		return err
	}
	c, err := loadConfig(getenv, needs{database: true, key: true, stripe: true})
	if err != nil {
		return err
	}
	c.serves = true
	log := newLogger(c, stdout)
	limitMemory(log)
	stop, err := c.standIn(ctx, log)
	if err != nil {
		return stoppedAtBoot(ctx, log, err)
	}
	defer stop()
	ran, err := c.migrate(ctx, log)
	if err != nil {
		return stoppedAtBoot(ctx, log, err)
	}
	log.Info("[DATABASE] schema is current", "migrations_run", ran)
	pool, err := c.openPool(ctx)
	if err != nil {
		return stoppedAtBoot(ctx, log, err)
	}
	defer closePool(pool)

	listener, err := web.Listen(ctx, c.host(), c.port)
	if err != nil {
		return fmt.Errorf("[SERVER] cannot listen on port %d: %w: set PORT to a free one", c.port, err)
	}
	stopMetrics, err := c.startMetrics(ctx, pool, log)
	if err != nil {
		return err
	}
	defer stopMetrics()
	services := c.newServices(pool, log)
	server := web.New(web.Config{
		Connect: services.connect,
		Ghost:   services.ghosts,
		OpenAPI: openAPI,
		Ping:    func(ctx context.Context) error { return db.Writable(ctx, pool) },
		Secure:  c.publicURL.Scheme == "https",
		Log:     log,

		Tasks: func(ctx context.Context, merchantID uuid.UUID, filter task.Filter) (task.Page, error) {
			return task.List(ctx, pool, merchantID, filter)
		},
		Requests:       c.apiRequests(),
		Recovery:       services.hunts,
		WebhookSecrets: c.webhookSecrets,
	})
	if len(c.webhookSecrets) == 0 {
		log.Warn("[STRIPE] STRIPE_WEBHOOK_SECRET is not set: webhooks get 503, and ghosts change by audits alone")
	}
	working, stopWorkers := context.WithCancel(ctx)
	defer stopWorkers()
	waitForWorkers, err := c.startWorkers(working, services, log)
	if err != nil {
		return err
	}
	log.Info("[SERVER] ready", "url", c.publicURL.String(), "port", c.port, "version", version)
	err = server.Serve(ctx, listener)
	stopWorkers() // if it was not ctx that ended the server
	waitForWorkers()
	if err != nil {
		return fmt.Errorf("[SERVER] %w", err)
	}
	log.Info("[SERVER] stopped")
	return nil
}

// stoppedAtBoot tells a boot that a signal ended, which is no failure, from one that failed.
func stoppedAtBoot(ctx context.Context, log *slog.Logger, err error) error {
	if ctx.Err() == nil {
		return err
	}
	log.Info("[SERVER] stopped before it was ready", "cause", context.Cause(ctx))
	return nil
}

// proveVault runs the self-test. No database is read or written before it has passed.
func proveVault(ring interface{ SelfTest() error }, log *slog.Logger) error {
	if err := ring.SelfTest(); err != nil {
		return fmt.Errorf("[SECURITY] Vault self-test failed: %w: this binary or machine must not hold secrets", err)
	}
	log.Info("[SECURITY] Vault self-test passed: AES-256-GCM Active")
	return nil
}

// limitMemory has the collector keep within nine tenths of the container's memory. GOMEMLIMIT,
// where it is set, has the last word.
func limitMemory(log *slog.Logger) {
	limit, err := memlimit.Set()
	if err != nil || limit == math.MaxInt64 { // no container, or one without a limit
		return
	}
	log.Info("[SERVER] the collector keeps within a limit of memory", "limit_bytes", limit)
}

// openPool opens the database and makes sure that schema and keyring belong to it.
func (c *config) openPool(ctx context.Context) (*pgxpool.Pool, error) {
	pool, err := c.openSchema(ctx, func() (*pgxpool.Pool, error) {
		return db.Open(ctx, db.WithPool(c.databaseURL, c.connections()), c.ring)
	})
	if err != nil {
		return nil, err
	}
	if err := db.VerifyKeyring(ctx, pool, c.ring); err != nil {
		pool.Close()
		var mismatch db.KeyMismatchError
		if errors.As(err, &mismatch) {
			return nil, fmt.Errorf("[SECURITY] %w", mismatch)
		}
		return nil, fmt.Errorf("[DATABASE] cannot verify the keyring: %s", db.Describe(err))
	}
	return pool, nil
}

const (
	// requestConnections are for what requests ask for, beside the workers' own.
	requestConnections = 12
	// queueConnections are for what the queues themselves ask for: tasks that wait for each other's
	// locks must not keep them from claiming and from extending leases.
	queueConnections = 4
)

// connections is how many connections a process may hold for requests and tasks: one for each
// worker of its queues, and some for requests.
func (c *config) connections() int {
	switch {
	case c.poolSize > 0:
		return max(c.poolSize-c.connectionsOfQueues(), 1)
	case c.workers == 0:
		return requestConnections
	}
	return c.workers + urgentWorkers + firstWorkers + requestConnections
}

// apiRequests is how many requests of the merchant API are answered at a time. What they leave of
// the connections is for webhooks, handshakes and workers.
func (c *config) apiRequests() int64 {
	return int64(max(min(requestConnections-3, c.connections()/2), 1))
}

// connectionsOfQueues is how many it may hold for its queues, a quarter at most.
func (c *config) connectionsOfQueues() int {
	switch {
	case c.workers == 0:
		return 0
	case c.poolSize > 0:
		return max(min(queueConnections, c.poolSize/4), 1)
	}
	return queueConnections
}

// openSchema waits for the database, opens it and makes sure of its schema.
func (c *config) openSchema(ctx context.Context, open func() (*pgxpool.Pool, error)) (*pgxpool.Pool, error) {
	if err := db.WaitReachable(ctx, c.databaseURL, databasePatience); err != nil {
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

// closePool does not let a database that has stopped answering hold up the end.
func closePool(pool *pgxpool.Pool) {
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

// host is the address to listen on: in dev mode the stand-ins are for nobody outside this machine.
func (c *config) host() string {
	if c.dev {
		return "localhost"
	}
	return ""
}

// newLogger writes lines for people, or JSON.
func newLogger(c *config, w io.Writer) *slog.Logger {
	if c.jsonLog {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(tint.NewTextHandler(w, &tint.Options{TimeFormat: time.RFC3339, NoColor: !isTerminal(w)}))
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
