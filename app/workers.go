package app

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/connect"
	"phantom/db"
	"phantom/oracle"
	"phantom/task"
)

// Lease is how long a task stays a process's without a heartbeat, where it is not the queue's own
// default. Tests shorten it.
var Lease time.Duration

// urgentWorkers are those that do what webhooks ask for beside the others: what they learn stops
// charges and messages.
const urgentWorkers = 4

// firstWorkers are those that do what goes first, and nothing else: a payment does not wait while
// the urgent ones do what a hundred renewals ask for.
const firstWorkers = 4

// Queues are a process's part in the work: of all kinds, of the urgent ones, and of what goes
// first.
type Queues struct{ All, urgent, first *task.Queue }

// NewQueues wires them. Handlers of all packages meet here.
func (a *App) NewQueues(s Services) (Queues, error) { return a.newQueues(a.Pool, s) }

func (a *App) newQueues(pool *pgxpool.Pool, s Services) (q Queues, err error) {
	handlers := s.Ghosts.Handlers()
	maps.Copy(handlers, s.Connect.Handlers())
	maps.Copy(handlers, s.Hunts.Handlers())
	maps.Copy(handlers, s.Purges.Handlers())
	maps.Copy(handlers, s.Shield.Handlers())
	maps.Copy(handlers, s.Outbound.Handlers())
	config := task.Config{ListenURL: a.DatabaseDirectURL, Handlers: handlers, Workers: max(a.Workers, 2), Long: max(a.Workers/2, 1), Lease: Lease, Log: a.Log}
	if a.metrics != nil {
		config.Observe = a.metrics.taskRan
	}
	if q.All, err = task.NewQueue(pool, config); err != nil {
		return Queues{}, fmt.Errorf("[WORKER] %w", err)
	}
	config.Urgent, config.Workers, config.Log = true, urgentWorkers, a.Log.With("queue", "urgent")
	if q.urgent, err = task.NewQueue(pool, config); err != nil {
		return Queues{}, fmt.Errorf("[WORKER] %w", err)
	}
	config.Urgent, config.First, config.Workers, config.Log = false, true, firstWorkers, a.Log.With("queue", "first")
	if q.first, err = task.NewQueue(pool, config); err != nil {
		return Queues{}, fmt.Errorf("[WORKER] %w", err)
	}
	return q, nil
}

// StartWorkers works until ctx ends; wait returns when everything is settled or given back.
func (a *App) StartWorkers(ctx context.Context, s Services) (wait func(), err error) {
	if a.Workers == 0 {
		return func() {}, nil
	}
	pool, err := db.Open(ctx, db.WithPool(a.DatabaseURL, a.ConnectionsOfQueues()), a.Ring)
	if err != nil {
		return nil, fmt.Errorf("[DATABASE] DATABASE_URL: %w", err)
	}
	q, err := a.newQueues(pool, s)
	if err != nil {
		pool.Close()
		return nil, err
	}
	if err := s.Purges.EnsurePurges(ctx); err != nil {
		a.Log.Error("[WORKER] cannot plan the daily purges: the next start or the next purge does it", "cause", db.Describe(err))
	}
	if err := s.Ghosts.EnsureAudits(ctx); err != nil {
		a.Log.Error("[WORKER] cannot plan the weekly audits: the next start does it", "cause", db.Describe(err))
	}
	var running sync.WaitGroup
	running.Go(func() { watchParked(ctx, s.Connect, a.Log) })
	running.Go(func() { oracle.Nightly(ctx, pool, a.Log) })
	running.Go(func() {
		s.Ghosts.KeepCounts(ctx, func(err error) {
			a.Log.Error("[WORKER] cannot add up what has changed of ghosts: it is tried again", "cause", db.Describe(err))
		})
	})
	for _, queue := range []*task.Queue{q.All, q.urgent, q.first} {
		running.Go(func() { queue.Run(ctx) })
	}
	return func() {
		running.Wait()
		ClosePool(pool)
	}, nil
}

// parkedEvery is how often it is made sure that a probe asks for every connected merchant whose
// tasks are parked.
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
