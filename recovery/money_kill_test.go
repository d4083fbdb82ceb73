//go:build failpoints

package recovery

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"phantom/connect"
	"phantom/db"
	"phantom/db/dbtest"
	"phantom/sandbox"
	"phantom/task"
)

const (
	slots       = 3 // worker processes at a time
	workerLease = 2 * time.Second
)

type workerSetting struct {
	Database string
	Stripe   string
	Chance   float64 // of dying at a named point
	NoKey    bool    // the idempotency key is taken away
	NoRead   bool    // the reads before a mutation are taken away
}

// points are where a process dies by itself, beside the kills from outside. "flying" is while the
// request is under way.
var points = []string{
	"begun", "claimed", "looked", "marking", "marked", "flying", "answered", "concluding", "ending", "ended", "searched", "reread",
}

func init() {
	workers["money"] = func(text []byte) error {
		var w workerSetting
		if err := json.Unmarshal(text, &w); err != nil {
			return err
		}
		return w.run()
	}
}

// run works until it is killed.
func (w workerSetting) run() error {
	ring, err := dbtest.NewRing()
	if err != nil {
		return err
	}
	pool, err := db.Open(context.Background(), w.Database, ring)
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	_, ghosts, hunts := services(pool, w.Stripe, atOnce{}, log)
	handlers := hunts.Handlers()
	for kind, handler := range ghosts.Handlers() {
		handlers[kind] = handler
	}
	unread = w.NoRead
	if w.NoKey {
		connect.Sabotage = func(r *http.Request) { r.Header.Del("Idempotency-Key") }
	}
	Failpoint = w.die
	queue, err := task.NewQueue(pool, task.Config{
		ListenURL: w.Database, Handlers: handlers, Lease: workerLease, Poll: 200 * time.Millisecond, RetryBase: 10 * time.Millisecond,
		MaxAttempts: 30, Batch: 20, Log: log,
	})
	if err != nil {
		return err
	}
	queue.Run(context.Background())
	return nil
}

// die ends the process at a named point now and then, and tells its parent which one it was.
func (w workerSetting) die(point string) {
	if point == "marked" && rand.Float64() < w.Chance {
		go func() {
			time.Sleep(time.Duration(rand.IntN(4000)) * time.Microsecond)
			w.kill("flying")
		}()
	}
	if rand.Float64() < w.Chance {
		w.kill(point)
	}
}

func (workerSetting) kill(point string) {
	fmt.Println("died at", point)
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// fleet is the worker processes of a test.
type fleet struct {
	b       *bench
	setting workerSetting
	mutex   sync.Mutex
	running map[int]*exec.Cmd
	stopped bool
	deaths  sync.Map // point → *atomic.Int64
	kills   atomic.Int64
	group   sync.WaitGroup
}

// deathNote counts what a dying process says.
type deathNote struct{ f *fleet }

func (d deathNote) Write(p []byte) (int, error) {
	for line := range strings.SplitSeq(string(p), "\n") {
		if point, ok := strings.CutPrefix(line, "died at "); ok {
			count, _ := d.f.deaths.LoadOrStore(point, new(atomic.Int64))
			count.(*atomic.Int64).Add(1)
		}
	}
	return len(p), nil
}

// keep runs one process after the other in a slot. None may end but by being killed.
func (f *fleet) keep(slot int) {
	defer f.group.Done()
	setting := f.setting
	// a private server's URL has a query
	setting.Database += fmt.Sprint("&application_name=worker-", slot)
	for {
		command := newWorker(f.b.t, "money", setting, deathNote{f}, os.Stderr)
		f.mutex.Lock()
		if f.stopped {
			f.mutex.Unlock()
			return
		}
		if err := command.Start(); err != nil {
			f.b.t.Error(err)
			f.mutex.Unlock()
			return
		}
		f.running[slot] = command
		f.mutex.Unlock()
		_ = command.Wait()
		if killed(command.ProcessState) {
			f.kills.Add(1)
		} else {
			f.b.t.Errorf("a worker ended by itself: %v", command.ProcessState)
		}
	}
}

func (f *fleet) killOne() {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if command := f.running[rand.IntN(len(f.running))]; command != nil {
		_ = command.Process.Kill()
	}
}

func (f *fleet) stop() {
	f.mutex.Lock()
	f.stopped = true
	for _, command := range f.running {
		_ = command.Process.Kill()
	}
	f.mutex.Unlock()
	f.group.Wait()
}

func envNumber(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// outcome of a run, by the sandbox's ledger and the database.
type moneyResult struct {
	tasks, kills int
	executions   int
	twiceByKey   int // keys that were executed more than once
	// invoices that were charged for more than once: each has one attempt a day
	twiceByAttempt int
	// executions more than two seconds after the invoice was paid or voided from outside
	afterSettled int
	// keys that were executed though the database does not know of their having been sent
	unheard                int
	unsettled, review      int
	duplicates, deathNotes int
	crashes, restarts      int // of the database
}

// TestMoneySurvivesKills is the test that charges never happen twice: three worker processes that
// are killed at random and at named points, while Stripe drops and spoils answers and forgets keys,
// connections to the database break, and the database itself crashes or is restarted.
// PHANTOM_MONEY_TASKS and PHANTOM_MONEY_KILLS set other numbers than 1,000 and 200;
// with the first one nothing may leave two seconds after its invoice was settled, and without it,
// on a busy machine, six.
func TestMoneySurvivesKills(t *testing.T) {
	r := moneyRun(t, workerSetting{}, envNumber(t, "PHANTOM_MONEY_TASKS", 1000), envNumber(t, "PHANTOM_MONEY_KILLS", 200))
	if r.twiceByKey != 0 || r.twiceByAttempt != 0 || r.afterSettled != 0 || r.unheard != 0 || r.unsettled != 0 || r.duplicates != 0 {
		t.Errorf("%+v", r)
	}
	if r.crashes < 3 || r.restarts < 3 {
		t.Errorf("the database crashed %d times and was restarted %d times", r.crashes, r.restarts)
	}
	if r.deathNotes < len(points) {
		t.Errorf("processes died at %d of %d named points", r.deathNotes, len(points))
	}
}

// TestMoneyControls runs the same without the key, and without the reads: each must charge twice or
// late, or the test above proves nothing.
func TestMoneyControls(t *testing.T) {
	for name, setting := range map[string]workerSetting{"without the key": {NoKey: true}, "without the reads": {NoRead: true}} {
		t.Run(name, func(t *testing.T) {
			r := moneyRun(t, setting, envNumber(t, "PHANTOM_MONEY_TASKS", 1000)/4, envNumber(t, "PHANTOM_MONEY_KILLS", 200)/4)
			if r.twiceByKey+r.twiceByAttempt+r.afterSettled == 0 {
				t.Errorf("nothing was charged twice: %+v", r)
			}
			t.Logf("red, as it must be: %d charged twice, %d after they were settled", max(r.twiceByKey, r.twiceByAttempt), r.afterSettled)
		})
	}
}

func moneyRun(t *testing.T, setting workerSetting, tasks, kills int) moneyResult {
	server := dbtest.NewPrivate(t)
	b := setupOn(t, sandbox.Config{Merchants: 1, OpenInvoices: tasks}, dbtest.Open(t, server.URL(), dbtest.Ring(t)))
	b.audit()
	b.recoverWith(nil)
	started, err := b.startAll()
	if err != nil || started.Hunts < tasks*9/10 {
		t.Fatal(started, err)
	}
	if setting.NoKey {
		// a request that is on its way when its worker dies, and arrives after the next look: then
		// only the key holds
		b.world.Fail(sandbox.Fault{
			Method: http.MethodPost, Path: "/v1/invoices/", Chance: 0.25, Hold: func() { time.Sleep(2 * workerLease) },
		})
	}
	for _, fault := range []sandbox.Fault{
		{Drop: true, After: true}, {Reset: true, After: true}, {Reset: true}, {Truncate: true, After: true}, {Status: 500}, {Status: 500, After: true},
		{Status: 500, Store: true}, {Status: 500, Store: true, After: true}, {Status: 429}, {Status: 409, Code: "idempotency_key_in_use"},
		{Status: 200, Body: "{", After: true},
	} {
		fault.Method, fault.Path, fault.Chance = http.MethodPost, "/v1/invoices/", 0.02
		b.world.Fail(fault)
	}
	b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/invoices/", Chance: 0.05, Delay: 20 * time.Millisecond, After: true})

	setting.Database, setting.Stripe = b.pool.Config().ConnString(), b.url
	setting.Chance = min(0.5, float64(kills)/float64(tasks)/8)
	f := &fleet{b: b, setting: setting, running: map[int]*exec.Cmd{}}
	for slot := range slots {
		f.group.Add(1)
		go f.keep(slot)
	}
	defer f.stop()
	d := disturbance{server: server, settledAt: map[string]time.Time{}}
	b.disturb(f, &d, tasks, kills)
	f.stop()
	b.checkOracle()
	return b.moneyResult(f, &d, tasks)
}

// disturbance is what a run has had to bear beside kills and spoilt answers.
type disturbance struct {
	server *dbtest.Private
	// when which invoice was settled from outside
	settledAt                            map[string]time.Time
	crashes, restarts, broken, forgotten int
}

// restart takes the database away and brings it back while workers go on, die and start, and
// returns once all of them work with it again.
func (b *bench) restart(f *fleet, d *disturbance, killing bool) {
	crash := d.crashes <= d.restarts
	if crash {
		d.crashes++
	} else {
		d.restarts++
	}
	done := make(chan error, 1)
	go func() { done <- d.server.Restart(crash) }()
	for waiting := true; waiting; {
		select {
		case err := <-done:
			if err != nil {
				b.t.Fatal(err)
			}
			waiting = false
		case <-time.After(time.Duration(20+rand.IntN(100)) * time.Millisecond):
			if killing {
				f.killOne()
			}
		}
	}
	b.pool.Reset()
	back := map[string]bool{} // one after the other: they still die at named points
	b.await("every worker claims and listens after a restart of the database", func() bool {
		rows, err := b.pool.Query(b.t.Context(), `SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'worker-%'
			GROUP BY application_name HAVING bool_or(query LIKE 'LISTEN%') AND bool_or(query LIKE '%scheduled_tasks%')`)
		if err != nil {
			b.t.Fatal(err)
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			b.t.Fatal(err)
		}
		for _, name := range names {
			back[name] = true
		}
		return len(back) == slots
	})
}

// disturb kills, breaks connections, restarts the database, forgets keys, and pays and voids from
// outside, until everything that is due is settled.
func (b *bench) disturb(f *fleet, d *disturbance, tasks, kills int) {
	ctx := b.t.Context()
	ends := max(8, tasks/500) // of the database, at equal parts of the way
	var open []string
	rows, err := b.pool.Query(ctx, "SELECT stripe_invoice_id FROM ghost_targets ORDER BY id")
	if err != nil {
		b.t.Fatal(err)
	}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			b.t.Fatal(err)
		}
		open = append(open, id)
	}
	for deadline := time.Now().Add(5*time.Minute + time.Duration(tasks)*400*time.Millisecond); ; {
		if time.Now().After(deadline) {
			b.t.Fatal("not everything was settled in time")
		}
		live := b.Count(`SELECT count(*) FROM scheduled_tasks WHERE status = 'running' OR kind = 'hunt' AND status = 'pending' AND params ->> 'do' = 'begin'
			OR kind = 'invoice_pay' AND status = 'pending' AND run_at < phantom_now() + interval '3 seconds'`)
		asleep := b.Count("SELECT count(*) FROM scheduled_tasks WHERE status = 'pending' AND first_sent_at IS NOT NULL")
		killing := int(f.kills.Load()) < kills
		reading := !f.setting.NoRead // or nothing ever settles a key that is too old
		if live == 0 && (asleep == 0 || !reading) {
			return
		}
		n := d.crashes + d.restarts
		if !reading && !killing && n >= ends {
			return // without reads some never come to rest, and it has been disturbed enough
		}
		if n < ends && live < tasks-n*tasks/ends {
			b.restart(f, d, killing)
		}
		if reading && (live == 0 || live < 5 && !killing) {
			// what waits for its key to be too old has waited long enough
			b.Exec(`UPDATE scheduled_tasks SET first_sent_at = first_sent_at - interval '21 hours', run_at = phantom_now()
				WHERE status = 'pending' AND first_sent_at > clock_timestamp() - interval '20 hours'`)
		}
		// the moment is meant to be random
		time.Sleep(time.Duration(20+rand.IntN(100)) * time.Millisecond)
		if killing {
			f.killOne()
		}
		switch dice := rand.IntN(40); {
		case dice < 4: // far earlier than Stripe: nothing may rest on a key alone
			b.world.ForgetKeys()
			d.forgotten++
		case dice == 4:
			d.broken++
			b.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
		case dice < 15 && len(open) > 0:
			id := open[rand.IntN(len(open))]
			do := []string{"pay_out_of_band", "void"}[rand.IntN(2)]
			if _, err := b.world.Change(sandbox.Change{Account: b.account, Do: do, ID: id}); err == nil {
				d.settledAt[id] = time.Now()
			}
		}
	}
}

func (b *bench) moneyResult(f *fleet, d *disturbance, tasks int) (r moneyResult) {
	r.tasks, r.kills, r.crashes, r.restarts = tasks, int(f.kills.Load()), d.crashes, d.restarts
	late := 6 * time.Second // as in TestStopsBeatCharges, on a busy machine
	if os.Getenv("PHANTOM_MONEY_TASKS") != "" {
		late = 2 * time.Second
	}
	byInvoice := map[string]int{}
	var keys []string
	for _, e := range b.world.Ledger(b.account) {
		if e.Method != http.MethodPost || !strings.HasSuffix(e.Path, "/pay") {
			continue
		}
		r.executions++
		byInvoice[e.Object]++
		if e.Key != "" {
			keys = append(keys, e.Key)
		}
		if at, ok := d.settledAt[e.Object]; ok && e.At.After(at.Add(late)) {
			r.afterSettled++
		}
		if e.Repeated {
			r.twiceByKey++
		}
	}
	for invoice, n := range byInvoice {
		if n == 1 {
			continue
		}
		r.twiceByAttempt++
		for _, e := range b.world.Ledger(b.account) { // what a failure is understood by
			if e.Object == invoice {
				b.t.Logf("%s: %s %s under %s, answered %d, the invoice having been %s", invoice, e.At.Format(time.StampMilli), e.Path, e.Key, e.Status, e.Before)
			}
		}
	}
	r.unheard = b.Count(`SELECT count(*) FROM unnest($1::text[]) AS sent (key)
		WHERE NOT EXISTS (SELECT FROM attempts WHERE 'task_' || task_id = key AND sent_at IS NOT NULL)`, keys)
	r.unsettled = b.Count("SELECT count(*) FROM attempts WHERE result IS NULL AND planned_for < phantom_now()")
	r.review = b.Count("SELECT count(*) FROM scheduled_tasks WHERE status = 'needs_review'")
	r.duplicates = b.Count(`SELECT (SELECT count(*) - count(DISTINCT (object, action, number)) FROM attempts)
		+ (SELECT count(*) FROM attempts a WHERE NOT EXISTS (SELECT FROM scheduled_tasks t WHERE t.id = a.task_id))`)
	f.deaths.Range(func(_, _ any) bool { r.deathNotes++; return true })
	var died []string
	f.deaths.Range(func(point, n any) bool {
		died = append(died, fmt.Sprintf("%s %d", point, n.(*atomic.Int64).Load()))
		return true
	})
	slices.Sort(died)
	b.t.Logf("%d tasks, %d kills, %d crashes and %d restarts of the database, connections broken %d times, keys forgotten %d times: %d executions, %d settled from outside, %d for review; died at: %s",
		r.tasks, r.kills, r.crashes, r.restarts, d.broken, d.forgotten, r.executions, len(d.settledAt), r.review, strings.Join(died, ", "))
	return r
}
