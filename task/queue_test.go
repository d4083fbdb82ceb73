package task_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/internal/stage"
	"phantom/state"
	"phantom/task"
)

// bench is a database with a merchant, and what tests do with its queue.
type bench struct {
	stage.Database
	t        *testing.T
	pool     *pgxpool.Pool
	merchant uuid.UUID
}

func setup(t *testing.T) *bench {
	t.Helper()
	pool := dbtest.Pool(t)
	b := &bench{Database: stage.On(t, pool), t: t, pool: pool}
	b.merchant = stage.Merchant(b.t, b.pool, "acct_1")
	return b
}

func (b *bench) enqueue(t task.New) uuid.UUID {
	b.t.Helper()
	if t.MerchantID == uuid.Nil {
		t.MerchantID = b.merchant
	}
	id, err := task.Enqueue(b.t.Context(), b.pool, t)
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

func (b *bench) get(id uuid.UUID) db.ScheduledTask {
	b.t.Helper()
	row, err := db.New(b.pool).TaskGet(b.t.Context(), db.TaskGetParams{MerchantID: b.merchant, ID: id})
	if err != nil {
		b.t.Fatal(err)
	}
	return row
}

// run starts a queue and returns a function that stops it; the test's end does it too.
func (b *bench) run(config task.Config) (stop func()) {
	b.t.Helper()
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	config.ListenURL = b.pool.Config().ConnString()
	queue, err := task.NewQueue(b.pool, config)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { queue.Run(ctx); close(done) }()
	stop = func() { cancel(); <-done }
	b.t.Cleanup(stop)
	return stop
}

// await polls until ok, for ten seconds at most.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	awaitWithin(t, what, 10*time.Second, ok)
}

func awaitWithin(t *testing.T, what string, most time.Duration, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(most)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (b *bench) awaitStatus(id uuid.UUID, status state.Task) db.ScheduledTask {
	b.t.Helper()
	var row db.ScheduledTask
	await(b.t, string(status), func() bool { row = b.get(id); return row.Status == status })
	return row
}

func (b *bench) awaitWithin(id uuid.UUID, status state.Task, most time.Duration) db.ScheduledTask {
	b.t.Helper()
	var row db.ScheduledTask
	awaitWithin(b.t, string(status), most, func() bool { row = b.get(id); return row.Status == status })
	return row
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var snoozes, failures atomic.Int32
	b.run(task.Config{
		MaxAttempts: 3, RetryBase: time.Millisecond,
		Handlers: map[string]task.Handler{
			"done":   func(context.Context, *task.Task) error { return nil },
			"cancel": func(context.Context, *task.Task) error { return task.Cancel(errors.New("paid meanwhile")) },
			"fail":   func(context.Context, *task.Task) error { return task.Fail(errors.New("no such invoice")) },
			"park":   func(context.Context, *task.Task) error { return fmt.Errorf("call: %w", task.Park(errors.New("401"))) },
			"review": func(context.Context, *task.Task) error { return task.Review(errors.New("unclear")) },
			"snooze": func(_ context.Context, t *task.Task) error {
				if snoozes.Add(1) < 5 {
					return task.Snooze(time.Millisecond)
				}
				if t.Attempt != 1 {
					return task.Fail(fmt.Errorf("attempt %d after snoozes", t.Attempt))
				}
				return nil
			},
			"retry": func(context.Context, *task.Task) error { failures.Add(1); return errors.New("reset") },
			"panic": func(context.Context, *task.Task) error { panic("secret") },
		},
	})
	for kind, want := range map[string]struct {
		status    state.Task
		lastError string
		attempts  int32
	}{
		"done": {state.TaskSucceeded, "", 1}, "cancel": {state.TaskCanceled, "paid meanwhile", 1}, "fail": {state.TaskFailed, "no such invoice", 1},
		"park": {state.TaskParked, "call: 401", 1}, "review": {state.TaskNeedsReview, "unclear", 1}, "snooze": {state.TaskSucceeded, "", 1},
		"retry": {state.TaskNeedsReview, "reset", 3}, "panic": {state.TaskNeedsReview, "the handler panicked", 3},
		"unknown": {state.TaskNeedsReview, "no handler for this kind: run a newer phantom", 1},
	} {
		row := b.awaitStatus(b.enqueue(task.New{Kind: kind}), want.status)
		lastError := ""
		if row.LastError != nil {
			lastError = *row.LastError
		}
		if lastError != want.lastError || row.Attempts != want.attempts || row.LeaseUntil != nil {
			t.Errorf("%s: error %q after %d attempts, lease %v", kind, lastError, row.Attempts, row.LeaseUntil)
		}
		if final := slices.Contains([]state.Task{state.TaskSucceeded, state.TaskFailed, state.TaskCanceled}, want.status); final != (row.FinishedAt != nil) {
			t.Errorf("%s: finished_at %v", kind, row.FinishedAt)
		}
	}
	if snoozes.Load() != 5 || failures.Load() != 3 {
		t.Errorf("%d snoozed tries, %d failed ones", snoozes.Load(), failures.Load())
	}
}

func TestEnqueueIsPartOfTheTransaction(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var ran atomic.Int32
	b.run(task.Config{Handlers: map[string]task.Handler{"audit": func(context.Context, *task.Task) error { ran.Add(1); return nil }}})
	gone := errors.New("rolled back")
	if err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		if _, err := task.Enqueue(t.Context(), tx, task.New{MerchantID: b.merchant, Kind: "audit"}); err != nil {
			t.Error(err)
		}
		return gone
	}); !errors.Is(err, gone) {
		t.Fatal(err)
	}
	b.awaitStatus(b.enqueue(task.New{Kind: "audit"}), state.TaskSucceeded)
	if ran.Load() != 1 {
		t.Errorf("%d tasks ran", ran.Load())
	}
}

func TestUniqueKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hold := make(chan struct{})
	b.run(task.Config{Handlers: map[string]task.Handler{"audit": func(ctx context.Context, _ *task.Task) error {
		select {
		case <-hold:
		case <-ctx.Done():
		}
		return nil
	}}})
	first := b.enqueue(task.New{Kind: "audit", UniqueKey: "account"})
	b.awaitStatus(first, state.TaskRunning)
	if twin := b.enqueue(task.New{Kind: "audit", UniqueKey: "account"}); twin != uuid.Nil {
		t.Error("a twin was enqueued beside a running task")
	}
	if other := b.enqueue(task.New{Kind: "audit", UniqueKey: "other"}); other == uuid.Nil {
		t.Error("another key was refused")
	}
	close(hold)
	b.awaitStatus(first, state.TaskSucceeded)
	if again := b.enqueue(task.New{Kind: "audit", UniqueKey: "account"}); again == uuid.Nil {
		t.Error("a finished task still holds its key")
	}
}

// Idle polling is turned off in effect: only the notification, or the timer set to run_at, can wake
// the queue.
func TestDueTasksStartAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	started := make(chan time.Time, 1)
	b.run(task.Config{Poll: time.Hour, Handlers: map[string]task.Handler{
		"note": func(context.Context, *task.Task) error { started <- time.Now(); return nil },
	}})
	// The queue is up and idle.
	b.awaitStatus(b.enqueue(task.New{Kind: "note"}), state.TaskSucceeded)
	<-started
	var took []time.Duration
	for range 5 {
		begin := time.Now()
		b.enqueue(task.New{Kind: "note"})
		took = append(took, (<-started).Sub(begin))
	}
	slices.Sort(took)
	if took[2] > time.Second {
		t.Errorf("a due task took %s to start", took[2])
	}
	soon := time.Now().Add(300 * time.Millisecond)
	b.enqueue(task.New{Kind: "note", RunAt: soon})
	if late := (<-started).Sub(soon); late < -50*time.Millisecond || late > 2*time.Second {
		t.Errorf("a planned task started %s after its time", late)
	}
	t.Logf("from enqueue to start: median %s", took[2])
}

// Connections die at random under a queue of three processes' worth of workers: every task is
// settled once, none is lost, and a poison task harms no other.
func TestEveryTaskIsSettledThoughConnectionsDie(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const tasks = 3000
	var settled sync.Map
	handlers := map[string]task.Handler{
		"count": func(_ context.Context, k *task.Task) error {
			count, _ := settled.LoadOrStore(k.ID, new(atomic.Int32))
			count.(*atomic.Int32).Add(1)
			return nil
		},
		"poison": func(context.Context, *task.Task) error { panic("poison") },
	}
	for i := range tasks {
		kind := "count"
		if i == tasks/2 {
			kind = "poison"
		}
		b.enqueue(task.New{Kind: kind})
	}
	for range 3 {
		b.run(task.Config{Workers: 5, Batch: 50, Lease: 2 * time.Second, MaxAttempts: 3, RetryBase: time.Millisecond, Poll: 100 * time.Millisecond, Handlers: handlers})
	}
	killer, err := pgx.Connect(t.Context(), b.pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = killer.Close(context.Background()) }()
	kills, counts := 0, map[string]int{}
	deadline := time.Now().Add(time.Minute)
	for counts["succeeded"] < tasks-1 || counts["needs_review"] < 1 {
		if time.Now().After(deadline) {
			t.Fatalf("not done in a minute: %v", counts)
		}
		if kills < 40 {
			kills++
			if _, err := killer.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT 2`); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Millisecond)
		rows, err := killer.Query(t.Context(), "SELECT status, count(*) FROM scheduled_tasks GROUP BY status ORDER BY status")
		if err != nil {
			t.Fatal(err)
		}
		clear(counts)
		var status string
		var count int
		if _, err := pgx.ForEachRow(rows, []any{&status, &count}, func() error { counts[status] = count; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d connections killed", 2*kills)
}

// The stop gives back what was not begun, finishes what was, and leaves nothing running.
func TestStopping(t *testing.T) {
	t.Parallel()
	b := setup(t)
	begun := make(chan struct{}, 2)
	finish := make(chan struct{})
	stop := b.run(task.Config{Workers: 3, Batch: 50, Handlers: map[string]task.Handler{"slow": func(context.Context, *task.Task) error {
		begun <- struct{}{}
		<-finish
		return nil
	}}})
	for range 20 {
		b.enqueue(task.New{Kind: "slow"})
	}
	<-begun
	<-begun
	time.AfterFunc(50*time.Millisecond, func() { close(finish) })
	stop()
	var succeeded, pending, counted int
	if err := b.pool.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE status = 'succeeded'), count(*) FILTER (WHERE status = 'pending'),
		coalesce(sum(attempts) FILTER (WHERE status = 'pending'), 0) FROM scheduled_tasks`).Scan(&succeeded, &pending, &counted); err != nil {
		t.Fatal(err)
	}
	if succeeded+pending != 20 || succeeded < 2 || counted != 0 {
		t.Errorf("%d succeeded, %d pending with %d attempts", succeeded, pending, counted)
	}
}

func TestParkCancelRetryAndDrop(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, queries := t.Context(), db.New(b.pool)
	id := b.enqueue(task.New{Kind: "note"})
	if n, err := queries.TaskPark(ctx, db.TaskParkParams{MerchantID: b.merchant, Most: 10}); n != 1 || err != nil {
		t.Fatalf("park: %d, %v", n, err)
	}
	if n, err := queries.TaskUnpark(ctx, db.TaskUnparkParams{MerchantID: b.merchant, Most: 10}); n != 1 || err != nil {
		t.Fatalf("unpark: %d, %v", n, err)
	}
	if n, err := queries.TaskCancel(ctx, db.TaskCancelParams{MerchantID: b.merchant, ID: id}); n != 1 || err != nil {
		t.Fatalf("cancel: %d, %v", n, err)
	}
	if n, err := queries.TaskRetry(ctx, db.TaskRetryParams{MerchantID: b.merchant, ID: id}); n != 0 || err != nil {
		t.Fatalf("a canceled task was retried: %d, %v", n, err)
	}
	if n, err := queries.TaskDropFinished(ctx, 3600); n != 0 || err != nil {
		t.Fatalf("a fresh task was dropped: %d, %v", n, err)
	}
	if _, err := b.pool.Exec(ctx, "UPDATE scheduled_tasks SET finished_at = now() - interval '8 days', run_at = now() - interval '9 days'"); err != nil {
		t.Fatal(err)
	}
	if n, err := queries.TaskDropFinished(ctx, (7 * 24 * time.Hour).Seconds()); n != 1 || err != nil {
		t.Fatalf("drop: %d, %v", n, err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	handlers := map[string]task.Handler{"a": func(context.Context, *task.Task) error { return nil }}
	log := slog.New(slog.NewTextHandler(&bytes.Buffer{}, nil))
	for want, config := range map[string]task.Config{
		"a queue needs a handler":                                {Log: log},
		"a queue needs a log":                                    {Handlers: handlers},
		"the lease cannot be shorter than a second":              {Handlers: handlers, Log: log, Lease: time.Millisecond},
		"finished tasks stay for 7 days at least":                {Handlers: handlers, Log: log, Keep: time.Hour},
		"workers, batch, audits and attempts cannot be negative": {Handlers: handlers, Log: log, Workers: -1},
	} {
		if _, err := task.NewQueue(nil, config); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestKindIsAName(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for kind, good := range map[string]bool{
		"a": true, "invoice_pay": true, "a_": true, strings.Repeat("k", 64): true,
		"": false, "_a": false, "Audit": false, "audit2": false, "a b": false, "audit\n": false, "ä": false, strings.Repeat("k", 65): false,
	} {
		_, err := task.Enqueue(t.Context(), b.pool, task.New{MerchantID: b.merchant, Kind: kind})
		if good != (err == nil) {
			t.Errorf("%q: %v", kind, err)
		}
	}
}

// What a webhook asks for is done while all workers are busy and thousands of charges are due
// before it.
func TestUrgentTasksPassABacklog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if _, err := b.pool.Exec(t.Context(), `INSERT INTO scheduled_tasks (merchant_id, id, kind, run_at)
		SELECT $1, gen_random_uuid(), 'slow', now() - interval '1 minute' FROM generate_series(1, 10000)`, b.merchant); err != nil {
		t.Fatal(err)
	}
	handlers := map[string]task.Handler{
		"slow":    func(ctx context.Context, _ *task.Task) error { <-ctx.Done(); return ctx.Err() },
		"webhook": func(context.Context, *task.Task) error { return nil },
	}
	b.run(task.Config{Handlers: handlers, Workers: 2, Grace: time.Millisecond})
	await(t, "the workers are busy", func() bool { return b.running() >= 2 })
	b.run(task.Config{Handlers: handlers, Workers: 2, Grace: time.Millisecond, Urgent: true})
	for range 20 {
		b.awaitStatus(b.enqueue(task.New{Kind: "webhook"}), state.TaskSucceeded)
	}
}

func (b *bench) running() (n int) {
	b.t.Helper()
	if err := b.pool.QueryRow(b.t.Context(), "SELECT count(*) FROM scheduled_tasks WHERE status = 'running'").Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}
