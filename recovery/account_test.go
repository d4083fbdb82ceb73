package recovery

import (
	"testing"
	"time"

	"phantom/sandbox"
)

// hunted begins a hunt of one ghost, whose charges wait for a day that does not come.
func (b *bench) hunted(change func(*Playbook)) {
	b.t.Helper()
	b.recoverWith(change)
	if _, err := b.s.Start(b.t.Context(), b.merchant, nil); err != nil {
		b.t.Fatal(err)
	}
}

// turn gives the sandbox's world a turn about the first ghost's invoice.
func (b *bench) turn(do string, amount int64) {
	b.t.Helper()
	if _, err := b.world.Change(sandbox.Change{Account: b.account, Do: do, Amount: amount, ID: b.text("SELECT stripe_invoice_id FROM ghost_targets")}); err != nil {
		b.t.Fatal(err)
	}
}

// What came for an invoice before its hunt began is not what the hunt has brought, and neither is what a credit note took off or what
// went back at once. The next test shows it of whole invoices in the sandbox.
func TestMoneySinceAHuntBegan(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 3, 1, 12, 0, 0, 500, time.UTC)
	before, after := began.Add(-time.Hour).Unix(), began.Add(time.Hour).Unix()
	came := func(at, amount, refunded int64) charge {
		return charge{Status: "succeeded", Created: at, Amount: amount, Refunded: refunded}
	}
	failed := charge{Status: "failed", Created: after, Amount: 100}
	pending := charge{Status: "pending", Created: after, Amount: 100}
	for name, test := range map[string]struct {
		status  string
		paidAt  int64
		paid    int64 // Stripe's amount_paid
		charges []charge
		owed    int64
		want    int64
	}{
		"all of it":         {"paid", after, 100, []charge{came(after, 100, 0), failed}, 100, 100},
		"outside of Stripe": {"paid", after, 100, []charge{failed}, 100, 100},
		"a part before":     {"paid", after, 100, []charge{came(after, 60, 0), came(before, 40, 0)}, 60, 60},
		"a part before, the rest outside of Stripe":   {"paid", after, 100, []charge{came(before, 40, 0)}, 60, 60},
		"a part before, not as a charge":              {"paid", after, 100, []charge{came(after, 60, 0)}, 60, 60},
		"a part before, then a credit note":           {"paid", after, 80, []charge{came(after, 40, 0), came(before, 40, 0)}, 60, 40},
		"a part before, a credit note for all":        {"paid", after, 40, []charge{came(before, 40, 0)}, 60, 0},
		"a credit note, then the rest":                {"paid", after, 70, []charge{came(after, 70, 0)}, 100, 70},
		"a credit note for all":                       {"paid", after, 0, nil, 100, 0},
		"two parts since":                             {"paid", after, 100, []charge{came(after, 60, 0), came(after, 40, 0)}, 100, 100},
		"more than was owed":                          {"paid", after, 130, []charge{came(after, 130, 0)}, 100, 100},
		"a part went back":                            {"paid", after, 100, []charge{came(after, 100, 30)}, 100, 70},
		"all went back":                               {"paid", after, 100, []charge{came(after, 100, 100)}, 100, 0},
		"what had come before went back":              {"paid", after, 100, []charge{came(after, 60, 0), came(before, 40, 40)}, 60, 60},
		"paid before the hunt heard of it":            {"paid", before, 100, []charge{came(before, 100, 0)}, 100, 0},
		"paid outside of Stripe before":               {"paid", before, 100, nil, 100, 0},
		"an invoice that came later":                  {"paid", after, 100, []charge{came(after, 100, 0)}, -1, 100},
		"an invoice that came later, partly paid":     {"paid", after, 100, []charge{came(after, 70, 0), came(before, 30, 0)}, -1, 70},
		"a part since, and still open":                {"open", 0, 40, []charge{came(after, 40, 0)}, 100, 0},
		"a debit under way":                           {"open", 0, 0, []charge{pending}, 100, 0},
		"written off with a part paid":                {"uncollectible", 0, 40, []charge{came(after, 40, 0)}, 100, 0},
		"our clock is a minute ahead of Stripe's one": {"paid", began.Add(-time.Minute).Unix(), 100, []charge{came(began.Add(-time.Minute).Unix(), 100, 0)}, 100, 100},
	} {
		o := object{Status: test.status, AmountPaid: test.paid}
		if test.paidAt != 0 {
			o.Transitions.PaidAt = &test.paidAt
		}
		owed := map[string]int64{}
		if test.owed >= 0 {
			owed["in_1"] = test.owed
		}
		o.ID = "in_1"
		if got := moneySince(o, test.charges, owed, began); got.amount != test.want || got.amount > 0 && got.at.Unix() != test.paidAt {
			t.Errorf("%s: %+v, want %d", name, got, test.want)
		}
	}
}

// An invoice of which a third had come before the hunt counts with the other two, whoever pays them and how.
func TestPartlyPaidInvoiceCountsWithItsRest(t *testing.T) {
	t.Parallel()
	for _, do := range []string{"our charge", "pay", "pay_out_of_band"} {
		t.Run(do, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
			b.audit()
			whole := b.count("SELECT amount FROM ghost_targets")
			part := whole / 3
			b.turn("pay_part", int64(part))
			if err := b.ghosts.Refresh(t.Context(), b.merchant, b.text("SELECT stripe_subscription_id FROM ghost_targets")); err != nil {
				t.Fatal(err)
			}
			if n := b.count("SELECT amount FROM ghost_targets"); n != whole-part {
				t.Fatalf("%d of %d remain, want %d", n, whole, whole-part)
			}
			b.movable()
			b.advance(time.Hour) // the part came before the hunt
			b.hunted(func(p *Playbook) {
				if do != "our charge" {
					p.MaxAttempts = 0
				}
			})
			b.work()
			if do != "our charge" {
				b.await("the hunt begins", func() bool { return b.count("SELECT count(*) FROM hunts WHERE charges_over IS NOT NULL") == 1 })
				b.turn(do, 0)
				if err := b.ghosts.Refresh(t.Context(), b.merchant, b.text("SELECT stripe_subscription_id FROM ghost_targets")); err != nil {
					t.Fatal(err)
				}
			}
			b.await("the payment is counted", func() bool { return b.count("SELECT count(*) FROM recoveries") == 1 })
			if n := b.count("SELECT amount FROM recoveries"); n != whole-part {
				t.Errorf("%d are counted of %d, of which %d had come before", n, whole, part)
			}
		})
	}
}
