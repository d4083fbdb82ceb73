package web_test

import (
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
		{"code twice", twice("code", "ac_1"), 400, "invalid_request", "a parameter is given twice"},
		{"state twice", twice("state", "x"), 400, "invalid_request", "a parameter is given twice"},
		{"scope twice", twice("scope", "read_write"), 400, "invalid_request", "a parameter is given twice"},
		{"code malformed", set("code", "ac_1 2"), 400, "invalid_grant", "code is malformed"},
		{"code of 10 kB", set("code", strings.Repeat("c", 10_000)), 400, "invalid_grant", "code is malformed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(o *options) {
				if o.seed = uint64(i + 1); test.name != "state expired" {
					// which another's beginning would sweep away
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
				// No matter what was wrong, the state is spent: it does not come back with the
				// right browser and code.
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

// twice gives a parameter once more, behind what Stripe has said.
func twice(name, value string) func(*bench, *browser, *url.URL) *browser {
	return func(_ *bench, c *browser, back *url.URL) *browser {
		query := back.Query()
		query[name] = append(query[name], value)
		if len(query[name]) == 1 {
			query.Add(name, value)
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

// No matter what the token endpoint does, it is asked once, nothing is stored, and the user starts
// again.
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

// Anybody can have a handshake refused as often as they like: that fills no log.
func TestRefusedHandshakesFillNoLog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 300 {
		b.browser().get("/api/auth/callback?state=bogus&code=ac_bogus")
	}
	if n := strings.Count(b.log.String(), "handshake refused"); n < 1 || n > 5 {
		t.Errorf("300 refused handshakes are %d lines", n)
	}
}
