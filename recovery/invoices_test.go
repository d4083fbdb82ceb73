package recovery

import "testing"

// A hunt gives its invoices up one by one: when the attempts on the first are used up, the next one has its own.
func TestEachInvoiceHasItsAttempts(t *testing.T) {
	t.Parallel()
	b := losers(t, 20)
	b.recoverWith(func(p *Playbook) { p.MaxAttempts, p.WindowDays = 12, 60 })
	began := b.now()
	if _, err := b.s.Start(t.Context(), b.merchant, nil); err != nil {
		t.Fatal(err)
	}
	b.during(func() { b.live(began.AddDate(0, 0, 20)) })
	b.advance(began.AddDate(0, 0, 36).Sub(b.now())) // every subscription has been renewed, and its new invoice has failed
	b.audit()
	two := `FROM hunts h JOIN ghost_targets g ON g.merchant_id = h.merchant_id AND g.id = h.ghost_id
		WHERE h.began_at >= $1 AND h.state = 'active' AND jsonb_array_length(g.invoices) = 2 AND cardinality(h.invoices_over) = 1`
	several := b.count("SELECT count(*) "+two, began)
	if several == 0 {
		t.Fatal("no hunt is about two invoices")
	}
	b.during(func() { b.live(began.AddDate(0, 0, 55)) })
	if n := b.count(`SELECT count(*) FROM hunts h WHERE h.began_at >= $1
		AND 2 = (SELECT count(DISTINCT a.object) FROM attempts a WHERE a.merchant_id = h.merchant_id AND a.hunt_id = h.id AND a.result = 'declined')`, began); n < several {
		t.Errorf("%d of %d hunts have charged both of their invoices", n, several)
	}
	if n := b.count(`SELECT count(*) FROM attempts a JOIN attempts b ON b.customer = a.customer AND b.task_id <> a.task_id
		AND b.sent_at >= a.sent_at AND b.sent_at < a.sent_at + interval '24 hours' WHERE a.action = 'invoice_pay' AND b.action = 'invoice_pay'`); n != 0 {
		t.Errorf("%d charges came within a day of another to the same customer", n)
	}
}
