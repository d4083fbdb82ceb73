package ghost

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/connect"
	"phantom/db"
	"phantom/internal/stage"
	"phantom/sandbox"
	"phantom/state"
)

// No matter what Stripe does wrong for a while, the audit finds the same.
func TestAuditsSurviveFaults(t *testing.T) {
	t.Parallel()
	lists := []string{"/v1/subscriptions", "/v1/invoices", "/v1/charges", "/v1/disputes"}
	for i, test := range []struct {
		name  string
		fault sandbox.Fault
	}{
		{"429, too fast", sandbox.Fault{Status: 429, Times: 3, Every: 2}},
		{"429, object locked", sandbox.Fault{Status: 429, Code: "lock_timeout", Times: 3}},
		{"500", sandbox.Fault{Status: 500, Times: 3, Every: 2}},
		{"502 of a proxy", sandbox.Fault{Status: 502, Body: "<html><h1>Bad Gateway</h1></html>", Header: http.Header{"Content-Type": {"text/html"}}, Times: 3}},
		{"200 of a proxy", sandbox.Fault{Status: 200, Body: "<html>maintenance</html>", Header: http.Header{"Content-Type": {"text/html"}}, Times: 2}},
		{"connection closed", sandbox.Fault{Drop: true, Times: 3}},
		{"closed after the work", sandbox.Fault{Drop: true, After: true, Times: 3}},
		{"half an answer", sandbox.Fault{Truncate: true, Times: 3, Every: 2}},
		{"page 2 fails", sandbox.Fault{Status: 500, Skip: 1, Times: 2, Query: "starting_after"}},
		{"rows appear while it reads", sandbox.Fault{Rows: 7, Times: 3}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Seed: uint64(100 + i)})
			for _, list := range lists {
				fault := test.fault
				fault.Path = list
				b.world.Fail(fault)
			}
			if row := b.audit(); row.State != state.AuditSucceeded {
				t.Errorf("audit %s: %v", row.State, row.Error)
			}
			b.assertTruth()
		})
	}
}

// A window that cannot be read fails the audit by name, and what the others held is kept. The next
// audit, with Stripe well again, finds the whole truth.
func TestAuditNamesTheWindowThatFails(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	b.world.Fail(sandbox.Fault{Path: "/v1/disputes", Status: 400, Times: 1000})
	id, err := b.s.StartAudit(t.Context(), b.merchant, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = b.queue().RunOne(t.Context(), b.merchant, id)
	row, err := b.queries.AuditGet(t.Context(), db.AuditGetParams{MerchantID: b.merchant, ID: id})
	if err != nil {
		t.Fatal(err)
	}
	if row.State != state.AuditFailed || row.Error == nil || !strings.Contains(*row.Error, "disputes created from") || !strings.Contains(*row.Error, "stripe answered 400") {
		t.Errorf("audit %s: %v", row.State, row.Error)
	}
	if len(b.ghosts()) == 0 {
		t.Error("nothing is kept")
	}
	b.world.Mend()
	if row := b.audit(); row.State != state.AuditSucceeded {
		t.Errorf("the next audit %s", row.State)
	}
	b.runTasks() // the subscriptions that the failed audit left for later
	b.assertTruth()
}

// runTasks does all that is pending.
func (b *bench) runTasks() {
	b.t.Helper()
	for {
		var merchant, id uuid.UUID
		err := b.pool.QueryRow(b.t.Context(), "SELECT merchant_id, id FROM scheduled_tasks WHERE status = 'pending' AND run_at <= now() LIMIT 1").Scan(&merchant, &id)
		if err != nil {
			return
		}
		if err := b.queue().RunOne(b.t.Context(), merchant, id); err != nil {
			b.t.Fatalf("%v\n%s", err, b.log)
		}
	}
}

// An audit since a date judges nobody by half of their invoices: anyone who shows up in it is read
// whole.
func TestAuditSinceADateIsRight(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Seed: 7})
	since := time.Now().AddDate(0, 0, -20)
	id, err := b.s.StartAudit(t.Context(), b.merchant, &since)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.queue().RunOne(t.Context(), b.merchant, id); err != nil {
		t.Fatal(err)
	}
	truth := make(map[string]int64)
	for _, g := range b.world.Truth(b.account) {
		truth[g.Subscription+g.Currency] = g.Amount
	}
	found := b.ghosts()
	for _, g := range found {
		if truth[g.StripeSubscriptionID+g.Currency] != g.Amount {
			t.Errorf("%s owes %d, truly %d", g.StripeSubscriptionID, g.Amount, truth[g.StripeSubscriptionID+g.Currency])
		}
	}
	if len(found) == 0 || len(found) >= len(truth) {
		t.Errorf("%d of %d ghosts: this proves nothing", len(found), len(truth))
	}
}

// Stopping an audit that has got somewhere gives it back at once, to go on where it was.
func TestStoppedAuditIsGivenBack(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	id, err := b.s.StartAudit(t.Context(), b.merchant, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	b.world.Fail(sandbox.Fault{Path: "/v1/invoices", Query: "status=open", Hold: stop})
	if err := b.queue().RunOne(ctx, b.merchant, id); err == nil {
		t.Fatal("the audit was not stopped")
	}
	if row, err := b.queries.TaskGet(t.Context(), db.TaskGetParams{MerchantID: b.merchant, ID: id}); err != nil || row.Status != state.TaskPending {
		t.Fatalf("the task is %s, %v\n%s", row.Status, err, b.log)
	}
	if err := b.queue().RunOne(t.Context(), b.merchant, id); err != nil {
		t.Fatal(err)
	}
	b.assertTruth()
}

// A merchant who has withdrawn their consent gets told what to do.
func TestAuditOfARevokedToken(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 5})
	b.world.Fail(sandbox.Fault{Path: "/v1/charges", Status: 401, Times: 1000})
	// the audit's first look at it passes
	b.world.Fail(sandbox.Fault{Path: "/v1/account", Status: 401, Times: 1000, Skip: 2})
	id, err := b.s.StartAudit(t.Context(), b.merchant, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.queue().RunOne(t.Context(), b.merchant, id); err == nil {
		t.Error("the task succeeded")
	}
	row, err := b.queries.AuditGet(t.Context(), db.AuditGetParams{MerchantID: b.merchant, ID: id})
	if err != nil {
		t.Fatal(err)
	}
	if row.State != state.AuditFailed || row.Error == nil || !strings.Contains(*row.Error, connect.ErrRevoked.Error()) {
		t.Errorf("audit %s: %v", row.State, row.Error)
	}
}

// Two merchants with the same ids of customers, subscriptions and invoices keep their ghosts apart.
func TestAuditsOfTwoMerchantsWithTheSameIDs(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{SameIDs: true, Merchants: 2})
	other := *b
	other.account = b.world.Accounts()[1]
	other.connectAs(other.account)
	b.audit()
	before := b.versions()
	other.audit()
	b.assertTruth()
	other.assertTruth()
	if after := b.versions(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("one merchant's audit changed another's ghosts")
	}
	shared := make(map[string]bool)
	for _, g := range b.ghosts() {
		shared[g.StripeCustomerID] = true
	}
	count := 0
	for _, g := range other.ghosts() {
		if shared[g.StripeCustomerID] {
			count++
		}
	}
	if count == 0 {
		t.Error("the two share no customer id: this proves nothing")
	}
}

// connectAs connects another merchant of the sandbox by a code of the platform's page.
func (b *bench) connectAs(account string) {
	b.t.Helper()
	page, browser, err := b.connect.Begin(b.t.Context(), "")
	if err != nil {
		b.t.Fatal(err)
	}
	state, code := stage.Agree(b.t, page, account)
	got, err := b.connect.Complete(b.t.Context(), connect.Callback{State: state, Code: code, Browser: browser})
	if err != nil || got != account {
		b.t.Fatalf("connected %s, want %s: %v", got, account, err)
	}
	b.merchant, err = b.connect.Merchant(b.t.Context(), account)
	if err != nil {
		b.t.Fatal(err)
	}
}
