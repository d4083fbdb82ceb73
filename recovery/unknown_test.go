package recovery

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"phantom/billing"
	"phantom/gate"
	"phantom/playbook"
	"phantom/sandbox"
)

// A decline that asks the customer to act is about its invoice alone (docs/rules.md).
func TestCustomerDeclineIsOfOneInvoice(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.movable()
	b.audit()
	b.Exec(`UPDATE ghost_targets SET invoices = jsonb_build_array(jsonb_build_object('id', stripe_invoice_id, 'amount', amount), jsonb_build_object('id', 'in_other', 'amount', 700))`)
	b.hunted(nil)
	b.try(b.ids("SELECT id FROM scheduled_tasks WHERE params ->> 'do' = 'begin'")[0])
	b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/invoices/", Status: 402, Body: `{"error":{"type":"card_error","code":"incorrect_cvc","message":"x"}}`})
	b.try(b.planned(gate.KindPay))
	if object := b.Text("SELECT params ->> 'object' FROM scheduled_tasks WHERE id = $1", b.planned(gate.KindPay)); object != "in_other" {
		t.Errorf("%s is charged next: %s", object, b.Text("SELECT string_agg(note, E'\n' ORDER BY id) FROM hunt_notes"))
	}
}

// A charge that a person gives up in review, after a restore, counts as sent (docs/rules.md, 6).
func TestGivenUpAfterRestoreCountsAsSent(t *testing.T) {
	t.Parallel()
	b, ids := setupCharges(t, 1, nil)
	b.try(ids[0])
	b.forget(ids[0])
	b.hideEvents()
	b.later(eventPatience + time.Hour)
	if status := b.try(ids[0]); status != "needs_review" {
		t.Fatal(status)
	}
	// phantom tasks cancel
	b.Exec("UPDATE scheduled_tasks SET status = 'canceled', finished_at = clock_timestamp() WHERE id = $1", ids[0])
	again, _ := planAgain(b.merchant, []byte(b.Text("SELECT params FROM scheduled_tasks WHERE id = $1", ids[0])))
	if _, err := b.queries.TaskEnqueue(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	b.try(again.ID)
	if got := b.Text("SELECT result FROM attempts WHERE task_id = $1", ids[0]); got != "unknown" {
		t.Errorf("what was executed, and is given up, is booked as %s", got)
	}
}

// What was read a minute ago lets no message leave.
func TestMessageOfAnOldLook(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	var ahead atomic.Int64
	p.at(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	id, _ := p.plan(ada, playbook.Email, "payment_failed")
	// the answer takes a minute; it is paid meanwhile
	p.world.set(func() { p.world.reading = func() { ahead.Store(int64(time.Minute)) } })
	status := p.try(id)
	if _, emails, _ := p.world.took(); emails != 0 {
		t.Errorf("%s: an email left a minute after the beginning of what allowed it", status)
	}
}

// A later event of a charge, which bears no key, does not hide that the event of its making is
// late.
func TestLaterEventHidesTheKey(t *testing.T) {
	t.Parallel()
	b, ids := setupCharges(t, 1, nil)
	b.turn(sandbox.Change{Do: "to_debit", Status: "bounces"})
	b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/invoices/", Drop: true, After: true})
	b.hideEvents()
	b.try(ids[0])
	b.world.Mend()
	reader, err := b.connect.Reader(t.Context(), b.merchant)
	if err != nil {
		t.Fatal(err)
	}
	charges, err := billing.ReadCharges(t.Context(), reader, b.Text("SELECT stripe_customer_id FROM ghost_targets"), time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	b.world.Fail(sandbox.Fault{Method: http.MethodGet, Path: "/v1/events", Times: -1, Status: 200, Body: fmt.Sprintf(
		`{"object":"list","has_more":false,"data":[{"id":"evt_1","type":"charge.failed","request":{"id":null,"idempotency_key":null},"data":{"object":{"id":%q}}}]}`, charges[0].ID)})
	b.sentAgo(ids[0], 21*time.Hour)
	status := b.try(ids[0])
	if got := b.Text("SELECT coalesce(result, '-') FROM attempts WHERE task_id = $1", ids[0]); got == "absent" {
		t.Errorf("%s: a debit that was executed and bounced within the minute is booked as %s while charge.pending is late", status, got)
	}
}
