package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"phantom/db"
	"phantom/db/dbtest"
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
			// A secret of ours is kept, so that the first tab's state stays good; anything else is replaced.
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

// The whole flow under https, the cookie carried by hand: the jar keeps a Secure cookie from a plain address.
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

// Each refusal comes before the token endpoint is asked.
func TestRefusedBeforeTheExchange(t *testing.T) {
	t.Parallel()
	good, database := strings.Repeat("A", 43), dbtest.URL(t)
	for i, test := range []struct {
		name   string
		change func(b *bench, c *browser, back *url.URL) *browser // returns who arrives
		status int
		code   string
		cause  string
	}{
		{"denied by the user", set("error", "access_denied", "code", ""), 403, "access_denied", "denied by the user"},
		{"denied, with a code all the same", set("error", "access_denied"), 403, "access_denied", "denied by the user"},
		{"another error", set("error", "invalid_scope", "code", ""), 502, "stripe_unavailable", "error other than access_denied"},
		{"an error of 10 kB", set("error", strings.Repeat("e", 10_000)), 502, "stripe_unavailable", "error other than access_denied"},
		{"state missing", set("state", ""), 400, "invalid_state", "state is missing"},
		{"state as an array", set("state", "", "state[]", good), 400, "invalid_state", "state is missing"},
		{"state malformed", set("state", "x"), 400, "invalid_state", "state is malformed"},
		{"state with bits left over", set("state", good[:42]+"B"), 400, "invalid_state", "state is malformed"},
		{"state of 10 kB", set("state", strings.Repeat("A", 10_000)), 400, "invalid_state", "state is malformed"},
		{"state unknown", set("state", good), 400, "invalid_state", "state is unknown"},
		{"denied with an unknown state", set("state", good, "error", "access_denied"), 400, "invalid_state", "state is unknown"},
		{"state expired", func(b *bench, c *browser, back *url.URL) *browser {
			tag, err := b.pool.Exec(b.t.Context(), "UPDATE oauth_states SET created_at = created_at - interval '10 minutes', "+
				"expires_at = clock_timestamp() - interval '1 millisecond' WHERE state_hash = sha256($1)", []byte(back.Query().Get("state")))
			if err != nil || tag.RowsAffected() != 1 {
				b.t.Fatal(tag, err)
			}
			return c
		}, 400, "invalid_state", "state has expired"},
		{"another browser", func(b *bench, _ *browser, _ *url.URL) *browser {
			other := b.browser()
			other.begin()
			return other
		}, 400, "invalid_state", "state belongs to another browser"},
		{"no cookie", func(b *bench, _ *browser, _ *url.URL) *browser { return b.browser() },
			400, "invalid_state", "state belongs to another browser"},
		{"code missing", set("code", ""), 400, "invalid_request", "code is missing"},
		{"code as an array", set("code", "", "code[]", "ac_1"), 400, "invalid_request", "code is missing"},
		{"code malformed", set("code", "ac_1 2"), 400, "invalid_grant", "code is malformed"},
		{"code of 10 kB", set("code", strings.Repeat("c", 10_000)), 400, "invalid_grant", "code is malformed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(o *options) {
				if o.seed = uint64(i + 1); test.name != "state expired" { // which another's beginning would sweep away
					o.database = database
				}
			})
			c := b.browser()
			back := c.callback()
			whole := *back
			arriving := test.change(b, c, back)
			arriving.arrive(back).wantError(t, test.status, test.code)
			if l := b.oneLine(); l.Msg != "[STRIPE] handshake refused" || l.Code != test.code || !strings.Contains(l.Cause, test.cause) {
				t.Errorf("log line %+v", l)
			}
			if back.Query().Get("state") == whole.Query().Get("state") {
				// Whatever was wrong, the state is spent: it does not come back with the right browser and code.
				c.arrive(&whole).wantError(t, 400, "invalid_state")
			} else {
				c.arrive(&whole).wantSuccess(t)
				return
			}
			if n := b.stripe.count("/oauth/token"); n != 0 || b.connected(b.world.Accounts()[0]) {
				t.Errorf("the token endpoint was asked %d times", n)
			}
		})
	}
}

// set changes parameters of the callback; "" takes one away.
func set(pairs ...string) func(*bench, *browser, *url.URL) *browser {
	return func(_ *bench, c *browser, back *url.URL) *browser {
		query := back.Query()
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i+1] == "" {
				query.Del(pairs[i])
			} else {
				query.Set(pairs[i], pairs[i+1])
			}
		}
		back.RawQuery = query.Encode()
		return c
	}
}

func TestStateReused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.browser()
	back := c.callback()
	c.arrive(back).wantSuccess(t)
	c.arrive(back).wantError(t, 400, "invalid_state")
	if n := b.stripe.count("/oauth/token"); n != 1 {
		t.Errorf("the token endpoint was asked %d times", n)
	}
	if all := b.lines(); len(all) != 2 || all[1].Code != "invalid_state" {
		t.Errorf("log %+v", all)
	}
}

func TestBadAndReusedCode(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.browser()
	bad := c.callback()
	set("code", "ac_"+canary)(b, c, bad)
	c.arrive(bad).wantError(t, 400, "invalid_grant")
	if l := b.oneLine(); l.Code != "invalid_grant" || l.Cause != "stripe answered invalid_grant" {
		t.Errorf("log line %+v", l)
	}
	if n := b.merchants(); n != 0 {
		t.Errorf("%d merchants", n)
	}

	used := c.callback()
	c.arrive(used).wantSuccess(t)
	again := c.callback()
	set("code", used.Query().Get("code"))(b, c, again)
	c.arrive(again).wantError(t, 400, "invalid_grant")
	if n := b.stripe.count("/oauth/token"); n != 3 {
		t.Errorf("the token endpoint was asked %d times, want 3", n)
	}
}

// grant is an answer of the token endpoint, with a canary in each place of a secret.
func grant(change map[string]any) string {
	fields := map[string]any{
		"access_token": "sk_test_" + canary, "refresh_token": "rt_" + canary, "token_type": "bearer", "stripe_user_id": "acct_1Grant",
		"livemode": false, "scope": "read_write", "stripe_publishable_key": "pk_test_1",
	}
	for name, value := range change {
		if fields[name] = value; value == nil {
			delete(fields, name)
		}
	}
	text, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func TestLivemode(t *testing.T) {
	t.Parallel()
	const live, test = "sk_live_1234567890", sandbox.SecretKey
	database := dbtest.URL(t)
	for i, tc := range []struct {
		key      string
		livemode bool
		match    bool
	}{
		{test, false, true}, {live, true, true}, {"rk_live_1234567890", true, true}, {"rk_test_1234567890", false, true},
		{test, true, false}, {live, false, false}, {"rk_live_1234567890", false, false}, {"rk_test_1234567890", true, false},
	} {
		t.Run(fmt.Sprintf("%.7s and %t", tc.key, tc.livemode), func(t *testing.T) {
			t.Parallel()
			account := fmt.Sprintf("acct_1Livemode%d", i)
			b := setup(t, func(o *options) {
				o.database, o.secretKey = database, tc.key
				o.token = reply(http.StatusOK, grant(map[string]any{"livemode": tc.livemode, "stripe_user_id": account}))
				o.facts = reply(http.StatusOK, `{"id":"`+account+`","object":"account"}`)
			})
			got := b.browser().handshake()
			if !tc.match {
				got.wantError(t, 400, "livemode_mismatch")
				if l := b.oneLine(); l.Code != "livemode_mismatch" || b.connected(account) {
					t.Errorf("connected: %t, log line %+v", b.connected(account), l)
				}
				return
			}
			got.wantSuccess(t)
			merchant, err := db.New(b.pool).MerchantGetByStripeUserID(t.Context(), account)
			if err != nil || merchant.Livemode != tc.livemode {
				t.Errorf("livemode stored as %t, %v", merchant.Livemode, err)
			}
		})
	}
}

func reply(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// A refresh token is not promised; a grant without one is good.
func TestGrantWithoutRefreshToken(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *options) { o.token = reply(http.StatusOK, grant(map[string]any{"refresh_token": nil})) })
	b.browser().handshake().wantSuccess(t)
	merchant, err := db.New(b.pool).MerchantGetByStripeUserID(t.Context(), "acct_1Grant")
	if err != nil || merchant.RefreshToken != nil || merchant.EncryptedRefreshToken != nil {
		t.Errorf("refresh token %v, %v", merchant.RefreshToken, err)
	}
}

// Whatever the token endpoint does, it is asked once, nothing is stored, and the user starts again.
func TestTokenEndpointFails(t *testing.T) {
	t.Parallel()
	const quoting = `{"error":"server_error","error_description":"no such code ac_` + canary + `","error_code":"` + canary + `"}`
	fault := func(f sandbox.Fault) func(*bench) {
		return func(b *bench) {
			f.Path, f.Times = "/oauth/token", 100
			b.world.Fail(f)
		}
	}
	type failure struct {
		name  string
		arm   func(*bench)
		cause string
	}
	tests := []failure{
		{"truncated", fault(sandbox.Fault{Truncate: true}), "cannot be read"},
		{"dropped before", fault(sandbox.Fault{Drop: true}), "closed the connection"},
		{"dropped after", fault(sandbox.Fault{Drop: true, After: true}), "closed the connection"},
		{"HTML under an error", fault(sandbox.Fault{Status: 503, Body: "<h1>" + canary + "</h1>"}), "cannot be read"},
		{"an API error's shape", fault(sandbox.Fault{Status: 400, Body: `{"error":{"type":"invalid_request_error","message":"` + canary + `"}}`}), "cannot be read"},
		{"an error that is null", fault(sandbox.Fault{Status: 400, Body: `null`}), "stripe answered 400"},
		{"an empty error", fault(sandbox.Fault{Status: 400, Body: ` `}), "cannot be read"},
		{"invalid_grant under 500", fault(sandbox.Fault{Status: 500, Body: `{"error":"invalid_grant"}`}), "stripe answered 500"},
		{"Stripe asks for a retry", fault(sandbox.Fault{Status: 409, Body: quoting, Header: http.Header{"Stripe-Should-Retry": {"true"}}}), "stripe answered 409"},
	}
	if long { // ten seconds; package connect has it with a shorter limit
		tests = append(tests, failure{"silent", fault(sandbox.Fault{Delay: time.Hour, After: true}), "did not answer in time"})
	}
	for _, status := range []int{400, 401, 403, 404, 409, 429, 500, 503} {
		tests = append(tests,
			failure{fmt.Sprint(status), fault(sandbox.Fault{Status: status, Body: quoting}), fmt.Sprintf("stripe answered %d", status)},
			failure{fmt.Sprint(status, " without our body"), fault(sandbox.Fault{Status: status}), "exchange code: "})
	}
	for name, body := range map[string]string{
		"HTML": "<html>" + canary + "</html>", "an empty object": "{}", "null": "null", "an array": "[]", "a string": `"` + canary + `"`,
		"half": grant(nil)[:100], "trailing text": grant(nil) + canary,
		"no account": grant(map[string]any{"stripe_user_id": nil}), "an empty account": grant(map[string]any{"stripe_user_id": ""}),
		"a path for an account": grant(map[string]any{"stripe_user_id": "../x"}), "an account of 10 kB": grant(map[string]any{"stripe_user_id": "acct_" + strings.Repeat("a", 10<<10)}),
		"an account with a line break":  grant(map[string]any{"stripe_user_id": "acct_1\n"}),
		"an account with a path":        grant(map[string]any{"stripe_user_id": "acct_1/../../x"}),
		"an account with a zero byte":   grant(map[string]any{"stripe_user_id": "acct_1\x00"}),
		"an account in other letters":   grant(map[string]any{"stripe_user_id": "acct_１"}),
		"a number for an account":       grant(map[string]any{"stripe_user_id": 5}),
		"no access token":               grant(map[string]any{"access_token": nil}),
		"an access token of 10 kB":      grant(map[string]any{"access_token": strings.Repeat(canary, 1000)}),
		"a refresh token of 10 kB":      grant(map[string]any{"refresh_token": strings.Repeat(canary, 1000)}),
		"an object for an access token": grant(map[string]any{"access_token": map[string]any{canary: canary}}),
		"scope read_only":               grant(map[string]any{"scope": "read_only"}),
		"no scope":                      grant(map[string]any{"scope": nil}),
		"two scopes":                    grant(map[string]any{"scope": "read_write read_only"}),
	} {
		tests = append(tests, failure{"200 with " + name, fault(sandbox.Fault{Status: 200, Body: body}), "exchange code: "})
	}
	database := dbtest.URL(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(o *options) { o.database = database })
			c := b.browser()
			back := c.callback()
			test.arm(b)
			c.arrive(back).wantError(t, 502, "stripe_unavailable")
			if l := b.oneLine(); l.Msg != "[STRIPE] handshake refused" || l.Code != "stripe_unavailable" || !strings.Contains(l.Cause, test.cause) {
				t.Errorf("log line %+v, want cause %q", l, test.cause)
			}
			c.arrive(back).wantError(t, 400, "invalid_state")
			if n := b.stripe.count("/oauth/token"); n != 1 {
				t.Errorf("the token endpoint was asked %d times", n)
			}
			if n := b.stripe.count("/v1/account"); n != 0 {
				t.Errorf("the account was asked for %d times", n)
			}
			if n := b.merchants(); n != 0 {
				t.Errorf("%d merchants", n)
			}
		})
	}
}

// stripe-go takes every status below 400 for success.
func TestGrantUnderAnotherStatusThan200(t *testing.T) {
	t.Parallel()
	database := dbtest.URL(t)
	for _, status := range []int{201, 202, 203, 206, 300, 302, 307} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(o *options) { o.database = database })
			b.world.Fail(sandbox.Fault{Path: "/oauth/token", Times: 9, Status: status,
				Body: `{"access_token":"sk_test_1","refresh_token":"rt_1","stripe_user_id":"acct_1","scope":"read_write","livemode":false}`})
			b.browser().handshake().wantError(t, 502, "stripe_unavailable")
			if n := b.stripe.count("/oauth/token"); n != 1 || b.merchants() != 0 {
				t.Errorf("the token endpoint was asked %d times, %d merchants", n, b.merchants())
			}
		})
	}
}

// The request holds the platform's secret and the code: it goes to nobody else.
func TestTokenRedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	database := dbtest.URL(t)
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			var followed sync.Once
			trap := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				followed.Do(func() { t.Errorf("%s %s was followed", r.Method, r.URL.Path) })
				reply(http.StatusOK, grant(nil))(w, r)
			}))
			t.Cleanup(trap.Close)
			b := setup(t, func(o *options) { o.database = database })
			b.world.Fail(sandbox.Fault{Path: "/oauth/token", Times: 9, Status: status, Body: "{}", Header: http.Header{"Location": {trap.URL + "/oauth/token"}}})
			b.browser().handshake().wantError(t, 502, "stripe_unavailable")
			if n := b.stripe.count("/oauth/token"); n != 1 || b.merchants() != 0 {
				t.Errorf("the token endpoint was asked %d times, %d merchants", n, b.merchants())
			}
		})
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
	if n := len(b.lines()); n != 100 {
		t.Errorf("%d log lines for 100 callbacks", n)
	}
}
