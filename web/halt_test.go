package web_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
)

// haltedAt is what an answer says of it, "" for null.
func (c *caller) haltedAt(method, path, body string) string {
	c.b.t.Helper()
	got := c.call(method, path, body)
	var object map[string]any
	if err := json.Unmarshal([]byte(got.body), &object); err != nil || got.status >= 300 {
		c.b.t.Fatalf("%s %s: %d %s", method, path, got.status, got.body)
	}
	at, there := object["halted_at"]
	if !there {
		c.b.t.Errorf("%s %s: %s says nothing of halts", method, path, got.body)
	}
	text, _ := at.(string)
	return text
}

func TestHalt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c, neighbour := b.caller("acct_1"), b.caller("acct_2")
	c.put(everybody)
	c.add(seed{})
	all := func(want string) {
		t.Helper()
		if got := c.haltedAt("GET", "/api/summary", ""); got != want {
			t.Errorf("the summary says %q, want %q", got, want)
		}
		if got := c.haltedAt("POST", "/api/hunts", `{"ghosts":"all"}`); got != want {
			t.Errorf("hunts say %q, want %q", got, want)
		}
		if got := neighbour.haltedAt("GET", "/api/summary", ""); got != "" {
			t.Errorf("a neighbour's summary says %q", got)
		}
	}
	all("")
	if got := c.call("DELETE", "/api/halt", ""); got.status != 200 || got.body != `{"halted_at":null}` {
		t.Errorf("lifting nothing: %d %s", got.status, got.body)
	}
	since := c.haltedAt("POST", "/api/halt", "")
	if at, err := time.Parse(time.RFC3339, since); err != nil || time.Since(at).Abs() > time.Minute || since[len(since)-1] != 'Z' {
		t.Errorf("halted since %q", since)
	}
	all(since)
	for range 2 { // again, and by a neighbour
		if got := c.haltedAt("POST", "/api/halt", "{}"); got != since {
			t.Errorf("halted again since %q, first since %q", got, since)
		}
		if got := neighbour.haltedAt("DELETE", "/api/halt", ""); got != "" {
			t.Errorf("a neighbour is halted since %q", got)
		}
	}
	all(since)
	c.call("POST", "/api/halt", `{"merchant":"acct_2"}`).wantInvalid(t, "body")
	c.call("POST", "/api/halt", "[]").wantInvalid(t, "body")
	c.call("POST", "/api/halt", "{}", "Content-Type", "text/plain").wantError(t, 415, "unsupported_media_type")

	// The operator's stand beside it: none of a merchant's lifts them, and the first of all counts.
	for i, scope := range []uuid.UUID{c.id, uuid.Nil} {
		if _, err := b.pool.Exec(t.Context(), "INSERT INTO halts (scope, halted_at) VALUES ($1, $2)", scope, []string{"2026-11-20 08:30Z", "2026-11-19 08:30Z"}[i]); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.haltedAt("DELETE", "/api/halt", ""); got != "2026-11-19T08:30:00Z" {
		t.Errorf("after lifting: %q", got)
	}
	if n := c.b.Count("SELECT count(*) FROM halts WHERE by = 'operator'"); n != 2 {
		t.Errorf("%d of the operator's halts are left", n)
	}
	if _, err := b.pool.Exec(t.Context(), "DELETE FROM halts WHERE scope = $1", uuid.Nil); err != nil {
		t.Fatal(err)
	}
	all("2026-11-20T08:30:00Z")
	if _, err := b.pool.Exec(t.Context(), "DELETE FROM halts"); err != nil {
		t.Fatal(err)
	}
	all("")
}
