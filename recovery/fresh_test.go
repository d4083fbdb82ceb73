package recovery

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"phantom/connect"
	"phantom/gate"
	"phantom/message"
	"phantom/sandbox"
)

// Stripe may be slow, and its pace hold a request back, after everything was looked at: then it is
// looked at again.
func TestLooksAreFreshWhenARequestLeaves(t *testing.T) {
	t.Parallel()
	b, id := setupCharge(t)
	b.connect = connect.New(connect.Config{APIBase: b.url, RateLimit: 10, Log: slog.New(slog.DiscardHandler)}, b.pool)
	b.s = New(b.pool, b.connect, message.New(b.pool, b.connect, message.Config{}), atOnce{}, Config{Log: slog.New(slog.DiscardHandler)})
	invoice := b.Text("SELECT stripe_invoice_id FROM ghost_targets")
	last := sandbox.Fault{Method: http.MethodGet, Path: "/v1/invoices/", After: true}
	last.Hold = func() {
		// a slow answer, and a wait that is short enough to be waited for
		time.Sleep(2 * time.Second)
		b.Exec("UPDATE stripe_rates SET next_at = clock_timestamp() - interval '1 second' + $1", gate.Freshness)
		if _, err := b.world.Change(sandbox.Change{Account: b.account, Do: "pay_out_of_band", ID: invoice}); err != nil {
			t.Error(err)
		}
	}
	b.world.Fail(last)
	status := b.try(id)
	if n := len(b.world.Ledger(b.account)); n != 0 {
		t.Errorf("%d requests left after the invoice was paid, and it is %s", n, status)
	}
	if result := b.Text("SELECT coalesce(result, 'none') FROM attempts WHERE task_id = $1", id); result != "not_sent" {
		t.Errorf("the attempt's result is %s", result)
	}
}

// A ghost that closes while its hunt is created has none.
func TestNoHuntOfAGhostThatCloses(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.audit()
	b.recoverWith(nil)
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), "UPDATE ghost_targets SET status = 'closed', closed_reason = 'paid', closed_at = phantom_now()"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := b.startAll()
		done <- err
	}()
	b.await("it waits for the one who closes the ghost, or is through", func() bool {
		return len(done) == 1 || b.blocked()
	})
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := b.Count("SELECT count(*) FROM hunts"); n != 0 {
		t.Errorf("%d hunts of a closed ghost", n)
	}
}

// Where an account has had more events around a charge than are looked through, nothing leaves
// again, and a person decides.
func TestTooManyEventsComeToAPerson(t *testing.T) {
	t.Parallel()
	b, id := setupCharge(t)
	b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/invoices/", Drop: true, After: true})
	event := `{"id":"evt_1","object":"event","type":"charge.failed","data":{"object":{"id":"ch_1"}},"request":{"idempotency_key":"another"}}`
	b.world.Fail(sandbox.Fault{Method: http.MethodGet, Path: "/v1/events", Times: -1, Status: http.StatusOK, Body: `{"object":"list","data":[` + event + `],"has_more":true}`})
	b.during(func() {
		b.await("it comes to a person", func() bool {
			return b.Count("SELECT count(*) FROM scheduled_tasks WHERE id = $1 AND status = 'needs_review'", id) == 1
		})
	})
	if n := len(b.world.Ledger(b.account)); n != 1 {
		t.Errorf("%d charges were executed", n)
	}
	if why := b.Text("SELECT last_error FROM scheduled_tasks WHERE id = $1", id); !strings.Contains(why, "dashboard") {
		t.Errorf("a person is told %q", why)
	}
}
