package recovery

import (
	"strings"
	"testing"

	"phantom/oracle"
	"phantom/playbook"
	"phantom/sandbox"
)

// A hunt that observes writes down what a dry run says of its ghost, once, and does nothing else.
func TestObservingHunts(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 20})
	b.audit()
	b.s.advisor = oracle.Heuristic{}
	p := playbook.Default()
	p.HoldoutPercent, p.TakeOver = 0, true
	run, err := b.s.DryRun(t.Context(), b.merchant, p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.s.SetPlaybook(t.Context(), b.merchant, p); err != nil {
		t.Fatal(err)
	}
	if _, err := b.startAll(); err != nil {
		t.Fatal(err)
	}
	b.during(b.calm)
	for _, hunt := range b.active() { // as after its worker died
		if err := b.s.storeForecast(t.Context(), b.pool, b.merchant, hunt); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.Count("SELECT count(*) FROM hunt_notes WHERE note LIKE 'in mode recover, on %'"); n != len(run.Data) || n == 0 {
		t.Errorf("%d notes, %d things were foretold", n, len(run.Data))
	}
	addressed := b.Count("SELECT count(*) FROM ghost_targets WHERE status = 'open' AND email IS DISTINCT FROM NULL")
	for words, least := range map[string]int{"take the invoice over from Smart Retries": run.Hunts, "charge the card on file, ": 1, "email payment_failed": addressed} {
		if n := b.Count("SELECT count(DISTINCT hunt_id) FROM hunt_notes WHERE strpos(note, $1) > 0", words); n < least {
			t.Errorf("%q stands in %d hunts of %d", words, n, run.Hunts)
		}
	}
	if n := b.Count("SELECT (SELECT count(*) FROM attempts) + (SELECT count(*) FROM messages) + (SELECT count(*) FROM scheduled_tasks WHERE kind NOT IN ('audit', 'hunt', 'audit_window') AND kind !~ '^(ghost|refresh|audit|purge)')"); n != 0 {
		t.Errorf("%d traces of more than watching", n)
	}
	for _, e := range b.world.Ledger(b.account) {
		if strings.HasPrefix(e.Key, "task_") {
			t.Errorf("Stripe was asked for %s %s", e.Method, e.Path)
		}
	}
}
