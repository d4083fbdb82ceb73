package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v76"
)

// bulk is a sandbox whose first merchant has a history, and a token for it.
func bulk(t *testing.T, charges int) (*bench, string) {
	t.Helper()
	b := setup(t, func(c *Config) { c.Charges, c.Customers, c.Merchants = charges, 120, 1 })
	return b, b.connect(0)
}

// every gathers all rows of a list, page by page.
func (b *bench) every(path, token string, p url.Values) (rows []json.RawMessage) {
	b.t.Helper()
	q := url.Values{"limit": {"100"}}
	for k, v := range p {
		q[k] = v
	}
	for {
		r := b.get(path, token, q)
		var page struct {
			HasMore bool `json:"has_more"`
			Data    []json.RawMessage
		}
		if err := json.Unmarshal([]byte(r.body), &page); err != nil || r.status != http.StatusOK {
			b.t.Fatalf("GET %s?%s: %d %v %.300s", path, q.Encode(), r.status, err, r.body)
		}
		rows = append(rows, page.Data...)
		if !page.HasMore {
			return rows
		}
		q.Set("starting_after", idOf(page.Data[len(page.Data)-1]))
	}
}

func idOf(raw json.RawMessage) string {
	var row struct{ ID string }
	_ = json.Unmarshal(raw, &row)
	return row.ID
}

// A million charges are written in small memory.
func TestAMillionCharges(t *testing.T) { //nolint:paralleltest // it measures memory
	start := time.Now()
	s, err := New(Config{Charges: 1_000_000, Now: (&clock{t: birth}).Now})
	if err != nil {
		t.Fatal(err)
	}
	id := s.Accounts()[0]
	ghosts := s.Truth(id)
	took := time.Since(start)
	h := s.accounts[id].tables["charges"].shelf.h
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	share := float64(len(ghosts)) / float64(len(h.customers))
	t.Logf("%d charges, %d invoices, %d customers, %d ghosts (%.3f) in %v, %d MB", len(h.charges), len(h.invoices), len(h.customers),
		len(ghosts), share, took, m.HeapAlloc>>20)
	total := len(h.charges) + len(s.accounts[id].tables["charges"].rows)
	if total < 990_000 || total > 1_010_000 || share < 0.03 || share > 0.055 || m.HeapAlloc > 1<<30 {
		t.Error("out of bounds")
	}
	runtime.KeepAlive(s)
}

func TestAHistoryOfAnySize(t *testing.T) {
	t.Parallel()
	for _, n := range []int{100, 300, 1000, 5000, 20_000} {
		s, err := New(Config{Charges: n, Merchants: 1, Now: (&clock{t: birth}).Now})
		if err != nil {
			t.Fatal(err)
		}
		id := s.Accounts()[0]
		ghosts := s.Truth(id)
		c := s.accounts[id].tables["charges"]
		if total := len(c.rows) + c.shelf.n; total < n*9/10 || total > n*11/10+50 || len(ghosts) == 0 {
			t.Errorf("asked for %d: %d charges, %d ghosts", n, total, len(ghosts))
		}
	}
}

// stripe-go reads every row of a history, and no field is missing that a living object has.
func TestStripeGoReadsTheHistory(t *testing.T) {
	t.Parallel()
	b, token := bulk(t, 3000)
	tables := b.s.accounts[b.s.ids[0]].tables
	for kind, read := range map[string]func(json.RawMessage) (stripe.APIResource, error){
		"customers":       into[stripe.Customer],
		"subscriptions":   into[stripe.Subscription],
		"invoices":        into[stripe.Invoice],
		"charges":         into[stripe.Charge],
		"disputes":        into[stripe.Dispute],
		"payment_intents": into[stripe.PaymentIntent],
	} {
		p := url.Values{}
		if kind == "subscriptions" {
			p.Set("status", "all")
		}
		var living map[string]any
		shelved, size := 0, 0
		for _, raw := range b.every("/v1/"+kind, token, p) {
			if _, err := read(raw); err != nil {
				t.Fatalf("%s: %v in %s", kind, err, raw)
			}
			if tables[kind].shelf.find(idOf(raw)) < 0 {
				living = fields(t, raw)
				continue
			}
			shelved++
			size += len(raw)
			if living == nil {
				continue
			}
			got := fields(t, raw)
			for name := range living {
				if _, ok := got[name]; !ok {
					t.Fatalf("%s: a living one has %s, this not: %s", kind, name, raw)
				}
			}
		}
		if shelved != tables[kind].shelf.n && kind != "payment_intents" || shelved == 0 {
			t.Errorf("%s: %d rows of %d", kind, shelved, tables[kind].shelf.n)
		}
		t.Logf("%s: %d rows of %d bytes", kind, shelved, size/shelved)
	}
}

func into[T any](raw json.RawMessage) (stripe.APIResource, error) {
	return stripe.APIResource{}, json.Unmarshal(raw, new(T))
}

func fields(t *testing.T, raw json.RawMessage) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// Windows of created and every filter give what a look at all rows gives, living and shelved,
// forwards and backwards.
func TestWindowsOfAHistory(t *testing.T) {
	t.Parallel()
	b, token := bulk(t, 2500)
	for _, kind := range []string{"subscriptions", "invoices", "charges", "disputes", "customers", "payment_intents"} {
		base := url.Values{}
		if kind == "subscriptions" {
			base.Set("status", "all")
		}
		whole := b.every("/v1/"+kind, token, base)
		var ids []string
		var all []map[string]any
		for _, raw := range whole {
			ids = append(ids, idOf(raw))
			all = append(all, fields(t, raw))
		}
		if seen := slices.Compact(slices.Sorted(slices.Values(ids))); len(seen) != len(ids) {
			t.Fatalf("%s: %d ids, %d of them once", kind, len(ids), len(seen))
		}
		for i := 1; i < len(all); i++ {
			if all[i]["created"].(float64) > all[i-1]["created"].(float64) {
				t.Fatalf("%s: %s is older than %s", kind, ids[i-1], ids[i])
			}
		}
		check := func(query string, keep func(map[string]any) bool) {
			t.Helper()
			p, _ := url.ParseQuery(query)
			for k, v := range base {
				if !p.Has(k) {
					p[k] = v
				}
			}
			var want, got []string
			for i, row := range all {
				if keep(row) {
					want = append(want, ids[i])
				}
			}
			for _, raw := range b.every("/v1/"+kind, token, p) {
				got = append(got, idOf(raw))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s?%s: %d rows, want %d", kind, query, len(got), len(want))
			}
			if len(want) == 0 {
				return
			}
			back, q := []string{want[len(want)-1]}, url.Values{"limit": {"33"}}
			for k, v := range p {
				q[k] = v
			}
			for {
				q.Set("ending_before", back[0])
				e := b.page("/v1/"+kind, token, q)
				var page []string
				for _, row := range e.Data {
					page = append(page, row.ID)
				}
				back = append(page, back...)
				if !e.HasMore {
					break
				}
			}
			if !slices.Equal(back, want) {
				t.Errorf("%s?%s backwards: %d rows, want %d", kind, query, len(back), len(want))
			}
		}
		third, half := int64(all[len(all)/3]["created"].(float64)), int64(all[len(all)/2]["created"].(float64))
		at := func(row map[string]any) int64 { return int64(row["created"].(float64)) }
		check(fmt.Sprintf("created[gte]=%d&created[lt]=%d", half, third), func(r map[string]any) bool { return at(r) >= half && at(r) < third })
		check(fmt.Sprintf("created[gt]=%d&created[lte]=%d", half, third), func(r map[string]any) bool { return at(r) > half && at(r) <= third })
		check(fmt.Sprintf("created=%d", half), func(r map[string]any) bool { return at(r) == half })
		check("created[gt]=9000000000", func(map[string]any) bool { return false })
		for _, n := range []int{0, len(all) / 2, len(all) - 1} {
			for _, field := range filters[kind] {
				value, ok := all[n][field].(string)
				if !ok || value == "" {
					continue
				}
				check(url.Values{field: {value}}.Encode(), func(r map[string]any) bool { return r[field] == value })
				check(url.Values{field: {value}, "created[lt]": {fmt.Sprint(third)}}.Encode(), func(r map[string]any) bool { return r[field] == value && at(r) < third })
			}
		}
		if slices.Contains(filters[kind], "customer") { // two subscriptions, whose rows alternate
			h := b.s.accounts[b.s.ids[0]].tables[kind].shelf.h
			twice := 0
			for len(h.subsOf.of(uint32(twice))) < 2 {
				twice++
			}
			id := h.ids["customers"].name(twice)
			check("customer="+id, func(r map[string]any) bool { return r["customer"] == id })
		}
		if kind == "invoices" {
			sub := all[len(all)/2]["subscription"].(string)
			for _, status := range []string{"paid", "open", "uncollectible"} {
				check("status="+status+"&subscription="+sub, func(r map[string]any) bool { return r["status"] == status && r["subscription"] == sub })
				check("status="+status, func(r map[string]any) bool { return r["status"] == status })
			}
		}
	}
}

func TestExpandInAHistory(t *testing.T) {
	t.Parallel()
	b, token := bulk(t, 4000)
	h := b.s.accounts[b.s.ids[0]].tables["charges"].shelf.h
	var failed int
	for i := range h.charges {
		if h.charges[i].decline != 0 {
			failed = i
		}
	}
	ch, in := h.ids["charges"].name(failed), h.ids["invoices"].name(int(h.charges[failed].invoice))
	r := b.get("/v1/charges/"+ch, token, url.Values{"expand[]": {"payment_intent.latest_charge", "invoice.subscription.latest_invoice"}})
	if r.text("payment_intent.object") != "payment_intent" || r.text("invoice.id") != in || r.text("invoice.subscription.latest_invoice.object") != "invoice" ||
		r.text("payment_intent.latest_charge.object") != "charge" || r.text("payment_intent.invoice") != in {
		t.Errorf("%d %s", r.status, r.body)
	}
	at := fmt.Sprint(h.charges[h.disputes[0].charge].created)
	page := b.get("/v1/charges", token, url.Values{"created": {at}, "expand[]": {"data.dispute", "data.payment_intent"}})
	if !strings.Contains(page.body, `"object":"dispute"`) || !strings.Contains(page.body, `"object":"payment_intent"`) || !json.Valid([]byte(page.body)) {
		t.Errorf("%d %s", page.status, page.body)
	}
	for _, bad := range []string{"invoice", "data.amount", "data.invoice.number", "data.dispute.charge.invoice.subscription.customer"} {
		if r := b.get("/v1/charges", token, url.Values{"expand[]": {bad}}); r.status != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, r.status)
		}
	}
	if r := b.post("/v1/invoices/"+in+"/pay", token, nil); r.status != http.StatusBadRequest || !strings.Contains(r.body, "cannot change") {
		t.Errorf("pay: %d %s", r.status, r.body)
	}
}

// An id in disguise is found again, and no other is.
func TestIDSpace(t *testing.T) {
	t.Parallel()
	s := idSpace{"ch_3abc", 1_000_000}
	for _, n := range []int{0, 1, 61, 62, 999_999} {
		if got := s.find(s.name(n)); got != n {
			t.Errorf("%d became %d", n, got)
		}
	}
	for _, id := range []string{"", "ch_3abc", s.name(1_000_000), s.name(5) + "0", "ch_3abd" + s.name(5)[7:], "ch_3abczzzzzz", "ch_3abc0000-0"} {
		if got := s.find(id); got != -1 {
			t.Errorf("%q is %d", id, got)
		}
	}
}

func BenchmarkPages(b *testing.B) {
	s, _ := New(Config{Charges: 200_000, Now: (&clock{t: birth}).Now})
	a := s.accounts[s.ids[0]]
	a.advance(birth.Unix())
	for _, kind := range []string{"subscriptions", "invoices", "charges"} {
		b.Run(kind, func(b *testing.B) {
			var out []byte
			for n := range b.N {
				out = a.tables[kind].shelf.append(out[:0], n%a.tables[kind].shelf.n, nil)
			}
			b.SetBytes(int64(len(out)))
		})
	}
}

// A history adds up: money, attempts and times agree with each other, and its customers alone have
// every kind of ghost.
func TestAHistoryAddsUp(t *testing.T) {
	t.Parallel()
	s, err := New(Config{Charges: 40_000, Merchants: 1, Now: (&clock{t: birth}).Now})
	if err != nil {
		t.Fatal(err)
	}
	h := s.accounts[s.ids[0]].tables["charges"].shelf.h
	for i := range h.invoices {
		v := &h.invoices[i]
		auto, charges := h.subs[v.sub].method == "charge_automatically", h.chargesOf.of(uint32(i))
		paid, last := int64(0), v.created
		for _, c := range charges {
			if h.succeeded(int(c)) {
				paid += h.charges[c].amount
			}
			if h.charges[c].created < last || h.charges[c].created > h.epoch {
				t.Fatalf("a charge out of order: %+v %+v", v, h.charges[c])
			}
			last = h.charges[c].created
		}
		switch {
		case auto && (int(v.attempts) < len(charges)-1 || v.attempts == 0 && len(charges) > 0 || v.attempts > 9),
			v.attempted != (len(charges) > 0) && v.amount > 0,
			(v.status == "paid") != (v.remaining == 0), v.status == "paid" && !v.outOfBand && paid != v.amount, v.status == "open" && paid != v.amount-v.remaining,
			v.next != 0 && (v.next <= h.epoch || v.status != "open" && v.status != "draft"), v.created > h.epoch, v.status == "draft" && v.attempted:
			t.Fatalf("it does not add up: %+v with %d charges of %d", v, len(charges), paid)
		}
	}
	whys := map[string]int{}
	for _, g := range h.ghosts(birth.Unix()) {
		whys[g.Why]++
	}
	if len(whys) != 7 {
		t.Error(whys)
	}
}
