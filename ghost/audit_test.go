package ghost

import (
	"testing"

	"phantom/sandbox"
)

func TestAuditFindsGhosts(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	row := b.audit()
	t.Logf("%s %d objects %s", row.State, row.Objects, row.Totals)
	for _, g := range b.ghosts() {
		t.Logf("%s %s %d %s hidden=%t %s %v %d %s", g.Status, g.StripeSubscriptionID, g.Amount, g.Currency, g.Hidden, g.DeclineClass, text0(g.DeclineCode), g.AttemptCount, g.Rule)
	}
}
