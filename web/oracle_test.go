package web_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/oracle"
	"phantom/recovery"
)

// A hunt's advice has the best moment of different days, in order, and that of the fixed rules; a
// hunt that has ended has none, and says so.
func TestAdvice(t *testing.T) {
	t.Parallel()
	c := setup(t).caller("acct_1")
	c.put(everybody)
	ghost := c.add(seed{amount: 4200, currency: "usd", class: "timed", failed: day})
	c.hunt(`{"ghosts":["` + ghost.String() + `"]}`)
	id := c.hunts("").Data[0].ID
	path := "/api/hunts/" + id.String() + "/advice"
	read := func() (a recovery.Advice) {
		t.Helper()
		got := c.call("GET", path, "")
		if err := json.Unmarshal([]byte(got.body), &a); got.status != 200 || err != nil {
			t.Fatalf("%d %s: %v", got.status, got.body, err)
		}
		return a
	}
	a := read()
	if a.Hunt != id || a.State != "shadow" || a.Model != nil || a.Next == nil || a.Rules == nil || a.Why != nil || len(a.Alternatives) != 3 {
		t.Fatalf("%+v", a)
	}
	seen := make(map[string]bool)
	for _, m := range append(a.Alternatives, *a.Next) {
		if date := m.At.Format(time.DateOnly); seen[date] {
			t.Errorf("two of the moments are on %s", date)
		} else {
			seen[date] = true
		}
		if !(m.P > 0 && m.Low <= m.P && m.P <= m.High && m.High < 1) || m.Reason == "" || m.Confidence == "" {
			t.Errorf("%+v", m)
		}
	}
	again := read()
	if again.Next.P != a.Next.P || again.Next.Reason != a.Next.Reason {
		t.Errorf("asked again: %+v, not %+v", again.Next, a.Next)
	}
	c.call("DELETE", "/api/hunts/"+id.String(), "")
	if a = read(); a.Next != nil || a.Rules != nil || a.Why == nil || !strings.Contains(*a.Why, "ended") || len(a.Alternatives) != 0 {
		t.Errorf("of a hunt that has ended: %+v", a)
	}
	c.call("GET", "/api/hunts/"+id.String()+"/other", "").wantError(t, 404, "not_found")
}

// Before anything is known the oracle is in shadow and says why; what was settled is the merchant's
// own alone.
func TestOracleState(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c, other := b.caller("acct_1"), b.caller("acct_2")
	if got := c.call("GET", "/api/oracle", ""); got.status != 200 || got.body != `{"livemode":false,"state":"shadow","since":null,"why":"it has not shown yet that it predicts well",`+
		`"model":null,"recent":{"charges":0,"log_loss":null,"base_log_loss":null,"calibration_error":null}}` {
		t.Errorf("%d %s", got.status, got.body)
	}
	b.Exec(`WITH hunt AS (INSERT INTO attempts (merchant_id, object, action, number, task_id, hunt_id, customer, currency, amount, reason, probability, planned_for)
			SELECT $1, sha256(n::text::bytea), 'invoice_pay', 1, gen_random_uuid(), gen_random_uuid(), sha256('x'), 'usd', 1, 'x', 1, now() FROM generate_series(1, 4) n
			RETURNING merchant_id, task_id)
		INSERT INTO oracle_advice (merchant_id, task_id, livemode, model, class, planned_for, p, low, high, confidence, cell, chosen_p, propensity, reason,
			heuristic_for, paid, settled_at)
		SELECT merchant_id, task_id, false, 1, 'timed', now(), 0.5, 0.1, 0.9, 'low', 'x', 0.5, 1, 'x', now(), row_number() OVER () = 1, now() FROM hunt`, c.id)
	if got := c.call("GET", "/api/oracle", ""); !strings.Contains(got.body, `"recent":{"charges":4,"log_loss":0.6931,"base_log_loss":0.5685,"calibration_error":0.25}`) {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := other.call("GET", "/api/oracle", ""); !strings.Contains(got.body, `"recent":{"charges":0,`) {
		t.Errorf("another merchant reads %s", got.body)
	}
}

// Who always fails on the day on which they are billed and pays on another is told of; who pays
// when billed is not, nor another merchant's customer.
func TestBillingDates(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c, other := b.caller("acct_1"), b.caller("acct_2")
	now := time.Now().UTC()
	remember := func(of *caller, failing bool) uuid.UUID {
		ghost := of.add(seed{amount: 4200, currency: "usd", class: "timed", failed: day})
		var seen []oracle.Seen
		for month := range 10 {
			on := func(d int) time.Time {
				return time.Date(now.Year(), now.Month()-10+time.Month(month), d, 12, 0, 0, 0, time.UTC)
			}
			invoice := fmt.Sprint("in_", month)
			if failing {
				seen = append(seen, oracle.Seen{At: on(5), Invoice: invoice, Class: "timed"}, oracle.Seen{At: on(8), Invoice: invoice, Class: "timed"},
					oracle.Seen{At: on(18), Invoice: invoice})
				continue
			}
			seen = append(seen, oracle.Seen{At: on(5), Invoice: invoice})
		}
		if err := oracle.KeepMemories(t.Context(), b.pool, of.id, map[uuid.UUID]oracle.Memory{ghost: oracle.Remember(seen, now)}); err != nil {
			t.Fatal(err)
		}
		return ghost
	}
	late := remember(c, true)
	remember(c, false)
	remember(other, true)
	var p struct {
		Data []struct {
			Ghost            uuid.UUID
			Billed, Better   int
			P, PBetter       float64
			Invoices, Failed int
		}
		NextCursor *string `json:"next_cursor"`
	}
	got := c.call("GET", "/api/oracle/billing-dates", "")
	if err := json.Unmarshal([]byte(got.body), &p); got.status != 200 || err != nil {
		t.Fatalf("%d %s: %v", got.status, got.body, err)
	}
	if len(p.Data) != 1 || p.Data[0].Ghost != late || p.Data[0].Billed != 5 || p.Data[0].Better < 17 || p.Data[0].Better > 19 || p.Data[0].Invoices != 10 ||
		p.Data[0].Failed != 10 || p.NextCursor != nil {
		t.Errorf("%s", got.body)
	}
	found, pages := 0, 0
	for cursor := ""; ; pages++ {
		got := c.call("GET", "/api/oracle/billing-dates?limit=1"+cursor, "")
		if err := json.Unmarshal([]byte(got.body), &p); got.status != 200 || err != nil || len(p.Data) > 1 {
			t.Fatalf("%d %s: %v", got.status, got.body, err)
		}
		if found += len(p.Data); p.NextCursor == nil {
			break
		}
		cursor = "&cursor=" + *p.NextCursor
	}
	if found != 1 || pages != 2 {
		t.Errorf("%d found on %d pages", found, pages)
	}
}

// Before any model the heatmap is what is widely known, and says so.
func TestHeatmapBeforeAnyModel(t *testing.T) {
	t.Parallel()
	c := setup(t).caller("acct_1")
	type shade struct {
		P     float64
		Known bool
	}
	var h struct {
		Model          *struct{}
		Class, Country string
		Hours          [7][24]shade
		Days           [31]shade
	}
	got := c.call("GET", "/api/oracle/heatmap?class=low&country=DE", "")
	if err := json.Unmarshal([]byte(got.body), &h); got.status != 200 || err != nil {
		t.Fatalf("%d %s: %v", got.status, got.body, err)
	}
	if h.Model != nil || h.Class != "low" || h.Country != "DE" {
		t.Errorf("%+v", h)
	}
	for weekday, hours := range h.Hours {
		for hour, s := range hours {
			if s.Known || s.P <= 0 || s.P >= 1 {
				t.Errorf("weekday %d, hour %d: %+v", weekday, hour, s)
			}
		}
	}
	if h.Hours[2][12].P <= h.Hours[2][3].P {
		t.Error("noon is no better than the night")
	}
	for query, field := range map[string]string{"class=never": "class", "country=us": "country", "country=USA": "country", "class=low&class=low": "class", "zone=x": "query"} {
		c.call("GET", "/api/oracle/heatmap?"+query, "").wantInvalid(t, field)
	}
}
