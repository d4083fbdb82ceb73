package web_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"phantom/message"
)

const (
	resendKey   = "re_canary8Zq3vT7w"
	twilioSID   = "AC0123456789abcdef0123456789abcdef"
	twilioToken = "canary8Zq3vT7wcanary8Zq3vT7wcana"
)

// providers stands in for Resend and Twilio.
type providers struct {
	url    string
	mutex  sync.Mutex
	sent   int
	status int // of every answer, if not 0
	body   string
}

func newProviders(t *testing.T) *providers {
	t.Helper()
	p := &providers{}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

func (p *providers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	_, _ = io.Copy(io.Discard, r.Body)
	sid, token, _ := r.BasicAuth()
	switch {
	case p.status != 0:
		w.WriteHeader(p.status)
		_, _ = io.WriteString(w, p.body)
	case r.URL.Path == "/domains" && r.Header.Get("Authorization") == "Bearer "+resendKey:
		_, _ = io.WriteString(w, `{"data":[]}`)
	case r.URL.Path == "/emails" && r.Header.Get("Authorization") == "Bearer "+resendKey:
		p.sent++
		_, _ = io.WriteString(w, `{"id":"1"}`)
	case strings.HasSuffix(r.URL.Path, "/Messages.json") && sid == twilioSID && token == twilioToken:
		p.sent++
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"sid":"SM1"}`)
	case strings.HasPrefix(r.URL.Path, "/2010-04-01/Accounts/") && sid == twilioSID && token == twilioToken:
		_, _ = io.WriteString(w, `{"status":"active"}`)
	default:
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"name":"invalid_api_key","code":20003,"message":"`+canary+`"}`)
	}
}

func (p *providers) answer(status int, body string) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.status, p.body = status, body
}

const (
	goodResend = `{"api_key":"` + resendKey + `","from":"Example Billing <billing@example.com>"}`
	goodTwilio = `{"account_sid":"` + twilioSID + `","auth_token":"` + twilioToken + `","from":"+14155550100"}`
)

func TestChannels(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.stripe.secret(resendKey, twilioToken)
	c, other := b.caller("acct_1"), b.caller("acct_2")
	if got := c.call("GET", "/api/channels", ""); got.body != `{"resend":null,"twilio":null}` {
		t.Errorf("at first: %s", got.body)
	}
	for _, test := range []struct{ path, body, field string }{
		{"resend", "", "api_key"},
		{"resend", `{"api_key":"sk_1","from":"a@example.com"}`, "api_key"},
		{"resend", `{"api_key":"re_short","from":"a@example.com"}`, "api_key"},
		{"resend", `{"api_key":"re_unknown00000","from":"a@example.com"}`, "api_key"},
		{"resend", `{"api_key":"` + resendKey + `\n","from":"a@example.com"}`, "api_key"},
		{"resend", `{"api_key":"` + resendKey + `"}`, "from"},
		{"resend", `{"api_key":"` + resendKey + `","from":"nobody"}`, "from"},
		{"resend", `{"api_key":"` + resendKey + `","from":"a@localhost"}`, "from"},
		{"resend", `{"api_key":"` + resendKey + `","from":"A\r\nBcc: x@example.com <a@example.com>"}`, "from"},
		{"resend", `{"api_key":"` + resendKey + `","from":"a@example.com, b@example.com"}`, "from"},
		{"resend", `{"api_key":"` + resendKey + `","from":"\u0000 <a@example.com>"}`, "from"},
		{"resend", `{"api_key":5,"from":"a@example.com"}`, "api_key"},
		{"resend", `{"key":"x"}`, "body"},
		{"twilio", `{"account_sid":"AC1","auth_token":"` + twilioToken + `","from":"+14155550100"}`, "account_sid"},
		{"twilio", `{"account_sid":"` + twilioSID + `","auth_token":"x","from":"+14155550100"}`, "auth_token"},
		{"twilio", `{"account_sid":"` + twilioSID + `","auth_token":"` + strings.Repeat("0", 32) + `","from":"+14155550100"}`, "auth_token"},
		{"twilio", `{"account_sid":"` + twilioSID + `","auth_token":"` + twilioToken + `","from":"4155550100"}`, "from"},
	} {
		c.call("PUT", "/api/channels/"+test.path, test.body).wantInvalid(t, test.field)
	}
	b.mail.answer(503, "")
	c.call("PUT", "/api/channels/resend", goodResend).wantError(t, 502, "provider_unavailable")
	c.call("PUT", "/api/channels/twilio", goodTwilio).wantError(t, 502, "provider_unavailable")
	b.mail.answer(401, `{"name":"restricted_api_key"}`)
	if got := c.call("PUT", "/api/channels/resend", goodResend); got.status != 200 {
		t.Errorf("a key that may only send: %d %s", got.status, got.body)
	}
	b.mail.answer(0, "")
	for path, body := range map[string]string{"resend": goodResend, "twilio": goodTwilio} {
		c.call("POST", "/api/channels/"+path+"/test", `{}`).wantInvalid(t, "to")
		if got := c.call("PUT", "/api/channels/"+path, body); got.status != 200 {
			t.Fatalf("%s: %d %s", path, got.status, got.body)
		}
		other.call("POST", "/api/channels/"+path+"/test", map[string]string{"resend": `{"to":"a@example.com"}`, "twilio": `{"to":"+14155550199"}`}[path]).wantError(t, 404, "not_found")
		other.call("DELETE", "/api/channels/"+path, "").wantError(t, 404, "not_found")
	}
	got := c.call("GET", "/api/channels", "")
	if !strings.Contains(got.body, `"from":"Example Billing \u003cbilling@example.com\u003e"`) || !strings.Contains(got.body, `"account_sid":"`+twilioSID+`","from":"+14155550100"`) {
		t.Errorf("shown: %s", got.body)
	}
	if want := `"webhook_url":"` + b.public + message.TwilioPath(c.id) + `"`; !strings.Contains(got.body, want) {
		t.Errorf("%s is not in %s", want, got.body)
	}
	if got := other.call("GET", "/api/channels", ""); got.body != `{"resend":null,"twilio":null}` {
		t.Errorf("another merchant sees %s", got.body)
	}
	// Ten test messages a day, over both channels.
	// Jamaica
	c.call("POST", "/api/channels/twilio/test", `{"to":"+18765550199"}`).wantInvalid(t, "to")
	c.call("POST", "/api/channels/resend/test", `{"to":"a@example.com\n"}`).wantInvalid(t, "to")
	for i := range 10 {
		path, body := "resend", `{"to":"a@example.com"}`
		if i%2 == 0 {
			path, body = "twilio", `{"to":"+14155550199"}`
		}
		if got := c.call("POST", "/api/channels/"+path+"/test", body); got.status != 200 || got.body != `{"status":"sent"}` {
			t.Errorf("test message %d: %d %s", i, got.status, got.body)
		}
	}
	c.call("POST", "/api/channels/resend/test", `{"to":"a@example.com"}`).wantError(t, 429, "too_many_requests")
	if b.mail.sent != 10 {
		t.Errorf("%d were sent", b.mail.sent)
	}
	var sealed string
	if err := b.pool.QueryRow(t.Context(), "SELECT string_agg(c::text, '') FROM channels c").Scan(&sealed); err != nil || strings.Contains(sealed, "canary") {
		t.Errorf("in the table: %s, %v", sealed, err)
	}
	for _, path := range []string{"resend", "twilio"} {
		if got := c.call("DELETE", "/api/channels/"+path, ""); got.status != 200 {
			t.Errorf("delete: %d %s", got.status, got.body)
		}
		c.call("DELETE", "/api/channels/"+path, "").wantError(t, 404, "not_found")
	}
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c, other := b.caller("acct_1"), b.caller("acct_2")
	if got := c.call("GET", "/api/templates", ""); got.status != 200 || strings.Count(got.body, `"own":false`) != 6 {
		t.Errorf("at first: %d %s", got.status, got.body)
	}
	const good = `{"subject":"Hi {{.CustomerName}}","html":"<p>{{.Amount}} <a href=\"{{.PayURL}}\">pay</a> <a href=\"{{.UnsubscribeURL}}\">stop</a></p>","text":"{{.PayURL}} {{.UnsubscribeURL}}"}`
	for _, test := range []struct{ path, body, field string }{
		{"email/mine", "", "subject"},
		{"email/mine", strings.Replace(good, "{{.CustomerName}}", "{{.Email}}", 1), "subject"},
		{"email/mine", strings.Replace(good, "{{.CustomerName}}", "{{if}}", 1), "subject"},
		{"email/mine", strings.Replace(good, "{{.CustomerName}}", `\r\nBcc: x@example.com`, 1), "subject"},
		{"email/mine", strings.Replace(good, "{{.CustomerName}}", `\u0000`, 1), "subject"},
		{"email/mine", strings.Replace(good, "{{.Amount}}", `{{printf \"%999999999d\" 1}}`, 1), "html"},
		{"email/mine", strings.Replace(good, "{{.Amount}}", `{{range .Amount}}{{end}}`, 1), "html"},
		{"email/mine", strings.Replace(good, "{{.Amount}}", `{{define \"x\"}}{{template \"x\"}}{{end}}{{template \"x\"}}`, 1), "html"},
		{"email/mine", strings.Replace(good, "{{.Amount}}", `<a href='`, 1), "html"},
		{"email/mine", strings.Replace(good, `\"{{.PayURL}}\"`, "#", 1), "html"},
		{"email/mine", strings.Replace(good, `\"{{.UnsubscribeURL}}\"`, "#", 1), "html"},
		{"email/mine", strings.Replace(good, `"{{.PayURL}} {{`, `"{{`, 1), "text"},
		{"email/mine", strings.Replace(good, `"{{.PayURL}} {{`, `"{{if .CustomerName}}{{.PayURL}}{{end}} {{`, 1), "text"},
		{"email/Mine", good, "name"},
		{"sms/mine", good, "subject"},
		{"sms/mine", `{"text":"hello"}`, "text"},
		{"sms/mine", `{"text":"{{.PayURL}}` + strings.Repeat("x", 400) + `"}`, "text"},
		{"email/mine", `{"body":"x"}`, "body"},
	} {
		c.call("PUT", "/api/templates/"+test.path, test.body).wantInvalid(t, test.field)
		if test.body != "" {
			c.call("POST", "/api/templates/"+test.path+"/preview", test.body).wantInvalid(t, test.field)
		}
	}
	c.call("PUT", "/api/templates/fax/mine", good).wantError(t, 404, "not_found")
	c.call("POST", "/api/templates/email/mine/preview", "").wantError(t, 404, "not_found")
	if got := c.call("POST", "/api/templates/email/mine/preview", good); got.status != 200 || !strings.Contains(got.body, `"subject":"Hi Ada Lovelace"`) {
		t.Errorf("a draft: %d %s", got.status, got.body)
	}
	if got := c.call("PUT", "/api/templates/email/mine", good); got.status != 200 || !strings.Contains(got.body, `"own":true`) {
		t.Errorf("stored: %d %s", got.status, got.body)
	}
	if got := c.call("POST", "/api/templates/email/mine/preview", ""); got.status != 200 || !strings.Contains(got.body, "$49.00") {
		t.Errorf("a stored one: %d %s", got.status, got.body)
	}
	if got := c.call("POST", "/api/templates/sms/reminder/preview", ""); got.status != 200 || !strings.Contains(got.body, `"subject":"","html":""`) {
		t.Errorf("an SMS: %d %s", got.status, got.body)
	}
	for _, method := range []string{"DELETE", "POST"} {
		path := "/api/templates/email/mine"
		if method == "POST" {
			path += "/preview"
		}
		other.call(method, path, "").wantError(t, 404, "not_found")
	}
	if got := c.call("DELETE", "/api/templates/email/mine", ""); got.status != 200 {
		t.Errorf("deleted: %d %s", got.status, got.body)
	}
	c.call("DELETE", "/api/templates/email/payment_failed", "").wantError(t, 404, "not_found")

	// A translation is a template whose name ends with its language.
	for _, bad := range []string{"mine.xx", "mine.", "mine.de.fr", ".de", "mine.DE"} {
		c.call("PUT", "/api/templates/email/"+bad, good).wantInvalid(t, "name")
	}
	if got := c.call("PUT", "/api/templates/email/reminder.de", good); got.status != 200 || !strings.Contains(got.body, `"name":"reminder.de"`) {
		t.Errorf("a translation: %d %s", got.status, got.body)
	}
	var shown struct {
		Subject      string
		Translations map[string]struct{ Subject, Text string }
	}
	if got := c.call("POST", "/api/templates/email/reminder/preview", ""); json.Unmarshal([]byte(got.body), &shown) != nil || len(shown.Translations) != 9 ||
		!strings.HasPrefix(shown.Subject, "Reminder: $49.00") || shown.Translations["de"].Subject != "Hi Ada Lovelace" || !strings.Contains(shown.Translations["ja"].Subject, "お支払い") {
		t.Errorf("the preview shows %+v of %s", shown, got.body)
	}
	if got := c.call("POST", "/api/templates/sms/reminder.fr/preview", ""); got.status != 200 || !strings.Contains(got.body, "restent") || strings.Contains(got.body, "translations") {
		t.Errorf("a preview in French: %d %s", got.status, got.body)
	}
}

func (b *bench) suppressed(channel string, person []byte) bool {
	b.t.Helper()
	var n int
	if err := b.pool.QueryRow(b.t.Context(), "SELECT count(*) FROM suppressions WHERE channel = $1 AND person = $2", channel, person).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n == 1
}

// unsubscribing is a person whom the merchant writes to, and the bytes of the token in their link.
func (c *caller) unsubscribing() (person, raw []byte) {
	c.b.t.Helper()
	hash, err := c.b.service.Hasher(context.Background(), c.id)
	if err != nil {
		c.b.t.Fatal(err)
	}
	person = hash("email", "ada@example.com")
	return person, append(append(slices.Clone(c.id[:]), person...), hash("unsubscribe", hex.EncodeToString(person))[:16]...)
}

// With every bit of a token flipped nothing happens; with the token the person is left alone,
// however often it is sent.
func TestUnsubscribe(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := b.caller("acct_1")
	person, raw := m.unsubscribing()
	token := base64.RawURLEncoding.EncodeToString(raw)
	c := b.browser()
	for bit := range len(raw) * 8 {
		flipped := slices.Clone(raw)
		flipped[bit/8] ^= 1 << (bit % 8)
		c.do("POST", "/u/"+base64.RawURLEncoding.EncodeToString(flipped)).wantError(t, 404, "not_found")
	}
	for _, bad := range []string{"x", token + "A", token[1:], strings.ToUpper(token), token + "=", uuid.NewString()} {
		c.do("POST", "/u/"+bad).wantError(t, 404, "not_found")
		c.get("/u/"+bad).wantError(t, 404, "not_found")
	}
	if got := c.get("/u/" + token); got.status != 200 || !strings.Contains(got.body, `"status":"ready"`) || b.suppressed("email", person) {
		t.Errorf("a GET: %d %s", got.status, got.body)
	}
	for range 3 {
		got, err := c.send(t.Context(), "POST", "/u/"+token, strings.NewReader("List-Unsubscribe=One-Click"), "Content-Type", "application/x-www-form-urlencoded")
		if err != nil || got.status != 200 || !b.suppressed("email", person) {
			t.Errorf("a POST: %+v, %v", got, err)
		}
	}
	if n := len(b.lines()); n != 0 {
		t.Errorf("%d lines in the log", n)
	}
}

func sign(token, address string, form url.Values) string {
	mac := hmac.New(sha1.New, []byte(token))
	_, _ = io.WriteString(mac, address)
	for _, name := range slices.Sorted(maps.Keys(form)) {
		_, _ = io.WriteString(mac, name+form.Get(name))
	}
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func TestIncomingSMS(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := b.caller("acct_1")
	if got := m.call("PUT", "/api/channels/twilio", goodTwilio); got.status != 200 {
		t.Fatal(got.body)
	}
	hash, err := b.service.Hasher(context.Background(), m.id)
	if err != nil {
		t.Fatal(err)
	}
	const from = "+14155550123"
	person, path := hash("phone", from), "/api/webhooks/twilio/"+m.id.String()
	c := b.browser()
	post := func(path string, form url.Values, signature string) answer {
		t.Helper()
		got, err := c.send(t.Context(), "POST", path, strings.NewReader(form.Encode()), "Content-Type", "application/x-www-form-urlencoded", "X-Twilio-Signature", signature)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	form := func(word string) url.Values {
		return url.Values{"AccountSid": {twilioSID}, "From": {from}, "To": {"+14155550100"}, "Body": {word}, "MessageSid": {"SM1"}}
	}
	for _, step := range []struct {
		word string
		want bool
	}{
		{"hello", false}, {"please STOP that", true}, {"START", false}, {"stop", true}, {"START", false}, {" StopAll\n", true}, {"unstop", false}, {"UNSUBSCRIBE", true}, {"start", false},
		{"Revoke", true}, {"start", false}, {"OPTOUT", true}, {"start", false}, {"Cancel", true}, {"start", false}, {"END", true}, {"start", false}, {"quit", true}, {"quit", true},
	} {
		f := form(step.word)
		if got := post(path, f, sign(twilioToken, b.public+path, f)); got.status != 204 || got.body != "" || b.suppressed("sms", person) != step.want {
			t.Errorf("%q: %d %s", step.word, got.status, got.body)
		}
	}
	for _, step := range []struct {
		word, kind string
		want       bool
	}{{"arret", "STOP", true}, {"ENCORE", "START", false}, {"AIDE", "HELP", false}, {"STOP", "", true}} {
		f := form(step.word)
		f.Set("OptOutType", step.kind)
		if got := post(path, f, sign(twilioToken, b.public+path, f)); got.status != 204 || b.suppressed("sms", person) != step.want {
			t.Errorf("%q, which Twilio took for %q: %d %s", step.word, step.kind, got.status, got.body)
		}
	}
	f := form("START")
	good := sign(twilioToken, b.public+path, f)
	raw, _ := base64.StdEncoding.DecodeString(good)
	for bit := range len(raw) * 8 {
		flipped := slices.Clone(raw)
		flipped[bit/8] ^= 1 << (bit % 8)
		post(path, f, base64.StdEncoding.EncodeToString(flipped)).wantError(t, 400, "invalid_signature")
	}
	another := "/api/webhooks/twilio/" + uuid.NewString()
	changed := form("START ")
	for name, got := range map[string]answer{
		"no signature": post(path, f, ""), "an unknown merchant": post(another, f, sign(twilioToken, b.public+another, f)), "no key": post(another, f, sign("", b.public+another, f)),
		"another's path": post(path, f, sign(twilioToken, b.public+another, f)), "changed": post(path, changed, good), "a query": post(path+"?x=1", f, good),
		"no id": post("/api/webhooks/twilio/x", f, good), "another account": post(path, url.Values{"From": {from}, "Body": {"START"}}, sign(twilioToken, b.public+path, url.Values{"From": {from}, "Body": {"START"}})),
	} {
		if got.status != 400 || got.body != `{"status":"error","code":"invalid_signature","message":"The X-Twilio-Signature header does not fit the request."}` {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	if !b.suppressed("sms", person) {
		t.Error("a request that Twilio did not sign lifted a suppression")
	}
	if n := len(b.lines()); n != 1 {
		t.Errorf("%d lines in the log: %s", n, fmt.Sprint(b.lines()))
	}
}
