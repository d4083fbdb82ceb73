package web_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/connect"
	"phantom/trail"
)

// changePage is an answer of GET /api/audit-log.
type changePage struct {
	Data       []trail.Entry `json:"data"`
	NextCursor *string       `json:"next_cursor"`
}

func (c *caller) changes(query string) (p changePage) {
	c.b.t.Helper()
	got := c.call("GET", "/api/audit-log"+query, "")
	if err := json.Unmarshal([]byte(got.body), &p); err != nil || got.status != 200 {
		c.b.t.Fatalf("GET /api/audit-log%s: %d %s", query, got.status, got.body)
	}
	return p
}

// write is a request that changes something, once those before it have been made.
type write struct{ method, route, path, body, action, object string }

// What stands in texts that callers send, and must stand nowhere in the log.
const (
	sentWords = "wordsThatACallerSent"
	sentTo    = "someone.sent@example.com"
	sentPhone = "+14155550187"
)

// writes are one request at least for every route that changes anything for a merchant.
func (c *caller) writes() []write {
	ghost, second := c.add(seed{email: sentTo, customer: "cus_sent7Zq"}).String(), c.add(seed{}).String()
	wording := `{"subject":"` + sentWords + `","html":"<p>` + sentWords + `</p><a href=\"{{.PayURL}}\">pay</a><a href=\"{{.UnsubscribeURL}}\">end</a>","text":"` + sentWords + ` {{.PayURL}} {{.UnsubscribeURL}}"}`
	return []write{
		{"PUT", "/api/channels/resend", "", goodResend, "channel.put", "resend"},
		{"PUT", "/api/channels/resend", "", goodResend, "channel.put", "resend"},
		{"POST", "/api/channels/resend/test", "", `{"to":"` + sentTo + `"}`, "channel.test", "resend"},
		{"PUT", "/api/channels/twilio", "", goodTwilio, "channel.put", "twilio"},
		{"POST", "/api/channels/twilio/test", "", `{"to":"` + sentPhone + `"}`, "channel.test", "twilio"},
		{"PUT", "/api/templates/{channel}/{name}", "/api/templates/email/mine", wording, "template.put", "email/mine"},
		{"PUT", "/api/templates/{channel}/{name}", "/api/templates/email/mine", wording, "template.put", "email/mine"},
		{"DELETE", "/api/templates/{channel}/{name}", "/api/templates/email/mine", "", "template.delete", "email/mine"},
		{"PUT", "/api/playbook", "", strings.Replace(everybody, "}", `,"exclude":{"customers":["cus_sent7Zq"]},"segments":[{"name":"`+strings.ToLower(sentWords)+`","match":{"currencies":["usd"]},"set":{"max_attempts":3}}]}`, 1), "playbook.put", ""},
		{"PUT", "/api/playbook", "", everybody, "playbook.put", ""},
		{"POST", "/api/hunts", "", `{"ghosts":["` + ghost + `"]}`, "hunts.start", "named"},
		{"POST", "/api/hunts", "", `{"ghosts":"all"}`, "hunts.start", "all"},
		{"DELETE", "/api/hunts/{id}", "hunt of " + ghost, "", "hunt.stop", "hunt of " + ghost},
		{"POST", "/api/ghosts/{id}/access", "/api/ghosts/" + second + "/access", `{"access":"none"}`, "ghost.access", second},
		{"POST", "/api/ghosts/{id}/access", "/api/ghosts/" + second + "/access", `{"access":"proven"}`, "ghost.access", second},
		{"POST", "/api/halt", "", "", "halt.set", ""},
		{"DELETE", "/api/halt", "", "", "halt.lift", ""},
		{"POST", "/api/audits", "", "", "audit.start", "*"},
		{"DELETE", "/api/channels/resend", "", "", "channel.delete", "resend"},
		{"DELETE", "/api/channels/twilio", "", "", "channel.delete", "twilio"},
		{"PUT", "/api/shield/policy", "", `{"mode":"dry_run","products":{"prod_1":{}}}`, "shield.policy.put", "1"},
		{"POST", "/api/shield/overrides", "", `{"customer":"cus_known","level":"grace"}`, "shield.override.create", "*"},
		{"DELETE", "/api/shield/overrides/{id}", "decision override", "", "shield.override.delete", "*"},
		{"POST", "/api/shield/promises", "", `{"subscription":"sub_known","until":"` + time.Now().Add(time.Hour).UTC().Format(time.RFC3339) + `"}`, "shield.promise.create", "*"},
		{"DELETE", "/api/shield/promises/{id}", "decision promise", "", "shield.promise.delete", "*"},
		{"POST", "/api/shield/exemptions", "", `{"customer":"cus_known"}`, "shield.exemption.create", "*"},
		{"DELETE", "/api/shield/exemptions/{id}", "decision exemption", "", "shield.exemption.delete", "*"},
		{"POST", "/api/shield/holds/{id}/release", "hold release", "", "shield.hold.released", "*"},
		{"POST", "/api/shield/holds/{id}/discard", "hold discard", "", "shield.hold.discarded", "*"},
		{"POST", "/api/endpoints", "", `{"url":"https://hooks.example/` + sentWords + `"}`, "endpoint.create", "*"},
		{"POST", "/api/endpoints/{id}/test", "endpoint /test", "", "endpoint.test", "*"},
		{"DELETE", "/api/endpoints/{id}", "endpoint ", "", "endpoint.delete", "*"},
	}
}

// known has the shield know a customer.
func (c *caller) known() {
	c.b.t.Helper()
	c.b.Exec(`INSERT INTO shield_states (merchant_id, subscription, customer, livemode, facts, ticket, told_at)
		VALUES ($1, 'sub_known', 'cus_known', false, '{}', 1, now()) ON CONFLICT DO NOTHING`, c.id)
}

// prepare fills in what is known only when its turn comes.
func (c *caller) prepare(w write) write {
	c.b.t.Helper()
	if w.path == "" {
		w.path = w.route
	}
	c.known()
	if kind, of := strings.CutPrefix(w.path, "decision "); of {
		w.path = "/api/shield/" + kind + "s/" + c.b.Text("SELECT id::text FROM shield_decisions WHERE merchant_id = $1 AND kind = $2", c.id, kind)
	}
	if rest, of := strings.CutPrefix(w.path, "endpoint "); of {
		w.path = "/api/endpoints/" + c.b.Text("SELECT id::text FROM event_endpoints WHERE merchant_id = $1", c.id) + rest
	}
	if how, of := strings.CutPrefix(w.path, "hold "); of {
		hold := uuid.NewString()
		c.b.Exec(`INSERT INTO shield_holds (merchant_id, id, customers, "of", revenue) VALUES ($1, $2, 1, 1, '{}')`, c.id, hold)
		w.path = "/api/shield/holds/" + hold + "/" + how
	}
	if ghost, of := strings.CutPrefix(w.path, "hunt of "); of {
		var hunt uuid.UUID
		if err := c.b.pool.QueryRow(c.b.t.Context(), "SELECT id FROM hunts WHERE ghost_id = $1", ghost).Scan(&hunt); err != nil {
			c.b.t.Fatal(err)
		}
		w.path, w.object = "/api/hunts/"+hunt.String(), hunt.String()
	}
	return w
}

// leavesNoRow are the routes of other methods than GET that leave none in the log, and why.
var leavesNoRow = map[string]string{
	"POST /api/templates/{channel}/{name}/preview": "it changes nothing",
	"POST /api/webhooks/stripe":                    "Stripe's word, and webhook_events its record; a deauthorization leaves a row (package connect)",
	"POST /api/webhooks/stripe/{merchant_id}":      "as POST /api/webhooks/stripe",
	"POST /api/webhooks/twilio/{merchant_id}":      "a customer's word: suppressions is its record",
	"POST /u/{token}":                              "a customer's word: suppressions is its record",
	"POST /api/shield/preview":                     "it changes nothing",
	"POST /api/shield/simulate":                    "it changes nothing",
	"POST /access/v1/evaluation":                   "it asks",
	"POST /access/v1/evaluations":                  "it asks",
	"POST /ofrep/v1/evaluate/flags/{key}":          "it asks",
	"POST /ofrep/v1/evaluate/flags":                "it asks",
}

// Each request that changes something leaves one row, of its key; what fails or changes nothing
// leaves none. A new route stands in writes, or in leavesNoRow with a reason.
func TestEveryWritingRouteLeavesARow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.stripe.secret(resendKey, twilioToken)
	c := b.caller("acct_1")
	keys, err := b.service.ListAPIKeys(t.Context(), "acct_1")
	if err != nil {
		t.Fatal(err)
	}
	done := map[string]bool{}
	rows := 0
	for _, w := range c.writes() {
		w = c.prepare(w)
		done[w.method+" "+w.route] = true
		if got := c.call(w.method, w.path, w.body); got.status/100 != 2 {
			t.Fatalf("%s %s: %d %s", w.method, w.path, got.status, got.body)
		}
		all := c.changes("?limit=200").Data
		if rows++; len(all) != rows {
			t.Fatalf("%s %s: %d rows, want %d", w.method, w.path, len(all), rows)
		}
		newest := all[0]
		object := ""
		if newest.Object != nil {
			object = *newest.Object
		}
		if newest.Action != w.action || w.object != "*" && object != w.object || newest.By != "key" || newest.Key == nil || *newest.Key != keys[0].ID ||
			newest.Command != nil || time.Since(newest.At) > time.Hour {
			t.Errorf("%s %s left %+v", w.method, w.path, newest)
		}
	}
	for path, item := range contract().spec.Paths.Map() {
		for method := range item.Operations() {
			route := method + " " + path
			if reason, none := leavesNoRow[route]; method != http.MethodGet && done[route] == none {
				t.Errorf("%s: makes a change here: %t, leaves no row because %q: one of the two", route, done[route], reason)
			}
		}
	}
	for _, same := range []write{ // what is so already, or is wrong
		{"DELETE", "", "/api/halt", "", "", ""},
		{"DELETE", "", "/api/channels/resend", "", "", ""},
		{"DELETE", "", "/api/templates/email/mine", "", "", ""},
		{"DELETE", "", "/api/hunts/" + c.hunts("?state=stopped").Data[0].ID.String(), "", "", ""},
		{"DELETE", "", "/api/hunts/" + uuid.NewString(), "", "", ""},
		{"POST", "", "/api/audits", "", "", ""},
		{"POST", "", "/api/hunts", `{"ghosts":["` + uuid.NewString() + `"]}`, "", ""},
		{"PUT", "", "/api/playbook?dry_run=true", everybody, "", ""},
		{"PUT", "", "/api/playbook", `{"mode":"x"}`, "", ""},
		{"PUT", "", "/api/channels/twilio", `{}`, "", ""},
		{"POST", "", "/api/templates/email/reminder/preview", "", "", ""},
		{"GET", "", "/api/summary", "", "", ""},
	} {
		c.call(same.method, same.path, same.body)
		if n := len(c.changes("?limit=200").Data); n != rows {
			t.Errorf("%s %s left %d rows", same.method, same.path, n-rows)
		}
	}
	// An app may say the same of a customer each day.
	ghost := c.add(seed{}).String()
	for range 3 {
		c.call("POST", "/api/ghosts/"+ghost+"/access", `{"access":"proven"}`)
	}
	if n := len(c.changes("?limit=200").Data); n != rows+1 {
		t.Errorf("saying the same three times left %d rows", n-rows)
	}
	b.nothingSentIsLogged()
}

// nothingSentIsLogged looks through the log for what callers have sent, and for what names a
// person.
func (b *bench) nothingSentIsLogged() {
	b.t.Helper()
	var text string
	if err := b.pool.QueryRow(b.t.Context(), "SELECT string_agg(l::text, ' ') FROM audit_log l").Scan(&text); err != nil {
		b.t.Fatal(err)
	}
	// A policy's fields, which look like ids.
	text = strings.NewReplacer("min_amount", "", "min_days_per_step", "").Replace(text)
	for _, sent := range []string{
		"@", "example.com", sentWords, strings.ToLower(sentWords), sentPhone, "+1", "canary", twilioSID, "re_", "cus_", "sub_", "in_", "phk_", "sk_test",
	} {
		if strings.Contains(text, sent) {
			b.t.Errorf("the log holds %q: %s", sent, text)
		}
	}
	for _, secret := range b.stripe.leaks(text) {
		b.t.Errorf("the log holds a secret (%.8s…)", secret)
	}
	if len(text) < 1000 {
		b.t.Errorf("the log was hardly looked through: %q", text)
	}
}

// state is what all tables but the keys' hold.
func (b *bench) state() map[string]string {
	b.t.Helper()
	rows, err := b.pool.Query(b.t.Context(), `SELECT table_name FROM information_schema.tables
		WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND table_name <> 'api_keys'`)
	if err != nil {
		b.t.Fatal(err)
	}
	defer rows.Close()
	all := map[string]string{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			b.t.Fatal(err)
		}
		all[name] = ""
	}
	for name := range all {
		var text string
		if err := b.pool.QueryRow(b.t.Context(), "SELECT coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM "+name+" t").Scan(&text); err != nil {
			b.t.Fatal(err)
		}
		all[name] = text
	}
	return all
}

// A change whose row cannot be written is not made, on any route.
func TestNoChangeWithoutItsRow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.stripe.secret(resendKey, twilioToken)
	c := b.caller("acct_1")
	// What the first request for a merchant makes for good is made before.
	if _, err := b.service.Hasher(t.Context(), c.id); err != nil {
		t.Fatal(err)
	}
	for _, w := range c.writes() {
		w = c.prepare(w)
		if _, err := b.pool.Exec(t.Context(), "ALTER TABLE audit_log ADD CONSTRAINT full_up CHECK (false) NOT VALID"); err != nil {
			t.Fatal(err)
		}
		before, sent := b.state(), b.mail.sent
		c.call(w.method, w.path, w.body).wantError(t, 500, "internal")
		for name, text := range b.state() {
			if text != before[name] {
				t.Errorf("%s %s without its row: %s has changed", w.method, w.path, name)
			}
		}
		if b.mail.sent != sent {
			t.Errorf("%s %s without its row: something was sent", w.method, w.path)
		}
		if _, err := b.pool.Exec(t.Context(), "ALTER TABLE audit_log DROP CONSTRAINT full_up"); err != nil {
			t.Fatal(err)
		}
		if got := c.call(w.method, w.path, w.body); got.status/100 != 2 {
			t.Fatalf("%s %s: %d %s", w.method, w.path, got.status, got.body)
		}
	}
}

// Pages hold their place while rows are added, and show one merchant's rows alone.
func TestAuditLogPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c, other := b.caller("acct_1"), b.caller("acct_2")
	for range 5 {
		for _, who := range []*caller{c, other} {
			who.call("POST", "/api/halt", "")
			who.call("DELETE", "/api/halt", "")
		}
	}
	if got := c.call("GET", "/api/audit-log?key="+uuid.NewString(), ""); got.body != `{"data":[],"next_cursor":null}` {
		t.Errorf("of an unknown key: %s", got.body)
	}
	var seen []uuid.UUID
	query := "?limit=3"
	for {
		p := c.changes(query)
		for _, entry := range p.Data {
			seen = append(seen, entry.ID)
		}
		if p.NextCursor == nil {
			break
		}
		query = "?limit=3&cursor=" + *p.NextCursor
		if len(seen) == 3 {
			c.call("POST", "/api/halt", "")
		}
	}
	all := c.changes("").Data[1:] // without the one that came in between
	for i, entry := range all {
		if i >= len(seen) || seen[i] != entry.ID {
			t.Fatalf("page by page %v, at once %+v", seen, all)
		}
	}
	keys := map[*caller]uuid.UUID{}
	for _, who := range []*caller{c, other} {
		list, err := b.service.ListAPIKeys(t.Context(), who.account)
		if err != nil {
			t.Fatal(err)
		}
		keys[who] = list[0].ID
	}
	if n, own := len(c.changes("?key="+keys[c].String()).Data), len(c.changes("").Data); n != own || len(seen) != 10 {
		t.Errorf("%d rows of the key, of %d; %d page by page", n, own, len(seen))
	}
	theirs := other.changes("").Data[4].ID
	for _, query := range []string{"?key=" + keys[other].String(), "?cursor=" + cursorOf(theirs), "?cursor=" + cursorOf(uuid.Max), "?cursor=" + cursorOf(other.id)} {
		for _, entry := range c.changes(query).Data {
			if entry.Key == nil || *entry.Key != keys[c] {
				t.Errorf("audit-log%s shows another merchant's: %+v", query, entry)
			}
		}
	}
	for query, field := range map[string]string{"?limit=0": "limit", "?limit=201": "limit", "?cursor=x": "cursor", "?key=x": "key", "?key=": "key", "?action=x": "query", "?key=1&key=2": "key"} {
		c.call("GET", "/api/audit-log"+query, "").wantInvalid(t, field)
	}
}

// A key that reads changes nothing by any route, and is told so; one that has expired is no key.
func TestScopesAndExpiry(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.caller("acct_1")
	ghost := c.add(seed{}).String()
	c.put(everybody)
	reader := *c
	var err error
	if reader.key, _, err = b.service.CreateAPIKey(t.Context(), "acct_1", connect.NewAPIKey{Name: "a dashboard", Scope: connect.ScopeRead}); err != nil {
		t.Fatal(err)
	}
	before, refused, read := b.state(), 0, 0
	for path, item := range contract().spec.Paths.Map() {
		for method, operation := range item.Operations() {
			if operation.Security == nil || len(*operation.Security) == 0 || isOfApps(operation) {
				continue
			}
			got := reader.call(method, strings.NewReplacer("{id}", ghost, "{channel}", "email", "{name}", "soft").Replace(path), "")
			if method != http.MethodGet {
				got.wantError(t, 403, "insufficient_scope")
				if got.header.Get("WWW-Authenticate") != `Bearer error="insufficient_scope"` {
					t.Errorf("%s %s: WWW-Authenticate %q", method, path, got.header.Get("WWW-Authenticate"))
				}
				refused++
			} else if read++; got.status != 200 && got.status != 404 {
				t.Errorf("%s %s: %d %s", method, path, got.status, got.body)
			}
		}
	}
	if refused < 15 || read < 10 {
		t.Errorf("%d writing and %d reading operations ask for a key", refused, read)
	}
	for name, text := range b.state() {
		if text != before[name] {
			t.Errorf("%s has changed", name)
		}
	}
	if got := reader.call("HEAD", "/api/ghosts", ""); got.status != 200 {
		t.Errorf("HEAD: %d", got.status)
	}

	past, soon := time.Now().Add(-time.Second), time.Now().Add(time.Hour)
	for _, test := range []struct {
		expires time.Time
		status  int
	}{{past, 401}, {soon, 200}} {
		for _, scope := range connect.Scopes {
			key, _, err := b.service.CreateAPIKey(t.Context(), "acct_1", connect.NewAPIKey{Scope: scope, Expires: &test.expires})
			if err != nil {
				t.Fatal(err)
			}
			b.stripe.secret(key)
			got := c.call("GET", "/api/summary", "", "Authorization", "Bearer "+key)
			want := test.status
			if want == 200 && scope == connect.ScopeShield { // it asks about access, and nothing else
				want = 403
			}
			if got.status != want {
				t.Errorf("%s until %s: %d %s", scope, test.expires, got.status, got.body)
			}
			unknown := c.call("GET", "/api/summary", "", "Authorization", "Bearer phk_"+strings.Repeat("A", 43))
			if test.status == 401 && got.body != unknown.body {
				t.Errorf("an expired key is told apart: %s", got.body)
			}
		}
	}
	keys, err := b.service.ListAPIKeys(t.Context(), "acct_1")
	if err != nil || len(keys) != 8 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	expired := slices.DeleteFunc(slices.Clone(keys), func(k connect.APIKey) bool { return !k.Expired })
	if len(expired) != 3 || keys[0].Scope != connect.ScopeWrite || keys[0].Name != nil || keys[1].Scope != connect.ScopeRead || *keys[1].Name != "a dashboard" {
		t.Errorf("%d have expired; %+v", len(expired), keys[:2])
	}
}
