package recovery

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/ghost"
	"phantom/sandbox"
)

// Invoices are paid, voided or disputed by others in the very moments in which their charges fall
// due. From a second after the webhook on nothing is sent for any of them, and every one ends its
// hunt. PHANTOM_STOP_RACES sets another number than 200. Without it six
// seconds are allowed, for a busy machine: a look at Stripe holds for five. By the database's clock
// nothing is marked as sent once the hunt has ended.
func TestStopsBeatCharges(t *testing.T) {
	t.Parallel()
	races, late := 200, 6*time.Second
	if text := os.Getenv("PHANTOM_STOP_RACES"); text != "" {
		races, _ = strconv.Atoi(text)
		late = time.Second
	}
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: races})
	b.audit()
	b.recoverWith(nil)
	if started, err := b.startAll(); err != nil || started.Hunts != races {
		t.Fatal(started, err)
	}
	// The hunts begin, and every charge waits for its moment.
	b.work()
	b.await("the hunts begin", func() bool {
		b.Exec("UPDATE scheduled_tasks SET run_at = run_at + interval '1 hour' WHERE kind = 'invoice_pay' AND status = 'pending' AND run_at < phantom_now() + interval '30 minutes'")
		return b.Count("SELECT count(*) FROM scheduled_tasks WHERE kind = 'hunt' AND params ->> 'do' = 'begin' AND status = 'succeeded'") == races
	})
	rows, err := b.pool.Query(t.Context(), `SELECT t.id, t.params ->> 'object' FROM scheduled_tasks t WHERE kind = 'invoice_pay' AND status = 'pending'`)
	if err != nil {
		t.Fatal(err)
	}
	type race struct {
		Task    uuid.UUID
		Invoice string
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[race])
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(map[string]time.Time, len(all))
	var mutex sync.Mutex
	var group sync.WaitGroup
	lanes := make(chan struct{}, 8)
	for i, r := range all {
		lanes <- struct{}{}
		group.Go(func() {
			defer func() { <-lanes }()
			// Moved by hand, as an operator may.
			b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() + make_interval(secs => $2) WHERE id = $1 AND status = 'pending'", r.Task, rand.Float64()/5)
			b.Exec("SELECT pg_notify('phantom_task', '')")
			// the moment is meant to be random
			time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
			do, kind := "void", "invoice.voided"
			if i%2 == 0 {
				do, kind = "pay_out_of_band", "invoice.paid"
			}
			if _, err := b.world.Change(sandbox.Change{Account: b.account, Do: do, ID: r.Invoice}); err != nil {
				return // our charge came first
			}
			received, err := b.ghosts.Receive(context.Background(), ghost.Event{
				ID: "evt_" + strings.ReplaceAll(uuid.NewString(), "-", ""), Type: kind, Account: b.account, ObjectID: r.Invoice, Created: time.Now().Truncate(time.Second),
			})
			if err != nil || !received {
				t.Error("the webhook was lost", err)
			}
			mutex.Lock()
			stopped[r.Invoice] = time.Now()
			mutex.Unlock()
		})
	}
	group.Wait()
	if len(stopped) < races/10 {
		t.Fatalf("only %d of %d invoices were settled by others: the races say little", len(stopped), races)
	}
	b.await("every hunt that was stopped has ended", func() bool {
		return b.Count("SELECT count(*) FROM hunts h JOIN ghost_targets g ON g.id = h.ghost_id WHERE g.status = 'closed' AND g.closed_reason <> 'payment_under_way' AND h.state = 'active'") == 0 &&
			b.Count("SELECT count(*) FROM scheduled_tasks WHERE kind IN ('webhook', 'refresh') AND status IN ('pending', 'running')") == 0
	})
	behind, executed := 0, 0
	for _, e := range b.world.Ledger(b.account) {
		at, ok := stopped[e.Object]
		if !strings.HasSuffix(e.Path, "/pay") {
			continue
		}
		executed++
		if ok && e.At.After(at.Add(late)) {
			behind++
		}
	}
	if n := b.Count(`SELECT count(*) FROM attempts a JOIN hunts h ON h.merchant_id = a.merchant_id AND h.id = a.hunt_id
		WHERE a.action = 'invoice_pay' AND a.sent_at > h.ended_at + interval '1 second'`); n != 0 {
		t.Errorf("%d charges were marked as sent after their hunt had ended", n)
	}
	if behind != 0 {
		t.Errorf("%d charges left more than %s after the webhook", behind, late)
	}
	if n := b.Count("SELECT count(*) FROM hunts WHERE state = 'active' AND invoices && $1", keys(stopped)); n != 0 {
		t.Errorf("%d stops were lost", n)
	}
	t.Logf("%d races: %d settled by others, %d charges sent, none later than %s after the webhook", races, len(stopped), executed, late)
}

func keys(m map[string]time.Time) (list []string) {
	for k := range m {
		list = append(list, k)
	}
	return list
}

// roundTrips counts what goes to the database and back.
type roundTrips struct {
	mutex sync.Mutex
	n     int
	texts []string
}

func (r *roundTrips) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.n++
	r.texts = append(r.texts, strings.SplitN(data.SQL, "\n", 2)[0])
	return ctx
}

func (*roundTrips) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// What a due charge costs in round trips to the database, from its claim to the next one planned,
// is stated here and held.
func TestRoundTripsOfACharge(t *testing.T) {
	t.Parallel()
	const paid, declinedSoftly = 23, 31
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 20})
	b.audit()
	b.recoverWith(nil)
	if _, err := b.startAll(); err != nil {
		t.Fatal(err)
	}
	counter := &roundTrips{}
	config := b.pool.Config().Copy()
	config.ConnConfig.Tracer = counter
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	_, _, b.s = services(pool, b.url, atOnce{}, b.s.log)
	queue := b.queue()
	run := func(query string) {
		t.Helper()
		rows, err := b.pool.Query(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			counter.n, counter.texts = 0, nil
			// a decline is an error to the one who waits for the task
			_ = queue.RunOne(t.Context(), b.merchant, id)
			want := map[string]int{"paid": paid, "declined": declinedSoftly}[b.Text("SELECT coalesce((SELECT result FROM attempts WHERE task_id = $1 AND (decline_class IS NULL OR decline_class NOT IN ('never', 'customer'))), '')", id)]
			if want != 0 && counter.n > want {
				t.Errorf("%d round trips, want %d at most:\n%s", counter.n, want, strings.Join(counter.texts, "\n"))
			}
		}
	}
	run("SELECT id FROM scheduled_tasks WHERE kind = 'hunt' AND params ->> 'do' = 'begin'")
	run("SELECT id FROM scheduled_tasks WHERE kind = 'invoice_pay' AND run_at <= phantom_now()")
	if b.Count("SELECT count(*) FROM attempts WHERE result = 'paid'") == 0 || b.Count("SELECT count(*) FROM attempts WHERE result = 'declined'") == 0 {
		t.Error("nothing was charged")
	}
}
