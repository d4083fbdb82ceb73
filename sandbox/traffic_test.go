package sandbox

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"
)

func TestTraffic(t *testing.T) {
	t.Parallel()
	var tr traffic
	start := time.Now()
	var refused []int
	for ms := 0; ms < 3000; ms += 100 { // ten a second
		if tr.count(start.Add(time.Duration(ms)*time.Millisecond), 4) {
			refused = append(refused, ms)
		}
	}
	if tr.peak != 10 || len(refused) != 18 || refused[0] != 400 || slices.Contains(refused, 1000) {
		t.Errorf("peak %d, refused %v", tr.peak, refused)
	}
}

// The limit is each account's own, and what it refuses has done nothing.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.RateLimit = 3 })
	one, two := b.connect(0), b.connect(1)
	b.s.mu.Lock()
	for _, id := range b.s.ids {
		// all requests below fall into one second, however slow the machine
		b.s.traffic[id] = &traffic{served: slices.Repeat([]time.Time{time.Now().Add(time.Hour)}, 2)}
	}
	b.s.mu.Unlock()
	var got []int
	var last reply
	for range 3 {
		last = b.get("/v1/account", one, nil)
		got = append(got, last.status)
	}
	if !slices.Equal(got, []int{200, 429, 429}) || last.text("error.code") != "rate_limit" || last.header.Get("Stripe-Rate-Limited-Reason") == "" {
		t.Errorf("%v %s", got, last.body)
	}
	if r := b.get("/v1/account", SecretKey, nil, "Stripe-Account", b.s.Accounts()[0]); r.status != 429 {
		t.Errorf("by the platform's key: %d", r.status)
	}
	if r := b.get("/v1/account", two, nil); r.status != 200 {
		t.Errorf("another account: %d", r.status)
	}
	if peak := b.s.PeakRate(b.s.Accounts()[0]); peak < 1 || peak > 4 {
		t.Errorf("peak %d", peak)
	}
	log := b.s.Requests()
	if log[len(log)-2].Status != 429 {
		t.Errorf("log: %+v", log[len(log)-2])
	}
}

func TestFaultsOnPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	statuses := func(n int, path string, p url.Values) (got []int) {
		for range n {
			got = append(got, b.get(path, token, p).status)
		}
		return got
	}
	b.s.Fail(Fault{Path: "/v1/charges", Skip: 2, Status: 500})
	if got := statuses(4, "/v1/charges", nil); !slices.Equal(got, []int{200, 200, 500, 200}) {
		t.Errorf("page 3: %v", got)
	}
	b.s.Fail(Fault{Path: "/v1/charges", Every: 3, Times: 2, Status: 502, Body: "<html>bad gateway</html>"})
	if got := statuses(8, "/v1/charges", nil); !slices.Equal(got, []int{200, 200, 502, 200, 200, 502, 200, 200}) {
		t.Errorf("every third: %v", got)
	}
	b.s.Fail(Fault{Path: "/v1/charges", Query: "created[gte]=1", Status: 503})
	if got := append(statuses(1, "/v1/charges", nil), statuses(1, "/v1/charges", url.Values{"created[gte]": {"1"}})...); !slices.Equal(got, []int{200, 503}) {
		t.Errorf("by query: %v", got)
	}
	b.s.Fail(Fault{Account: b.s.Accounts()[1], Status: 503})
	if got := statuses(1, "/v1/charges", nil); got[0] != 200 {
		t.Errorf("another account's: %v", got)
	}
	b.s.Mend()
	if got := b.get("/v1/charges", b.connect(1), nil); got.status != 200 {
		t.Errorf("mended: %v", got)
	}
	b.s.Fail(Fault{Status: 429})
	if r := b.get("/v1/charges", token, nil); r.text("error.code") != "rate_limit" || r.header.Get("Stripe-Rate-Limited-Reason") == "" {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// Rows appear between pages: in front, whole, and nobody's debt changes.
func TestRowsAppear(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	truth := b.s.Truth(b.s.Accounts()[0])
	before := b.count(0, "charges")
	b.clock.add(time.Second)
	b.s.Fail(Fault{Path: "/v1/charges", Rows: 3})
	first := b.page("/v1/charges", token, url.Values{"limit": {"5"}})
	second := b.page("/v1/charges", token, url.Values{"limit": {"5"}})
	if b.count(0, "charges") != before+3 || second.Data[3].ID != first.Data[0].ID {
		t.Errorf("%d more charges: %v, then %v", b.count(0, "charges")-before, first, second)
	}
	if r := b.get("/v1/charges/"+second.Data[0].ID, token, url.Values{"expand[]": {"invoice"}}); r.text("status") != "succeeded" || r.text("invoice.status") != "paid" {
		t.Errorf("%d %s", r.status, r.body)
	}
	if after := b.s.Truth(b.s.Accounts()[0]); len(after) != len(truth) || len(truth) == 0 {
		t.Errorf("%d ghosts, then %d", len(truth), len(after))
	}
	if b.get("/v1/charges", token, nil).status != http.StatusOK {
		t.Error("afterwards")
	}
}
