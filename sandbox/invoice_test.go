package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestPay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	inv := b.find(0, func(inv *invoice) bool {
		return payable(inv) && inv.of.sub.Status == "past_due" && string(inv.of.sub.LatestInvoice) == inv.ID
	})
	b.sure(inv)
	before := inv.AttemptCount
	r := b.post("/v1/invoices/"+inv.ID+"/pay", token, nil, key("task_p")...)
	if r.status != http.StatusOK || r.field("paid") != true || r.field("amount_remaining") != 0.0 || r.field("status_transitions.paid_at") == nil ||
		r.field("next_payment_attempt") != nil || int64(r.field("attempt_count").(float64)) != before {
		t.Fatalf("%d %s", r.status, r.body)
	}
	ch := b.get("/v1/charges/"+r.text("charge"), token, nil)
	if ch.text("status") != "succeeded" || ch.text("invoice") != inv.ID || ch.field("amount") != r.field("amount_paid") {
		t.Errorf("charge: %s", ch.body)
	}
	if pi := b.get("/v1/payment_intents/"+r.text("payment_intent"), token, nil); pi.text("status") != "succeeded" {
		t.Errorf("intent: %s", pi.body)
	}
	if sub := b.get("/v1/subscriptions/"+r.text("subscription"), token, nil); sub.text("status") != "active" {
		t.Errorf("subscription: %s", sub.body)
	}
	// Every event of the payment names the request and its key; that of a neighbour in time does
	// not.
	mine := map[string]bool{}
	for _, e := range all[struct {
		Type    string
		Request struct {
			ID  string
			Key string `json:"idempotency_key"`
		}
		Data struct{ Object struct{ ID string } }
	}](b, "events", token) {
		if e.Request.Key == "task_p" {
			mine[e.Type] = true
			if e.Request.ID != r.header.Get("Request-Id") {
				t.Errorf("%s names request %q", e.Type, e.Request.ID)
			}
		} else if e.Request.Key != "" || e.Request.ID != "" {
			t.Errorf("%s has a stranger's request %+v", e.Type, e.Request)
		}
	}
	for _, typ := range []string{"charge.succeeded", "payment_intent.succeeded", "invoice.paid", "invoice.payment_succeeded", "invoice.updated", "customer.subscription.updated"} {
		if !mine[typ] {
			t.Errorf("no event %s: %v", typ, mine)
		}
	}
}

func TestDecline(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	inv := b.find(0, doomed)
	charges, attempts := b.count(0, "charges"), inv.AttemptCount
	r := b.post("/v1/invoices/"+inv.ID+"/pay", token, nil)
	if r.status != http.StatusPaymentRequired || r.text("error.payment_intent.id") != string(inv.PaymentIntent) || r.text("error.message") == "" {
		t.Fatalf("%d %s", r.status, r.body)
	}
	ch := b.get("/v1/charges/"+r.text("error.charge"), token, nil)
	if ch.text("status") != "failed" || ch.text("outcome.reason") != r.text("error.decline_code") || ch.text("failure_code") != r.text("error.code") {
		t.Errorf("charge: %s", ch.body)
	}
	now := b.get("/v1/invoices/"+inv.ID, token, nil)
	// Attempts by hand after the first do not count in attempt_count, says Stripe's reference.
	if now.text("status") != "open" || now.text("charge") != r.text("error.charge") || int64(now.field("attempt_count").(float64)) != attempts ||
		b.count(0, "charges") != charges+1 {
		t.Errorf("invoice: %s", now.body)
	}
	// With a good card of the same customer it goes through.
	b.s.mu.Lock()
	w := &author{acc: inv.of.acc, r: stream(1, "test"), epoch: b.clock.Now().Unix(), start: b.clock.Now().Unix(), customer: inv.of.cust}
	fresh := w.card(liquid)
	b.s.mu.Unlock()
	ok := false
	for range 5 { // a liquid card declines now and then
		r = b.post("/v1/invoices/"+inv.ID+"/pay", token, url.Values{"payment_method": {fresh.pm.ID}})
		ok = ok || r.status == http.StatusOK
	}
	if !ok || b.get("/v1/invoices/"+inv.ID, token, nil).text("status") != "paid" {
		t.Errorf("with another card: %d %s", r.status, r.body)
	}
}

// A bank's "never again" is remembered: what follows is blocked, not sent.
func TestNeverAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	inv := b.find(0, doomed)
	b.s.mu.Lock()
	inv.of.card.end = decline{"never", "", "stolen_card", "do_not_try_again", "43", "03"}
	b.s.mu.Unlock()
	for i, want := range []string{"declined_by_network", "not_sent_to_network"} {
		r := b.post("/v1/invoices/"+inv.ID+"/pay", token, nil)
		ch := b.get("/v1/charges/"+r.text("error.charge"), token, nil)
		if r.status != http.StatusPaymentRequired || r.text("error.advice_code") != "do_not_try_again" || ch.text("outcome.network_status") != want {
			t.Errorf("attempt %d: %s", i+1, ch.body)
		}
	}
}

func TestInvoiceStates(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	post := func(inv *invoice, verb string, form url.Values) reply {
		return b.post("/v1/invoices/"+inv.ID+verb, token, form)
	}

	for _, status := range []string{"draft", "void", "paid"} {
		inv := b.find(0, func(inv *invoice) bool { return inv.Status == status && inv.Total > 0 })
		charges := b.count(0, "charges")
		if r := post(inv, "/pay", nil); r.status != http.StatusBadRequest || b.count(0, "charges") != charges {
			t.Errorf("pay %s: %d %s", status, r.status, r.body)
		}
	}
	inv := b.find(0, func(inv *invoice) bool { return b.s.accounts[b.s.ids[0]].pending(inv) != nil })
	for _, verb := range []string{"/pay", "/void", "/mark_uncollectible"} {
		if r := post(inv, verb, nil); r.status != http.StatusBadRequest || r.text("error.code") != "payment_intent_unexpected_state" {
			t.Errorf("%s while a debit is under way: %d %s", verb, r.status, r.body)
		}
	}
	b.clock.add(6 * 24 * time.Hour)
	if r := b.get("/v1/invoices/"+inv.ID, token, nil); r.text("status") == "open" && r.field("attempt_count") == 1.0 && r.field("next_payment_attempt") == nil {
		t.Errorf("the debit never settled: %s", r.body)
	}

	inv = b.find(0, func(inv *invoice) bool { return inv.Status == "open" && inv.NextPaymentAttempt != 0 })
	if r := post(inv, "", url.Values{"auto_advance": {"false"}, "metadata[hunt]": {"h1"}}); r.field("next_payment_attempt") != nil ||
		r.field("auto_advance") != false || r.text("metadata.hunt") != "h1" {
		t.Errorf("take over: %d %s", r.status, r.body)
	}
	attempts := inv.AttemptCount
	b.clock.add(15 * 24 * time.Hour)
	if r := b.get("/v1/invoices/"+inv.ID, token, nil); int64(r.field("attempt_count").(float64)) != attempts {
		t.Errorf("Smart Retries ran beside us: %s", r.body)
	}
	if r := post(inv, "", url.Values{"auto_advance": {"true"}, "metadata[hunt]": {""}}); r.field("next_payment_attempt") == nil || strings.Contains(r.body, "h1") {
		t.Errorf("give back: %d %s", r.status, r.body)
	}
	if r := post(inv, "/mark_uncollectible", nil); r.text("status") != "uncollectible" || r.field("next_payment_attempt") != nil {
		t.Errorf("uncollectible: %d %s", r.status, r.body)
	}
	if r := post(inv, "/pay", url.Values{"paid_out_of_band": {"true"}}); r.text("status") != "paid" || r.field("paid_out_of_band") != true {
		t.Errorf("out of band: %d %s", r.status, r.body)
	}
	if r := post(inv, "/void", nil); r.status != http.StatusBadRequest {
		t.Errorf("void a paid invoice: %d", r.status)
	}
	inv = b.find(0, payable)
	if r := post(inv, "/void", nil); r.text("status") != "void" || r.field("status_transitions.voided_at") == nil {
		t.Errorf("void: %d %s", r.status, r.body)
	}
}

func TestUpdateCustomer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	path := "/v1/customers/" + b.find(0, payable).Customer
	r := b.post(path, token, url.Values{"email": {"new@example.com"}, "metadata[a]": {"1"}, "metadata[b]": {"2"}})
	if r.text("email") != "new@example.com" || r.text("metadata.a") != "1" {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r = b.post(path, token, url.Values{"metadata[a]": {""}}); r.field("metadata.a") != nil || r.text("metadata.b") != "2" {
		t.Errorf("one key: %s", r.body)
	}
	if r = b.post(path, token, url.Values{"metadata": {""}}); r.field("metadata.b") != nil || r.text("email") != "new@example.com" {
		t.Errorf("all keys: %s", r.body)
	}
	if r = b.post(path, token, url.Values{"email": {"nonsense"}}); r.status != http.StatusBadRequest || r.text("error.param") != "email" {
		t.Errorf("bad email: %d %s", r.status, r.body)
	}
}

// An event shows its object as it was then.
func TestEventsKeepTheMoment(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	path := "/v1/customers/" + b.find(0, payable).Customer
	b.post(path, token, url.Values{"name": {"One"}, "metadata[n]": {"1"}})
	b.clock.add(time.Second)
	b.post(path, token, url.Values{"name": {"Two"}, "metadata[n]": {"2"}})
	r := b.get("/v1/events", token, url.Values{"type": {"customer.updated"}})
	for i, want := range []string{`"name":"Two"`, `"name":"One"`} {
		row, _ := json.Marshal(r.field("data").([]any)[i].(map[string]any)["data"].(map[string]any)["object"])
		if !strings.Contains(string(row), want) || !strings.Contains(string(row), fmt.Sprintf(`"metadata":{"n":"%d"}`, 2-i)) {
			t.Errorf("event %d: %s, want %s", i, row, want)
		}
	}
}

// The world lives on: renewals, retries and expiries happen when the clock passes them.
func TestWorldGoesOn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.find(0, payable)
	a := b.s.accounts[b.s.ids[0]]
	invoices, customers, incomplete := b.count(0, "invoices"), b.count(0, "customers"), 0
	ghosts := func() map[string]bool {
		ids := map[string]bool{}
		for _, o := range a.tables["subscriptions"].rows {
			if sub := o.(*subscription); sub.Status == "past_due" {
				ids[sub.ID] = true
			}
		}
		return ids
	}
	before := ghosts()
	b.clock.add(62 * 24 * time.Hour)
	b.find(0, payable)
	for _, o := range a.tables["subscriptions"].rows {
		sub := o.(*subscription)
		if sub.Status == "incomplete" {
			incomplete++
		}
		if sub.Status == "active" && sub.CurrentPeriodEnd < b.clock.Now().Unix() {
			t.Errorf("%s was not renewed", sub.ID)
		}
	}
	if more := b.count(0, "invoices") - invoices; more < 100 || incomplete != 0 {
		t.Errorf("%d new invoices, %d still incomplete", more, incomplete)
	}
	after := ghosts()
	for id := range before {
		delete(after, id)
	}
	if b.count(0, "customers") <= customers || len(after) < 3 {
		t.Errorf("%d newcomers, %d new ghosts", b.count(0, "customers")-customers, len(after))
	}
	for _, o := range a.tables["events"].rows {
		if o.meta().Created < b.clock.Now().Unix()-eventLife {
			t.Fatal("an event older than 30 days is still there")
		}
	}
}
