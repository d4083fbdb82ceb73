package task_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"phantom/db/dbtest"
	"phantom/internal/stage"
	"phantom/state"
	"phantom/task"
)

// shortLease is short, and what the queue itself asks for is given up after two seconds.
const shortLease = 4 * time.Second

// A process whose connections are lost goes on over new ones, without being started again. What it
// held is taken over at the end of the lease, and what it says of that later changes nothing.
func TestALostNetworkIsNoEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	direct := b.pool.Config().ConnString()
	through, cut, heal := dbtest.Proxy(t, direct)
	var log stage.Log
	begun, release := make(chan struct{}, 1), make(chan struct{})
	handlers := map[string]task.Handler{
		"long": func(context.Context, *task.Task) error { begun <- struct{}{}; <-release; return nil },
		"note": done,
	}
	lost, err := task.NewQueue(dbtest.Open(t, through, dbtest.Ring(t)), task.Config{
		ListenURL: through, Handlers: handlers, Lease: shortLease, Poll: 200 * time.Millisecond, Log: log.Logger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { lost.Run(ctx); close(ended) }()
	defer func() { cancel(); <-ended }()
	long := b.enqueue(task.New{Kind: "long"})
	<-begun
	cut()
	// Another process takes the task over while the first one believes that it holds it.
	var again atomic.Int32
	stop := b.run(task.Config{Lease: shortLease, Poll: 200 * time.Millisecond, Workers: 1,
		Handlers: map[string]task.Handler{"long": func(context.Context, *task.Task) error { again.Add(1); return nil }, "note": done}})
	row := b.awaitWithin(long, state.TaskSucceeded, 3*shortLease)
	stop()
	if row.Attempts != 2 || again.Load() != 1 {
		t.Errorf("attempt %d, taken over %d times", row.Attempts, again.Load())
	}
	heal()
	close(release)
	// The first one works again: alone, for the other one has stopped.
	b.awaitWithin(b.enqueue(task.New{Kind: "note"}), state.TaskSucceeded, 15*time.Second)
	if now := b.get(long); now.Attempts != 2 || now.Fence != row.Fence || now.Status != state.TaskSucceeded {
		t.Errorf("the lost process has changed what was taken over: %+v", now)
	}
	if !strings.Contains(log.String(), "cannot claim tasks") {
		t.Errorf("no line says that the database was lost: %s", &log)
	}
}

// Handlers that wait for a lock keep their leases, however many they are: the queue's connections
// are its own.
func TestWaitingHandlersKeepTheirLeases(t *testing.T) {
	t.Parallel()
	b := setup(t)
	work := dbtest.Open(t, b.pool.Config().ConnString()+"&pool_max_conns=2", dbtest.Ring(t))
	holder, err := b.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Release()
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_lock(3)"); err != nil {
		t.Fatal(err)
	}
	var waiting atomic.Int32
	b.run(task.Config{Workers: 5, Lease: time.Second, Poll: 100 * time.Millisecond, Handlers: map[string]task.Handler{
		"lock": func(ctx context.Context, _ *task.Task) error {
			waiting.Add(1)
			_, err := work.Exec(ctx, "SELECT pg_advisory_lock_shared(3)")
			return err
		},
		"note": done,
	}})
	for range 4 {
		b.enqueue(task.New{Kind: "lock"})
	}
	await(t, "the handlers wait", func() bool { return waiting.Load() == 4 })
	time.Sleep(3 * time.Second) // three leases
	if n := waiting.Load(); n != 4 {
		t.Errorf("%d tries of four tasks: their leases were lost", n)
	}
	b.enqueue(task.New{Kind: "note", MerchantID: stage.Merchant(b.t, b.pool, "acct_other")}) // one hand is left
	await(t, "another one's note", func() bool { return b.running() == 4 && b.succeeded() == 1 })
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_unlock(3)"); err != nil {
		t.Fatal(err)
	}
	await(t, "the handlers", func() bool { return b.running() == 0 })
}

func (b *bench) succeeded() (n int) {
	b.t.Helper()
	if err := b.pool.QueryRow(b.t.Context(), "SELECT count(*) FROM scheduled_tasks WHERE status = 'succeeded'").Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}
