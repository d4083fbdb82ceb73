package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"phantom/db/dbtest"
	"phantom/sandbox"
)

// The truth file lists the ghosts of every merchant before the sandbox says that it serves.
func TestSandboxWritesItsTruth(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "truth.json")
	process := start(t, nil, []string{"sandbox", "-addr", "127.0.0.1:0", "-seed", "7", "-charges", "3000", "-truth", path})
	process.awaitLine(t, "\n")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var ghosts []sandbox.Ghost
	if err := json.Unmarshal(text, &ghosts); err != nil {
		t.Fatal(err)
	}
	accounts, hidden := map[string]int{}, 0
	for _, g := range ghosts {
		accounts[g.Account]++
		if g.Hidden {
			hidden++
		}
		if g.Customer == "" || g.Subscription == "" || g.Currency == "" || g.Amount <= 0 || len(g.Invoices) == 0 || g.Why == "" {
			t.Errorf("%+v", g)
		}
	}
	if len(accounts) != 3 || hidden == 0 {
		t.Errorf("ghosts by merchant: %v, %d of them hidden", accounts, hidden)
	}
}

// Who uses a sandbox of a process of its own can connect the sandbox's accounts as channels, and nothing goes to Resend or Twilio: they
// would not know the keys.
func TestSandboxIsTheProvidersToo(t *testing.T) {
	t.Parallel()
	url := dbtest.EmptyURL(t)
	variables := production(t, url)
	_, base := ready(t, variables)
	handshake(t, base)
	var account string
	if err := dbtest.Open(t, url, dbtest.Ring(t)).QueryRow(t.Context(), "SELECT stripe_user_id FROM merchants").Scan(&account); err != nil {
		t.Fatal(err)
	}
	_, key, _ := apiKeyCommand(t, url, "create", "--merchant", account)
	for _, call := range []struct{ method, path, body string }{
		{http.MethodPut, "resend", fmt.Sprintf(`{"api_key":%q,"from":"billing@example.com"}`, sandbox.ResendKey)},
		{http.MethodPut, "twilio", fmt.Sprintf(`{"account_sid":%q,"auth_token":%q,"from":"+14155550100"}`, sandbox.TwilioSID, sandbox.TwilioToken)},
		{http.MethodPost, "resend/test", `{"to":"somebody@example.com"}`},
	} {
		request, err := http.NewRequestWithContext(t.Context(), call.method, base+"/api/channels/"+call.path, strings.NewReader(call.body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(key))
		request.Header.Set("Content-Type", "application/json")
		response, err := browser(t).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		said, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if response.StatusCode/100 != 2 {
			t.Errorf("%s %s: %d %s", call.method, call.path, response.StatusCode, said)
		}
	}
}

// Where messages go, by what is set.
func TestProviderBases(t *testing.T) {
	t.Parallel()
	const own, real = "http://127.0.0.1:12111", ""
	for _, c := range []struct {
		name           string
		set            map[string]string
		resend, twilio string
	}{
		{"dev mode beside a sandbox", map[string]string{"PHANTOM_DEV": "1", "STRIPE_API_BASE": own}, own + "/resend", own + "/twilio"},
		{"its key without dev mode", map[string]string{"STRIPE_API_BASE": own, "STRIPE_SECRET_KEY": sandbox.SecretKey}, own + "/resend", own + "/twilio"},
		{"another place for one", map[string]string{"PHANTOM_DEV": "1", "STRIPE_API_BASE": own, "RESEND_API_BASE": "http://127.0.0.1:9"}, "http://127.0.0.1:9", own + "/twilio"},
		{"another stand-in for Stripe, in production", map[string]string{"STRIPE_API_BASE": own, "STRIPE_SECRET_KEY": "sk_test_1"}, real, real},
		{"production", map[string]string{"STRIPE_SECRET_KEY": "sk_live_1", "PUBLIC_URL": "https://phantom.example.com"}, real, real},
	} {
		set := map[string]string{"DATABASE_URL": "postgres://localhost/x", "ENCRYPTION_KEY": dbtest.Key, "STRIPE_CLIENT_ID": "ca_1", "STRIPE_CONNECT_BASE": c.set["STRIPE_API_BASE"]}
		maps.Copy(set, c.set)
		got, err := loadConfig(func(name string) string { return set[name] }, needs{database: true, key: true, stripe: true})
		if err != nil || got.resendBase != c.resend || got.twilioBase != c.twilio {
			t.Fatalf("%s: %v, or another place than %q and %q", c.name, err, c.resend, c.twilio)
		}
	}
}

// The pools follow WORKERS, unless somebody says otherwise. The queues have connections of their
// own.
func TestPoolFollowsTheWorkers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		set          map[string]string
		want, queues int
	}{
		{nil, 10 + 4 + 4 + 12, 4},
		{map[string]string{"WORKERS": "100"}, 100 + 4 + 4 + 12, 4},
		{map[string]string{"WORKERS": "0"}, 12, 0},
		{map[string]string{"DATABASE_POOL": "5"}, 4, 1},
		{map[string]string{"DATABASE_POOL": "1"}, 1, 1},
		{map[string]string{"DATABASE_POOL": "20", "WORKERS": "0"}, 20, 0},
		{map[string]string{"DATABASE_URL": "postgres://h1:5432,h2:5433/x?pool_max_conns=40"}, 36, 4},
	} {
		set := map[string]string{
			"DATABASE_URL": "postgres://localhost/x", "ENCRYPTION_KEY": dbtest.Key, "STRIPE_CLIENT_ID": "ca_1", "STRIPE_SECRET_KEY": "sk_test_1",
		}
		maps.Copy(set, c.set)
		got, err := loadConfig(func(name string) string { return set[name] }, needs{database: true, key: true, stripe: true})
		if err != nil || got.connections() != c.want || got.connectionsOfQueues() != c.queues {
			t.Fatalf("%v: %v, or other pools than of %d and %d", c.set, err, c.want, c.queues)
		}
	}
}
