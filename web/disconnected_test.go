package web_test

import (
	"net/http"
	"strings"
	"testing"
)

// A merchant who has left reads nothing of their customers and starts nothing. They may still end
// what PHANTOM does for them, and take back their providers' credentials.
func TestWhoHasLeft(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.caller("acct_left")
	ghost := c.add(seed{email: "someone@example.com"}).String()
	if _, err := b.pool.Exec(t.Context(), "UPDATE merchants SET access_token = NULL, refresh_token = NULL, disconnected_at = now() WHERE id = $1", c.id); err != nil {
		t.Fatal(err)
	}
	allowed := map[string]int{
		"DELETE /api/hunts/{id}": http.StatusNotFound, "POST /api/halt": http.StatusOK,
		// There is none.
		"DELETE /api/channels/resend": http.StatusNotFound, "DELETE /api/channels/twilio": http.StatusNotFound,
	}
	seen := 0
	for path, item := range contract().spec.Paths.Map() {
		for method, operation := range item.Operations() {
			if operation.Security == nil || len(*operation.Security) == 0 || isOfApps(operation) {
				continue
			}
			seen++
			address := strings.NewReplacer("{id}", ghost, "{channel}", "email", "{name}", "soft").Replace(path)
			body := ""
			if operation.RequestBody != nil {
				body = "{}"
			}
			got := c.call(method, address, body)
			if status, may := allowed[method+" "+path]; may {
				if got.status == http.StatusConflict || got.status/100 != status/100 {
					t.Errorf("%s %s: %d %s", method, path, got.status, got.body)
				}
				continue
			}
			if got.status != http.StatusConflict || !strings.Contains(got.body, "merchant_disconnected") {
				t.Errorf("%s %s: %d %s", method, path, got.status, got.body)
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d operations ask for a key", seen)
	}
	if strings.Contains(b.log.String(), "someone@example.com") {
		t.Error("the log names a customer")
	}
}

// A database that takes no writes is still read: noting the use of a key is no reason to refuse it.
// Who balances load is told that such a process is not ready.
func TestAKeyWorksOnAStandby(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.caller("acct_standby")
	if _, err := b.pool.Exec(t.Context(), "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$"); err != nil {
		t.Fatal(err)
	}
	if got := c.call("GET", "/readyz", ""); got.status != http.StatusOK {
		t.Errorf("a writable database: %d %s", got.status, got.body)
	}
	b.pool.Reset()
	for range 5 {
		c.call("GET", "/readyz", "").wantError(t, 503, "database_unavailable")
	}
	for _, path := range []string{"/api/summary", "/api/audit-log", "/api/ghosts"} {
		if got := c.call("GET", path, ""); got.status != http.StatusOK {
			t.Errorf("GET %s: %d %s", path, got.status, got.body)
		}
	}
	c.call("POST", "/api/halt", "").wantError(t, 503, "database_unavailable")
}
