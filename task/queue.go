package task

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/state"
	"phantom/vault"
)

// Config says how a process takes part in the work. The zero value of every number is its default.
type Config struct {
	ListenURL string             // past any pooler: LISTEN needs a session
	Handlers  map[string]Handler // by kind
	// claims only the kinds by which PHANTOM learns what has happened, which must not wait behind
	// others
	Urgent  bool
	First   bool          // claims only what goes first: see [New]
	Workers int           // tasks at a time; 10
	Long    int           // audits at a time, which take long; as many as Workers if 0
	Batch   int           // rows of one claim at most; 200
	Lease   time.Duration // how long a task stays its process's without a heartbeat; 60 s
	// the safety net while idle, by which a run_at moved by hand is seen within 5 s; 4.5 s
	Poll        time.Duration
	MaxAttempts int32 // failed tries after which a person is asked; 8
	// the first retry waits up to this, each further one up to twice as long; 5 s
	RetryBase time.Duration
	RetryCap  time.Duration // and none longer than this; 1 h
	Keep      time.Duration // how long finished tasks stay; 7 days, which is also the least
	Grace     time.Duration // how long running tasks may take to finish after the stop; 20 s
	Log       *slog.Logger

	// Observe, if not nil, is called after each try with what becomes of the task and how long its
	// handler took. It must be quick.
	Observe func(kind string, status state.Task, took time.Duration)
}

func (c Config) withDefaults() (Config, error) {
	defaults := []struct {
		value *time.Duration
		to    time.Duration
	}{
		{&c.Lease, time.Minute}, {&c.Poll, 4500 * time.Millisecond}, {&c.RetryBase, 5 * time.Second}, {&c.RetryCap, time.Hour},
		{&c.Keep, 7 * 24 * time.Hour}, {&c.Grace, 20 * time.Second},
	}
	for _, d := range defaults {
		if *d.value == 0 {
			*d.value = d.to
		}
	}
	if c.Workers == 0 {
		c.Workers = 10
	}
	if c.Batch == 0 {
		c.Batch = 200
	}
	if c.Long == 0 {
		c.Long = c.Workers
	}
	if c.MaxAttempts == 0 {
		c.MaxAttempts = 8
	}
	switch {
	case len(c.Handlers) == 0:
		return c, errors.New("a queue needs a handler")
	case c.Workers < 0 || c.Batch < 0 || c.Long < 0 || c.MaxAttempts < 0:
		return c, errors.New("workers, batch, audits and attempts cannot be negative")
	case c.Lease < time.Second:
		return c, errors.New("the lease cannot be shorter than a second")
	case c.Keep < 7*24*time.Hour:
		return c, errors.New("finished tasks stay for 7 days at least")
	case c.Log == nil:
		return c, errors.New("a queue needs a log")
	}
	return c, nil
}

// Queue is one process's part in the work.
type Queue struct {
	config  Config
	pool    *pgxpool.Pool
	queries *db.Queries

	wake  chan struct{} // something may be due
	ended chan result

	mutex sync.Mutex
	hands hands
	// of the workers: something was put into the stock, or no more will be
	ready sync.Cond
	over  bool                // nothing more is claimed
	held  map[uuid.UUID]*held // claimed and not settled yet
	open  int                 // claimed and not tried yet, or being tried
	tried int                 // since the last claim
	low   int                 // so few open tasks wake the claim loop
	more  bool                // more may be due than was claimed
	stock int                 // so many tasks of one merchant may wait for its hands
	long  int                 // audits among the open ones

	rounds [lanes]round // of the claim loop alone
	unsure bool         // of the claim loop alone: the last claim has not looked at all merchants
	passed bool         // the last claim has left out a merchant who has enough of the hands
}

// held is a task that is this process's, until it is settled or its lease is lost.
type held struct {
	task   *Task
	cancel context.CancelCauseFunc
	ctx    context.Context
}

// result is how a try ended.
type result struct {
	held    *held
	status  state.Task
	delay   time.Duration
	jitter  bool
	counted bool
	err     string
}

// sealedAdvice is what to do about a value that does not open.
const sealedAdvice = `put the row back from a backup, or see "A value does not open" in docs/runbook.md`

var errLeaseLost = errors.New("the task is another process's now")

// NewQueue returns a queue that [Queue.Run] runs. Handlers should have another pool: where they
// wait for each other's locks, the queue must still claim tasks and extend leases.
func NewQueue(pool *pgxpool.Pool, config Config) (*Queue, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	q := &Queue{
		config: config, pool: pool, queries: db.New(pool),
		wake: make(chan struct{}, 1), ended: make(chan result, config.Workers+config.Batch),
		hands: newHands(config.Workers), held: make(map[uuid.UUID]*held),
	}
	q.ready.L = &q.mutex
	return q, nil
}

// Run works until ctx ends. Then it claims nothing more, gives back what it has not begun, and
// waits for running tasks, Grace at most; what still runs then is told to stop, and its lease hands
// it to another process.
func (q *Queue) Run(ctx context.Context) {
	// What outlives ctx: the workers, their results, the heartbeats.
	alive, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var workers, helpers, settler sync.WaitGroup
	for range q.config.Workers {
		workers.Go(q.worker)
	}
	settler.Go(func() { q.settle(alive) })
	helpers.Go(func() { q.every(alive, q.config.Lease/4, "heartbeat", q.heartbeat) })
	if !q.apart() { // the one beside it does the housekeeping for all
		helpers.Go(func() { q.every(ctx, min(q.config.Poll, q.config.Lease/4), "rescue", q.rescue) })
		helpers.Go(func() { q.every(ctx, time.Hour, "drop finished", q.dropFinished) })
	}
	helpers.Go(func() { q.listen(ctx) })

	q.claimLoop(ctx, alive)

	// From here on everything is bounded: handlers are told to stop after Grace, and a database
	// that takes no results any more, or a handler that does not listen, is left behind soon after.
	// The leases hand their tasks on.
	grace := time.AfterFunc(q.config.Grace, func() { q.cancelAll(errors.New("the process is stopping")) })
	defer grace.Stop()
	last := time.AfterFunc(q.config.Grace+5*time.Second, end)
	defer last.Stop()
	q.giveBack(alive)
	q.endWork()
	finished := make(chan struct{})
	go func() {
		workers.Wait()
		close(q.ended)
		settler.Wait()
		close(finished)
	}()
	select {
	case <-finished:
	case <-alive.Done():
		q.config.Log.Error("[WORKER] tasks or their results are left behind: other processes take them over when the leases end")
	}
	end()
	helpers.Wait()
}

// take hands a claimed task to the workers.
func (q *Queue) take(alive context.Context, t *Task) {
	h := &held{task: t}
	h.ctx, h.cancel = context.WithCancelCause(alive)
	q.mutex.Lock()
	before := q.held[t.ID]
	q.held[t.ID] = h
	q.open++
	if t.Kind == longKind {
		q.long++
	}
	free := q.hands.put(h)
	q.mutex.Unlock()
	if free {
		q.ready.Signal()
	}
	if before != nil {
		// We took over from ourselves, before a heartbeat could notice that the lease was lost.
		before.cancel(errLeaseLost)
	}
}

func (q *Queue) worker() {
	for h := q.next(nil); h != nil; h = q.next(h) {
		q.ended <- q.try(h)
	}
}

// next is the next task for the hand that has tried one, or none yet; nil once nothing more is
// claimed.
func (q *Queue) next(tried *held) *held {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	if tried != nil {
		q.hands.end(tried)
		q.open--
		q.tried++
		wanting := q.wanting() || q.passed && q.hands.waiting(tried.task.MerchantID) <= q.stock/2
		if tried.task.Kind == longKind {
			q.long--
			wanting = true // another one may have been left
		}
		if wanting {
			q.rouse()
		}
	}
	for {
		if h := q.hands.take(); h != nil || q.over {
			if q.wanting() { // what its merchant still has may wait for long
				q.rouse()
			}
			return h
		}
		q.ready.Wait()
	}
}

// wanting says whether more may be due and hands will soon be free. The mutex is held.
func (q *Queue) wanting() bool { return q.more && q.open-q.hands.blocked <= q.low }

// endWork has the workers end with what they try.
func (q *Queue) endWork() {
	q.mutex.Lock()
	q.over = true
	q.mutex.Unlock()
	q.ready.Broadcast()
}

// try runs a task's handler and judges its end.
func (q *Queue) try(h *held) (r result) {
	defer h.cancel(nil)
	r = result{held: h, counted: true}
	handler, ok := q.config.Handlers[h.task.Kind]
	if !ok {
		r.status, r.err = state.TaskNeedsReview, "no handler for this kind: run a newer phantom"
		return r
	}
	if q.config.Observe != nil {
		started := time.Now()
		defer func() {
			status := r.status
			if status == state.TaskSucceeded && h.task.finished != "" {
				// the handler has written down itself what became of it
				status = h.task.finished
			}
			q.config.Observe(h.task.Kind, status, time.Since(started))
		}()
	}
	err := q.call(handler, h)
	var asked *verdict
	switch {
	case err == nil:
		r.status = state.TaskSucceeded
		return r
	case errors.As(err, &asked):
		r.status, r.delay = asked.status, asked.delay
		r.counted = asked.status != state.TaskPending
		if asked.err == nil {
			return r
		}
	case errors.Is(err, vault.ErrOpen): // no repetition opens it
		r.status, err = state.TaskNeedsReview, fmt.Errorf("%w: %s", err, sealedAdvice)
	case h.task.Attempt >= q.config.MaxAttempts:
		r.status = state.TaskNeedsReview
	default:
		r.status, r.jitter = state.TaskPending, true
		r.delay = min(q.config.RetryBase<<min(h.task.Attempt-1, 20), q.config.RetryCap)
	}
	r.err = err.Error()
	q.config.Log.Warn("[WORKER] task did not succeed", "task", h.task.ID, "kind", h.task.Kind, "attempt", h.task.Attempt, "becomes", r.status, "cause", r.err)
	return r
}

// call keeps a handler's panic to its task.
func (q *Queue) call(handler Handler, h *held) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			q.config.Log.Error("[WORKER] panic in a task", "task", h.task.ID, "kind", h.task.Kind, "type", fmt.Sprintf("%T", cause), "stack", string(debug.Stack()))
			err = errors.New("the handler panicked")
		}
	}()
	return handler(context.WithValue(h.ctx, running{}, h.task), h.task)
}

// sleep waits for a notification or the time; pause for the time alone.
func (q *Queue) sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-q.wake:
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (q *Queue) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (q *Queue) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
