package recovery

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/db"
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

// A key that becomes too old between the look and the mark is not sent, and its task is not taken for done.
func TestAgedKeyIsNeitherSentNorDone(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.audit()
	b.recoverWith(nil)
	if _, err := b.s.Start(t.Context(), b.merchant, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.queue().RunOne(t.Context(), b.merchant, b.text2id("SELECT id::text FROM scheduled_tasks WHERE params ->> 'do' = 'begin'")); err != nil {
		t.Fatal(err)
	}
	id := b.planned(KindPay)
	b.exec("UPDATE scheduled_tasks SET first_sent_at = clock_timestamp() - interval '21 hours', run_at = phantom_now() WHERE id = $1", id)
	row, err := b.queries.TaskClaimOne(t.Context(), db.TaskClaimOneParams{LeaseSeconds: 60, MerchantID: b.merchant, ID: id})
	if err != nil {
		t.Fatal(err)
	}
	young := time.Now() // what settle believed
	j := &job{s: b.s, t: &task.Task{MerchantID: b.merchant, ID: id, Kind: row.Kind, Params: row.Params, Fence: row.Fence, FirstSentAt: &young}}
	if j.p.Hunt, err = uuid.Parse(b.text("SELECT params ->> 'hunt' FROM scheduled_tasks WHERE id = $1", id)); err != nil {
		t.Fatal(err)
	}
	if err := j.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ok, err := j.mark(t.Context()); ok || !errors.Is(err, task.ErrLost) || lost(err) == nil {
		t.Errorf("marked %v, %v, and the queue hears %v", ok, err, lost(err))
	}
	if n := len(b.world.AllExecutions()); n != 0 {
		t.Errorf("%d charges were executed", n)
	}
}

func (b *bench) text2id(query string) uuid.UUID {
	b.t.Helper()
	id, err := uuid.Parse(b.text(query))
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

// Who pays while the webhook is late loses nothing: the final step reads the invoice, and the hunt is not forgotten.
func TestFinalStepSparesWhoHasPaid(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.audit()
	b.recoverWith(func(p *Playbook) { p.MaxAttempts, p.FinalStep, p.WindowDays = 0, FinalCancel, 1 })
	if _, err := b.s.Start(t.Context(), b.merchant, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := b.world.Change(sandbox.Change{Account: b.account, Do: "pay_out_of_band", ID: b.text("SELECT stripe_invoice_id FROM ghost_targets")}); err != nil {
		t.Fatal(err)
	}
	b.exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE params ->> 'do' = 'end'")
	b.work()
	b.await("the hunt ends by the payment", func() bool { return b.count("SELECT count(*) FROM hunts WHERE state = 'recovered'") == 1 })
	for _, e := range b.world.Ledger(b.account) {
		if strings.HasPrefix(e.Path, "/v1/subscriptions/") {
			t.Errorf("%s %s was executed", e.Method, e.Path)
		}
	}
}

// A charge that a person gives up, having been sent, counts as one that may have been executed: for the day, the budgets and the caps.
func TestGivenUpChargeCounts(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.audit()
	b.recoverWith(nil)
	if _, err := b.s.Start(t.Context(), b.merchant, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.queue().RunOne(t.Context(), b.merchant, b.text2id("SELECT id::text FROM scheduled_tasks WHERE params ->> 'do' = 'begin'")); err != nil {
		t.Fatal(err)
	}
	id := b.planned(KindPay)
	b.exec("UPDATE scheduled_tasks SET first_sent_at = clock_timestamp(), run_at = phantom_now() + interval '1 hour' WHERE id = $1", id)
	b.exec("UPDATE attempts SET sent_at = phantom_now() WHERE task_id = $1", id)
	cancel := db.TaskCancelParams{MerchantID: b.merchant, ID: id}
	if n, err := b.queries.TaskCancel(t.Context(), cancel); n != 0 || err != nil {
		t.Fatalf("a charge that may be out was canceled: %d, %v", n, err)
	}
	b.exec("UPDATE scheduled_tasks SET status = 'needs_review' WHERE id = $1", id)
	if n, err := b.queries.TaskCancel(t.Context(), cancel); n != 1 || err != nil {
		t.Fatalf("a person cannot give it up: %d, %v", n, err)
	}
	again, _ := PlanAgain(b.merchant, []byte(b.text("SELECT params FROM scheduled_tasks WHERE id = $1", id)))
	if _, err := b.queries.TaskEnqueue(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	b.during(func() {
		b.await("the next charge waits for a day", func() bool {
			return b.count("SELECT count(*) FROM attempts WHERE action = 'invoice_pay' AND result IS NULL AND reason LIKE 'put off: %' AND planned_for > phantom_now() + interval '23 hours'") == 1
		})
	})
	if got := b.text("SELECT result FROM attempts WHERE task_id = $1", id); got != "unknown" {
		t.Errorf("it counts as %s", got)
	}
	if n := len(b.world.AllExecutions()); n != 0 {
		t.Errorf("%d charges were executed", n)
	}
}
