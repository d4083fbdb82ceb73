package recovery

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/billing"
	"phantom/figures"
	"phantom/playbook"
	"phantom/sandbox"
)

// hunted begins the hunts of all ghosts.
func (b *bench) hunted(change func(*playbook.Playbook)) {
	b.t.Helper()
	b.recoverWith(change)
	if _, err := b.startAll(); err != nil {
		b.t.Fatal(err)
	}
}

// turn gives the sandbox's world a turn, about the only ghost's invoice where it names nothing
// else.
func (b *bench) turn(c sandbox.Change) {
	b.t.Helper()
	if c.Account = b.account; c.ID == "" {
		c.ID = b.Text("SELECT stripe_invoice_id FROM ghost_targets")
	}
	if _, err := b.world.Change(c); err != nil {
		b.t.Fatal(err)
	}
}

// refresh hears of what has become of the ghost.
func (b *bench) refresh() {
	b.t.Helper()
	if err := b.ghosts.Refresh(b.t.Context(), b.merchant, b.Text("SELECT stripe_subscription_id FROM ghost_targets")); err != nil {
		b.t.Fatal(err)
	}
}

// What came for an invoice before its hunt began is not what the hunt has brought, and neither is
// what a credit note took off or what went back at once. The next test shows it of whole invoices
// in the sandbox.
func TestMoneySinceAHuntBegan(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 3, 1, 12, 0, 0, 500, time.UTC)
	before, after := began.Add(-time.Hour).Unix(), began.Add(time.Hour).Unix()
	came := func(at, amount, refunded int64) billing.Charge {
		return billing.Charge{Status: "succeeded", Created: at, Amount: amount, Refunded: refunded}
	}
	failed := billing.Charge{Status: "failed", Created: after, Amount: 100}
	pending := billing.Charge{Status: "pending", Created: after, Amount: 100}
	for name, test := range map[string]struct {
		status  string
		paidAt  int64
		paid    int64 // Stripe's amount_paid
		charges []billing.Charge
		owed    int64
		want    int64
	}{
		"all of it":         {"paid", after, 100, []billing.Charge{came(after, 100, 0), failed}, 100, 100},
		"outside of Stripe": {"paid", after, 100, []billing.Charge{failed}, 100, 100},
		"a part before":     {"paid", after, 100, []billing.Charge{came(after, 60, 0), came(before, 40, 0)}, 60, 60},
		"a part before, the rest outside of Stripe":   {"paid", after, 100, []billing.Charge{came(before, 40, 0)}, 60, 60},
		"a part before, not as a charge":              {"paid", after, 100, []billing.Charge{came(after, 60, 0)}, 60, 60},
		"a part before, then a credit note":           {"paid", after, 80, []billing.Charge{came(after, 40, 0), came(before, 40, 0)}, 60, 40},
		"a part before, a credit note for all":        {"paid", after, 40, []billing.Charge{came(before, 40, 0)}, 60, 0},
		"a credit note, then the rest":                {"paid", after, 70, []billing.Charge{came(after, 70, 0)}, 100, 70},
		"a credit note for all":                       {"paid", after, 0, nil, 100, 0},
		"two parts since":                             {"paid", after, 100, []billing.Charge{came(after, 60, 0), came(after, 40, 0)}, 100, 100},
		"more than was owed":                          {"paid", after, 130, []billing.Charge{came(after, 130, 0)}, 100, 100},
		"a part went back":                            {"paid", after, 100, []billing.Charge{came(after, 100, 30)}, 100, 70},
		"all went back":                               {"paid", after, 100, []billing.Charge{came(after, 100, 100)}, 100, 0},
		"what had come before went back":              {"paid", after, 100, []billing.Charge{came(after, 60, 0), came(before, 40, 40)}, 60, 60},
		"paid before the hunt heard of it":            {"paid", before, 100, []billing.Charge{came(before, 100, 0)}, 100, 0},
		"paid outside of Stripe before":               {"paid", before, 100, nil, 100, 0},
		"an invoice that came later":                  {"paid", after, 100, []billing.Charge{came(after, 100, 0)}, -1, 100},
		"an invoice that came later, partly paid":     {"paid", after, 100, []billing.Charge{came(after, 70, 0), came(before, 30, 0)}, -1, 70},
		"a part since, and still open":                {"open", 0, 40, []billing.Charge{came(after, 40, 0)}, 100, 0},
		"a debit under way":                           {"open", 0, 0, []billing.Charge{pending}, 100, 0},
		"written off with a part paid":                {"uncollectible", 0, 40, []billing.Charge{came(after, 40, 0)}, 100, 0},
		"our clock is a minute ahead of Stripe's one": {"paid", began.Add(-time.Minute).Unix(), 100, []billing.Charge{came(began.Add(-time.Minute).Unix(), 100, 0)}, 100, 100},
	} {
		o := billing.Object{Status: test.status, AmountPaid: test.paid}
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

// An invoice of which a third had come before the hunt counts with the other two, no matter who
// pays them and how.
func TestPartlyPaidInvoiceCountsWithItsRest(t *testing.T) {
	t.Parallel()
	for _, do := range []string{"our charge", "pay", "pay_out_of_band"} {
		t.Run(do, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
			b.audit()
			whole := b.Count("SELECT amount FROM ghost_targets")
			part := whole / 3
			b.turn(sandbox.Change{Do: "pay_part", Amount: int64(part)})
			b.refresh()
			if n := b.Count("SELECT amount FROM ghost_targets"); n != whole-part {
				t.Fatalf("%d of %d remain, want %d", n, whole, whole-part)
			}
			b.movable()
			// the part came before the hunt, and is no attempt of that day
			b.advance(25 * time.Hour)
			b.hunted(func(p *playbook.Playbook) {
				if do != "our charge" {
					p.MaxAttempts = 0
				}
			})
			b.work()
			if do != "our charge" {
				b.await("the hunt begins", func() bool { return b.Count("SELECT count(*) FROM hunts WHERE charges_over IS NOT NULL") == 1 })
				b.turn(sandbox.Change{Do: do})
				b.refresh()
			}
			b.await("the payment is counted", func() bool { return b.Count("SELECT count(*) FROM recoveries") == 1 })
			if n := b.Count("SELECT amount FROM recoveries"); n != whole-part {
				t.Errorf("%d are counted of %d, of which %d had come before", n, whole, part)
			}
		})
	}
}

// A debit that our charge began is ours when it settles. When it bounces and the customer pays
// otherwise, it is not: what came before is the last message, or nothing.
func TestDebitIsOursIfItPaid(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		bounces, wrote bool
		then, want     string
	}{
		"it settles":                            {want: "charge"},
		"it settles after a message":            {wrote: true, want: "charge"},
		"it bounces, the customer pays":         {bounces: true, then: "pay", want: "anyway"},
		"it bounces, the customer pays in cash": {bounces: true, then: "pay_out_of_band", want: "anyway"},
		"it bounces after a message":            {bounces: true, wrote: true, then: "pay", want: "email"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
			b.movable()
			b.audit()
			b.turn(sandbox.Change{Do: "to_debit", Status: map[bool]string{true: "bounces"}[test.bounces]})
			b.hunted(func(p *playbook.Playbook) { p.MaxAttempts = 2 }) // the first was Stripe's
			b.work()
			b.await("the debit begins", func() bool {
				return b.Count("SELECT count(*) FROM attempts WHERE result = 'processing'") == 1 && b.Count("SELECT count(*) FROM ghost_targets WHERE closed_reason = 'payment_under_way'") == 1
			})
			if test.wrote {
				b.Exec(`INSERT INTO messages (merchant_id, id, hunt_id, step, channel, template, state, planned_for, sent_at)
					SELECT merchant_id, id, id, 0, 'email', 'x', 'sent', began_at, began_at FROM hunts`)
			}
			b.advance(5*24*time.Hour + time.Hour)
			if test.then != "" {
				b.turn(sandbox.Change{Do: test.then})
			}
			b.refresh()
			b.await("the payment is counted", func() bool { return b.Count("SELECT count(*) FROM recoveries") == 1 })
			if cause := b.Text("SELECT cause FROM recoveries"); cause != test.want {
				t.Errorf("it counts as %s, want %s", cause, test.want)
			}
		})
	}
}

// While a debit is under way nobody is written to; when it bounces, the message that was planned is
// planned again.
func TestMessageComesBackAfterADebit(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.movable()
	b.audit()
	b.turn(sandbox.Change{Do: "to_debit", Status: "bounces"})
	b.correspond()
	b.hunted(func(p *playbook.Playbook) {
		p.MaxAttempts, p.Steps = 2, []playbook.Step{{AfterDays: 9, Channel: playbook.Email, Template: "payment_failed"}, {AfterDays: 12, Channel: playbook.Email, Template: "reminder"}}
	})
	b.work()
	b.await("the debit begins", func() bool {
		return b.Count("SELECT count(*) FROM ghost_targets WHERE closed_reason = 'payment_under_way'") == 1
	})
	if n := b.Count("SELECT count(*) FROM messages") + b.Count("SELECT count(*) FROM scheduled_tasks WHERE kind = 'email' AND status = 'pending'"); n != 0 {
		t.Errorf("%d messages are planned while the debit is under way", n)
	}
	b.advance(5*24*time.Hour + time.Hour)
	b.refresh()
	b.await("its first message is planned again", func() bool {
		return b.Count("SELECT count(*) FROM messages m JOIN scheduled_tasks t ON t.id = m.id WHERE m.step = 0 AND m.state = 'planned' AND t.status = 'pending'") == 1
	})
	b.advance(6 * 24 * time.Hour)
	for range 6 { // the night of the customer is waited for
		if b.calm(); len(b.world.Emails()) == 0 {
			b.advance(4 * time.Hour)
		}
	}
	if len(b.world.Emails()) == 0 {
		t.Fatal("nothing was sent")
	}
	// The customer lives in France. No language but English says what was charged.
	if text := b.world.Emails()[0].Text; !strings.Contains(text, "Nous avons essayé de prélever ") || strings.Contains(text, "carte") || strings.Contains(text, "4242") {
		t.Errorf("of a debit: %s", text)
	}
}

// A hunt may end by our own charge's webhook before the worker that sent it has stored the outcome:
// Stripe tells whose charge it was.
func TestChargeOfUnknownOutcomeIsOursIfItPaid(t *testing.T) {
	t.Parallel()
	for _, ours := range []bool{true, false} {
		b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
		b.audit()
		if !ours {
			b.turn(sandbox.Change{Do: "pay"})
		}
		b.hunted(nil)
		if ours {
			b.work()
			b.await("the payment is counted", func() bool { return b.Count("SELECT count(*) FROM recoveries") == 1 })
			b.Exec("DELETE FROM recoveries")
			b.Exec("UPDATE attempts SET result = NULL")
		} else {
			b.Exec(`INSERT INTO attempts (merchant_id, object, action, number, task_id, hunt_id, customer, currency, amount, reason, probability, planned_for, sent_at)
				SELECT merchant_id, $1, 'invoice_pay', 1, id, id, customer, currency, amount, 'x', 1, began_at, began_at FROM hunts`, b.object())
		}
		hunt := b.text2id("SELECT id::text FROM hunts")
		if err := b.s.countRecoveries(t.Context(), b.merchant, hunt); err != nil {
			t.Fatal(err)
		}
		if cause := b.Text("SELECT cause FROM recoveries"); (cause == "charge") != ours {
			t.Errorf("ours %v: it counts as %s", ours, cause)
		}
	}
}

// object is the keyed hash of the ghost's invoice.
func (b *bench) object() []byte {
	b.t.Helper()
	reader, err := b.connect.Reader(b.t.Context(), b.merchant)
	if err != nil {
		b.t.Fatal(err)
	}
	return reader.Hash("invoice", b.Text("SELECT stripe_invoice_id FROM ghost_targets"))
}

// Who pays in time counts, no matter who they are and what became of their hunt: whether we hear of
// the payment at once, only when the window is over, or had stopped before. Who pays later counts
// in neither arm.
func TestArmsAreFollowedEquallyLong(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 10})
	b.movable()
	b.audit()
	b.hunted(func(p *playbook.Playbook) { p.MaxAttempts, p.HoldoutPercent, p.WindowDays = 0, 20, 2 })
	b.Exec("UPDATE hunts SET held_out = x.n % 2 = 0 FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM hunts) AS x WHERE hunts.id = x.id")
	type one struct {
		ID, Ghost             uuid.UUID
		Invoice, Subscription string
	}
	rows, err := b.pool.Query(t.Context(), `SELECT h.id, g.id, g.stripe_invoice_id, g.stripe_subscription_id
		FROM hunts h JOIN ghost_targets g ON g.id = h.ghost_id ORDER BY h.id`)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[one])
	if err != nil {
		t.Fatal(err)
	}
	pay := func(i int, heard bool) { // the i-th of either arm
		t.Helper()
		for _, h := range all[2*i : 2*i+2] {
			if _, err := b.world.Change(sandbox.Change{Account: b.account, Do: "pay_out_of_band", ID: h.Invoice}); err != nil {
				t.Fatal(err)
			}
			if heard {
				if err := b.ghosts.Refresh(t.Context(), b.merchant, h.Subscription); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	b.work()
	b.calm()
	for _, h := range all[2*2 : 2*3+2] {
		if err := b.s.Stop(t.Context(), b.merchant, h.ID); err != nil {
			t.Fatal(err)
		}
	}
	b.advance(oneADay)
	pay(0, true)
	pay(1, false)
	pay(2, false) // stopped before
	b.advance(oneADay + time.Hour)
	pay(3, true) // stopped before, and too late
	pay(4, true)
	b.calm()
	u := func() figures.Uplift {
		f, err := b.s.Figures(t.Context(), b.merchant)
		if err != nil {
			t.Fatal(err)
		}
		return f.Uplift
	}
	if got := u(); got.Waiting != 10 {
		t.Errorf("an hour after the window: %+v", got)
	}
	b.advance(oneADay)
	b.calm()
	if got, want := u(), (figures.Arm{Customers: 5, Recovered: 3}); got.Treated != want || got.HeldOut != want {
		t.Errorf("got %+v, want %v in either arm", got, want)
	}
	if n := b.Count("SELECT count(*) FROM recoveries WHERE cause <> 'anyway'"); n != 0 {
		t.Errorf("%d payments count as ours, and nothing was sent", n)
	}
}
