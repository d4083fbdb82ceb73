package verdict

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"

	"phantom/shield"
)

const (
	ownKey     = "phs_own_key"
	foreignKey = "phs_foreign_key"
)

// stand is a handler with two merchants. The first has cus_full, cus_notice …, one for each level;
// the second has cus_foreign.
type stand struct {
	t      *testing.T
	table  *Table
	h      *Handler
	own    shield.Tenant
	signer *Signer
	public ed25519.PublicKey
}

func hashed(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return sum[:]
}

func newStand(t *testing.T, change ...func(*shield.Policy)) *stand {
	t.Helper()
	policy := shield.Default()
	policy.Mode = shield.Enforce
	for _, f := range change {
		f(&policy)
	}
	own := shield.Tenant{ID: uuid.New(), Account: "acct_own", Livemode: true, Policy: policy, Version: 1, Revision: 42}
	foreign := shield.Tenant{ID: uuid.New(), Account: "acct_foreign", Policy: policy, Version: 1, Revision: 1}
	s := &stand{t: t, table: NewTable(), own: own}
	if err := s.table.Load("0a1b2c3d", []shield.Tenant{own, foreign}, true, func(add func(uuid.UUID, shield.Row)) error {
		for _, level := range shield.Levels {
			add(own.ID, shield.Row{
				Subscription: "sub_" + string(level), Customer: "cus_" + string(level), Product: "prod_1", Level: level, Reason: shield.ByFailure,
				Since: moment.Unix(), InDebt: level != shield.Full,
			})
		}
		add(own.ID, shield.Row{Subscription: "sub_a", Customer: "cus_two", Product: "prod_a", Level: shield.Full, Reason: shield.ByPayment})
		add(own.ID, shield.Row{Subscription: "sub_b", Customer: "cus_two", Product: "prod_b", Level: shield.Blocked, Reason: shield.ByFailure})
		add(foreign.ID, shield.Row{Subscription: "sub_foreign", Customer: "cus_foreign", Level: shield.Blocked, Reason: shield.ByFailure})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	s.table.SetKeys(uuid.Nil, []shield.TenantKey{
		{Merchant: own.ID, ID: uuid.New(), Hash: hashed(ownKey)}, {Merchant: foreign.ID, ID: uuid.New(), Hash: hashed(foreignKey)},
		{Merchant: own.ID, ID: uuid.New(), Hash: hashed("phs_expired"), Expires: time.Now().Add(-time.Second)},
	})
	s.table.Synced()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.public = public
	s.signer = &Signer{ListKey: func(context.Context, uuid.UUID) ([]byte, error) { return []byte("0123456789abcdef"), nil }}
	s.signer.Set([]SigningKey{{ID: "k1", Public: public, Private: private}})
	s.h = New(Config{Table: s.table, PublicURL: "https://phantom.example", Signer: s.signer})
	return s
}

// ask makes a request. headers are name, value, name, value …; the key is ownKey's.
func (s *stand) ask(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second) // a stream has no end of its own
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+ownKey)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
		} else {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	w := httptest.NewRecorder()
	s.h.ServeHTTP(w, r)
	return w
}

func TestPath(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	for _, test := range []struct {
		path, want string
		status     int
	}{
		{
			"/api/shield/customers/cus_limited", `{"customer":"cus_limited","known":true,"access":false,"level":"limited","reason":"payment_failed",` +
				`"since":"2026-11-30T12:00:00Z","features":["login","export","billing"],"revision":"0a1b2c3d.42","livemode":true,` +
				`"subscriptions":[{"id":"sub_limited","product":"prod_1","level":"limited","reason":"payment_failed"}]}`, 200,
		},
		{"/api/shield/customers/cus_limited?feature=login", `"access":true`, 200},
		{"/api/shield/customers/cus_limited?feature=other", `"access":false`, 200},
		{"/api/shield/customers/cus_blocked?feature=billing", `"access":true`, 200},
		{"/api/shield/customers/cus_grace", `"access":true,"level":"grace"`, 200},
		{"/api/shield/customers/cus_two", `"access":true,"level":"full"`, 200},
		{"/api/shield/customers/cus_never", `{"customer":"cus_never","known":false,"access":true,"level":"full","features":[],`, 200},
		{"/api/shield/customers/cus_foreign", `"known":false`, 200},
		{"/api/shield/subscriptions/sub_b", `{"customer":"cus_two","known":true,"access":false,"level":"blocked"`, 200},
		{"/api/shield/subscriptions/sub_foreign", `"known":false`, 200},
		{"/api/shield/customers/", `"field":"customer"`, 400},
		{"/api/shield/customers/cus-1", `"field":"customer"`, 400},
		{"/api/shield/customers/" + strings.Repeat("a", 256), `"field":"customer"`, 400},
		{"/api/shield/customers/cus_1%22", `"field":"customer"`, 400},
		{"/api/shield/customers/cus_1?feature=A", `"field":"query"`, 400},
		{"/api/shield/customers/cus_1?feature=", `"field":"query"`, 400},
		{"/api/shield/customers/cus_1?x=1", `"field":"query"`, 400},
		{"/api/shield/customers/cus_1/more", "not_found", 404},
		{"/api/shield/subscriptions/sub-1", `"field":"subscription"`, 400},
		{"/readyz/shield", `"status":"ok"`, 200},
	} {
		w := s.ask("GET", test.path, "")
		if w.Code != test.status || !strings.Contains(w.Body.String(), test.want) || w.Header().Get("Content-Type") != "application/json" ||
			w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v %s", test.path, w.Code, w.Header(), w.Body)
		}
	}
	if w := s.ask("POST", "/api/shield/customers/cus_1", ""); w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d %v", w.Code, w.Header())
	}
	if n := s.table.Unknown()["acct_own"]; n != 3 {
		t.Errorf("%d unknown customers are counted, want 3", n)
	}
	// cus_limited and cus_blocked by a feature, and cus_grace.
	if seen := s.h.Seen(); len(seen) != 3 || len(s.h.Seen()) != 0 {
		t.Errorf("%v were let in while they owe", seen)
	}
}

// Every way asks for a key of the merchant's own, and a key opens nobody else's customers.
func TestKeys(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	question := `{"subject":{"type":"customer","id":"cus_blocked"},"action":{"name":"access"},"resource":{"type":"feature","id":"login"}}`
	for _, route := range []struct{ method, path, body string }{
		{"GET", "/api/shield/customers/cus_blocked", ""}, {"GET", "/api/shield/customers/cus_blocked/verdict", ""},
		{"GET", "/api/shield/subscriptions/sub_blocked", ""}, {"GET", "/api/shield/list", ""}, {"GET", "/api/shield/changes", ""},
		{"POST", "/access/v1/evaluation", question}, {"POST", "/access/v1/evaluations", question},
		{"POST", "/ofrep/v1/evaluate/flags", `{"context":{"targetingKey":"cus_blocked"}}`},
		{"POST", "/ofrep/v1/evaluate/flags/access", `{"context":{"targetingKey":"cus_blocked"}}`},
	} {
		for _, header := range []string{"", "Bearer", "Bearer phs_wrong", "Basic " + ownKey, "Bearer phs_expired", ownKey, "Bearer " + strings.Repeat("x", 300)} {
			if w := s.ask(route.method, route.path, route.body, "Authorization", header); w.Code != 401 || w.Header().Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%s with %q: %d %s", route.path, header, w.Code, w.Body)
			}
		}
	}
	for _, path := range []string{"/api/shield/customers/cus_blocked", "/api/shield/subscriptions/sub_blocked"} {
		if w := s.ask("GET", path, "", "Authorization", "bearer "+foreignKey); w.Code != 200 || !strings.Contains(w.Body.String(), `"known":false,"access":true`) {
			t.Errorf("%s with another merchant's key: %d %s", path, w.Code, w.Body)
		}
	}
	used := s.table.UsedKeys()
	if len(used) != 1 || len(s.table.UsedKeys()) != 0 {
		t.Errorf("%d keys were used", len(used))
	}
	s.table.SetKeys(s.own.ID, nil) // revoked
	if w := s.ask("GET", "/api/shield/customers/cus_full", ""); w.Code != 401 {
		t.Errorf("revoked: %d", w.Code)
	}
	if w := s.ask("GET", "/api/shield/customers/cus_foreign", "", "Authorization", "Bearer "+foreignKey); w.Code != 200 {
		t.Errorf("the others' keys: %d", w.Code)
	}
}

// A proxy gets 200 or 403 about the visitor, and 5xx about itself.
func TestProxied(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	for _, test := range []struct {
		customer, feature string
		status            int
		level             string
	}{
		{"cus_full", "", 200, "full"}, {"cus_grace", "", 200, "grace"}, {"cus_limited", "", 403, "limited"}, {"cus_limited", "login", 200, "limited"},
		{"cus_blocked", "login", 403, "blocked"}, {"cus_blocked", "billing", 200, "blocked"}, {"cus_never", "", 200, "full"},
		{"", "", 500, ""}, {"cus-1", "", 500, ""}, {"cus_full", "Bad Feature", 500, ""},
	} {
		for _, path := range []string{"/api/shield/auth", "/api/shield/auth/any/path"} {
			for _, method := range []string{"GET", "POST", "PROPFIND"} {
				w := s.ask(method, path, "", "Shield-Customer", test.customer, "Shield-Feature", test.feature)
				if w.Code != test.status || w.Header().Get("Shield-Level") != test.level {
					t.Errorf("%s %s %+v: %d %v", method, path, test, w.Code, w.Header())
				}
				if test.level != "" && w.Header().Get("Shield-Revision") != "0a1b2c3d.42" {
					t.Errorf("%+v: %v", test, w.Header())
				}
			}
		}
	}
	if w := s.ask("GET", "/api/shield/auth", "", "Authorization", "Bearer phs_wrong", "Shield-Customer", "cus_full"); w.Code != 500 {
		t.Errorf("a bad key: %d, which nginx hands to the visitor", w.Code)
	}
	if w := s.ask("GET", "/api/shield/auth", "", "Shield-Customer", "cus_limited"); strings.Contains(w.Body.String(), "cus_") {
		t.Errorf("the visitor reads %s", w.Body)
	}
}

// opens is what a library that is not the signer's finds in a token.
func (s *stand) opens(token, kind string, into any) {
	s.t.Helper()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(s.ask("GET", "/.well-known/jwks.json", "", "Authorization", "").Body.Bytes(), &set); err != nil {
		s.t.Fatal(err)
	}
	parsed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		s.t.Fatal(err)
	}
	if got := parsed.Signatures[0].Header.ExtraHeaders["typ"]; got != kind {
		s.t.Errorf("typ %v", got)
	}
	payload, err := parsed.Verify(set.Key(parsed.Signatures[0].Header.KeyID)[0])
	if err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal(payload, into); err != nil {
		s.t.Fatal(err)
	}
}

func TestSignedVerdicts(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	for customer, life := range map[string]int64{"cus_full": 900, "cus_limited": 60} {
		w := s.ask("GET", "/api/shield/customers/"+customer+"/verdict", "")
		if w.Code != 200 || w.Header().Get("Content-Type") != "application/jwt" {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		var c struct {
			Iss, Sub, Jti, Lvl, Rev string
			Aud                     []string
			Acc, Livemode           bool
			Feat                    []string
			Iat, Exp                int64
		}
		s.opens(w.Body.String(), "access-verdict+jwt", &c)
		if c.Iss != "https://phantom.example" || c.Sub != customer || c.Lvl != strings.TrimPrefix(customer, "cus_") || !slices.Equal(c.Aud, []string{"acct_own"}) ||
			c.Acc != (customer == "cus_full") || !c.Livemode || c.Exp-c.Iat != life || c.Jti == "" || c.Rev != "0a1b2c3d.42" || c.Feat == nil {
			t.Errorf("%+v", c)
		}
	}
}

func TestSignedList(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	w := s.ask("GET", "/api/shield/list", "")
	var c struct {
		Key  string
		Lvls map[string]string
		Rev  string
	}
	s.opens(w.Body.String(), "access-list+jwt", &c)
	key, err := base64.RawURLEncoding.DecodeString(c.Key)
	if err != nil || len(c.Lvls) != 4 || c.Lvls[hashOf(key, "cus_blocked")] != "blocked" || c.Lvls[hashOf(key, "cus_full")] != "" {
		t.Errorf("%+v, %v", c, err)
	}
	if strings.Contains(w.Body.String(), "cus_") {
		t.Error("the list names customers")
	}
	etag := w.Header().Get("ETag")
	if again := s.ask("GET", "/api/shield/list", "", "If-None-Match", etag); again.Code != 304 {
		t.Errorf("with its ETag: %d", again.Code)
	}
	s.table.Apply(s.own.ID, 43, []shield.Row{{Subscription: "sub_blocked", Customer: "cus_blocked", Level: shield.Full}})
	if again := s.ask("GET", "/api/shield/list", "", "If-None-Match", etag); again.Code != 200 || again.Header().Get("ETag") == etag {
		t.Errorf("after a change: %d", again.Code)
	}
}

// While the source is away everybody keeps what they have, with its age, and then the policy's word
// holds.
func TestStaleAnswers(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]string{"last_known": "limited", "open": "full", "closed": "blocked"} {
		s := newStand(t, func(p *shield.Policy) { p.Fail.Mode, p.Fail.MaxStale = mode, shield.Duration(time.Minute) })
		level := func() (string, http.Header) {
			w := s.ask("GET", "/api/shield/customers/cus_limited", "")
			var v shield.Verdict
			if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
				t.Fatal(err)
			}
			auth := s.ask("GET", "/api/shield/auth", "", "Shield-Customer", "cus_limited")
			if auth.Header().Get("Shield-Level") != string(v.Level) {
				t.Errorf("%s: a proxy is told %s", v.Level, auth.Header().Get("Shield-Level"))
			}
			return string(v.Level), w.Header()
		}
		if got, header := level(); got != "limited" || header.Get("Age") != "" || header.Get("Shield-Freshness") != "" {
			t.Errorf("fresh: %s %v", got, header)
		}
		s.table.began = s.table.began.Add(-30 * time.Second)
		if got, header := level(); got != "limited" || !strings.HasPrefix(header.Get("Age"), "3") || header.Get("Shield-Freshness") != "stale" {
			t.Errorf("stale: %s %v", got, header)
		}
		s.table.began = s.table.began.Add(-31 * time.Second)
		if got, header := level(); got != want || header.Get("Shield-Freshness") != "expired" {
			t.Errorf("%s, expired: %s %v", mode, got, header)
		}
		s.table.Synced()
		if got, _ := level(); got != "limited" {
			t.Errorf("caught up: %s", got)
		}
	}
}

// Who has seen a revision waits for it, has the database asked, or is told that it is not known.
func TestAtLeast(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	get := func(least string) *httptest.ResponseRecorder {
		return s.ask("GET", "/api/shield/customers/cus_limited", "", "Shield-At-Least", least)
	}
	if w := get("0a1b2c3d.42"); w.Code != 200 {
		t.Errorf("known: %d", w.Code)
	}
	for _, wrong := range []string{"x", "42", "0a1b2c3d.", "0a1b2c3d.-1", ".42", "0a1b2c3d.42.1"} {
		if w := get(wrong); w.Code != 400 {
			t.Errorf("%q: %d", wrong, w.Code)
		}
	}
	for _, unknown := range []string{"0a1b2c3d.43", "ffffffff.1"} {
		if w := get(unknown); w.Code != 503 || !strings.Contains(w.Body.String(), "not_fresh_enough") || w.Header().Get("Retry-After") == "" {
			t.Errorf("%q: %d %s", unknown, w.Code, w.Body)
		}
	}
	asked := 0
	s.h.config.Catch = func(_ context.Context, merchant uuid.UUID) error {
		asked++
		if merchant != s.own.ID {
			return errors.New("another merchant")
		}
		s.table.Apply(merchant, 43, []shield.Row{{Subscription: "sub_limited", Customer: "cus_limited", Level: shield.Full}})
		return nil
	}
	if w := get("0a1b2c3d.43"); w.Code != 200 || asked != 1 || !strings.Contains(w.Body.String(), `"level":"full"`) {
		t.Errorf("%d, asked %d times: %s", w.Code, asked, w.Body)
	}
}

// Before anything was read nobody is told anything. A merchant who has left is told so.
func TestNothingToSay(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	h := New(Config{Table: NewTable()})
	r := httptest.NewRequest(http.MethodGet, "/api/shield/customers/cus_1", nil)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 503 || !strings.Contains(w.Body.String(), "shield_loading") || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	of := s.own
	of.Disconnected = true
	s.table.Describe(of)
	if w := s.ask("GET", "/api/shield/customers/cus_full", ""); w.Code != 409 {
		t.Errorf("left: %d", w.Code)
	}
	if w := s.ask("GET", "/api/shield/auth", "", "Shield-Customer", "cus_full"); w.Code != 500 {
		t.Errorf("left, to a proxy: %d", w.Code)
	}
}
