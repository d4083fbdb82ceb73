package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/connect"
	"phantom/db"
	"phantom/ghost"
	"phantom/recovery"
	"phantom/task"
)

// work runs workers and no server: any number of such processes share the tasks.
func work(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	if err := parseFlags(newFlags("work"), args, stderr); err != nil {
		return err
	}
	c, err := loadConfig(getenv, needs{database: true, key: true, stripe: true})
	if err != nil {
		return err
	}
	if c.workers == 0 {
		return fmt.Errorf("[WORKER] WORKERS is 0: phantom work would do nothing; provide a number from 1 to %d", maxWorkers)
	}
	log := newLogger(c, stdout)
	limitMemory(log)
	stop, err := c.standIn(ctx, log)
	if err != nil {
		return stoppedAtBoot(ctx, log, err)
	}
	defer stop()
	pool, err := c.openPool(ctx)
	if err != nil {
		return stoppedAtBoot(ctx, log, err)
	}
	defer closePool(pool)
	stopMetrics, err := c.startMetrics(ctx, pool, log)
	if err != nil {
		return err
	}
	defer stopMetrics()
	wait, err := c.startWorkers(ctx, c.newServices(pool, log), log)
	if err != nil {
		return err
	}
	log.Info("[WORKER] ready", "workers", c.workers, "version", version)
	<-ctx.Done()
	log.Info("[WORKER] stopping", "cause", context.Cause(ctx))
	wait()
	log.Info("[WORKER] stopped")
	return nil
}

// services are the domain packages, wired.
type services struct {
	connect *connect.Service
	ghosts  *ghost.Service
	hunts   *recovery.Service
}

func (c *config) newServices(pool *pgxpool.Pool, log *slog.Logger) services {
	config := connect.Config{
		SecretKey: c.stripeSecretKey, ClientID: c.stripeClientID, APIBase: c.stripeAPIBase, ConnectBase: c.stripeConnectBase,
		RedirectURI: c.publicURL.String() + "/api/auth/callback", RateLimit: c.stripeRateLimit, Log: log,
		Connected: ghost.Connected,
	}
	if c.metrics != nil {
		config.Observe, config.Waited = c.metrics.stripeAnswered, c.metrics.waited
	}
	account := connect.New(config, pool)
	ghosts := ghost.New(pool, account, log)
	hunts := recovery.New(pool, account, nil, recovery.Config{
		ResendBase: c.resendBase, TwilioBase: c.twilioBase, PublicURL: c.publicURL.String(), Dev: c.dev, Log: log, Refresh: ghost.RefreshIn,
	})
	ghosts.Hunts = hunts
	return services{connect: account, ghosts: ghosts, hunts: hunts}
}

// urgentWorkers are those that do what webhooks ask for beside the others: what they learn stops charges and messages.
const urgentWorkers = 4

// firstWorkers are those that do what goes first, and nothing else: a payment does not wait while
// the urgent ones do what a hundred renewals ask for.
const firstWorkers = 4

// queues are a process's part in the work: of all kinds, of the urgent ones, and of what goes
// first.
type queues struct{ all, urgent, first *task.Queue }

// newQueues wires them. Handlers of all packages meet here.
func (c *config) newQueues(pool *pgxpool.Pool, s services, log *slog.Logger) (q queues, err error) {
	handlers := s.ghosts.Handlers()
	maps.Copy(handlers, s.connect.Handlers())
	maps.Copy(handlers, s.hunts.Handlers())
	config := task.Config{ListenURL: c.databaseDirectURL, Handlers: handlers, Workers: max(c.workers, 2), Long: max(c.workers/2, 1), Log: log}
	if c.metrics != nil {
		config.Observe = c.metrics.taskRan
	}
	if q.all, err = task.NewQueue(pool, config); err != nil {
		return queues{}, fmt.Errorf("[WORKER] %w", err)
	}
	config.Urgent, config.Workers, config.Log = true, urgentWorkers, log.With("queue", "urgent")
	if q.urgent, err = task.NewQueue(pool, config); err != nil {
		return queues{}, fmt.Errorf("[WORKER] %w", err)
	}
	config.Urgent, config.First, config.Workers, config.Log = false, true, firstWorkers, log.With("queue", "first")
	if q.first, err = task.NewQueue(pool, config); err != nil {
		return queues{}, fmt.Errorf("[WORKER] %w", err)
	}
	return q, nil
}

// startWorkers works until ctx ends; wait returns when everything is settled or given back.
func (c *config) startWorkers(ctx context.Context, s services, log *slog.Logger) (wait func(), err error) {
	if c.workers == 0 {
		return func() {}, nil
	}
	pool, err := db.Open(ctx, db.WithPool(c.databaseURL, c.connectionsOfQueues()), c.ring)
	if err != nil {
		return nil, fmt.Errorf("[DATABASE] DATABASE_URL: %w", err)
	}
	q, err := c.newQueues(pool, s, log)
	if err != nil {
		pool.Close()
		return nil, err
	}
	if err := s.ghosts.EnsurePurges(ctx); err != nil {
		log.Error("[WORKER] cannot plan the daily purges: the next start or the next purge does it", "cause", db.Describe(err))
	}
	if err := s.ghosts.EnsureAudits(ctx); err != nil {
		log.Error("[WORKER] cannot plan the weekly audits: the next start does it", "cause", db.Describe(err))
	}
	var running sync.WaitGroup
	running.Go(func() { watchParked(ctx, s.connect, log) })
	for _, queue := range []*task.Queue{q.all, q.urgent, q.first} {
		running.Go(func() { queue.Run(ctx) })
	}
	return func() {
		running.Wait()
		closePool(pool)
	}, nil
}

// parkedEvery is how often it is made sure that a probe asks for every connected merchant whose tasks are parked.
const parkedEvery = 10 * time.Minute

func watchParked(ctx context.Context, service *connect.Service, log *slog.Logger) {
	tick := time.NewTicker(parkedEvery)
	defer tick.Stop()
	for {
		if err := service.EnsureProbes(ctx); err != nil && ctx.Err() == nil {
			log.Error("[WORKER] cannot plan the probes of parked tasks: it is tried again", "cause", db.Describe(err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
