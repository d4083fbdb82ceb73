package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	type want struct {
		status   int // 0: no answer
		executed int
		paid     bool
		replayed int // status of a second request with the same key; 0 means 200 and not replayed
	}
	for name, c := range map[string]struct {
		fault Fault
		want  want
	}{
		"429 before":              {Fault{Status: 429, Header: http.Header{"retry-after": {"1"}}}, want{429, 0, false, 0}},
		"500 before":              {Fault{Status: 500}, want{500, 0, false, 0}},
		"500 stored, not done":    {Fault{Status: 500, Store: true}, want{500, 0, false, 500}},
		"500 stored, done":        {Fault{Status: 500, Store: true, After: true}, want{500, 1, true, 500}},
		"500 after":               {Fault{Status: 500, After: true}, want{500, 1, true, 200}},
		"HTML from a proxy":       {Fault{Status: 502, Body: "<html>bad gateway</html>", After: true}, want{502, 1, true, 200}},
		"invalid JSON on a 200":   {Fault{Status: 200, Body: `{"id":`, After: true}, want{200, 1, true, 200}},
		"dropped before":          {Fault{Drop: true}, want{0, 0, false, 0}},
		"dropped after":           {Fault{Drop: true, After: true}, want{0, 1, true, 200}},
		"reset before":            {Fault{Reset: true}, want{0, 0, false, 0}},
		"reset after":             {Fault{Reset: true, After: true}, want{0, 1, true, 200}},
		"409 before":              {Fault{Status: 409, Code: "idempotency_key_in_use"}, want{409, 0, false, 0}},
		"truncated":               {Fault{Truncate: true}, want{0, 1, true, 200}},
		"slow":                    {Fault{Delay: time.Millisecond}, want{200, 1, true, 200}},
		"slow with key in flight": {Fault{Delay: time.Millisecond, After: true}, want{200, 1, true, 200}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(c *Config) { c.Customers = 60 })
			token := b.connect(0)
			inv := b.find(0, payable)
			b.sure(inv)
			path := "/v1/invoices/" + inv.ID + "/pay"
			c.fault.Path = path
			b.s.Fail(c.fault)
			r, err := b.do(http.MethodPost, path, token, nil, key("k")...)
			if c.want.status == 0 {
				if err == nil {
					t.Errorf("answered %d %s", r.status, r.body)
				}
				if c.fault.Reset && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("reset: %v, want ECONNRESET", err)
				}
				if c.fault.Truncate && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("truncated: %v, want an unexpected EOF", err)
				}
			} else if err != nil || r.status != c.want.status {
				t.Errorf("%d %v, want %d", r.status, err, c.want.status)
			}
			if c.fault.Code != "" && r.text("error.code") != c.fault.Code {
				t.Errorf("code %q", r.text("error.code"))
			}
			if c.fault.Body != "" && r.body != c.fault.Body || c.fault.Header != nil && r.header.Get("Retry-After") != "1" {
				t.Errorf("body %q, header %v", r.body, r.header)
			}
			if n := b.s.Executions("k"); n != c.want.executed {
				t.Errorf("executed %d times, want %d", n, c.want.executed)
			}
			if paid := b.get("/v1/invoices/"+inv.ID, token, nil).field("paid"); paid != c.want.paid {
				t.Errorf("paid = %v", paid)
			}
			again := b.post(path, token, nil, key("k")...)
			if replayed := again.header.Get("Idempotent-Replayed") == "true"; replayed != (c.want.replayed != 0) ||
				again.status != max(c.want.replayed, 200) {
				t.Errorf("second: %d, replayed %v", again.status, replayed)
			}
		})
	}
}

func TestFaultsAreCounted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	b.s.Fail(Fault{Path: "/v1/account", Times: 2, Status: 503})
	b.s.Fail(Fault{Method: "POST", Path: "/v1/", Status: 500})
	var got []int
	for range 3 {
		got = append(got, b.get("/v1/account", token, nil).status)
	}
	if got[0] != 503 || got[1] != 503 || got[2] != 200 {
		t.Errorf("answers %v", got)
	}
	if r := b.post("/v1/customers/"+b.find(0, payable).Customer, token, nil); r.status != 500 || r.text("error.type") != "api_error" {
		t.Errorf("by method: %d %s", r.status, r.body)
	}
}

// Chance strikes about so many, those that fit alone, and the same ones each time.
func TestFaultsByChance(t *testing.T) {
	t.Parallel()
	spoilt := func() (struck string) {
		b := setup(t, func(c *Config) { c.Customers = 1 })
		b.s.Fail(Fault{Path: "/v1/", Method: http.MethodPost, Chance: 0.25, Status: 500})
		token := b.connect(0)
		for range 100 {
			r := b.post("/v1/customers/cus_unknown", token, nil)
			struck += map[int]string{404: ".", 500: "x"}[r.status]
			if g := b.get("/v1/account", token, nil); g.status != http.StatusOK {
				t.Fatalf("a GET: %d", g.status)
			}
		}
		b.s.Mend()
		if r := b.post("/v1/customers/cus_unknown", token, nil); r.status != http.StatusNotFound {
			t.Errorf("after Mend: %d", r.status)
		}
		return struck
	}
	first := spoilt()
	if n := strings.Count(first, "x"); len(first) != 100 || n < 10 || n > 40 {
		t.Errorf("%d of %d were struck", n, len(first))
	}
	if again := spoilt(); again != first {
		t.Errorf("not the same:\n%s\n%s", first, again)
	}
}

func TestOAuthFaults(t *testing.T) {
	t.Parallel()
	b := setup(t)
	code := b.authorize().Get("code")
	b.s.Fail(Fault{Path: "/oauth/token", Drop: true})
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}}
	if _, err := b.do(http.MethodPost, "/oauth/token", SecretKey, form); err == nil {
		t.Error("answered")
	}
	if r := b.exchange(code); r.status != http.StatusOK {
		t.Errorf("the code was spent: %d %s", r.status, r.body)
	}
	code = b.authorize().Get("code")
	b.s.Fail(Fault{Path: "/oauth/token", Drop: true, After: true})
	form.Set("code", code)
	b.do(http.MethodPost, "/oauth/token", SecretKey, form)
	if r := b.exchange(code); r.text("error") != "invalid_grant" {
		t.Errorf("the code was not spent: %d %s", r.status, r.body)
	}
}

// A delay ends when the client leaves, and other requests are answered meanwhile.
func TestDelayHoldsNobodyElse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	entered := make(chan struct{})
	b.s.Fail(Fault{Path: "/v1/account", Hold: func() { close(entered) }, Delay: time.Hour})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, b.url+"/v1/account", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		_, err := b.http.Do(req)
		done <- err
	}()
	<-entered
	if r := b.get("/v1/account", token, nil); r.status != http.StatusOK {
		t.Errorf("meanwhile: %d", r.status)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestRequestLog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	b.get("/v1/account", token, nil)
	b.post("/v1/customers/cus_unknown", token, url.Values{"email": {"secret@example.com"}}, key("task_9")...)
	b.s.Fail(Fault{Drop: true})
	b.do(http.MethodGet, "/v1/events", token, nil)
	log := b.s.Requests()
	if len(log) != 5 {
		t.Fatalf("%d requests", len(log))
	}
	if r := log[2]; r.Method != http.MethodGet || r.Path != "/v1/account" || r.Status != 200 || r.Account != b.s.Accounts()[0] {
		t.Errorf("%+v", r)
	}
	if r := log[3]; r.IdempotencyKey != "task_9" || r.Status != 404 {
		t.Errorf("%+v", r)
	}
	if r := log[4]; r.Path != "/v1/events" || r.Status != 0 {
		t.Errorf("%+v", r)
	}
	raw, _ := json.Marshal(log)
	for _, secret := range []string{token, SecretKey, "ac_", "secret@"} {
		if strings.Contains(string(raw), secret) {
			t.Errorf("the log holds %q", secret[:3])
		}
	}
	for range maxRequests {
		b.s.admit(&http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/ring"}, Header: http.Header{}})
	}
	if log = b.s.Requests(); len(log) != maxRequests || log[0].Path != "/ring" {
		t.Errorf("ring: %d, first %+v", len(log), log[0])
	}
}
