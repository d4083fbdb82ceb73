package recovery

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"phantom/playbook"
	"phantom/sandbox"
	"phantom/state"
)

// When the window is over the final step is taken once, and the hunt ends with it. A pause is
// lifted when the debt is paid after all.
func TestFinalSteps(t *testing.T) {
	t.Parallel()
	for step, path := range map[string]string{
		playbook.FinalNone: "", playbook.FinalPause: "POST /v1/subscriptions/", playbook.FinalCancel: "DELETE /v1/subscriptions/", playbook.FinalUncollectible: "POST /v1/invoices/",
	} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 6})
			b.audit()
			b.recoverWith(func(p *playbook.Playbook) { p.MaxAttempts, p.FinalStep, p.WindowDays = 0, step, 1 })
			if _, err := b.startAll(); err != nil {
				t.Fatal(err)
			}
			b.work()
			b.await("the hunts begin", func() bool {
				return b.Count("SELECT count(*) FROM hunts WHERE charges_over IS NOT NULL") == 6
			})
			b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE kind = 'hunt' AND params ->> 'do' = 'end'")
			b.await("the hunts end", func() bool { return b.Count("SELECT count(*) FROM hunts WHERE state = 'exhausted'") == 6 })
			taken := b.world.Ledger(b.account)
			for _, e := range taken {
				if path == "" || !strings.HasPrefix(e.Method+" "+e.Path, path) || e.Status != 200 {
					t.Errorf("%s %s: %d", e.Method, e.Path, e.Status)
				}
			}
			if path != "" && len(taken) != 6 {
				t.Errorf("%d steps were taken, want 6", len(taken))
			}
			if step != playbook.FinalPause {
				return
			}
			invoice := b.Text("SELECT stripe_invoice_id FROM ghost_targets ORDER BY id LIMIT 1")
			subscription := b.Text("SELECT stripe_subscription_id FROM ghost_targets ORDER BY id LIMIT 1")
			if _, err := b.world.Change(sandbox.Change{Account: b.account, Do: "pay", ID: invoice}); err != nil {
				t.Fatal(err)
			}
			if err := b.ghosts.Refresh(t.Context(), b.merchant, subscription); err != nil {
				t.Fatal(err)
			}
			b.await("the pause is lifted", func() bool {
				return b.Count("SELECT count(*) FROM attempts WHERE action = 'subscription_resume' AND result = 'done'") == 1
			})
			if n := b.Count("SELECT count(*) FROM recoveries"); n != 1 {
				t.Errorf("%d payments are counted, want 1", n)
			}
		})
	}
}

// Who owes several invoices has each of them marked, and the hunt ends with the last.
func TestFinalStepMarksEveryInvoice(t *testing.T) {
	t.Parallel()
	b := losers(t, 6)
	// every subscription has been renewed, and its new invoice has failed
	b.advance(36 * 24 * time.Hour)
	b.audit()
	owed := b.Count("SELECT sum(jsonb_array_length(invoices)) FROM ghost_targets WHERE status = 'open'")
	ghosts := b.Count("SELECT count(*) FROM ghost_targets WHERE status = 'open'")
	if owed <= ghosts {
		t.Fatalf("%d ghosts owe %d invoices", ghosts, owed)
	}
	for _, invoice := range strings.Fields(b.Text("SELECT string_agg(x ->> 'id', ' ') FROM ghost_targets, jsonb_array_elements(invoices) x WHERE status = 'open'")) {
		// or Smart Retries would be waited for
		b.post("/v1/invoices/"+invoice, url.Values{"auto_advance": {"false"}})
	}
	change := func(p *playbook.Playbook) {
		p.MaxAttempts, p.FinalStep, p.WindowDays = 0, playbook.FinalUncollectible, 1
	}
	p := playbook.Default()
	p.Mode, p.HoldoutPercent, p.Steps = state.ModeRecover, 0, []playbook.Step{}
	p.Auto = false // chosen by hand
	change(&p)
	run, err := b.s.DryRun(t.Context(), b.merchant, p)
	if err != nil {
		t.Fatal(err)
	}
	foretold := map[string]bool{}
	for _, p := range run.Data {
		foretold[p.Invoice] = p.Action == playbook.FinalUncollectible
	}
	b.hunted(change)
	b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE kind = 'hunt' AND params ->> 'do' = 'end'")
	b.during(func() {
		// One of the new invoices may still be in the hands of Smart Retries, whose next try is
		// waited for.
		for range 40 {
			if b.calm(); b.Count("SELECT count(*) FROM hunts WHERE state = 'active'") == 0 {
				return
			}
			b.advance(6 * time.Hour)
		}
		t.Error("the hunts do not end")
	})
	marked := map[string]bool{}
	for _, e := range b.world.Ledger(b.account) {
		if strings.HasSuffix(e.Path, "/pay") || e.Key == "" {
			continue // of the hunts before, and the merchant's
		}
		if !strings.HasSuffix(e.Path, "/mark_uncollectible") || e.Status != 200 || marked[e.Object] || !foretold[e.Object] {
			t.Errorf("%s %s: %d", e.Method, e.Path, e.Status)
		}
		marked[e.Object] = true
	}
	if n := b.Count("SELECT count(*) FROM hunts WHERE state = 'exhausted'"); len(marked) != owed || n != ghosts {
		t.Errorf("%d of %d invoices were marked, and %d of %d hunts ended by that", len(marked), owed, n, ghosts)
	}
}

// Where Smart Retries still runs, a hunt either takes the invoice over before its first charge, or
// leaves it alone until it stops.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	for _, takeOver := range []bool{true, false} {
		b := setup(t, sandbox.Config{Merchants: 1})
		b.audit()
		b.recoverWith(func(p *playbook.Playbook) { p.TakeOver = takeOver })
		if _, err := b.startAll(); err != nil {
			t.Fatal(err)
		}
		b.work()
		defer func() {
			t.Log(b.Text("SELECT coalesce(string_agg(kind || ' ' || status || ' ' || n || ' ' || a || ' ' || coalesce(e, ''), E'\n'), '') FROM (SELECT kind, status, count(*) AS n, max(attempts) AS a, left(max(last_error), 100) AS e FROM scheduled_tasks GROUP BY 1, 2) AS s"))
		}()
		b.await("all that is due is done", func() bool {
			return b.Count("SELECT count(*) FROM scheduled_tasks WHERE status = 'running' OR status = 'pending' AND run_at <= phantom_now()") == 0
		})
		held, charged := map[string]bool{}, 0
		for _, e := range b.world.Ledger(b.account) {
			switch {
			case strings.HasSuffix(e.Path, "/pay"):
				charged++
				// One that nobody collects anyway needs no request.
				free := b.Count(`SELECT count(*) FROM scheduled_tasks WHERE kind = 'invoice_hold' AND status = 'succeeded'
					AND params ->> 'object' = $1`, e.Object) > 0
				if takeOver && !held[e.Object] && !free {
					t.Errorf("%s was charged before it was taken over", e.Object)
				}
			case strings.HasPrefix(e.Path, "/v1/invoices/"):
				held[e.Object] = true
			}
		}
		if takeOver && len(held) == 0 || !takeOver && len(held) != 0 {
			t.Errorf("take over %v: %d invoices were", takeOver, len(held))
		}
		if charged == 0 {
			t.Errorf("take over %v: nothing was charged", takeOver)
		}
	}
}
