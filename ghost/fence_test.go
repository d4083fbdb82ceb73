package ghost

import (
	"errors"
	"testing"

	"phantom/db"
	"phantom/sandbox"
	"phantom/state"
	"phantom/task"
)

// facts counts what audits have read and not dropped.
func (b *bench) facts() (rows int) {
	b.t.Helper()
	for _, table := range []string{"audit_subscriptions", "audit_invoices", "audit_charges", "audit_disputes", "audit_intents"} {
		var some int
		if err := b.pool.QueryRow(b.t.Context(), "SELECT count(*) FROM "+table).Scan(&some); err != nil {
			b.t.Fatal(err)
		}
		rows += some
	}
	return rows
}

// claim takes the audit's task as a worker would.
func (b *bench) claim(id [16]byte) *task.Task {
	b.t.Helper()
	row, err := b.queries.TaskClaimOne(b.t.Context(), db.TaskClaimOneParams{MerchantID: b.merchant, ID: id, LeaseSeconds: 60})
	if err != nil {
		b.t.Fatal(err)
	}
	return &task.Task{MerchantID: row.MerchantID, ID: row.ID, Kind: row.Kind, Attempt: row.Attempts, Fence: row.Fence}
}

// Anyone who has lost the audit's lease neither ends it nor drops what it has read: another one
// goes on with both.
func TestLostLeaseEndsNoAudit(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 40})
	id, err := b.s.StartAudit(t.Context(), b.merchant, nil)
	if err != nil {
		t.Fatal(err)
	}
	late := b.claim(id)
	read, taken := make(chan struct{}), make(chan struct{})
	b.world.Fail(sandbox.Fault{Path: "/v1/invoices", Query: "status=open", After: true, Hold: func() { close(read); <-taken }})
	ended := make(chan error, 1)
	go func() { ended <- b.s.HandleAudit(t.Context(), late) }()
	<-read // all but the last list is stored
	if _, err := b.pool.Exec(t.Context(), "UPDATE scheduled_tasks SET status = 'pending', lease_until = NULL WHERE id = $1", id); err != nil {
		t.Fatal(err)
	}
	holder := b.claim(id)
	facts := b.facts()
	lateAudit := &audit{s: b.s, row: b.auditRow(id), task: late}
	if err := lateAudit.fail(t.Context(), errors.New("stripe says no")); !errors.Is(err, errTaken) {
		t.Errorf("the late one fails the audit: %v", err)
	}
	if err := lateAudit.dropFacts(t.Context()); err != nil || b.facts() != facts || facts == 0 {
		t.Errorf("the late one drops facts: %d of %d are left, %v", b.facts(), facts, err)
	}
	close(taken)
	if err := <-ended; !errors.Is(err, errTaken) {
		t.Errorf("the late one ends the audit: %v", err)
	}
	if row := b.auditRow(id); row.State != state.AuditRunning || b.facts() < facts {
		t.Fatalf("the audit is %s with %d facts", row.State, b.facts())
	}
	if err := b.s.HandleAudit(t.Context(), holder); err != nil {
		t.Fatal(err)
	}
	if row := b.auditRow(id); row.State != state.AuditSucceeded || b.facts() != 0 {
		t.Errorf("the audit is %s with %d facts", row.State, b.facts())
	}
	b.assertTruth()
}

func (b *bench) auditRow(id [16]byte) db.Audit {
	b.t.Helper()
	row, err := b.queries.AuditGet(b.t.Context(), db.AuditGetParams{MerchantID: b.merchant, ID: id})
	if err != nil {
		b.t.Fatal(err)
	}
	return row
}
