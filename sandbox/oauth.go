package sandbox

import (
	"bytes"
	"encoding/json"
	"html/template"
	"net/http"
	"net/url"
)

// authorize stands for the page on which a merchant grants access. It answers faults of the
// platform (client_id, redirect_uri) itself and sends all else back to redirect_uri. Test
// parameters: sandbox_account=acct_… approves as that merchant, sandbox_deny=1 denies.
func (s *Sandbox) authorize(q *request) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := q.form
	if p.Get("client_id") != s.cfg.ClientID {
		return authorizeError("No application matches the supplied client identifier")
	}
	target, err := url.Parse(p.Get("redirect_uri"))
	if err != nil || target.Host == "" || target.Scheme != "http" && target.Scheme != "https" || target.User != nil || target.Fragment != "" {
		return authorizeError("Invalid redirect URI. Ensure that it is an absolute http or https URL.")
	}
	back := func(kv ...string) answer {
		v := target.Query()
		for i := 0; i < len(kv); i += 2 {
			v.Set(kv[i], kv[i+1])
		}
		if p.Has("state") {
			v.Set("state", p.Get("state"))
		}
		u := *target
		u.RawQuery = v.Encode()
		return answer{status: http.StatusFound, header: http.Header{"Location": {u.String()}}}
	}
	if p.Get("response_type") != "code" {
		return back("error", "unsupported_response_type", "error_description", "Only 'code' is supported for response_type.")
	}
	scope := p.Get("scope")
	if scope == "" {
		scope = "read_only" // Stripe's default
	}
	if scope != "read_only" && scope != "read_write" {
		return back("error", "invalid_scope", "error_description", "The requested scope is invalid.")
	}
	if p.Get("sandbox_deny") != "" {
		return back("error", "access_denied", "error_description", "The user denied your request")
	}
	chosen := p.Get("sandbox_account")
	switch {
	case chosen == "" && s.cfg.Consent:
		return s.consentPage(p)
	case chosen == "":
		chosen = s.ids[0]
	case s.accounts[chosen] == nil:
		return authorizeError("No such sandbox merchant.")
	}
	s.grants.forgetOldCodes(q.now)
	secret := newSecret("ac_")
	s.grants.codes[digest(secret)] = &code{account: chosen, scope: scope, issued: q.now}
	return back("scope", scope, "code", secret)
}

func authorizeError(msg string) answer {
	return apiError(http.StatusBadRequest, "invalid_request_error", "", "", msg)
}

// token exchanges a code, or a refresh token, for an access token.
func (s *Sandbox) token(q *request) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if refused := s.platformOnly(q); refused != nil {
		return *refused
	}
	switch q.form.Get("grant_type") {
	case "authorization_code":
		return s.exchange(q)
	case "refresh_token":
		return s.refresh(q)
	case "":
		return oauthError(http.StatusBadRequest, "invalid_request", "Missing required param: grant_type")
	}
	return oauthError(http.StatusBadRequest, "unsupported_grant_type", "Unsupported grant type: "+q.form.Get("grant_type"))
}

// platformOnly asks for the platform's secret, in the body or as Bearer or Basic.
func (s *Sandbox) platformOnly(q *request) *answer {
	secret := q.form.Get("client_secret")
	if secret == "" {
		secret = credential(q.Request)
	}
	var a answer
	switch {
	case secret == "":
		a = oauthError(http.StatusUnauthorized, "invalid_client", "No API key provided.")
	case secret != s.cfg.SecretKey:
		a = oauthError(http.StatusUnauthorized, "invalid_client", "No such API key: "+masked(secret))
	case q.form.Has("client_id") && q.form.Get("client_id") != s.cfg.ClientID:
		a = oauthError(http.StatusUnauthorized, "invalid_client", "No application matches the supplied client identifier")
	default:
		return nil
	}
	return &a
}

func (s *Sandbox) exchange(q *request) answer {
	invalid := func(why string) answer { return oauthError(http.StatusBadRequest, "invalid_grant", why) }
	c := s.grants.codes[digest(q.form.Get("code"))]
	switch {
	case !q.form.Has("code"):
		return oauthError(http.StatusBadRequest, "invalid_request", "Missing required param: code")
	case c == nil:
		return invalid("Authorization code does not exist")
	case c.used:
		// RFC 6749 4.1.2 asks for the revocation: of two users one is a thief. Whether Stripe does
		// so is not documented.
		return s.saved(func() func() { return revoke(c.gave) }, func() answer {
			return invalid("This authorization code has already been used. All tokens issued with this code have been revoked.")
		})
	case q.now.Sub(c.issued) >= codeLife:
		return invalid("Authorization code expired")
	}
	return s.saved(func() func() {
		c.used = true
		return func() { c.used = false }
	}, func() answer {
		access, at := s.grants.issue("access", c.account, c.scope)
		refresh, rt := s.grants.issue("refresh", c.account, c.scope)
		c.gave = []*token{at, rt}
		return tokenAnswer(access, refresh, c.account, c.scope)
	})
}

// refresh hands out a further access token of equal or lesser scope. Older ones and the refresh
// token stay valid.
func (s *Sandbox) refresh(q *request) answer {
	secret := q.form.Get("refresh_token")
	t := s.grants.find(secret, "refresh")
	if t == nil || t.Revoked || s.accounts[t.Account] == nil {
		return oauthError(http.StatusBadRequest, "invalid_grant", "Refresh token does not exist, or access has been revoked")
	}
	scope := t.Scope
	if asked := q.form.Get("scope"); asked == "read_only" {
		scope = asked
	} else if asked != "" && asked != t.Scope {
		return oauthError(http.StatusBadRequest, "invalid_scope", "The requested scope exceeds the scope of the refresh token.")
	}
	return s.saved(nil, func() answer {
		access, _ := s.grants.issue("access", t.Account, scope)
		return tokenAnswer(access, secret, t.Account, scope)
	})
}

func tokenAnswer(access, refresh, account, scope string) answer {
	return ok(map[string]any{
		"access_token":           access,
		"refresh_token":          refresh,
		"token_type":             "bearer",
		"stripe_publishable_key": "pk_test_" + digest("publishable " + account)[:24],
		"stripe_user_id":         account,
		"livemode":               false,
		"scope":                  scope,
	})
}

// deauthorize ends the platform's access to an account.
func (s *Sandbox) deauthorize(q *request) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if refused := s.platformOnly(q); refused != nil {
		return *refused
	}
	id := q.form.Get("stripe_user_id")
	if q.form.Get("client_id") == "" || id == "" {
		return oauthError(http.StatusBadRequest, "invalid_request", "Missing required param: client_id and stripe_user_id are both needed")
	}
	if s.accounts[id] == nil || !s.grants.connected(id) {
		return oauthError(http.StatusUnauthorized, "invalid_client",
			"This application is not connected to stripe account "+id+", or that account does not exist.")
	}
	return s.disconnect(id, q.now.Unix())
}

// disconnect revokes all tokens of an account and lets the platform know.
func (s *Sandbox) disconnect(id string, now int64) answer {
	var all []*token
	for _, t := range s.grants.tokens {
		if t.Account == id {
			all = append(all, t)
		}
	}
	a := s.saved(func() func() { return revoke(all) }, func() answer { return ok(map[string]string{"stripe_user_id": id}) })
	if a.status == http.StatusOK {
		app := &application{ID: s.cfg.ClientID, Name: "PHANTOM", Object: "application"}
		s.accounts[id].emit(now, "account.application.deauthorized", app, nil)
	}
	return a
}

// application is the platform as an object, in one event alone.
type application struct {
	ID     string `json:"id"`
	Object string `json:"object"`
	Name   string `json:"name"`
}

func (a *application) meta() *head { return &head{ID: a.ID} }

// revoke marks tokens and returns the way back.
func revoke(tokens []*token) func() {
	var hit []*token
	for _, t := range tokens {
		if !t.Revoked {
			t.Revoked = true
			hit = append(hit, t)
		}
	}
	return func() {
		for _, t := range hit {
			t.Revoked = false
		}
	}
}

// saved changes the grants and writes them to the state file before anybody hears of it. If that
// fails, nothing changed.
func (s *Sandbox) saved(change func() (undo func()), reply func() answer) answer {
	before := make(map[string]*token, len(s.grants.tokens))
	for k, t := range s.grants.tokens {
		before[k] = t
	}
	undo := func() {}
	if change != nil {
		undo = change()
	}
	a := reply()
	if err := s.saveState(); err != nil {
		undo()
		s.grants.tokens = before
		return apiError(http.StatusInternalServerError, "api_error", "", "", "The sandbox cannot write its state file.")
	}
	return a
}

// oauthError has the flat shape of RFC 6749, unlike the v1 API's.
func oauthError(status int, name, description string) answer {
	// strings only: cannot fail
	b, _ := json.Marshal(map[string]string{"error": name, "error_description": description})
	return answer{status: status, body: b}
}

var consent = template.Must(template.New("consent").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>SANDBOX: connect an account</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:4rem auto;padding:0 1rem;color:#1a1f36}
strong.banner{display:block;background:#ffe9b3;border:1px solid #c98a00;border-radius:6px;padding:.6rem 1rem}
button{font:inherit;display:block;width:100%;margin:.6rem 0;padding:.7rem 1rem;text-align:left;border:1px solid #697386;border-radius:6px;background:#fff;cursor:pointer}
small{color:#525f7f}
</style></head><body>
<strong class="banner">SANDBOX: this is not Stripe. No account and no money is real.</strong>
<h1>Connect an account</h1>
<p>An application asks for <code>{{.Scope}}</code> access. Answer as which merchant?</p>
<form method="get" action="/oauth/authorize">
{{range $name, $values := .Params}}{{range $values}}<input type="hidden" name="{{$name}}" value="{{.}}">
{{end}}{{end}}{{range .Merchants}}<button name="sandbox_account" value="{{.ID}}">{{.Name}}<br><small>{{.ID}}, {{.Country}}, {{.Currency}}</small></button>
{{end}}<button name="sandbox_deny" value="1">Deny access</button>
</form></body></html>
`))

func (s *Sandbox) consentPage(p url.Values) answer {
	type merchant struct{ ID, Name, Country, Currency string }
	var all []merchant
	for _, id := range s.ids {
		a := s.accounts[id]
		all = append(all, merchant{id, a.profile.Name, a.profile.Country, a.profile.Currency})
	}
	scope := p.Get("scope")
	if scope == "" {
		scope = "read_only"
	}
	var b bytes.Buffer
	if err := consent.Execute(&b, map[string]any{"Scope": scope, "Params": p, "Merchants": all}); err != nil {
		return apiError(http.StatusInternalServerError, "api_error", "", "", "The sandbox cannot show its page.")
	}
	return answer{status: http.StatusOK, body: b.Bytes(), header: http.Header{
		"Content-Type":            {"text/html; charset=utf-8"},
		"Content-Security-Policy": {"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"},
		"X-Content-Type-Options":  {"nosniff"},
		"Referrer-Policy":         {"no-referrer"},
	}}
}
