package task_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/internal/stage"
	"phantom/state"
	"phantom/task"
)

// crowd adds n tasks of a merchant that have been due for so long already.
func (b *bench) crowd(merchant uuid.UUID, kind string, n int, overdue time.Duration) {
	b.t.Helper()
	p := db.TaskEnqueueManyParams{Kind: kind}
	for range n {
		p.Ids = append(p.Ids, uuid.Must(uuid.NewV7()))
		p.MerchantIds = append(p.MerchantIds, merchant)
		p.Params = append(p.Params, []byte("{}"))
		p.RunAts = append(p.RunAts, time.Now().Add(-overdue))
	}
	if _, err := db.New(b.pool).TaskEnqueueMany(b.t.Context(), p); err != nil {
		b.t.Fatal(err)
	}
}

// counter is a handler that counts whose tasks begin, and says when the last of so many has.
type counter struct {
	mutex sync.Mutex
	of    map[uuid.UUID]int
	left  int
	done  chan struct{}
}

func newCounter(most int) *counter {
	return &counter{of: map[uuid.UUID]int{}, left: most, done: make(chan struct{})}
}

func (c *counter) handle(ctx context.Context, t *task.Task) error {
	c.mutex.Lock()
	if c.left > 0 {
		c.of[t.MerchantID]++
	}
	if c.left--; c.left == 0 {
		close(c.done)
	}
	over := c.left < 0
	c.mutex.Unlock()
	if over {
		<-ctx.Done() // what comes later is not counted
		return ctx.Err()
	}
	return nil
}

// Merchants with work get shares of it within twice of each other, in every lane and with one hand
// as with many, though one of them has had a thousand times as much waiting for an hour. The crowd
// is the first by id, or the last.
func TestSharesAreEqual(t *testing.T) {
	t.Parallel()
	const others, each = 40, 30
	for _, lane := range []struct {
		name, kind    string
		urgent, first bool
	}{{"all", "note", false, false}, {"urgent", "webhook", true, false}, {"first", "note", false, true}} {
		for _, workers := range []int{1, 7} {
			for _, last := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %d hands, the crowd last: %t", lane.name, workers, last), func(t *testing.T) {
					t.Parallel()
					b := setup(t)
					merchants := []uuid.UUID{b.merchant}
					for i := range others {
						merchants = append(merchants, stage.Merchant(b.t, b.pool, fmt.Sprintf("acct_other%d", i)))
					}
					big := merchants[0]
					if last {
						big = merchants[others]
					}
					for _, m := range merchants {
						b.crowd(m, lane.kind, each, time.Minute)
					}
					b.crowd(big, lane.kind, 3000, time.Hour)
					b.Exec("UPDATE scheduled_tasks SET first = $1", lane.first)
					c := newCounter((others + 1) * each / 2)
					b.run(task.Config{
						Workers: workers, Urgent: lane.urgent, First: lane.first, Grace: time.Millisecond,
						Handlers: map[string]task.Handler{lane.kind: c.handle},
					})
					select {
					case <-c.done:
					case <-time.After(time.Minute):
						t.Fatal("the tasks are not done")
					}
					c.mutex.Lock()
					defer c.mutex.Unlock()
					least, most := each, 0
					for _, m := range merchants {
						least, most = min(least, c.of[m]), max(most, c.of[m])
					}
					if most > 2*least {
						t.Errorf("one merchant had %d of its tasks done while another had %d: %v", most, least, c.of)
					}
				})
			}
		}
	}
}

// A task that comes while others' thousands wait, and thousands of merchants have planned theirs
// for later, begins soon, no matter whose it is.
func TestALateTaskBeginsSoon(t *testing.T) {
	t.Parallel()
	for _, last := range []bool{false, true} {
		t.Run(fmt.Sprintf("last by id: %t", last), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			big, lone := stage.Merchant(b.t, b.pool, "acct_big"), b.merchant
			b.Exec(`INSERT INTO merchants (id, stripe_user_id, scope, livemode, disconnected_at)
				SELECT gen_random_uuid(), 'acct_later' || n, 'read_write', false, now()
				FROM generate_series(1, 3000) n`)
			b.Exec(`INSERT INTO scheduled_tasks (merchant_id, id, kind, params, run_at)
				SELECT id, gen_random_uuid(), 'note', '{}', phantom_now() + interval '1 day' FROM merchants`)
			if last {
				lone = uuid.UUID{0xff, 0xff, 0xff, 0xff}
				b.Exec("INSERT INTO merchants (id, stripe_user_id, scope, livemode, disconnected_at) VALUES ($1, 'acct_last', 'read_write', false, now())", lone)
			}
			b.crowd(big, "crowd", 10_000, time.Hour)
			var begun, before atomic.Int32
			position := make(chan int32, 1)
			b.run(task.Config{Workers: 4, Batch: 50, Handlers: map[string]task.Handler{
				"crowd": func(context.Context, *task.Task) error {
					begun.Add(1)
					time.Sleep(time.Millisecond)
					return nil
				},
				"lone": func(context.Context, *task.Task) error { position <- begun.Load() - before.Load(); return nil },
			}})
			await(t, "some of the crowd", func() bool { return begun.Load() > 200 })
			before.Store(begun.Load())
			b.enqueue(task.New{MerchantID: lone, Kind: "lone"})
			select {
			case n := <-position:
				if n > 500 {
					t.Errorf("the lone task came after %d of the crowd", n)
				}
			case <-time.After(30 * time.Second):
				t.Error("the lone task starved")
			}
		})
	}
}

// Tasks of a kind that takes long leave hands to the others, and are all done in the end.
func TestLongTasksLeaveHands(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var audits, most atomic.Int32
	release, noted := make(chan struct{}), make(chan struct{}, 1)
	for i := range 9 {
		b.enqueue(task.New{MerchantID: stage.Merchant(b.t, b.pool, fmt.Sprintf("acct_audit%d", i)), Kind: "audit"})
	}
	b.enqueue(task.New{Kind: "audit"}) // of the merchant whose note comes
	var done atomic.Int32
	b.run(task.Config{Workers: 4, Long: 2, Handlers: map[string]task.Handler{
		"audit": func(context.Context, *task.Task) error {
			n := audits.Add(1)
			defer audits.Add(-1)
			for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
			}
			<-release
			done.Add(1)
			return nil
		},
		"note": func(context.Context, *task.Task) error { noted <- struct{}{}; return nil },
	}})
	await(t, "two audits", func() bool { return audits.Load() == 2 })
	b.enqueue(task.New{Kind: "note"})
	select {
	case <-noted:
	case <-time.After(20 * time.Second):
		t.Error("the audits have all hands")
	}
	var running int
	if err := b.pool.QueryRow(t.Context(), "SELECT count(*) FROM scheduled_tasks WHERE kind = 'audit' AND status = 'running'").Scan(&running); err != nil {
		t.Fatal(err)
	}
	if running != 2 {
		t.Errorf("%d audits are taken", running)
	}
	close(release)
	await(t, "all audits", func() bool { return done.Load() == 10 })
	if most.Load() != 2 {
		t.Errorf("%d audits ran at a time", most.Load())
	}
}

// What holds up the tasks of one merchant for as long as it likes leaves hands for all others, of
// every lane, and for what comes due later.
func TestWhoIsHeldUpHoldsUpNobody(t *testing.T) {
	t.Parallel()
	for _, lane := range []struct {
		name, kind    string
		urgent, first bool
	}{{"all", "note", false, false}, {"urgent", "webhook", true, false}, {"first", "note", false, true}} {
		t.Run(lane.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			other := stage.Merchant(b.t, b.pool, "acct_other")
			add := func(merchant uuid.UUID, n int) {
				b.crowd(merchant, lane.kind, n, time.Minute)
				if lane.first {
					if _, err := b.pool.Exec(t.Context(), "UPDATE scheduled_tasks SET first = true WHERE status = 'pending'"); err != nil {
						t.Fatal(err)
					}
				}
			}
			add(b.merchant, 300)
			const workers = 5
			var stuck atomic.Int64
			done, release := make(chan struct{}, 9), make(chan struct{})
			stop := b.run(task.Config{Workers: workers, Urgent: lane.urgent, First: lane.first,
				Handlers: map[string]task.Handler{lane.kind: func(ctx context.Context, k *task.Task) error {
					if k.MerchantID == other {
						done <- struct{}{}
						return nil
					}
					stuck.Add(1)
					select {
					case <-release:
					case <-ctx.Done():
					}
					return ctx.Err()
				}}})
			defer stop()
			await(t, "the crowd is held up", func() bool { return stuck.Load() == workers-1 })
			for range 3 {
				add(other, 3)
				for range 3 {
					select {
					case <-done:
					case <-time.After(time.Minute):
						t.Fatal("another one waits for the merchant who is held up")
					}
				}
			}
			if n := stuck.Load(); n != workers-1 {
				t.Errorf("the crowd holds %d hands of %d", n, workers)
			}
			var n int
			if err := b.pool.QueryRow(t.Context(), "SELECT count(*) FROM scheduled_tasks WHERE status = 'running' AND merchant_id = $1",
				b.merchant).Scan(&n); err != nil {
				t.Fatal(err)
			}
			if n > 3*workers {
				t.Errorf("%d of the crowd's tasks are claimed, and nobody tries them", n)
			}
			close(release)
			await(t, "the crowd goes on", func() bool { return stuck.Load() == 300 })
		})
	}
}

// An audit leaves its merchant's other tasks a hand, where there are only two.
func TestAnAuditHoldsUpNothingOfItsMerchant(t *testing.T) {
	t.Parallel()
	b := setup(t)
	begun, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	b.run(task.Config{Workers: 2, Long: 1, Grace: time.Millisecond, Handlers: map[string]task.Handler{
		"audit": func(ctx context.Context, _ *task.Task) error {
			close(begun)
			select {
			case <-release:
			case <-ctx.Done():
			}
			return ctx.Err()
		},
		"note": done,
	}})
	b.enqueue(task.New{Kind: "audit"})
	<-begun
	for range 3 {
		b.awaitStatus(b.enqueue(task.New{Kind: "note"}), state.TaskSucceeded)
	}
}
