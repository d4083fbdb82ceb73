package task_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/state"
	"phantom/task"
)

// one is a queue that nobody runs.
func (b *bench) one(config task.Config) *task.Queue {
	b.t.Helper()
	config.Log = slog.New(slog.DiscardHandler)
	queue, err := task.NewQueue(b.pool, config)
	if err != nil {
		b.t.Fatal(err)
	}
	return queue
}

// It ends as a running queue would have ended it, says so, and leaves the task beside it alone.
func TestRunOneSeesItsTaskThrough(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var tries atomic.Int32
	queue := b.one(task.Config{MaxAttempts: 3, RetryBase: time.Millisecond, Handlers: map[string]task.Handler{
		"done":   func(context.Context, *task.Task) error { return nil },
		"fail":   func(context.Context, *task.Task) error { return task.Fail(errors.New("no such invoice")) },
		"cancel": func(context.Context, *task.Task) error { return task.Cancel(nil) },
		"park":   func(context.Context, *task.Task) error { return task.Park(errors.New("401")) },
		"reset":  func(context.Context, *task.Task) error { return errors.New("reset") },
		"second": func(context.Context, *task.Task) error {
			switch tries.Add(1) {
			case 1:
				return task.Snooze(time.Millisecond)
			case 2:
				return errors.New("reset")
			}
			return nil
		},
	}})
	other := b.enqueue(task.New{Kind: "done"})
	for kind, want := range map[string]string{
		"done": "", "second": "", "fail": "task is failed: no such invoice", "cancel": "task is canceled", "park": "task is parked: 401",
		"reset": "task is needs_review: reset", "unknown": "task is needs_review: no handler for this kind: run a newer phantom",
	} {
		err := queue.RunOne(t.Context(), b.merchant, b.enqueue(task.New{Kind: kind}))
		got := ""
		if err != nil {
			var status *task.StatusError
			if !errors.As(err, &status) {
				t.Errorf("%s: %T", kind, err)
			}
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
	if tries.Load() != 3 {
		t.Errorf("%d tries", tries.Load())
	}
	if row := b.get(other); row.Status != state.TaskPending || row.Fence != 0 {
		t.Errorf("the other task is %s with fence %d", row.Status, row.Fence)
	}
	if err := queue.RunOne(t.Context(), b.merchant, uuid.Must(uuid.NewV7())); !errors.Is(err, pgx.ErrNoRows) {
		t.Errorf("a task that is not there: %v", err)
	}
}

// Anyone who holds the task runs it; RunOne waits for its end.
func TestRunOneWaitsForTheHolder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	begun, finish := make(chan struct{}), make(chan struct{})
	b.run(task.Config{Handlers: map[string]task.Handler{"audit": func(context.Context, *task.Task) error {
		close(begun)
		<-finish
		return nil
	}}})
	id := b.enqueue(task.New{Kind: "audit"})
	<-begun
	queue := b.one(task.Config{Handlers: map[string]task.Handler{"audit": func(context.Context, *task.Task) error {
		t.Error("the task ran twice")
		return nil
	}}})
	ended := make(chan error, 1)
	go func() { ended <- queue.RunOne(t.Context(), b.merchant, id) }()
	select {
	case err := <-ended:
		t.Errorf("it did not wait: %v", err)
	case <-time.After(600 * time.Millisecond): // more than two looks
	}
	close(finish)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if row := b.get(id); row.Attempts != 1 {
		t.Errorf("%d attempts", row.Attempts)
	}
}

// A long try keeps its lease; the one after a holder's death is RunOne's.
func TestRunOneTakesOverAndKeepsItsLease(t *testing.T) {
	t.Parallel()
	b := setup(t)
	finish := make(chan struct{})
	queue := b.one(task.Config{Lease: time.Second, Handlers: map[string]task.Handler{"audit": func(ctx context.Context, _ *task.Task) error {
		select {
		case <-finish:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}}})
	id := b.enqueue(task.New{Kind: "audit"})
	if _, err := b.pool.Exec(t.Context(), `UPDATE scheduled_tasks SET status = 'running', fence = 1, attempts = 1,
		lease_until = clock_timestamp() - interval '1 second' WHERE id = $1`, id); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- queue.RunOne(t.Context(), b.merchant, id) }()
	await(t, "the takeover", func() bool { row := b.get(id); return row.Status == state.TaskRunning && row.Fence == 2 })
	first := *b.get(id).LeaseUntil
	await(t, "a second lease", func() bool { return b.get(id).LeaseUntil.Sub(first) > time.Second })
	close(finish)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if row := b.get(id); row.Status != state.TaskSucceeded || row.Attempts != 2 || row.Fence != 2 {
		t.Errorf("%s after %d attempts, fence %d", row.Status, row.Attempts, row.Fence)
	}
}

// The end of ctx gives the task back at once, and is no failed try.
func TestRunOneStopped(t *testing.T) {
	t.Parallel()
	b := setup(t)
	begun := make(chan struct{})
	queue := b.one(task.Config{Handlers: map[string]task.Handler{"audit": func(ctx context.Context, _ *task.Task) error {
		close(begun)
		<-ctx.Done()
		return ctx.Err()
	}}})
	id := b.enqueue(task.New{Kind: "audit"})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- queue.RunOne(ctx, b.merchant, id) }()
	<-begun
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if row := b.get(id); row.Status != state.TaskPending || row.Attempts != 0 || row.LastError != nil {
		t.Errorf("%s after %d attempts, %v", row.Status, row.Attempts, row.LastError)
	}
}
