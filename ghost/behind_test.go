package ghost

import (
	"testing"

	"phantom/debt"
	"phantom/sandbox"
	"phantom/state"
)

// A debt that is paid closes as paid, however many invoices have come since: it is read by its id.
func TestPaidBehindAHundred(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.audit()
	g := b.ghosts()[0]
	b.change(sandbox.Change{Do: "renewals", ID: g.StripeSubscriptionID, Amount: 130})
	b.reread(g.StripeSubscriptionID)
	if open := b.ghosts()[0]; open.Status != state.GhostOpen || open.Amount != g.Amount || !open.Hidden {
		t.Fatalf("behind newer ones it is %+v", open)
	}
	b.change(sandbox.Change{Do: "pay", ID: g.StripeInvoiceID})
	b.reread(g.StripeSubscriptionID)
	if paid := b.ghosts()[0]; paid.Status != state.GhostClosed || *paid.ClosedReason != debt.Paid {
		t.Errorf("it is %s, %s", paid.Status, text0(paid.ClosedReason))
	}
}

// A debt that the merchant gives up stays the ghost that it was, of another kind; and it closes as
// paid.
func TestADebtBecomesOneOfAnotherKind(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.audit()
	g := b.ghosts()[0]
	b.change(sandbox.Change{Do: "mark_uncollectible", ID: g.StripeInvoiceID})
	b.reread(g.StripeSubscriptionID)
	if all := b.ghosts(); len(all) != 1 || all[0].ID != g.ID || all[0].Kind != debt.WrittenOff || all[0].Status != state.GhostOpen ||
		!all[0].DiscoveredAt.Equal(g.DiscoveredAt) {
		t.Fatalf("%+v", all)
	}
	b.assertTruth()
	before := b.rows()
	b.audit()
	for key, row := range b.rows() {
		if before[key] != row {
			t.Errorf("an audit makes of\n%s\n%s", before[key], row)
		}
	}
	b.change(sandbox.Change{Do: "pay", ID: g.StripeInvoiceID})
	b.reread(g.StripeSubscriptionID)
	if paid := b.ghosts()[0]; paid.Status != state.GhostClosed || *paid.ClosedReason != debt.Paid {
		t.Errorf("it is %s, %s", paid.Status, text0(paid.ClosedReason))
	}
}

// What a bank has taken back is told apart, and is nothing any more once the dispute is won after
// all.
func TestAPaymentIsTakenBack(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.audit()
	g := b.ghosts()[0]
	b.change(sandbox.Change{Do: "pay", ID: g.StripeInvoiceID})
	reader, err := b.connect.Reader(t.Context(), b.merchant)
	if err != nil {
		t.Fatal(err)
	}
	r := &rereading{reader: reader, now: now}
	charges, err := r.charges(t.Context(), g.StripeCustomerID, epoch)
	if err != nil {
		t.Fatal(err)
	}
	b.change(sandbox.Change{Do: "dispute", ID: charges[0].id})
	b.reread(g.StripeSubscriptionID)
	for _, g := range b.ghosts() {
		if g.Status == state.GhostOpen {
			t.Errorf("while the bank decides there is %s", g.Kind)
		}
	}
	b.change(sandbox.Change{Do: "close_dispute", Status: "lost"})
	b.reread(g.StripeSubscriptionID)
	found := 0
	for _, lost := range b.ghosts() {
		if lost.Status == state.GhostOpen {
			found++
			if lost.Kind != debt.ChargedBack || lost.Amount != g.Amount {
				t.Errorf("%+v", lost)
			}
		}
	}
	if found != 1 {
		t.Errorf("%d ghosts", found)
	}
	b.assertTruth()
}

func (b *bench) change(c sandbox.Change) {
	b.t.Helper()
	c.Account = b.account
	if _, err := b.world.Change(c); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) reread(subscription string) {
	b.t.Helper()
	if err := b.s.Refresh(b.t.Context(), b.merchant, subscription); err != nil {
		b.t.Fatal(err)
	}
}
