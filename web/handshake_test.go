package web_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"phantom/db"
	"phantom/sandbox"
)

func TestHandshakeStoresTheMerchantSealed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.browser()
	first := c.get("/")
	if first.status != http.StatusOK || strings.Count(first.body, "<a ") != 1 ||
		!strings.Contains(first.body, `<a href="/api/auth/stripe">Connect Stripe</a>`) {
		t.Fatalf("first page: %d %s", first.status, first.body)
	}
	c.handshake().wantSuccess(t)

	account := b.world.Accounts()[0]
	merchant, err := db.New(b.pool).MerchantGetByStripeUserID(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	access, err := merchant.AccessToken.Reveal("merchants.access_token:" + account)
	if err != nil {
		t.Fatal(err)
	}
	refresh, err := merchant.RefreshToken.Reveal("merchants.refresh_token:" + account)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{access, refresh} {
		if !b.stripe.secrets[token] {
			t.Errorf("%.8s… is no token of Stripe's", token)
		}
		var rows string
		err := b.pool.QueryRow(t.Context(), "SELECT string_agg(merchants::text, ' ') FROM merchants").Scan(&rows)
		if err != nil || strings.Contains(rows, token) || strings.Contains(rows, fmt.Sprintf("%x", token)) {
			t.Errorf("the row holds a token in the clear, or %v", err)
		}
	}
	if got := [...]string{*merchant.Country, *merchant.DefaultCurrency, *merchant.Timezone, *merchant.BusinessCategory, merchant.Scope}; got !=
		[...]string{"DE", "eur", "Europe/Berlin", "software", "read_write"} {
		t.Errorf("facts %q", got)
	}
	if merchant.Livemode || merchant.DisconnectedAt != nil {
		t.Errorf("livemode %t, disconnected at %v", merchant.Livemode, merchant.DisconnectedAt)
	}
	if l := b.oneLine(); l.Msg != "[STRIPE] merchant connected" || l.Account != account {
		t.Errorf("log line %+v", l)
	}
	if left := b.states(); left != 0 {
		t.Errorf("%d states left", left)
	}
}

func (b *bench) states() int {
	b.t.Helper()
	var n int
	if err := b.pool.QueryRow(b.t.Context(), "SELECT count(*) FROM oauth_states").Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

func TestReconnectUpdatesTheRow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	account := b.world.Accounts()[1]
	b.browser().handshake("sandbox_account", account).wantSuccess(t)
	queries := db.New(b.pool)
	before, err := queries.MerchantGetByStripeUserID(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	for _, disconnect := range []bool{false, true} {
		if disconnect {
			if _, err := b.pool.Exec(t.Context(), "UPDATE merchants SET access_token = NULL, refresh_token = NULL, disconnected_at = now()"); err != nil {
				t.Fatal(err)
			}
		}
		b.browser().handshake("sandbox_account", account).wantSuccess(t)
		after, err := queries.MerchantGetByStripeUserID(t.Context(), account)
		if err != nil {
			t.Fatal(err)
		}
		if after.ID != before.ID || *after.EncryptedToken == *before.EncryptedToken || *after.IV == *before.IV ||
			!after.ConnectedAt.After(before.ConnectedAt) || after.DisconnectedAt != nil || *after.Country != "JP" {
			t.Errorf("disconnected before: %t: row %+v, was %+v", disconnect, after, before)
		}
		oldToken, _ := before.AccessToken.Reveal("merchants.access_token:" + account)
		newToken, err := after.AccessToken.Reveal("merchants.access_token:" + account)
		if err != nil || newToken == oldToken {
			t.Errorf("disconnected before: %t: the token is the old one, or %v", disconnect, err)
		}
		before = after
	}
	b.browser().handshake("sandbox_account", b.world.Accounts()[2]).wantSuccess(t)
	if n := b.merchants(); n != 2 {
		t.Errorf("%d merchants, want 2", n)
	}
}

func TestTwoTabsOfOneBrowser(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.browser()
	left, right := c.begin(), c.begin()
	if left.Query().Get("state") == right.Query().Get("state") {
		t.Fatal("two handshakes share a state")
	}
	backLeft := c.decide(left, "sandbox_account", b.world.Accounts()[0])
	backRight := c.decide(right, "sandbox_account", b.world.Accounts()[1])
	c.arrive(backRight).wantSuccess(t)
	c.arrive(backLeft).wantSuccess(t)
	if n := b.merchants(); n != 2 {
		t.Errorf("%d merchants, want 2", n)
	}
}

func TestCookie(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		https  bool
		cookie string
	}{
		{"http", false, "phantom_browser"},
		{"https", true, "__Host-phantom_browser"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(o *options) { o.https = test.https })
			c := b.browser()
			cookies := func(header ...string) *http.Cookie {
				t.Helper()
				response := http.Response{Header: c.do(http.MethodGet, "/api/auth/stripe", header...).header}
				all := response.Cookies()
				if len(all) != 1 {
					t.Fatalf("cookies %v, want one", all)
				}
				return all[0]
			}
			got := cookies()
			if got.Name != test.cookie || !got.HttpOnly || got.SameSite != http.SameSiteLaxMode || got.Path != "/" || got.Domain != "" ||
				got.Secure != test.https || got.MaxAge != 600 || len(got.Value) != 43 {
				t.Errorf("cookie %s", got.Raw)
			}
			// A secret of ours is kept, so that the first tab's state stays good; anything else is
			// replaced.
			if again := cookies("Cookie", test.cookie+"="+got.Value); again.Value != got.Value {
				t.Error("the browser's secret was replaced")
			}
			for _, planted := range []string{"", "x", got.Value[:42], got.Value + "A", strings.Repeat("!", 43), strings.Repeat("A", 42) + "B"} {
				if again := cookies("Cookie", test.cookie+"="+planted); again.Value == planted || len(again.Value) != 43 {
					t.Errorf("a planted cookie %q became %q", planted, again.Value)
				}
			}
		})
	}
}

// The whole flow under https, the cookie carried by hand: the jar keeps a Secure cookie from a
// plain address.
func TestHandshakeBehindTLS(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *options) { o.https = true })
	c := b.browser()
	start := c.get("/api/auth/stripe")
	page, err := url.Parse(start.header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	if uri := page.Query().Get("redirect_uri"); uri != "https://phantom.example/api/auth/callback" {
		t.Errorf("redirect_uri %q", uri)
	}
	cookie, _, _ := strings.Cut(start.header.Get("Set-Cookie"), ";")
	back := c.decide(page)
	c.do(http.MethodGet, back.RequestURI(), "Cookie", cookie).wantSuccess(t)
}

func TestAuthorizeURL(t *testing.T) {
	t.Parallel()
	b := setup(t)
	page := b.browser().begin()
	if got := page.Scheme + "://" + page.Host + page.Path; got != b.stripe.url+"/oauth/authorize" {
		t.Errorf("page %s", got)
	}
	query := page.Query()
	state := query.Get("state")
	if len(state) != 43 {
		t.Errorf("state has %d characters", len(state))
	}
	want := url.Values{
		"client_id": {sandbox.ClientID}, "scope": {"read_write"}, "response_type": {"code"}, "state": {state},
		"redirect_uri": {b.url + "/api/auth/callback"},
	}
	if query.Encode() != want.Encode() {
		t.Errorf("parameters %v, want %v", query, want)
	}
	var hashed bool
	if err := b.pool.QueryRow(t.Context(), "SELECT state_hash = sha256($1) AND state_hash <> $1 FROM oauth_states", []byte(state)).Scan(&hashed); err != nil || !hashed {
		t.Errorf("the state is not stored as its SHA-256: %v", err)
	}
}

// net/http repeats a request by itself when a connection it has used before turns out to be closed.
func TestCodeIsSentOnceOnAKeptConnection(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.browser()
	c.handshake().wantSuccess(t)
	for range 3 {
		back := c.callback()
		before := b.stripe.count("/oauth/token")
		b.world.Fail(sandbox.Fault{Path: "/oauth/token", Drop: true})
		c.arrive(back).wantError(t, 502, "stripe_unavailable")
		if n := b.stripe.count("/oauth/token") - before; n != 1 {
			t.Errorf("the code was sent %d times", n)
		}
	}
}

// Once the code is on its way, a browser that leaves does not lose the merchant.
func TestBrowserLeavesDuringTheExchange(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.browser()
	back := c.callback()
	entered, release := make(chan struct{}), make(chan struct{})
	b.world.Fail(sandbox.Fault{Path: "/oauth/token", Hold: func() { close(entered); <-release }})
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := c.try(ctx, http.MethodGet, back.RequestURI())
		left <- err
	}()
	<-entered
	leave()
	if err := <-left; err == nil {
		t.Fatal("the browser got an answer")
	}
	close(release)
	b.stop(nil)
	if err := <-b.served; err != nil { // what is in flight finishes first
		t.Errorf("Serve: %v", err)
	}
	b.served <- nil
	if n := b.merchants(); n != 1 {
		t.Errorf("%d merchants, want 1", n)
	}
}

func TestHundredCallbacksWithOneState(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.browser()
	back := c.callback()
	answers := make([]answer, 100)
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			<-start
			var err error
			if answers[i], err = c.try(t.Context(), http.MethodGet, back.RequestURI()); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	all.Wait()
	won := 0
	for _, got := range answers {
		if got.status == http.StatusOK {
			won++
			got.wantSuccess(t)
		} else {
			got.wantError(t, 400, "invalid_state")
		}
	}
	if won != 1 {
		t.Errorf("%d callbacks won", won)
	}
	if n := b.stripe.count("/oauth/token"); n != 1 {
		t.Errorf("the token endpoint was asked %d times", n)
	}
	if n := b.merchants(); n != 1 {
		t.Errorf("%d merchants", n)
	}
	if n := len(b.lines()); n < 2 || n > 4 { // one of each kind, and one a minute
		t.Errorf("%d log lines for 100 callbacks", n)
	}
}
