package ghost

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/sandbox"
	"phantom/state"
)

// An email that does not open costs its own row alone, in the list that a merchant reads and in an
// audit, whether it is a ghost's or one that the audit itself has read.
func TestEmailsThatDoNotOpen(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1})
	b.audit()
	var open []db.GhostTarget
	for _, g := range b.ghosts() {
		if g.Status == state.GhostOpen && Email(g.ID, g.Email) != "" {
			open = append(open, g)
		}
	}
	if len(open) < 3 {
		t.Fatalf("%d open ghosts with an email prove nothing", len(open))
	}
	ofGhost, ofFacts, ofBoth := open[0], open[1], open[2]
	emails := func() map[uuid.UUID]string {
		page, err := b.s.List(t.Context(), b.merchant, Filter{Limit: 1000})
		if err != nil {
			t.Fatalf("one email that does not open fails the list: %v", err)
		}
		found := make(map[uuid.UUID]string)
		for _, g := range page.Ghosts {
			if g.Email != nil {
				found[g.ID] = *g.Email
			}
		}
		return found
	}
	before := emails()
	dbtest.Exec(t, b.pool, "UPDATE ghost_targets SET email.tag = md5('x') WHERE id = ANY ($1)", []uuid.UUID{ofGhost.ID, ofBoth.ID})
	shown := emails()
	if len(shown) != len(before)-2 || shown[ofGhost.ID] != "" || shown[ofBoth.ID] != "" {
		t.Errorf("%d of %d emails are shown", len(shown), len(before))
	}

	// As an audit reads an invoice, its email is damaged on the way into the table.
	dbtest.Exec(t, b.pool, `CREATE FUNCTION damage() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		NEW.email := ROW((NEW.email).ciphertext, (NEW.email).iv, md5('x'), (NEW.email).key_id, (NEW.email).context)::sealed_token;
		RETURN NEW; END $$`)
	dbtest.Exec(t, b.pool, `CREATE TRIGGER damage BEFORE INSERT ON audit_invoices FOR EACH ROW WHEN (NEW.email IS NOT NULL AND NEW.subscription IN ('`+
		ofFacts.StripeSubscriptionID+"', '"+ofBoth.StripeSubscriptionID+"')) EXECUTE FUNCTION damage()")
	versions := b.versions()
	if row := b.audit(); row.State != state.AuditSucceeded {
		t.Fatalf("the audit %s: %v", row.State, row.Error)
	}
	b.assertTruth()
	after := emails()
	for id, email := range before {
		if want := map[bool]string{true: "", false: email}[id == ofBoth.ID]; after[id] != want {
			t.Errorf("ghost %s is shown with another email than before", id)
		}
	}
	if again := b.versions(); len(again) != len(versions) {
		t.Errorf("%d ghosts became %d", len(versions), len(again))
	}
	const line = "emails that do not open are left out"
	if log := b.log.String(); strings.Count(log, line) != 1 || !strings.Contains(log, "ghosts=2") {
		t.Errorf("%d lines say so:\n%s", strings.Count(log, line), log)
	}

	// What Stripe says next time makes it whole.
	dbtest.Exec(t, b.pool, "DROP TRIGGER damage ON audit_invoices")
	b.audit()
	if healed := emails(); healed[ofBoth.ID] != before[ofBoth.ID] {
		t.Error("the next audit has not put the email back")
	}
}
