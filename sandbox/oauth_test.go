package sandbox

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAuthorize(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.authorize()
	if !strings.HasPrefix(got.Get("code"), "ac_") || len(got.Get("code")) < 40 || got.Get("scope") != "read_write" ||
		got.Get("state") != "st&te=1" || got.Get("keep") != "1" {
		t.Errorf("approved: %v", got)
	}
	got = b.authorize("sandbox_deny", "1")
	if got.Get("error") != "access_denied" || got.Get("error_description") == "" || got.Get("state") != "st&te=1" || got.Has("code") {
		t.Errorf("denied: %v", got)
	}
	if got = b.authorize("response_type", "token"); got.Get("error") != "unsupported_response_type" {
		t.Errorf("response_type: %v", got)
	}
	if got = b.authorize("scope", "all"); got.Get("error") != "invalid_scope" {
		t.Errorf("scope: %v", got)
	}
	for name, p := range map[string]url.Values{
		"client":       {"client_id": {"ca_other"}, "redirect_uri": {"https://app.example.com"}},
		"no redirect":  {"client_id": {ClientID}},
		"relative":     {"client_id": {ClientID}, "redirect_uri": {"/callback"}},
		"javascript":   {"client_id": {ClientID}, "redirect_uri": {"javascript:alert(1)"}},
		"other scheme": {"client_id": {ClientID}, "redirect_uri": {"ftp://app.example.com/"}},
		"user info":    {"client_id": {ClientID}, "redirect_uri": {"https://app.example.com@evil.example.com/"}},
		"no host":      {"client_id": {ClientID}, "redirect_uri": {"https:///x"}},
	} {
		p.Set("response_type", "code")
		r := b.get("/oauth/authorize", "", p)
		if r.status != http.StatusBadRequest || r.header.Get("Location") != "" {
			t.Errorf("%s: %d %q", name, r.status, r.header.Get("Location"))
		}
	}
}

func TestTokenExchange(t *testing.T) {
	t.Parallel()
	b := setup(t)
	second := b.s.Accounts()[1]
	code := b.authorize("sandbox_account", second).Get("code")

	wrong := b.post("/oauth/token", "", url.Values{"grant_type": {"authorization_code"}, "code": {code}, "client_secret": {"sk_test_somebody_else_0000"}})
	if wrong.status != http.StatusUnauthorized || wrong.text("error") != "invalid_client" || strings.Contains(wrong.body, "somebody") {
		t.Fatalf("wrong secret: %d %s", wrong.status, wrong.body)
	}
	r := b.exchange(code)
	if r.status != http.StatusOK {
		t.Fatalf("exchange: %d %s", r.status, r.body)
	}
	for field, prefix := range map[string]string{"access_token": "sk_test_", "refresh_token": "rt_", "stripe_publishable_key": "pk_test_",
		"stripe_user_id": second, "token_type": "bearer", "scope": "read_write"} {
		if !strings.HasPrefix(r.text(field), prefix) {
			t.Errorf("%s = %q, want prefix %q", field, r.text(field), prefix)
		}
	}
	if r.field("livemode") != false {
		t.Errorf("livemode = %v", r.field("livemode"))
	}
	access, refresh := r.text("access_token"), r.text("refresh_token")
	if me := b.get("/v1/account", access, nil); me.text("id") != second || me.text("object") != "account" {
		t.Fatalf("account: %d %s", me.status, me.body)
	}

	rt := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}
	renewed := b.post("/oauth/token", SecretKey, rt)
	if renewed.status != http.StatusOK || renewed.text("access_token") == access || renewed.text("stripe_user_id") != second {
		t.Fatalf("refresh: %d %s", renewed.status, renewed.body)
	}

	// A second use is refused, and costs the thief and the owner their tokens.
	again := b.exchange(code)
	if again.status != http.StatusBadRequest || again.text("error") != "invalid_grant" || again.text("error_description") == "" {
		t.Fatalf("reuse: %d %s", again.status, again.body)
	}
	if me := b.get("/v1/account", access, nil); me.status != http.StatusUnauthorized {
		t.Errorf("after reuse the token still works: %d", me.status)
	}
	if r := b.post("/oauth/token", SecretKey, rt); r.status != http.StatusBadRequest || r.text("error") != "invalid_grant" {
		t.Errorf("after reuse the refresh token still works: %d", r.status)
	}

	for name, p := range map[string]struct {
		form url.Values
		want string
	}{
		"unknown code":  {url.Values{"grant_type": {"authorization_code"}, "code": {"ac_unknown"}}, "invalid_grant"},
		"no code":       {url.Values{"grant_type": {"authorization_code"}}, "invalid_request"},
		"no grant type": {url.Values{"code": {"ac_unknown"}}, "invalid_request"},
		"other grant":   {url.Values{"grant_type": {"password"}}, "unsupported_grant_type"},
		"token as code": {url.Values{"grant_type": {"refresh_token"}, "refresh_token": {access}}, "invalid_grant"},
	} {
		if r := b.post("/oauth/token", SecretKey, p.form); r.status != http.StatusBadRequest || r.text("error") != p.want {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
}

func TestCodeExpires(t *testing.T) {
	t.Parallel()
	b := setup(t)
	early, late := b.authorize().Get("code"), b.authorize().Get("code")
	b.clock.add(5*time.Minute - time.Second)
	if r := b.exchange(early); r.status != http.StatusOK {
		t.Errorf("before five minutes: %d %s", r.status, r.body)
	}
	b.clock.add(time.Second)
	if r := b.exchange(late); r.status != http.StatusBadRequest || r.text("error") != "invalid_grant" {
		t.Errorf("after five minutes: %d %s", r.status, r.body)
	}
}

func TestOneCodeManyExchanges(t *testing.T) {
	t.Parallel()
	b := setup(t)
	code := b.authorize().Get("code")
	const n = 20
	got := make(chan int, n)
	for range n {
		go func() {
			r, _ := b.do(http.MethodPost, "/oauth/token", SecretKey, url.Values{"grant_type": {"authorization_code"}, "code": {code}})
			got <- r.status
		}()
	}
	won := 0
	for range n {
		if <-got == http.StatusOK {
			won++
		}
	}
	if won != 1 {
		t.Errorf("%d exchanges of one code won", won)
	}
}

func TestDeauthorize(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, second := b.s.Accounts()[0], b.s.Accounts()[1]
	t0, t1 := b.connect(0), b.connect(1)
	form := url.Values{"client_id": {ClientID}, "stripe_user_id": {first}}
	if r := b.post("/oauth/deauthorize", t0, form); r.status != http.StatusUnauthorized {
		t.Errorf("with a merchant's token: %d", r.status)
	}
	if r := b.post("/oauth/deauthorize", SecretKey, form); r.status != http.StatusOK || r.text("stripe_user_id") != first {
		t.Errorf("deauthorize: %d %s", r.status, r.body)
	}
	if r := b.get("/v1/account", t0, nil); r.status != http.StatusUnauthorized || r.text("error.type") != "invalid_request_error" {
		t.Errorf("revoked token: %d %s", r.status, r.body)
	}
	if r := b.get("/v1/account", SecretKey, nil, "Stripe-Account", first); r.status != http.StatusForbidden || r.text("error.code") != "account_invalid" {
		t.Errorf("platform after revocation: %d %s", r.status, r.body)
	}
	if r := b.get("/v1/account", t1, nil); r.status != http.StatusOK || r.text("id") != second {
		t.Errorf("the other merchant: %d %s", r.status, r.body)
	}
	for _, id := range []string{first, "acct_unknown", b.s.Accounts()[2]} {
		r := b.post("/oauth/deauthorize", SecretKey, url.Values{"client_id": {ClientID}, "stripe_user_id": {id}})
		if r.status != http.StatusUnauthorized || r.text("error") != "invalid_client" {
			t.Errorf("%s: %d %s", id, r.status, r.body)
		}
	}
}

func TestConsentPage(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Consent = true })
	p := url.Values{"response_type": {"code"}, "client_id": {ClientID}, "state": {`"><script>alert(1)</script>`},
		"redirect_uri": {"https://app.example.com/callback"}}
	r := b.get("/oauth/authorize", "", p)
	if r.status != http.StatusOK || !strings.HasPrefix(r.header.Get("Content-Type"), "text/html") || !strings.Contains(r.body, "SANDBOX") {
		t.Fatalf("page: %d %s", r.status, r.header)
	}
	if strings.Contains(r.body, "<script") {
		t.Error("state is not escaped")
	}
	for _, id := range b.s.Accounts() {
		if !strings.Contains(r.body, id) {
			t.Errorf("%s cannot be chosen", id)
		}
	}
	p.Set("sandbox_account", b.s.Accounts()[2])
	r = b.get("/oauth/authorize", "", p)
	u, _ := url.Parse(r.header.Get("Location"))
	if got := b.exchange(u.Query().Get("code")); got.text("stripe_user_id") != b.s.Accounts()[2] || got.text("scope") != "read_only" {
		t.Errorf("chosen: %s", got.body)
	}
}

func TestStateFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "stripe.json")
	with := func(c *Config) { c.StateFile = file }
	b := setup(t, with)
	kept, revoked := b.connect(0), b.connect(1)
	b.post("/oauth/deauthorize", SecretKey, url.Values{"client_id": {ClientID}, "stripe_user_id": {b.s.Accounts()[1]}})
	before := b.ids("/v1/customers", kept)

	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("state file: %v %v", info, err)
	}
	raw, _ := os.ReadFile(file)
	if strings.Contains(string(raw), kept) || strings.Contains(string(raw), "sk_test_") {
		t.Error("the state file holds a secret")
	}
	// Days later another process serves the same world to the same tokens.
	later := setup(t, with, func(c *Config) { c.Now = func() time.Time { return birth.AddDate(0, 0, 3) } })
	after := later.ids("/v1/customers", kept)
	if i := slices.Index(after, before[0]); i < 0 || !slices.Equal(after[i:], before[:len(before)-i]) {
		// newcomers stand in front
		t.Errorf("another world after the restart: %d and %d customers", len(before), len(after))
	}
	if r := later.get("/v1/account", revoked, nil); r.status != http.StatusUnauthorized || r.text("error.code") != "api_key_expired" {
		t.Errorf("revocation is forgotten: %d %s", r.status, r.body)
	}
	for name, damaged := range map[string]string{"torn": string(raw[:len(raw)/2]), "version": `{"version":2}`, "seed": `{"version":1,"seed":9}`} {
		bad := filepath.Join(t.TempDir(), name)
		os.WriteFile(bad, []byte(damaged), 0o600)
		if _, err := New(Config{StateFile: bad}); err == nil {
			t.Errorf("%s: a damaged file was taken", name)
		}
	}
}
