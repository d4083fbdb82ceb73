package recovery

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"phantom/playbook"
	"phantom/sandbox"
)

// paused is a world whose one hunt has ended with a pause: ours, or one that the merchant had made
// before.
func paused(t *testing.T, ours bool) *bench {
	t.Helper()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.audit()
	b.recoverWith(func(p *playbook.Playbook) { p.MaxAttempts, p.FinalStep, p.WindowDays = 0, playbook.FinalPause, 1 })
	if _, err := b.startAll(); err != nil {
		t.Fatal(err)
	}
	b.during(func() {
		b.await("the hunt begins", func() bool { return b.Count("SELECT count(*) FROM hunts WHERE charges_over IS NOT NULL") == 1 })
		if !ours {
			if _, err := b.world.Change(sandbox.Change{Account: b.account, Do: "pause_collection", ID: b.Text("SELECT stripe_subscription_id FROM ghost_targets")}); err != nil {
				t.Fatal(err)
			}
		}
		b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE params ->> 'do' = 'end'")
		b.await("the hunt ends", func() bool { return b.Count("SELECT count(*) FROM hunts WHERE state = 'exhausted'") == 1 })
	})
	return b
}

// A pause of the merchant's own is not lifted.
func TestOnlyOurPauseIsLifted(t *testing.T) {
	t.Parallel()
	b := paused(t, false)
	b.turn(sandbox.Change{Do: "pay"})
	b.refresh()
	b.during(func() {
		b.await("what was paid is counted", func() bool { return b.Count("SELECT count(*) FROM recoveries") == 1 })
		b.calm()
	})
	for _, e := range b.world.Ledger(b.account) {
		t.Errorf("%s %s was executed", e.Method, e.Path)
	}
}

// Lifting a pause waits for a halt, and comes again after an answer that was none.
func TestPauseIsLiftedInTheEnd(t *testing.T) {
	t.Parallel()
	b := paused(t, true)
	b.Exec("INSERT INTO halts (scope) VALUES ('00000000-0000-0000-0000-000000000000')")
	b.turn(sandbox.Change{Do: "pay"})
	b.refresh()
	resumes := func() (n int) {
		for _, e := range b.world.Ledger(b.account) {
			if e.Method == http.MethodPost && strings.HasPrefix(e.Path, "/v1/subscriptions/") && e.Status == 200 {
				n++
			}
		}
		return n - 1 // the pause itself
	}
	b.during(func() {
		b.await("it is planned and put off", func() bool {
			return b.Count("SELECT count(*) FROM scheduled_tasks WHERE kind = 'subscription_resume' AND status = 'pending' AND run_at > phantom_now() + interval '30 seconds'") == 1
		})
		if n := resumes(); n != 0 {
			t.Fatalf("lifted %d times in spite of the halt", n)
		}
		b.Exec("DELETE FROM halts")
		b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/subscriptions/", Drop: true})
		b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE kind = 'subscription_resume'")
		b.await("the pause is lifted", func() bool {
			b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE kind = 'subscription_resume' AND status = 'pending'")
			return resumes() == 1 && b.Count("SELECT count(*) FROM hunts WHERE paused") == 0
		})
	})
}

// A final step that a person cancels is not taken, and its hunt ends.
func TestCanceledFinalStepEndsTheHunt(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.movable()
	b.audit()
	b.recoverWith(func(p *playbook.Playbook) { p.MaxAttempts, p.FinalStep, p.WindowDays = 0, playbook.FinalCancel, 1 })
	if _, err := b.startAll(); err != nil {
		t.Fatal(err)
	}
	b.Exec("UPDATE scheduled_tasks SET run_at = run_at + interval '1 day' WHERE params ->> 'do' = 'begin'")
	b.advance(25 * time.Hour)
	if err := b.queue().RunOne(t.Context(), b.merchant, b.text2id("SELECT id::text FROM scheduled_tasks WHERE params ->> 'do' = 'end'")); err != nil {
		t.Fatal(err)
	}
	b.Exec("UPDATE scheduled_tasks SET status = 'canceled', finished_at = phantom_now() WHERE kind = 'subscription_cancel'")
	params := b.Text("SELECT params FROM scheduled_tasks WHERE kind = 'subscription_cancel'")
	again, ok := planAgain(b.merchant, []byte(params))
	if !ok {
		t.Fatal("the canceled task names no hunt")
	}
	if _, err := b.queries.TaskEnqueue(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	b.during(func() {
		b.await("the hunt ends", func() bool { return b.Count("SELECT count(*) FROM hunts WHERE state = 'exhausted'") == 1 })
	})
	if n := len(b.world.Ledger(b.account)); n != 0 {
		t.Errorf("%d mutations were executed", n)
	}
}

// A pause that the merchant makes while ours is on its way, and ours never arrives, is theirs: a
// payment does not lift it.
func TestMerchantsPauseIsNotTakenForOurs(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.audit()
	b.recoverWith(func(p *playbook.Playbook) { p.MaxAttempts, p.FinalStep, p.WindowDays = 0, playbook.FinalPause, 1 })
	if _, err := b.startAll(); err != nil {
		t.Fatal(err)
	}
	subscription := b.Text("SELECT stripe_subscription_id FROM ghost_targets")
	b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/subscriptions/", Drop: true, Hold: func() {
		if _, err := b.world.Change(sandbox.Change{Account: b.account, Do: "pause_collection", ID: subscription}); err != nil {
			t.Error(err)
		}
	}})
	b.during(func() {
		b.await("the hunt begins", func() bool { return b.Count("SELECT count(*) FROM hunts WHERE charges_over IS NOT NULL") == 1 })
		b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE params ->> 'do' = 'end'")
		b.await("the hunt ends", func() bool {
			b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE kind = 'subscription_pause' AND status = 'pending'")
			return b.Count("SELECT count(*) FROM hunts WHERE state = 'exhausted'") == 1
		})
		if n := b.Count("SELECT count(*) FROM hunts WHERE paused"); n != 0 {
			t.Error("the merchant's pause is taken for ours")
		}
		b.turn(sandbox.Change{Do: "pay"})
		b.refresh()
		b.await("what was paid is counted", func() bool { return b.Count("SELECT count(*) FROM recoveries") == 1 })
		b.calm()
	})
	for _, e := range b.world.Ledger(b.account) {
		t.Errorf("%s %s was executed", e.Method, e.Path)
	}
}

// A charge whose answer was lost does not leave again behind the window, though a final step is
// set.
func TestNothingLeavesAgainBehindTheWindow(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.movable()
	b.audit()
	b.hunted(func(p *playbook.Playbook) { p.WindowDays, p.FinalStep = 1, playbook.FinalPause })
	// it never arrives
	b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/invoices/", Drop: true, Times: -1})
	b.during(func() {
		b.await("it is sent, and lost", func() bool {
			return b.Count("SELECT count(*) FROM scheduled_tasks WHERE kind = 'invoice_pay' AND status = 'pending' AND first_sent_at IS NOT NULL") == 1
		})
	})
	b.advance(25 * time.Hour)
	b.world.Mend()
	b.Exec("UPDATE scheduled_tasks SET first_sent_at = clock_timestamp() - interval '11 minutes', run_at = phantom_now() WHERE kind = 'invoice_pay'")
	b.during(func() {
		b.await("it is given up", func() bool {
			return b.Count("SELECT count(*) FROM attempts WHERE action = 'invoice_pay' AND result = 'absent'") == 1
		})
	})
	for _, e := range b.world.Ledger(b.account) {
		if strings.HasSuffix(e.Path, "/pay") {
			t.Errorf("%s was executed behind the window", e.Path)
		}
	}
}
