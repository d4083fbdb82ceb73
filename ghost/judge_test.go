package ghost

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"phantom/debt"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// debt is an invoice of so many days ago over which a payment failed. change makes it another.
func owing(days int, change func(*Debt)) Debt {
	d := Debt{
		Invoice: fmt.Sprintf("in_%d", days), Currency: "usd", Status: "open", Email: "ghost@example.com", Remaining: 1000,
		Created: now.AddDate(0, 0, -days), AttemptCount: 2, Intent: "requires_payment_method",
		Attempts: []Attempt{
			{At: now.AddDate(0, 0, -days), Outcome: "failed", Class: "timed", Code: "insufficient_funds"},
			{At: now.AddDate(0, 0, -days+3), Outcome: "failed", Class: "never", Code: "lost_card", Card: []byte("card")},
		},
		CardAttempts: 2,
	}
	if change != nil {
		change(&d)
	}
	return d
}

func paid(days int) Debt {
	return owing(days, func(d *Debt) { d.Status, d.Remaining, d.Attempts, d.Intent = "paid", 0, nil, "succeeded" })
}

func sent(days, dueDays int) Debt {
	return owing(days, func(d *Debt) {
		due := now.AddDate(0, 0, -dueDays)
		d.SendInvoice, d.Due, d.AttemptCount, d.Attempts = true, &due, 0, nil
	})
}

func untried(days int) Debt {
	return owing(days, func(d *Debt) { d.AttemptCount, d.Attempts = 0, nil })
}

func underWayFor(days int) Debt {
	return owing(days, func(d *Debt) { d.Intent = "processing" })
}

func uncollectible(days int) Debt { return owing(days, func(d *Debt) { d.Status = "uncollectible" }) }

// The table "Who is a ghost", row by row, and every pitfall beside it.
func TestJudge(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		status string
		paused bool
		proven bool
		debts  []Debt
		owed   int64 // 0: no ghost
		oldest string
		hidden bool
		rule   debt.Rule
		atRisk int64
		gaveUp int64 // of kind written_off
		lost   int64 // of kind charged_back
	}{
		{name: "active, the latest failed", status: "active", debts: []Debt{paid(40), owing(10, nil)}, owed: 1000, oldest: "in_10", rule: debt.PaymentFailed},
		{name: "past_due, two failed", status: "past_due", debts: []Debt{owing(40, nil), owing(10, nil)}, owed: 2000, oldest: "in_40", rule: debt.PaymentFailed},
		{name: "hidden: an older one is open", status: "active", debts: []Debt{owing(40, nil), paid(10)}, owed: 1000, oldest: "in_40", hidden: true, rule: debt.OlderUnpaid},
		{name: "hidden: an older one is written off", status: "active", debts: []Debt{uncollectible(40), paid(10)}, owed: 1000, oldest: "in_40", hidden: true, rule: debt.OlderUnpaid},
		{name: "hidden: an older one was sent", status: "active", debts: []Debt{sent(60, 30), paid(10)}, owed: 1000, oldest: "in_60", hidden: true, rule: debt.OlderUnpaid},
		{name: "written off, and the latest failed", status: "active", debts: []Debt{uncollectible(40), owing(10, nil)}, owed: 1000, oldest: "in_10", rule: debt.PaymentFailed, gaveUp: 1000},
		{name: "hidden, and the newest is not tried yet", status: "active", debts: []Debt{uncollectible(40), paid(10), untried(0)}, owed: 1000, oldest: "in_40", hidden: true, rule: debt.OlderUnpaid},
		{name: "hidden, and the newest is under way", status: "active", debts: []Debt{uncollectible(40), paid(10), underWayFor(3)}, owed: 1000, oldest: "in_40", hidden: true, rule: debt.OlderUnpaid, atRisk: 1000},
		{name: "hidden, and the newest was just sent", status: "active", debts: []Debt{sent(60, 30), paid(10), sent(1, -13)}, owed: 1000, oldest: "in_60", hidden: true, rule: debt.OlderUnpaid, atRisk: 1000},
		{name: "hidden, and the newest has failed", status: "active", debts: []Debt{uncollectible(40), paid(20), owing(1, nil)}, owed: 1000, oldest: "in_1", rule: debt.PaymentFailed, gaveUp: 1000},
		{name: "hidden, and the newest is void", status: "active", debts: []Debt{uncollectible(40), paid(20), owing(1, func(d *Debt) { d.Status = "void" })}, owed: 1000, oldest: "in_40", hidden: true, rule: debt.OlderUnpaid},
		{name: "written off, and the newest is void", status: "active", debts: []Debt{paid(70), uncollectible(40), owing(1, func(d *Debt) { d.Status = "void" })}, gaveUp: 1000},
		{name: "failed, and the newest is not tried yet", status: "active", debts: []Debt{paid(70), owing(40, nil), untried(0)}, owed: 1000, oldest: "in_40", rule: debt.PaymentFailed},
		{name: "written off, and the newest is not tried yet", status: "active", debts: []Debt{paid(70), uncollectible(40), untried(0)}, gaveUp: 1000},
		{name: "written off alone", status: "active", debts: []Debt{uncollectible(10)}, gaveUp: 1000},
		{name: "written off before it was tried", status: "active", debts: []Debt{owing(10, func(d *Debt) { d.Status, d.AttemptCount, d.Attempts = "uncollectible", 0, nil })}},
		{name: "written off, trialing", status: "trialing", debts: []Debt{uncollectible(10)}},
		{name: "written off, canceled", status: "canceled", debts: []Debt{uncollectible(10)}},
		{name: "written off, disputed", status: "active", debts: []Debt{owing(10, func(d *Debt) { d.Status, d.Disputed = "uncollectible", true })}, atRisk: 1000},
		{name: "hidden: an older one was sent and written off", status: "active", debts: []Debt{written(60, 30), paid(10)}, owed: 1000, oldest: "in_60", hidden: true, rule: debt.OlderUnpaid},
		{name: "sent, overdue and written off", status: "active", debts: []Debt{paid(90), written(60, 30)}, gaveUp: 1000},
		{name: "sent, and written off before it was due", status: "active", debts: []Debt{written(60, -3), paid(10)}},
		{name: "past_due, written off", status: "past_due", debts: []Debt{uncollectible(40), owing(10, nil)}, owed: 1000, oldest: "in_10", rule: debt.PaymentFailed, gaveUp: 1000},
		{name: "past_due, written off, and the newest is not long overdue", status: "past_due", debts: []Debt{uncollectible(40), paid(20), sent(10, 3)}, atRisk: 1000},
		{name: "past_due, sent and overdue", status: "past_due", debts: []Debt{sent(60, 8)}, owed: 1000, oldest: "in_60", rule: debt.SentOverdue},
		{name: "past_due, sent and late by less than the grace", status: "past_due", debts: []Debt{sent(60, 6)}, atRisk: 1000},
		{name: "past_due, sent and late by the grace exactly", status: "past_due", debts: []Debt{sent(60, 7)}, atRisk: 1000},
		{name: "active, sent and overdue, the latest", status: "active", debts: []Debt{sent(60, 30)}, owed: 1000, oldest: "in_60", rule: debt.SentOverdue},
		{name: "active, sent and overdue, and paid since", status: "active", debts: []Debt{sent(60, 30), paid(10)}, owed: 1000, oldest: "in_60", hidden: true, rule: debt.OlderUnpaid},
		{name: "charged back", status: "active", debts: []Debt{back(40), paid(10)}, lost: 900},
		{name: "charged back, canceled", status: "canceled", debts: []Debt{back(40)}, lost: 900},
		{name: "charged back, and in debt", status: "past_due", debts: []Debt{back(40), owing(10, nil)}, owed: 1000, oldest: "in_10", rule: debt.PaymentFailed, lost: 900},
		{name: "a part was charged back of what is owed", status: "past_due", debts: []Debt{owing(10, func(d *Debt) { d.Lost = 300 })}, owed: 1000, oldest: "in_10", rule: debt.PaymentFailed},
		{name: "billed three times", status: "past_due", debts: []Debt{billed(12, "open"), billed(11, "open"), billed(10, "open")}, owed: 1000, oldest: "in_12", rule: debt.PaymentFailed},
		{name: "billed twice, and the newer one is paid", status: "active", debts: []Debt{billed(12, "open"), billed(10, "paid")}},
		{name: "billed twice, and the older one is paid", status: "active", debts: []Debt{billed(12, "paid"), billed(10, "open")}},
		{name: "billed twice, and the newer one is under way", status: "past_due",
			debts: []Debt{billed(12, "open"), moving(billed(10, "open"))}, atRisk: 1000},
		{name: "billed twice, and the older one is under way", status: "past_due",
			debts: []Debt{moving(billed(12, "open")), billed(10, "open")}, atRisk: 1000},
		{name: "billed twice, and both are under way", status: "past_due",
			debts: []Debt{moving(billed(12, "open")), moving(billed(10, "open"))}, atRisk: 1000},
		{name: "hidden behind a copy of what is paid", status: "active",
			debts: []Debt{uncollectible(80), billed(12, "paid"), billed(10, "open")}, owed: 1000, oldest: "in_80", hidden: true, rule: debt.OlderUnpaid},
		{name: "billed twice, and the older one is void", status: "past_due", debts: []Debt{billed(12, "void"), billed(10, "open")}, owed: 1000, oldest: "in_10", rule: debt.PaymentFailed},
		{name: "billed twice, and a person says that both are owed", status: "past_due",
			debts: []Debt{billed(12, "open"), apart(billed(10, "open"))}, owed: 2000, oldest: "in_12", rule: debt.PaymentFailed},
		{name: "the same for the next month", status: "past_due", debts: []Debt{billed(40, "open"), billed(10, "open")}, owed: 2000, oldest: "in_40", rule: debt.PaymentFailed},
		{name: "the same with other lines", status: "past_due",
			debts: []Debt{billed(12, "open"), billed(10, "open", 2)}, owed: 2000, oldest: "in_12", rule: debt.PaymentFailed},
		{name: "trialing with an earlier debt", status: "trialing", debts: []Debt{owing(40, nil), paid(1)}, owed: 1000, oldest: "in_40", rule: debt.UnpaidBeforeTrial},
		{name: "trialing with a $0 invoice", status: "trialing", debts: []Debt{owing(1, func(d *Debt) { d.Remaining = 0 })}},
		{name: "unpaid", status: "unpaid", debts: []Debt{owing(40, nil)}},
		{name: "unpaid, access proven", status: "unpaid", proven: true, debts: []Debt{owing(40, nil)}, owed: 1000, oldest: "in_40", rule: debt.AccessProven},
		{name: "canceled", status: "canceled", debts: []Debt{owing(40, nil)}},
		{name: "canceled, access proven", status: "canceled", proven: true, debts: []Debt{uncollectible(40)}, owed: 1000, oldest: "in_40", rule: debt.AccessProven},
		{name: "paused", status: "paused", proven: true, debts: []Debt{owing(40, nil)}},
		{name: "incomplete", status: "incomplete", proven: true, debts: []Debt{owing(0, nil)}},
		{name: "incomplete_expired", status: "incomplete_expired", proven: true, debts: []Debt{owing(40, nil)}},
		{name: "a status of the future", status: "dormant", proven: true, debts: []Debt{owing(40, nil)}},
		{name: "collection paused, written off unattempted", status: "active", paused: true,
			debts: []Debt{paid(40), owing(10, func(d *Debt) { d.Status, d.AttemptCount, d.Attempts = "uncollectible", 0, nil })}},
		{name: "collection paused, an older debt", status: "active", paused: true, debts: []Debt{owing(70, nil)}, owed: 1000, oldest: "in_70", rule: debt.PaymentFailed},
		{name: "void", status: "active", debts: []Debt{owing(10, func(d *Debt) { d.Status = "void" })}},
		{name: "paid out of band", status: "active", debts: []Debt{owing(10, func(d *Debt) { d.OutOfBand = true })}},
		{name: "never attempted", status: "active", debts: []Debt{owing(0, func(d *Debt) { d.AttemptCount, d.Attempts = 0, nil })}},
		{name: "processing", status: "active", debts: []Debt{owing(3, func(d *Debt) { d.Intent = "processing" })}, atRisk: 1000},
		{name: "a bank debit on its way", status: "active", debts: []Debt{owing(3, func(d *Debt) { d.Attempts = []Attempt{{At: now, Outcome: "pending"}} })}, atRisk: 1000},
		{name: "requires_action", status: "past_due", debts: []Debt{owing(3, func(d *Debt) { d.Intent = "requires_action" })}, atRisk: 1000},
		{name: "disputed", status: "active", debts: []Debt{owing(30, func(d *Debt) { d.Disputed = true })}, atRisk: 1000},
		{name: "paid in part", status: "active", debts: []Debt{owing(10, func(d *Debt) { d.Remaining = 1 })}, owed: 1, oldest: "in_10", rule: debt.PaymentFailed},
		{name: "at risk of a canceled one is none", status: "canceled", debts: []Debt{owing(3, func(d *Debt) { d.Intent = "processing" })}},
		{name: "nothing at all", status: "active"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := Subscription{ID: "sub_1", Customer: "cus_1", Status: test.status, Paused: test.paused}
			// In any order the verdict is one.
			for _, debts := range [][]Debt{test.debts, reversed(test.debts)} {
				found, risk := Judge(s, slices.Clone(debts), func(string) bool { return test.proven }, now)
				if risk["usd"] != test.atRisk {
					t.Errorf("%d at risk, want %d", risk["usd"], test.atRisk)
				}
				for kind, want := range map[debt.Kind]int64{debt.WrittenOff: test.gaveUp, debt.ChargedBack: test.lost} {
					var got int64
					found = slices.DeleteFunc(found, func(f Finding) bool {
						if f.Kind == kind {
							got = f.Amount
						}
						return f.Kind == kind
					})
					if got != want {
						t.Errorf("%d of kind %s, want %d", got, kind, want)
					}
				}
				if test.owed == 0 {
					if len(found) > 0 {
						t.Errorf("a ghost is invented: %+v", found)
					}
					continue
				}
				if len(found) != 1 {
					t.Fatalf("%d ghosts", len(found))
				}
				if f := found[0]; f.Kind != debt.Owed || f.Amount != test.owed || f.Invoice != test.oldest || f.Hidden != test.hidden || f.Rule != test.rule || f.Currency != "usd" {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

// written is one that was sent and then given up.
func written(days, dueDays int) Debt {
	d := sent(days, dueDays)
	d.Status = "uncollectible"
	return d
}

// back was paid, and 900 of it charged back.
func back(days int) Debt {
	d := paid(days)
	d.Lost, d.LostAt = 900, now.AddDate(0, 0, -days+20)
	return d
}

// billed is an invoice for the month that began so many days ago.
func billed(days int, status string, lines ...int64) Debt {
	return owing(days, func(d *Debt) {
		from, to := now.AddDate(0, 0, -days), now.AddDate(0, 0, 30-days)
		d.Status, d.Lines, d.From, d.To = status, 1, &from, &to
		if len(lines) > 0 {
			d.Lines = lines[0]
		}
		if status == "paid" {
			d.Remaining, d.Attempts, d.Intent = 0, nil, "succeeded"
		}
	})
}

func moving(d Debt) Debt {
	d.Intent = "processing"
	return d
}

func apart(d Debt) Debt {
	d.Separate = true
	return d
}

func reversed(debts []Debt) []Debt {
	debts = slices.Clone(debts)
	slices.Reverse(debts)
	return debts
}

// Two currencies are two ghosts, never one sum.
func TestJudgeKeepsCurrenciesApart(t *testing.T) {
	t.Parallel()
	yen := owing(20, func(d *Debt) { d.Invoice, d.Currency, d.Remaining = "in_yen", "jpy", 500 })
	found, _ := Judge(Subscription{Status: "past_due"}, []Debt{owing(10, nil), yen, owing(40, nil)}, func(string) bool { return false }, now)
	if len(found) != 2 || found[0].Currency != "jpy" || found[0].Amount != 500 || found[1].Currency != "usd" || found[1].Amount != 2000 {
		t.Errorf("%+v", found)
	}
}

// The last failure says why and on which card; all are counted.
func TestFindingCountsAttempts(t *testing.T) {
	t.Parallel()
	found, _ := Judge(Subscription{Status: "past_due"}, []Debt{owing(10, nil), owing(40, nil)}, func(string) bool { return false }, now)
	f := found[0]
	if f.Attempts != 4 || f.Class != "never" || f.Code != "lost_card" || string(f.Card) != "card" || f.CardAttempts != 2 ||
		!f.FirstFailed.Equal(now.AddDate(0, 0, -40)) || !f.LastFailed.Equal(now.AddDate(0, 0, -7)) || f.Email != "ghost@example.com" {
		t.Errorf("%+v", f)
	}
	// Without charges Stripe's own count and the dates of the invoice stand in.
	found, _ = Judge(Subscription{Status: "past_due"}, []Debt{owing(10, func(d *Debt) { d.Attempts = nil })}, func(string) bool { return false }, now)
	if f := found[0]; f.Attempts != 2 || f.Class != "unknown" || f.Code != "" || !f.FirstFailed.Equal(now.AddDate(0, 0, -10)) {
		t.Errorf("%+v", f)
	}
}

// The last failure that tells a country says where the customer lives, no matter what debt it was
// for.
func TestFindingTellsTheZone(t *testing.T) {
	t.Parallel()
	in := func(zones ...string) func(*Debt) {
		return func(d *Debt) {
			for i, zone := range zones {
				d.Attempts[i].Zone = zone
			}
		}
	}
	for _, test := range []struct {
		older, newer func(*Debt)
		want         string
	}{
		{nil, nil, ""},
		{in("Asia/Tokyo", ""), nil, "Asia/Tokyo"},
		{in("Asia/Tokyo", "Europe/Berlin"), nil, "Europe/Berlin"},
		{in("Asia/Tokyo", "Europe/Berlin"), in("Europe/Paris", ""), "Europe/Paris"},
		{func(d *Debt) { in("", "Asia/Tokyo")(d); d.Attempts[1].At = now.AddDate(0, 0, -1) }, in("", "Europe/Paris"), "Asia/Tokyo"},
	} {
		found, _ := Judge(Subscription{Status: "past_due"}, []Debt{owing(10, test.newer), owing(40, test.older)}, func(string) bool { return false }, now)
		if got := found[0].Zone; got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// Why a ghost closes, in a word.
func TestReason(t *testing.T) {
	t.Parallel()
	is := func(status string) func(*Debt) { return func(d *Debt) { d.Status = status } }
	for _, test := range []struct {
		name, status string
		paused       bool
		debt         Debt
		want         debt.Closing
	}{
		{"paid", "active", false, paid(10), debt.Paid},
		{"paid by a customer who left", "canceled", false, paid(10), debt.Paid},
		{"paid and refunded", "active", false, owing(10, func(d *Debt) { d.Status, d.Remaining, d.Refunded = "paid", 0, true }), debt.Refunded},
		{"paid out of band", "active", false, owing(10, func(d *Debt) { d.OutOfBand = true }), debt.Paid},
		{"credited", "active", false, owing(10, func(d *Debt) { d.Remaining = 0 }), debt.Paid},
		{"void", "active", false, owing(10, is("void")), debt.Voided},
		{"void under a pause", "active", true, owing(10, is("void")), debt.FreeService},
		{"written off", "active", false, uncollectible(10), debt.GivenUp},
		{"canceled", "canceled", false, owing(10, nil), debt.Ended},
		{"unpaid", "unpaid", false, owing(10, nil), debt.Suspended},
		{"disputed", "active", false, owing(10, func(d *Debt) { d.Disputed = true }), debt.Disputed},
		{"on its way", "active", false, owing(10, func(d *Debt) { d.Intent = "processing" }), debt.PaymentUnderWay},
	} {
		if got := Reason(Subscription{Status: test.status, Paused: test.paused}, []Debt{test.debt}, "in_10"); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	if got := Reason(Subscription{Status: "canceled"}, nil, "in_1"); got != debt.Ended {
		t.Error(got)
	}
	if got := Reason(Subscription{}, nil, "in_1"); got != debt.NotFound {
		t.Error(got)
	}
}

// A hidden ghost goes through a renewal, from the draft's end over the first try to the money,
// without an end and a new beginning.
func TestRenewalsEndNoHiddenGhost(t *testing.T) {
	t.Parallel()
	for name, old := range map[string]Debt{"open": owing(40, nil), "written off": uncollectible(40)} {
		for step, newest := range []Debt{untried(0), underWayFor(0), paid(0)} {
			found, _ := Judge(Subscription{Status: "active"}, []Debt{old, paid(30), newest}, func(string) bool { return false }, now)
			if len(found) != 1 || !found[0].Hidden || found[0].Amount != 1000 {
				t.Errorf("%s, step %d: %+v", name, step, found)
			}
		}
	}
}
