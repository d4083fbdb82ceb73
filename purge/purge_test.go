package purge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/connect"
	"phantom/db"
	"phantom/db/dbtest"
	"phantom/internal/stage"
	"phantom/task"
)

func addTask(t testing.TB, pool *pgxpool.Pool, merchant uuid.UUID, params map[string]string) uuid.UUID {
	t.Helper()
	id, err := task.Enqueue(t.Context(), pool, task.New{MerchantID: merchant, Kind: "later", Params: params})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func purged(t testing.TB, s *Service) Purged {
	t.Helper()
	result, err := s.Purge(t.Context(), false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

const (
	old   = 91 * 24 * time.Hour
	young = 89 * 24 * time.Hour
)

// Exactly 90 times 24 hours, also where a clock was changed in between.
func TestPurgeBoundary(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	service, _ := newService(pool)
	merchant := stage.Merchant(t, pool, "acct_1")
	dbtest.Exec(t, pool, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = ''Europe/Berlin''', current_database()); END $$`)
	pool.Reset()
	dbtest.Exec(t, pool, `CREATE OR REPLACE FUNCTION phantom_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE RETURN timestamptz '2026-04-10 12:00:00+00'`)
	gone := dbtest.AddGhost(t, pool, merchant, "cus_1", "1", 0)
	kept := dbtest.AddGhost(t, pool, merchant, "cus_2", "2", 0)
	dbtest.Exec(t, pool, "UPDATE ghost_targets SET discovered_at = '2026-01-10 12:00:00+00' WHERE id = $1", gone)
	dbtest.Exec(t, pool, "UPDATE ghost_targets SET discovered_at = '2026-01-10 12:00:00.000001+00' WHERE id = $1", kept)
	if p := purged(t, service); p.Ghosts != 1 || p.Left != 0 {
		t.Errorf("purged %+v, want the one that is 90 days old", p)
	}
	if dbtest.Count(t, pool, "SELECT count(*) FROM ghost_targets WHERE id = $1", kept) != 1 {
		t.Error("the ghost that lacks a microsecond of 90 days is gone")
	}
}

func TestPurgeDryRunChangesNothing(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	service, _ := newService(pool)
	merchant := stage.Merchant(t, pool, "acct_1")
	var plants []plant
	for i := range 60 {
		plants = append(plants, plant{merchant: merchant, number: i, expired: i%2 == i/10%2})
	}
	plantAll(t, pool, plants)
	before := scan(t, pool)
	result, err := service.Purge(t.Context(), true, nil)
	if err != nil || result != (Purged{Ghosts: 30}) {
		t.Errorf("dry run: %+v, %v, want 30 ghosts", result, err)
	}
	for column, f := range scan(t, pool) {
		if f != before[column] {
			t.Errorf("%s: %+v became %+v", column, before[column], f)
		}
	}
	if dbtest.Count(t, pool, "SELECT count(*) FROM attempt_budgets") != 0 {
		t.Error("a dry run wrote budgets")
	}
}

// A customer may have an old ghost and a young one: their id, and what names nothing else of the
// old one, stays until the last is old.
func TestPurgeSparesTheLiving(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	service, _ := newService(pool)
	merchant, other := stage.Merchant(t, pool, "acct_1"), stage.Merchant(t, pool, "acct_2")
	dbtest.AddGhost(t, pool, merchant, "cus_1", "old", old)
	living := dbtest.AddGhost(t, pool, merchant, "cus_1", "young", young)
	// the same ids in another account
	elsewhere := dbtest.AddGhost(t, pool, other, "cus_1", "old", young)
	dies := addTask(t, pool, merchant, map[string]string{"customer": "cus_1", "subscription": "sub_old"})
	stays := []uuid.UUID{
		addTask(t, pool, merchant, map[string]string{"customer": "cus_1"}),
		addTask(t, pool, merchant, map[string]string{"customer": "cus_1", "subscription": "sub_young"}),
		// a part of a word
		addTask(t, pool, merchant, map[string]string{"subscription": "sub_older", "note": "unsub_old"}),
		addTask(t, pool, other, map[string]string{"customer": "cus_1", "subscription": "sub_old"}),
	}
	for _, object := range []string{"in_old", "sub_old", "cus_1", "in_young"} {
		dbtest.Exec(t, pool, "INSERT INTO webhook_events VALUES ($1, $2, 'x', 'acct_1', $3, now())", merchant, "evt_"+object, object)
	}
	if p := purged(t, service); p != (Purged{Ghosts: 1, Tasks: 1, Events: 2}) {
		t.Errorf("purged %+v, want one ghost, one task and its two events", p)
	}
	if n := dbtest.Count(t, pool, "SELECT count(*) FROM ghost_targets WHERE id = ANY ($1)", []uuid.UUID{living, elsewhere}); n != 2 {
		t.Errorf("%d of 2 young ghosts are left", n)
	}
	if n := dbtest.Count(t, pool, "SELECT count(*) FROM scheduled_tasks WHERE id = ANY ($1)", stays); n != 4 {
		t.Errorf("%d of 4 tasks that do not name the old one alone are left", n)
	}
	if n := dbtest.Count(t, pool, "SELECT count(*) FROM scheduled_tasks WHERE id = $1", dies); n != 0 {
		t.Error("the task about the old one's subscription is left")
	}
	dbtest.Exec(t, pool, "UPDATE ghost_targets SET discovered_at = phantom_now() - $2::interval WHERE id = $1", living, old)
	if p := purged(t, service); p != (Purged{Ghosts: 1, Tasks: 2, Events: 2}) {
		t.Errorf("purged %+v, want the second ghost, both tasks of its customer and the other two events", p)
	}
}

// What runs, and what may still be sent again under its key, is not cut off; its ghost waits with
// it.
func TestPurgeLeavesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	service, _ := newService(pool)
	merchant := stage.Merchant(t, pool, "acct_1")
	for name, change := range map[string]string{
		"running": "status = 'running', lease_until = clock_timestamp() + interval '1 minute'",
		"sent":    "status = 'needs_review', first_sent_at = clock_timestamp() - interval '19 hours 59 minutes'",
		"done":    "status = 'succeeded', finished_at = clock_timestamp(), first_sent_at = clock_timestamp() - interval '1 hour'",
		"stale":   "status = 'needs_review', first_sent_at = clock_timestamp() - interval '20 hours 1 minute'",
	} {
		dbtest.AddGhost(t, pool, merchant, "cus_"+name, name, old)
		id := addTask(t, pool, merchant, map[string]string{"invoice": "in_" + name, "event": "evt_" + name})
		dbtest.Exec(t, pool, "UPDATE scheduled_tasks SET "+change+" WHERE id = $1", id)
		dbtest.Exec(t, pool, "INSERT INTO webhook_events VALUES ($1, $2, 'charge.refunded', 'acct_1', 'ch_1', now())", merchant, "evt_"+name)
	}
	if p := purged(t, service); p != (Purged{Ghosts: 1, Left: 3, Tasks: 1, Events: 1}) {
		t.Errorf("purged %+v, want the stale one alone", p)
	}
	if n := dbtest.Count(t, pool, "SELECT count(*) FROM attempt_budgets"); n != 2 {
		t.Errorf("%d budgets, want the gone one's customer and invoice", n)
	}
	dbtest.Exec(t, pool, "UPDATE scheduled_tasks SET status = 'pending', lease_until = NULL, finished_at = NULL, first_sent_at = first_sent_at - interval '1 day'")
	if p := purged(t, service); p != (Purged{Ghosts: 3, Tasks: 3, Events: 3}) {
		t.Errorf("purged %+v, want the other three", p)
	}
}

// A message's task names its ghost by PHANTOM's own id, and an attempt whose task is gone must not
// be waited for.
func TestPurgeClosesWhatTasksLeave(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	service, _ := newService(pool)
	merchant := stage.Merchant(t, pool, "acct_1")
	ghost, hunt := dbtest.AddGhost(t, pool, merchant, "cus_1", "1", old), uuid.Must(uuid.NewV7())
	dbtest.Exec(t, pool, "INSERT INTO playbooks (merchant_id, version, body) VALUES ($1, 1, '{}')", merchant)
	dbtest.Exec(t, pool, `INSERT INTO hunts (merchant_id, id, ghost_id, customer, playbook_version, mode, held_out, livemode, decline_class, currency, amount)
		VALUES ($1, $2, $3, sha256('x'), 1, 'recover', false, false, 'timed', 'usd', 100)`, merchant, hunt, ghost)
	names := map[string]string{"hunt": hunt.String(), "ghost": ghost.String()}
	attempt := func(number int, sent string) {
		id := addTask(t, pool, merchant, names)
		dbtest.Exec(t, pool, "UPDATE scheduled_tasks SET status = 'needs_review', first_sent_at = clock_timestamp() - nullif($2, '')::interval WHERE id = $1", id, sent)
		dbtest.Exec(t, pool, `INSERT INTO attempts (merchant_id, object, action, number, task_id, hunt_id, customer, currency, amount, reason, probability, planned_for, sent_at)
			VALUES ($1, sha256('in'), 'invoice_pay', $2, $3, $4, sha256('x'), 'usd', 100, '', 1, now(), now() - nullif($5, '')::interval)`, merchant, number, id, hunt, sent)
	}
	message := func(step int, state, sent string) {
		id := addTask(t, pool, merchant, names)
		dbtest.Exec(t, pool, "UPDATE scheduled_tasks SET status = 'parked', first_sent_at = clock_timestamp() - nullif($3, '')::interval, sealed_params = $2 WHERE id = $1", id,
			sealed("scheduled_tasks.sealed_params", id.String(), "a letter"), sent)
		dbtest.Exec(t, pool, "INSERT INTO messages (merchant_id, id, hunt_id, step, channel, template, planned_for, state) VALUES ($1, $2, $3, $4, 'email', 'x', now(), $5)", merchant, id, hunt, step, state)
	}
	attempt(1, "21 hours")
	attempt(2, "")
	message(0, "sending", "21 hours")
	message(1, "planned", "")
	if p := purged(t, service); p != (Purged{Ghosts: 1, Tasks: 4}) {
		t.Errorf("purged %+v", p)
	}
	var left string
	if err := pool.QueryRow(t.Context(), `SELECT concat_ws(' ', (SELECT string_agg(coalesce(result, 'open'), ' ' ORDER BY number) FROM attempts),
		(SELECT string_agg(state, ' ' ORDER BY step) FROM messages))`).Scan(&left); err != nil || left != "unknown not_sent unclear skipped" {
		t.Errorf("%s, %v", left, err)
	}
	waiting, err := service.queries.AttemptUnknown(t.Context(), db.AttemptUnknownParams{MerchantID: merchant, TaskID: uuid.Must(uuid.NewV7()), Object: func() []byte { h := sha256.Sum256([]byte("in")); return h[:] }()})
	if err != nil || waiting {
		t.Errorf("another charge of the invoice would wait: %v, %v", waiting, err)
	}
}

// A task that is enqueued after the look through all tasks is found all the same.
func TestPurgeSeesNewTasks(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	service, _ := newService(pool)
	service.batch = 1
	merchant := stage.Merchant(t, pool, "acct_1")
	dbtest.AddGhost(t, pool, merchant, "cus_1", "first", old+time.Hour)
	dbtest.AddGhost(t, pool, merchant, "cus_2", "second", old)
	result, err := service.Purge(t.Context(), false, func(done, total int64) {
		if total != 2 {
			t.Errorf("progress to %d of %d", done, total)
		}
		if done == 1 {
			addTask(t, pool, merchant, map[string]string{"subscription": "sub_second"})
		}
	})
	if err != nil || result != (Purged{Ghosts: 2, Tasks: 1}) {
		t.Errorf("purged %+v, %v", result, err)
	}
}

// Ids of another shape than Stripe's own, which an account may have chosen for its customers, are
// found as whole values.
func TestPurgeFindsUnusualIDs(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	service, _ := newService(pool)
	merchant := stage.Merchant(t, pool, "acct_1")
	dbtest.AddGhost(t, pool, merchant, "jo@example.com / 7", "1", old)
	addTask(t, pool, merchant, map[string]string{"customer": "jo@example.com / 7"})
	addTask(t, pool, merchant, map[string]string{"customer": "jo@example.com / 77"})
	if p := purged(t, service); p.Tasks != 1 {
		t.Errorf("purged %+v, want one task", p)
	}
}

func TestPurgeKeepsTheGreaterBudget(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	service, accounts := newService(pool)
	merchant := stage.Merchant(t, pool, "acct_1")
	hash, err := accounts.Hasher(t.Context(), merchant)
	if err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, pool, "INSERT INTO attempt_budgets VALUES ($1, 'customer', $2, 9, now()), ($1, 'invoice', $3, 1, NULL)", merchant, hash("customer", "cus_1"), hash("invoice", "in_a"))
	dbtest.AddGhost(t, pool, merchant, "cus_1", "a", old)
	// two ghosts of one customer in one statement
	dbtest.AddGhost(t, pool, merchant, "cus_2", "b", old)
	c := dbtest.AddGhost(t, pool, merchant, "cus_2", "c", old)
	dbtest.Exec(t, pool, "UPDATE ghost_targets SET attempt_count = 5, first_failed_at = now(), last_failed_at = now() WHERE id = $1", c)
	if p := purged(t, service); p.Ghosts != 3 {
		t.Errorf("purged %+v", p)
	}
	for _, want := range []struct {
		subject, value string
		attempts       int64
	}{{"customer", "cus_1", 9}, {"customer", "cus_2", 5}, {"invoice", "in_a", 3}, {"invoice", "in_b", 3}, {"invoice", "in_c", 5}} {
		if n := dbtest.Count(t, pool, "SELECT attempts FROM attempt_budgets WHERE subject = $1 AND hash = $2", want.subject, hash(want.subject, want.value)); n != want.attempts {
			t.Errorf("%s %s has %d attempts, want %d", want.subject, want.value, n, want.attempts)
		}
	}
	if n := dbtest.Count(t, pool, "SELECT count(*) FROM attempt_budgets"); n != 5 {
		t.Errorf("%d budgets, want 5: these ghosts have no card", n)
	}
}

// A merchant whose salt does not open keeps their ghosts, and nobody else's.
func TestPurgeGoesOnPastAFailure(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	service, accounts := newService(pool)
	broken, gone := stage.Merchant(t, pool, "acct_1"), stage.Merchant(t, pool, "acct_2")
	if _, err := accounts.Hasher(t.Context(), broken); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, pool, `UPDATE merchants SET hash_salt = ROW(repeat('00', 43), (hash_salt).iv, (hash_salt).tag, (hash_salt).key_id, (hash_salt).context)::sealed_token WHERE id = $1`, broken)
	// disconnected
	dbtest.Exec(t, pool, `UPDATE merchants SET access_token = NULL, refresh_token = NULL, disconnected_at = now() WHERE id = $1`, gone)
	dbtest.AddGhost(t, pool, broken, "cus_1", "1", old)
	dbtest.AddGhost(t, pool, gone, "cus_1", "1", old)
	result, err := service.Purge(t.Context(), false, nil)
	if err == nil || !strings.Contains(err.Error(), broken.String()) || strings.Contains(err.Error(), "cus_") {
		t.Errorf("error %v, want one that names the merchant", err)
	}
	if result.Ghosts != 1 || result.Left != 1 {
		t.Errorf("purged %+v, want the other merchant's ghost", result)
	}
}

func TestEnsurePurges(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	service, _ := newService(pool)
	for range 40 {
		stage.Merchant(t, pool, "acct_"+strings.ReplaceAll(uuid.NewString(), "-", ""))
	}
	dbtest.Exec(t, pool, "UPDATE merchants SET access_token = NULL, disconnected_at = now() WHERE id = (SELECT max(id::text)::uuid FROM merchants)")
	for range 2 {
		if err := service.EnsurePurges(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := dbtest.Count(t, pool, "SELECT count(*) FROM scheduled_tasks WHERE kind = 'purge' AND run_at BETWEEN phantom_now() AND phantom_now() + interval '1 day'"); n != 40 {
		t.Errorf("%d purges within the next day, want one for each of 40 merchants", n)
	}
	if n := dbtest.Count(t, pool, "SELECT count(DISTINCT date_part('hour', run_at)) FROM scheduled_tasks"); n < 8 {
		t.Errorf("40 purges fall in %d hours of the day", n)
	}
	// Parking is for what needs Stripe.
	dbtest.Exec(t, pool, "INSERT INTO scheduled_tasks (merchant_id, id, kind) SELECT id, gen_random_uuid(), 'later' FROM merchants")
	merchant := uuid.UUID{}
	if err := pool.QueryRow(t.Context(), "SELECT id FROM merchants LIMIT 1").Scan(&merchant); err != nil {
		t.Fatal(err)
	}
	if parked, err := db.New(pool).TaskPark(t.Context(), db.TaskParkParams{MerchantID: merchant, Most: 100}); err != nil || parked != 1 {
		t.Errorf("parked %d tasks, %v; want the one that is no purge", parked, err)
	}
}

// What cannot be forgotten elsewhere keeps nobody from being purged, and nothing else from being
// forgotten.
func TestForgettingFails(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	logger := slog.New(slog.DiscardHandler)
	service := New(pool, connect.New(connect.Config{Log: logger}, pool), logger)
	merchant := stage.Merchant(t, pool, "acct_1")
	dbtest.AddGhost(t, pool, merchant, "cus_1", "1", old)
	broken, forgotten := errors.New("broken"), 0
	service.Forget = []func(context.Context, uuid.UUID) error{
		func(context.Context, uuid.UUID) error { return broken },
		func(context.Context, uuid.UUID) error { forgotten++; return nil },
	}
	if err := service.HandlePurge(t.Context(), &task.Task{MerchantID: merchant}); !errors.Is(err, broken) {
		t.Errorf("the task says %v", err)
	}
	var ghosts int
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM ghost_targets").Scan(&ghosts); err != nil || ghosts != 0 || forgotten != 1 {
		t.Errorf("%d ghosts, %d forgotten, %v", ghosts, forgotten, err)
	}
}

// The daily task, run by the queue for a merchant who is disconnected, purges and plans the next
// one; a failure does not end the series.
func TestDailyPurge(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	service := New(pool, connect.New(connect.Config{Log: logger}, pool), logger)
	merchant := stage.Merchant(t, pool, "acct_1")
	dbtest.Exec(t, pool, "UPDATE merchants SET access_token = NULL, disconnected_at = now()")
	dbtest.AddGhost(t, pool, merchant, "cus_1", "1", old)
	if err := service.EnsurePurges(t.Context()); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, pool, "UPDATE scheduled_tasks SET run_at = phantom_now() - interval '1 minute', unique_key = 'today'")
	other := stage.Merchant(t, pool, "acct_2") // connected since, and found by the first one's purge
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	queue, err := task.NewQueue(pool, task.Config{ListenURL: pool.Config().ConnString(), Log: logger, Handlers: map[string]task.Handler{
		"purge": func(ctx context.Context, t *task.Task) error {
			err := service.HandlePurge(ctx, t)
			ended <- err
			return err
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	finished := make(chan struct{})
	go func() { queue.Run(ctx); close(finished) }()
	select {
	case err = <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the purge did not run within a minute")
	}
	stop()
	<-finished
	if err != nil || dbtest.Count(t, pool, "SELECT count(*) FROM ghost_targets") != 0 {
		t.Errorf("the ghost is left, %v", err)
	}
	for _, m := range []uuid.UUID{merchant, other} {
		if n := dbtest.Count(t, pool, "SELECT count(*) FROM scheduled_tasks WHERE merchant_id = $1 AND kind = 'purge' AND status = 'pending' AND run_at > phantom_now()", m); n != 1 {
			t.Errorf("%d purges are ahead of a merchant, want 1", n)
		}
	}
	if n := dbtest.Count(t, pool, "SELECT count(*) FROM scheduled_tasks WHERE merchant_id = $1 AND status = 'succeeded'", merchant); n != 1 {
		t.Errorf("%d purges succeeded, want 1", n)
	}
	if strings.Contains(log.String(), "cus_1") || !strings.Contains(log.String(), "ghosts=1") {
		t.Errorf("log: %s", log.String())
	}

	// A try whose process is stopping is no failed one; any other failure is, with the next purge
	// planned.
	dbtest.Exec(t, pool, "DELETE FROM scheduled_tasks")
	stopped, cancel := context.WithCancel(t.Context())
	dbtest.Exec(t, pool, "ALTER TABLE webhook_events RENAME TO away")
	err = service.HandlePurge(stopped, &task.Task{MerchantID: merchant, Kind: "purge"})
	if err == nil || dbtest.Count(t, pool, "SELECT count(*) FROM scheduled_tasks WHERE merchant_id = $1 AND kind = 'purge'", merchant) != 1 {
		t.Errorf("after a failure (%v) no purge is planned", err)
	}
	cancel()
	if err := service.HandlePurge(stopped, &task.Task{MerchantID: merchant, Kind: "purge"}); err == nil || err.Error() != task.Snooze(0).Error() {
		t.Errorf("a stopped purge ended with %v, want a snooze", err)
	}
}

// A merchant whom another process purges is left for last and then waited for: two batches at once
// would each spare the ids that the other's ghosts bear.
func TestPurgeTakesTurns(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	service, _ := newService(pool)
	first, second := stage.Merchant(t, pool, "acct_1"), stage.Merchant(t, pool, "acct_2")
	dbtest.AddGhost(t, pool, first, "cus_1", "1", old)
	dbtest.AddGhost(t, pool, second, "cus_2", "2", old)
	other, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Rollback(context.Background()) }()
	if err := db.New(other).PurgeLock(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	result, err := service.Purge(t.Context(), false, func(done, _ int64) {
		if done != 1 {
			return
		}
		if n := dbtest.Count(t, pool, "SELECT count(*) FROM ghost_targets WHERE merchant_id = $1", first); n != 1 {
			t.Error("a batch was purged beside the other's")
		}
		if err := other.Commit(t.Context()); err != nil {
			t.Error(err)
		}
	})
	if err != nil || result.Ghosts != 2 {
		t.Errorf("purged %+v, %v; want both", result, err)
	}
}

// What people and keys have changed goes after 400 days, of every merchant and of none.
func TestPurgeShortensTheLog(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	service, _ := newService(pool)
	first, second := stage.Merchant(t, pool, "acct_1"), stage.Merchant(t, pool, "acct_2")
	for _, merchant := range []*uuid.UUID{&first, &second, nil} {
		for _, age := range []time.Duration{0, 9599 * time.Hour, 9601 * time.Hour} {
			dbtest.Exec(t, pool, `INSERT INTO audit_log (id, merchant_id, at, by, command, action)
				VALUES (gen_random_uuid(), $1, phantom_now() - $2::interval, 'operator', 'stop', 'halt.set')`, merchant, age)
		}
	}
	if _, err := service.purge(t.Context(), []uuid.UUID{first}, false, nil); err != nil {
		t.Fatal(err)
	}
	if n := dbtest.Count(t, pool, "SELECT count(*) FROM audit_log"); n != 6 {
		t.Errorf("%d rows are left", n)
	}
	if n := dbtest.Count(t, pool, "SELECT count(*) FROM audit_log WHERE at <= phantom_now() - interval '9600 hours'"); n != 0 {
		t.Errorf("%d old ones are left", n)
	}
}

// Versions of playbooks and audits go, but the newest and those that something still refers to.
func TestPurgeKeepsTheNewest(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	s, _ := newService(pool)
	merchant, other := stage.Merchant(t, pool, "acct_1"), stage.Merchant(t, pool, "acct_2")
	for _, m := range []uuid.UUID{merchant, other} {
		dbtest.Exec(t, pool, "INSERT INTO playbooks (merchant_id, version, body) SELECT $1, v, '{}' FROM generate_series(1, 250) AS v", m)
	}
	dbtest.Exec(t, pool, `INSERT INTO hunts (merchant_id, id, ghost_id, customer, playbook_version, mode, held_out, livemode, decline_class,
			currency, amount, state, ended_reason, ended_at)
		SELECT $1, gen_random_uuid(), gen_random_uuid(), sha256('x'), v, 'recover', false, false, 'soon', 'usd', 1, 'stopped', 'x', now()
		FROM unnest(ARRAY[3, 70, 249]) AS v`, merchant)
	// Of 250 audits the 20 oldest read the whole history and succeeded, one of these in live mode.
	dbtest.Exec(t, pool, `INSERT INTO audits (merchant_id, id, state, since, ticket, livemode, error, finished_at)
		SELECT $1, gen_random_uuid(), CASE WHEN n > 20 THEN 'failed' ELSE 'succeeded' END, CASE WHEN n > 20 THEN now() - interval '1 day' END,
			n, n = 5, CASE WHEN n > 20 THEN 'x' END, now()
		FROM generate_series(1, 250) AS n`, merchant)
	dbtest.Exec(t, pool, "INSERT INTO audits (merchant_id, id, ticket, livemode) VALUES ($1, gen_random_uuid(), 0, false)", merchant)
	dbtest.Exec(t, pool, `INSERT INTO audit_windows (merchant_id, audit_id, id, list, from_at, to_at)
		SELECT merchant_id, id, gen_random_uuid(), 'invoices', now() - make_interval(days => n), now()
		FROM audits, generate_series(1, 3) AS n`)
	for range 2 { // the second time there is nothing left to do
		if _, err := s.Purge(t.Context(), false, nil); err != nil {
			t.Fatal(err)
		}
		for query, want := range map[string]int64{
			"SELECT count(*) FROM playbooks WHERE merchant_id = $1":                                    102,
			"SELECT count(*) FROM playbooks WHERE merchant_id = $1 AND version IN (3, 70, 151, 250)":   4,
			"SELECT count(*) FROM audits WHERE merchant_id = $1 AND state = 'running'":                 1,
			"SELECT count(*) FROM audits WHERE merchant_id = $1 AND state = 'failed' AND ticket > 150": 100,
			"SELECT count(*) FROM audits WHERE merchant_id = $1 AND ticket IN (5, 20)":                 2,
			"SELECT count(*) FROM audits WHERE merchant_id = $1":                                       103,
			"SELECT count(*) FROM audit_windows WHERE merchant_id = $1":                                309,
		} {
			if got := dbtest.Count(t, pool, query, merchant); got != want {
				t.Errorf("%s: %d, want %d", query, got, want)
			}
		}
	}
	if n := dbtest.Count(t, pool, "SELECT count(*) FROM playbooks WHERE merchant_id = $1", other); n != 100 {
		t.Errorf("another merchant has %d versions", n)
	}
	// A version's number is never given again.
	version, err := db.New(pool).PlaybookCreate(t.Context(), db.PlaybookCreateParams{MerchantID: merchant, Body: []byte("{}")})
	if err != nil || version != 251 {
		t.Errorf("the next version is %d, %v", version, err)
	}
}

// What a debt came to leaves the shield's rows with the ghost, and the level stays: nobody has
// paid.
func TestPurgeTakesTheAmountsOfDebts(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	service, _ := newService(pool)
	merchant := stage.Merchant(t, pool, "acct_1")
	for name, age := range map[string]time.Duration{"1": old, "2": young} {
		dbtest.AddGhost(t, pool, merchant, "cus_"+name, name, age)
		dbtest.Exec(t, pool, `INSERT INTO shield_states (merchant_id, subscription, customer, livemode, facts, ticket, told_at, level)
			SELECT merchant_id, stripe_subscription_id, stripe_customer_id, false, '{"debts":[{"kind":"owed","amount":4900,"currency":"usd"}]}', 1, now(), 'limited'
			FROM ghost_targets WHERE stripe_customer_id = $1`, "cus_"+name)
	}
	purged(t, service)
	for name, want := range map[string]string{
		"1": `limited {"debts": [{"kind": "owed", "currency": "usd", "forgotten": true}]}`,
		"2": `limited {"debts": [{"kind": "owed", "amount": 4900, "currency": "usd"}]}`,
	} {
		if got := stage.On(t, pool).Text("SELECT level || ' ' || facts::text FROM shield_states WHERE customer = $1", "cus_"+name); got != want {
			t.Errorf("customer %s: %s, want %s", name, got, want)
		}
	}
}
