package task_test

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/state"
	"phantom/task"
	"phantom/vault"
)

// claim takes a task as a worker does.
func (b *bench) claim(id uuid.UUID) *task.Task {
	b.t.Helper()
	row, err := db.New(b.pool).TaskClaimOne(b.t.Context(), db.TaskClaimOneParams{LeaseSeconds: 60,
		MerchantID: b.merchant, ID: id})
	if err != nil {
		b.t.Fatal(err)
	}
	return &task.Task{MerchantID: row.MerchantID, ID: row.ID, Kind: row.Kind, Attempt: row.Attempts,
		Fence: row.Fence, FirstSentAt: row.FirstSentAt}
}

// free gives a running task up, as the rescue does whose worker is taken for dead.
func (b *bench) free(id uuid.UUID) {
	b.t.Helper()
	b.Exec("UPDATE scheduled_tasks SET status = 'pending', lease_until = NULL WHERE id = $1", id)
}

// write is one of the statements by which a worker writes down what became of its task. It says
// whether the worker hears that it was done.
type write struct {
	name string
	do   func(ctx context.Context, q *db.Queries, b *bench, held *task.Task) (heard bool, err error)
}

// heldWrites are all statements that name a fence.
func heldWrites() []write {
	ids := func(t *task.Task) ([]uuid.UUID, []uuid.UUID, []int64) {
		return []uuid.UUID{t.MerchantID}, []uuid.UUID{t.ID}, []int64{t.Fence}
	}
	lost := func(err error) (bool, error) {
		if errors.Is(err, task.ErrLost) {
			return false, nil
		}
		return err == nil, err
	}
	rows := func(n int64, err error) (bool, error) { return n == 1, err }
	return []write{
		{"heartbeat", func(ctx context.Context, q *db.Queries, _ *bench, held *task.Task) (bool, error) {
			merchants, tasks, fences := ids(held)
			kept, err := q.TaskHeartbeat(ctx, db.TaskHeartbeatParams{LeaseSeconds: 600,
				MerchantIds: merchants, Ids: tasks, Fences: fences})
			return len(kept) == 1, err
		}},
		{"settle done", func(ctx context.Context, q *db.Queries, _ *bench, held *task.Task) (bool,
			error) {
			merchants, tasks, fences := ids(held)
			row, err := q.TaskSettleDone(ctx, db.TaskSettleDoneParams{MerchantIds: merchants, Ids: tasks,
				Fences: fences})
			return rows(row.Settled, err)
		}},
		{"settle", func(ctx context.Context, q *db.Queries, _ *bench, held *task.Task) (bool, error) {
			merchants, tasks, fences := ids(held)
			return rows(q.TaskSettle(ctx, db.TaskSettleParams{
				MerchantIds: merchants, Ids: tasks, Fences: fences, Statuses: []string{"failed"},
				Delays: []float64{0}, Jitters: []bool{false},
				Counted: []bool{false}, Errors: []string{"from the past"},
			}))
		}},
		{"finish", func(ctx context.Context, _ *db.Queries, b *bench, held *task.Task) (bool, error) {
			return lost(task.Finish(ctx, b.pool, held, state.TaskFailed, map[string]string{"result": "declined"},
				"from the past"))
		}},
		{"mark sent", func(ctx context.Context, _ *db.Queries, b *bench, held *task.Task) (bool, error) {
			return lost(task.MarkSent(ctx, b.pool, held))
		}},
		{"park", func(ctx context.Context, q *db.Queries, _ *bench, held *task.Task) (bool, error) {
			at, err := q.MerchantGetConnectedAt(ctx, held.MerchantID)
			if err != nil {
				return false, err
			}
			_, err = q.TaskParkHeld(ctx, db.TaskParkHeldParams{
				MerchantID: held.MerchantID, ID: held.ID, Fence: held.Fence, ConnectedAt: at,
				Error: "from the past",
			})
			if errors.Is(err, pgx.ErrNoRows) {
				return false, nil
			}
			return err == nil, err
		}},
		{"progressed", func(ctx context.Context, q *db.Queries, _ *bench, held *task.Task) (bool,
			error) {
			return false, q.TaskProgressed(ctx, db.TaskProgressedParams{MerchantID: held.MerchantID,
				ID: held.ID, Fence: held.Fence})
		}},
		{"seal a message", func(ctx context.Context, q *db.Queries, _ *bench, held *task.Task) (bool,
			error) {
			sealed := vault.NewToken("scheduled_tasks.sealed_params:"+held.ID.String(), "from the past")
			return rows(q.MessageSealTask(ctx, db.MessageSealTaskParams{
				MerchantID: held.MerchantID, ID: held.ID, Fence: held.Fence, SealedParams: sealed,
			}))
		}},
		{"thaw a message", func(ctx context.Context, q *db.Queries, _ *bench, held *task.Task) (bool,
			error) {
			return rows(q.MessageThawTask(ctx, db.MessageThawTaskParams{MerchantID: held.MerchantID,
				ID: held.ID, Fence: held.Fence}))
		}},
		{"close a message", func(ctx context.Context, q *db.Queries, _ *bench, held *task.Task) (bool,
			error) {
			return false, q.MessageCloseTask(ctx, db.MessageCloseTaskParams{MerchantID: held.MerchantID,
				ID: held.ID, Fence: held.Fence})
		}},
	}
}

// everything is all that stands about a task.
func (b *bench) everything(id uuid.UUID) map[string]any {
	b.t.Helper()
	var row map[string]any
	if err := b.pool.QueryRow(b.t.Context(), "SELECT to_jsonb(t) FROM scheduled_tasks t WHERE id = $1",
		id).Scan(&row); err != nil {
		b.t.Fatal(err)
	}
	return row
}

// A worker that was taken for dead comes back while the new holder runs, and while the task waits
// for the next one: what it writes changes nothing at all of the row, and it hears that. The
// same write by the one who holds the task is done.
func TestStaleWritesChangeNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, queries := t.Context(), db.New(b.pool)
	for _, w := range heldWrites() {
		t.Run(w.name, func(t *testing.T) {
			id := b.enqueue(task.New{Kind: "note", UniqueKey: w.name})
			// As far as a task may have come: two tries, an error, a request that left under the
			// first holder.
			stale := b.claim(id)
			b.Exec("UPDATE scheduled_tasks SET last_error = 'reset' WHERE id = $1", id)
			for _, status := range []string{"running", "pending"} {
				b.free(id)
				var holder *task.Task
				if status == "running" {
					holder = b.claim(id)
				}
				if w.name == "thaw a message" {
					b.Exec("UPDATE scheduled_tasks SET first_sent_at = clock_timestamp() WHERE id = $1", id)
				}
				before := b.everything(id)
				heard, err := w.do(ctx, queries, b, &task.Task{MerchantID: stale.MerchantID, ID: id,
					Fence: stale.Fence})
				if err != nil || heard {
					t.Errorf("while it is %s the old holder hears that it was done: %t, %v", status, heard, err)
				}
				if after := b.everything(id); !reflect.DeepEqual(before, after) {
					t.Errorf("while it is %s an old fence changed\n%v to\n%v", status, before, after)
				}
				if holder == nil {
					continue
				}
				if _, err := w.do(ctx, queries, b, holder); err != nil {
					t.Fatal(err)
				}
				if after := b.everything(id); reflect.DeepEqual(before, after) {
					t.Errorf("the holder's own write changed nothing: the test says little")
				}
				b.Exec(`UPDATE scheduled_tasks SET status = 'running', finished_at = NULL,
					lease_until = clock_timestamp() WHERE id = $1`, id)
			}
			// The last holder gives it back: its fence is the newest, and it holds nothing.
			holder := b.claim(id)
			b.free(id)
			b.Exec("UPDATE scheduled_tasks SET unique_key = $2 WHERE id = $1", id, w.name)
			before := b.everything(id)
			if heard, err := w.do(ctx, queries, b, holder); heard || err != nil {
				t.Errorf("who has given it back hears that it was done: %t, %v", heard, err)
			}
			if after := b.everything(id); !reflect.DeepEqual(before, after) {
				t.Errorf("who has given it back changed\n%v to\n%v", before, after)
			}
		})
	}
}

// The same in whole processes: the result of the frozen one comes while the other one works, and
// ends neither its work nor its lease.
func TestLostLeaseSettlesNothing(t *testing.T) {
	t.Parallel()
	for name, verdict := range map[string]error{
		"done": nil, "failed": task.Fail(errors.New("from the past")),
		"tried": errors.New("from the past"), "snoozed": task.Snooze(time.Hour),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			frozen, thaw := make(chan struct{}), make(chan struct{})
			// One worker, which is busy: this process claims nothing anew.
			stop := b.run(task.Config{Workers: 1,
				Handlers: map[string]task.Handler{"slow": func(context.Context, *task.Task) error {
					close(frozen)
					<-thaw
					return verdict
				}}})
			id := b.enqueue(task.New{Kind: "slow"})
			<-frozen
			b.free(id)
			begun, finish, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			other := b.one(task.Config{Handlers: map[string]task.Handler{"slow": func(ctx context.Context,
				_ *task.Task) error {
				close(begun)
				select {
				case <-finish:
					return nil
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}}})
			go func() { ended <- other.RunOne(context.WithoutCancel(t.Context()), b.merchant, id) }()
			<-begun
			before := b.get(id)
			close(thaw)
			stop() // returns once its result is written
			after := b.get(id)
			before.LeaseUntil, after.LeaseUntil = nil, nil // the new holder extends it
			if !reflect.DeepEqual(before, after) {
				t.Errorf("the old holder's result changed\n%+v to\n%+v", before, after)
			}
			if row := b.get(id); row.Status != state.TaskRunning || row.LeaseUntil == nil || row.Fence != 2 ||
				row.Attempts != 2 {
				t.Errorf("%s with fence %d after %d attempts, lease %v", row.Status, row.Fence, row.Attempts,
					row.LeaseUntil)
			}
			close(finish)
			if err := <-ended; err != nil {
				t.Errorf("the new holder's work ended with %v", err)
			}
			if row := b.get(id); row.Status != state.TaskSucceeded || row.LastError != nil {
				t.Errorf("%s, %v", row.Status, row.LastError)
			}
		})
	}
}

// A process that takes a task over from itself goes on extending the new lease when the old try
// ends at last, and the old one is told.
func TestTakenOverFromItself(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var tries atomic.Int32
	told, thaw, finish := make(chan error, 1), make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(thaw) })
	b.run(task.Config{Workers: 3, Lease: time.Second, Grace: time.Millisecond,
		Handlers: map[string]task.Handler{
			"slow": func(ctx context.Context, _ *task.Task) error {
				if tries.Add(1) == 1 {
					select {
					case <-ctx.Done():
					case <-thaw: // the test has failed
					}
					told <- context.Cause(ctx)
					<-thaw
					return task.Fail(errors.New("from the past"))
				}
				select {
				case <-finish:
					return nil
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			},
			"quick": func(context.Context, *task.Task) error { return nil },
		}})
	t.Cleanup(release) // before the queue's stop, which waits for the old try
	id := b.enqueue(task.New{Kind: "slow"})
	await(t, "the first try", func() bool { return tries.Load() == 1 })
	b.free(id)
	b.Exec("SELECT pg_notify('phantom_task', '')")
	await(t, "the second try", func() bool { return tries.Load() == 2 })
	await(t, "the old try's being told", func() bool { return len(told) == 1 })
	if cause := <-told; errors.Is(cause, context.Canceled) {
		t.Errorf("the old try was told %v", cause)
	}
	release()
	// The one hand that is free again does this after it has handed in the old result, which is
	// settled before.
	b.awaitStatus(b.enqueue(task.New{Kind: "quick"}), state.TaskSucceeded)
	lease := *b.get(id).LeaseUntil
	await(t, "a lease that the old one's end did not cut off", func() bool {
		row := b.get(id)
		if row.Fence != 2 || row.LeaseUntil == nil {
			t.Fatalf("%s with fence %d", row.Status, row.Fence)
		}
		return row.LeaseUntil.Sub(lease) > 2*time.Second
	})
	close(finish)
	if row := b.awaitStatus(id, state.TaskSucceeded); row.Attempts != 2 || row.LastError != nil {
		t.Errorf("%d attempts, %v", row.Attempts, row.LastError)
	}
}

// A heartbeat never waits for one task while it holds another: the one who ends it may be about to
// join the other, and PostgreSQL would end one of the two. What it cannot lock stays the worker's.
func TestHeartbeatWaitsForNobody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	low, high := b.claim(b.enqueue(task.New{Kind: "low"})), b.claim(b.enqueue(task.New{Kind: "high"}))
	before := *b.get(low.ID).LeaseUntil
	ending, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ending.Rollback(t.Context()) }()
	if err := task.Finish(t.Context(), ending, high, state.TaskSucceeded, nil, ""); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	kept, err := db.New(b.pool).TaskHeartbeat(ctx, db.TaskHeartbeatParams{
		LeaseSeconds: 600, MerchantIds: []uuid.UUID{b.merchant, b.merchant}, Ids: []uuid.UUID{low.ID, high.ID}, Fences: []int64{low.Fence, high.Fence},
	})
	if err != nil || len(kept) != 2 {
		t.Fatalf("it keeps %v: %v", kept, err)
	}
	if lease := *b.get(low.ID).LeaseUntil; lease.Sub(before) < 5*time.Minute {
		t.Errorf("the lease of what was free ends at %s", lease)
	}
	if err := task.Finish(t.Context(), ending, low, state.TaskSucceeded, nil, ""); err != nil {
		t.Errorf("who ends one task cannot lock the other: %v", err)
	}
}

// A handler whose task another process has taken is told by its next heartbeat.
func TestLeaseIsLostAloud(t *testing.T) {
	t.Parallel()
	b := setup(t)
	begun, told := make(chan struct{}), make(chan error, 1)
	b.run(task.Config{Workers: 1, Lease: time.Second, Grace: time.Millisecond,
		Handlers: map[string]task.Handler{
			"slow": func(ctx context.Context, _ *task.Task) error {
				close(begun)
				<-ctx.Done()
				told <- context.Cause(ctx)
				return nil
			},
		}})
	id := b.enqueue(task.New{Kind: "slow"})
	<-begun
	b.Exec(`UPDATE scheduled_tasks SET fence = fence + 1,
		lease_until = clock_timestamp() + interval '1 hour' WHERE id = $1`, id)
	select {
	case cause := <-told:
		if cause == nil || errors.Is(cause, context.Canceled) {
			t.Errorf("it was told %v", cause)
		}
	case <-time.After(10 * time.Second):
		t.Error("it was not told")
	}
	if row := b.get(id); row.Status != state.TaskRunning {
		t.Errorf("it is %s", row.Status)
	}
}
