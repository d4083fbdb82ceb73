package web_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/task"
)

const defaultPlaybook = `{"version":0,"mode":"observe","take_over":false,"max_attempts":8,"card_budget":15,"window_days":30,"min_amount":{},"daily_cap":{},` +
	`"quiet_hours":{"from":"21:00","to":"08:00","zone":"customer"},"steps":[{"after_days":0,"channel":"email","template":"payment_failed"},` +
	`{"after_days":4,"channel":"email","template":"reminder"},{"after_days":12,"channel":"email","template":"last_notice"}],"final_step":"none","holdout_percent":5,"give_back":true,"final_step_if_paying":false,` +
	`"auto":true,"max_debt_age_days":120,"when_leaving":"message","exclude":{"customers":[],"products":[],"prices":[]},"written_off":false,"resubscribed":false,"segments":[]}`

// channel sets up the one that the default playbook's steps want.
func (c *caller) channel() {
	c.b.t.Helper()
	if got := c.call("PUT", "/api/channels/resend", goodResend); got.status != 200 {
		c.b.t.Fatalf("PUT /api/channels/resend: %d %s", got.status, got.body)
	}
}

// put stores a playbook.
func (c *caller) put(body string) {
	c.b.t.Helper()
	if got := c.call("PUT", "/api/playbook", body); got.status != 200 {
		c.b.t.Fatalf("PUT /api/playbook: %d %s", got.status, got.body)
	}
}

// everybody is a playbook that hunts everybody who is asked for, and writes to nobody.
const everybody = `{"mode":"recover","holdout_percent":0,"steps":[],"auto":false}`

func TestPlaybook(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c, neighbour := b.caller("acct_1"), b.caller("acct_2")
	want := func(body string) {
		t.Helper()
		if got := c.call("GET", "/api/playbook", ""); got.status != 200 || got.body != body {
			t.Errorf("got %d %s\nwant %s", got.status, got.body, body)
		}
	}
	want(defaultPlaybook)
	changed := strings.NewReplacer(`"version":0`, `"version":1`, `"window_days":30`, `"window_days":20`, `"min_amount":{}`, `"min_amount":{"usd":500}`).Replace(defaultPlaybook)
	if got := c.call("PUT", "/api/playbook", `{"window_days":20,"min_amount":{"usd":500}}`); got.status != 200 || got.body != changed {
		t.Errorf("got %d %s\nwant %s", got.status, got.body, changed)
	}
	want(changed)
	if got := c.call("PUT", "/api/playbook?dry_run=true", everybody); got.status != 200 {
		t.Errorf("a dry run: %d %s", got.status, got.body)
	}
	want(changed)
	for i, query := range []string{"", "?dry_run=false"} { // the whole is replaced
		if got := c.call("PUT", "/api/playbook"+query, "{}"); got.status != 200 || got.body != strings.Replace(defaultPlaybook, `"version":0`, fmt.Sprintf(`"version":%d`, i+2), 1) {
			t.Errorf("got %d %s", got.status, got.body)
		}
	}
	if got := neighbour.call("GET", "/api/playbook", ""); got.body != defaultPlaybook {
		t.Errorf("a neighbour's: %s", got.body)
	}
	for body, field := range map[string]string{
		"": "body", "[]": "body", "null": "body", "null x": "body", `{"x":1}`: "body", `{"version":1}`: "body", `{"mode":"x"}`: "mode", `{"mode":"off","mode":"off"}`: "mode", `{"max_attempts":1e99}`: "max_attempts",
		`{"quiet_hours":{"zone":"x"}}`: "quiet_hours.zone", `{"steps":[{"channel":"fax","template":"x"}]}`: "steps[0].channel", `{"min_amount":{"USD":1}}`: "min_amount",
		// in mode observe too
		`{"daily_cap":{"uds":1}}`: "daily_cap", `{"mode":null}`: "mode", `{"steps":[{"channel":"sms","template":"none_such"}]}`: "steps[0].template",
	} {
		c.call("PUT", "/api/playbook", body).wantInvalid(t, field)
		c.call("PUT", "/api/playbook?dry_run=true", body).wantInvalid(t, field)
	}
	for query, field := range map[string]string{
		"dry_run=": "dry_run", "dry_run=1": "dry_run", "dry_run=TRUE": "dry_run", "dry_run=true&dry_run=true": "dry_run", "dryrun=true": "query", "%zz": "query",
	} {
		c.call("PUT", "/api/playbook?"+query, everybody).wantInvalid(t, field)
	}
	ids := strings.TrimSuffix(strings.Repeat(`"cus_0123456789abcdefgh",`, 1000), ",")
	long := `{"exclude":{"customers":[` + ids + `],"products":[` + strings.ReplaceAll(ids, "cus", "prod") + `],"prices":[` + strings.ReplaceAll(ids, "cus", "price") + `]}}`
	if got := c.call("PUT", "/api/playbook?dry_run=true", long); got.status != 200 {
		t.Errorf("a playbook of %d bytes: %d %s", len(long), got.status, got.body)
	}
	c.call("PUT", "/api/playbook", everybody, "Content-Type", "text/plain").wantError(t, 415, "unsupported_media_type")
	c.call("PUT", "/api/playbook", everybody+strings.Repeat(" ", 512<<10)).wantError(t, 413, "request_too_large")
	if n := c.b.Count("SELECT count(*) FROM playbooks"); n != 3 {
		t.Errorf("%d playbooks are stored", n)
	}
}

type started struct {
	Hunts   int
	HeldOut int `json:"held_out"`
	Skipped int
}

func (c *caller) hunt(body string) (s started) {
	c.b.t.Helper()
	got := c.call("POST", "/api/hunts", body)
	if err := json.Unmarshal([]byte(got.body), &s); err != nil || got.status != 202 {
		c.b.t.Fatalf("POST /api/hunts: %d %s", got.status, got.body)
	}
	return s
}

type allStarted struct {
	ID       uuid.UUID
	State    string
	Ghosts   int
	LookedAt int `json:"looked_at"`
	started
	Error *string
}

func (c *caller) allStarted(got answer) (s allStarted) {
	c.b.t.Helper()
	if err := json.Unmarshal([]byte(got.body), &s); err != nil || got.status >= 300 {
		c.b.t.Fatalf("%d %s", got.status, got.body)
	}
	return s
}

func (c *caller) huntAll() allStarted {
	c.b.t.Helper()
	got := c.call("POST", "/api/hunts", `{"ghosts":"all"}`)
	if got.status != 202 {
		c.b.t.Fatalf("POST /api/hunts: %d %s", got.status, got.body)
	}
	return c.allStarted(got)
}

// huntEveryone begins hunts of all, and waits until they have begun.
func (c *caller) huntEveryone() {
	c.b.t.Helper()
	c.b.run(c.id, c.huntAll().ID)
}

// run does one task.
func (b *bench) run(merchant, id uuid.UUID) {
	b.t.Helper()
	queue, err := task.NewQueue(b.pool, task.Config{
		ListenURL: b.pool.Config().ConnString(), Handlers: b.hunts.Handlers(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := queue.RunOne(b.t.Context(), merchant, id); err != nil {
		b.t.Fatal(err)
	}
}

func TestHuntsAreStarted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c, neighbour := b.caller("acct_1"), b.caller("acct_2")
	c.put(`{"mode":"off"}`)
	c.call("POST", "/api/hunts", `{"ghosts":"all"}`).wantInvalid(t, "mode")
	c.put(`{"mode":"recover","holdout_percent":0,"steps":[],"auto":false,"min_amount":{"usd":500}}`)
	first, second := c.add(seed{}), c.add(seed{})
	c.add(seed{amount: 499})
	closed := c.add(seed{status: "closed", reason: "paid"})
	foreign := neighbour.add(seed{})
	list := func(ids ...uuid.UUID) string {
		text, _ := json.Marshal(map[string]any{"ghosts": append([]uuid.UUID{}, ids...)})
		return string(text)
	}
	for body, field := range map[string]string{
		"": "ghosts", "{}": "ghosts", `{"ghosts":null}`: "ghosts", `{"ghosts":"some"}`: "ghosts", `{"ghosts":"ALL"}`: "ghosts", `{"ghosts":true}`: "ghosts", `{"ghosts":{}}`: "ghosts",
		`{"ghosts":"none","ghosts":"all"}`: "body", `{"ghosts":[],"\u0067hosts":"all"}`: "body", `{"ghosts":"all"} {}`: "body",
		`{"ghosts":[null]}`: "ghosts", `{"ghosts":[1]}`: "ghosts", `{"ghosts":[["x"]]}`: "ghosts", `{"ghosts":"all","x":1}`: "body", `{"Ghosts":"all"}`: "body", `"all"`: "body", "[]": "body", "null": "body",
	} {
		c.call("POST", "/api/hunts", body).wantInvalid(t, field)
	}
	for _, body := range []string{ // nothing begins, not even what is right
		list(first, uuid.Must(uuid.NewV7())), list(first, foreign), list(first, uuid.Nil), `{"ghosts":["` + first.String() + `","x"]}`,
		`{"ghosts":["` + strings.ToUpper(first.String()) + `"]}`, `{"ghosts":[""]}`,
	} {
		c.call("POST", "/api/hunts", body).wantError(t, 404, "not_found")
	}
	if n := c.b.Count("SELECT count(*) FROM hunts"); n != 0 {
		t.Fatalf("%d hunts have begun", n)
	}
	for body, want := range map[string]started{list(): {}, list(closed): {Skipped: 1}} {
		if got := c.hunt(body); got != want {
			t.Errorf("%s: %+v, want %+v", body, got, want)
		}
	}
	if got := c.hunt(list(first, first)); got != (started{Hunts: 1}) {
		t.Errorf("one ghost: %+v", got)
	}
	if got := c.hunt(list(first, second)); got != (started{Hunts: 1, Skipped: 1}) {
		t.Errorf("one more: %+v", got)
	}
	third := c.add(seed{})
	all := c.huntAll()
	if all.State != "running" || all.Ghosts != 4 || all.LookedAt != 0 || all.started != (started{}) || all.Error != nil {
		t.Errorf("all: %+v", all)
	}
	if again := c.huntAll(); again != all {
		t.Errorf("all once more: %+v", again)
	}
	path := "/api/hunts/starts/" + all.ID.String()
	neighbour.call("GET", path, "").wantError(t, 404, "not_found")
	c.call("GET", "/api/hunts/starts/"+strings.ToUpper(all.ID.String()), "").wantError(t, 404, "not_found")
	c.b.run(c.id, all.ID)
	got := c.call("GET", path, "")
	want := allStarted{ID: all.ID, State: "succeeded", Ghosts: 4, LookedAt: 4, started: started{Hunts: 1, Skipped: 1}}
	if c.allStarted(got) != want {
		t.Errorf("all, at its end: %s", got.body)
	}
	if n := c.b.Count("SELECT count(*) FROM hunts WHERE ghost_id IN ($1, $2, $3) AND merchant_id = $4", first, second, third, c.id); n != 3 {
		t.Errorf("%d hunts", n)
	}
	if n := c.b.Count("SELECT count(*) FROM hunts WHERE merchant_id = $1", neighbour.id); n != 0 {
		t.Errorf("%d hunts of a neighbour's", n)
	}
}

type huntPage struct {
	Data []struct {
		ID, Ghost uuid.UUID
		State     string
	}
	NextCursor *string `json:"next_cursor"`
}

func (c *caller) hunts(query string) (p huntPage) {
	c.b.t.Helper()
	got := c.call("GET", "/api/hunts"+query, "")
	if err := json.Unmarshal([]byte(got.body), &p); err != nil || got.status != 200 {
		c.b.t.Fatalf("GET /api/hunts%s: %d %s", query, got.status, got.body)
	}
	return p
}

func TestHuntsAreListed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c, neighbour := b.caller("acct_1"), b.caller("acct_2")
	if got := c.call("GET", "/api/hunts", ""); got.body != `{"data":[],"next_cursor":null}` {
		t.Errorf("none: %s", got.body)
	}
	for _, one := range []*caller{c, neighbour} {
		one.put(everybody)
		for range 60 {
			one.add(seed{})
		}
		one.huntEveryone()
	}
	for _, limit := range []int{1, 7, 59, 60, 61, 200} {
		var seen []uuid.UUID
		for cursor := ""; ; {
			p := c.hunts(fmt.Sprintf("?limit=%d%s", limit, cursor))
			for _, hunt := range p.Data {
				seen = append(seen, hunt.ID)
			}
			if p.NextCursor == nil {
				break
			}
			cursor = "&cursor=" + *p.NextCursor
		}
		newestFirst := func(a, b uuid.UUID) int { return strings.Compare(b.String(), a.String()) }
		if len(seen) != 60 || !slices.IsSortedFunc(seen, newestFirst) || len(slices.Compact(seen)) != 60 {
			t.Errorf("limit %d: %d hunts, or in another order", limit, len(seen))
		}
	}
	if p := c.hunts(""); len(p.Data) != 50 || p.NextCursor == nil {
		t.Errorf("%d hunts on a page by default", len(p.Data))
	}
	stopped := c.hunts("?limit=1").Data[0].ID
	c.call("DELETE", "/api/hunts/"+stopped.String(), "")
	for query, want := range map[string]int{"?limit=200&state=active": 59, "?state=stopped": 1, "?state=recovered": 0, "?state=exhausted": 0} {
		if p := c.hunts(query); len(p.Data) != want {
			t.Errorf("%s: %d hunts, want %d", query, len(p.Data), want)
		}
	}
	ghost := c.hunts("?state=stopped").Data[0].Ghost
	for query, want := range map[string]int{"": 1, "&state=stopped": 1, "&state=active": 0, "&cursor=" + cursorOf(stopped): 0} {
		if p := c.hunts("?ghost=" + ghost.String() + query); len(p.Data) != want || want > 0 && p.Data[0].ID != stopped {
			t.Errorf("a ghost's hunts%s: %+v, want %d", query, p.Data, want)
		}
	}
	if p := neighbour.hunts("?ghost=" + ghost.String()); len(p.Data) != 0 {
		t.Errorf("a neighbour sees %d hunts of the ghost", len(p.Data))
	}
	if s := c.hunt(`{"ghosts":["` + ghost.String() + `"]}`); s.Hunts != 1 {
		t.Errorf("hunted again: %+v", s)
	}
	newest := c.hunts("?limit=1&ghost=" + ghost.String())
	if len(newest.Data) != 1 || newest.Data[0].State != "active" || newest.NextCursor == nil {
		t.Fatalf("the newest hunt of a ghost: %+v", newest)
	}
	if p := c.hunts("?limit=1&ghost=" + ghost.String() + "&cursor=" + *newest.NextCursor); len(p.Data) != 1 || p.Data[0].ID != stopped || p.NextCursor != nil {
		t.Errorf("the hunt before it: %+v", p)
	}
	for query, field := range map[string]string{
		"ghost=": "ghost", "ghost=x": "ghost", "cursor=": "cursor", "cursor=AAAAAAAAAAAAAAAAAAAAAA": "cursor", "cursor=x": "cursor", "limit=0": "limit", "limit=201": "limit", "limit=x": "limit", "limit=5&limit=5": "limit", "state=": "state", "state=ACTIVE": "state",
		"state=active,stopped": "state", "state=active&state=active": "state", "status=active": "query", "%zz": "query",
	} {
		c.call("GET", "/api/hunts?"+query, "").wantInvalid(t, field)
	}
}

// A hunt reads as docs/api.md says, byte for byte, from its beginning to its stop.
func TestHuntReads(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.caller("acct_1")
	c.put(everybody)
	ghost := c.add(seed{amount: 4200, currency: "jpy", class: "timed", failed: day})
	c.hunt(`{"ghosts":["` + ghost.String() + `"]}`)
	id := c.hunts("").Data[0].ID
	task := uuid.Must(uuid.NewV7())
	at := time.Date(2026, 11, 1, 10, 0, 0, 500e6, time.FixedZone("", 7200))
	queries := db.New(b.pool)
	for _, statement := range []string{
		"UPDATE hunts SET began_at = $2, charges = 1 WHERE id = $1", "UPDATE hunt_notes SET noted_at = $2 WHERE hunt_id = $1",
		`INSERT INTO recoveries (merchant_id, invoice, hunt_id, currency, amount, cause, recovered_at)
			SELECT merchant_id, customer, id, 'jpy', 4200, 'email', $2 FROM hunts WHERE id = $1`,
	} {
		if _, err := b.pool.Exec(t.Context(), statement, id, at); err != nil {
			t.Fatal(err)
		}
	}
	object := make([]byte, 32)
	number, err := queries.AttemptCreate(t.Context(), db.AttemptCreateParams{
		MerchantID: c.id, Object: object, Action: "invoice_pay", TaskID: task, HuntID: id, Customer: object, Currency: "jpy", Amount: 4200,
		Reason: "a Friday", Probability: 0.25, PlannedFor: at,
	})
	if err != nil || number != 1 {
		t.Fatal(number, err)
	}
	if _, err := b.pool.Exec(t.Context(), "UPDATE attempts SET sent_at = $2, result = 'declined', decline_class = 'timed', decline_code = 'insufficient_funds' WHERE task_id = $1", task, at); err != nil {
		t.Fatal(err)
	}
	const when = `"2026-11-01T08:00:00.5Z"`
	hunt := `{"id":"` + id.String() + `","ghost":"` + ghost.String() + `","mode":"recover","held_out":false,"state":"active","ended_reason":null,"decline_class":"timed","currency":"jpy",` +
		`"amount":4200,"charges":1,"messages":0,"charges_over":null,"began_at":` + when + `,"ended_at":null,"playbook_version":1`
	story := hunt + `,"attempts":[{"action":"invoice_pay","number":1,"amount":4200,"currency":"jpy","planned_for":` + when + `,"sent_at":` + when + `,"result":"declined",` +
		`"decline_class":"timed","decline_code":"insufficient_funds","reason":"a Friday","probability":0.25,"task":"` + task.String() + `","advice":null}],` +
		`"recoveries":[{"amount":4200,"currency":"jpy","cause":"email","recovered_at":` + when + `}],` +
		`"history":[{"at":` + when + `,"note":"begun in mode recover with version 1 of the playbook","task":null}]}`
	path := "/api/hunts/" + id.String()
	for address, want := range map[string]string{path: story, "/api/hunts": `{"data":[` + hunt + `}],"next_cursor":null}`} {
		if got := c.call("GET", address, ""); got.status != 200 || got.body != want {
			t.Errorf("%s: %d\n%s\nwant\n%s", address, got.status, got.body, want)
		}
	}
	got := c.call("DELETE", path, "")
	for _, want := range []string{`"state":"stopped"`, `"ended_reason":"stopped by the merchant"`, `"note":"stopped: stopped by the merchant"`} {
		if got.status != 200 || !strings.Contains(got.body, want) {
			t.Errorf("stopped: %d %s, want %s", got.status, got.body, want)
		}
	}
	if again := c.call("DELETE", path, ""); again.status != 200 || again.body != got.body || c.call("GET", path, "").body != got.body {
		t.Errorf("stopped again: %d %s", again.status, again.body)
	}
	if n := c.b.Count("SELECT count(*) FROM scheduled_tasks WHERE kind = 'hunt' AND status = 'pending' AND params ->> 'do' <> 'account'"); n != 0 {
		t.Errorf("%d tasks of a hunt that is stopped wait", n)
	}
}

type dryRun struct {
	started
	Data []struct {
		At                                time.Time
		Ghost                             uuid.UUID
		Invoice, Currency, Action, Reason string
		Template                          *string
		Amount                            int64
		Probability                       *float64
	}
	Truncated bool
	Auto      struct {
		Ghosts  int
		Amounts map[string]int64
	}
}

func (c *caller) dry(body string) (d dryRun) {
	c.b.t.Helper()
	got := c.call("PUT", "/api/playbook?dry_run=true", body)
	if err := json.Unmarshal([]byte(got.body), &d); err != nil || got.status != 200 {
		c.b.t.Fatalf("a dry run: %d %s", got.status, got.body)
	}
	return d
}

// A dry run says what would be done, in order, and leaves no trace.
func TestDryRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.caller("acct_1")
	c.channel()
	if got := c.call("PUT", "/api/playbook?dry_run=true", everybody); got.body != `{"data":[],"hunts":0,"held_out":0,"skipped":0,"truncated":false,"looked_at":0,"ghosts":0,"segments":{},"auto":{"ghosts":0,"amounts":{}}}` {
		t.Errorf("of nothing: %s", got.body)
	}
	for range 250 {
		c.add(seed{class: "low", failed: 3 * day, invoice: "in_low" + uuid.NewString()[:8], email: uuid.NewString() + "@example.com"})
		c.add(seed{class: "never", failed: 3 * day, email: uuid.NewString() + "@example.com"})
	}
	small := c.add(seed{amount: 10})
	before := c.trace()
	d := c.dry(`{"mode":"recover","holdout_percent":20,"min_amount":{"usd":11},"take_over":true,"quiet_hours":{"from":"08:00","to":"08:00"}}`)
	if d.Hunts != 500 || d.Skipped != 1 || d.HeldOut < 50 || d.HeldOut > 150 {
		t.Errorf("%d hunts, %d held out, %d skipped", d.Hunts, d.HeldOut, d.Skipped)
	}
	if d.Auto.Ghosts != 500 || d.Auto.Amounts["usd"] != 500_000 {
		t.Errorf("by themselves: %+v", d.Auto)
	}
	if len(d.Data) != 1000 && d.Truncated || d.Truncated != (len(d.Data) == 1000) {
		t.Errorf("%d of them, truncated %v", len(d.Data), d.Truncated)
	}
	actions := map[string]int{}
	for i, p := range d.Data {
		actions[p.Action]++
		if i > 0 && p.At.Before(d.Data[i-1].At) {
			t.Fatal("not in order")
		}
		if (p.Action == "charge") != (p.Probability != nil) || (p.Action == "email") != (p.Template != nil) || p.Ghost == small || p.Amount != 1000 {
			t.Errorf("%+v", p)
		}
		if (p.Action == "charge" || p.Action == "take_over") && !strings.HasPrefix(p.Invoice, "in_low") {
			t.Errorf("a card that is gone would be charged: %+v", p)
		}
	}
	if actions["take_over"] == 0 || actions["email"] == 0 || actions["charge"] == 0 {
		t.Errorf("%v", actions)
	}
	if d := c.dry(`{"mode":"off"}`); d.Hunts != 0 || len(d.Data) != 0 {
		t.Errorf("off: %+v", d)
	}
	if after := c.trace(); after != before {
		t.Errorf("a dry run left something behind:\n%s\n%s", before, after)
	}
}

// trace is everything that hunts could leave behind.
func (c *caller) trace() (text string) {
	c.b.t.Helper()
	if err := c.b.pool.QueryRow(c.b.t.Context(), `SELECT concat_ws(' ', (SELECT count(*) FROM playbooks), (SELECT count(*) FROM hunts), (SELECT count(*) FROM hunt_notes),
		(SELECT count(*) FROM attempts), (SELECT count(*) FROM messages), (SELECT count(*) FROM scheduled_tasks))`).Scan(&text); err != nil {
		c.b.t.Fatal(err)
	}
	return text
}
