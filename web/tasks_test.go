package web_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/state"
)

// addTask stores a task of the caller's and returns its id.
func (c *caller) addTask(kind, status string) uuid.UUID {
	c.b.t.Helper()
	id := uuid.Must(uuid.NewV7())
	if _, err := c.b.pool.Exec(c.b.t.Context(), `INSERT INTO scheduled_tasks (merchant_id, id, kind, status, lease_until, finished_at)
		VALUES ($1, $2, $3, $4, CASE WHEN $4 = 'running' THEN now() END, CASE WHEN $4 IN ('succeeded', 'failed', 'canceled') THEN now() END)`,
		c.id, id, kind, status); err != nil {
		c.b.t.Fatal(err)
	}
	return id
}

func (c *caller) tasks(query string) page {
	c.b.t.Helper()
	got := c.call("GET", "/api/tasks"+query, "")
	var p page
	if err := json.Unmarshal([]byte(got.body), &p); err != nil || got.status != 200 {
		c.b.t.Fatalf("tasks %s: %d %s", query, got.status, got.body)
	}
	return p
}

// Anyone who reads to the end sees every task that was there at the start once, the newest first,
// though others are added on the way.
func TestTasksArePaged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c, neighbour := b.caller("acct_1"), b.caller("acct_2")
	var there []uuid.UUID
	for range 60 {
		there = append(there, c.addTask("audit", "succeeded"))
		neighbour.addTask("audit", "succeeded")
	}
	for _, limit := range []int{1, 7, 59, 60, 61, 200} {
		var seen []uuid.UUID
		want := slices.Clone(there)
		slices.Reverse(want)
		for cursor := ""; ; {
			p := c.tasks(fmt.Sprintf("?limit=%d%s", limit, cursor))
			for _, one := range p.Data {
				seen = append(seen, one.ID)
			}
			if p.NextCursor == nil {
				break
			}
			if len(p.Data) != limit {
				t.Fatalf("a page of %d holds %d before the last", limit, len(p.Data))
			}
			cursor = "&cursor=" + *p.NextCursor
			if len(there) < 70 {
				there = append(there, c.addTask("audit", "pending"))
			}
		}
		if !slices.Equal(seen, want) {
			t.Errorf("limit %d: %d tasks seen of %d, or in another order", limit, len(seen), len(want))
		}
	}
	if p := c.tasks(""); len(p.Data) != 50 {
		t.Errorf("%d tasks on a page by default", len(p.Data))
	}
	if p := c.tasks("?limit=2&cursor=" + cursorOf(there[2])); len(p.Data) != 2 || p.NextCursor != nil {
		t.Errorf("the end, full: %+v", p)
	}
}

func TestTaskFilters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.caller("acct_1")
	statuses := db.Texts(state.Tasks)
	for _, status := range statuses {
		c.addTask("audit", status)
		c.addTask("invoice_pay", status)
		if p := c.tasks("?status=" + status); len(p.Data) != 2 {
			t.Errorf("%d tasks are %s", len(p.Data), status)
		}
	}
	for query, want := range map[string]int{"": 14, "?kind=audit": 7, "?kind=audit&status=parked": 1, "?kind=email": 0} {
		if p := c.tasks(query); len(p.Data) != want || p.NextCursor != nil {
			t.Errorf("%s: %d tasks, want %d", query, len(p.Data), want)
		}
	}
	for query, field := range map[string]string{
		"cursor=": "cursor", "cursor=AAAAAAAAAAAAAAAAAAAAAA": "cursor", "cursor=x": "cursor", "limit=0": "limit", "limit=201": "limit", "limit=5&limit=5": "limit", "status=": "status", "status=open": "status",
		"status=pending,running": "status", "kind=": "kind", "kind=Audit": "kind", "kind=audit%0a": "kind", "kind=_a": "kind", "kind=a%00": "kind",
		"currency=usd": "query", "merchant_id=" + c.id.String(): "query", "%zz": "query",
	} {
		c.call("GET", "/api/tasks?"+query, "").wantInvalid(t, field)
	}
}

// A task reads as docs/api.md says, byte for byte, and never shows its params.
func TestTaskReads(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.caller("acct_1")
	bare, full := c.addTask("audit", "pending"), c.addTask("invoice_pay", "succeeded")
	if _, err := b.pool.Exec(t.Context(), `UPDATE scheduled_tasks SET run_at = '2026-11-01T10:00:00.5+02', params = '{"invoice":"in_hidden"}'`); err != nil {
		t.Fatal(err)
	}
	if _, err := b.pool.Exec(t.Context(), `UPDATE scheduled_tasks SET attempts = 2, first_sent_at = '2026-11-01T10:00:01+02', finished_at = '2026-11-01T10:00:02+02',
		outcome = '{"paid": true}', last_error = 'stripe answered 500' WHERE id = $1`, full); err != nil {
		t.Fatal(err)
	}
	want := `{"data":[{"id":"` + full.String() + `","kind":"invoice_pay","status":"succeeded","run_at":"2026-11-01T08:00:00.5Z","attempts":2,` +
		`"first_sent_at":"2026-11-01T08:00:01Z","finished_at":"2026-11-01T08:00:02Z","outcome":{"paid":true},"error":"stripe answered 500"},` +
		`{"id":"` + bare.String() + `","kind":"audit","status":"pending","run_at":"2026-11-01T08:00:00.5Z","attempts":0,` +
		`"first_sent_at":null,"finished_at":null,"outcome":null,"error":null}],"next_cursor":null}`
	if got := c.call("GET", "/api/tasks", ""); got.status != 200 || got.body != want {
		t.Errorf("%d\n%s\nwant\n%s", got.status, got.body, want)
	}
}
