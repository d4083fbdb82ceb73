package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db/dbtest"
	"phantom/doctor"
	"phantom/ghost"
	"phantom/web"
)

// diagnose runs phantom doctor --json and returns its checks by name. No secret may be shown.
func diagnose(t *testing.T, variables map[string]string) (code int, found map[string]doctor.Check, stderr string) {
	t.Helper()
	p := start(t, variables, []string{"doctor", "--json"})
	code = p.wait(t)
	var said struct {
		Status string
		Checks []doctor.Check
	}
	if err := json.Unmarshal([]byte(p.stdout.String()), &said); err != nil {
		t.Fatalf("%v: %s%s", err, p.stdout, p.stderr)
	}
	found = make(map[string]doctor.Check)
	for _, c := range said.Checks {
		found[c.Name] = c
	}
	if (said.Status == "fail") != (code == 1) {
		t.Errorf("status %s, exit code %d", said.Status, code)
	}
	for _, name := range []string{"ENCRYPTION_KEY", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET"} {
		if secret := variables[name]; len(secret) > 8 && strings.Contains(p.stdout.String()+p.stderr.String(), secret) {
			t.Errorf("%s is shown", name)
		}
	}
	return code, found, p.stderr.String()
}

// wantStatuses holds the status of each check against those that differ from ok.
func wantStatuses(t *testing.T, what string, found map[string]doctor.Check, other map[string]string) {
	t.Helper()
	for name, c := range found {
		want := other[name]
		if want == "" {
			want = "ok"
		}
		if string(c.Status) != want {
			t.Errorf("%s: %s is %s (%s: %s), want %s", what, name, c.Status, c.Detail, c.Advice, want)
		}
	}
	for name := range other {
		if _, ok := found[name]; !ok {
			t.Errorf("%s: %s was not looked at", what, name)
		}
	}
}

// listen has the sandbox's webhook endpoint listen to some types of events, or to all.
func listen(t *testing.T, variables map[string]string, path string, events ...string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"url": "http://localhost:" + variables["PORT"] + path, "secret": "whsec_canary7Zq3vT", "events": events,
	})
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, variables["STRIPE_API_BASE"]+"/sandbox/webhook", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+variables["STRIPE_SECRET_KEY"])
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("the sandbox's webhook: %s", response.Status)
	}
}

// An endpoint that does not hear of something is found, and so is one that is not there.
func TestDoctorLooksAtTheEndpoint(t *testing.T) {
	t.Parallel()
	variables := production(t, dbtest.EmptyURL(t))
	for _, test := range []struct {
		what, path string
		events     []string
		status     string
		says       string
	}{
		{"all", web.WebhookPath, nil, "ok", "every event"},
		{"all by name", web.WebhookPath, ghost.EventTypes, "ok", "every event"},
		{"one less", web.WebhookPath, ghost.EventTypes[:len(ghost.EventTypes)-1], "warn", "payment_method.updated: what"},
		{"elsewhere", "/webhooks", nil, "warn", "no enabled endpoint"},
	} {
		listen(t, variables, test.path, test.events...)
		_, found, _ := diagnose(t, variables)
		if got := found["webhook endpoint"]; string(got.Status) != test.status || !strings.Contains(got.Detail, test.says) {
			t.Errorf("%s: %+v", test.what, got)
		}
	}
}

// All types that are named to operators are used, and README.md names them all.
func TestEventTypesAreNamed(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(text), "and these events:")
	list, _, _ = strings.Cut(list, "Its signing secret")
	var named []string
	for field := range strings.SplitSeq(list, "`") {
		switch name := strings.TrimSpace(field); {
		case strings.HasPrefix(name, ".") && len(name) > 2: // of the family of the one before
			last := named[len(named)-1]
			named = append(named, last[:strings.LastIndex(last, ".")]+name)
		case len(name) > 2 && strings.Contains(name, ".") && !strings.Contains(name, " "):
			named = append(named, name)
		}
	}
	slices.Sort(named)
	if want := slices.Sorted(slices.Values(ghost.EventTypes)); !slices.Equal(named, want) {
		t.Errorf("README.md names\n%v, and used are\n%v", named, want)
	}
}

// forgetDisputes waits for the audit that a handshake begins, and takes off what it says of
// disputes.
func forgetDisputes(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	for range 600 {
		done, err := pool.Exec(t.Context(), "UPDATE audits SET totals = totals - 'unknown_disputes' WHERE state <> 'running'")
		if err != nil {
			t.Fatal(err)
		}
		if done.RowsAffected() > 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("the audit has not ended after a minute")
}

// A server that works is called well, and each thing that is then broken is named.
func TestDoctor(t *testing.T) {
	t.Parallel()
	url := dbtest.EmptyURL(t)
	variables := production(t, url)
	variables["STRIPE_WEBHOOK_SECRET"] = "whsec_canary7Zq3vT"
	listen(t, variables, web.WebhookPath)
	ready(t, variables)
	handshake(t, "http://localhost:"+variables["PORT"])
	pool := dbtest.Open(t, url, dbtest.Ring(t))
	forgetDisputes(t, pool)
	event := func(age string) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), `DELETE FROM webhook_events`); err != nil {
			t.Fatal(err)
		}
		if _, err := pool.Exec(t.Context(), `INSERT INTO webhook_events (merchant_id, id, type, account, object_id, created_at, received_at)
			SELECT id, 'evt_1', 'invoice.paid', stripe_user_id, 'in_1', now(), now() - $1::interval FROM merchants`, age); err != nil {
			t.Fatal(err)
		}
	}
	event("1 minute")
	code, found, stderr := diagnose(t, variables)
	wantStatuses(t, "a good server", found, nil)
	if code != 0 || len(found) != 24 {
		t.Errorf("a good server: %d, %d checks, %s", code, len(found), stderr)
	}
	if !strings.Contains(found["stripe"].Detail, "test mode at http://127.0.0.1:") || !strings.Contains(found["merchants"].Detail, "1 connected, 0 disconnected") {
		t.Errorf("%+v", found)
	}

	event("25 hours")
	insert := func(status, runAt, lease string) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), `INSERT INTO scheduled_tasks (merchant_id, id, kind, status, run_at, lease_until)
			SELECT id, $1, 'unheard_of', $2, now() + $3::interval, now() + nullif($4, '')::interval FROM merchants`, uuid.Must(uuid.NewV7()), status, runAt, lease); err != nil {
			t.Fatal(err)
		}
	}
	insert("needs_review", "0", "")
	insert("parked", "0", "")
	if _, err := pool.Exec(t.Context(), `INSERT INTO messages (merchant_id, id, hunt_id, step, channel, template, state, why, planned_for)
		SELECT id, gen_random_uuid(), gen_random_uuid(), 0, 'email', 'reminder', 'skipped', 'the channel is not set up', now() - interval '1 hour' FROM merchants`); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `INSERT INTO halts (scope, halted_at) SELECT s, '2026-11-20 08:30Z' FROM merchants, unnest(ARRAY[id, $1]) s`, uuid.Nil); err != nil {
		t.Fatal(err)
	}
	changed := maps.Clone(variables)
	changed["STRIPE_WEBHOOK_SECRET"] = ""
	code, found, _ = diagnose(t, changed)
	wantStatuses(t, "little things", found, map[string]string{"webhook secret": "warn", "webhook events": "warn", "needs review": "warn", "parked": "warn", "halts": "warn", "messages": "warn"})
	if code != 0 || found["needs review"].Detail != "1 tasks wait for a person" {
		t.Errorf("little things: %d, %+v", code, found)
	}
	var account string
	if err := pool.QueryRow(t.Context(), `SELECT stripe_user_id FROM merchants`).Scan(&account); err != nil {
		t.Fatal(err)
	}
	want := "no charge and no message of all merchants since 2026-11-20T08:30:00Z (phantom stop --lift), of " + account +
		" since 2026-11-20T08:30:00Z (phantom stop --merchant " + account + " --lift)"
	if got := found["halts"].Detail; got != want {
		t.Errorf("halts: %s, want %s", got, want)
	}
	if got := found["messages"].Detail; got != "0 were sent within 24 hours, and 1 were not: 1 because the channel is not set up" {
		t.Errorf("messages: %s", got)
	}
	if got := found["parked"].Detail; got != "1 tasks wait for Stripe to accept their merchant's token: of "+account+" 1 (connected, refused)" {
		t.Errorf("parked: %s", got)
	}
	// A probe tells since when, and a request that may be out is told apart. A merchant who has
	// left is no warning, and neither is a merchant's own halt.
	for _, statement := range []string{
		`INSERT INTO scheduled_tasks (merchant_id, id, kind, created_at, run_at) SELECT id, gen_random_uuid(), 'probe', '2026-11-20 08:30Z', now() + interval '1 hour' FROM merchants`,
		`UPDATE scheduled_tasks SET first_sent_at = now() WHERE status = 'parked'`,
		`INSERT INTO audits (merchant_id, id, state, ticket, livemode, totals, finished_at)
			SELECT id, gen_random_uuid(), 'succeeded', 1000, livemode, '{"unknown_disputes":["needs_arbitration"]}', now() FROM merchants`,
		`DELETE FROM halts`,
		`INSERT INTO halts (scope, by, halted_at) SELECT id, 'merchant', '2026-11-20 08:30Z' FROM merchants`,
		`INSERT INTO oracle_model (livemode, merchants, attempts, coefficients) VALUES (false, 9, 9, 'spoilt')`,
		`INSERT INTO oracle_model (livemode, merchants, attempts, coefficients, built_at) VALUES (true, 9, 9, '{"Format":1}', now() - interval '9 days')`,
		`INSERT INTO oracle_states (livemode, state, since, why, looks, fortnights, compared_at, falls, checked_at, charges, log_loss, base_log_loss, calibration_error)
			VALUES (true, 'fallback', '2026-11-20 08:30Z', 'it did harm', 0, 0, now(), 1, now(), 0, 0, 0, 0)`,
	} {
		if _, err := pool.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	_, found, _ = diagnose(t, changed)
	if got := found["parked"].Detail; !strings.HasSuffix(got, account+" 1, 1 of them sent with an unknown outcome (connected, refused since 2026-11-20T08:30:00Z)") {
		t.Errorf("parked: %s", got)
	}
	if got := found["oracle"]; got.Status != "warn" || got.Detail != "live mode: fallback since 2026-11-20T08:30:00Z, and its model is 9 days old (it did harm); "+
		"test mode: shadow, and its model cannot be read, or is not sound" {
		t.Errorf("oracle: %+v", got)
	}
	if got := found["disputes"]; got.Status != "warn" || !strings.Contains(got.Detail, "(needs_arbitration)") {
		t.Errorf("disputes: %+v", got)
	}
	if got := found["halts"]; got.Status != "ok" ||
		got.Detail != "no charge and no message of "+account+", by themselves, since 2026-11-20T08:30:00Z (the merchant's own DELETE /api/halt)" {
		t.Errorf("halts: %+v", got)
	}
	for _, statement := range []string{
		`DELETE FROM oracle_model`, `DELETE FROM oracle_states`,
		`DELETE FROM halts`, `INSERT INTO halts (scope) VALUES ('00000000-0000-0000-0000-000000000000')`,
		`UPDATE merchants SET access_token = NULL, refresh_token = NULL, disconnected_at = '2026-11-21 08:30Z'`,
		`UPDATE ghost_targets SET email.tag = md5('x') WHERE id = (SELECT id FROM ghost_targets WHERE email_key_id IS NOT NULL ORDER BY id LIMIT 1)`,
	} {
		if _, err := pool.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	_, found, _ = diagnose(t, changed)
	if got := found["parked"]; got.Status != "ok" || !strings.Contains(got.Detail, "(disconnected since 2026-11-21T08:30:00Z); they go on by themselves") {
		t.Errorf("parked: %+v", got)
	}
	if got := found["sealed values"]; got.Status != "warn" || !strings.HasPrefix(got.Detail, "some do not open: 1 of ghost_targets.email (") {
		t.Errorf("sealed values: %+v", got)
	}

	changed = maps.Clone(variables)
	changed["ENCRYPTION_KEY"], changed["STRIPE_SECRET_KEY"] = wrongKey, "sk_test_wrong"
	code, found, stderr = diagnose(t, changed)
	wantStatuses(t, "wrong keys", found, map[string]string{"keys": "fail", "sealed values": "warn", "stripe": "fail", "webhook endpoint": "warn", "needs review": "warn", "halts": "warn", "messages": "warn"})
	if code != 1 || !strings.HasSuffix(stderr, "phantom doctor: 2 checks failed\n") {
		t.Errorf("wrong keys: %d, %s", code, stderr)
	}

	changed["DATABASE_URL"], changed["ENCRYPTION_KEY"] = "postgres://u:canaryPassword@127.0.0.1:"+freePort(t)+"/x", ""
	changed["STRIPE_SECRET_KEY"] = variables["STRIPE_SECRET_KEY"]
	skipped := map[string]string{"configuration": "fail", "database": "fail"}
	for _, name := range []string{"server version", "database clock", "connections", "transactions", "schema", "keys", "sealed values", "merchants", "webhook events", "backlog", "needs review", "workers", "parked", "halts", "disputes", "access", "messages", "oracle"} {
		skipped[name] = "warn"
	}
	_, found, stderr = diagnose(t, changed)
	wantStatuses(t, "no database", found, skipped)
	if strings.Contains(stderr+found["database"].Detail, "canary") || found["stripe"].Status != "ok" {
		t.Errorf("no database: %s %+v", stderr, found)
	}
}

// What nobody works on shows, and so does a database without a schema.
func TestDoctorWithoutWorkers(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	pool := dbtest.Open(t, url, dbtest.Ring(t))
	seedMerchants(t, pool, 1)
	stripe := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(-10*time.Minute).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(stripe.Close)
	variables := map[string]string{
		"DATABASE_URL": url, "ENCRYPTION_KEY": dbtest.Key, "STRIPE_SECRET_KEY": "sk_test_1", "STRIPE_CLIENT_ID": "ca_1", "STRIPE_WEBHOOK_SECRET": "whsec_1",
		"STRIPE_API_BASE": stripe.URL, "STRIPE_CONNECT_BASE": stripe.URL,
	}
	broken := map[string]string{"stripe": "fail", "stripe clock": "fail", "webhook endpoint": "warn", "webhook events": "warn", "workers": "warn"}
	_, found, _ := diagnose(t, variables)
	wantStatuses(t, "no worker", found, broken)

	for _, step := range []struct{ late, backlog, workers string }{{"2 minutes", "warn", "fail"}, {"16 minutes", "fail", "fail"}} {
		if _, err := pool.Exec(t.Context(), `INSERT INTO scheduled_tasks (merchant_id, id, kind, status, run_at, lease_until)
			SELECT id, gen_random_uuid(), 'audit', s, now() - $1::interval, CASE s WHEN 'running' THEN now() - $1::interval END
			FROM merchants, unnest(ARRAY['pending', 'running']) s`, step.late); err != nil {
			t.Fatal(err)
		}
		broken["backlog"], broken["workers"] = step.backlog, step.workers
		_, found, _ := diagnose(t, variables)
		wantStatuses(t, step.late, found, broken)
	}
	variables["DATABASE_URL"] = dbtest.EmptyURL(t)
	_, found, _ = diagnose(t, variables)
	if found["schema"].Status != "fail" || found["workers"].Detail != "not checked: the schema is another one" {
		t.Errorf("no schema: %+v", found)
	}
	p := start(t, variables, []string{"doctor"})
	if code := p.wait(t); code != 1 || !strings.Contains(p.stdout.String(), "\nfail  schema            it has no schema: run phantom migrate") {
		t.Errorf("as text: %d\n%s", code, p.stdout)
	}
}
