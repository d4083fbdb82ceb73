package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"phantom/db/dbtest"
	"phantom/sandbox"
)

// ownAccounts are the accounts of the sandbox that production starts.
func ownAccounts(t testing.TB) []string {
	t.Helper()
	world, err := sandbox.New(sandbox.Config{Seed: 1, Merchants: 3})
	if err != nil {
		t.Fatal(err)
	}
	return world.Accounts()
}

// file writes a secret where a command reads it.
func secretFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A merchant connects with a key of their own, without any platform: by a command, and by the
// environment of a server. Audits, events of their own endpoint and the API work as ever.
func TestOwnKey(t *testing.T) {
	t.Parallel()
	url := dbtest.EmptyURL(t)
	variables := production(t, url)
	delete(variables, "STRIPE_SECRET_KEY")
	delete(variables, "STRIPE_CLIENT_ID")
	account := ownAccounts(t)[0]
	key := sandbox.OwnKey(account, false)
	const secret = "whsec_ownCanary7Zq3vT7w"
	run := func(want int, args ...string) (stdout, stderr string) {
		t.Helper()
		p := start(t, variables, args)
		if code := p.wait(t); code != want {
			t.Fatalf("phantom %v: exit code %d, want %d\n%s%s", args, code, want, p.stdout, p.stderr)
		}
		return p.stdout.String(), p.stderr.String()
	}
	run(0, "migrate")

	// What is wrong is said, with what to do, and never quoted.
	for _, test := range []struct {
		code int
		args []string
		says string
	}{
		{2, []string{"connect"}, "needs --key-file"},
		{2, []string{"connect", "--key-file", "/nowhere"}, "--key-file"},
		{2, []string{"connect", "--key-file", secretFile(t, "pk_test_canary")}, "holds no such secret"},
		{1, []string{"connect", "--key-file", secretFile(t, "sk_test_canary")}, "Stripe does not accept the key"},
		{2, []string{"connect", "--key-file", secretFile(t, key), "--webhook-secret-file", secretFile(t, "canary")}, "--webhook-secret-file holds no such secret"},
		{1, []string{"disconnect", "--merchant", account}, "is not connected here"},
	} {
		if _, stderr := run(test.code, test.args...); !strings.Contains(stderr, test.says) || strings.Contains(stderr, "canary") {
			t.Errorf("phantom %v says %q", test.args, stderr)
		}
	}
	if _, stderr := run(1, "serve"); !strings.Contains(stderr, "STRIPE_SECRET_KEY, STRIPE_CLIENT_ID are not set") {
		t.Errorf("without any key: %s", stderr)
	}

	stdout, _ := run(0, "connect", "--key-file", secretFile(t, key))
	if !strings.Contains(stdout, account+" is connected, in test mode") || !strings.Contains(stdout, "Invoices       may be read") || !strings.Contains(stdout, "/api/webhooks/stripe/") {
		t.Errorf("connect prints\n%s", stdout)
	}
	stdout, _ = run(0, "connect", "--key-file", secretFile(t, key), "--webhook-secret-file", secretFile(t, secret))
	if !strings.Contains(stdout, account+" has its new key") || strings.Contains(stdout, "/api/webhooks/stripe/") {
		t.Errorf("connect with a secret prints\n%s", stdout)
	}

	// Without a platform this secret is the account's own endpoint's, and speaks for no other.
	variables["STRIPE_MERCHANT_KEY"], variables["STRIPE_WEBHOOK_SECRET"] = key, secret
	server, base := ready(t, variables)
	if text := server.stdout.String(); !strings.Contains(text, "the account of STRIPE_MERCHANT_KEY is connected") || !strings.Contains(text, "no Connect platform") {
		t.Errorf("the server says\n%s", text)
	}
	if status, body, err := get(browser(t), base+"/api/auth/stripe"); err != nil || status != http.StatusServiceUnavailable || !strings.Contains(body, "connect_not_configured") {
		t.Errorf("the handshake: %d %s %v", status, body, err)
	}
	stdout, _ = run(0, "audit", "--merchant", account)
	if !strings.Contains(stdout, "ghosts owe") {
		t.Errorf("the audit prints %s", stdout)
	}
	pool := dbtest.Open(t, url, dbtest.Ring(t))
	var id, subscription string
	if err := pool.QueryRow(t.Context(), "SELECT m.id::text, g.stripe_subscription_id FROM merchants m JOIN ghost_targets g ON g.merchant_id = m.id LIMIT 1").Scan(&id, &subscription); err != nil {
		t.Fatal(err)
	}
	post := func(path, event string, by string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+path, strings.NewReader(event))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Stripe-Signature", sandbox.Sign([]byte(event), by, time.Now()))
		response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		body, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(body)
	}
	event := func(number int, account string) string {
		return fmt.Sprintf(`{"id":"evt_%d","object":"event","type":"customer.subscription.updated"%s,"created":%d,"livemode":false,"data":{"object":{"id":%q,"object":"subscription"}}}`,
			number, account, time.Now().Unix(), subscription)
	}
	own := "/api/webhooks/stripe/" + id
	for _, test := range []struct {
		what, path, event, by string
		status                int
		says                  string
	}{
		{"their own", own, event(1, ""), secret, 200, `"received"`},
		{"again", own, event(1, ""), secret, 200, `"received"`},
		{"of their account, named", own, event(2, `,"account":"`+account+`"`), secret, 200, `"received"`},
		{"of another account", own, event(3, `,"account":"acct_1Another"`), secret, 200, `"ignored"`},
		{"signed by another", own, event(4, ""), "whsec_another", 400, "invalid_signature"},
		{"signed by nothing", own, event(4, ""), "", 400, "invalid_signature"},
		{"of nobody", "/api/webhooks/stripe/0190163d-8694-739b-aea5-966c26f8ad91", event(5, ""), secret, 400, "invalid_signature"},
		{"of no id", "/api/webhooks/stripe/x", event(5, ""), secret, 400, "invalid_signature"},
		{"at the platform's", "/api/webhooks/stripe", event(6, `,"account":"`+account+`"`), secret, 503, "webhooks_not_configured"},
	} {
		if status, body := post(test.path, test.event, test.by); status != test.status || !strings.Contains(body, test.says) {
			t.Errorf("an event %s: %d %s", test.what, status, body)
		}
	}
	var events int
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM webhook_events").Scan(&events); err != nil || events != 2 {
		t.Errorf("%d events are stored, %v", events, err)
	}
	if dump := pgDump(t, url); strings.Contains(dump, key) || strings.Contains(dump, secret) {
		t.Error("a dump holds the key or the secret")
	}
	if logs := server.stdout.String() + server.stderr.String(); strings.Contains(logs, key) || strings.Contains(logs, secret) {
		t.Error("the log holds the key or the secret")
	}
	if code, found, stderr := diagnose(t, variables); code != 0 {
		t.Errorf("doctor: %d %+v %s", code, found, stderr)
	}

	// A key that only reads finds ghosts, and no playbook of it charges.
	apikey, _ := run(0, "apikey", "create", "--merchant", account)
	run(0, "connect", "--key-file", secretFile(t, sandbox.OwnKey(account, true)), "--read-only")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, base+"/api/playbook", strings.NewReader(`{"mode":"recover","steps":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(apikey))
	request.Header.Set("Content-Type", "application/json")
	response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if response.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "only reads") {
		t.Errorf("a playbook that charges with a key that only reads: %d %s", response.StatusCode, body)
	}

	run(0, "disconnect", "--merchant", account)
	if status, body := post(own, event(7, ""), secret); status != 400 {
		t.Errorf("an event of somebody who is disconnected: %d %s", status, body)
	}
	var told string
	if err := pool.QueryRow(t.Context(), "SELECT string_agg(coalesce(command, by) || ' ' || action, ', ' ORDER BY id) FROM audit_log WHERE action LIKE 'merchant.%'").Scan(&told); err != nil ||
		told != "connect merchant.connect, connect merchant.connect, connect merchant.connect, disconnect merchant.disconnect" {
		t.Errorf("the log of changes says %s, %v", told, err)
	}
	var left int
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM merchants WHERE access_token IS DISTINCT FROM NULL OR webhook_secret IS DISTINCT FROM NULL").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d rows keep a secret, %v", left, err)
	}
}
