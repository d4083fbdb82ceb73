package web_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

const day = 24 * time.Hour

// page is an answer to GET /api/ghosts.
type page struct {
	Data []struct {
		ID    uuid.UUID
		Email *string
	}
	NextCursor *string `json:"next_cursor"`
}

func (c *caller) list(query string) page {
	c.b.t.Helper()
	got := c.call("GET", "/api/ghosts"+query, "")
	var p page
	if err := json.Unmarshal([]byte(got.body), &p); err != nil || got.status != 200 {
		c.b.t.Fatalf("list %s: %d %s", query, got.status, got.body)
	}
	return p
}

// Anyone who reads to the end sees every ghost that was there at the start once, in one order,
// though others are added on the way.
func TestGhostsArePaged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c, neighbour := b.caller("acct_1"), b.caller("acct_2")
	var there []uuid.UUID
	for range 60 {
		there = append(there, c.add(seed{}))
		neighbour.add(seed{})
	}
	for _, limit := range []int{1, 7, 50, 59, 60, 61, 200} {
		var seen []uuid.UUID
		query, first := fmt.Sprintf("?limit=%d", limit), len(there)
		for cursor := ""; ; {
			p := c.list(query + cursor)
			if len(p.Data) > limit || len(p.Data) == 0 {
				t.Fatalf("%d ghosts on a page of %d", len(p.Data), limit)
			}
			for _, ghost := range p.Data {
				seen = append(seen, ghost.ID)
			}
			if p.NextCursor == nil {
				break
			}
			if len(p.Data) != limit {
				t.Errorf("a page of %d holds %d before the last", limit, len(p.Data))
			}
			cursor = "&cursor=" + *p.NextCursor
			if len(there) < first+10 {
				// as a webhook would; ids ascend, so it comes after all of these
				there = append(there, c.add(seed{}))
			}
		}
		if !slices.Equal(seen, there) {
			t.Errorf("limit %d: %d ghosts seen of %d, or in another order", limit, len(seen), len(there))
		}
	}
	if p := c.list(""); len(p.Data) != 50 {
		t.Errorf("%d ghosts on a page by default", len(p.Data))
	}
	// The last page that is full to the brim is the last all the same.
	if p := c.list(fmt.Sprintf("?limit=200&cursor=%s", cursorOf(there[len(there)-3]))); len(p.Data) != 2 || p.NextCursor != nil {
		t.Errorf("the end: %+v", p)
	}
	if p := c.list("?limit=2&cursor=" + cursorOf(there[len(there)-3])); len(p.Data) != 2 || p.NextCursor != nil {
		t.Errorf("the end, full: %+v", p)
	}
	if got := c.call("GET", "/api/ghosts?cursor="+cursorOf(there[len(there)-1]), ""); got.body != `{"data":[],"next_cursor":null}` {
		t.Errorf("behind the end: %s", got.body)
	}
}

func cursorOf(id uuid.UUID) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// A ghost reads as docs/api.md says, byte for byte.
func TestGhostReads(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.caller("acct_1")
	id := c.add(seed{customer: "cus_1", subscription: "sub_1", invoice: "in_1", email: "ann@example.com", amount: 4200, currency: "jpy",
		access: "proven", class: "timed", declineCode: "insufficient_funds", failed: day})
	bare := c.add(seed{customer: "cus_2", subscription: "sub_2", invoice: "in_2", amount: 1, status: "closed", reason: "paid"})
	if _, err := b.pool.Exec(t.Context(), `UPDATE ghost_targets SET first_failed_at = CASE WHEN first_failed_at IS NOT NULL THEN timestamptz '2026-11-01T10:00:00.5+02' END,
		last_failed_at = CASE WHEN first_failed_at IS NOT NULL THEN timestamptz '2026-11-02T10:00:00+02' END, discovered_at = '2026-11-03T10:00:00+02'`); err != nil {
		t.Fatal(err)
	}
	full := `{"id":"` + id.String() + `","customer":"cus_1","subscription":"sub_1","invoice":"in_1","kind":"owed","email":"ann@example.com","amount":4200,"currency":"jpy",` +
		`"access":"proven","status":"open","closed_reason":null,"rule":"an open invoice","decline_class":"timed","decline_code":"insufficient_funds","attempt_count":3,` +
		`"first_failed_at":"2026-11-01T08:00:00.5Z","last_failed_at":"2026-11-02T08:00:00Z","discovered_at":"2026-11-03T08:00:00Z","leaving":false,"resubscribed":false}`
	empty := `{"id":"` + bare.String() + `","customer":"cus_2","subscription":"sub_2","invoice":"in_2","kind":"owed","email":null,"amount":1,"currency":"usd",` +
		`"access":"presumed","status":"closed","closed_reason":"paid","rule":"an open invoice","decline_class":"unknown","decline_code":null,"attempt_count":3,` +
		`"first_failed_at":null,"last_failed_at":null,"discovered_at":"2026-11-03T08:00:00Z","leaving":false,"resubscribed":false}`
	for path, want := range map[string]string{
		"/api/ghosts/" + id.String(): full, "/api/ghosts/" + bare.String(): empty, "/api/ghosts": `{"data":[` + full + `,` + empty + `],"next_cursor":null}`,
	} {
		if got := c.call("GET", path, ""); got.status != 200 || got.body != want {
			t.Errorf("%s: %d\n%s\nwant\n%s", path, got.status, got.body, want)
		}
	}
	if strings.Contains(b.log.String()+b.plain.String(), "example.com") {
		t.Error("an email stands in the log")
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.caller("acct_1")
	classes := []string{"never", "customer", "timed", "low", "soon", "unknown"}
	for i := range 24 {
		s := seed{amount: int64(i + 1), class: classes[i%6], currency: []string{"usd", "eur", "jpy"}[i%3]}
		if i%4 == 0 {
			s.status, s.reason = "closed", "paid"
		}
		c.add(s)
	}
	c.add(seed{kind: "written_off", currency: "gbp"})
	c.add(seed{kind: "charged_back", currency: "gbp"})
	c.add(seed{kind: "charged_back", currency: "gbp", status: "closed", reason: "paid"})
	for query, want := range map[string]int{
		"?kind=all": 27, "?kind=owed": 24, "?kind=written_off": 1, "?kind=charged_back": 2, "?kind=charged_back&status=open": 1,
		"?currency=gbp": 0, "?currency=gbp&kind=all": 3,
		"": 24, "?status=open": 18, "?status=closed": 6, "?currency=usd": 8, "?currency=xxx": 0, "?decline_class=never": 4,
		"?min_amount=0": 24, "?min_amount=24": 1, "?min_amount=25": 0, "?min_amount=999999999999999999": 0,
		"?status=open&currency=eur&decline_class=soon&min_amount=5": 2, "?status=closed&min_amount=13": 3,
	} {
		if p := c.list(query); len(p.Data) != want || p.NextCursor != nil {
			t.Errorf("%s: %d ghosts, want %d", query, len(p.Data), want)
		}
	}
	p := c.list("?currency=usd&limit=5")
	if rest := c.list("?currency=usd&limit=5&cursor=" + *p.NextCursor); len(rest.Data) != 3 {
		t.Errorf("%d ghosts on the second page of a filter", len(rest.Data))
	}
}

func TestBadParameters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.caller("acct_1")
	id := c.add(seed{})
	good := cursorOf(id)
	for query, field := range map[string]string{
		"cursor=": "cursor", "cursor=AAAAAAAAAAAAAAAAAAAAAA": "cursor", "cursor=x": "cursor", "cursor=" + id.String(): "cursor", "cursor=" + good + "x": "cursor", "cursor=" + good[:21]: "cursor",
		"cursor=" + good[:21] + "_": "cursor", "cursor=" + good + "%3D%3D": "cursor", "cursor=" + good + "%0a": "cursor", "cursor=" + good + "&cursor=" + good: "cursor",
		"limit=": "limit", "limit=0": "limit", "limit=201": "limit", "limit=-1": "limit", "limit=1.5": "limit", "limit=1e2": "limit", "limit=%201": "limit",
		"limit=%2B1": "limit", "limit=99999999999999999999": "limit", "limit=0x10": "limit", "limit=１": "limit", "limit=5&limit=5": "limit",
		"status=": "status", "status=OPEN": "status", "status=open,closed": "status", "status=open&status=closed": "status",
		"min_amount=": "min_amount", "min_amount=-1": "min_amount", "min_amount=1.0": "min_amount", "min_amount=9223372036854775808": "min_amount",
		"currency=": "currency", "currency=USD": "currency", "currency=us": "currency", "currency=usd%00": "currency", "currency=usd%0a": "currency",
		"decline_class=": "decline_class", "decline_class=none": "decline_class", "decline_class=%27": "decline_class",
		"kind=": "kind", "kind=ALL": "kind", "kind=owed,written_off": "kind", "kind=owed&kind=all": "kind",
		"stauts=open": "query", "limit[]=5": "query", "a;b": "query", "limit=5;status=open": "query", "%zz": "query", "limit=%": "query",
		"limit=0&status=x": "limit", // of two the first in a fixed order
	} {
		c.call("GET", "/api/ghosts?"+query, "").wantInvalid(t, field)
	}
	access := "/api/ghosts/" + id.String() + "/access"
	for body, field := range map[string]string{
		"{}": "access", `{"access":null}`: "access", `{"access":""}`: "access", `{"access":"None"}`: "access", `{"access":"presumed"}`: "access", `{"access":1}`: "access",
		`{"access":"none","access":"none"}`: "body", `{"access":"none","\u0061ccess":"proven"}`: "body",
		`{"access":["none"]}`: "access", `{"access":{"none":1}}`: "access", `{"Access":"none"}`: "body", `{"access":"none","reason":"x"}`: "body",
		"null": "body", "[]": "body", `"none"`: "body", "1": "body", "{": "body", `{"access":"none"`: "body", `{"access":"none"}}`: "body", `{"access":"none"}{}`: "body",
		"access=none": "body", "\xff": "body", "\xef\xbb\xbf{\"access\":\"none\"}": "body", strings.Repeat("[", 60000): "body", strings.Repeat(`{"access":`, 6000): "body",
	} {
		c.call("POST", access, body).wantInvalid(t, field)
	}
	c.call("POST", access, "").wantInvalid(t, "access")
	c.call("POST", "/api/audits", `{"since":1}`).wantInvalid(t, "body")
	c.call("POST", "/api/audits", "[]").wantInvalid(t, "body")
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "application/json,text/plain", "multipart/form-data; boundary=x"} {
		c.call("POST", access, `{"access":"none"}`, "Content-Type", kind).wantError(t, 415, "unsupported_media_type")
		c.call("POST", "/api/audits", `{}`, "Content-Type", kind).wantError(t, 415, "unsupported_media_type")
	}
	large := `{"access":"none"` + strings.Repeat(" ", 64<<10) + `}`
	c.call("POST", access, large).wantError(t, 413, "request_too_large")
	chunked := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: phantom\r\nConnection: close\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n",
		access, c.key, len(large), large)
	b.raw(chunked)[0].wantError(t, 413, "request_too_large")
	if got := c.call("GET", "/api/ghosts/"+id.String(), ""); !strings.Contains(got.body, `"status":"open"`) {
		t.Errorf("a refused request changed the ghost: %s", got.body)
	}
	if got := c.call("POST", access, ` {"access" : "none"} `, "Content-Type", "Application/JSON; charset=utf-8"); got.status != 200 {
		t.Errorf("a good one: %d %s", got.status, got.body)
	}
	if len(b.lines()) != 0 {
		t.Errorf("what clients did wrong was logged: %+v", b.lines())
	}
}

// noFigures is the summary's recovery before the first hunt.
const noFigures = `{"currencies":{},"costs":{"charges":0,"emails":0,"sms":0},"hunts":{"active":0,"recovered":0,"exhausted":0,"stopped":0,"held_out":0},` +
	`"uplift":{"treated":{"customers":0,"recovered":0},"held_out":{"customers":0,"recovered":0},"waiting":0,"difference":null,"low":null,"high":null,` +
	`"detectable":null,"verdict":"not enough data yet"},"watched":{"hunts":0,"currencies":{}}}`

func TestSummary(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c, neighbour := b.caller("acct_1"), b.caller("acct_2")
	const empty = `{"currencies":{},"written_off":{},"charged_back":{},"decline_classes":{"customer":0,"low":0,"never":0,"soon":0,"timed":0,"unknown":0},` +
		`"ages":{"0-7":0,"31-90":0,"8-30":0,"91-365":0,"over_365":0},"wasted_attempts":0,"days_given_away":0,"halted_at":null,"recovery":` + noFigures + "}"
	if got := c.call("GET", "/api/summary", ""); got.body != empty {
		t.Errorf("of nothing: %s", got.body)
	}
	for _, days := range []int{1, 7, 8, 30, 31, 90, 91, 365, 366, 1000} {
		// in each bucket its first and its last day
		c.add(seed{failed: time.Duration(days)*day + time.Hour, amount: 100, class: "timed"})
	}
	c.add(seed{failed: time.Hour, amount: 1, hidden: true, class: "never"})
	// an age, but no days: nothing has failed
	c.add(seed{discovered: 40*day + time.Hour, amount: 5, currency: "jpy"})
	c.add(seed{failed: 5 * day, status: "closed", reason: "paid", amount: 7, currency: "eur"})
	neighbour.add(seed{failed: 50 * day, currency: "gbp"})
	// The last one failed early.
	for _, totals := range []string{`{"wasted_attempts":5}`, `{"wasted_attempts":17,"days_given_away":1}`, `{}`} {
		if _, err := b.pool.Exec(t.Context(), `INSERT INTO audits (merchant_id, id, state, ticket, livemode, totals, finished_at)
			VALUES ($1, $2, 'succeeded', 1, false, $3, now())`, c.id, uuid.Must(uuid.NewV7()), totals); err != nil {
			t.Fatal(err)
		}
	}
	// Those of the other kinds are apart, and in no other figure.
	c.add(seed{failed: 200 * day, amount: 800, kind: "written_off"})
	c.add(seed{failed: 300 * day, amount: 900, kind: "charged_back", class: "never"})
	want := `{"currencies":{"jpy":{"owed":5,"ghosts":1,"hidden":0},"usd":{"owed":1001,"ghosts":11,"hidden":1}},` +
		`"written_off":{"usd":{"owed":800,"ghosts":1,"hidden":0}},"charged_back":{"usd":{"owed":900,"ghosts":1,"hidden":0}},` +
		`"decline_classes":{"customer":0,"low":0,"never":1,"soon":0,"timed":10,"unknown":1},` +
		`"ages":{"0-7":3,"31-90":3,"8-30":2,"91-365":2,"over_365":2},"wasted_attempts":17,"days_given_away":1989,"halted_at":null,"recovery":` + noFigures + "}"
	if got := c.call("GET", "/api/summary", ""); got.status != 200 || got.body != want {
		t.Errorf("got  %s\nwant %s", got.body, want)
	}
}

func TestAudits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.caller("acct_1")
	start := func(body string) (id uuid.UUID) {
		t.Helper()
		got := c.call("POST", "/api/audits", body)
		var answer struct{ ID uuid.UUID }
		if err := json.Unmarshal([]byte(got.body), &answer); err != nil || got.status != 202 || got.body != `{"id":"`+answer.ID.String()+`"}` {
			t.Fatalf("start: %d %s", got.status, got.body)
		}
		return answer.ID
	}
	id := start("")
	if again := start("{}"); again != id {
		t.Errorf("a second audit %s runs beside %s", again, id)
	}
	path := "/api/audits/" + id.String()
	exec := func(statement string, args ...any) {
		t.Helper()
		if _, err := b.pool.Exec(t.Context(), statement, args...); err != nil {
			t.Fatal(err)
		}
	}
	want := func(body string) {
		t.Helper()
		if got := c.call("GET", path, ""); got.status != 200 || got.body != `{"id":"`+id.String()+`",`+body+`}` {
			t.Errorf("got %d %s\nwant %s", got.status, got.body, body)
		}
	}
	want(`"state":"running","progress":{"objects":0,"windows_done":0,"windows":5},"totals":{},"written_off":{},"charged_back":{},"error":null`)
	for i, state := range []string{"done", "done", "open", "failed"} {
		exec(`INSERT INTO audit_windows (merchant_id, audit_id, id, list, from_at, to_at, state, objects, error)
			VALUES ($1, $2, $3, 'charges', now(), now() + interval '1 day', $4, $5, CASE WHEN $4 = 'failed' THEN 'x' END)`,
			c.id, id, uuid.Must(uuid.NewV7()), state, 100*(i+1))
	}
	want(`"state":"running","progress":{"objects":1000,"windows_done":2,"windows":9},"totals":{},"written_off":{},"charged_back":{},"error":null`)
	totals := `{"currencies":{"usd":{"owed":123,"at_risk":9,"ghosts":2,"hidden":1},"jpy":{"owed":5,"at_risk":0,"ghosts":1,"hidden":0}},"written_off":{"usd":{"owed":7,"at_risk":0,"ghosts":1,"hidden":0}},"wasted_attempts":3,"fees_risked":{"usd":4},"days_given_away":8}`
	exec(`UPDATE audits SET state = 'failed', totals = $1, error = 'charges of May 2026: Stripe answered 500', finished_at = now(), objects = 1200`, totals)
	want(`"state":"failed","progress":{"objects":1200,"windows_done":2,"windows":9},"totals":{"jpy":{"owed":5,"ghosts":1,"hidden":0},"usd":{"owed":123,"ghosts":2,"hidden":1}},` +
		`"written_off":{"usd":{"owed":7,"ghosts":1,"hidden":0}},"charged_back":{},"error":"charges of May 2026: Stripe answered 500"`)
	if next := start(""); next == id {
		t.Error("the audit that has ended was attached to")
	}
}

func TestAccess(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.caller("acct_1")
	set := func(id uuid.UUID, access, status, reason, accessNow string) {
		t.Helper()
		got := c.call("POST", "/api/ghosts/"+id.String()+"/access", `{"access":"`+access+`"}`)
		if reason != "null" {
			reason = `"` + reason + `"`
		}
		for _, want := range []string{`"status":"` + status + `"`, `"closed_reason":` + reason, `"access":"` + accessNow + `"`, `"amount":77`} {
			if got.status != 200 || !strings.Contains(got.body, want) {
				t.Errorf("%s: got %d %s, want %s", access, got.status, got.body, want)
			}
		}
		if read := c.call("GET", "/api/ghosts/"+id.String(), ""); read.body != got.body {
			t.Errorf("the answer differs from what is there: %s", read.body)
		}
	}
	tasks := func() (n int) {
		t.Helper()
		if err := b.pool.QueryRow(t.Context(), "SELECT count(*) FROM scheduled_tasks WHERE merchant_id = $1", c.id).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	open := c.add(seed{amount: 77})
	set(open, "proven", "open", "null", "proven")
	if tasks() != 0 {
		t.Error("a refresh that nobody needs")
	}
	set(open, "none", "closed", "no_access", "presumed")
	set(open, "none", "closed", "no_access", "presumed")
	// Stripe is asked before it opens again
	set(open, "proven", "closed", "access_proven", "proven")
	if tasks() == 0 {
		t.Error("nobody looks whether the ghost still owes")
	}
	paid := c.add(seed{amount: 77, status: "closed", reason: "paid"})
	before := tasks()
	set(paid, "proven", "closed", "paid", "proven")
	// A canceled one may owe, now that there is evidence of access: Stripe is asked about any.
	if tasks() != before+1 {
		t.Error("nobody looks whether a closed ghost owes")
	}
	set(paid, "none", "closed", "no_access", "presumed") // stays closed through a relapse
	if p := c.list("?status=open"); len(p.Data) != 0 {
		t.Errorf("%d ghosts are open", len(p.Data))
	}
}
