package connect

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"phantom/sandbox"
)

// What Stripe says to the platform's key, and that Observe learns of each answer, and of none.
func TestPlatform(t *testing.T) {
	t.Parallel()
	world, err := sandbox.New(sandbox.Config{Customers: 1})
	if err != nil {
		t.Fatal(err)
	}
	answer := func(status int, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Request-Id", "req_1")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		})
	}
	for _, test := range []struct {
		name    string
		stripe  http.Handler // nil: nobody listens
		key     string
		account bool
		err     string
		status  int
	}{
		{"the sandbox", world, sandbox.SecretKey, true, "", 200},
		{"a wrong key", world, "sk_test_wrong", false, ErrPlatformKey.Error(), 401},
		{"a restricted key", answer(403, `{"error":{}}`), "rk_test_1", false, "", 403},
		{"out of order", answer(503, "sk_test_canary"), "sk_test_1", false, `stripe answered 503 (request "req_1")`, 503},
		{"another host", answer(200, "<html>"), "sk_test_1", false, "stripe's answer cannot be read", 200},
		{"no account", answer(200, `{"id":"cus_1"}`), "sk_test_1", false, "stripe's answer cannot be read", 200},
		{"nobody", nil, "sk_test_1", false, "stripe cannot be reached, or closed the connection", 0},
	} {
		server := httptest.NewServer(test.stripe)
		if test.stripe == nil {
			server.Close()
		}
		var seen []int
		var took time.Duration
		s := New(Config{SecretKey: test.key, APIBase: server.URL, ConnectBase: server.URL, Observe: func(status int, d time.Duration) { seen, took = append(seen, status), d }}, nil)
		p, err := s.Platform(t.Context())
		server.Close()
		if (err == nil) != (test.err == "") || err != nil && err.Error() != test.err || errors.Is(err, ErrPlatformKey) != (test.status == 401) {
			t.Errorf("%s: %v", test.name, err)
		}
		if strings.HasPrefix(p.Account, "acct_") != test.account || test.status != 0 && p.Date.Sub(p.Now).Abs() > 5*time.Second {
			t.Errorf("%s: %+v", test.name, p)
		}
		if !slices.Equal(seen, []int{test.status}) || took <= 0 {
			t.Errorf("%s: saw %v in %s", test.name, seen, took)
		}
	}
}

// Waited learns how long the account's pace has held up each request.
func TestWaited(t *testing.T) {
	t.Parallel()
	b := setup(t)
	merchant := b.connected()
	var waits []time.Duration
	config := b.s.config
	config.RateLimit, config.Waited = 20, func(took time.Duration) { waits = append(waits, took) }
	p := New(config, b.pool).paceOf(merchant.ID)
	started := time.Now()
	for range 5 {
		if err := p.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var sum time.Duration
	for _, took := range waits {
		sum += took
	}
	if all := time.Since(started); len(waits) != 5 || sum > all || sum < 4*40*time.Millisecond {
		t.Errorf("%v, %s of %s", waits, sum, all)
	}
}
