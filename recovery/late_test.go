package recovery

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/connect"
	"phantom/db"
	"phantom/gate"
	"phantom/message"
	"phantom/playbook"
	"phantom/sandbox"
	"phantom/task"
)

// planned is the task of a kind that waits first.
func (b *bench) planned(kind string) uuid.UUID {
	b.t.Helper()
	var id uuid.UUID
	if err := b.pool.QueryRow(b.t.Context(), "SELECT id FROM scheduled_tasks WHERE kind = $1 AND status = 'pending' ORDER BY run_at, id LIMIT 1", kind).Scan(&id); err != nil {
		b.t.Fatal(err)
	}
	return id
}

// setupCharge is a world with one hunt, whose first charge is planned.
func setupCharge(t *testing.T) (b *bench, id uuid.UUID) {
	t.Helper()
	b = setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.audit()
	b.recoverWith(nil)
	if _, err := b.startAll(); err != nil {
		t.Fatal(err)
	}
	if err := b.queue().RunOne(t.Context(), b.merchant, b.text2id("SELECT id::text FROM scheduled_tasks WHERE params ->> 'do' = 'begin'")); err != nil {
		t.Fatal(err)
	}
	return b, b.planned(gate.KindPay)
}

// A key that becomes too old between the look and the mark is not sent, and its task is not taken
// for done.
func TestAgedKeyIsNeitherSentNorDone(t *testing.T) {
	t.Parallel()
	b, id := setupCharge(t)
	b.Exec("UPDATE scheduled_tasks SET first_sent_at = clock_timestamp() - interval '21 hours', run_at = phantom_now() WHERE id = $1", id)
	row, err := b.queries.TaskClaimOne(t.Context(), db.TaskClaimOneParams{LeaseSeconds: 60, MerchantID: b.merchant, ID: id})
	if err != nil {
		t.Fatal(err)
	}
	young := time.Now() // what settle believed
	j := &job{s: b.s, t: &task.Task{MerchantID: b.merchant, ID: id, Kind: row.Kind, Params: row.Params, Fence: row.Fence, FirstSentAt: &young}}
	if j.p.Hunt, err = uuid.Parse(b.Text("SELECT params ->> 'hunt' FROM scheduled_tasks WHERE id = $1", id)); err != nil {
		t.Fatal(err)
	}
	if err := j.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ok, err := j.commitSend(t.Context()); ok || !errors.Is(err, task.ErrLost) || lost(err) == nil {
		t.Errorf("marked %v, %v, and the queue hears %v", ok, err, lost(err))
	}
	if n := len(b.world.AllExecutions()); n != 0 {
		t.Errorf("%d charges were executed", n)
	}
}

// What Stripe refuses for good comes to a person in the end; an outage does not, however long it
// lasts.
func TestRefusedReadsComeToAPerson(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]string{http.StatusBadRequest: "needs_review", http.StatusServiceUnavailable: "pending"} {
		b, id := setupCharge(t)
		b.connect = connect.New(connect.Config{APIBase: b.url, Patience: time.Millisecond, Log: slog.New(slog.DiscardHandler)}, b.pool)
		b.s = New(b.pool, b.connect, message.New(b.pool, b.connect, message.Config{}), atOnce{}, Config{Log: slog.New(slog.DiscardHandler)})
		b.world.Fail(sandbox.Fault{Method: http.MethodGet, Path: "/v1/invoices/", Times: -1, Status: status})
		b.Exec("UPDATE scheduled_tasks SET attempts = 7 WHERE id = $1", id)
		b.during(func() {
			b.await("it is tried", func() bool {
				return b.Count("SELECT count(*) FROM scheduled_tasks WHERE id = $1 AND fence > 0 AND status <> 'running'", id) == 1
			})
		})
		if got := b.Text("SELECT status FROM scheduled_tasks WHERE id = $1", id); got != want {
			t.Errorf("after %d it is %s, want %s", status, got, want)
		}
	}
}

func (b *bench) text2id(query string) uuid.UUID {
	b.t.Helper()
	id, err := uuid.Parse(b.Text(query))
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

// Who pays while the webhook is late loses nothing: the final step reads the invoice, and the hunt
// is not forgotten.
func TestFinalStepSparesWhoHasPaid(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.audit()
	b.recoverWith(func(p *playbook.Playbook) { p.MaxAttempts, p.FinalStep, p.WindowDays = 0, playbook.FinalCancel, 1 })
	if _, err := b.startAll(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.world.Change(sandbox.Change{Account: b.account, Do: "pay_out_of_band", ID: b.Text("SELECT stripe_invoice_id FROM ghost_targets")}); err != nil {
		t.Fatal(err)
	}
	b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE params ->> 'do' = 'end'")
	b.work()
	b.await("the hunt ends by the payment", func() bool { return b.Count("SELECT count(*) FROM hunts WHERE state = 'recovered'") == 1 })
	for _, e := range b.world.Ledger(b.account) {
		if strings.HasPrefix(e.Path, "/v1/subscriptions/") {
			t.Errorf("%s %s was executed", e.Method, e.Path)
		}
	}
}

// A charge that a person gives up, having been sent, counts as one that may have been executed: for
// the day, the budgets and the caps.
func TestGivenUpChargeCounts(t *testing.T) {
	t.Parallel()
	b, id := setupCharge(t)
	b.Exec("UPDATE scheduled_tasks SET first_sent_at = clock_timestamp(), run_at = phantom_now() + interval '1 hour' WHERE id = $1", id)
	b.Exec("UPDATE attempts SET sent_at = phantom_now() WHERE task_id = $1", id)
	cancel := db.TaskCancelParams{MerchantID: b.merchant, ID: id}
	if n, err := b.queries.TaskCancel(t.Context(), cancel); n != 0 || err != nil {
		t.Fatalf("a charge that may be out was canceled: %d, %v", n, err)
	}
	b.Exec("UPDATE scheduled_tasks SET status = 'needs_review' WHERE id = $1", id)
	if n, err := b.queries.TaskCancel(t.Context(), cancel); n != 1 || err != nil {
		t.Fatalf("a person cannot give it up: %d, %v", n, err)
	}
	again, _ := planAgain(b.merchant, []byte(b.Text("SELECT params FROM scheduled_tasks WHERE id = $1", id)))
	if _, err := b.queries.TaskEnqueue(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	b.during(func() {
		b.await("the next charge waits for a day", func() bool {
			return b.Count("SELECT count(*) FROM attempts WHERE action = 'invoice_pay' AND result IS NULL AND reason LIKE 'put off: %' AND planned_for > phantom_now() + interval '23 hours'") == 1
		})
	})
	if got := b.Text("SELECT result FROM attempts WHERE task_id = $1", id); got != "unknown" {
		t.Errorf("it counts as %s", got)
	}
	if n := len(b.world.AllExecutions()); n != 0 {
		t.Errorf("%d charges were executed", n)
	}
}

// A charge whose answer was lost and whose event is late is waited for, no matter what became of
// it: were the same request to leave again, a key that Stripe has forgotten would not hold it back.
// The customers meet every class of decline, a block that no budget counts among them.
func TestNothingLeavesAgainBesideACharge(t *testing.T) {
	t.Parallel()
	const invoices = 24
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: invoices})
	b.audit()
	b.recoverWith(nil)
	b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/invoices/", Times: invoices, Drop: true, After: true})
	b.world.Fail(sandbox.Fault{Method: http.MethodGet, Path: "/v1/events", Times: -1, Status: http.StatusOK, Body: `{"object":"list","data":[],"has_more":false}`})
	if _, err := b.startAll(); err != nil {
		t.Fatal(err)
	}
	waiting := func(tries int) func() bool {
		return func() bool {
			return b.Count(`SELECT count(*) FROM scheduled_tasks WHERE kind = 'invoice_pay' AND status = 'pending' AND first_sent_at IS NOT NULL
				AND fence >= $1 AND run_at > phantom_now()`, tries) == invoices
		}
	}
	b.during(func() {
		b.await("every charge is sent, and its answer lost", waiting(2))
		b.world.ForgetKeys()
		b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE kind = 'invoice_pay'")
		b.await("every charge is looked at again", waiting(3))
	})
	if n := len(b.world.Ledger(b.account)); n != invoices {
		t.Errorf("%d of %d charges were executed", n, invoices)
	}
	b.world.Mend()
	b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE kind = 'invoice_pay'")
	b.during(func() {
		b.await("the events tell of all", func() bool {
			return b.Count("SELECT count(*) FROM attempts WHERE result IN ('paid', 'declined')") == invoices
		})
	})
	if n := len(b.world.Ledger(b.account)); n != invoices {
		t.Errorf("%d of %d charges were executed", n, invoices)
	}
}
