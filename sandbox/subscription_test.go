package sandbox

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// subscribed is a healthy contract of the n-th merchant, charged to a card that does not die.
func (b *bench) subscribed(n int) *contract {
	b.t.Helper()
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	a := b.s.accounts[b.s.ids[n]]
	a.advance(b.clock.Now().Unix())
	c := a.contract("", (*contract).healthy)
	if c == nil {
		b.t.Fatal("nobody is healthy")
	}
	return c
}

// told lists the types of the first merchant's events that name an Idempotency-Key.
func (b *bench) told(k string) (types []string) {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	for _, o := range b.s.accounts[b.s.ids[0]].tables["events"].rows {
		if e := o.(*event); string(e.Request.IdempotencyKey) == k {
			types = append(types, e.Type)
		}
	}
	slices.Sort(types)
	return slices.Compact(types)
}

func (b *bench) delete(path, token string, form url.Values, k string) reply {
	b.t.Helper()
	r, err := b.do(http.MethodDelete, path, token, form, key(k)...)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func TestPauseCollection(t *testing.T) {
	t.Parallel()
	for behavior, want := range map[string]string{"void": "void", "mark_uncollectible": "uncollectible", "keep_as_draft": "draft"} {
		b := setup(t)
		token, c := b.connect(0), b.subscribed(0)
		path := "/v1/subscriptions/" + c.sub.ID
		form := url.Values{"pause_collection[behavior]": {behavior}, "metadata[hunt]": {"7"}}
		for range 2 { // the second is a replay
			r := b.post(path, token, form, key("task_1")...)
			if r.status != 200 || r.text("pause_collection.behavior") != behavior || r.text("metadata.hunt") != "7" || r.text("status") != "active" {
				t.Fatalf("%s: %d %s", behavior, r.status, r.body)
			}
		}
		if b.s.Executions("task_1") != 1 || !slices.Equal(b.told("task_1"), []string{"customer.subscription.updated"}) {
			t.Errorf("%s: executed %d times, told %v", behavior, b.s.Executions("task_1"), b.told("task_1"))
		}
		b.clock.add(time.Unix(c.bill, 0).Sub(b.clock.Now()) + 2*time.Hour)
		sub := b.get(path, token, nil)
		if inv := b.get("/v1/invoices/"+sub.text("latest_invoice"), token, nil); inv.text("status") != want {
			t.Errorf("%s: the next invoice is %s", behavior, inv.text("status"))
		}
		r := b.post(path, token, url.Values{"pause_collection": {""}}, key("task_2")...)
		if r.status != 200 || r.field("pause_collection") != nil {
			t.Errorf("%s, resumed: %d %s", behavior, r.status, r.body)
		}
		if l := b.s.Ledger(""); len(l) != 2 || l[0].Object != c.sub.ID || l[0].Before != "active" || l[0].Metadata["hunt"] != "7" {
			t.Errorf("%+v", l)
		}
	}
}

func TestPauseEndsByItself(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token, c := b.connect(0), b.subscribed(0)
	path, at := "/v1/subscriptions/"+c.sub.ID, b.clock.Now().Add(time.Hour).Unix()
	r := b.post(path, token, url.Values{"pause_collection[behavior]": {"void"}, "pause_collection[resumes_at]": {fmt.Sprint(at)}})
	if r.status != 200 || r.field("pause_collection.resumes_at") != float64(at) {
		t.Fatalf("%d %s", r.status, r.body)
	}
	b.clock.add(time.Hour)
	if r = b.get(path, token, nil); r.field("pause_collection") != nil {
		t.Errorf("%s", r.body)
	}
}

func TestCancelSubscription(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	inv := b.find(0, func(v *invoice) bool { return doomed(v) && v.NextPaymentAttempt != 0 })
	path := "/v1/subscriptions/" + string(inv.Subscription)
	for range 2 {
		r := b.delete(path, token, url.Values{"prorate": {"false"}}, "task_1")
		if r.status != 200 || r.text("status") != "canceled" || r.field("canceled_at") != float64(birth.Unix()) {
			t.Fatalf("%d %s", r.status, r.body)
		}
	}
	if b.s.Executions("task_1") != 1 || !slices.Equal(b.told("task_1"), []string{"customer.subscription.deleted"}) {
		t.Errorf("executed %d times, told %v", b.s.Executions("task_1"), b.told("task_1"))
	}
	if now := b.get("/v1/invoices/"+inv.ID, token, nil); now.text("status") != "open" || now.field("next_payment_attempt") != nil {
		t.Errorf("the debt: %s", now.body)
	}
	if r := b.delete(path, token, nil, "task_2"); r.status != 404 || r.text("error.code") != "resource_missing" {
		t.Errorf("twice: %d %s", r.status, r.body)
	}
	// The same key for another method is another endpoint.
	if r := b.post(path, token, url.Values{"prorate": {"false"}}, key("task_3")...); r.status != 400 {
		t.Errorf("unknown to POST: %d %s", r.status, r.body)
	}
	if r := b.post(path, token, nil, key("task_2")...); r.text("error.type") != "idempotency_error" {
		t.Errorf("the key of the DELETE: %d %s", r.status, r.body)
	}
	if r := b.post(path, token, url.Values{"pause_collection[behavior]": {"void"}}); r.status != 400 {
		t.Errorf("paused after its end: %d %s", r.status, r.body)
	}
	if r := b.post(path, token, url.Values{"metadata[a]": {"1"}}); r.status != 200 {
		t.Errorf("metadata after its end: %d %s", r.status, r.body)
	}
}

func TestCancelAtPeriodEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token, c := b.connect(0), b.subscribed(0)
	path := "/v1/subscriptions/" + c.sub.ID
	if r := b.post(path, token, url.Values{"cancel_at_period_end": {"true"}}); r.field("cancel_at") != float64(c.sub.CurrentPeriodEnd) || r.text("status") != "active" {
		t.Fatalf("%d %s", r.status, r.body)
	}
	b.clock.add(time.Unix(c.sub.CurrentPeriodEnd, 0).Sub(b.clock.Now()) + time.Second)
	if r := b.get(path, token, nil); r.text("status") != "canceled" {
		t.Errorf("%s", r.body)
	}
}

func TestCreateSubscription(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token, c := b.connect(0), b.subscribed(0)
	form := url.Values{"customer": {c.cust.ID}, "items[0][price]": {c.price.ID}, "metadata[planned_attempt]": {"1"}}
	var id string
	for range 2 {
		r := b.post("/v1/subscriptions", token, form, key("task_1")...)
		if r.status != 200 || r.text("status") != "active" || r.text("customer") != c.cust.ID || id != "" && r.text("id") != id {
			t.Fatalf("%d %s", r.status, r.body)
		}
		id = r.text("id")
	}
	sub := b.get("/v1/subscriptions/"+id, token, nil)
	inv := b.get("/v1/invoices/"+sub.text("latest_invoice"), token, nil)
	if inv.text("status") != "paid" || inv.field("amount_paid") != float64(c.price.UnitAmount) {
		t.Errorf("its first invoice: %s", inv.body)
	}
	for _, typ := range []string{"customer.subscription.created", "invoice.paid", "charge.succeeded", "customer.subscription.updated"} {
		if !slices.Contains(b.told("task_1"), typ) {
			t.Errorf("%s was not told: %v", typ, b.told("task_1"))
		}
	}
	if l := b.s.Ledger(""); len(l) != 1 || l[0].Object != id || l[0].Before != "" || l[0].Metadata["planned_attempt"] != "1" {
		t.Errorf("%+v", l)
	}
	b.clock.add(32 * 24 * time.Hour) // and it lives on
	if now := b.get("/v1/subscriptions/"+id, token, nil); now.text("latest_invoice") == sub.text("latest_invoice") {
		t.Errorf("not renewed: %s", now.body)
	}
	if trial := b.post("/v1/subscriptions", token, url.Values{"customer": {c.cust.ID}, "items[0][price]": {c.price.ID}, "trial_period_days": {"7"}}); trial.text("status") != "trialing" || trial.text("id") == id {
		t.Errorf("trial: %d %s", trial.status, trial.body)
	}
}

func TestSubscriptionMutationsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token, c := b.connect(0), b.subscribed(0)
	foreign := b.subscribed(1)
	path := "/v1/subscriptions/" + c.sub.ID
	with := func(change ...string) url.Values {
		form := url.Values{"customer": {c.cust.ID}, "items[0][price]": {c.price.ID}}
		for i := 0; i < len(change); i += 2 {
			form.Set(change[i], change[i+1])
		}
		return form
	}
	for name, tc := range map[string]struct {
		path   string
		form   url.Values
		status int
		param  string
	}{
		"unknown parameter":        {path, url.Values{"price": {"x"}}, 400, "price"},
		"unknown behavior":         {path, url.Values{"pause_collection[behavior]": {"wait"}}, 400, "pause_collection[behavior]"},
		"unknown field of a pause": {path, url.Values{"pause_collection[until]": {"1"}}, 400, "pause_collection[until]"},
		"an end alone":             {path, url.Values{"pause_collection[resumes_at]": {"9999999999"}}, 400, "pause_collection[behavior]"},
		"an end in the past":       {path, url.Values{"pause_collection[behavior]": {"void"}, "pause_collection[resumes_at]": {"1"}}, 400, "pause_collection[resumes_at]"},
		"no object":                {path, url.Values{"pause_collection": {"void"}}, 400, "pause_collection"},
		"somebody else's":          {"/v1/subscriptions/" + foreign.sub.ID, nil, 404, "id"},
		"no customer":              {"/v1/subscriptions", with("customer", ""), 400, "customer"},
		"another's customer":       {"/v1/subscriptions", with("customer", foreign.cust.ID), 400, "customer"},
		"no price":                 {"/v1/subscriptions", with("items[0][price]", ""), 400, "items[0][price]"},
		"another's price":          {"/v1/subscriptions", with("items[0][price]", foreign.price.ID), 400, "items[0][price]"},
		"another's card":           {"/v1/subscriptions", with("default_payment_method", foreign.card.pm.ID), 400, "default_payment_method"},
		"two items":                {"/v1/subscriptions", with("items[1][price]", c.price.ID), 400, "items[1][price]"},
		"coupon":                   {"/v1/subscriptions", with("coupon", "x"), 400, "coupon"},
	} {
		if r := b.post(tc.path, token, tc.form, key("k")...); r.status != tc.status || r.text("error.param") != tc.param {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	if l := b.s.Ledger(""); len(l) != 0 {
		t.Errorf("executed: %+v", l)
	}
}

// Every event that a mutation causes names its key, no matter what the mutation is.
func TestEventsNameTheirKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	lastTry := b.find(0, func(v *invoice) bool { return doomed(v) && v.NextPaymentAttempt != 0 })
	b.s.mu.Lock()
	// the retries are used up
	lastTry.of.after, lastTry.firstFail, lastTry.NextPaymentAttempt = cancelNow, birth.Unix()-20*day, 0
	b.s.mu.Unlock()
	used := []string{lastTry.ID}
	fresh := func() string {
		inv := b.find(0, func(v *invoice) bool {
			return doomed(v) && !slices.Contains(used, v.ID) && v.of != lastTry.of && len(v.of.open) == 1
		})
		used = append(used, inv.ID)
		return inv.ID
	}
	for i, c := range []struct {
		path string
		form url.Values
		want string
	}{
		{"/v1/invoices/" + lastTry.ID + "/pay", nil, "charge.failed customer.subscription.deleted invoice.payment_failed invoice.updated payment_intent.payment_failed"},
		{"/v1/invoices/" + fresh() + "/mark_uncollectible", nil, "customer.subscription.updated invoice.marked_uncollectible invoice.updated"},
		{"/v1/invoices/" + fresh() + "/void", nil, "customer.subscription.updated invoice.updated invoice.voided"},
		{"/v1/invoices/" + fresh(), url.Values{"auto_advance": {"false"}}, "invoice.updated"},
	} {
		k := fmt.Sprint("task_", i)
		b.post(c.path, token, c.form, key(k)...)
		if got := strings.Join(b.told(k), " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.path, got, c.want)
		}
	}
	// By type, by types and page by page the same events are found; one by its id.
	page := b.page("/v1/events", token, url.Values{"types[]": {"invoice.voided", "invoice.marked_uncollectible"}, "created[gte]": {fmt.Sprint(birth.Unix())}})
	if len(page.Data) != 2 {
		t.Errorf("by types: %+v", page)
	}
	next := b.page("/v1/events", token, url.Values{"types[]": {"invoice.voided", "invoice.marked_uncollectible"}, "limit": {"1"}, "starting_after": {page.Data[0].ID}})
	if len(next.Data) != 1 || next.Data[0].ID != page.Data[1].ID {
		t.Errorf("after the first: %+v", next)
	}
	one := b.get("/v1/events/"+page.Data[0].ID, token, nil)
	if one.text("type") != "invoice.voided" || one.text("request.idempotency_key") != "task_2" || !strings.HasPrefix(one.text("request.id"), "req_") {
		t.Errorf("%s", one.body)
	}
}
