package sandbox

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

var lists = []string{"customers", "subscriptions", "invoices", "charges", "disputes", "events", "payment_intents"}

// Every read route, with another merchant's id and with one that nobody has: the answers differ in
// the id alone.
func TestTenants(t *testing.T) {
	t.Parallel()
	b := setup(t)
	mine, theirs := b.connect(0), b.connect(1)
	const unknown = "xx_unknown"
	same := func(what string, foreign reply, id string, none reply) {
		t.Helper()
		if foreign.status < 400 || foreign.status != none.status || strings.ReplaceAll(foreign.body, id, unknown) != none.body {
			t.Errorf("%s: foreign %d %s, unknown %d %s", what, foreign.status, foreign.body, none.status, none.body)
		}
	}
	for _, name := range lists {
		id := b.ids("/v1/"+name, theirs)[0]
		if r := b.get("/v1/"+name+"/"+id, theirs, nil); r.status != http.StatusOK || r.text("id") != id {
			t.Fatalf("%s: the owner reads %d", name, r.status)
		}
		r := b.get("/v1/"+name+"/"+id, mine, nil)
		if r.status != http.StatusNotFound || r.text("error.code") != "resource_missing" {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
		same(name, r, id, b.get("/v1/"+name+"/"+unknown, mine, nil))
		for _, cursor := range []string{"starting_after", "ending_before"} {
			same(name+" "+cursor, b.get("/v1/"+name, mine, url.Values{cursor: {id}}), id, b.get("/v1/"+name, mine, url.Values{cursor: {unknown}}))
		}
		if slices.Contains(b.ids("/v1/"+name, mine), id) {
			t.Errorf("%s: a foreign row is listed", name)
		}
	}
	inv := b.find(1, payable)
	for filter, c := range map[string][2]string{"customer": {"/v1/invoices", inv.Customer}, "subscription": {"/v1/invoices", string(inv.Subscription)},
		"payment_intent": {"/v1/charges", string(inv.PaymentIntent)}, "charge": {"/v1/disputes", string(inv.Charge)}} {
		same(filter, b.get(c[0], mine, url.Values{filter: {c[1]}}), c[1], b.get(c[0], mine, url.Values{filter: {unknown}}))
	}
	for _, verb := range []string{"", "/pay", "/void", "/mark_uncollectible"} {
		same("POST"+verb, b.post("/v1/invoices/"+inv.ID+verb, mine, nil), inv.ID, b.post("/v1/invoices/"+unknown+verb, mine, nil))
	}
	same("POST customer", b.post("/v1/customers/"+inv.Customer, mine, nil), inv.Customer, b.post("/v1/customers/"+unknown, mine, nil))
	// My own invoice, paid with a stranger's card.
	own := b.find(0, payable)
	pm := inv.of.card.pm.ID
	same("payment_method", b.post("/v1/invoices/"+own.ID+"/pay", mine, url.Values{"payment_method": {pm}}), pm,
		b.post("/v1/invoices/"+own.ID+"/pay", mine, url.Values{"payment_method": {unknown}}))
	if r := b.get("/v1/invoices/"+inv.ID, theirs, nil); r.text("status") != "open" {
		t.Errorf("the foreign invoice is now %s", r.text("status"))
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	first, second := b.s.Accounts()[0], b.s.Accounts()[1]
	for name, c := range map[string]struct {
		key    string
		header []string
		path   string
		status int
		id     string
	}{
		"none":                       {"", nil, "/v1/account", 401, ""},
		"unknown":                    {"sk_test_unknown_unknown", nil, "/v1/account", 401, ""},
		"token":                      {token, nil, "/v1/account", 200, first},
		"token for itself":           {token, []string{"Stripe-Account", first}, "/v1/account", 200, first},
		"token for another":          {token, []string{"Stripe-Account", second}, "/v1/account", 403, ""},
		"platform":                   {SecretKey, nil, "/v1/account", 200, b.s.platform.ID},
		"platform for a merchant":    {SecretKey, []string{"Stripe-Account", first}, "/v1/account", 200, first},
		"platform, not connected":    {SecretKey, []string{"Stripe-Account", second}, "/v1/account", 403, ""},
		"platform, unknown":          {SecretKey, []string{"Stripe-Account", "acct_unknown"}, "/v1/customers", 403, ""},
		"platform reads a merchant":  {SecretKey, nil, "/v1/accounts/" + first, 200, first},
		"platform reads a stranger":  {SecretKey, nil, "/v1/accounts/" + second, 403, ""},
		"merchant reads a stranger":  {token, nil, "/v1/accounts/" + second, 403, ""},
		"no such route":              {token, nil, "/v1/refunds", 404, ""},
		"no such route, method too":  {token, nil, "/v2/core", 404, ""},
		"platform has no customers ": {SecretKey, nil, "/v1/customers", 200, ""},
	} {
		r := b.get(c.path, c.key, nil, c.header...)
		if r.status != c.status || r.text("id") != c.id || r.header.Get("Request-Id") == "" {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
		if c.status >= 400 && (r.text("error.type") != "invalid_request_error" || r.text("error.message") == "" || strings.Contains(r.body, SecretKey)) {
			t.Errorf("%s: %s", name, r.body)
		}
	}
	r := b.exchange(b.authorize("scope", "read_only").Get("code"))
	inv := b.find(0, payable)
	if r := b.post("/v1/invoices/"+inv.ID+"/pay", r.text("access_token"), nil); r.status != http.StatusForbidden {
		t.Errorf("read_only pays: %d %s", r.status, r.body)
	}
	if r := b.post("/v1/customers/"+inv.Customer, token, url.Values{"name": {strings.Repeat("x", maxBody)}}); r.status != http.StatusRequestEntityTooLarge {
		t.Errorf("huge body: %d", r.status)
	}
}

// A walk meets every row that was there at its start once, in both directions, no matter what is
// added meanwhile.
func TestWalkWhileRowsAreAdded(t *testing.T) {
	t.Parallel()
	for _, name := range lists {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			token := b.connect(2)
			var want []string
			func() {
				inv := b.find(2, payable) // and the world is loaded
				_ = inv
				b.s.mu.Lock()
				defer b.s.mu.Unlock()
				for _, o := range b.s.accounts[b.s.ids[2]].tables[name].rows {
					want = append(want, o.meta().ID)
				}
			}()
			slices.Reverse(want)
			started := b.clock.Now().Unix()
			var got []string
			last := int64(1 << 62)
			p := url.Values{"limit": {"7"}}
			if name == "subscriptions" {
				p.Set("status", "all")
			}
			for n := 0; ; n++ {
				e := b.page("/v1/"+name, token, p)
				for _, row := range e.Data {
					if row.Created > last {
						t.Fatalf("%s: not newest first", row.ID)
					}
					last = row.Created
					if row.Created <= started {
						got = append(got, row.ID)
					}
				}
				if !e.HasMore {
					break
				}
				p.Set("starting_after", e.Data[len(e.Data)-1].ID)
				if n%3 == 0 && n < 30 { // charges, intents, events, invoices appear in front
					b.clock.add(3600e9)
					inv := b.find(2, payable)
					b.post("/v1/invoices/"+inv.ID+"/pay", token, nil)
				}
			}
			if name == "events" { // the oldest leave after 30 days
				want = want[:min(len(got), len(want))]
			}
			if !slices.Equal(got, want) {
				t.Errorf("forwards: %d rows, want %d", len(got), len(want))
			}
			// Back again from the oldest.
			back := []string{got[len(got)-1]}
			p.Del("starting_after")
			for {
				p.Set("ending_before", back[0])
				e := b.page("/v1/"+name, token, p)
				var page []string
				for _, row := range e.Data {
					page = append(page, row.ID)
				}
				back = append(page, back...)
				if !e.HasMore {
					break
				}
			}
			if len(back) < len(got) || !slices.Equal(back[len(back)-len(got):], got) {
				t.Errorf("backwards: %d rows, want the last %d", len(back), len(got))
			}
		})
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	inv := b.find(0, payable)
	at := fmt.Sprint(inv.Created)
	for _, c := range []struct {
		path  string
		query string
		holds func(object) bool
	}{
		{"invoices", "customer=" + inv.Customer, func(o object) bool { return o.(*invoice).Customer == inv.Customer }},
		{"invoices", "subscription=" + string(inv.Subscription), func(o object) bool { return o.(*invoice).Subscription == inv.Subscription }},
		{"invoices", "status=open", func(o object) bool { return o.(*invoice).Status == "open" }},
		{"invoices", "created=" + at, func(o object) bool { return o.meta().Created == inv.Created }},
		{"invoices", "created[gt]=" + at, func(o object) bool { return o.meta().Created > inv.Created }},
		{"invoices", "created[gte]=" + at, func(o object) bool { return o.meta().Created >= inv.Created }},
		{"invoices", "created[lt]=" + at, func(o object) bool { return o.meta().Created < inv.Created }},
		{"invoices", "created[gt]=1&created[lte]=" + at, func(o object) bool { return o.meta().Created <= inv.Created }},
		{"subscriptions", "", func(o object) bool { return o.(*subscription).Status != "canceled" }},
		{"subscriptions", "status=all", func(object) bool { return true }},
		{"subscriptions", "status=past_due", func(o object) bool { return o.(*subscription).Status == "past_due" }},
		{"subscriptions", "status=canceled", func(o object) bool { return o.(*subscription).Status == "canceled" }},
		{"charges", "customer=" + inv.Customer, func(o object) bool { return o.(*charge).Customer == inv.Customer }},
		{"charges", "payment_intent=" + string(inv.PaymentIntent), func(o object) bool { return o.(*charge).PaymentIntent == inv.PaymentIntent }},
		{"events", "type=invoice.payment_failed", func(o object) bool { return o.(*event).Type == "invoice.payment_failed" }},
		{"events", "type=invoice.*", func(o object) bool { return strings.HasPrefix(o.(*event).Type, "invoice.") }},
		{"events", "types[]=charge.failed&types[]=charge.succeeded", func(o object) bool {
			return o.(*event).Type == "charge.failed" || o.(*event).Type == "charge.succeeded"
		}},
	} {
		p, _ := url.ParseQuery(c.query)
		p.Set("limit", "100")
		var got []string
		for {
			e := b.page("/v1/"+c.path, token, p)
			for _, row := range e.Data {
				got = append(got, row.ID)
			}
			if !e.HasMore {
				break
			}
			p.Set("starting_after", got[len(got)-1])
		}
		var want []string
		for _, o := range b.s.accounts[b.s.ids[0]].tables[c.path].rows {
			if c.holds(o) {
				want = append(want, o.meta().ID)
			}
		}
		slices.Reverse(want)
		if len(want) == 0 || !slices.Equal(got, want) {
			t.Errorf("%s?%s: %d rows, want %d", c.path, c.query, len(got), len(want))
		}
	}
	for _, q := range []string{"limit=0", "limit=101", "limit=ten", "limit=", "created=soon", "created[near]=1", "status=odd", "colour=red",
		"starting_after=in_1&ending_before=in_2", "starting_after=in_1"} {
		p, _ := url.ParseQuery(q)
		if r := b.get("/v1/invoices", token, p); r.status != http.StatusBadRequest || r.text("error.type") != "invalid_request_error" {
			t.Errorf("%s: %d %s", q, r.status, r.body)
		}
	}
	if e := b.page("/v1/customers", token, nil); len(e.Data) != 10 || !e.HasMore {
		t.Errorf("default page: %d rows", len(e.Data))
	}
}

func TestExpand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	inv := b.find(0, payable)
	r := b.get("/v1/invoices/"+inv.ID, token, url.Values{"expand[]": {"customer", "subscription.default_payment_method", "payment_intent.latest_charge"}})
	if r.text("customer.id") != inv.Customer || r.text("subscription.id") != string(inv.Subscription) ||
		r.text("payment_intent.latest_charge.id") != string(inv.Charge) {
		t.Errorf("%d %s", r.status, r.body)
	}
	r = b.get("/v1/subscriptions", token, url.Values{"expand[0]": {"data.latest_invoice.payment_intent"}, "expand[1]": {"data.customer"}})
	row, _ := r.field("data").([]any)
	if len(row) == 0 || !strings.Contains(r.body, `"object":"payment_intent"`) {
		t.Errorf("%d %s", r.status, r.body)
	}
	for _, bad := range []string{"amount_due", "nothing", "customer.email", "data.customer"} {
		if r := b.get("/v1/invoices/"+inv.ID, token, url.Values{"expand[]": {bad}}); r.status != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, r.status)
		}
	}
}
