package sandbox

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// control calls a path below /sandbox/ with a JSON body and decodes the answer.
func control[T any](b *bench, method, path, body string) (out T) {
	b.t.Helper()
	req, err := http.NewRequest(method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+SecretKey)
	r, err := b.roundTrip(req)
	if err != nil || r.status != http.StatusOK {
		b.t.Fatalf("%s %s: %v %d %s", method, path, err, r.status, r.body)
	}
	if err := json.Unmarshal([]byte(r.body), &out); err != nil {
		b.t.Fatalf("%s %s: %v in %s", method, path, err, r.body)
	}
	return out
}

func TestLedger(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token, other := b.connect(0), b.connect(1)
	good, bad := b.find(0, payable), b.find(0, doomed)
	b.sure(good)
	pay := "/v1/invoices/" + good.ID + "/pay"
	began := time.Now()
	b.s.Fail(Fault{Path: pay, Drop: true, After: true})
	b.do(http.MethodPost, pay, token, nil, key("task_1")...)
	paid := time.Now()
	// replayed
	b.post(pay, token, nil, key("task_1")...)
	// executed: too late
	b.post(pay, token, nil, key("task_2")...)
	// executed: declined
	b.post("/v1/invoices/"+bad.ID+"/pay", token, nil, key("task_3")...)
	// executed
	b.post("/v1/invoices/"+bad.ID, token, url.Values{"metadata[planned_attempt]": {"2"}}, key("task_4")...)
	// refused
	b.post("/v1/invoices/"+bad.ID, token, url.Values{"unheard_of": {"2"}}, key("task_5")...)
	b.s.Fail(Fault{Path: "/v1/invoices/", Status: 500, Store: true})
	b.post("/v1/invoices/"+bad.ID+"/pay", token, nil, key("task_6")...) // stored, not executed
	b.post("/v1/customers/"+b.find(1, payable).Customer, other, nil, key("task_7")...)

	ledger := control[[]Execution](b, http.MethodGet, "/sandbox/ledger?account="+b.s.Accounts()[0], "")
	want := []Execution{
		{Key: "task_1", Path: pay, Object: good.ID, Before: "open", Status: 200},
		{Key: "task_2", Path: pay, Object: good.ID, Before: "paid", Status: 400},
		{Key: "task_3", Path: "/v1/invoices/" + bad.ID + "/pay", Object: bad.ID, Before: "open", Status: 402},
		{Key: "task_4", Path: "/v1/invoices/" + bad.ID, Object: bad.ID, Before: "open", Status: 200, Metadata: dict{"planned_attempt": "2"}},
	}
	if len(ledger) != len(want) {
		t.Fatalf("%d lines: %+v", len(ledger), ledger)
	}
	for i, w := range want {
		g := ledger[i]
		if g.Key != w.Key || g.Path != w.Path || g.Object != w.Object || g.Before != w.Before || g.Status != w.Status || g.Method != http.MethodPost ||
			g.Account != b.s.Accounts()[0] || g.Metadata["planned_attempt"] != w.Metadata["planned_attempt"] || g.Repeated || g.Order != uint64(i+1) ||
			!g.Clock.Equal(b.clock.Now()) {
			t.Errorf("line %d: %+v, want %+v", i, g, w)
		}
	}
	if at := ledger[0].At; at.Before(began) || at.After(paid) {
		t.Errorf("paid at %v, not between %v and %v", at, began, paid)
	}
	if all := b.s.Ledger(""); len(all) != 5 || all[4].Account != b.s.Accounts()[1] {
		t.Errorf("all accounts: %+v", all)
	}
	if n := control[map[string]int](b, http.MethodGet, "/sandbox/executions", ""); len(n) != 5 || n["task_1"] != 1 || n["task_6"] != 0 {
		t.Errorf("executions %v", n)
	}
}

// A key that was forgotten executes anew, and the ledger shows it.
func TestForgetKeys(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	path := "/v1/customers/" + b.find(0, payable).Customer
	for i, want := range []string{"", "true", "", "true"} {
		if i == 2 {
			control[struct{}](b, http.MethodPost, "/sandbox/forget-keys", "")
		}
		if r := b.post(path, token, url.Values{"metadata[a]": {"1"}}, key("k")...); r.header.Get("Idempotent-Replayed") != want {
			t.Errorf("request %d: replayed %q", i, r.header.Get("Idempotent-Replayed"))
		}
	}
	if l := b.s.Ledger(""); len(l) != 2 || l[0].Repeated || !l[1].Repeated || b.s.Executions("k") != 2 {
		t.Errorf("%+v", l)
	}
}

// A key in flight is not forgotten: its twin would be executed beside it.
func TestKeysInFlightAreNotForgotten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	path := "/v1/customers/" + b.find(0, payable).Customer
	entered, release, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	b.s.Fail(Fault{Path: path, After: true, Hold: func() { close(entered); <-release }})
	go func() {
		defer close(done)
		b.do(http.MethodPost, path, token, nil, key("k")...)
	}()
	<-entered
	b.s.ForgetKeys()
	if r := b.post(path, token, nil, key("k")...); r.status != http.StatusConflict {
		t.Errorf("twin: %d %s", r.status, r.body)
	}
	close(release)
	<-done
}

// What an invoice's charges have taken beyond what it asks for shows, and what was given back does
// not.
func TestPaidTwice(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	if twice := b.s.PaidTwice(); len(twice) != 0 {
		t.Fatalf("in a new world: %v", twice)
	}
	inv := b.find(0, payable)
	b.sure(inv)
	if r := b.post("/v1/invoices/"+inv.ID+"/pay", token, nil); r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if twice := b.s.PaidTwice(); len(twice) != 0 {
		t.Errorf("paid once: %v", twice)
	}
	again := &charge{head: head{ID: "ch_again"}, Amount: inv.Total, Invoice: text(inv.ID), Paid: true}
	b.s.mu.Lock()
	inv.of.acc.tables["charges"].add(again)
	b.s.mu.Unlock()
	if twice := b.s.PaidTwice(); len(twice) != 1 || twice[0] != inv.ID {
		t.Errorf("paid twice: %v", twice)
	}
	b.s.mu.Lock()
	again.AmountRefunded = again.Amount
	b.s.mu.Unlock()
	if twice := b.s.PaidTwice(); len(twice) != 0 {
		t.Errorf("given back: %v", twice)
	}
}
