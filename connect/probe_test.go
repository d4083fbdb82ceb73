package connect

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/sandbox"
	"phantom/state"
	"phantom/task"
)

// run sees one task through, which must come to rest as want.
func (b *bench) run(m db.Merchant, kind, want string) {
	b.t.Helper()
	handlers := b.s.Handlers()
	handlers["x"] = b.s.Parking(func(ctx context.Context, held *task.Task) error { return get(b.reader(m), b.t) })
	queue, err := task.NewQueue(b.pool, task.Config{ListenURL: b.pool.Config().ConnString(), MaxAttempts: 1, Log: b.s.config.Log, Handlers: handlers})
	if err != nil {
		b.t.Fatal(err)
	}
	var id uuid.UUID
	if err := b.pool.QueryRow(b.t.Context(), `UPDATE scheduled_tasks SET run_at = phantom_now() WHERE id = (
		SELECT id FROM scheduled_tasks WHERE kind = $1 AND status = 'pending' LIMIT 1) RETURNING id`, kind).Scan(&id); err != nil {
		b.t.Fatalf("no %s is pending: %v", kind, err)
	}
	err = queue.RunOne(b.t.Context(), m.ID, id)
	var status *task.StatusError
	if errors.As(err, &status) && string(status.Status) == want || err == nil && want == "succeeded" {
		return
	}
	b.t.Fatalf("%s: %v, want %s", kind, err, want)
}

func (b *bench) count(kind, status string) (n int) {
	b.t.Helper()
	if err := b.pool.QueryRow(b.t.Context(), "SELECT count(*) FROM scheduled_tasks WHERE kind = $1 AND status = $2", kind, status).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

// revoke has Stripe refuse the token until Mend.
func (b *bench) revoke() {
	b.world.Fail(sandbox.Fault{Path: "/v1/", Status: 401, Body: ofStripe, Times: -1})
}

// A connected merchant's tasks that were parked go on at once when any request of theirs succeeds.
func TestASuccessWakesParkedTasks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := b.connected()
	b.enqueue(m, 2)
	b.revoke()
	b.run(m, "x", "parked")
	b.run(m, "x", "parked")
	b.world.Mend()
	if err := get(b.reader(m), t); err != nil {
		t.Fatal(err)
	}
	if b.tasks("pending") != 2 {
		t.Errorf("%d pending, %d parked", b.tasks("pending"), b.tasks("parked"))
	}
	b.run(m, "x", "succeeded")

	// What is parked again within the minute does not go round in circles: it waits for the probe.
	b.revoke()
	b.run(m, "x", "parked")
	b.world.Mend()
	if err := get(b.reader(m), t); err != nil || b.tasks("parked") != 1 {
		t.Errorf("%v, %d parked", err, b.tasks("parked"))
	}
	b.run(m, KindProbe, "succeeded")
	if b.tasks("pending") != 1 {
		t.Errorf("%d pending after the probe", b.tasks("pending"))
	}
}

// Where nothing else asks Stripe the probe does, again and again, and less often the longer it
// lasts.
func TestTheProbeWakesParkedTasks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	m := b.connected()
	b.enqueue(m, 2)
	b.revoke()
	b.run(m, "x", "parked")
	b.run(m, "x", "parked")
	if b.count(KindProbe, "pending") != 1 {
		t.Fatalf("%d probes", b.count(KindProbe, "pending"))
	}
	probe := &task.Task{MerchantID: m.ID}
	if err := b.pool.QueryRow(ctx, "SELECT id FROM scheduled_tasks WHERE kind = 'probe'").Scan(&probe.ID); err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{ofStripe, ofProxy} {
		b.world.Mend()
		b.world.Fail(sandbox.Fault{Path: "/v1/", Status: 403, Body: body, Times: -1})
		asked := b.requests("/v1/account")
		if err := b.s.HandleProbe(ctx, probe); err == nil || err.Error() != task.Snooze(0).Error() || b.tasks("parked") != 2 {
			t.Errorf("%v, %d parked", err, b.tasks("parked"))
		}
		if b.requests("/v1/account") != asked+1 {
			t.Errorf("asked %d times", b.requests("/v1/account")-asked)
		}
	}
	b.world.Mend()
	b.run(m, KindProbe, "succeeded")
	if b.tasks("pending") != 2 {
		t.Errorf("%d pending", b.tasks("pending"))
	}

	// Nothing is asked for a merchant who has left: their return wakes the tasks.
	b.revoke()
	b.run(m, "x", "parked")
	if !b.disconnect(m, time.Now().Add(time.Second)) || b.count(KindProbe, "pending") != 1 {
		t.Fatal("the probe is not pending")
	}
	asked := b.requests("/v1/account")
	b.run(m, KindProbe, "succeeded")
	if b.requests("/v1/account") != asked || b.tasks("parked") != 2 {
		t.Errorf("asked %d times, %d parked", b.requests("/v1/account")-asked, b.tasks("parked"))
	}
	b.world.Mend()
	b.connected()
	if b.tasks("pending") != 2 {
		t.Errorf("%d pending", b.tasks("pending"))
	}
}

// A task that parks itself while the probe ends gets a probe of its own.
func TestAProbeThatEndsLeavesNoTaskBehind(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	m := b.connected()
	b.enqueue(m, 3)
	b.revoke()
	b.run(m, "x", "parked")
	b.world.Mend()
	probe := b.claim(m, KindProbe)
	b.hold(func(tx pgx.Tx) { // as the probe's end does it
		queries := db.New(tx)
		if err := queries.MerchantLock(ctx, m.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := wake(ctx, tx, m.ID); err != nil {
			t.Fatal(err)
		}
		if err := task.Finish(ctx, tx, probe, state.TaskSucceeded, nil, ""); err != nil {
			t.Fatal(err)
		}
	}, func() {
		b.world.Fail(sandbox.Fault{Path: "/v1/", Status: 401, Body: ofStripe, Times: 2})
		b.run(m, "x", "parked")
	})
	if b.tasks("parked") != 1 || b.count(KindProbe, "pending") != 1 {
		t.Errorf("%d parked, %d probes", b.tasks("parked"), b.count(KindProbe, "pending"))
	}

	// The other way round: the task parks itself first, and the probe that runs finds it.
	probe = b.claim(m, KindProbe)
	held := b.claim(m, "x")
	b.world.Mend()
	b.hold(func(tx pgx.Tx) {
		connected, err := db.New(tx).TaskParkHeld(ctx, db.TaskParkHeldParams{
			MerchantID: m.ID, ID: held.ID, Fence: held.Fence, ConnectedAt: m.ConnectedAt, Error: "refused",
		})
		if err == nil && connected {
			err = planProbe(ctx, tx, m.ID)
		}
		if err != nil || !connected {
			t.Fatal(connected, err)
		}
	}, func() {
		if err := b.s.HandleProbe(ctx, probe); err != nil {
			t.Error(err)
		}
	})
	if b.tasks("parked") != 0 {
		t.Errorf("%d parked, %d probes", b.tasks("parked"), b.count(KindProbe, "pending"))
	}
}

// claim takes a pending task of a kind.
func (b *bench) claim(m db.Merchant, kind string) *task.Task {
	b.t.Helper()
	held := &task.Task{MerchantID: m.ID}
	if err := b.pool.QueryRow(b.t.Context(), `UPDATE scheduled_tasks SET run_at = phantom_now() WHERE id = (
		SELECT id FROM scheduled_tasks WHERE kind = $1 AND status = 'pending' LIMIT 1) RETURNING id`, kind).Scan(&held.ID); err != nil {
		b.t.Fatalf("no %s is pending: %v", kind, err)
	}
	row, err := db.New(b.pool).TaskClaimOne(b.t.Context(), db.TaskClaimOneParams{LeaseSeconds: 60, MerchantID: m.ID, ID: held.ID})
	if err != nil {
		b.t.Fatal(err)
	}
	held.Fence = row.Fence
	return held
}

// No matter what became of a probe, a connected merchant's parked tasks have one.
func TestEnsureProbes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := b.connected()
	exec := func(statement string) {
		t.Helper()
		if _, err := b.pool.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
		if err := b.s.EnsureProbes(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	b.enqueue(m, 3)
	exec("SELECT 1")
	if n := b.count(KindProbe, "pending"); n != 0 {
		t.Errorf("nothing is parked: %d probes", n)
	}
	for _, statement := range []string{
		"UPDATE scheduled_tasks SET status = 'parked' WHERE kind = 'x'",
		"SELECT 1",
		"UPDATE scheduled_tasks SET status = 'needs_review' WHERE kind = 'probe'",
		"UPDATE scheduled_tasks SET status = 'canceled', finished_at = now() WHERE kind = 'probe'",
	} {
		exec(statement)
		if n := b.count(KindProbe, "pending"); n != 1 {
			t.Errorf("%s: %d probes", statement, n)
		}
	}
	if !b.disconnect(m, time.Now().Add(time.Second)) {
		t.Fatal("still connected")
	}
	exec("UPDATE scheduled_tasks SET status = 'canceled', finished_at = now() WHERE kind = 'probe'")
	if n := b.count(KindProbe, "pending"); n != 0 {
		t.Errorf("a merchant who has left: %d probes", n)
	}
}
