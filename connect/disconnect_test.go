package connect

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/state"
	"phantom/task"
	"phantom/trail"
	"phantom/vault"
)

// connected is the sandbox's first merchant after a handshake.
func (b *bench) connected() db.Merchant {
	b.t.Helper()
	account, err := b.s.Complete(b.t.Context(), b.approve())
	if err != nil {
		b.t.Fatal(err)
	}
	row, err := db.New(b.pool).MerchantGetByStripeUserID(b.t.Context(), account)
	if err != nil {
		b.t.Fatal(err)
	}
	return row
}

func (b *bench) disconnect(m db.Merchant, at time.Time) (done bool) {
	b.t.Helper()
	if err := pgx.BeginFunc(b.t.Context(), b.pool, func(tx pgx.Tx) (err error) {
		done, err = b.s.Disconnect(trail.By(b.t.Context(), trail.Stripe), tx, m.StripeUserID, at)
		return err
	}); err != nil {
		b.t.Fatal(err)
	}
	return done
}

// enqueue adds tasks of kind "x", the first of which is due first.
func (b *bench) enqueue(m db.Merchant, count int) {
	b.t.Helper()
	if _, err := b.pool.Exec(b.t.Context(), `INSERT INTO scheduled_tasks (merchant_id, id, kind, run_at)
		SELECT $1, gen_random_uuid(), 'x', phantom_now() - make_interval(hours => 1, secs => -n / 1000.0) FROM generate_series(1, $2::int) n`, m.ID, count); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) tasks(status string) (n int) {
	b.t.Helper()
	if err := b.pool.QueryRow(b.t.Context(), "SELECT count(*) FROM scheduled_tasks WHERE kind = 'x' AND status = $1", status).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

// awaitBlocked returns once a statement of this database waits for a lock.
func (b *bench) awaitBlocked() {
	b.t.Helper()
	for range 3000 {
		var n int
		if err := b.pool.QueryRow(b.t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&n); err != nil {
			b.t.Fatal(err)
		}
		if n > 0 {
			return
		}
		time.Sleep(5 * time.Millisecond) // polls a state that nothing announces
	}
	b.t.Fatal("nobody waits for the lock")
}

// hold runs a transaction up to its end, lets other wait for it, and commits.
func (b *bench) hold(do func(tx pgx.Tx), other func()) {
	b.t.Helper()
	tx, err := b.pool.Begin(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }() // where the test fails
	do(tx)
	done := make(chan struct{})
	go func() { defer close(done); other() }()
	b.awaitBlocked()
	if err := tx.Commit(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	<-done
}

// Of a reconnection and an older deauthorization at the same time the row's lock decides, in either
// order.
func TestDeauthorizationDuringReconnection(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	m := b.connected()
	access := vault.NewToken(accessTokenContext(m.StripeUserID), "sk_test_back")
	params := db.MerchantCreateParams{ID: uuid.Must(uuid.NewV7()), StripeUserID: m.StripeUserID, AccessToken: &access, Scope: "read_write"}
	b.enqueue(m, 3)
	state := func() (connected bool) {
		t.Helper()
		row, err := db.New(b.pool).MerchantGet(ctx, m.ID)
		if err != nil {
			t.Fatal(err)
		}
		return row.AccessToken != nil
	}

	// The reconnection holds the row: the deauthorization, which was later than the old connection,
	// is older than the new one.
	if _, err := b.pool.Exec(ctx, "UPDATE merchants SET connected_at = connected_at - interval '1 hour'"); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-time.Minute)
	b.hold(func(tx pgx.Tx) {
		if _, err := db.New(tx).MerchantCreate(ctx, params); err != nil {
			t.Fatal(err)
		}
	}, func() {
		if b.disconnect(m, at) {
			t.Error("the new connection was ended")
		}
	})
	if !state() || b.tasks("pending") != 3 {
		t.Errorf("connected %t, %d pending", state(), b.tasks("pending"))
	}

	// The deauthorization holds the row: the reconnection comes after it and wakes what it parked.
	b.hold(func(tx pgx.Tx) {
		if done, err := b.s.Disconnect(ctx, tx, m.StripeUserID, time.Now().Add(time.Second)); !done || err != nil {
			t.Fatal(done, err)
		}
	}, func() {
		if id, err := b.s.reconnect(ctx, params); id != m.ID || err != nil {
			t.Error(id, err)
		}
	})
	if !state() || b.tasks("pending") != 3 || b.tasks("parked") != 0 {
		t.Errorf("connected %t, %d pending", state(), b.tasks("pending"))
	}

	// The same once more, as store repeats it when it does not know whether it was done.
	if id, err := b.s.reconnect(ctx, params); id != m.ID || err != nil || !state() || b.tasks("pending") != 3 {
		t.Error(id, err)
	}
}

// A merchant's task does not hold its worker's hand while Stripe asks for a pause.
func TestParkingHurries(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.s.config.RateLimit = 4
	m := b.connected()
	reader := b.reader(m)
	if err := reader.CheckAccount(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := reader.pace.slow(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	err := b.s.Parking(func(ctx context.Context, _ *task.Task) error { return reader.CheckAccount(ctx) })(ctx, &task.Task{MerchantID: m.ID})
	if delay, is := task.Snoozed(err); !is || delay < 25*time.Second {
		t.Errorf("the task comes back after %s: %v", delay, err)
	}
}

// A task that finds its merchant gone just when they come back is tried again, and not left parked.
func TestParking(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	m := b.connected()
	queries := db.New(b.pool)
	access := vault.NewToken(accessTokenContext(m.StripeUserID), "sk_test_back")
	params := db.MerchantCreateParams{ID: uuid.Must(uuid.NewV7()), StripeUserID: m.StripeUserID, AccessToken: &access, Scope: "read_write"}
	claim := func() *task.Task {
		t.Helper()
		id, err := task.Enqueue(ctx, b.pool, task.New{MerchantID: m.ID, Kind: "x"})
		if err != nil {
			t.Fatal(err)
		}
		row, err := queries.TaskClaimOne(ctx, db.TaskClaimOneParams{LeaseSeconds: 60, MerchantID: m.ID, ID: id})
		if err != nil {
			t.Fatal(err)
		}
		return &task.Task{MerchantID: m.ID, ID: id, Fence: row.Fence}
	}
	status := func(held *task.Task) state.Task {
		t.Helper()
		row, err := queries.TaskGet(ctx, db.TaskGetParams{MerchantID: m.ID, ID: held.ID})
		if err != nil {
			t.Fatal(err)
		}
		return row.Status
	}
	revoked := func(context.Context, *task.Task) error { return ErrRevoked }

	held := claim()
	if err := b.s.Parking(revoked)(ctx, held); !errors.Is(err, ErrRevoked) || status(held) != state.TaskParked {
		t.Errorf("%v, %s", err, status(held))
	}

	held = claim()
	err := b.s.Parking(func(context.Context, *task.Task) error {
		if _, err := b.s.reconnect(ctx, params); err != nil {
			t.Fatal(err)
		}
		return ErrRevoked
	})(ctx, held)
	if err == nil || errors.Is(err, ErrRevoked) || status(held) != state.TaskRunning {
		t.Errorf("back before: %v, %s", err, status(held))
	}

	held = claim()
	b.hold(func(tx pgx.Tx) {
		// all of a reconnection but its commit: it does not see the running task
		queries := db.New(tx)
		if _, err := queries.MerchantCreate(ctx, params); err != nil {
			t.Fatal(err)
		}
		if _, err := queries.TaskUnpark(ctx, db.TaskUnparkParams{MerchantID: m.ID, Most: atOnce}); err != nil {
			t.Fatal(err)
		}
	}, func() { err = b.s.Parking(revoked)(ctx, held) })
	if err == nil || errors.Is(err, ErrRevoked) || status(held) != state.TaskRunning {
		t.Errorf("back at the same time: %v, %s", err, status(held))
	}

	held = claim()
	held.Fence--
	if err := b.s.Parking(revoked)(ctx, held); errors.Is(err, ErrRevoked) || status(held) != state.TaskRunning {
		t.Errorf("another's task: %v, %s", err, status(held))
	}

	for _, want := range []error{nil, ErrNotFound, task.Fail(ErrNotFound)} {
		if err := b.s.Parking(func(context.Context, *task.Task) error { return want })(ctx, claim()); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%v became %v", want, err)
		}
	}
}

// However many tasks a merchant has, leaving and coming back take a moment; the rest follows.
func TestManyTasksAreParkedAndWoken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := b.connected()
	b.enqueue(m, 2*atOnce+1)
	if !b.disconnect(m, time.Now().Add(time.Second)) || b.tasks("parked") != atOnce {
		t.Fatalf("%d parked", b.tasks("parked"))
	}
	if _, err := b.pool.Exec(t.Context(), "UPDATE scheduled_tasks SET status = 'parked'"); err != nil {
		// as their handlers would
		t.Fatal(err)
	}
	b.connected()
	if b.tasks("pending") != atOnce {
		t.Errorf("%d awake with the handshake", b.tasks("pending"))
	}
	var unpark task.Task
	if err := b.pool.QueryRow(t.Context(), "SELECT id, merchant_id FROM scheduled_tasks WHERE kind = $1", KindUnpark).Scan(&unpark.ID, &unpark.MerchantID); err != nil {
		t.Fatal(err)
	}
	if err := b.s.Handlers()[KindUnpark](t.Context(), &unpark); err != nil || b.tasks("pending") != 2*atOnce+1 {
		t.Errorf("%v, %d awake", err, b.tasks("pending"))
	}
	// Who has left again in between is not disturbed.
	if !b.disconnect(m, time.Now().Add(time.Second)) {
		t.Fatal("still connected")
	}
	parked := b.tasks("parked")
	if err := b.s.HandleUnpark(t.Context(), &unpark); err != nil || b.tasks("parked") != parked || parked == 0 {
		t.Errorf("%v, %d of %d parked", err, b.tasks("parked"), parked)
	}
}

// Each connection and each deauthorization has one row in the log; one that changes nothing has
// none.
func TestConnectionsAreLogged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := b.connected()
	b.disconnect(m, time.Now().Add(-time.Hour)) // older than the connection
	b.disconnect(m, time.Now().Add(time.Minute))
	b.disconnect(m, time.Now().Add(time.Minute))
	b.connected()
	var log string
	if err := b.pool.QueryRow(t.Context(), `SELECT string_agg(concat_ws(' ', by, action, before ->> 'connected', after ->> 'connected'), ', ' ORDER BY id)
		FROM audit_log WHERE merchant_id = $1 AND key_id IS NULL AND command IS NULL AND object IS NULL`, m.ID).Scan(&log); err != nil {
		t.Fatal(err)
	}
	if log != "merchant merchant.connect false true, stripe merchant.disconnect true false, merchant merchant.connect false true" {
		t.Errorf("the log: %s", log)
	}
}
