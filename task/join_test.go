package task_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/task"
)

func (b *bench) join(t task.New) {
	b.t.Helper()
	t.MerchantID = b.merchant
	if err := task.Join(b.t.Context(), b.pool, t); err != nil {
		b.t.Fatal(err)
	}
}

// keyed are the tasks that there are, as "status first held", the oldest first.
func (b *bench) keyed() (all []string) {
	b.t.Helper()
	rows, err := b.pool.Query(b.t.Context(), `SELECT status || CASE WHEN first THEN ' first' ELSE '' END
		|| CASE WHEN unique_key IS NULL THEN ' without' ELSE '' END FROM scheduled_tasks ORDER BY id`)
	if err != nil {
		b.t.Fatal(err)
	}
	for rows.Next() {
		var row string
		if err := rows.Scan(&row); err != nil {
			b.t.Fatal(err)
		}
		all = append(all, row)
	}
	return all
}

func (b *bench) wantKeyed(want ...string) {
	b.t.Helper()
	if got := b.keyed(); fmt.Sprint(got) != fmt.Sprint(want) {
		b.t.Errorf("there is %q, want %q", got, want)
	}
}

// However many ask at once, one task waits; it is due when somebody asks, for any reason that it
// waited for.
func TestJoinedTasksAreOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 20 {
				b.join(task.New{Kind: "look", UniqueKey: "x"})
			}
		})
	}
	group.Wait()
	b.wantKeyed("pending")
	for name, change := range map[string]string{
		"later":          "run_at = phantom_now() + interval '1 hour', attempts = 3",
		"parked":         "status = 'parked', attempts = 3",
		"for a person":   "status = 'needs_review', attempts = 8",
		"long since due": "run_at = phantom_now() - interval '1 hour'",
	} {
		b.Exec("UPDATE scheduled_tasks SET " + change)
		b.join(task.New{Kind: "look", UniqueKey: "x"})
		var due bool
		var attempts int
		if err := b.pool.QueryRow(t.Context(), "SELECT run_at <= phantom_now(), attempts FROM scheduled_tasks WHERE status = 'pending'").
			Scan(&due, &attempts); err != nil || !due || attempts > 3 {
			t.Errorf("%s: due %t after %d attempts, %v", name, due, attempts, err)
		}
	}
	b.wantKeyed("pending")
	b.join(task.New{Kind: "look", UniqueKey: "x", First: true})
	b.wantKeyed("pending first")
	b.join(task.New{Kind: "look", UniqueKey: "x"}) // takes nothing from it
	b.wantKeyed("pending first")
	b.join(task.New{Kind: "look", UniqueKey: "y", Wait: time.Hour})
	b.wantKeyed("pending first", "pending")
	for _, wrong := range []task.New{
		{Kind: "look"}, {Kind: "look", UniqueKey: "x", RunAt: time.Now()},
	} {
		if err := task.Join(t.Context(), b.pool, wrong); err == nil {
			t.Errorf("%+v was joined", wrong)
		}
	}
}

// What is asked for while the task runs may have come too late for it: it runs once more, and no
// more than that, however it ends.
func TestJoinedWhileItRuns(t *testing.T) {
	t.Parallel()
	for name, verdict := range map[string]error{
		"done": nil, "canceled": task.Cancel(errors.New("gone")), "failed": task.Fail(errors.New("no")),
		"left to a person": task.Review(errors.New("unclear")), "snoozed": task.Snooze(time.Hour), "tried": errors.New("reset"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			var runs atomic.Int32
			begun, end := make(chan struct{}, 9), make(chan struct{})
			b.run(task.Config{RetryBase: time.Hour, Handlers: map[string]task.Handler{"look": func(context.Context, *task.Task) error {
				begun <- struct{}{}
				if runs.Add(1) > 1 {
					return nil
				}
				<-end
				return verdict
			}}})
			b.join(task.New{Kind: "look", UniqueKey: "x"})
			<-begun
			for range 5 {
				b.join(task.New{Kind: "look", UniqueKey: "x"})
			}
			b.wantKeyed("running")
			close(end)
			await(t, "the second run's end", func() bool { return runs.Load() == 2 && fmt.Sprint(b.keyed()) == "[succeeded]" })
			b.join(task.New{Kind: "look", UniqueKey: "x"})
			await(t, "a third task's end", func() bool { return fmt.Sprint(b.keyed()) == "[succeeded succeeded]" })
			if n := runs.Load(); n != 3 {
				t.Errorf("%d runs", n)
			}
		})
	}
}

// A pause between the runs is kept, and the shortest that was asked for.
func TestJoinedTasksPause(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.join(task.New{Kind: "look", UniqueKey: "x"})
	var id uuid.UUID
	if err := b.pool.QueryRow(t.Context(), "SELECT id FROM scheduled_tasks").Scan(&id); err != nil {
		t.Fatal(err)
	}
	b.claim(id)
	for _, c := range []struct {
		pause time.Duration
		least float64
		most  float64
	}{{time.Hour, 3500, 3600}, {time.Minute, 50, 60}, {time.Hour, 40, 60}} {
		b.join(task.New{Kind: "look", UniqueKey: "x", Pause: c.pause})
		var seconds float64
		if err := b.pool.QueryRow(t.Context(), "SELECT extract(epoch FROM run_at - phantom_now()) FROM scheduled_tasks").Scan(&seconds); err != nil {
			t.Fatal(err)
		}
		if seconds < c.least || seconds > c.most {
			t.Errorf("after a pause of %s it is due in %f s", c.pause, seconds)
		}
	}
}

// Whose worker dies runs once for all who have joined, and one that joined an earlier try is served
// by the next.
func TestJoinedTaskOfADeadWorker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.join(task.New{Kind: "look", UniqueKey: "x"})
	var id uuid.UUID
	if err := b.pool.QueryRow(t.Context(), "SELECT id FROM scheduled_tasks").Scan(&id); err != nil {
		t.Fatal(err)
	}
	b.claim(id)
	b.join(task.New{Kind: "look", UniqueKey: "x"})
	b.free(id)
	var runs atomic.Int32
	if err := b.one(task.Config{Handlers: map[string]task.Handler{"look": func(context.Context, *task.Task) error {
		runs.Add(1)
		return nil
	}}}).RunOne(t.Context(), b.merchant, id); err != nil || runs.Load() != 1 {
		t.Errorf("%d runs, %v", runs.Load(), err)
	}
}

// What goes first does not wait for one that runs and does not.
func TestFirstTakesTheKeyOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	end := make(chan struct{})
	first := make(chan bool, 9)
	b.run(task.Config{Handlers: map[string]task.Handler{"look": func(_ context.Context, k *task.Task) error {
		if first <- k.First; !k.First {
			<-end
		}
		return nil
	}}})
	b.join(task.New{Kind: "look", UniqueKey: "x"})
	<-first
	b.join(task.New{Kind: "look", UniqueKey: "x"})
	b.join(task.New{Kind: "look", UniqueKey: "x", First: true})
	select {
	case is := <-first:
		if !is {
			t.Error("it does not know that it goes first")
		}
	case <-time.After(20 * time.Second):
		close(end)
		t.Fatal("it waits for the one that runs")
	}
	await(t, "its end", func() bool { return fmt.Sprint(b.keyed()) == "[running without succeeded first]" })
	close(end)
	await(t, "the old one's end", func() bool { return fmt.Sprint(b.keyed()) == "[succeeded without succeeded first]" })
	if len(first) != 0 {
		t.Error("one that had joined the old one was served twice")
	}
}

// What goes first has workers of its own: it is done while all others are busy with what is urgent
// too.
func TestFirstPassesUrgentTasks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	handlers := map[string]task.Handler{"refresh": func(ctx context.Context, k *task.Task) error {
		if !k.First {
			<-ctx.Done()
		}
		return ctx.Err()
	}}
	for i := range 30 {
		b.join(task.New{Kind: "refresh", UniqueKey: fmt.Sprint(i)})
	}
	b.run(task.Config{Handlers: handlers, Workers: 3, Grace: time.Millisecond, Urgent: true})
	// One hand is left to others.
	await(t, "its workers are busy", func() bool { return b.running() == 2 })
	b.run(task.Config{Handlers: handlers, Workers: 1, Grace: time.Millisecond, First: true})
	for i := range 5 {
		b.join(task.New{Kind: "refresh", UniqueKey: fmt.Sprint("paid ", i), First: true})
		await(t, "the payment", func() bool {
			var n int
			err := b.pool.QueryRow(t.Context(), "SELECT count(*) FROM scheduled_tasks WHERE status = 'succeeded' AND first").Scan(&n)
			return err == nil && n == i+1
		})
		if i == 2 {
			if n := b.running(); n != 2 {
				t.Errorf("%d tasks run: a queue apart keeps a stock", n)
			}
			b.run(task.Config{Handlers: handlers, Workers: 3, Grace: time.Millisecond})
			await(t, "the workers are busy", func() bool { return b.running() > 2 })
		}
	}
	// One that is due a little later needs no notification, though the queue of all kinds is busy.
	began := time.Now()
	b.join(task.New{Kind: "refresh", UniqueKey: "later", First: true, Wait: 300 * time.Millisecond})
	await(t, "the later payment", func() bool {
		var n int
		err := b.pool.QueryRow(t.Context(), "SELECT count(*) FROM scheduled_tasks WHERE status = 'succeeded' AND first").Scan(&n)
		return err == nil && n == 6
	})
	t.Logf("due after 300 ms, done after %s", time.Since(began))
}
