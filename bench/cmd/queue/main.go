// Command queue measures durable no-op tasks a second beside River, on one PostgreSQL, in turns. Each side starts with the same
// number of tasks already enqueued, and its time ends when the last of them is final in the table. It ends with 1 if the bar is
// missed.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"phantom/db"
	"phantom/db/local"
	"phantom/task"
	"phantom/vault"
)

const (
	rounds = 5
	tasks  = 20_000
	bar    = 2.5
)

func main() {
	met, err := measure(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "queue:", err)
	}
	if err != nil || !met {
		os.Exit(1)
	}
}

func measure(ctx context.Context) (met bool, err error) {
	folder := filepath.Join(os.TempDir(), "phantom-bench-"+strconv.Itoa(os.Getpid()))
	server, err := local.Start(ctx, local.Config{Dir: folder, Database: "phantom_bench", Unsafe: true})
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, server.Stop(ctx), os.RemoveAll(folder)) }()
	if _, err := db.Migrate(ctx, server.URL()); err != nil {
		return false, err
	}
	key, err := vault.ParseKey("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	if err != nil {
		return false, err
	}
	ring, err := vault.NewKeyring(key)
	if err != nil {
		return false, err
	}
	pool, err := db.Open(ctx, server.URL(), ring)
	if err != nil {
		return false, err
	}
	defer pool.Close()
	if err := db.VerifyKeyring(ctx, pool, ring); err != nil {
		return false, err
	}
	access := vault.NewToken("merchants.access_token:acct_1", "sk_test_1")
	merchant, err := db.New(pool).MerchantCreate(ctx, db.MerchantCreateParams{
		ID: uuid.Must(uuid.NewV7()), StripeUserID: "acct_1", AccessToken: &access, Scope: "read_write",
	})
	if err != nil {
		return false, err
	}
	riverPool, err := pgxpool.New(ctx, server.URL()) // with the driver's own settings
	if err != nil {
		return false, err
	}
	defer riverPool.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(riverPool), nil)
	if err != nil {
		return false, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return false, err
	}

	var ours, peer []float64
	for range rounds {
		took, err := runOurs(ctx, pool, server.URL(), merchant)
		if err != nil {
			return false, fmt.Errorf("ours: %w", err)
		}
		ours = append(ours, tasks/took.Seconds())
		if took, err = runRiver(ctx, riverPool); err != nil {
			return false, fmt.Errorf("river: %w", err)
		}
		peer = append(peer, tasks/took.Seconds())
	}
	slices.Sort(ours)
	slices.Sort(peer)
	ratio := ours[rounds/2] / peer[rounds/2]
	fmt.Printf("| | tasks/s, median of %d | least | most |\n| --- | --- | --- | --- |\n", rounds)
	fmt.Printf("| ours | %.0f | %.0f | %.0f |\n", ours[rounds/2], ours[0], ours[rounds-1])
	fmt.Printf("| River | %.0f | %.0f | %.0f |\n", peer[rounds/2], peer[0], peer[rounds-1])
	fmt.Printf("\nratio %.2f, bar %.1f\n", ratio, bar)
	return ratio >= bar, nil
}

func runOurs(ctx context.Context, pool *pgxpool.Pool, url string, merchant uuid.UUID) (time.Duration, error) {
	var p db.TaskEnqueueManyParams
	p.Kind = "noop"
	for range tasks {
		p.Ids = append(p.Ids, uuid.Must(uuid.NewV7()))
		p.MerchantIds = append(p.MerchantIds, merchant)
		p.Params = append(p.Params, []byte("{}"))
		p.RunAts = append(p.RunAts, time.Now())
	}
	if _, err := db.New(pool).TaskEnqueueMany(ctx, p); err != nil {
		return 0, err
	}
	if _, err := pool.Exec(ctx, "VACUUM ANALYZE scheduled_tasks"); err != nil {
		return 0, err
	}
	var done atomic.Int64
	all := make(chan struct{})
	queue, err := task.NewQueue(pool, task.Config{
		ListenURL: url, Workers: 100, Batch: 500, Log: slog.New(slog.DiscardHandler),
		Handlers: map[string]task.Handler{"noop": func(context.Context, *task.Task) error {
			if done.Add(1) == tasks {
				close(all)
			}
			return nil
		}},
	})
	if err != nil {
		return 0, err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	started := time.Now()
	go func() { queue.Run(running); close(ended) }()
	<-all
	err = untilNone(ctx, pool, "SELECT EXISTS (SELECT FROM scheduled_tasks WHERE status IN ('pending', 'running'))")
	took := time.Since(started)
	stop()
	<-ended
	return took, err
}

type noop struct{}

func (noop) Kind() string { return "noop" }

type noopWorker struct {
	river.WorkerDefaults[noop]
	done *atomic.Int64
	all  chan struct{}
}

func (w *noopWorker) Work(context.Context, *river.Job[noop]) error {
	if w.done.Add(1) == tasks {
		close(w.all)
	}
	return nil
}

func runRiver(ctx context.Context, pool *pgxpool.Pool) (time.Duration, error) {
	worker := &noopWorker{done: &atomic.Int64{}, all: make(chan struct{})}
	workers := river.NewWorkers()
	river.AddWorker(workers, worker)
	// As River's own benchmark sets it.
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: river.QueueNumWorkersMax}}, Workers: workers,
		FetchCooldown: 2 * time.Millisecond, FetchPollInterval: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return 0, err
	}
	for range tasks / 5000 {
		jobs := make([]river.InsertManyParams, 5000)
		for i := range jobs {
			jobs[i].Args = noop{}
		}
		if _, err := client.InsertManyFast(ctx, jobs); err != nil {
			return 0, err
		}
	}
	if _, err := pool.Exec(ctx, "VACUUM ANALYZE river_job"); err != nil {
		return 0, err
	}
	started := time.Now()
	if err := client.Start(ctx); err != nil {
		return 0, err
	}
	<-worker.all
	err = untilNone(ctx, pool, "SELECT EXISTS (SELECT FROM river_job WHERE state IN ('available', 'running', 'scheduled', 'retryable'))")
	took := time.Since(started)
	return took, errors.Join(err, client.Stop(ctx))
}

func untilNone(ctx context.Context, pool *pgxpool.Pool, query string) error {
	for {
		var left bool
		if err := pool.QueryRow(ctx, query).Scan(&left); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if !left {
			return nil
		}
		time.Sleep(2 * time.Millisecond)
	}
}
