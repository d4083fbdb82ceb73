package recovery

import (
	"strings"
	"testing"
	"time"

	"phantom/oracle"
	"phantom/playbook"
	"phantom/sandbox"
	"phantom/state"
)

// A message that comes by day for the merchant and by night for the customer waits for the
// customer's morning, unless the playbook names a zone.
func TestQuietHoursAreTheCustomers(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	p.Exec("CREATE OR REPLACE FUNCTION phantom_now() RETURNS timestamptz LANGUAGE sql STABLE AS $$SELECT timestamptz '2027-01-15 12:00Z'$$")
	p.Exec("UPDATE merchants SET timezone = 'Europe/London'")
	for _, test := range []struct {
		name, zone, playbook, until string
	}{
		{"night for the customer", "Pacific/Auckland", "customer", "2027-01-15 19:00Z"},
		{"day for both", "Europe/Berlin", "customer", ""},
		{"nothing known", "", "customer", ""},
		{"a zone that is none", "Mars/Olympus", "customer", ""},
		{"the playbook's zone by day", "Pacific/Auckland", "Europe/Berlin", ""},
		{"the playbook's zone by night", "Europe/Berlin", "Asia/Tokyo", "2027-01-15 23:00Z"},
	} {
		p.Exec(`UPDATE playbooks SET body = jsonb_set(body, '{quiet_hours}', jsonb_build_object('from', '21:00', 'to', '08:00', 'zone', $1::text))`, test.playbook)
		who := person{"cus_" + test.name, strings.ReplaceAll(test.name, " ", ".") + "@example.com"}
		id, hunt := p.plan(who, playbook.Email, "payment_failed")
		p.Exec("UPDATE ghost_targets SET zone = nullif($2, '') WHERE id = (SELECT ghost_id FROM hunts WHERE id = $1)", hunt, test.zone)
		p.try(id)
		got, why := p.state(id)
		if test.until == "" {
			if got != state.MessageSent {
				t.Errorf("%s: %s, %s", test.name, got, why)
			}
			continue
		}
		if n := p.Count("SELECT count(*) FROM messages WHERE id = $1 AND planned_for = $2::text::timestamptz", id, test.until); n != 1 || got != state.MessagePlanned {
			t.Errorf("%s: %s, %s, not put off until %s", test.name, got, why, test.until)
		}
	}
	// The purge may have removed the ghost: its message is still read, with the merchant's zone.
	id, hunt := p.plan(ada, playbook.Email, "payment_failed")
	p.Exec("DELETE FROM ghost_targets WHERE id = (SELECT ghost_id FROM hunts WHERE id = $1)", hunt)
	if row := p.loaded(id); row.Zone != nil || row.Timezone == nil {
		t.Errorf("%+v", row)
	}
}

// abroad moves the merchant far from their customers, and keeps them there, no matter what is read
// at Stripe.
func (b *bench) abroad() {
	b.t.Helper()
	b.Exec(`CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.timezone = 'Pacific/Auckland'; RETURN NEW; END$$`)
	b.Exec("CREATE TRIGGER stay BEFORE UPDATE ON merchants FOR EACH ROW EXECUTE FUNCTION stay()")
	b.Exec("UPDATE merchants SET timezone = 'Pacific/Auckland'")
}

// Charges are planned by the customer's clock, and so are messages, and the history says so.
func TestChargesKeepToTheCustomersDay(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1})
	b.abroad()
	b.audit()
	b.s.advisor = oracle.Heuristic{}
	b.correspond()
	p := playbook.Default()
	p.Mode, p.HoldoutPercent = state.ModeRecover, 0
	p.Auto = false
	if _, err := b.s.SetPlaybook(t.Context(), b.merchant, p); err != nil {
		t.Fatal(err)
	}
	if _, err := b.startAll(); err != nil {
		t.Fatal(err)
	}
	b.during(b.calm)
	rows, err := b.pool.Query(t.Context(), `SELECT 'charge', a.planned_for, a.reason, g.zone, n.note FROM attempts a JOIN hunts h ON h.merchant_id = a.merchant_id AND h.id = a.hunt_id
			JOIN ghost_targets g ON g.merchant_id = h.merchant_id AND g.id = h.ghost_id JOIN hunt_notes n ON n.task_id = a.task_id
		WHERE a.action = 'invoice_pay' AND n.note LIKE 'planned for%' AND g.zone IS NOT NULL
		UNION ALL SELECT 'message', m.planned_for, '', g.zone, '' FROM messages m JOIN hunts h ON h.merchant_id = m.merchant_id AND h.id = m.hunt_id
			JOIN ghost_targets g ON g.merchant_id = h.merchant_id AND g.id = h.ghost_id WHERE g.zone IS NOT NULL`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	seen := map[string]int{}
	for rows.Next() {
		var what, reason, zone, note string
		var at time.Time
		if err := rows.Scan(&what, &at, &reason, &zone, &note); err != nil {
			t.Fatal(err)
		}
		location, err := time.LoadLocation(zone)
		if err != nil || zone == "Pacific/Auckland" {
			t.Fatalf("the zone %q, %v", zone, err)
		}
		local := at.In(location)
		if what == "charge" && !strings.Contains(note, local.Format("Mon 2 Jan 15:04 MST")) {
			t.Errorf("%q, planned for %s", note, local)
		}
		first, last := 7, 20 // the hours of Heuristic's moments
		if what == "message" {
			first, last = 8, 20
		}
		if seen[what]++; local.Hour() < first || local.Hour() > last {
			t.Errorf("a %s at %s: %s", what, local, reason)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if seen["charge"] == 0 || seen["message"] == 0 {
		t.Errorf("seen: %v", seen)
	}
}
