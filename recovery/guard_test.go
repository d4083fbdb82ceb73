package recovery

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/gate"
	"phantom/playbook"
	"phantom/sandbox"
	"phantom/task"
)

// The tests of the guards take the whole engine as it is: a guard is seen by what reaches the
// sandbox. `make mutants` takes each guard out and runs its test.

// setupCharges is a world with so many hunts, whose first charges are planned.
func setupCharges(t *testing.T, count int, change func(*bench, *playbook.Playbook)) (b *bench,
	ids []uuid.UUID) {
	t.Helper()
	b = setup(t, sandbox.Config{Merchants: 1, OpenInvoices: count})
	b.movable()
	b.audit()
	b.hunted(func(p *playbook.Playbook) {
		if change != nil {
			change(b, p)
		}
	})
	for _, id := range b.ids(`SELECT id FROM scheduled_tasks
		WHERE params ->> 'do' = 'begin' ORDER BY id`) {
		b.try(id)
	}
	ids = b.ids("SELECT id FROM scheduled_tasks WHERE kind = $1 AND status = 'pending' ORDER BY id",
		gate.KindPay)
	if len(ids) != count {
		t.Fatalf("%d of %d charges are planned", len(ids), count)
	}
	return b, ids
}

func (b *bench) ids(query string, args ...any) (ids []uuid.UUID) {
	b.t.Helper()
	rows, err := b.pool.Query(b.t.Context(), query, args...)
	if err != nil {
		b.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			b.t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// begin runs a task now, until wait is called, which says how it stands.
func (b *bench) begin(id uuid.UUID) (tried func() bool, wait func() string) {
	b.t.Helper()
	b.Exec("UPDATE scheduled_tasks SET run_at = least(run_at, phantom_now()) WHERE id = $1", id)
	if status := b.status(id); status != "pending" {
		b.t.Fatalf("it cannot be tried: it is %s", status)
	}
	fence := b.Count("SELECT fence FROM scheduled_tasks WHERE id = $1", id)
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	queue, err := task.NewQueue(b.pool, task.Config{
		// one try
		Handlers: b.handlers(), Log: slog.New(slog.NewTextHandler(b.log, nil)), RetryBase: time.Hour,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = queue.RunOne(ctx, b.merchant, id) // how it ended stands in its row
	}()
	b.t.Cleanup(func() { cancel(); <-done })
	tried = func() bool {
		return b.Count(`SELECT count(*) FROM scheduled_tasks WHERE id = $1 AND fence > $2
			AND status <> 'running'`, id, fence) == 1
	}
	return tried, func() string {
		b.t.Helper()
		b.await("a task is tried", tried)
		cancel()
		<-done
		return b.status(id)
	}
}

// try runs a task once, no matter what it was put off to, and says how it stands.
func (b *bench) try(id uuid.UUID) string {
	b.t.Helper()
	_, wait := b.begin(id)
	return wait()
}

func (b *bench) status(id uuid.UUID) string {
	b.t.Helper()
	return b.Text("SELECT status FROM scheduled_tasks WHERE id = $1", id)
}

// hoursOff is for how many hours a task is put off.
func (b *bench) hoursOff(id uuid.UUID) (hours float64) {
	b.t.Helper()
	const query = `SELECT extract(epoch FROM run_at - phantom_now())::float8 / 3600
		FROM scheduled_tasks WHERE id = $1`
	if err := b.pool.QueryRow(b.t.Context(), query, id).Scan(&hours); err != nil {
		b.t.Fatal(err)
	}
	return hours
}

// left is how many requests that change something have reached Stripe.
func (b *bench) left() (n int) {
	for _, r := range b.world.Requests() {
		if r.Method != http.MethodGet && strings.HasPrefix(r.Path, "/v1/") {
			n++
		}
	}
	return n
}

// meanwhile has something happen while the last thing is read before a charge leaves: all that was
// looked at before is outdated by it.
func (b *bench) meanwhile(do func()) {
	b.world.Fail(sandbox.Fault{
		Method: http.MethodGet, Path: "/v1/invoices/", After: true, Hold: do,
	})
}

// lose has the next request get lost on its way to Stripe, sends it, and mends the network.
func (b *bench) lose(id uuid.UUID) {
	b.t.Helper()
	b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/invoices/", Drop: true})
	if status := b.try(id); status != "pending" || b.left() != 1 || b.executed() != 0 {
		b.t.Fatalf("it is %s after %d requests, %d of them executed", status, b.left(), b.executed())
	}
}

func (b *bench) executed() int { return len(b.world.Ledger(b.account)) }

// later lets time pass for PHANTOM, while nothing happens at Stripe.
func (b *bench) later(d time.Duration) {
	b.t.Helper()
	b.Exec("UPDATE test_clock SET ahead = ahead + $1 * interval '1 microsecond'", d.Microseconds())
}

// sentAgo makes a task's request as old as that, by every clock.
func (b *bench) sentAgo(id uuid.UUID, age time.Duration) {
	b.t.Helper()
	b.Exec(`UPDATE scheduled_tasks
		SET first_sent_at = clock_timestamp() - $2 * interval '1 microsecond'
		WHERE id = $1`, id, age.Microseconds())
	b.Exec(`UPDATE attempts SET sent_at = phantom_now() - $2 * interval '1 microsecond'
		WHERE task_id = $1`, id, age.Microseconds())
}
