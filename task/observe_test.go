package task_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"phantom/state"
	"phantom/task"
)

// Observe learns of every try once, with what becomes of the task and how long the handler took.
func TestObserve(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var mutex sync.Mutex
	seen, longest := map[string]int{}, time.Duration(0)
	tries := 0
	stop := b.run(task.Config{
		RetryBase: time.Millisecond,
		Handlers: map[string]task.Handler{
			"good": func(context.Context, *task.Task) error { time.Sleep(20 * time.Millisecond); return nil },
			"bad":  func(context.Context, *task.Task) error { return task.Fail(errors.New("no")) },
			"self": func(ctx context.Context, t *task.Task) error {
				return task.Finish(ctx, b.pool, t, state.TaskNeedsReview, nil, "unclear")
			},
			"wild": func(context.Context, *task.Task) error { panic("no") },
			"late": func(context.Context, *task.Task) error {
				if tries++; tries == 1 {
					return errors.New("not yet")
				}
				return nil
			},
		},
		MaxAttempts: 2,
		Observe: func(kind string, status state.Task, took time.Duration) {
			mutex.Lock()
			defer mutex.Unlock()
			seen[kind+" "+string(status)]++
			longest = max(longest, took)
		},
	})
	self := b.enqueue(task.New{Kind: "self"})
	good, bad, wild, late := b.enqueue(task.New{Kind: "good"}), b.enqueue(task.New{Kind: "bad"}), b.enqueue(task.New{Kind: "wild"}), b.enqueue(task.New{Kind: "late"})
	b.awaitStatus(good, state.TaskSucceeded)
	b.awaitStatus(bad, state.TaskFailed)
	b.awaitStatus(wild, state.TaskNeedsReview)
	b.awaitStatus(late, state.TaskSucceeded)
	b.awaitStatus(self, state.TaskNeedsReview)
	stop()
	want := map[string]int{"good succeeded": 1, "bad failed": 1, "self needs_review": 1, "wild pending": 1, "wild needs_review": 1, "late pending": 1, "late succeeded": 1}
	if !maps.Equal(seen, want) || longest < 20*time.Millisecond || longest > 10*time.Second {
		t.Errorf("saw %v, the longest %s", seen, longest)
	}
}
