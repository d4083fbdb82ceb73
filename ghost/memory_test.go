package ghost

import (
	"reflect"
	"testing"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/oracle"
	"phantom/sandbox"
	"phantom/state"
)

// A refresh remembers of a customer what an audit does, and both know the failures of what is owed.
func TestAuditAndRefreshRememberTheSame(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 40})
	b.audit()
	var open []db.GhostTarget
	var ids []uuid.UUID
	for _, g := range b.ghosts() {
		if g.Status == state.GhostOpen {
			open, ids = append(open, g), append(ids, g.ID)
		}
	}
	remembered := func() map[uuid.UUID]oracle.Memory {
		t.Helper()
		all, err := oracle.Memories(t.Context(), db.New(b.pool), b.merchant, ids)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	audited := remembered()
	dbtest.Exec(t, b.pool, "DELETE FROM ghost_memories")
	for _, g := range open {
		if err := b.s.Refresh(t.Context(), b.merchant, g.StripeSubscriptionID); err != nil {
			t.Fatal(err)
		}
	}
	known := 0
	for id, m := range remembered() {
		// an audit remembers nobody who was never refused
		if was, is := audited[id]; is && !reflect.DeepEqual(m, was) {
			t.Errorf("%s: a refresh remembers %+v, the audit %+v", id, m, was)
		}
	}
	for _, g := range open {
		if len(audited[g.ID].Failures(g.StripeInvoiceID)) > 0 {
			known++
		}
	}
	if known < len(open)/2 || known == 0 {
		t.Errorf("the failures of %d of %d ghosts are remembered", known, len(open))
	}
}
