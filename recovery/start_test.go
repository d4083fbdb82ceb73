package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/playbook"
	"phantom/sandbox"
	"phantom/state"
	"phantom/task"
)

// crowd adds open ghosts of customers of their own, and as many closed ones.
func (b *bench) crowd(ghosts int) {
	b.t.Helper()
	b.Exec(`INSERT INTO ghost_targets (merchant_id, id, stripe_customer_id, stripe_subscription_id, stripe_invoice_id, amount, currency,
			decline_class, rule, first_failed_at, last_failed_at, status, closed_reason, closed_at)
		SELECT $1, gen_random_uuid(), 'cus_crowd' || n, 'sub_crowd' || n, 'in_crowd' || n, 500, 'usd', 'timed', 'a rule',
			phantom_now() - interval '2 days', phantom_now() - interval '1 day', CASE WHEN n % 2 = 0 THEN 'open' ELSE 'closed' END,
			CASE WHEN n % 2 = 1 THEN 'paid' END, CASE WHEN n % 2 = 1 THEN now() END
		FROM generate_series(1, 2 * $2::int) n`, b.merchant, ghosts)
}

func (b *bench) read(id uuid.UUID) AllStarted {
	b.t.Helper()
	all, err := b.s.ReadStart(b.t.Context(), b.merchant, id)
	if err != nil {
		b.t.Fatal(err)
	}
	return all
}

// next is one batch of a start.
func (b *bench) next(id uuid.UUID) (more bool, wait time.Duration) {
	b.t.Helper()
	more, wait, err := b.s.startNext(b.t.Context(), &task.Task{MerchantID: b.merchant, ID: id})
	if err != nil {
		b.t.Fatal(err)
	}
	return more, wait
}

// setupCrowd is a merchant with these ghosts and no others.
func setupCrowd(t *testing.T, ghosts int) *bench {
	t.Helper()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.crowd(ghosts)
	b.recoverWith(nil)
	return b
}

// However often and however many at a time ask for all, one task does it, and each ghost has one
// hunt.
func TestAllIsOneTask(t *testing.T) {
	t.Parallel()
	b := setupCrowd(t, 3*startBatch)
	ids := map[uuid.UUID]bool{}
	var asking sync.WaitGroup
	var mutex sync.Mutex
	for range 8 {
		asking.Go(func() {
			all, err := b.s.StartAll(t.Context(), b.merchant)
			if err != nil || all.State != state.StartRunning || all.Ghosts != 3*startBatch || all.Hunts != 0 {
				t.Errorf("%+v, %v", all, err)
			}
			mutex.Lock()
			defer mutex.Unlock()
			ids[all.ID] = true
		})
	}
	asking.Wait()
	if len(ids) != 1 || b.Count("SELECT count(*) FROM scheduled_tasks WHERE params ->> 'do' = 'all'") != 1 {
		t.Fatalf("%d starts", len(ids))
	}
	var id uuid.UUID
	for id = range ids {
	}
	if more, _ := b.next(id); !more {
		t.Fatal("it ends with its first batch")
	}
	if half := b.read(id); half.State != state.StartRunning || half.Hunts == 0 || int64(half.Hunts) != half.LookedAt || half.LookedAt >= half.Ghosts {
		t.Errorf("after one batch: %+v", half)
	}
	got, err := b.startAll() // goes on with the same one
	if err != nil || got.Hunts != 3*startBatch || got.Skipped != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if end := b.read(id); end.State != state.StartSucceeded || end.LookedAt != 3*startBatch || end.Error != nil {
		t.Errorf("at its end: %+v", end)
	}
	if n := b.Count("SELECT count(DISTINCT ghost_id) FROM hunts WHERE state = 'active'"); n != 3*startBatch || b.Count("SELECT count(*) FROM hunts") != n {
		t.Errorf("%d ghosts are hunted", n)
	}
	again, err := b.s.StartAll(t.Context(), b.merchant)
	if err != nil || again.ID == id {
		t.Errorf("asked anew: %+v, %v", again, err)
	}
	if got, err := b.startAll(); err != nil || got != (Started{}) {
		t.Errorf("all are hunted, and %+v, %v", got, err)
	}
	if _, err := b.s.ReadStart(t.Context(), uuid.Must(uuid.NewV7()), id); !errors.Is(err, ErrNotFound) {
		t.Errorf("another merchant reads %v", err)
	}
}

// What the merchant says meanwhile holds from the next batch on.
func TestAllStopsBetweenBatches(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		meanwhile func(b *bench)
		error     string
	}{
		"another playbook": {func(b *bench) { b.recoverWith(nil) }, "another playbook was stored meanwhile: ask again"},
		"the playbook is off": {func(b *bench) { b.recoverWith(func(p *playbook.Playbook) { p.Mode = state.ModeOff }) },
			"another playbook was stored meanwhile: ask again"},
		"disconnected": {func(b *bench) {
			b.Exec("UPDATE merchants SET access_token = NULL, refresh_token = NULL, disconnected_at = clock_timestamp()")
		}, "the account was disconnected, or connected anew, meanwhile: ask again"},
		"connected anew": {func(b *bench) { b.handshake() }, "the account was disconnected, or connected anew, meanwhile: ask again"},
		"in the other mode": {func(b *bench) { b.Exec("UPDATE merchants SET livemode = NOT livemode") },
			"the account was connected in the other mode (live or test) meanwhile"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupCrowd(t, 2*startBatch)
			all, err := b.s.StartAll(t.Context(), b.merchant)
			if err != nil {
				t.Fatal(err)
			}
			b.next(all.ID)
			before := b.Count("SELECT count(*) FROM hunts")
			test.meanwhile(b)
			if more, _ := b.next(all.ID); more {
				t.Error("it goes on")
			}
			if end := b.read(all.ID); end.State != state.StartStopped || end.Error == nil || *end.Error != test.error || end.Hunts != before {
				t.Errorf("%+v, %d hunts", end, before)
			}
			if n := b.Count("SELECT count(*) FROM hunts"); n != before {
				t.Errorf("%d more hunts have begun", n-before)
			}
		})
	}
}

// A halt holds it until it is lifted.
func TestAHaltHoldsAll(t *testing.T) {
	t.Parallel()
	b := setupCrowd(t, startBatch)
	all, err := b.s.StartAll(t.Context(), b.merchant)
	if err != nil {
		t.Fatal(err)
	}
	b.next(all.ID)
	before := b.Count("SELECT count(*) FROM hunts")
	if _, err := b.s.Halt(t.Context(), b.merchant); err != nil {
		t.Fatal(err)
	}
	if more, wait := b.next(all.ID); !more || wait != startHalted {
		t.Errorf("halted, it goes on: %v, %s", more, wait)
	}
	if held := b.read(all.ID); held.State != state.StartRunning || held.Hunts != before || b.Count("SELECT count(*) FROM hunts") != before {
		t.Errorf("%+v, %d hunts before", held, before)
	}
	if _, err := b.s.Unhalt(t.Context(), b.merchant); err != nil {
		t.Fatal(err)
	}
	if got, err := b.startAll(); err != nil || got.Hunts != startBatch {
		t.Errorf("%+v, %v", got, err)
	}
}

// A start whose task a person has to look at says so, and stands in nobody's way.
func TestALostStartIsBegunAnew(t *testing.T) {
	t.Parallel()
	b := setupCrowd(t, startBatch)
	lost, err := b.s.StartAll(t.Context(), b.merchant)
	if err != nil {
		t.Fatal(err)
	}
	b.next(lost.ID)
	b.Exec("UPDATE scheduled_tasks SET status = 'needs_review' WHERE id = $1", lost.ID)
	if got := b.read(lost.ID); got.State != state.StartFailed || got.Error == nil {
		t.Errorf("%+v", got)
	}
	if got, err := b.startAll(); err != nil || got.Hunts+lost.Hunts+b.read(lost.ID).Hunts != startBatch {
		t.Errorf("%+v, %v", got, err)
	}
	if more, _ := b.next(lost.ID); more {
		t.Error("the lost one goes on, beside the other")
	}
}

func init() { workers["start"] = startWorker }

type startSetting struct{ Database, Stripe string }

// startWorker begins hunts until it is killed.
func startWorker(text []byte) error {
	var setting startSetting
	if err := json.Unmarshal(text, &setting); err != nil {
		return err
	}
	ring, err := dbtest.NewRing()
	if err != nil {
		return err
	}
	ctx := context.Background()
	pool, err := db.Open(ctx, setting.Database, ring)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	_, _, s := services(pool, setting.Stripe, atOnce{}, log)
	queue, err := task.NewQueue(pool, task.Config{
		ListenURL: setting.Database, Handlers: s.Handlers(), Workers: 4, Lease: time.Second, Poll: 100 * time.Millisecond, Log: log,
	})
	if err != nil {
		return err
	}
	queue.Run(ctx)
	return nil
}

// Two processes begin hunts of all, and one of them is killed -9 after most batches: each ghost is
// hunted once, and what the start says is what there is.
func TestAllSurvivesKills(t *testing.T) {
	t.Parallel()
	const ghosts = 8 * startBatch
	b := setupCrowd(t, ghosts)
	// planned, and not sent
	b.recoverWith(func(p *playbook.Playbook) { p.Mode = state.ModeObserve })
	all, err := b.s.StartAll(t.Context(), b.merchant)
	if err != nil {
		t.Fatal(err)
	}
	start := func() (end func()) {
		command := newWorker(t, "start", startSetting{b.pool.Config().ConnString(), b.url}, b.log, b.log)
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		return func() {
			_ = command.Process.Kill()
			_ = command.Wait()
			if !killed(command.ProcessState) {
				t.Errorf("a worker ended by itself: %v\n%s", command.ProcessState, b.log)
			}
		}
	}
	ends := []func(){start(), start()}
	defer func() {
		for _, end := range ends {
			end()
		}
	}()
	kills, before := 0, int64(0)
	for deadline := time.Now().Add(4 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		got := b.read(all.ID)
		if got.State != state.StartRunning {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not end: %+v\n%s", got, b.log)
		}
		if got.LookedAt > before {
			before = got.LookedAt
			// the moment is meant to be random
			time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
			for i, end := range ends {
				end() // whichever has it
				ends[i] = start()
			}
			kills += len(ends)
		}
	}
	end := b.read(all.ID)
	if end.State != state.StartSucceeded || end.Hunts != ghosts || end.LookedAt != ghosts || end.Skipped != 0 {
		t.Errorf("%+v", end)
	}
	once := b.Count("SELECT count(DISTINCT ghost_id) FROM hunts")
	if n := b.Count("SELECT count(*) FROM hunts"); n != ghosts || once != n {
		t.Errorf("%d hunts of %d ghosts, want %d", n, once, ghosts)
	}
	if n := b.Count("SELECT count(*) FROM scheduled_tasks WHERE params ->> 'do' = 'end'"); n != ghosts {
		t.Errorf("%d hunts have an end, of %d", n, ghosts)
	}
	if kills < 6 {
		t.Errorf("only %d kills", kills)
	}
	t.Logf("%d kills", kills)
}

// A dry run looks at so many ghosts at most, and says of how many.
func TestDryRunIsBounded(t *testing.T) {
	t.Parallel()
	b := setupCrowd(t, mostLooked)
	p := playbook.Default()
	p.Mode, p.Steps, p.Auto = state.ModeObserve, []playbook.Step{}, true
	run, err := b.s.DryRun(t.Context(), b.merchant, p)
	if err != nil {
		t.Fatal(err)
	}
	if run.Ghosts != mostLooked || run.LookedAt == 0 || run.LookedAt >= mostLooked || run.Hunts+run.Skipped != run.LookedAt || !run.Truncated ||
		run.Auto.Ghosts > run.LookedAt {
		t.Errorf("%d looked at of %d: %+v, truncated %v, auto %d", run.LookedAt, run.Ghosts, run.Started, run.Truncated, run.Auto.Ghosts)
	}
	b.Exec("DELETE FROM ghost_targets WHERE stripe_customer_id > 'cus_crowd1'")
	b.Exec("DELETE FROM ghost_targets WHERE status = 'closed'")
	b.crowd(10)
	run, err = b.s.DryRun(t.Context(), b.merchant, p)
	if open := b.Count("SELECT count(*) FROM ghost_targets WHERE status = 'open'"); err != nil || run.LookedAt != open || run.Ghosts != int64(open) || run.Truncated {
		t.Errorf("%d looked at of %d, truncated %v, %v", run.LookedAt, run.Ghosts, run.Truncated, err)
	}
}
