package verdict

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/shield"
)

var moment = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// dice draws what tables are made of.
type dice struct{ *rand.Rand }

func one[T any](d dice, of ...T) T { return of[d.IntN(len(of))] }

func (d dice) policy() shield.Policy {
	p := shield.Default()
	p.Mode = one(d, shield.Enforce, shield.Enforce, shield.DryRun, shield.Off)
	p.Customer = one(d, "best", "worst")
	p.Unknown = one(d, shield.Levels...)
	return p
}

func (d dice) row(customer, subscription string) shield.Row {
	r := shield.Row{
		Subscription: subscription, Customer: customer, Product: one(d, "", "prod_1", "prod_2"), Level: one(d, shield.Levels...),
		Reason: one(d, reasons...), Since: moment.Unix() - d.Int64N(1e7), Ended: d.IntN(4) == 0, InDebt: d.IntN(2) == 0,
	}
	if r.Held = d.IntN(5) == 0; r.Held {
		r.Target = one(d, shield.Levels...)
	}
	for at := moment.Unix(); d.IntN(3) == 0; {
		at += d.Int64N(1e6) + 1
		r.Ahead = append(r.Ahead, shield.RowAhead{Level: one(d, shield.Levels...), At: at})
	}
	return r
}

// tenantWith is a table with one merchant and these rows.
func tenantWith(t testing.TB, policy shield.Policy, rows []shield.Row) (*Table, shield.Tenant) {
	t.Helper()
	table := NewTable()
	of := shield.Tenant{ID: uuid.New(), Account: "acct_1", Policy: policy, Version: 1, Revision: 7}
	if err := table.Load("0a1b2c3d", []shield.Tenant{of}, true, func(add func(uuid.UUID, shield.Row)) error {
		for _, row := range rows {
			add(of.ID, row)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return table, of
}

// want is a customer's verdict as package shield has it, in JSON.
func want(t *testing.T, of shield.Tenant, revision, customer, feature string, rows []shield.Row) string {
	t.Helper()
	var known []shield.Known
	for _, row := range rows {
		known = append(known, row.Known())
	}
	v := shield.VerdictOf(of.Policy, customer, feature, known)
	v.Revision, v.Livemode = revision, of.Livemode
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// After rows were loaded, changed, moved to another customer or removed, the table says what
// package shield says of the rows, byte for byte.
func TestTableSaysWhatShieldSays(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		d := dice{rand.New(rand.NewPCG(seed, 1))}
		truth := map[string]shield.Row{} // by subscription
		var rows []shield.Row
		customer := func() string { return fmt.Sprint("cus_", d.IntN(60)) }
		for i := range 150 {
			row := d.row(customer(), fmt.Sprint("sub_", i))
			rows, truth[row.Subscription] = append(rows, row), row
		}
		table, of := tenantWith(t, d.policy(), rows)
		h := New(Config{Table: table})
		revision := int64(7)
		for range 300 {
			id := fmt.Sprint("sub_", d.IntN(200))
			row := d.row(customer(), id)
			if old, is := truth[id]; is && d.IntN(3) > 0 {
				row.Customer = old.Customer
			}
			if row.Gone = d.IntN(6) == 0; row.Gone {
				delete(truth, id)
			} else {
				truth[id] = row
			}
			revision++
			table.Apply(of.ID, revision, []shield.Row{row})
			if d.IntN(20) == 0 { // a new policy has everything read anew
				of.Policy, of.Revision = d.policy(), revision
				if err := table.Load("0a1b2c3d", []shield.Tenant{of}, d.IntN(2) == 0, func(add func(uuid.UUID, shield.Row)) error {
					for _, row := range truth {
						add(of.ID, row)
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
			}
		}
		v := table.tenantOf(of.ID).view.Load()
		for i := range 60 {
			name := fmt.Sprint("cus_", i)
			var own []shield.Row
			for _, row := range truth {
				if row.Customer == name {
					own = append(own, row)
				}
			}
			slices.SortFunc(own, func(a, b shield.Row) int { return slices.Compare([]byte(a.Subscription), []byte(b.Subscription)) })
			feature := one(d, "", "login", "billing", "other")
			got, _ := h.lookUp(nil, v, name, feature, false)
			if !sameVerdict(t, string(got), want(t, of, token("0a1b2c3d", revision), name, feature, own)) {
				t.Fatalf("seed %d, %s:\n%s\nwant\n%s", seed, name, got, want(t, of, token("0a1b2c3d", revision), name, feature, own))
			}
		}
		for id := range maps.Keys(truth) {
			got, a, owner := h.lookUpSubscription(nil, v, id, "", false)
			if !a.known || owner != truth[id].Customer {
				t.Fatalf("seed %d, %s: %s", seed, id, got)
			}
		}
		if _, a, _ := h.lookUpSubscription(nil, v, "sub_never", "", false); a.known {
			t.Fatal("a subscription that never was is known")
		}
	}
}

// sameVerdict compares, but for the order of subscriptions.
func sameVerdict(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y shield.Verdict
	for i, into := range []*shield.Verdict{&x, &y} {
		if err := json.Unmarshal([]byte([]string{a, b}[i]), into); err != nil {
			t.Fatalf("%v: %s, %s", err, a, b)
		}
		slices.SortFunc(into.Subscriptions, func(a, b shield.SubscriptionVerdict) int {
			return slices.Compare([]byte(a.ID), []byte(b.ID))
		})
	}
	first, _ := json.Marshal(x)
	second, _ := json.Marshal(y)
	return string(first) == string(second) && len(a) == len(b)
}

// A merchant's rows are nobody else's, under the same ids, too.
func TestTenantsOfATableAreApart(t *testing.T) {
	t.Parallel()
	table := NewTable()
	a, b := shield.Tenant{ID: uuid.New(), Policy: shield.Default()}, shield.Tenant{ID: uuid.New(), Policy: shield.Default()}
	a.Policy.Mode, b.Policy.Mode = shield.Enforce, shield.Enforce
	if err := table.Load("0a1b2c3d", []shield.Tenant{a, b}, true, func(add func(uuid.UUID, shield.Row)) error {
		add(a.ID, shield.Row{Subscription: "sub_1", Customer: "cus_1", Level: shield.Blocked})
		add(uuid.New(), shield.Row{Subscription: "sub_2", Customer: "cus_2", Level: shield.Blocked})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	h := New(Config{Table: table})
	if got, _ := h.levelOf(table.tenantOf(a.ID).view.Load(), "cus_1", false); !got.known || got.level != shield.Blocked {
		t.Errorf("%+v", got)
	}
	for _, customer := range []string{"cus_1", "cus_2"} {
		if got, _ := h.levelOf(table.tenantOf(b.ID).view.Load(), customer, false); got.known || got.level != shield.Full {
			t.Errorf("%s of another merchant: %+v", customer, got)
		}
	}
	if _, known, _ := h.lookUpSubscription(nil, table.tenantOf(b.ID).view.Load(), "sub_1", "", false); known.known {
		t.Error("another merchant's subscription is known")
	}
}

// A load that breaks off changes nothing, and leaves nothing behind.
func TestBrokenLoadChangesNothing(t *testing.T) {
	t.Parallel()
	policy := shield.Default()
	policy.Mode = shield.Enforce
	table, of := tenantWith(t, policy, []shield.Row{{Subscription: "sub_1", Customer: "cus_1", Level: shield.Limited}})
	failed := fmt.Errorf("the connection was lost")
	if err := table.Load("ffffffff", []shield.Tenant{of}, true, func(add func(uuid.UUID, shield.Row)) error {
		add(of.ID, shield.Row{Subscription: "sub_1", Customer: "cus_1", Level: shield.Full})
		return failed
	}); err != failed { //nolint:errorlint // it is handed through
		t.Fatal(err)
	}
	if got, _ := New(Config{Table: table}).levelOf(table.tenantOf(of.ID).view.Load(), "cus_1", false); got.level != shield.Limited || table.Epoch() != "0a1b2c3d" {
		t.Errorf("%+v of epoch %s", got, table.Epoch())
	}
	live := 0
	for i := range table.records {
		live += table.records[i].live
	}
	if live != 1 {
		t.Errorf("%d records are left, want 1", live)
	}
}

// One customer may have ten thousand subscriptions. Each changes, and all are told.
func TestCustomerWithManySubscriptions(t *testing.T) {
	t.Parallel()
	policy := shield.Default()
	policy.Mode, policy.Customer = shield.Enforce, "worst"
	var rows []shield.Row
	for i := range 10_000 {
		rows = append(rows, shield.Row{Subscription: fmt.Sprint("sub_", i), Customer: "cus_1", Level: shield.Full, Reason: shield.ByPayment})
	}
	table, of := tenantWith(t, policy, rows)
	rows[5000].Level = shield.Blocked
	table.Apply(of.ID, 8, rows[5000:5001])
	h, v := New(Config{Table: table}), table.tenantOf(of.ID).view.Load()
	if got, _ := h.levelOf(v, "cus_1", false); got.level != shield.Blocked {
		t.Errorf("%+v", got)
	}
	text, _ := h.lookUp(nil, v, "cus_1", "", false)
	var verdict shield.Verdict
	if err := json.Unmarshal(text, &verdict); err != nil || len(verdict.Subscriptions) != 10_000 {
		t.Errorf("%d subscriptions are told, %v", len(verdict.Subscriptions), err)
	}
	if _, a, _ := h.lookUpSubscription(nil, v, "sub_9999", "", false); a.level != shield.Full || !a.known {
		t.Errorf("%+v", a)
	}
}

// Readers beside the writer see a customer's old or new verdict, and never half of one.
func TestReadersBesideTheWriter(t *testing.T) {
	t.Parallel()
	policy := shield.Default()
	policy.Mode = shield.Enforce
	var rows []shield.Row
	for i := range 500 {
		rows = append(rows, shield.Row{Subscription: fmt.Sprint("sub_", i), Customer: fmt.Sprint("cus_", i), Level: shield.Full, Reason: shield.ByPayment, Since: 1})
	}
	table, of := tenantWith(t, policy, rows)
	h := New(Config{Table: table})
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			d := dice{rand.New(rand.NewPCG(rand.Uint64(), 2))}
			for {
				select {
				case <-stop:
					return
				default:
				}
				name := fmt.Sprint("cus_", d.IntN(500))
				text, a := h.lookUp(nil, table.tenantOf(of.ID).view.Load(), name, "", false)
				full := a.level == shield.Full && a.reason == shield.ByPayment
				blocked := a.level == shield.Blocked && a.reason == shield.ByFailure
				if !json.Valid(text) || !full && !blocked {
					t.Errorf("%s", text)
					return
				}
				h.lookUpSubscription(nil, table.tenantOf(of.ID).view.Load(), fmt.Sprint("sub_", d.IntN(500)), "", false)
			}
		})
	}
	d := dice{rand.New(rand.NewPCG(5, 5))}
	for revision := range int64(20_000) {
		row := rows[d.IntN(len(rows))]
		if d.IntN(2) == 0 {
			row.Level, row.Reason = shield.Blocked, shield.ByFailure
		}
		table.Apply(of.ID, revision+8, []shield.Row{row})
		if revision%5000 == 0 {
			of.Revision = revision + 8
			if err := table.Load("0a1b2c3d", []shield.Tenant{of}, true, func(add func(uuid.UUID, shield.Row)) error {
				for _, row := range rows {
					add(of.ID, row)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		}
	}
	close(stop)
	readers.Wait()
}

// Memory of a subscription, beside a Go map that says the same. docs/benchmarks.md has the figures
// of ten million.
func TestMemoryOfASubscription(t *testing.T) { //nolint:paralleltest // it measures the heap
	const n = 200_000
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	policy := shield.Default()
	policy.Mode = shield.Enforce
	id := func(i int) string { return fmt.Sprintf("%014x", i*2654435761) }
	before := heap()
	table := NewTable()
	of := shield.Tenant{ID: uuid.New(), Policy: policy}
	if err := table.Load("0a1b2c3d", []shield.Tenant{of}, true, func(add func(uuid.UUID, shield.Row)) error {
		for i := range n {
			add(of.ID, shield.Row{Subscription: "sub_1NXxxxxxxx" + id(i), Customer: "cus_" + id(i), Product: "prod_1", Level: shield.Full, Reason: shield.ByPayment, Since: int64(i)})
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	ours := heap() - before
	before = heap()
	byCustomer := map[string]*shield.Known{}
	for i := range n {
		byCustomer["cus_"+id(i)] = &shield.Known{ID: "sub_1NXxxxxxxx" + id(i), Product: "prod_1", Level: shield.Full, Reason: shield.ByPayment, Since: moment}
	}
	gos := heap() - before
	runtime.KeepAlive(table)
	runtime.KeepAlive(byCustomer)
	if ratio := float64(ours) / float64(gos); ratio > 0.5 {
		t.Errorf("%d bytes a subscription, %.2f of a map's", ours/n, ratio)
	} else {
		t.Logf("%d bytes a subscription, %.2f of a map's", ours/n, ratio)
	}
}
