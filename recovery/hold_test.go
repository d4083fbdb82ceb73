package recovery

import (
	"net/http"
	"strings"
	"testing"

	"phantom/playbook"
	"phantom/sandbox"
)

// A take-over that Stripe refuses is not asked for again and again: it waits, and Smart Retries
// keeps the invoice meanwhile.
func TestRefusedTakeOverWaits(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1})
	b.audit()
	b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/invoices/", Status: 400, Times: -1})
	b.recoverWith(func(p *playbook.Playbook) { p.TakeOver = true })
	if _, err := b.startAll(); err != nil {
		t.Fatal(err)
	}
	b.work()
	b.await("every invoice was asked for", func() bool {
		return b.Count("SELECT count(*) FROM attempts WHERE action = 'invoice_hold' AND result = 'refused'") > 2 &&
			b.Count("SELECT count(*) FROM scheduled_tasks WHERE status = 'running' OR status = 'pending' AND run_at <= phantom_now()") == 0
	})
	if n := b.Count("SELECT max(n) FROM (SELECT count(*) AS n FROM attempts WHERE action = 'invoice_hold' AND sent_at IS NOT NULL GROUP BY object) AS s"); n != 1 {
		t.Errorf("an invoice was asked for %d times within the hour", n)
	}
	if n := b.Count("SELECT count(*) FROM hunts h WHERE charges_over IS NULL AND cardinality(h.invoices) = 1 AND EXISTS (SELECT FROM attempts a WHERE a.hunt_id = h.id AND a.result = 'refused')"); n != 0 {
		t.Errorf("%d hunts go on", n)
	}
}

// What is never going to be charged is not taken away from Smart Retries.
func TestNothingIsTakenOverForNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1})
	b.audit()
	b.recoverWith(func(p *playbook.Playbook) { p.TakeOver = true })
	if _, err := b.startAll(); err != nil {
		t.Fatal(err)
	}
	b.work()
	b.await("all that is due is done", func() bool {
		return b.Count("SELECT count(*) FROM hunts h WHERE NOT EXISTS (SELECT FROM hunt_notes n WHERE n.hunt_id = h.id AND n.note NOT LIKE 'begun%')") == 0 &&
			b.Count("SELECT count(*) FROM scheduled_tasks WHERE status = 'running' OR status = 'pending' AND run_at <= phantom_now()") == 0
	})
	held := 0
	for _, e := range b.world.Ledger(b.account) {
		if e.Method != http.MethodPost || !strings.HasPrefix(e.Path, "/v1/invoices/") || strings.HasSuffix(e.Path, "/pay") {
			continue
		}
		held++
		if why := b.Text(`SELECT coalesce(max(h.charges_over), '') FROM hunts h WHERE $1 = ANY (h.invoices) AND NOT EXISTS (
			SELECT FROM attempts a WHERE a.hunt_id = h.id AND a.action = 'invoice_pay' AND a.sent_at IS NOT NULL)`, e.Object); why != "" {
			t.Errorf("%s was taken over and not charged: %s", e.Object, why)
		}
	}
	if held == 0 {
		t.Error("nothing was taken over")
	}
}
