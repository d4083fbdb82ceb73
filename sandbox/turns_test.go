package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// turner gives the first merchant's world turns, a second apart.
type turner struct {
	*bench
	token, account string
}

func turning(t *testing.T) *turner {
	t.Helper()
	b := setup(t)
	r := &turner{bench: b, token: b.connect(0), account: b.s.Accounts()[0]}
	b.find(0, payable)
	return r
}

// do gives a turn and says which events came of it.
func (r *turner) do(c Change) (id string, events []string) {
	r.t.Helper()
	r.clock.add(time.Second)
	r.find(0, anyInvoice) // what falls due meanwhile is none of the turn's
	c.Account = r.account
	events = r.fresh(r.account, func() { id = r.change(c) })
	return id, events
}

// wants gives a turn and holds its events against the ones it should have, in their order.
func (r *turner) wants(c Change, events ...string) string {
	r.t.Helper()
	id, got := r.do(c)
	if !slices.Equal(got, events) {
		r.t.Errorf("%s: events %v, want %v", c.Do, got, events)
	}
	return id
}

// ghosts are the lines of the truth that name an invoice.
func (r *turner) ghosts(invoice string) (out []Ghost) {
	for _, g := range r.s.Truth(r.account) {
		if slices.Contains(g.Invoices, invoice) {
			out = append(out, g)
		}
	}
	return out
}

// owed is what one line of the truth asks for an invoice's subscription; it fails if there are
// several.
func (r *turner) owed(invoice string) int64 {
	r.t.Helper()
	all := r.ghosts(invoice)
	if len(all) > 1 {
		r.t.Fatalf("%s: %+v", invoice, all)
	}
	if len(all) == 0 {
		return 0
	}
	return all[0].Amount
}

func (r *turner) show(kind, id string) reply {
	r.t.Helper()
	return r.get("/v1/"+kind+"/"+id, r.token, nil)
}

// An old payment intent keeps its charges and its disputes; the invoice shows the new one alone.
func TestNewIntent(t *testing.T) {
	t.Parallel()
	r := turning(t)
	inv, _ := r.do(Change{Do: "fail_renewal"})
	r.do(Change{Do: "pay_part", ID: inv, Amount: 2})
	old := r.show("invoices", inv).text("payment_intent")
	part := r.show("payment_intents", old).text("latest_charge")
	r.wants(Change{Do: "new_intent", ID: inv}, "payment_intent.canceled", "payment_intent.created",
		"invoice.updated")
	fresh := r.show("invoices", inv).text("payment_intent")
	if fresh == old || r.show("payment_intents", old).text("status") != "canceled" ||
		r.show("payment_intents", fresh).text("status") != "requires_payment_method" ||
		r.show("payment_intents", old).text("invoice") != inv {
		t.Errorf("%s became %s", old, fresh)
	}
	ch := r.show("charges", part)
	if ch.text("payment_intent") != old || ch.text("invoice") != inv || r.owed(inv) == 0 {
		t.Errorf("the part: %s", ch.body)
	}
	d, _ := r.do(Change{Do: "dispute", ID: part, Status: "needs_arbitration"})
	for _, q := range []url.Values{{"payment_intent": {old}}, {"charge": {part}}} {
		if e := r.page("/v1/disputes", r.token, q); len(e.Data) != 1 || e.Data[0].ID != d {
			t.Errorf("%v: %+v", q, e)
		}
	}
	if e := r.page("/v1/disputes", r.token, url.Values{"payment_intent": {fresh}}); len(e.Data) != 0 {
		t.Errorf("disputes of the new one: %+v", e)
	}
	if r.owed(inv) != 0 {
		t.Error("in dispute and owed")
	}
	r.do(Change{Do: "close_dispute", ID: d, Status: "won"})
	if r.owed(inv) == 0 {
		t.Error("the dispute is won, and nothing is owed")
	}
	r.do(Change{Do: "pay", ID: inv})
	if v := r.show("invoices", inv); v.text("status") != "paid" || r.show("payment_intents",
		fresh).text("status") != "succeeded" {
		t.Errorf("paid through the new one: %s", v.body)
	}
	r.sameTruth(0, r.token)
}

// One debt that is asked for several times is owed once, and no longer when one of them is paid.
func TestRepeatInvoice(t *testing.T) {
	t.Parallel()
	r := turning(t)
	inv, _ := r.do(Change{Do: "fail_renewal"})
	amount := r.owed(inv)
	again, events := r.do(Change{Do: "repeat_invoice", ID: inv})
	for _, e := range []string{"invoice.created", "invoice.finalized", "charge.failed",
		"invoice.payment_failed"} {
		if !slices.Contains(events, e) {
			t.Errorf("events %v lack %s", events, e)
		}
	}
	third, _ := r.do(Change{Do: "repeat_invoice", ID: again})
	if again == inv || r.owed(inv) != amount || r.ghosts(again) != nil || r.ghosts(third) != nil {
		t.Errorf("asked thrice: %+v %+v", r.ghosts(inv), r.ghosts(again))
	}
	r.wants(Change{Do: "metadata", ID: third, Status: "phantom=owed"}, "invoice.updated")
	if got := r.ghosts(third); len(got) != 1 || got[0].Amount != 2*amount ||
		!slices.Equal(got[0].Invoices, []string{inv, third}) {
		t.Errorf("the merchant says that it is owed twice: %+v", got)
	}
	r.do(Change{Do: "metadata", ID: third, Status: "phantom="})
	r.do(Change{Do: "pay", ID: again})
	if r.ghosts(inv) != nil || r.ghosts(third) != nil {
		t.Errorf("one is paid: %+v", r.ghosts(inv))
	}
	r.sameTruth(0, r.token)
}

func TestResubscribe(t *testing.T) {
	t.Parallel()
	r := turning(t)
	inv, _ := r.do(Change{Do: "fail_renewal"})
	old := r.ghosts(inv)[0]
	if old.Resubscribed {
		t.Fatal("subscribed anew before")
	}
	card := r.show("customers", old.Customer).text("invoice_settings.default_payment_method")
	id, events := r.do(Change{Do: "resubscribe", ID: old.Subscription})
	if events[0] != "payment_method.attached" || !slices.Contains(events,
		"customer.subscription.created") || !slices.Contains(events, "invoice.paid") {
		t.Errorf("events %v", events)
	}
	sub := r.show("subscriptions", id)
	if sub.text("status") != "active" || sub.text("customer") != old.Customer ||
		id == old.Subscription || sub.text("default_payment_method") == card ||
		r.show("customers", old.Customer).text("invoice_settings.default_payment_method") != card {
		t.Errorf("%s", sub.body)
	}
	if g := r.ghosts(inv); len(g) != 1 || !g[0].Resubscribed || g[0].Amount != old.Amount {
		t.Errorf("%+v", g)
	}
	e := r.page("/v1/subscriptions", r.token, url.Values{"customer": {old.Customer},
		"status": {"all"}})
	if len(e.Data) < 2 || e.Data[0].ID != id {
		t.Errorf("%+v", e)
	}
	r.do(Change{Do: "cancel", ID: id})
	if r.ghosts(inv)[0].Resubscribed {
		t.Error("the new one is canceled")
	}
	r.sameTruth(0, r.token)
}

// A dispute moves behind the first page of charges, and an invoice behind 100 newer ones.
func TestManyMore(t *testing.T) {
	t.Parallel()
	r := turning(t)
	ch, _ := r.do(Change{Do: "refund", Amount: 1})
	customer := r.show("charges", ch).text("customer")
	r.do(Change{Do: "dispute", ID: ch, Status: "lost"})
	invoice := r.show("charges", ch).text("invoice")
	if g := r.ghosts(invoice); len(g) != 1 || g[0].Kind != ChargedBack ||
		float64(g[0].Amount) != r.show("charges", ch).field("amount") {
		t.Errorf("charged back: %+v", g)
	}
	other, _ := r.do(Change{Do: "refund", Amount: 1})
	r.do(Change{Do: "dispute", ID: other, Status: "lost", Amount: 5})
	if g := r.ghosts(r.show("charges", other).text("invoice")); len(g) != 1 ||
		g[0].Kind != ChargedBack || g[0].Amount%10 != 5 {
		t.Errorf("charged back in part: %+v", g)
	}
	sub := r.show("invoices", invoice).text("subscription")
	if id, events := r.do(Change{Do: "charges", ID: sub, Amount: 230}); id != customer ||
		len(events) != 460 || events[0] != "charge.succeeded" {
		t.Errorf("%s, %d events", id, len(events))
	}
	p := url.Values{"customer": {customer}, "created[gte]": {fmt.Sprint(birth.AddDate(-3, 0,
		0).Unix())}, "expand[]": {"data.dispute"}, "limit": {"100"}}
	for n := 0; ; n++ {
		page := r.get("/v1/charges", r.token, p)
		if strings.Contains(page.body, `"object":"dispute"`) {
			if n < 2 || !strings.Contains(page.body, `"status":"lost"`) {
				t.Errorf("the dispute is on page %d", n+1)
			}
			break
		}
		if page.field("has_more") != true {
			t.Fatalf("the dispute is on none of %d pages", n+1)
		}
		rows := page.field("data").([]any)
		p.Set("starting_after", rows[len(rows)-1].(map[string]any)["id"].(string))
	}
	inv, _ := r.do(Change{Do: "fail_renewal"})
	amount := r.owed(inv)
	debtor := r.ghosts(inv)[0].Subscription
	r.do(Change{Do: "renewals", ID: debtor, Amount: 120})
	if g := r.ghosts(inv); len(g) != 1 || !g[0].Hidden || g[0].Amount != amount ||
		r.show("subscriptions", debtor).text("status") != "active" {
		t.Errorf("behind 120: %+v", g)
	}
	if e := r.page("/v1/invoices", r.token, url.Values{"subscription": {debtor},
		"limit": {"100"}}); slices.ContainsFunc(e.Data, func(row struct {
		ID      string
		Created int64
	}) bool {
		return row.ID == inv
	}) || !e.HasMore {
		t.Error("it is still on the first page")
	}
	for _, bad := range []Change{{Do: "charges", Amount: 501}, {Do: "charges"}, {Do: "renewals"},
		{Do: "charges", Amount: 1, ID: "sub_unknown"}} {
		bad.Account = r.account
		if _, err := r.s.Change(bad); err == nil {
			t.Errorf("%+v was done", bad)
		}
	}
	r.sameTruth(0, r.token)
}

func TestMetadataAndLeaving(t *testing.T) {
	t.Parallel()
	r := turning(t)
	inv, _ := r.do(Change{Do: "fail_renewal"})
	g := r.ghosts(inv)[0]
	for kind, c := range map[string][2]string{"customers": {g.Customer, "customer.updated"},
		"invoices":      {inv, "invoice.updated"},
		"subscriptions": {g.Subscription, "customer.subscription.updated"}} {
		r.wants(Change{Do: "metadata", ID: c[0], Status: "phantom=ignore"}, c[1])
		if v := r.show(kind, c[0]); v.text("metadata.phantom") != "ignore" {
			t.Errorf("%s", v.body)
		}
		r.wants(Change{Do: "metadata", ID: c[0], Status: "phantom="}, c[1])
		if v := r.show(kind, c[0]); len(v.field("metadata").(map[string]any)) != 0 {
			t.Errorf("%s", v.body)
		}
	}
	for _, bad := range []Change{{Do: "metadata", ID: inv, Status: "phantom"}, {Do: "metadata",
		ID: inv, Status: "=x"}, {Do: "metadata", Status: "a=b"},
		{Do: "metadata", ID: "in_unknown", Status: "a=b"}, {Do: "cancel_at_period_end", Status: "no"}} {
		bad.Account = r.account
		if _, err := r.s.Change(bad); err == nil {
			t.Errorf("%+v was done", bad)
		}
	}
	r.wants(Change{Do: "cancel_at_period_end", ID: g.Subscription}, "customer.subscription.updated")
	if v := r.show("subscriptions", g.Subscription); v.field("cancel_at_period_end") != true ||
		v.field("cancel_at") == nil {
		t.Errorf("%s", v.body)
	}
	r.wants(Change{Do: "cancel_at_period_end", ID: g.Subscription, Status: "off"},
		"customer.subscription.updated")
	if v := r.show("subscriptions", g.Subscription); v.field("cancel_at_period_end") != false ||
		v.field("cancel_at") != nil {
		t.Errorf("%s", v.body)
	}
}

func TestCardsComeAndGo(t *testing.T) {
	t.Parallel()
	r := turning(t)
	inv, _ := r.do(Change{Do: "fail_renewal"})
	g := r.ghosts(inv)[0]
	standard := func() string {
		return r.show("customers",
			g.Customer).text("invoice_settings.default_payment_method")
	}
	before := standard()
	pm := r.wants(Change{Do: "attach_card", ID: g.Subscription}, "payment_method.attached")
	if v := r.show("payment_methods", pm); v.text("customer") != g.Customer || standard() != before {
		t.Errorf("attached: %s", v.body)
	}
	_, events := r.do(Change{Do: "detach_card", ID: g.Subscription})
	if !slices.Equal(events[:2], []string{"payment_method.detached", "customer.updated"}) ||
		standard() != "" {
		t.Errorf("detached: %v, default %q", events, standard())
	}
	if v := r.show("payment_methods", before); v.field("customer") != nil || v.text("id") != before {
		t.Errorf("detached: %s", v.body)
	}
	if r := r.post("/v1/invoices/"+inv+"/pay", r.token,
		url.Values{"payment_method": {before}}); r.status != http.StatusBadRequest {
		t.Errorf("paid with a detached card: %d", r.status)
	}
	if r := r.post("/v1/invoices/"+inv+"/pay", r.token, nil); r.status != http.StatusBadRequest {
		t.Errorf("paid without a card: %d %s", r.status, r.body)
	}
	if _, err := r.s.Change(Change{Account: r.account, Do: "detach_card",
		ID: g.Subscription}); err == nil {
		t.Error("there is none to detach")
	}
	r.clock.add(20 * 24 * time.Hour) // retries without a card charge nothing
	_, events = r.do(Change{Do: "new_card", ID: g.Subscription})
	if !slices.Equal(events[:2], []string{"payment_method.attached", "customer.updated"}) ||
		standard() == "" || standard() == pm {
		t.Errorf("a new one: %v, default %q", events, standard())
	}
}

func anyInvoice(*invoice) bool { return true }

func TestActionAndRefusal(t *testing.T) {
	t.Parallel()
	r := turning(t)
	inv, _ := r.do(Change{Do: "fail_renewal"})
	amount := r.owed(inv)
	pi := r.show("invoices", inv).text("payment_intent")
	r.wants(Change{Do: "require_action", ID: inv}, "payment_intent.requires_action",
		"invoice.payment_action_required")
	if r.show("payment_intents", pi).text("status") != "requires_action" || r.owed(inv) != 0 {
		t.Error("no action is required")
	}
	r.wants(Change{Do: "action_gone", ID: inv}, "payment_intent.payment_failed", "invoice.updated")
	if v := r.show("payment_intents", pi); v.text("status") != "requires_payment_method" ||
		r.owed(inv) != amount ||
		v.text("last_payment_error.code") != "payment_intent_authentication_failure" {
		t.Errorf("%s", v.body)
	}
	r.wants(Change{Do: "refuse", ID: inv, Amount: 2})
	charges := r.count(0, "charges")
	for n := range 3 {
		got := r.post("/v1/invoices/"+inv+"/pay", r.token, nil, key(fmt.Sprint("task_", n))...)
		if n < 2 && (got.status != http.StatusBadRequest ||
			got.text("error.code") != "payment_intent_unexpected_state" || r.count(0,
			"charges") != charges) {
			t.Errorf("refused %d: %d %s", n+1, got.status, got.body)
		}
		if n == 2 && (got.status == http.StatusBadRequest || r.count(0, "charges") != charges+1) {
			t.Errorf("no longer refused: %d %s", got.status, got.body)
		}
	}
}

// A debit that looked fine fails days later, and is owed from then on.
func TestBounceDebit(t *testing.T) {
	t.Parallel()
	r := turning(t)
	inv, _ := r.do(Change{Do: "fail_renewal"})
	r.do(Change{Do: "to_debit", ID: inv})
	if got := r.post("/v1/invoices/"+inv+"/pay", r.token, nil); got.status != http.StatusOK ||
		got.text("status") != "open" || r.owed(inv) != 0 {
		t.Fatalf("under way: %d %s", got.status, got.body)
	}
	r.clock.add(3 * 24 * time.Hour)
	_, events := r.do(Change{Do: "bounce_debit", ID: inv})
	for _, e := range []string{"charge.failed", "payment_intent.payment_failed",
		"invoice.payment_failed"} {
		if !slices.Contains(events, e) {
			t.Errorf("events %v lack %s", events, e)
		}
	}
	v := r.show("invoices", inv)
	if r.owed(inv) == 0 || r.show("charges", v.text("charge")).text("status") != "failed" {
		t.Errorf("%s", v.body)
	}
	if _, err := r.s.Change(Change{Account: r.account, Do: "bounce_debit", ID: inv}); err == nil {
		t.Error("bounced twice")
	}
}

// Giving the newest invoice up sets the subscription active again and is told apart; the next
// payment hides it.
func TestWrittenOff(t *testing.T) {
	t.Parallel()
	r := turning(t)
	inv, _ := r.do(Change{Do: "fail_renewal"})
	amount := r.owed(inv)
	sub := r.ghosts(inv)[0].Subscription
	r.wants(Change{Do: "mark_uncollectible", ID: inv}, "invoice.marked_uncollectible",
		"customer.subscription.updated", "invoice.updated")
	g := r.ghosts(inv)
	if len(g) != 1 || g[0].Kind != WrittenOff || g[0].Amount != amount || r.show("subscriptions",
		sub).text("status") != "active" {
		t.Errorf("given up: %+v", g)
	}
	r.do(Change{Do: "renewals", ID: sub, Amount: 1})
	if g = r.ghosts(inv); len(g) != 1 || g[0].Kind != Owed || !g[0].Hidden {
		t.Errorf("paid since: %+v", g)
	}
	r.sameTruth(0, r.token)
}

// A request in a later version is answered in its shapes, and everybody else as ever.
func TestReadsInBasil(t *testing.T) {
	t.Parallel()
	r := turning(t)
	inv, _ := r.do(Change{Do: "fail_renewal"})
	plain := r.show("invoices", inv)
	old := plain.text("payment_intent")
	r.do(Change{Do: "new_intent", ID: inv})
	fresh := r.show("invoices", inv).text("payment_intent")
	read := func(path string, expand ...string) reply {
		t.Helper()
		return r.get(path, r.token, url.Values{"expand[]": expand, "limit": {"100"}}, "Stripe-Version",
			basilVersion)
	}
	one := r.get("/v1/invoices/"+inv, r.token, nil, "Stripe-Version", basilVersion)
	if one.header.Get("Stripe-Version") != basilVersion ||
		one.text("parent.subscription_details.subscription") != plain.text("subscription") ||
		one.field("amount_remaining") != plain.field("amount_remaining") {
		t.Errorf("%s", one.body)
	}
	for _, gone := range []string{"payment_intent", "charge", "paid", "paid_out_of_band",
		"subscription", "payments"} {
		if one.has(gone) {
			t.Errorf("%s is there: %s", gone, one.body)
		}
	}
	line := one.field("lines.data").([]any)[0].(map[string]any)
	if line["price"] != nil ||
		line["pricing"].(map[string]any)["price_details"].(map[string]any)["price"] == "" ||
		line["period"] == nil {
		t.Errorf("%v", line)
	}
	list := r.get("/v1/invoices", r.token, url.Values{"limit": {"1"}, "expand[]": {"data.payments"}},
		"Stripe-Version", basilVersion)
	row := list.field("data").([]any)[0].(map[string]any)
	payments := row["payments"].(map[string]any)["data"].([]any)
	newest, oldest := payments[0].(map[string]any), payments[1].(map[string]any)
	if row["id"] != inv || len(payments) != 2 ||
		newest["payment"].(map[string]any)["payment_intent"] != fresh || newest["status"] != "open" ||
		oldest["payment"].(map[string]any)["payment_intent"] != old || oldest["status"] != "canceled" ||
		newest["payment"].(map[string]any)["type"] != "payment_intent" {
		t.Errorf("%s", list.body)
	}
	whole := r.get("/v1/invoices/"+inv, r.token,
		url.Values{"expand[]": {"payments.data.payment.payment_intent"}}, "Stripe-Version", basilVersion)
	if pi := whole.field("payments.data").([]any)[0].(map[string]any)["payment"].(map[string]any)["payment_intent"].(map[string]any); pi["id"] != fresh {
		t.Errorf("%s", whole.body)
	}
	for _, c := range [][2]string{{"/v1/invoices/" + inv, "payment_intent"}, {"/v1/invoices",
		"data.charge"}, {"/v1/charges", "data.invoice"},
		{"/v1/invoices", "data.payments.data.payment.payment_intent"}, {"/v1/invoices", "payments"}} {
		if got := r.get(c[0], r.token, url.Values{"expand[]": {c[1]}}, "Stripe-Version",
			basilVersion); got.status != http.StatusBadRequest {
			t.Errorf("%s can be expanded: %d", c[1], got.status)
		}
	}
	if got := read("/v1/charges", "data.dispute", "data.customer"); got.status != 200 ||
		strings.Contains(got.body, `"invoice":`) || !strings.Contains(got.body, `"payment_intent":"pi_`) {
		t.Errorf("charges: %d %.300s", got.status, got.body)
	}
	if got := r.get("/v1/invoices/"+inv, r.token, nil, "Stripe-Version",
		"2024-06-20"); got.text("payment_intent") != fresh {
		t.Errorf("another version: %s", got.body)
	}
}

// has says whether an object has a field, be it null.
func (r reply) has(name string) bool {
	var m map[string]any
	_ = json.Unmarshal([]byte(r.body), &m)
	_, ok := m[name]
	return ok
}

// The reads that a judge of debts needs beyond the lists.
func TestReadsAboutACustomer(t *testing.T) {
	t.Parallel()
	r := turning(t)
	list := r.get("/v1/subscriptions", r.token, url.Values{"status": {"all"},
		"expand[]": {"data.customer"}, "limit": {"100"}})
	for _, row := range list.field("data").([]any) {
		sub := row.(map[string]any)
		cu := sub["customer"].(map[string]any)
		price := sub["items"].(map[string]any)["data"].([]any)[0].(map[string]any)["price"].(map[string]any)
		if cu["metadata"] == nil || cu["address"] == nil || price["product"] == "" ||
			sub["metadata"] == nil || sub["cancel_at_period_end"] == nil {
			t.Fatalf("%v", sub)
		}
	}
	inv := r.find(0, payable)
	cu := r.show("customers", inv.Customer)
	pm := r.show("payment_methods", cu.text("invoice_settings.default_payment_method"))
	if cu.status != 200 || pm.status != 200 || pm.text("customer") != inv.Customer {
		t.Errorf("%s %s", cu.body, pm.body)
	}
}
