package sandbox

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestReplay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	inv := b.find(0, payable)
	b.sure(inv)
	path := "/v1/invoices/" + inv.ID + "/pay"
	charges := b.count(0, "charges")

	first := b.post(path, token, url.Values{"off_session": {"true"}, "forgive": {"false"}}, key("task_1")...)
	if first.status != http.StatusOK || first.text("status") != "paid" || first.header.Get("Idempotent-Replayed") != "" {
		t.Fatalf("first: %d %s", first.status, first.body)
	}
	again := b.post(path, token, url.Values{"forgive": {"false"}, "off_session": {"true"}}, key("task_1")...)
	if again.status != first.status || again.body != first.body || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("replay: %d %v", again.status, again.header)
	}
	if again.header.Get("Request-Id") == first.header.Get("Request-Id") ||
		again.header.Get("Original-Request") != first.header.Get("Request-Id") {
		t.Errorf("request ids: %v %v", first.header, again.header)
	}
	if n := b.s.Executions("task_1"); n != 1 || b.count(0, "charges") != charges+1 {
		t.Errorf("executed %d times, %d charges", n, b.count(0, "charges")-charges)
	}
	sibling := b.find(0, func(o *invoice) bool { return payable(o) && o != inv })
	for name, r := range map[string]reply{
		"same parameters, other path": b.post("/v1/invoices/"+sibling.ID+"/pay", token, url.Values{"off_session": {"true"}, "forgive": {"false"}}, key("task_1")...),
		"other parameters":            b.post(path, token, url.Values{"off_session": {"false"}, "forgive": {"false"}}, key("task_1")...),
		"other endpoint":              b.post("/v1/invoices/"+inv.ID+"/void", token, nil, key("task_1")...),
		"other object":                b.post("/v1/customers/"+inv.Customer, token, nil, key("task_1")...),
	} {
		if r.status != http.StatusBadRequest || r.text("error.type") != "idempotency_error" {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	// A new key is a new attempt, and a paid invoice is not paid again.
	if r := b.post(path, token, nil, key("task_2")...); r.status != http.StatusBadRequest || !strings.Contains(r.text("error.message"), "already paid") {
		t.Errorf("new key: %d %s", r.status, r.body)
	}
	if r := b.post(path, token, nil, key("task_2")...); r.status != http.StatusBadRequest || r.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("an executed 400 is stored: %d %v", r.status, r.header)
	}
	if n := b.count(0, "charges"); n != charges+1 {
		t.Errorf("%d charges more", n-charges)
	}
}

func TestDeclineIsReplayed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	inv := b.find(0, doomed)
	path := "/v1/invoices/" + inv.ID + "/pay"
	first := b.post(path, token, nil, key("task_d")...)
	if first.status != http.StatusPaymentRequired || first.text("error.type") != "card_error" || first.text("error.decline_code") == "" ||
		!strings.HasPrefix(first.text("error.charge"), "ch_") {
		t.Fatalf("decline: %d %s", first.status, first.body)
	}
	b.sure(inv) // the card is good now, and still the old key brings the old decline
	again := b.post(path, token, nil, key("task_d")...)
	if again.status != first.status || again.body != first.body || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("replay: %d %s", again.status, again.body)
	}
	if r := b.post(path, token, nil, key("task_e")...); r.status != http.StatusOK {
		t.Errorf("new key: %d %s", r.status, r.body)
	}
	if d, e := b.s.Executions("task_d"), b.s.Executions("task_e"); d != 1 || e != 1 {
		t.Errorf("executed %d and %d times", d, e)
	}
}

func TestNothingIsStoredBeforeExecution(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	inv := b.find(0, payable)
	b.sure(inv)
	path := "/v1/invoices/" + inv.ID + "/pay"
	b.s.Fail(Fault{Path: path, Status: 429})
	b.s.Fail(Fault{Path: path, Status: 500})
	for i, c := range []struct {
		path, auth string
		params     url.Values
		want       int
	}{
		{path, token, nil, 429},
		{path, token, nil, 500},
		{path, "sk_test_nobody_0000000000", nil, 401},
		{path, token, url.Values{"off_session": {"perhaps"}}, 400},
		{path, token, url.Values{"unheard_of": {"1"}}, 400},
		{path, token, url.Values{"payment_method": {"pm_unknown"}}, 400},
		{"/v1/invoices/in_unknown/pay", token, nil, 404},
	} {
		r := b.post(c.path, c.auth, c.params, key("task_v")...)
		if r.status != c.want || r.text("error.type") == "" {
			t.Errorf("case %d: %d %s", i, r.status, r.body)
		}
	}
	if n := b.s.Executions("task_v"); n != 0 {
		t.Fatalf("executed %d times", n)
	}
	r := b.post(path, token, nil, key("task_v")...)
	if r.status != http.StatusOK || r.header.Get("Idempotent-Replayed") != "" || b.s.Executions("task_v") != 1 {
		t.Errorf("the key was spent: %d %s", r.status, r.body)
	}
	if r := b.post(path, token, nil, key(strings.Repeat("k", 256))...); r.status != http.StatusBadRequest {
		t.Errorf("a key of 256 characters: %d", r.status)
	}
}

func TestTwinInFlight(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	inv := b.find(0, payable)
	b.sure(inv)
	path := "/v1/invoices/" + inv.ID + "/pay"
	entered, release := make(chan struct{}), make(chan struct{})
	b.s.Fail(Fault{Path: path, After: true, Hold: func() { close(entered); <-release }})
	first := make(chan reply)
	go func() {
		r, _ := b.do(http.MethodPost, path, token, nil, key("task_t")...)
		first <- r
	}()
	<-entered
	twin := b.post(path, token, nil, key("task_t")...)
	if twin.status != http.StatusConflict || twin.text("error.code") != "idempotency_key_in_use" {
		t.Errorf("twin: %d %s", twin.status, twin.body)
	}
	other := b.post(path, token, url.Values{"forgive": {"true"}}, key("task_t")...)
	if other.status != http.StatusBadRequest || other.text("error.type") != "idempotency_error" {
		t.Errorf("twin with other parameters: %d %s", other.status, other.body)
	}
	if r := b.get("/v1/invoices/"+inv.ID, token, nil); r.text("status") != "paid" {
		t.Errorf("meanwhile the invoice is %s", r.text("status"))
	}
	close(release)
	got := <-first
	again := b.post(path, token, nil, key("task_t")...)
	if got.status != http.StatusOK || again.body != got.body || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("first %d, then %d %v", got.status, again.status, again.header)
	}
	if n := b.s.Executions("task_t"); n != 1 {
		t.Errorf("executed %d times", n)
	}
}

func TestManyTwins(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	inv := b.find(0, payable)
	b.sure(inv)
	charges := b.count(0, "charges")
	const n = 50
	got := make(chan int, n)
	for i := range n {
		go func() {
			r, _ := b.do(http.MethodPost, "/v1/invoices/"+inv.ID+"/pay", token, nil, key(fmt.Sprint("task_", i%5))...)
			got <- r.status
		}()
	}
	seen := map[int]int{}
	for range n {
		seen[<-got]++
	}
	if b.count(0, "charges") != charges+1 || seen[200] < 1 || seen[200]+seen[400]+seen[409] != n {
		t.Errorf("%d charges, answers %v", b.count(0, "charges")-charges, seen)
	}
	for i := range 5 {
		if e := b.s.Executions(fmt.Sprint("task_", i)); e != 1 {
			t.Errorf("key %d executed %d times", i, e)
		}
	}
}

func TestKeysAreForgotten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token, other := b.connect(0), b.connect(1)
	id := b.find(0, payable).Customer
	foreign := b.find(1, payable).Customer
	form := url.Values{"metadata[note]": {"x"}}
	if r := b.post("/v1/customers/"+id, token, form, key("k")...); r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.body)
	}
	// The same key in another account is another key.
	if r := b.post("/v1/customers/"+foreign, other, form, key("k")...); r.status != http.StatusOK || r.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("other account: %d %s", r.status, r.body)
	}
	b.clock.add(24*time.Hour - time.Second)
	if r := b.post("/v1/customers/"+id, token, form, key("k")...); r.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("before 24 h: %v", r.header)
	}
	b.clock.add(time.Second)
	if r := b.post("/v1/customers/"+id, token, form, key("k")...); r.status != 200 || r.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("after 24 h: %v", r.header)
	}
	if n := b.s.Executions("k"); n != 3 {
		t.Errorf("executed %d times, want 3", n)
	}
}
