package recovery

import (
	"testing"

	"phantom/sandbox"
)

// The drill: a backup from before the charges is put back two days later, when Stripe has forgotten
// all keys. Nothing is charged that was charged before, and what came of it is found out.
func TestRestoredBackupChargesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 40})
	b.audit()
	b.recoverWith(nil)
	if _, err := b.startAll(); err != nil {
		t.Fatal(err)
	}
	b.work()
	settled := func() bool {
		return b.Count("SELECT count(*) FROM scheduled_tasks WHERE status = 'running' OR status = 'pending' AND run_at <= phantom_now()") == 0 &&
			b.Count("SELECT count(*) FROM attempts WHERE number = 1 AND result IS NULL") == 0
	}
	b.await("the first charges are done", settled)
	before := b.allExecutions()
	results := b.Text("SELECT string_agg(result || coalesce(decline_class, ''), ',' ORDER BY task_id) FROM attempts WHERE number = 1")
	b.world.ForgetKeys()
	// What the database looked like before: planned, due, and never sent.
	b.Exec("DELETE FROM scheduled_tasks WHERE kind = 'invoice_pay' AND id IN (SELECT task_id FROM attempts WHERE number > 1)")
	b.Exec("DELETE FROM attempts WHERE number > 1")
	b.Exec("UPDATE hunts SET state = 'active', ended_reason = NULL, ended_at = NULL, charges_over = NULL, charges = 0")
	b.Exec("UPDATE ghost_targets SET status = 'open', closed_reason = NULL, closed_at = NULL")
	b.Exec("UPDATE attempts SET result = NULL, decline_class = NULL, decline_code = NULL, sent_at = NULL, charge = NULL, planned_for = planned_for - interval '2 days'")
	b.Exec(`UPDATE scheduled_tasks SET status = 'pending', attempts = 0, first_sent_at = NULL, finished_at = NULL, outcome = NULL, run_at = phantom_now() - interval '2 days' WHERE kind = 'invoice_pay'`)
	b.Exec("SELECT pg_notify('phantom_task', '')")
	b.await("all of them are settled", settled)
	if after := b.allExecutions(); after != before {
		t.Errorf("%d charges were executed after the backup was put back", after-before)
	}
	if got := b.Text("SELECT string_agg(result || coalesce(decline_class, ''), ',' ORDER BY task_id) FROM attempts WHERE number = 1"); got != results {
		t.Errorf("the outcomes are\n%s, and were\n%s", got, results)
	}
}

// allExecutions counts every execution, of whichever key.
func (b *bench) allExecutions() (n int) {
	for _, times := range b.world.AllExecutions() {
		n += times
	}
	return n
}
