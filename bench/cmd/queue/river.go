package main

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// peer is River with one set of settings. What it claims at a time is what its free workers can
// take, and it completes in its default batches; neither can be set otherwise.
type peer struct {
	name string
	pool *pgxpool.Pool
	set  func(*river.Config)
}

func newRivers(ctx context.Context, url string) ([]peer, func(), error) {
	pool, err := pgxpool.New(ctx, url) // with the driver's own settings
	if err != nil {
		return nil, nil, err
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return nil, nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, nil, err
	}
	return []peer{
		{"River as its own benchmark sets it (2,000 workers, 2 ms)", pool, func(c *river.Config) {
			c.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2_000}}
			c.FetchCooldown, c.FetchPollInterval = 2*time.Millisecond, 20*time.Millisecond
		}},
		// With fewer it is bound by its cooldown: a thousand workers are ten thousand tasks a
		// second.
		{"River at its default cooldown (10,000 workers, 100 ms)", pool, func(c *river.Config) {
			c.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: river.QueueNumWorkersMax}}
		}},
	}, pool.Close, nil
}

type noop struct{}

func (noop) Kind() string { return "noop" }

type noopWorker struct {
	river.WorkerDefaults[noop]
	done  atomic.Int64
	tasks int64
	all   chan struct{}
}

func (w *noopWorker) Work(context.Context, *river.Job[noop]) error {
	if w.done.Add(1) == w.tasks {
		close(w.all)
	}
	return nil
}

func (p peer) run(ctx context.Context, tasks int) (time.Duration, error) {
	worker := &noopWorker{tasks: int64(tasks), all: make(chan struct{})}
	workers := river.NewWorkers()
	river.AddWorker(workers, worker)
	config := &river.Config{Workers: workers, Logger: slog.New(slog.DiscardHandler)}
	p.set(config)
	client, err := river.NewClient(riverpgxv5.New(p.pool), config)
	if err != nil {
		return 0, err
	}
	if _, err := p.pool.Exec(ctx, "TRUNCATE river_job"); err != nil {
		return 0, err
	}
	for left := tasks; left > 0; left -= 5000 {
		jobs := make([]river.InsertManyParams, min(left, 5000))
		for i := range jobs {
			jobs[i].Args = noop{}
		}
		if _, err := client.InsertManyFast(ctx, jobs); err != nil {
			return 0, err
		}
	}
	if _, err := p.pool.Exec(ctx, "VACUUM ANALYZE river_job"); err != nil {
		return 0, err
	}
	started := time.Now()
	if err := client.Start(ctx); err != nil {
		return 0, err
	}
	<-worker.all
	err = untilNone(ctx, p.pool, "SELECT EXISTS (SELECT FROM river_job WHERE state IN ('available', 'running', 'scheduled', 'retryable'))")
	took := time.Since(started)
	return took, errors.Join(err, client.Stop(ctx))
}
