package recovery

import (
	"testing"

	"phantom/playbook"
	"phantom/sandbox"
	"phantom/state"
)

// Every ghost of a world is hunted once: half of the invoices are paid, the others are declined as
// their class says, and what was paid is counted once and to the cent.
func TestHuntsOfAWorld(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 60})
	b.audit()
	ghosts := b.Count("SELECT count(*) FROM ghost_targets WHERE status = 'open'")
	if ghosts < 50 {
		t.Fatalf("the world has %d ghosts", ghosts)
	}
	b.recoverWith(nil)
	started, err := b.startAll()
	if err != nil {
		t.Fatal(err)
	}
	if started.Hunts != ghosts {
		t.Fatalf("%d hunts for %d ghosts", started.Hunts, ghosts)
	}
	b.work()
	b.await("every first charge is done", func() bool {
		return b.Count("SELECT count(*) FROM hunts WHERE state = 'active' AND charges = 0 AND charges_over IS NULL") == 0 &&
			b.Count("SELECT count(*) FROM scheduled_tasks WHERE status = 'running' OR status = 'pending' AND run_at <= phantom_now()") == 0
	})
	paid := b.Count("SELECT count(*) FROM attempts WHERE action = 'invoice_pay' AND result = 'paid'")
	if declined := b.Count("SELECT count(*) FROM attempts WHERE action = 'invoice_pay' AND result = 'declined'"); paid == 0 || declined == 0 || paid+declined != ghosts {
		t.Errorf("%d paid and %d declined of %d", paid, declined, ghosts)
	}
	// What the bank refuses for good is over, anything else is planned again, a day later at the
	// earliest.
	if n := b.Count(`SELECT count(*) FROM attempts a JOIN hunts h ON h.merchant_id = a.merchant_id AND h.id = a.hunt_id
		WHERE a.decline_class IN ('never', 'customer') AND h.charges_over IS NULL`); n != 0 {
		t.Errorf("%d hunts go on after a hard decline", n)
	}
	if n := b.Count(`SELECT count(*) FROM attempts a WHERE a.decline_class IN ('timed', 'low', 'soon') AND NOT EXISTS (
		SELECT FROM attempts x WHERE x.object = a.object AND x.number = a.number + 1 AND x.planned_for >= a.sent_at + interval '24 hours')`); n != 0 {
		t.Errorf("%d soft declines are not tried again a day later", n)
	}
	b.await("what was paid is counted", func() bool {
		return b.Count("SELECT count(*) FROM recoveries WHERE cause = 'charge'") == paid
	})
	if n := b.Count("SELECT (SELECT sum(amount) FROM recoveries) - (SELECT sum(amount) FROM hunts WHERE state = 'recovered')"); n != 0 {
		t.Errorf("recoveries and recovered hunts differ by %d", n)
	}
	b.checkOracle()
}

// Hunts that only watch make room for hunts that recover.
func TestRecoverTakesThePlaceOfObserve(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 5})
	b.audit()
	start := func(want Started) {
		t.Helper()
		if got, err := b.startAll(); err != nil || got != want {
			t.Fatalf("%+v, %v, want %+v", got, err, want)
		}
	}
	b.recoverWith(func(p *playbook.Playbook) { p.Mode = state.ModeObserve })
	start(Started{Hunts: 5})
	start(Started{})
	recovering := playbook.Default()
	recovering.Mode, recovering.HoldoutPercent, recovering.Steps = state.ModeRecover, 0, []playbook.Step{}
	recovering.Auto = false
	run, err := b.s.DryRun(t.Context(), b.merchant, recovering)
	if err != nil || run.Hunts != 5 || len(run.Data) == 0 {
		t.Errorf("the dry run foretells %+v, %v", run.Started, err)
	}
	b.recoverWith(nil)
	start(Started{Hunts: 5})
	start(Started{})
	if n := b.Count("SELECT count(*) FROM hunts WHERE mode = 'observe' AND state = 'stopped' AND ended_reason LIKE '%takes its place'"); n != 5 {
		t.Errorf("%d hunts that watch have ended, want 5", n)
	}
	if n := b.Count("SELECT count(*) FROM hunts WHERE mode = 'recover' AND state = 'active'"); n != 5 {
		t.Errorf("%d hunts recover, want 5", n)
	}
}

// What hunts that recover bring is theirs, and not that of the hunts that only watched before them.
func TestMoneyIsTheLaterHunts(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 4})
	b.audit()
	for _, mode := range []state.Mode{state.ModeObserve, state.ModeRecover} {
		b.recoverWith(func(p *playbook.Playbook) { p.Mode = mode })
		if _, err := b.startAll(); err != nil {
			t.Fatal(err)
		}
	}
	b.Exec("UPDATE hunts SET state = 'exhausted', ended_reason = 'the window is over' WHERE mode = 'observe'")
	b.during(func() {
		b.await("what was paid is counted", func() bool {
			return b.Count("SELECT count(*) FROM attempts WHERE result = 'paid'") > 0 && b.Count("SELECT count(*) FROM recoveries") == b.Count("SELECT count(*) FROM attempts WHERE result = 'paid'")
		})
	})
	if n := b.Count("SELECT count(*) FROM recoveries r JOIN hunts h ON h.id = r.hunt_id WHERE h.mode = 'observe' OR r.cause <> 'charge'"); n != 0 {
		t.Errorf("%d payments are credited to hunts that watched", n)
	}
}
