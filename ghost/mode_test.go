package ghost

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"phantom/db/dbtest"
	"phantom/sandbox"
	"phantom/state"
)

// switchMode connects the merchant in the other mode, as a handshake would.
func (b *bench) switchMode() {
	b.t.Helper()
	if err := pgx.BeginFunc(b.t.Context(), b.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(b.t.Context(), "UPDATE merchants SET livemode = NOT livemode, connected_at = clock_timestamp() WHERE id = $1", b.merchant); err != nil {
			return err
		}
		return Connected(b.t.Context(), tx, b.merchant)
	}); err != nil {
		b.t.Fatal(err)
	}
}

// Who comes back in the other mode has nothing of the old one in any list or sum, and a new audit.
// Their budgets stay, and so does everything when they come back in the same mode.
func TestReconnectionInTheOtherModeBeginsAnew(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 40})
	b.audit()
	dbtest.Exec(t, b.pool, `UPDATE audits SET totals = jsonb_set(totals, '{wasted_attempts}', '7')`)
	dbtest.Exec(t, b.pool, `INSERT INTO attempt_budgets (merchant_id, subject, hash, attempts) VALUES ($1, 'card', sha256('x'), 3)`, b.merchant)
	invoice := b.turn("fail_renewal", "")
	if err := b.s.Refresh(t.Context(), b.merchant, b.read("/v1/invoices/" + invoice)["subscription"].(string)); err != nil {
		t.Fatal(err)
	}
	if err := Connected(t.Context(), b.pool, b.merchant); err != nil { // in the same mode
		t.Fatal(err)
	}
	before, err := b.s.Summary(t.Context(), b.merchant)
	if err != nil || len(before.Currencies) == 0 || before.WastedAttempts != 7 {
		t.Fatalf("%+v, %v: this proves nothing", before, err)
	}
	was := b.runningAudit()

	b.switchMode()
	page, err := b.s.List(t.Context(), b.merchant, Filter{Limit: 10})
	if err != nil || len(page.Ghosts) != 0 {
		t.Errorf("%d ghosts of the other mode, %v", len(page.Ghosts), err)
	}
	after, err := b.s.Summary(t.Context(), b.merchant)
	if err != nil || len(after.Currencies) != 0 || after.WastedAttempts != 0 {
		t.Errorf("%+v, %v", after, err)
	}
	if n := dbtest.Count(t, b.pool, "SELECT count(*) FROM ghost_refreshes"); n != 0 {
		t.Errorf("%d tickets are left", n)
	}
	if n := dbtest.Count(t, b.pool, "SELECT count(*) FROM attempt_budgets"); n != 1 {
		t.Errorf("%d budgets are left", n)
	}
	if row := b.auditRow(was); row.State != state.AuditFailed {
		t.Errorf("the other mode's audit is %s", row.State)
	}
	is := b.runningAudit()
	if row := b.auditRow(is); is == was || !row.Livemode {
		t.Errorf("the new audit has livemode %t", row.Livemode)
	}
	if err := b.queue().RunOne(t.Context(), b.merchant, was); err != nil { // drops what it has read
		t.Error(err)
	}
	if err := b.queue().RunOne(t.Context(), b.merchant, is); err != nil {
		t.Fatal(err)
	}
	b.assertTruth()
	found := fmt.Sprint(b.versions())
	if err := Connected(t.Context(), b.pool, b.merchant); err != nil {
		t.Fatal(err)
	}
	if again := fmt.Sprint(b.versions()); again != found {
		t.Errorf("connecting again in the same mode made of %s %s", found, again)
	}
}

func (b *bench) runningAudit() (id [16]byte) {
	b.t.Helper()
	if err := b.pool.QueryRow(b.t.Context(), "SELECT id FROM audits WHERE merchant_id = $1 AND state = 'running'", b.merchant).Scan(&id); err != nil {
		b.t.Fatal(err)
	}
	return id
}

// Who has read in one mode writes nothing in the other.
func TestNothingIsWrittenInTheOtherMode(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 40})
	b.audit()
	subscription := b.ghosts()[0].StripeSubscriptionID
	b.world.Fail(sandbox.Fault{Path: "/v1/charges", After: true, Hold: b.switchMode})
	if err := b.s.Refresh(t.Context(), b.merchant, subscription); !errors.Is(err, errOtherMode) {
		t.Errorf("the refresh ends with %v", err)
	}
	if ghosts := b.ghosts(); len(ghosts) != 0 {
		t.Errorf("the refresh wrote %d ghosts", len(ghosts))
	}
	running := b.runningAudit()
	b.world.Fail(sandbox.Fault{Path: "/v1/invoices", Query: "status=open", After: true, Hold: b.switchMode})
	late := &audit{s: b.s, row: b.auditRow(running), task: b.claim(running)}
	if err := b.s.HandleAudit(t.Context(), late.task); err == nil {
		t.Error("the audit goes on in the other mode")
	}
	// Even where it judges already.
	var err error
	if late.reader, err = b.connect.Reader(t.Context(), b.merchant); err != nil {
		t.Fatal(err)
	}
	if _, err := late.judgeAll(t.Context(), false); !errors.Is(err, errOtherMode) {
		t.Errorf("judging ends with %v", err)
	}
	if ghosts := b.ghosts(); len(ghosts) != 0 {
		t.Errorf("the audit wrote %d ghosts", len(ghosts))
	}
}
