package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/task"
)

// newTasks are n due no-op tasks.
func (s *side) newTasks(n int) db.TaskEnqueueManyParams {
	p := db.TaskEnqueueManyParams{Kind: "noop"}
	now := time.Now()
	for range n {
		p.Ids = append(p.Ids, uuid.Must(uuid.NewV7()))
		p.MerchantIds = append(p.MerchantIds, s.merchant)
		p.Params = append(p.Params, []byte("{}"))
		p.RunAts = append(p.RunAts, now)
	}
	return p
}

// enqueue adds tasks to the table in one statement.
type enqueue func(ctx context.Context, s *side, p db.TaskEnqueueManyParams) error

func byUnnest(ctx context.Context, s *side, p db.TaskEnqueueManyParams) error {
	_, err := db.New(s.pool).TaskEnqueueMany(ctx, p)
	return err
}

func byCopy(ctx context.Context, s *side, p db.TaskEnqueueManyParams) error {
	_, err := s.pool.CopyFrom(ctx, pgx.Identifier{"scheduled_tasks"}, []string{"merchant_id", "id", "kind", "params", "run_at"},
		pgx.CopyFromSlice(len(p.Ids), func(i int) ([]any, error) {
			return []any{p.MerchantIds[i], p.Ids[i], p.Kind, p.Params[i], p.RunAts[i]}, nil
		}))
	return err
}

func (s *side) enqueueOnly(ctx context.Context, tasks int, enqueue enqueue) (time.Duration, error) {
	if _, err := s.pool.Exec(ctx, "TRUNCATE scheduled_tasks"); err != nil {
		return 0, err
	}
	p := s.newTasks(tasks)
	started := time.Now()
	err := enqueue(ctx, s, p)
	return time.Since(started), err
}

// fill leaves n finished tasks in the table.
func (s *side) fill(ctx context.Context, n int) error {
	for range n / 10_000 {
		if err := byCopy(ctx, s, s.newTasks(10_000)); err != nil {
			return err
		}
		if _, err := s.pool.Exec(ctx, `UPDATE scheduled_tasks SET status = 'succeeded', attempts = 1, fence = 1, finished_at = clock_timestamp()
			WHERE status = 'pending'`); err != nil {
			return err
		}
	}
	_, err := s.pool.Exec(ctx, "VACUUM ANALYZE scheduled_tasks")
	return err
}

// claimAll enqueues tasks, claims them all as a queue does, and takes them out of the table again.
func (s *side) claimAll(ctx context.Context, tasks int) (time.Duration, error) {
	const batch = 500
	if err := byUnnest(ctx, s, s.newTasks(tasks)); err != nil {
		return 0, err
	}
	if _, err := s.pool.Exec(ctx, "VACUUM ANALYZE scheduled_tasks"); err != nil {
		return 0, err
	}
	queries, started := db.New(s.pool), time.Now()
	for left := tasks; left > 0; {
		due, err := queries.TaskDueMerchants(ctx, db.TaskDueMerchantsParams{Sample: 200, Hops: 1000})
		if err != nil {
			return 0, err
		}
		merchants := make([]uuid.UUID, 0, len(due))
		for _, row := range due {
			if row.Due && !slices.Contains(merchants, row.MerchantID) {
				merchants = append(merchants, row.MerchantID)
			}
		}
		if len(merchants) == 0 {
			return 0, errors.New("nothing to claim is left")
		}
		rows, err := queries.TaskClaim(ctx, db.TaskClaimParams{
			LeaseSeconds: 60, Merchants: merchants, Share: int32((batch + len(merchants) - 1) / len(merchants)), Batch: batch,
		})
		if err != nil {
			return 0, err
		}
		left -= len(rows)
	}
	took := time.Since(started)
	_, err := s.pool.Exec(ctx, "DELETE FROM scheduled_tasks WHERE status = 'running'")
	return took, err
}

// runOurs lets a queue do the tasks, until the last is final in the table.
func (b *bench) runOurs(ctx context.Context) (time.Duration, error) {
	s := b.empty
	if _, err := s.pool.Exec(ctx, "TRUNCATE scheduled_tasks"); err != nil {
		return 0, err
	}
	if err := byUnnest(ctx, s, s.newTasks(b.tasks)); err != nil {
		return 0, err
	}
	if _, err := s.pool.Exec(ctx, "VACUUM ANALYZE scheduled_tasks"); err != nil {
		return 0, err
	}
	var done atomic.Int64
	all := make(chan struct{})
	queue, err := task.NewQueue(s.pool, task.Config{
		ListenURL: s.url, Workers: 100, Batch: 2000, Log: slog.New(slog.DiscardHandler),
		Handlers: map[string]task.Handler{"noop": func(context.Context, *task.Task) error {
			if done.Add(1) == int64(b.tasks) {
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
	err = untilNone(ctx, s.pool, "SELECT EXISTS (SELECT FROM scheduled_tasks WHERE status IN ('pending', 'running'))")
	took := time.Since(started)
	stop()
	<-ended
	return took, err
}

func untilNone(ctx context.Context, pool *pgxpool.Pool, query string) error {
	for {
		var left bool
		if err := pool.QueryRow(ctx, query).Scan(&left); err != nil {
			return err
		}
		if !left {
			return nil
		}
		time.Sleep(2 * time.Millisecond)
	}
}
