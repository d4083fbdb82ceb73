package task

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"phantom/db"
	"phantom/state"
)

// A row costs a third less to settle in a batch of thousands than in one of a hundred, so results
// gather for a moment.
const (
	settleBatch  = 2000
	settleGather = 5 * time.Millisecond
)

// settle writes results down in batches, until there are no more.
func (q *Queue) settle(ctx context.Context) {
	for first := range q.ended {
		q.write(ctx, q.gather(first))
	}
}

// gather waits for more results, but not when nothing else is under way.
func (q *Queue) gather(first result) []result {
	batch := append(make([]result, 0, settleBatch), first)
	moment := time.NewTimer(settleGather)
	defer moment.Stop()
	for len(batch) < settleBatch && q.busy(len(batch)) {
		select {
		case r, ok := <-q.ended:
			if !ok {
				return batch
			}
			batch = append(batch, r)
		case <-moment.C:
			return batch
		}
	}
	return batch
}

// bounded is for one step of the queue's own. A database that is out of reach does not answer, and
// no error comes either: the step is given up while the leases last, and taken again over another
// connection.
func (q *Queue) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, max(q.config.Lease/4, 2*time.Second))
}

// busy says whether more is under way than count tasks.
func (q *Queue) busy(count int) bool {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	return len(q.held) > count
}

// write repeats until the database takes it or ctx ends: a result that is lost would be a try
// repeated. The fences make the repetition harmless.
func (q *Queue) write(ctx context.Context, batch []result) {
	var done db.TaskSettleDoneParams
	var other db.TaskSettleParams
	for _, r := range batch {
		if r.status == state.TaskSucceeded {
			done.MerchantIds = append(done.MerchantIds, r.held.task.MerchantID)
			done.Ids = append(done.Ids, r.held.task.ID)
			done.Fences = append(done.Fences, r.held.task.Fence)
			continue
		}
		other.MerchantIds = append(other.MerchantIds, r.held.task.MerchantID)
		other.Ids = append(other.Ids, r.held.task.ID)
		other.Fences = append(other.Fences, r.held.task.Fence)
		other.Statuses = append(other.Statuses, string(r.status))
		other.Delays = append(other.Delays, r.delay.Seconds())
		other.Jitters = append(other.Jitters, r.jitter)
		other.Counted = append(other.Counted, r.counted)
		other.Errors = append(other.Errors, r.err)
	}
	again := q.persist(ctx, len(done.Ids), func(ctx context.Context) (int64, error) {
		row, err := q.queries.TaskSettleDone(ctx, done)
		return row.Again, err
	})
	q.persist(ctx, len(other.Ids), func(ctx context.Context) (int64, error) { return q.queries.TaskSettle(ctx, other) })
	q.mutex.Lock()
	for _, r := range batch {
		if q.held[r.held.task.ID] == r.held {
			delete(q.held, r.held.task.ID)
		}
	}
	q.mutex.Unlock()
	if len(other.Ids) > 0 || again > 0 { // some may be due again
		q.rouse()
	}
}

// persist returns what the last write returned.
func (q *Queue) persist(ctx context.Context, count int, write func(context.Context) (int64, error)) int64 {
	if count == 0 {
		return 0
	}
	delays := backoff.NewExponentialBackOff()
	delays.InitialInterval, delays.MaxInterval = 20*time.Millisecond, 2*time.Second
	failures := 0
	n, err := backoff.Retry(ctx, func() (int64, error) {
		step, cancel := q.bounded(ctx)
		defer cancel()
		n, err := write(step)
		if err != nil {
			if failures++; failures == 1 && ctx.Err() == nil {
				q.config.Log.Warn("[WORKER] cannot write results down: trying again until the database answers",
					"tasks", count, "cause", db.Describe(err))
			}
		}
		return n, err
	}, backoff.WithBackOff(delays), backoff.WithMaxElapsedTime(0))
	if err != nil {
		q.config.Log.Error("[WORKER] results are lost: the leases end and the tasks run again", "tasks", count, "cause", db.Describe(err))
	}
	return n
}

// heartbeat extends all leases at once.
func (q *Queue) heartbeat(ctx context.Context) error {
	q.mutex.Lock()
	asked := slices.Collect(maps.Values(q.held))
	q.mutex.Unlock()
	if len(asked) == 0 {
		return nil
	}
	return q.beat(ctx, asked)
}

// beat extends the leases of what is held. A task that is not ours any more is told so.
func (q *Queue) beat(ctx context.Context, asked []*held) error {
	p := db.TaskHeartbeatParams{LeaseSeconds: q.config.Lease.Seconds()}
	for _, h := range asked {
		p.MerchantIds = append(p.MerchantIds, h.task.MerchantID)
		p.Ids = append(p.Ids, h.task.ID)
		p.Fences = append(p.Fences, h.task.Fence)
	}
	ctx, cancel := q.bounded(ctx)
	defer cancel()
	kept, err := q.queries.TaskHeartbeat(ctx, p)
	if err != nil {
		return err
	}
	for _, h := range asked {
		if !slices.Contains(kept, h.task.ID) {
			h.cancel(errLeaseLost) // or just settled, when nobody listens any more
		}
	}
	return nil
}

func (q *Queue) rescue(ctx context.Context) error {
	ctx, cancel := q.bounded(ctx)
	defer cancel()
	count, err := q.queries.TaskRescue(ctx, q.config.MaxAttempts)
	if count > 0 {
		q.config.Log.Warn("[WORKER] took over tasks whose worker died", "tasks", count)
		q.rouse()
	}
	return err
}

// dropTime is for one batch: old rows by the million are sorted first, and nothing waits for it.
const dropTime = 5 * time.Minute

func (q *Queue) dropFinished(ctx context.Context) error {
	for {
		step, cancel := context.WithTimeout(ctx, dropTime)
		count, err := q.queries.TaskDropFinished(step, q.config.Keep.Seconds())
		cancel()
		if err != nil || count == 0 {
			return err
		}
	}
}

// every calls do at once and then at each interval until ctx ends.
func (q *Queue) every(ctx context.Context, interval time.Duration, what string, do func(context.Context) error) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			q.config.Log.Warn("[WORKER] a housekeeping step failed and is repeated", "step", what, "cause", db.Describe(err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// listen wakes the claim loop at every notification. It connects again for as long as ctx lasts;
// after each connecting something may have been missed, so that wakes too.
func (q *Queue) listen(ctx context.Context) {
	for ctx.Err() == nil {
		conn, err := db.Connect(ctx, q.config.ListenURL)
		if err == nil {
			statement := "LISTEN phantom_task"
			if q.apart() {
				statement += " -- apart" // phantom doctor counts processes by the other one's
			}
			step, end := q.bounded(ctx)
			_, err = conn.Exec(step, statement)
			end()
			for q.rouse(); err == nil; q.rouse() {
				_, err = conn.WaitForNotification(ctx)
			}
			closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			_ = conn.Close(closing)
			cancel()
		}
		q.pause(ctx, time.Second)
	}
}

// giveBack returns what no worker has begun, without counting it as a try.
func (q *Queue) giveBack(ctx context.Context) {
	q.mutex.Lock()
	all := q.hands.drain()
	q.mutex.Unlock()
	for _, h := range all {
		select {
		case q.ended <- result{held: h, status: state.TaskPending}:
		case <-ctx.Done():
			return
		}
	}
}

func (q *Queue) cancelAll(cause error) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	for _, h := range q.held {
		h.cancel(cause)
	}
}
