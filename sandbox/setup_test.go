package sandbox

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// birth is a Thursday morning; every test's clock begins there.
var birth = time.Date(2026, 3, 12, 9, 30, 0, 0, time.UTC)

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// bench is a running sandbox and a client that follows no redirects and keeps no connections.
type bench struct {
	t     *testing.T
	s     *Sandbox
	clock *clock
	url   string
	http  *http.Client
}

func setup(t *testing.T, change ...func(*Config)) *bench {
	t.Helper()
	c := &clock{t: birth}
	cfg := Config{Now: c.Now}
	for _, f := range change {
		f(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return &bench{t: t, s: s, clock: c, url: srv.URL, http: &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) field(path string) any {
	var v any
	if json.Unmarshal([]byte(r.body), &v) != nil {
		return nil
	}
	for _, p := range strings.Split(path, ".") {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

func (r reply) text(path string) string {
	s, _ := r.field(path).(string)
	return s
}

// do sends a request; auth is a key, params go to the query of a GET and the body of a POST. header
// holds name, value …
func (b *bench) do(method, path, auth string, params url.Values, header ...string) (reply, error) {
	target, body := b.url+path, ""
	if method == http.MethodGet && len(params) > 0 {
		target += "?" + params.Encode()
	} else {
		body = params.Encode()
	}
	req, err := http.NewRequest(method, target, io.NopCloser(strings.NewReader(body)))
	if err != nil {
		b.t.Fatal(err)
	}
	req.ContentLength = int64(len(body))
	if auth != "" {
		req.Header.Set("Authorization", "Bearer "+auth)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return b.roundTrip(req)
}

func (b *bench) roundTrip(req *http.Request) (reply, error) {
	resp, err := b.http.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(got)}, err
}

func (b *bench) get(path, auth string, params url.Values, header ...string) reply {
	b.t.Helper()
	r, err := b.do(http.MethodGet, path, auth, params, header...)
	if err != nil {
		b.t.Fatalf("GET %s: %v", path, err)
	}
	return r
}

func (b *bench) post(path, auth string, params url.Values, header ...string) reply {
	b.t.Helper()
	r, err := b.do(http.MethodPost, path, auth, params, header...)
	if err != nil {
		b.t.Fatalf("POST %s: %v", path, err)
	}
	return r
}

// code runs the authorize redirect and returns the query that came back.
func (b *bench) authorize(more ...string) url.Values {
	b.t.Helper()
	p := url.Values{"response_type": {"code"}, "client_id": {ClientID}, "scope": {"read_write"}, "state": {"st&te=1"},
		"redirect_uri": {"https://app.example.com/callback?keep=1"}}
	for i := 0; i < len(more); i += 2 {
		p.Set(more[i], more[i+1])
	}
	r := b.get("/oauth/authorize", "", p)
	if r.status != http.StatusFound {
		b.t.Fatalf("authorize: %d %s", r.status, r.body)
	}
	u, err := url.Parse(r.header.Get("Location"))
	if err != nil {
		b.t.Fatal(err)
	}
	return u.Query()
}

func (b *bench) exchange(code string) reply {
	b.t.Helper()
	return b.post("/oauth/token", "", url.Values{"grant_type": {"authorization_code"}, "code": {code}, "client_secret": {SecretKey}})
}

// connect returns the access token of the n-th merchant.
func (b *bench) connect(n int) string {
	b.t.Helper()
	r := b.exchange(b.authorize("sandbox_account", b.s.Accounts()[n]).Get("code"))
	if r.status != http.StatusOK {
		b.t.Fatalf("exchange: %d %s", r.status, r.body)
	}
	return r.text("access_token")
}

// find returns the id of an invoice of the n-th merchant for which ok holds.
func (b *bench) find(n int, ok func(*invoice) bool) *invoice {
	b.t.Helper()
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	a := b.s.accounts[b.s.ids[n]]
	a.advance(b.clock.Now().Unix())
	for _, o := range a.tables["invoices"].rows {
		if inv := o.(*invoice); ok(inv) {
			return inv
		}
	}
	b.t.Fatal("the world has no such invoice")
	return nil
}

// payable is an open, failed invoice whose next charge will succeed; doomed one whose card is dead.
func payable(inv *invoice) bool {
	return inv.Status == "open" && inv.Attempted && inv.CollectionMethod == "charge_automatically" &&
		inv.of.acc.pending(inv) == nil && (inv.of.card.dies == 0 || inv.of.card.dies > inv.of.acc.clock)
}

func doomed(inv *invoice) bool {
	return inv.Status == "open" && inv.Attempted && inv.CollectionMethod == "charge_automatically" && inv.of.card.dies != 0 &&
		inv.of.card.dies < inv.of.acc.clock && !inv.of.card.never && inv.of.sub.Status == "past_due"
}

// sure makes the card behind an invoice pay, so that a test does not depend on luck.
func (b *bench) sure(inv *invoice) {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	inv.of.card = &card{pm: inv.of.card.pm, habit: liquid}
	for inv.of.acc.verdict(inv, inv.of.card, b.clock.Now().Unix()) != nil {
		inv.tries++
	}
}

func (b *bench) count(n int, name string) int {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	return len(b.s.accounts[b.s.ids[n]].tables[name].rows)
}

type envelope struct {
	Object  string
	URL     string
	HasMore bool `json:"has_more"`
	Data    []struct {
		ID      string
		Created int64
	}
}

func (b *bench) page(path, auth string, params url.Values) (e envelope) {
	b.t.Helper()
	r := b.get(path, auth, params)
	if err := json.Unmarshal([]byte(r.body), &e); err != nil || r.status != http.StatusOK || e.Object != "list" || e.URL != path {
		b.t.Fatalf("GET %s: %d %v %s", path, r.status, err, r.body)
	}
	return e
}

// ids is the first page of a list, as long as pages go.
func (b *bench) ids(path, auth string) (ids []string) {
	for _, row := range b.page(path, auth, url.Values{"limit": {"100"}}).Data {
		ids = append(ids, row.ID)
	}
	return ids
}

func key(k string) []string { return []string{"Idempotency-Key", k} }
