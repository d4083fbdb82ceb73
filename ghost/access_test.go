package ghost

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/billing"
	"phantom/db"
	"phantom/debt"
	"phantom/sandbox"
	"phantom/shield"
)

// listener is a shield that only listens.
type listener struct {
	mutex sync.Mutex
	told  map[string]string // facts as JSON, by subscription
	paid  []string
}

func (l *listener) Told(_ context.Context, _ db.DBTX, _ uuid.UUID, _ int64, all []shield.Facts) error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	for _, f := range all {
		text, err := json.Marshal(f)
		if err != nil {
			return err
		}
		l.told[f.Subscription] = f.Customer + " " + string(text)
	}
	return nil
}

func (l *listener) Paid(_ context.Context, _ db.DBTX, _ uuid.UUID, subscription string) error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.paid = append(l.paid, subscription)
	return nil
}

// An audit tells the shield of every subscription, and a reading of each by itself tells the same.
func TestShieldIsToldTheSameByAuditAndRefresh(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	l := &listener{told: map[string]string{}}
	b.s.Shield = l
	b.audit()
	all := b.everySubscription()
	kept := 0
	byAudit := l.told
	l.told = map[string]string{}
	for _, id := range all {
		if err := b.s.Refresh(t.Context(), b.merchant, id); err != nil {
			t.Fatal(err)
		}
		if byAudit[id] != l.told[id] {
			t.Errorf("%s: an audit tells\n%s\na refresh\n%s", id, byAudit[id], l.told[id])
		}
		if l.told[id] != "" {
			kept++
		}
	}
	if kept < 50 || len(byAudit) != kept {
		t.Errorf("an audit tells of %d subscriptions, refreshes of %d, of %d", len(byAudit), kept, len(all))
	}
}

// everySubscription are the ids of all subscriptions of the account, as Stripe lists them.
func (b *bench) everySubscription() (ids []string) {
	b.t.Helper()
	reader, err := b.connect.Reader(b.t.Context(), b.merchant)
	if err != nil {
		b.t.Fatal(err)
	}
	all, _, err := list(b.t.Context(), reader, "/v1/subscriptions", map[string][]string{"status": {"all"}}, mostPages, (*subscription).decode,
		func(s *subscription) string { return s.ID })
	if err != nil {
		b.t.Fatal(err)
	}
	for _, s := range all {
		ids = append(ids, s.ID)
	}
	return ids
}

func TestAccessOf(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	failed := now.AddDate(0, 0, -5)
	open := Debt{
		Invoice: "in_1", Currency: "usd", Status: billing.InvoiceOpen, Remaining: 4900, Created: failed, AttemptCount: 1,
		Attempts: []Attempt{{At: failed, Outcome: billing.ChargeFailed}},
	}
	with := func(d Debt, change func(*Debt)) Debt { change(&d); return d }
	paid := with(open, func(d *Debt) {
		d.Invoice, d.Status, d.Remaining, d.Created, d.Attempts = "in_0", billing.InvoicePaid, 0, now.AddDate(0, -1, 0), nil
		d.From, d.To = ptr(now.AddDate(0, -1, 0)), ptr(now.AddDate(0, 0, 3))
	})
	owed := []shield.Debt{{Kind: debt.Owed, Amount: 4900, Currency: "usd", Since: failed}}
	for name, test := range map[string]struct {
		status  string
		change  func(*Subscription)
		debts   []Debt
		byUs    []string
		service shield.ServiceState
		want    []shield.Debt
		underWay, disputed,
		paidUntil bool
	}{
		"nothing is owed":                          {status: billing.Active, debts: []Debt{paid}},
		"a failed payment":                         {status: billing.PastDue, debts: []Debt{paid, open}, want: owed, paidUntil: true},
		"unpaid, and nobody has seen the customer": {status: billing.Unpaid, debts: []Debt{open}, want: owed},
		"a bank debit on its way": {
			status: billing.PastDue, debts: []Debt{with(open, func(d *Debt) { d.Intent = "processing" })}, want: owed, underWay: true,
		},
		"one of two on its way": {
			status: billing.PastDue, debts: []Debt{open, with(open, func(d *Debt) { d.Invoice, d.Intent = "in_2", "processing" })}, want: owed,
		},
		"sent, and not late": {
			status: billing.Active, debts: []Debt{with(open, func(d *Debt) { d.SendInvoice, d.Due = true, ptr(now.AddDate(0, 0, -6)) })},
		},
		"disputed": {
			status: billing.Active, debts: []Debt{with(paid, func(d *Debt) { d.Disputed = true })},
		},
		"disputed, and another one owed": {
			status: billing.PastDue, debts: []Debt{open, with(paid, func(d *Debt) { d.Disputed = true })}, want: owed, disputed: true, paidUntil: true,
		},
		"charged back": {
			status: billing.Active, debts: []Debt{with(paid, func(d *Debt) { d.Lost, d.LostAt = 4900, failed })},
			want: []shield.Debt{{Kind: debt.ChargedBack, Amount: 4900, Currency: "usd", Since: failed}},
		},
		"written off by the merchant": {
			status: billing.Active, debts: []Debt{with(open, func(d *Debt) { d.Status = billing.InvoiceUncollectible })},
			want: []shield.Debt{{Kind: debt.WrittenOff, Amount: 4900, Currency: "usd", Since: failed}},
		},
		"written off by a hunt's final step": {
			status: billing.Active, debts: []Debt{with(open, func(d *Debt) { d.Status = billing.InvoiceUncollectible })}, byUs: []string{"in_1"}, want: owed,
		},
		"canceled":             {status: billing.Canceled, service: shield.Ended},
		"gone at Stripe":       {status: "", service: shield.Ended},
		"never paid":           {status: billing.Incomplete, service: shield.Incomplete},
		"never paid, and over": {status: billing.IncompleteExpired, service: shield.Incomplete},
		"paused":               {status: billing.Paused, service: shield.Suspended},
		"free service": {
			status: billing.Active, change: func(s *Subscription) { s.Paused, s.Pause = true, "mark_uncollectible" }, service: shield.Unbilled,
		},
		"no service": {status: billing.Active, change: func(s *Subscription) { s.Paused, s.Pause = true, "void" }, service: shield.Suspended},
		"paused by a hunt's final step": {
			status: billing.PastDue, change: func(s *Subscription) { s.Paused, s.Pause, s.ByUs = true, "keep_as_draft", true },
			debts: []Debt{open}, service: shield.Serving, want: owed,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := subject{subscription: Subscription{ID: "sub_1", Customer: "cus_1", Status: test.status}, debts: test.debts}
			if test.change != nil {
				test.change(&s.subscription)
			}
			givenUp := map[string]bool{}
			for _, id := range test.byUs {
				givenUp[id] = true
			}
			f := accessOf(s, givenUp, now)
			if f.Service != test.service || !slices.Equal(f.Debts, test.want) || f.PaymentUnderWay != test.underWay || f.Disputed != test.disputed ||
				f.PaidUntil.IsZero() == test.paidUntil {
				t.Errorf("%+v", f)
			}
			if f.Service == shield.Ended && f.EndedAt.IsZero() {
				t.Error("it has ended at no time")
			}
		})
	}
}

// What an item brings in within a month.
func TestMonthlyRevenue(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		item item
		want int64
	}{
		{item{amount: 4900, quantity: 1, interval: "month", count: 1}, 4900},
		{item{amount: 4900, quantity: 3, interval: "month", count: 3}, 4900},
		{item{amount: 12000, quantity: 1, interval: "year", count: 1}, 1000},
		{item{amount: 1200, quantity: 1, interval: "week", count: 2}, 2600},
		{item{amount: 1200, quantity: 1, interval: "day", count: 1}, 36500},
		{item{quantity: 1, interval: "month", count: 1}, 0}, // by tiers
		{item{amount: 1 << 60, quantity: 1 << 60, interval: "month"}, 0},
		{item{amount: -5, quantity: 1, interval: "month"}, 0},
	} {
		if got := test.item.monthly(); got != test.want {
			t.Errorf("%+v brings %d a month, want %d", test.item, got, test.want)
		}
	}
}
