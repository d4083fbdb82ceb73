package sandbox

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// shownInvoice is what a reader of the API sees of an invoice.
type shownInvoice struct {
	ID, Currency, Status, Customer, Subscription string
	Method                                       string                       `json:"collection_method"`
	Remaining                                    int64                        `json:"amount_remaining"`
	Attempts                                     int64                        `json:"attempt_count"`
	Due                                          int64                        `json:"due_date"`
	OutOfBand                                    bool                         `json:"paid_out_of_band"`
	Intent                                       *struct{ ID, Status string } `json:"payment_intent"`
	Metadata                                     map[string]string
	Lines                                        struct {
		Data []struct {
			Amount, Quantity int64
			Period           struct{ Start, End int64 }
			Price            struct{ ID, Product string }
		}
	}
	Transitions struct {
		GaveUp int64 `json:"marked_uncollectible_at"`
	} `json:"status_transitions"`

	disputed bool
	lost     map[string]int64 // by currency
}

func (v *shownInvoice) busy() bool {
	return v.Intent != nil && (v.Intent.Status == "processing" || v.Intent.Status == "requires_action")
}

func (v *shownInvoice) owed(now int64) bool {
	const week = 7 * 24 * 3600
	switch {
	case v.busy() || v.disputed || v.OutOfBand || v.Remaining == 0:
		return false
	case v.Method == "send_invoice" && v.Status == "uncollectible":
		return v.Due > 0 && v.Transitions.GaveUp > v.Due+week
	case v.Method == "send_invoice":
		return v.Status == "open" && v.Due > 0 && now > v.Due+week
	}
	return (v.Status == "open" || v.Status == "uncollectible") && v.Attempts > 0
}

// twin says whether two invoices ask for the same.
func (v *shownInvoice) twin(o *shownInvoice) bool {
	if v.Metadata["phantom"] == "owed" || o.Metadata["phantom"] == "owed" {
		return false
	}
	for _, s := range []string{v.Status, o.Status} {
		if s == "void" || s == "draft" {
			return false
		}
	}
	type thing struct {
		price            string
		quantity, amount int64
	}
	read := func(v *shownInvoice) (things map[thing]int, from, to int64) {
		things, from = map[thing]int{}, 1<<62
		for _, l := range v.Lines.Data {
			things[thing{l.Price.ID, l.Quantity, l.Amount}]++
			from, to = min(from, l.Period.Start), max(to, l.Period.End)
		}
		return things, from, to
	}
	x, from, to := read(v)
	y, since, until := read(o)
	common := min(to, until) - max(from, since)
	return len(x) > 0 && reflect.DeepEqual(x, y) && (from == since && to == until ||
		common*2 > min(to-from, until-since))
}

func readRow(t *testing.T, raw json.RawMessage, v any) {
	t.Helper()
	if err := json.Unmarshal(raw, v); err != nil {
		t.Fatal(err)
	}
}

// seen is the truth as a patient reader of the API finds it: lists, expanded intents, and nothing
// from inside.
func (b *bench) seen(account, token string) (ghosts []Ghost) {
	b.t.Helper()
	invoiceOf := map[string]string{} // by charge
	for _, raw := range b.every("/v1/charges", token, nil) {
		var ch struct{ ID, Invoice string }
		readRow(b.t, raw, &ch)
		invoiceOf[ch.ID] = ch.Invoice
	}
	open, lost := map[string]bool{}, map[string]map[string]int64{}
	for _, raw := range b.every("/v1/disputes", token, nil) {
		var d struct {
			Status, Charge, Currency string
			Amount                   int64
		}
		readRow(b.t, raw, &d)
		invoice := invoiceOf[d.Charge]
		switch d.Status {
		case "lost":
			if lost[invoice] == nil {
				lost[invoice] = map[string]int64{}
			}
			lost[invoice][d.Currency] += d.Amount
		case "won", "warning_closed", "prevented", "charge_refunded":
		default:
			open[invoice] = true
		}
	}
	invoices := map[string][]*shownInvoice{} // by subscription, oldest first
	for _, raw := range slices.Backward(b.every("/v1/invoices", token,
		url.Values{"expand[]": {"data.payment_intent"}})) {
		v := &shownInvoice{}
		readRow(b.t, raw, v)
		v.disputed, v.lost = open[v.ID], lost[v.ID]
		invoices[v.Subscription] = append(invoices[v.Subscription], v)
	}
	type shownSubscription struct {
		ID, Status, Customer string
		Created              int64
		TestClock            string `json:"test_clock"`
		Items                struct {
			Data []struct{ Price struct{ Product string } }
		}
	}
	subs := map[string][]shownSubscription{}
	for _, raw := range b.every("/v1/subscriptions", token, url.Values{"status": {"all"}}) {
		var sub shownSubscription
		readRow(b.t, raw, &sub)
		subs[sub.Customer] = append(subs[sub.Customer], sub)
	}
	now := b.clock.Now().Unix()
	for customer, all := range subs {
		for _, sub := range all {
			if sub.TestClock != "" {
				continue
			}
			anew := slices.ContainsFunc(all, func(o shownSubscription) bool {
				return o.Created > sub.Created && slices.Contains([]string{"active", "trialing", "past_due"},
					o.Status) &&
					o.Items.Data[0].Price.Product == sub.Items.Data[0].Price.Product
			})
			for _, g := range seenOf(sub.Status, invoices[sub.ID], now) {
				g.Account, g.Customer, g.Subscription, g.Resubscribed = account, customer, sub.ID, anew
				ghosts = append(ghosts, g)
			}
		}
	}
	slices.SortFunc(ghosts, func(x, y Ghost) int {
		return strings.Compare(strings.Join([]string{x.Customer, x.Subscription, x.Currency, x.Kind},
			" "),
			strings.Join([]string{y.Customer, y.Subscription, y.Currency, y.Kind}, " "))
	})
	return ghosts
}

func seenOf(status string, all []*shownInvoice, now int64) (ghosts []Ghost) {
	last := ""
	for _, v := range all {
		if v.Status == "paid" || v.Status == "uncollectible" || v.owed(now) {
			last = v.Status
		}
	}
	lines := map[string]*Ghost{}
	add := func(v *shownInvoice, kind, currency string, amount int64, hidden bool) {
		if lines[currency+kind] == nil {
			lines[currency+kind] = &Ghost{Currency: currency, Kind: kind, Hidden: hidden}
		}
		g := lines[currency+kind]
		g.Amount += amount
		g.Invoices = append(g.Invoices, v.ID)
	}
	asked := map[*shownInvoice]bool{} // in the place of others
	for _, v := range all {
		for currency, amount := range v.lost {
			if v.Status == "paid" {
				add(v, "charged_back", currency, amount, false)
			}
		}
		if asked[v] || !v.owed(now) {
			continue
		}
		settled, family := false, []*shownInvoice{v}
		for i := 0; i < len(family); i++ {
			for _, o := range all {
				if !slices.Contains(family, o) && family[i].twin(o) {
					family, asked[o] = append(family, o), true
				}
			}
			f := family[i]
			settled = settled || f.Status == "paid" || f.disputed || f.busy()
		}
		auto := v.Method == "charge_automatically"
		switch {
		case settled:
		case status == "active" && last == "paid":
			add(v, "owed", v.Currency, v.Remaining, true)
		case v.Status == "open" && (status == "past_due" || status == "trialing" || status == "active"):
			add(v, "owed", v.Currency, v.Remaining, false)
		case v.Status == "uncollectible" && last != "paid" && (status == "active" ||
			status == "past_due") && (auto || v.Due > 0):
			add(v, "written_off", v.Currency, v.Remaining, false)
		}
	}
	for _, g := range lines {
		ghosts = append(ghosts, *g)
	}
	return ghosts
}

func (b *bench) sameTruth(n int, token string) (whys map[string]int) {
	b.t.Helper()
	id := b.s.Accounts()[n]
	truth, want := b.s.Truth(id), b.seen(id, token)
	whys = map[string]int{}
	for i := range truth {
		whys[truth[i].Why]++
		if truth[i].Hidden != (truth[i].Why == WhyHidden) {
			b.t.Errorf("hidden and why differ: %+v", truth[i])
		}
		if truth[i].Resubscribed {
			whys["resubscribed"]++
		}
		truth[i].Why = ""
	}
	x, _ := json.Marshal(truth)
	y, _ := json.Marshal(want)
	if string(x) != string(y) {
		b.t.Errorf("truth %d, seen %d\n%.2000s\n%.2000s", len(truth), len(want), x, y)
	}
	return whys
}

// What the truth file says is what the API shows, in the living world, as it goes on, and in a
// history.
func TestTruthIsWhatTheAPIShows(t *testing.T) {
	t.Parallel()
	const rows = 8 // the seven whys, and resubscribed
	for seed := range uint64(2) {
		b := setup(t, func(c *Config) { c.Seed = seed + 1 })
		for n := range 3 {
			token := b.connect(n)
			whys := b.sameTruth(n, token)
			if len(whys) != rows {
				t.Errorf("seed %d, merchant %d: not every row of the table: %v", seed+1, n, whys)
			}
		}
		b.clock.add(40 * 24 * time.Hour)
		b.sameTruth(0, b.connect(0))
	}
	b, token := bulk(t, 8000)
	whys := b.sameTruth(0, token)
	if len(whys) != rows {
		t.Errorf("history: not every row of the table: %v", whys)
	}
	t.Log(whys)
}

func TestTruthOfAStranger(t *testing.T) {
	t.Parallel()
	if got := setup(t).s.Truth("acct_unknown"); got != nil {
		t.Error(got)
	}
}

// The table of "who is a ghost", row by row, and its exceptions. Each case is one subscription with
// its bills, oldest first.
func TestWhoIsAGhost(t *testing.T) {
	t.Parallel()
	const now = 1000 * day
	month := 0
	// next is a failed or paid or other bill of the next month, charged automatically.
	next := func(status string, change ...func(*bill)) bill {
		month++
		b := bill{id: fmt.Sprint("in_", month), currency: "eur", status: status, remaining: 10,
			attempts: 8, method: "charge_automatically",
			intent: "requires_payment_method", lines: "price_1 1 10", from: int64(month) * 30 * day,
			to: int64(month+1) * 30 * day}
		if status == "paid" {
			b.remaining, b.intent = 0, "succeeded"
		}
		for _, f := range change {
			f(&b)
		}
		return b
	}
	sent := func(due int64) func(*bill) {
		return func(b *bill) { b.method, b.due, b.attempts = "send_invoice", now-due*day, 0 }
	}
	gaveUp := func(ago int64) func(*bill) { return func(b *bill) { b.gaveUp = now - ago*day } }
	untried := func(b *bill) { b.attempts = 0 }
	elsewhere := func(b *bill) { b.remaining, b.outOfBand = 0, true }
	intent := func(status string) func(*bill) { return func(b *bill) { b.intent = status } }
	disputed := func(b *bill) { b.disputed = true }
	separate := func(b *bill) { b.separate = true }
	took := func(amounts ...int64) func(*bill) {
		return func(b *bill) {
			for _, n := range amounts {
				b.lost = append(b.lost, loss{"eur", n})
			}
		}
	}
	// over moves a bill's time to days after the first of the case.
	over := func(from, to int64) func(*bill) {
		return func(b *bill) {
			b.from, b.to = from*day,
				to*day
		}
	}
	lines := func(s string) func(*bill) { return func(b *bill) { b.lines = s } }
	type found struct {
		kind, why string
		invoices  []int // places in bills, from 1
		amount    int64
	}
	for name, c := range map[string]struct {
		status string
		bills  []bill
		want   []found
	}{
		"failed": {"past_due", []bill{next("paid"), next("open")}, []found{{Owed,
			WhyFailed, []int{2}, 10}}},
		"failed, active": {"active", []bill{next("paid"), next("open")}, []found{{Owed,
			WhyFailed, []int{2}, 10}}},
		"failed twice": {"past_due", []bill{next("open"), next("open")}, []found{{Owed,
			WhyFailed, []int{1, 2}, 20}}},
		"not attempted": {"active", []bill{next("open", untried)}, nil},
		"hidden, open": {"active", []bill{next("open"), next("paid")}, []found{{Owed,
			WhyHidden, []int{1}, 10}}},
		"hidden, given up": {"active", []bill{next("uncollectible"), next("paid")}, []found{{Owed,
			WhyHidden, []int{1}, 10}}},
		"hidden, a draft newest": {"active", []bill{next("uncollectible"), next("paid"), next("draft")},
			[]found{{Owed, WhyHidden, []int{1}, 10}}},
		"a void newest": {"active", []bill{next("uncollectible"), next("paid"), next("void")},
			[]found{{Owed, WhyHidden, []int{1}, 10}}},
		"a void newest, open old": {"active", []bill{next("open"), next("paid"), next("void")},
			[]found{{Owed, WhyHidden, []int{1}, 10}}},
		"void alone between": {"active", []bill{next("uncollectible"), next("void")},
			[]found{{WrittenOff, WhyWrittenOff, []int{1}, 10}}},
		"paid elsewhere":    {"active", []bill{next("paid", elsewhere), next("paid")}, nil},
		"a debit under way": {"active", []bill{next("open", intent("processing"))}, nil},
		"action is needed":  {"past_due", []bill{next("open", intent("requires_action"))}, nil},
		"canceled":          {"canceled", []bill{next("open")}, nil},
		"unpaid":            {"unpaid", []bill{next("open"), next("draft")}, nil},
		"trialing": {"trialing", []bill{next("open")}, []found{{Owed, WhyTrialing,
			[]int{1}, 10}}},
		"trialing, given up": {"trialing", []bill{next("uncollectible")}, nil},

		"sent, overdue": {"past_due", []bill{next("open", sent(8))}, []found{{Owed,
			WhyOverdue, []int{1}, 10}}},
		"sent, in its grace": {"past_due", []bill{next("open", sent(6))}, nil},
		"sent, overdue, active": {"active", []bill{next("paid"), next("open", sent(8))},
			[]found{{Owed, WhySent, []int{2}, 10}}},
		"sent, in its grace, active": {"active", []bill{next("paid"), next("open", sent(6))}, nil},
		"sent, and paid since": {"active", []bill{next("open", sent(40)), next("paid", sent(8))},
			[]found{{Owed, WhyHidden, []int{1}, 10}}},
		"sent, being paid by a debit": {"past_due", []bill{next("open", sent(8), intent("processing"))},
			nil},
		"sent, given up, paid since": {"active", []bill{next("uncollectible", sent(60), gaveUp(50)),
			next("paid")}, []found{{Owed, WhyHidden, []int{1}, 10}}},
		"sent, forgiven before it was": {"active", []bill{next("uncollectible", sent(60), gaveUp(61)),
			next("paid")}, nil},
		"sent, given up, newest": {"active", []bill{next("paid"), next("uncollectible", sent(60),
			gaveUp(50))}, []found{{WrittenOff, WhyWrittenOff, []int{2}, 10}}},
		"sent, made while paused": {"active", []bill{next("uncollectible", sent(60), gaveUp(74))},
			nil},

		"given up after retries": {"active", []bill{next("paid"), next("uncollectible")},
			[]found{{WrittenOff, WhyWrittenOff, []int{2}, 10}}},
		"given up, then failed": {"past_due", []bill{next("uncollectible"), next("open")},
			[]found{{Owed, WhyFailed, []int{2}, 10}, {WrittenOff, WhyWrittenOff, []int{1}, 10}}},
		"given up, then under way": {"active", []bill{next("uncollectible"), next("open",
			intent("processing"))}, []found{{WrittenOff, WhyWrittenOff, []int{1}, 10}}},
		"given up without a try": {"active", []bill{next("uncollectible", untried)}, nil},
		"given up, in dispute":   {"active", []bill{next("uncollectible", disputed)}, nil},
		"given up, and unpaid":   {"unpaid", []bill{next("uncollectible")}, nil},
		"given up twice, paid after": {"active", []bill{next("uncollectible"), next("uncollectible"),
			next("paid")}, []found{{Owed, WhyHidden, []int{1, 2}, 20}}},

		"charged back": {"active", []bill{next("paid", took(10)), next("paid")},
			[]found{{ChargedBack, WhyChargedBack, []int{1}, 10}}},
		"charged back in part": {"canceled", []bill{next("paid", took(3))}, []found{{ChargedBack,
			WhyChargedBack, []int{1}, 3}}},
		"charged back in two parts": {"active", []bill{next("paid", took(3, 4))}, []found{{ChargedBack,
			WhyChargedBack, []int{1}, 7}}},
		"charged back while open": {"past_due", []bill{next("open", took(3))}, []found{{Owed,
			WhyFailed, []int{1}, 10}}},
		"charged back and failed": {"past_due", []bill{next("paid", took(10)), next("open")},
			[]found{{ChargedBack, WhyChargedBack, []int{1}, 10}, {Owed, WhyFailed, []int{2}, 10}}},
		"at risk": {"past_due", []bill{next("open", disputed)}, nil},

		"asked three times": {"past_due", []bill{next("open", over(0, 30)),
			next("open", over(1, 31)), next("open", over(2, 32))}, []found{{Owed, WhyFailed, []int{1}, 10}}},
		"asked twice for the same time": {"past_due", []bill{next("open", over(0, 0)), next("open",
			over(0, 0))}, []found{{Owed, WhyFailed, []int{1}, 10}}},
		"half of the time is common": {"past_due", []bill{next("open", over(0, 30)),
			next("open", over(15, 45))}, []found{{Owed, WhyFailed, []int{1, 2}, 20}}},
		"more than half of the shorter": {"past_due", []bill{next("open", over(0, 300)),
			next("open", over(290, 305))}, []found{{Owed, WhyFailed, []int{1}, 10}}},
		"two other lines": {"past_due", []bill{next("open", over(0, 30)),
			next("open", over(0, 30), lines("price_2 1 10"))}, []found{{Owed, WhyFailed, []int{1, 2}, 20}}},
		"no lines are like nothing": {"past_due", []bill{next("open", over(0, 30), lines("")),
			next("open", over(0, 30), lines(""))}, []found{{Owed, WhyFailed, []int{1, 2}, 20}}},
		"asked twice, the newer is paid": {"active", []bill{next("open", over(0, 30)), next("paid",
			over(1, 31))}, nil},
		"asked twice, the older is paid": {"past_due", []bill{next("paid", over(0, 30)),
			next("open", over(1, 31))}, nil},
		"asked twice, the older is void": {"past_due", []bill{next("void", over(0, 30)),
			next("open", over(1, 31))}, []found{{Owed, WhyFailed, []int{2}, 10}}},
		"asked twice, the newer is under way": {"past_due", []bill{next("open", over(0, 30)),
			next("open", over(1, 31), intent("processing"))}, nil},
		"asked twice, one is in dispute": {"past_due", []bill{next("open", over(0, 30)),
			next("open", over(1, 31), disputed)}, nil},
		"asked twice, but the merchant says": {"past_due", []bill{next("open", over(0, 30)),
			next("open", over(1, 31), separate)}, []found{{Owed, WhyFailed, []int{1, 2}, 20}}},
		"asked twice, once given up": {"past_due", []bill{next("uncollectible", over(0, 30)),
			next("open", over(1, 31))}, []found{{WrittenOff, WhyWrittenOff, []int{1}, 10}}},
	} {
		var got, want []Ghost
		for _, f := range c.want {
			g := Ghost{Kind: f.kind, Why: f.why, Amount: f.amount, Currency: "eur",
				Hidden: f.why == WhyHidden}
			for _, n := range f.invoices {
				g.Invoices = append(g.Invoices, c.bills[n-1].id)
			}
			want = append(want, g)
		}
		got = judge(c.status, c.bills, now)
		slices.SortFunc(got, func(x, y Ghost) int { return cmp.Compare(x.Kind, y.Kind) })
		slices.SortFunc(want, func(x, y Ghost) int { return cmp.Compare(x.Kind, y.Kind) })
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", name, got, want)
		}
	}
}

// A dispute whose status nobody knows is open.
func TestUndecidedDisputes(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]bool{"needs_response": true, "under_review": true,
		"warning_needs_response": true,
		"warning_under_review":   true, "needs_arbitration": true, "": true, "won": false, "lost": false,
		"warning_closed": false,
		"prevented":      false, "charge_refunded": false} {
		if undecided(status) != want {
			t.Errorf("%q", status)
		}
	}
}
