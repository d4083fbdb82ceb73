package web_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/connect"
	"phantom/db/dbtest"
	"phantom/playbook"
)

// victim makes a merchant with a ghost, a hunt and an audit whose every text is a canary: no answer
// to somebody else may hold one.
func (b *bench) victim() (ghost, audit, hunt uuid.UUID, v *caller) {
	b.t.Helper()
	v = b.caller("acct_victim")
	ghost = v.add(seed{customer: "cus_victim7Zq", subscription: "sub_victim7Zq", invoice: "in_victim7Zq", email: "victim7zq@example.com", amount: 987654321,
		currency: "chf", failed: day, class: "never", declineCode: "victim_code"})
	audit = uuid.Must(uuid.NewV7())
	if _, err := b.pool.Exec(b.t.Context(), `INSERT INTO audits (merchant_id, id, state, ticket, livemode, totals, error, finished_at)
		VALUES ($1, $2, 'failed', 1, false, '{"currencies":{"chf":{"owed":987654321,"ghosts":1,"hidden":0}},"wasted_attempts":98765}', 'victim_error', now())`,
		v.id, audit); err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.pool.Exec(b.t.Context(), `INSERT INTO scheduled_tasks (merchant_id, id, kind, status, params, outcome, last_error)
		VALUES ($1, $2, 'victim_kind', 'parked', '{"invoice":"in_victim7Zq"}', '{"charge":"ch_victim7Zq"}', 'victim_error')`, v.id, uuid.Must(uuid.NewV7())); err != nil {
		b.t.Fatal(err)
	}
	b.stripe.secret("ch_victim7Zq", "cus_victim7Zq", "sub_victim7Zq", "in_victim7Zq", "victim7zq@example.com", "987654321", "victim_code", "victim_error", "98765", "acct_victim", v.id.String())
	playbook, err := playbook.Parse([]byte(`{"mode":"recover","holdout_percent":0,"final_step":"cancel","min_amount":{"chf":9876543},"steps":[],"auto":false}`))
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.hunts.SetPlaybook(b.t.Context(), v.id, playbook); err != nil {
		b.t.Fatal(err)
	}
	v.huntEveryone()
	if got := v.call("POST", "/api/halt", ""); got.status != 200 {
		b.t.Fatal(got.body)
	}
	if err := b.pool.QueryRow(b.t.Context(), "UPDATE hunts SET charges_over = 'victim_over' WHERE merchant_id = $1 RETURNING id", v.id).Scan(&hunt); err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.pool.Exec(b.t.Context(), "UPDATE hunt_notes SET note = 'victim_note' WHERE hunt_id = $1", hunt); err != nil {
		b.t.Fatal(err)
	}
	b.stripe.secret("9876543", "victim_over", "victim_note")
	return ghost, audit, hunt, v
}

// access gives a merchant a policy, a customer who is held with an override, and an open hold.
func (c *caller) access() (override, hold uuid.UUID) {
	c.b.t.Helper()
	override, hold = uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	c.b.Exec(`INSERT INTO shield_policies (merchant_id, version, body) VALUES ($1, 1, '{"mode":"enforce"}')`, c.id)
	c.b.Exec(`INSERT INTO shield_states (merchant_id, subscription, customer, livemode, facts, ticket, told_at, held, level)
		VALUES ($1, 'sub_victim7Zq', 'cus_victim7Zq', false, '{}', 1, now(), true, 'limited')`, c.id)
	c.b.Exec("INSERT INTO shield_decisions (merchant_id, id, kind, customer, level) VALUES ($1, $2, 'override', 'cus_victim7Zq', 'grace')", c.id, override)
	c.b.Exec(`INSERT INTO shield_holds (merchant_id, id, customers, "of", revenue) VALUES ($1, $2, 1, 1, '{}')`, c.id, hold)
	return override, hold
}

func (b *bench) rowsOf(v *caller) (text string) {
	b.t.Helper()
	if err := b.pool.QueryRow(b.t.Context(), `SELECT (SELECT string_agg(g::text, '|' ORDER BY id) FROM ghost_targets g WHERE merchant_id = $1) ||
		(SELECT string_agg(a::text, '|' ORDER BY id) FROM audits a WHERE merchant_id = $1) ||
		(SELECT string_agg(h::text, '|' ORDER BY id) FROM hunts h WHERE merchant_id = $1) ||
		(SELECT string_agg(n::text, '|' ORDER BY id) FROM hunt_notes n WHERE merchant_id = $1) ||
		(SELECT string_agg(p::text, '|' ORDER BY version) FROM playbooks p WHERE merchant_id = $1) ||
		coalesce((SELECT string_agg(x::text, '|' ORDER BY id) FROM shield_decisions x WHERE merchant_id = $1), '') ||
		coalesce((SELECT string_agg(x::text, '|' ORDER BY id) FROM shield_holds x WHERE merchant_id = $1), '') ||
		coalesce((SELECT string_agg(x::text, '|' ORDER BY subscription) FROM shield_states x WHERE merchant_id = $1), '') ||
		(SELECT string_agg(x::text, '|' ORDER BY by) FROM halts x WHERE scope = $1) ||
		(SELECT string_agg(l::text, '|' ORDER BY id) FROM audit_log l WHERE merchant_id = $1) ||
		(SELECT string_agg(t::text, '|' ORDER BY id) FROM scheduled_tasks t WHERE merchant_id = $1)`, v.id).Scan(&text); err != nil {
		b.t.Fatal(err)
	}
	return text
}

// keyOf is the id of an account's one key.
func keyOf(b *bench, account string) string {
	b.t.Helper()
	keys, err := b.service.ListAPIKeys(b.t.Context(), account)
	if err != nil || len(keys) != 1 {
		b.t.Fatalf("%d keys, %v", len(keys), err)
	}
	return keys[0].ID.String()
}

// On every route another merchant's id is answered as an unknown one is, byte for byte, and so is
// one that is no id at all. Nothing of the other merchant's is read or changed.
func TestTenantsAreApart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ghost, audit, hunt, victim := b.victim()
	c := b.caller("acct_1")
	own := c.add(seed{})
	c.put(everybody)
	override, hold := victim.access()
	before := b.rowsOf(victim)
	unknown := uuid.Must(uuid.NewV7()).String()
	for _, route := range []struct{ method, path, foreign, body string }{
		{"GET", "/api/audits/", audit.String(), ""},
		{"GET", "/api/audits/", ghost.String(), ""},
		{"GET", "/api/ghosts/", ghost.String(), ""},
		{"GET", "/api/ghosts/", audit.String(), ""},
		{"HEAD", "/api/ghosts/", ghost.String(), ""},
		{"POST", "/api/ghosts/%s/access", ghost.String(), `{"access":"none"}`},
		{"POST", "/api/ghosts/%s/access", ghost.String(), `{"access":"proven"}`},
		{"GET", "/api/hunts/", hunt.String(), ""},
		{"GET", "/api/hunts/", ghost.String(), ""},
		{"GET", "/api/hunts/", hunt.String() + "/advice", ""},
		{"DELETE", "/api/hunts/", hunt.String(), ""},
		{"DELETE", "/api/shield/overrides/", override.String(), ""},
		{"DELETE", "/api/shield/promises/", override.String(), ""},
		{"DELETE", "/api/shield/exemptions/", override.String(), ""},
		{"DELETE", "/api/endpoints/", ghost.String(), ""},
		{"POST", "/api/endpoints/%s/test", ghost.String(), ""},
		{"GET", "/api/endpoints/%s/deliveries", ghost.String(), ""},
		{"POST", "/api/shield/holds/%s/release", hold.String(), ""},
		{"POST", "/api/shield/holds/%s/discard", hold.String(), ""},
	} {
		address := func(id string) string {
			if strings.Contains(route.path, "%s") {
				return strings.Replace(route.path, "%s", id, 1)
			}
			return route.path + id
		}
		want := c.call(route.method, address(unknown), route.body)
		if want.status != 404 {
			t.Errorf("%s %s: an unknown id gets %d %s", route.method, route.path, want.status, want.body)
		}
		// What tells of the moment, and of a route's own limit, tells of no merchant.
		sameForAll := func(header http.Header) {
			for _, name := range []string{"Date", "RateLimit", "RateLimit-Policy", "X-Request-Id"} {
				header.Del(name)
			}
		}
		sameForAll(want.header)
		for _, id := range []string{
			route.foreign, strings.ToUpper(route.foreign), "{" + route.foreign + "}", "urn:uuid:" + route.foreign, strings.ReplaceAll(route.foreign, "-", ""),
			uuid.Nil.String(), victim.id.String(), c.id.String(), "1", "x", "%00", "%27", "%2e%2e", own.String() + "%20", own.String() + "%0a", strings.Repeat("a", 5000),
		} {
			got := c.call(route.method, address(id), route.body)
			sameForAll(got.header)
			if got.status != want.status || got.body != want.body || len(got.header) != len(want.header) {
				t.Errorf("%s %.80s: %d %s %v\nan unknown id: %d %s %v", route.method, address(id), got.status, got.body, got.header, want.status, want.body, want.header)
			}
			for name := range want.header {
				if got.header.Get(name) != want.header.Get(name) {
					t.Errorf("%s %.80s: %s %q, of an unknown id %q", route.method, address(id), name, got.header.Get(name), want.header.Get(name))
				}
			}
		}
	}
	// A cursor is a place in one's own list, no matter what it is made of.
	for _, cursor := range []string{cursorOf(ghost), cursorOf(uuid.Max), cursorOf(victim.id)} {
		for _, found := range c.list("?limit=200&cursor=" + cursor).Data {
			if found.ID != own {
				t.Errorf("cursor %s shows %s", cursor, found.ID)
			}
		}
	}
	for _, query := range []string{"", "?kind=victim_kind", "?status=parked", "?cursor=" + cursorOf(uuid.Max), "?cursor=" + cursorOf(victim.id)} {
		if got := c.call("GET", "/api/tasks"+query, ""); got.body != `{"data":[],"next_cursor":null}` {
			t.Errorf("tasks%s shows %s", query, got.body)
		}
	}
	for _, cursor := range []string{cursorOf(hunt), cursorOf(uuid.Max), cursorOf(victim.id)} {
		if p := c.hunts("?limit=200&cursor=" + cursor); len(p.Data) != 0 {
			t.Errorf("cursor %s shows %d hunts", cursor, len(p.Data))
		}
	}
	for _, query := range []string{"", "?key=" + keyOf(b, "acct_victim"), "?cursor=" + cursorOf(uuid.Max), "?cursor=" + cursorOf(victim.id)} {
		for _, entry := range c.changes("?limit=200" + strings.Replace(query, "?", "&", 1)).Data {
			if entry.Key == nil || entry.Key.String() != keyOf(b, "acct_1") {
				t.Errorf("audit-log%s shows %+v", query, entry)
			}
		}
	}
	if len(victim.changes("").Data) == 0 {
		t.Error("the victim's log is empty")
	}
	// Ids in a body are no other than those in a path.
	unknownGhost := c.call("POST", "/api/hunts", `{"ghosts":["`+own.String()+`","`+unknown+`"]}`)
	unknownGhost.wantError(t, 404, "not_found")
	for _, id := range []string{ghost.String(), hunt.String(), victim.id.String(), uuid.Nil.String(), "x", ""} {
		if got := c.call("POST", "/api/hunts", `{"ghosts":["`+own.String()+`","`+id+`"]}`); got.status != 404 || got.body != unknownGhost.body {
			t.Errorf("a hunt of %s: %d %s", id, got.status, got.body)
		}
	}
	if d := c.dry(everybody); d.Hunts != 1 {
		t.Errorf("a dry run counts %d ghosts", d.Hunts)
	}
	c.call("GET", "/api/playbook", "")
	c.huntEveryone()
	c.call("GET", "/api/summary", "")
	c.call("POST", "/api/halt", "")
	c.call("DELETE", "/api/halt", "")
	c.call("GET", "/api/ghosts?currency=chf&decline_class=never", "")
	if after := b.rowsOf(victim); after != before {
		t.Errorf("the other merchant's rows changed:\n%s\n%s", before, after)
	}
}

// A key that is missing, malformed, unknown, revoked or expired gets one and the same answer on
// every route, before anything else is looked at.
func TestKeys(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.caller("acct_1")
	id := c.add(seed{}).String()
	addresses := []struct{ method, path string }{
		{"POST", "/api/audits"}, {"GET", "/api/audits/" + id}, {"GET", "/api/ghosts"}, {"GET", "/api/ghosts?limit=x"}, {"GET", "/api/ghosts/" + id},
		{"GET", "/api/ghosts/x"}, {"POST", "/api/ghosts/" + id + "/access"}, {"GET", "/api/summary"}, {"GET", "/api/tasks"}, {"GET", "/api/tasks?limit=x"},
		{"GET", "/api/audit-log"}, {"GET", "/api/audit-log?limit=x"}, {"GET", "/api/oracle"}, {"GET", "/api/oracle/billing-dates"}, {"GET", "/api/oracle/billing-dates?limit=x"}, {"GET", "/api/oracle/heatmap"}, {"GET", "/api/oracle/heatmap?class=x"},
		{"GET", "/api/channels"}, {"PUT", "/api/channels/resend"}, {"PUT", "/api/channels/twilio"}, {"DELETE", "/api/channels/resend"}, {"DELETE", "/api/channels/twilio"},
		{"POST", "/api/channels/resend/test"}, {"POST", "/api/channels/twilio/test"}, {"GET", "/api/templates"}, {"PUT", "/api/templates/email/x"},
		{"DELETE", "/api/templates/email/x"}, {"POST", "/api/templates/email/x/preview"},
		{"GET", "/api/playbook"}, {"PUT", "/api/playbook"}, {"PUT", "/api/playbook?dry_run=x"}, {"GET", "/api/hunts"}, {"GET", "/api/hunts?limit=x"}, {"POST", "/api/hunts"},
		{"GET", "/api/hunts/" + id}, {"GET", "/api/hunts/x"}, {"GET", "/api/hunts/" + id + "/advice"}, {"GET", "/api/hunts/x/advice"}, {"DELETE", "/api/hunts/" + id}, {"POST", "/api/halt"}, {"DELETE", "/api/halt"},
	}
	refused := func(why string, header ...string) {
		t.Helper()
		var first answer
		for i, a := range addresses {
			got, err := c.send(t.Context(), a.method, a.path, strings.NewReader("{"), header...)
			if err != nil {
				t.Fatal(err)
			}
			got.wantError(t, 401, "unauthorized")
			if i == 0 {
				first = got
			}
			if got.body != first.body || got.header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%s on %s: %s, %q", why, a.path, got.body, got.header.Get("WWW-Authenticate"))
			}
		}
	}
	random := "phk_" + strings.Repeat("A", 43)
	for _, value := range []string{
		"", "Bearer", "Bearer ", "Basic " + c.key, c.key, "Bearer" + c.key, "Bearer " + c.key + "x", "Bearer " + c.key[:46], "Bearer " + strings.ToUpper(c.key), "Bearer " + random,
		"Bearer " + c.key[4:], "Bearer phk_", "Bearer phk_" + strings.Repeat("é", 20), "Bearer ' OR 1=1 --", "Bearer " + c.key + "," + c.key, "Bearer " + c.key + " " + c.key, "Bearer " + strings.Repeat("A", 8000),
		// not canonical base64
		"Token " + c.key, "Bearer\t" + c.key, "Bearer \"" + c.key + "\"", "Bearer phk_" + strings.Repeat("A", 42) + "B",
	} {
		refused(value, "Authorization", value)
	}
	refused("no header")
	refused("X-API-Key", "X-API-Key", c.key)
	refused("a cookie", "Cookie", "phantom_browser="+c.key)
	two := b.raw("GET /api/summary HTTP/1.1\r\nHost: phantom\r\nConnection: close\r\nAuthorization: Bearer " + c.key + "\r\nAuthorization: Bearer " + c.key + "\r\n\r\n")
	two[0].wantError(t, 401, "unauthorized")
	c.call("GET", "/api/summary?key="+random, "", "Authorization", "").wantError(t, 401, "unauthorized")

	for _, value := range []string{"Bearer " + c.key, "bearer " + c.key, "BEARER  " + c.key} {
		if got := c.call("GET", "/api/summary", "", "Authorization", value); got.status != 200 {
			t.Errorf("a good key: %d %s", got.status, got.body)
		}
	}
	keys, err := b.service.ListAPIKeys(t.Context(), "acct_1")
	if err != nil || len(keys) != 1 || keys[0].LastUsedAt == nil {
		t.Fatalf("%+v, %v", keys, err)
	}
	if err := b.service.RevokeAPIKey(t.Context(), "acct_1", keys[0].ID); err != nil {
		t.Fatal(err)
	}
	refused("revoked", "Authorization", "Bearer "+c.key)
	past := time.Now().Add(-time.Second)
	expired, _, err := b.service.CreateAPIKey(t.Context(), "acct_1", connect.NewAPIKey{Scope: connect.ScopeRead, Expires: &past})
	if err != nil {
		t.Fatal(err)
	}
	refused("expired", "Authorization", "Bearer "+expired)
	if len(b.lines()) != 0 {
		t.Errorf("bad keys were logged: %+v", b.lines())
	}
}

func TestMethodsOfTheAPI(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.caller("acct_1")
	id := c.add(seed{}).String()
	for path, allow := range map[string]string{
		"/api/audits": "POST", "/api/audits/" + id: "GET, HEAD", "/api/ghosts": "GET, HEAD", "/api/ghosts/" + id: "GET, HEAD", "/api/ghosts/" + id + "/access": "POST", "/api/summary": "GET, HEAD", "/api/tasks": "GET, HEAD",
		"/api/audit-log": "GET, HEAD", "/api/oracle": "GET, HEAD", "/api/oracle/billing-dates": "GET, HEAD", "/api/oracle/heatmap": "GET, HEAD", "/api/hunts/" + id + "/advice": "GET, HEAD",
		"/api/channels": "GET, HEAD", "/api/channels/resend": "DELETE, PUT", "/api/channels/twilio": "DELETE, PUT", "/api/channels/resend/test": "POST", "/api/channels/twilio/test": "POST",
		"/api/templates": "GET, HEAD", "/api/templates/email/x": "DELETE, PUT", "/api/templates/email/x/preview": "POST", "/u/x": "GET, HEAD, POST", "/api/webhooks/twilio/" + id: "POST", "/api/webhooks/stripe/" + id: "POST",
		"/api/playbook": "GET, HEAD, PUT", "/api/hunts": "GET, HEAD, POST", "/api/hunts/" + id: "DELETE, GET, HEAD",
		"/api/halt": "DELETE, POST",
	} {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"} {
			if strings.Contains(allow, method) {
				continue
			}
			got := c.call(method, path, "")
			if method != "HEAD" {
				got.wantError(t, 405, "method_not_allowed")
			}
			if got.status != 405 || got.header.Get("Allow") != allow {
				t.Errorf("%s %s: %d, Allow %q", method, path, got.status, got.header.Get("Allow"))
			}
		}
	}
	for path, status := range map[string]int{"/api/ghosts": 200, "/api/ghosts/" + id: 200, "/api/summary": 200, "/api/tasks": 200, "/api/audit-log": 200, "/api/oracle": 200, "/api/oracle/billing-dates": 200, "/api/oracle/heatmap": 200, "/api/hunts/" + id + "/advice": 404, "/api/audits/" + id: 404, "/api/playbook": 200, "/api/hunts": 200, "/api/hunts/" + id: 404, "/api/openapi.json": 200} {
		if got := c.call("HEAD", path, ""); got.status != status || got.body != "" {
			t.Errorf("HEAD %s: %d %q", path, got.status, got.body)
		}
	}
}

// With the database gone the API says so, and answers again without a restart.
func TestAPIWithoutADatabase(t *testing.T) {
	t.Parallel()
	gate, through := newGate(t, dbtest.URL(t))
	b := setup(t, func(o *options) { o.database, o.timeout = through, ownTimeouts })
	c := b.caller("acct_1")
	gate.shut()
	for _, path := range []string{"/api/ghosts", "/api/summary", "/api/tasks", "/api/audit-log", "/api/ghosts/" + c.id.String(), "/api/playbook", "/api/hunts", "/api/hunts/" + c.id.String()} {
		c.call("GET", path, "").wantError(t, 503, "database_unavailable")
	}
	c.call("POST", "/api/halt", "").wantError(t, 503, "database_unavailable")
	gate.open()
	if got := c.call("GET", "/api/summary", ""); got.status != 200 {
		t.Errorf("again: %d %s", got.status, got.body)
	}
	if all := b.lines(); len(all) != 2 {
		t.Errorf("the loss was logged %d times: %+v", len(all), all)
	}
}
