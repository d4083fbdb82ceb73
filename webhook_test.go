package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v76/webhook"

	"phantom/db/dbtest"
)

// The secret reaches the route, from a file too; without it there is one warning, and Stripe is
// told to come again.
func TestWebhookSecretOfTheEnvironment(t *testing.T) {
	t.Parallel()
	const secret, warning = "whsec_ofTheEnvironment", "[STRIPE] STRIPE_WEBHOOK_SECRET is not set"
	variables := production(t, dbtest.URL(t))
	body := `{"id":"evt_1","type":"invoice.paid","account":"acct_unknown","created":1700000000,"livemode":false,"data":{"object":{"id":"in_1"}}}`
	post := func(base string) int {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/api/webhooks/stripe", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Stripe-Signature", webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{
			Payload: []byte(body), Secret: secret, Timestamp: time.Now(),
		}).Header)
		response, err := browser(t).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	without, base := ready(t, variables)
	if status := post(base); status != http.StatusServiceUnavailable || strings.Count(without.stdout.String(), warning) != 1 {
		t.Errorf("without: %d\n%s", status, without.stdout)
	}
	variables["STRIPE_WEBHOOK_SECRET_FILE"] = filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(variables["STRIPE_WEBHOOK_SECRET_FILE"], []byte("whsec_old, "+secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	variables["PORT"] = freePort(t)
	with, base := ready(t, variables)
	if status := post(base); status != http.StatusOK || strings.Contains(with.stdout.String(), warning) || strings.Contains(with.stdout.String(), secret) {
		t.Errorf("with: %d\n%s", status, with.stdout)
	}
}
