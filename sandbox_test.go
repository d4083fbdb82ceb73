package main

import (
	"encoding/json"
	"fmt"
	"io"
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

// Who uses a sandbox of a process of its own can connect the sandbox's accounts as channels, and
// nothing goes to Resend or Twilio: they would not know the keys.
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
