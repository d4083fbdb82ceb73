package sandbox

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// fresh gives the types of the events that were not there before, oldest first.
func (b *bench) fresh(account string, turn func()) (types []string) {
	b.t.Helper()
	before := b.count(0, "events")
	turn()
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	for _, o := range b.s.accounts[account].tables["events"].rows[before:] {
		types = append(types, o.(*event).Type)
	}
	return types
}

func (b *bench) change(c Change) string {
	b.t.Helper()
	id, err := b.s.Change(c)
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

// Each turn changes what the API shows, the truth, and nothing silently.
func TestChange(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token, account := b.connect(0), b.s.Accounts()[0]
	b.find(0, payable)
	ghost := func(invoice string) *Ghost {
		for _, g := range b.s.Truth(account) {
			if slices.Contains(g.Invoices, invoice) {
				return &g
			}
		}
		return nil
	}
	turn := func(c Change, path, field, want string, events ...string) string {
		t.Helper()
		b.clock.add(time.Second)
		c.Account = account
		var id string
		got := b.fresh(account, func() { id = b.change(c) })
		for _, e := range events {
			if !slices.Contains(got, e) {
				t.Errorf("%s: events %v lack %s", c.Do, got, e)
			}
		}
		if r := b.get(path+id, token, nil); r.text(field) != want {
			t.Errorf("%s: %s is %q, want %q", c.Do, field, r.text(field), want)
		}
		return id
	}
	const invoices, subs, charges, disputes = "/v1/invoices/", "/v1/subscriptions/", "/v1/charges/", "/v1/disputes/"

	for do, c := range map[string][2]string{"pay": {"paid", "invoice.paid"}, "pay_out_of_band": {"paid", "invoice.paid"},
		"void": {"void", "invoice.voided"}, "mark_uncollectible": {"uncollectible", "invoice.marked_uncollectible"}} {
		inv := turn(Change{Do: "fail_renewal"}, invoices, "status", "open", "invoice.payment_failed", "charge.failed", "customer.subscription.updated")
		g := ghost(inv)
		if g == nil || g.Why != WhyFailed || b.get(subs+g.Subscription, token, nil).text("status") != "past_due" {
			t.Fatalf("a failed renewal makes no ghost: %+v", g)
		}
		owed := ghost(inv).Amount
		if turn(Change{Do: "pay_part", ID: inv, Amount: 2}, invoices, "status", "open", "charge.succeeded", "invoice.updated"); ghost(inv).Amount != owed-2 {
			t.Errorf("a part of 2 came in, and %d are owed of %d", ghost(inv).Amount, owed)
		}
		if got := turn(Change{Do: do, ID: inv}, invoices, "status", c[0], c[1],
			"invoice.updated"); got != inv || (ghost(inv) != nil) != (do == "mark_uncollectible") ||
			ghost(inv) != nil && ghost(inv).Kind != WrittenOff {
			t.Errorf("%s: %s is still owed: %+v", do, got, ghost(inv))
		}
		if _, err := b.s.Change(Change{Account: account, Do: do, ID: inv}); err == nil && do != "mark_uncollectible" {
			t.Errorf("%s twice", do)
		}
	}
	turn(Change{Do: "cancel"}, subs, "status", "canceled", "customer.subscription.deleted")
	paused := turn(Change{Do: "pause_collection", Behavior: "keep_as_draft"}, subs, "pause_collection.behavior", "keep_as_draft", "customer.subscription.updated")
	turn(Change{Do: "resume_collection", ID: paused}, subs, "pause_collection.behavior", "", "customer.subscription.updated")
	ch := turn(Change{Do: "refund", Amount: 1}, charges, "status", "succeeded", "charge.refunded")
	if r := b.get(charges+ch, token, nil); r.field("amount_refunded") != 1.0 || r.field("refunded") != false {
		t.Errorf("in part: %s", r.body)
	}
	if turn(Change{Do: "refund", ID: ch}, charges, "status", "succeeded", "charge.refunded"); b.get(charges+ch, token, nil).field("refunded") != true {
		t.Error("not refunded")
	}
	d := turn(Change{Do: "dispute"}, disputes, "status", "needs_response", "charge.dispute.created")
	turn(Change{Do: "update_dispute", ID: d}, disputes, "status", "under_review", "charge.dispute.updated")
	turn(Change{Do: "close_dispute", ID: d, Status: "won"}, disputes, "status", "won", "charge.dispute.closed")
	for _, bad := range []Change{{Do: "close_dispute", ID: d}, {Do: "dance"}, {Do: "pay", ID: "in_unknown"}, {Do: "refund", Amount: -1}} {
		bad.Account = account
		if _, err := b.s.Change(bad); err == nil {
			t.Errorf("%+v was done", bad)
		}
	}
	if _, err := b.s.Change(Change{Account: "acct_unknown", Do: "pay"}); err == nil {
		t.Error("an unknown merchant")
	}
	b.sameTruth(0, token)
	if got := b.fresh(account, func() { b.change(Change{Account: account, Do: "deauthorize"}) }); !slices.Equal(got, []string{"account.application.deauthorized"}) {
		t.Errorf("deauthorize: %v", got)
	}
	if r := b.get("/v1/account", token, nil); r.status != http.StatusUnauthorized {
		t.Errorf("after deauthorize: %d", r.status)
	}
}

// Two merchants share every id and no content.
func TestSameIDs(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.SameIDs = true })
	one, two := b.connect(0), b.connect(1)
	for _, kind := range []string{"customers", "subscriptions", "invoices"} {
		p := url.Values{}
		if kind == "subscriptions" {
			p.Set("status", "all")
		}
		theirs := map[string]string{}
		for _, raw := range b.every("/v1/"+kind, two, p) {
			theirs[idOf(raw)] = string(raw)
		}
		shared, differ := 0, 0
		for _, raw := range b.every("/v1/"+kind, one, p) {
			if other, ok := theirs[idOf(raw)]; ok {
				shared++
				if other != string(raw) {
					differ++
				}
			}
		}
		if shared < len(theirs)/3 || differ < shared {
			t.Errorf("%s: %d of %d ids are shared, %d of them differ", kind, shared, len(theirs), differ)
		}
	}
	b.sameTruth(0, one)
	b.sameTruth(1, two)
}

func TestControl(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token, account := b.connect(0), b.s.Accounts()[0]
	send := func(method, path, body string) reply {
		t.Helper()
		req, _ := http.NewRequest(method, b.url+path, strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+SecretKey)
		r, err := b.roundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := b.get("/sandbox/truth", token, nil); r.status != http.StatusUnauthorized {
		t.Errorf("with a merchant's token: %d", r.status)
	}
	if r := send("GET", "/sandbox/accounts", ""); !strings.Contains(r.body, account) {
		t.Errorf("accounts: %s", r.body)
	}
	if r := send("POST", "/sandbox/faults", `{"path":"/v1/invoices","skip":1,"status":429,"code":"lock_timeout"}`); r.status != http.StatusOK {
		t.Errorf("faults: %d %s", r.status, r.body)
	}
	first, second := b.get("/v1/invoices", token, nil), b.get("/v1/invoices", token, nil)
	if first.status != 200 || second.text("error.code") != "lock_timeout" || second.header.Get("Stripe-Rate-Limited-Reason") != "" {
		t.Errorf("armed: %d %s", first.status, second.body)
	}
	r := send("POST", "/sandbox/changes", `{"account":"`+account+`","do":"fail_renewal"}`)
	if inv := r.text("id"); !strings.HasPrefix(inv, "in_") || !strings.Contains(send("GET", "/sandbox/truth?account="+account, "").body, inv) {
		t.Errorf("changes: %s", r.body)
	}
	if r := send("GET", "/sandbox/requests", ""); !strings.Contains(r.body, `"path":"/v1/invoices"`) || strings.Contains(r.body, "/sandbox/") {
		t.Errorf("requests: %s", r.body)
	}
	if r := send("GET", "/sandbox/peak?account="+account, ""); r.field("peak") != 1.0 && r.field("peak") != 2.0 {
		// 1 on a machine so slow that a second passes between two requests
		t.Errorf("peak: %s", r.body)
	}
	send("POST", "/sandbox/faults", `{"status":500,"delay":1,"times":9}`)
	if r := send("DELETE", "/sandbox/faults", ""); r.status != 200 || b.get("/v1/account", token, nil).status != 200 {
		t.Error("still armed")
	}
	for path, body := range map[string]string{"/sandbox/faults": `{"stauts":500}`, "/sandbox/changes": `{"do":"pay"}`,
		"/sandbox/webhook": `{"url":"http://example.com/","secret":"x"}`} {
		if r := send("POST", path, body); r.status != http.StatusBadRequest || r.text("error") == "" {
			t.Errorf("%s %s: %d %s", path, body, r.status, r.body)
		}
	}
	if r := send("GET", "/sandbox/nothing", ""); r.status != http.StatusNotFound {
		t.Errorf("no path: %d", r.status)
	}
}
