package web_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// A policy that contradicts itself is refused with the field named, and one that nobody has seen is
// not enforced.
func TestAccessPolicy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.caller("acct_1")
	if got := c.call("GET", "/api/shield/policy", ""); got.status != 200 || !strings.Contains(got.body, `"version":0,"mode":"off"`) {
		t.Errorf("%d %s", got.status, got.body)
	}
	for body, field := range map[string]string{
		`{"ladder":{"steps":[{"level":"limited","after_days":0},{"level":"grace","after_days":3}]}}`: "ladder.steps[1]",
		`{"ladder":{"steps":[{"level":"grace","after_days":3},{"level":"limited","after_days":3}]}}`: "ladder.steps[1]",
		`{"breaker":{"max_customers_percent":101}}`:                                                  "breaker.max_customers_percent",
		`{"mode":"x"}`: "mode", `{"never":1}`: "body", `{"mode":null}`: "mode", `{"fail":{"max_stale":"1s"}}`: "fail.max_stale", `[]`: "body",
	} {
		got := c.call("PUT", "/api/shield/policy", body)
		var e struct{ Code, Field string }
		if err := json.Unmarshal([]byte(got.body), &e); err != nil || got.status != 400 || e.Code != "invalid_request" || !strings.HasPrefix(e.Field, field) {
			t.Errorf("%s: %d %s, want %s", body, got.status, got.body, field)
		}
	}
	const enforce = `{"mode":"enforce"}`
	c.call("PUT", "/api/shield/policy", enforce).wantError(t, 409, "preview_required")
	var preview struct{ Token string }
	got := c.call("POST", "/api/shield/preview", enforce)
	if err := json.Unmarshal([]byte(got.body), &preview); err != nil || preview.Token == "" {
		t.Fatalf("%d %s", got.status, got.body)
	}
	got = c.call("PUT", "/api/shield/policy", enforce, "Shield-Confirm", preview.Token)
	if got.status != 200 || !strings.Contains(got.body, `"version":1,"mode":"enforce"`) || got.header.Get("Shield-Revision") == "" {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
	if got := c.call("POST", "/api/shield/simulate", ""); got.status != 200 || !strings.Contains(got.body, `"debts":0`) {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// What people decide about a customer.
func TestAccessDecisions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.caller("acct_1")
	c.known()
	for body, field := range map[string]string{
		`{}`: "customer", `{"customer":"cus-1","level":"full"}`: "customer", `{"customer":"cus_never","level":"full"}`: "customer",
		`{"customer":"cus_known"}`: "level", `{"customer":"cus_known","level":"half"}`: "level", `{"customer":"cus_known","subscription":"sub_known","level":"full"}`: "customer",
		`{"customer":"cus_known","level":"full","until":"yesterday"}`: "until", `{"customer":"cus_known","level":"full","until":"2020-01-01T00:00:00Z"}`: "until",
		`{"customer":"cus_known","level":"full","note":"x"}`: "body",
	} {
		got := c.call("POST", "/api/shield/overrides", body)
		if got.status != 400 || !strings.Contains(got.body, `"field":"`+field+`"`) {
			t.Errorf("%s: %d %s, want %s", body, got.status, got.body, field)
		}
	}
	got := c.call("POST", "/api/shield/overrides", `{"subscription":"sub_known","level":"blocked"}`)
	var d struct{ ID, Customer string }
	if err := json.Unmarshal([]byte(got.body), &d); err != nil || got.status != 201 || d.Customer != "cus_known" || got.header.Get("Shield-Revision") == "" {
		t.Fatalf("%d %v %s", got.status, got.header, got.body)
	}
	if got := c.call("GET", "/api/shield/overrides", ""); !strings.Contains(got.body, d.ID) {
		t.Error(got.body)
	}
	if got := c.call("GET", "/api/shield/exemptions?limit=1", ""); got.body != `{"data":[],"next_cursor":null}` {
		t.Error(got.body)
	}
	if got := c.call("DELETE", "/api/shield/overrides/"+d.ID, ""); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	c.call("DELETE", "/api/shield/overrides/"+d.ID, "").wantError(t, 404, "not_found")
	for _, query := range []string{"", "?customer=cus_known", "?customer=cus_other"} {
		if got := c.call("GET", "/api/shield/transitions"+query, ""); got.status != 200 {
			t.Errorf("%s: %d %s", query, got.status, got.body)
		}
	}
	if got := c.call("GET", "/api/shield/transitions?customer=cus-1", ""); got.status != 400 {
		t.Errorf("%d %s", got.status, got.body)
	}
	until := time.Now().AddDate(0, 0, 20).UTC().Format(time.RFC3339)
	if got := c.call("POST", "/api/shield/promises", `{"customer":"cus_known","until":"`+until+`"}`); got.status != 400 || !strings.Contains(got.body, "within 14 days") {
		t.Errorf("%d %s", got.status, got.body)
	}
}
