package recovery

import (
	"testing"
	"time"

	"phantom/forecast"
	"phantom/playbook"
	"phantom/state"
)

// The invoices of a hunt are charged one after the other: while the attempts on the first are used
// up and wait to refill, the next one has its own.
func TestEachInvoiceHasItsAttempts(t *testing.T) {
	t.Parallel()
	b := losers(t, 20)
	b.recoverWith(func(p *playbook.Playbook) { p.MaxAttempts, p.WindowDays = 6, 60 })
	began := b.now()
	if _, err := b.startAll(); err != nil {
		t.Fatal(err)
	}
	b.during(func() { b.live(began.AddDate(0, 0, 20)) })
	// every subscription has been renewed, and its new invoice has failed
	b.advance(began.AddDate(0, 0, 36).Sub(b.now()))
	b.audit()
	two := `FROM hunts h JOIN ghost_targets g ON g.merchant_id = h.merchant_id AND g.id = h.ghost_id
		WHERE h.began_at >= $1 AND h.state = 'active' AND jsonb_array_length(g.invoices) = 2
		AND EXISTS (SELECT FROM attempts a WHERE a.hunt_id = h.id AND a.result = 'declined')`
	several := b.Count("SELECT count(*) "+two, began)
	if several == 0 {
		t.Fatal("no hunt is about two invoices")
	}
	b.during(func() { b.live(began.AddDate(0, 0, 55)) })
	if n := b.Count(`SELECT count(*) FROM hunts h WHERE h.began_at >= $1
		AND 2 = (SELECT count(DISTINCT a.object) FROM attempts a WHERE a.merchant_id = h.merchant_id AND a.hunt_id = h.id AND a.result = 'declined')`, began); n == 0 {
		t.Errorf("none of %d hunts has charged both of its invoices", several)
	}
	if n := b.Count(`SELECT count(*) FROM attempts a WHERE a.result = 'declined' AND 6 <= (SELECT count(*) FROM attempts e WHERE e.object = a.object
		AND e.result = 'declined' AND e.sent_at < a.sent_at)`); n == 0 {
		t.Error("no invoice was charged again when its attempts had refilled")
	}
	if n := b.Count(`SELECT max(n) FROM (SELECT count(*) AS n FROM attempts a JOIN attempts e ON e.object = a.object AND e.sent_at <= a.sent_at
		AND e.sent_at > a.sent_at - interval '30 days' WHERE a.action = 'invoice_pay' AND e.action = 'invoice_pay' GROUP BY a.task_id) AS s`); n > 6 {
		t.Errorf("an invoice was charged %d times within 30 days", n)
	}
	if n := b.Count(`SELECT count(*) FROM attempts a JOIN attempts b ON b.customer = a.customer AND b.task_id <> a.task_id
		AND b.sent_at >= a.sent_at AND b.sent_at < a.sent_at + interval '24 hours' AND b.card = a.card AND a.result = 'declined' WHERE a.action = 'invoice_pay' AND b.action = 'invoice_pay'`); n != 0 {
		t.Errorf("%d charges came within a day of another with the same card", n)
	}
}

// A dry run foretells of several invoices what happens: one above the daily cap is passed over for
// the next, and the messages are about the oldest, whichever is charged.
func TestDryRunOfSeveralInvoices(t *testing.T) {
	t.Parallel()
	b := losers(t, 12)
	b.advance(36 * 24 * time.Hour)
	b.audit()
	b.correspond()
	const most = 1_000_000
	b.Exec("UPDATE ghost_targets SET invoices = jsonb_set(invoices, '{0,amount}', to_jsonb($1::bigint)), amount = amount + $1 WHERE status = 'open' AND jsonb_array_length(invoices) = 2", 2*most)
	p := playbook.Default()
	p.Mode, p.HoldoutPercent, p.DailyCap = state.ModeRecover, 0, map[string]int64{"usd": most, "eur": most, "jpy": most}
	p.Auto = false
	p.MaxAttempts, p.WindowDays, p.Steps = 12, 60, []playbook.Step{{AfterDays: 0, Channel: playbook.Email, Template: "payment_failed"}}
	run, err := b.s.DryRun(t.Context(), b.merchant, p)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range run.Data { // before a charge that is due at once changes what is owed
		if one.Action == playbook.Email {
			if b.Count("SELECT count(*) FROM ghost_targets WHERE id = $1 AND stripe_invoice_id = $2 AND (invoices -> 0 ->> 'amount')::bigint = $3", one.Ghost, one.Invoice, one.Amount) != 1 {
				t.Errorf("%+v is not about the oldest invoice", one)
			}
		}
	}
	if _, err := b.s.SetPlaybook(t.Context(), b.merchant, p); err != nil {
		t.Fatal(err)
	}
	began := b.now()
	if _, err := b.startAll(); err != nil {
		t.Fatal(err)
	}
	b.Exec("UPDATE scheduled_tasks SET run_at = run_at + interval '1 hour' WHERE kind <> 'hunt'")
	b.during(func() {
		b.await("the hunts begin", func() bool {
			return b.Count("SELECT count(*) FROM scheduled_tasks WHERE kind = 'hunt' AND params ->> 'do' = 'begin' AND status IN ('pending', 'running')") == 0
		})
	})
	charges := 0
	for _, one := range run.Data {
		switch one.Action {
		case forecast.ActionCharge, forecast.ActionTakeOver:
			charges++
			if one.Amount > most || b.Count("SELECT count(*) FROM scheduled_tasks WHERE kind LIKE 'invoice_%' AND created_at > now() - interval '1 hour' AND params ->> 'object' = $1 AND (params ->> 'amount')::bigint = $2", one.Invoice, one.Amount) == 0 {
				t.Errorf("%+v is foretold and not planned", one)
			}
		}
	}
	hunts := b.Count("SELECT count(*) FROM hunts WHERE began_at >= $1", began)
	if charges == 0 || hunts == 0 {
		t.Fatalf("%d hunts, %d charges are foretold", hunts, charges)
	}
}
