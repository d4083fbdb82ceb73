package recovery

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"

	"phantom/forecast"
	"phantom/playbook"
	"phantom/sandbox"
	"phantom/state"
)

// No customer of a new merchant is charged until the merchant says so. Then all that is owed is
// hunted without being asked for, and so is what comes later.
func TestHuntsBeginByThemselves(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 3})
	b.audit() // under the default playbook
	b.during(b.calm)
	if n := b.Count("SELECT count(*) FROM hunts"); n != 0 || b.executed() != 0 {
		t.Fatalf("the default has begun %d hunts and sent %d requests", n, b.executed())
	}
	later := b.ids("SELECT id FROM ghost_targets ORDER BY id LIMIT 1")[0]
	b.Exec("UPDATE ghost_targets SET status = 'closed', closed_reason = 'no_access', closed_at = phantom_now() WHERE id = $1", later)

	b.recoverWith(func(p *playbook.Playbook) { p.Mode, p.Auto = state.ModeObserve, true })
	b.recoverWith(nil) // by hand
	b.during(b.calm)
	if n := b.Count("SELECT count(*) FROM hunts"); n != 0 {
		t.Fatalf("%d hunts have begun that nobody asked for", n)
	}
	b.recoverWith(func(p *playbook.Playbook) { p.Auto = true })
	b.during(b.calm)
	if all, some := b.Count("SELECT count(*) FROM hunts WHERE NOT by_hand AND mode = 'recover'"), b.Count("SELECT count(*) FROM ghost_targets WHERE id <> $1", later); all != some || some == 0 {
		t.Errorf("%d of %d ghosts are hunted", all, some)
	}
	if b.executed() == 0 {
		t.Error("nothing was charged")
	}
	// A ghost that is found later, as a refresh stores it.
	b.Exec("UPDATE ghost_targets SET status = 'open', closed_reason = NULL, closed_at = NULL WHERE id = $1", later)
	for range 2 { // it is told of again
		if err := b.s.GhostsChanged(t.Context(), b.pool, b.merchant, []uuid.UUID{later}); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.Count("SELECT count(*) FROM hunts WHERE ghost_id = $1 AND state = 'active' AND NOT by_hand", later); n != 1 {
		t.Errorf("the new ghost has %d hunts", n)
	}
}

// Who is not hunted by all is not hunted by itself either, and limits hold for both.
func TestHuntsThatDoNotBeginByThemselves(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*bench, *playbook.Playbook){
		"too little": func(_ *bench, p *playbook.Playbook) {
			p.MinAmount = map[string]int64{"usd": 1 << 40, "eur": 1 << 40, "jpy": 1 << 40}
		},
		"excluded": func(b *bench, p *playbook.Playbook) {
			p.Exclude.Customers = []string{b.Text("SELECT stripe_customer_id FROM ghost_targets")}
		},
		"by hand":  func(_ *bench, p *playbook.Playbook) { p.Auto = false },
		"observed": func(_ *bench, p *playbook.Playbook) { p.Mode = state.ModeObserve },
		"off":      func(_ *bench, p *playbook.Playbook) { p.Mode = state.ModeOff },
		"closed": func(b *bench, _ *playbook.Playbook) {
			b.Exec("UPDATE ghost_targets SET status = 'closed', closed_reason = 'no_access', closed_at = phantom_now()")
		},
		"charged back": func(b *bench, p *playbook.Playbook) {
			b.Exec("UPDATE ghost_targets SET kind = 'charged_back'")
			p.WrittenOff = true
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
			b.audit()
			b.recoverWith(func(p *playbook.Playbook) {
				p.Auto = true
				change(b, p)
			})
			b.startAuto()
			if err := b.s.GhostsChanged(t.Context(), b.pool, b.merchant, b.ids("SELECT id FROM ghost_targets")); err != nil {
				t.Fatal(err)
			}
			if n := b.Count("SELECT count(*) FROM hunts"); n != 0 {
				t.Errorf("%d hunts have begun", n)
			}
		})
	}
}

// A debt that was hunted is not hunted anew by itself, however its hunt has ended, unless the ghost
// was gone in between.
func TestHuntsDoNotBeginTwiceByThemselves(t *testing.T) {
	t.Parallel()
	ended := func(as, reason string) string {
		return fmt.Sprintf("UPDATE hunts SET state = '%s', ended_reason = '%s', ended_at = phantom_now()", as, reason)
	}
	// The debt of next month: another invoice, which failed after the hunt had ended.
	anew := `UPDATE ghost_targets SET stripe_invoice_id = 'in_new', first_failed_at = phantom_now() + interval '1 day', last_failed_at = phantom_now() + interval '1 day',
		invoices = '[{"id":"in_new","amount":5}]'`
	stopped := ended("stopped", "stopped by the merchant")
	purged := "DELETE FROM ghost_memories; UPDATE ghost_targets SET id = gen_random_uuid(), email = NULL; UPDATE hunts SET invoices = '{}', owed = '{}'"
	for name, test := range map[string]struct {
		since string
		anew  bool
	}{
		"under way":                          {"SELECT 1", false},
		"stopped by the merchant":            {stopped, false},
		"given up":                           {ended("exhausted", "the window is over"), false},
		"unsubscribed":                       {ended("stopped", whyUnwanted), false},
		"for a reason of tomorrow":           {ended("stopped", "tomorrow"), false},
		"held out":                           {ended("exhausted", "the window is over") + "; UPDATE hunts SET held_out = true", false},
		"only watched":                       {stopped + "; UPDATE hunts SET mode = 'observe'", true},
		"of the other mode":                  {stopped + "; UPDATE hunts SET livemode = NOT livemode", true},
		"paid, and the bank took it back":    {ended("recovered", "paid"), true},
		"suspended, and alive again":         {ended("stopped", "suspended"), true},
		"stopped, and a new debt":            {stopped + ";" + anew, true},
		"given up, and one more invoice":     {ended("exhausted", "the window is over") + `; UPDATE ghost_targets SET invoices = invoices || '[{"id":"in_new","amount":5}]'`, false},
		"stopped, purged and found again":    {stopped + ";" + purged, false},
		"stopped, purged, and with no date":  {stopped + ";" + purged + "; UPDATE ghost_targets SET first_failed_at = NULL, last_failed_at = NULL", false},
		"stopped, purged and a new debt":     {stopped + ";" + purged + ";" + anew, true},
		"stopped under another kind of debt": {stopped + "; DELETE FROM ghost_memories; UPDATE ghost_targets SET id = gen_random_uuid(), email = NULL", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
			b.audit()
			b.recoverWith(func(p *playbook.Playbook) { p.Auto = true })
			tell := func() int {
				b.startAuto()
				if err := b.s.GhostsChanged(t.Context(), b.pool, b.merchant, b.ids("SELECT id FROM ghost_targets")); err != nil {
					t.Fatal(err)
				}
				return b.Count("SELECT count(*) FROM hunts")
			}
			if n := tell(); n != 1 {
				t.Fatalf("%d hunts have begun", n)
			}
			for _, statement := range strings.Split(test.since, ";") {
				b.Exec(statement)
			}
			if n := tell(); (n == 2) != test.anew {
				t.Errorf("there are %d hunts", n)
			}
		})
	}
}

// A dry run and the report say what would begin by itself, and what each segment takes.
func TestDryRunOfWhatBeginsByItself(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 20})
	b.audit()
	chosen := b.ids("SELECT id FROM ghost_targets WHERE status = 'open' ORDER BY id")
	if len(chosen) < 4 {
		t.Fatalf("%d ghosts", len(chosen))
	}
	// One has been stopped, one is old but for a part, one is leaving, one is of the first segment.
	b.recoverWith(nil)
	if _, err := b.s.Start(t.Context(), b.merchant, chosen[:1]); err != nil {
		t.Fatal(err)
	}
	if err := b.s.Stop(t.Context(), b.merchant, b.active()[0]); err != nil {
		t.Fatal(err)
	}
	b.Exec(`UPDATE ghost_targets SET invoices = jsonb_build_array(jsonb_build_object('id', 'in_old', 'amount', amount - 7, 'created', 1),
		jsonb_build_object('id', stripe_invoice_id, 'amount', 7, 'created', extract(epoch FROM phantom_now())::bigint)) WHERE id = $1`, chosen[1])
	b.Exec("UPDATE ghost_targets SET leaving = true WHERE id = $1", chosen[2])
	b.Exec("UPDATE ghost_targets SET products = '{prod_1}' WHERE id = $1", chosen[3])
	b.recoverWith(func(p *playbook.Playbook) {
		p.Mode, p.Auto, p.Segments = state.ModeObserve, true, []playbook.Segment{{Name: "first", Match: playbook.Match{Products: []string{"prod_1"}}}}
	})
	want := map[string]int64{}
	for _, id := range chosen[1:] {
		amount := int64(b.Count("SELECT amount FROM ghost_targets WHERE id = $1", id))
		if id == chosen[1] {
			amount = 7
		}
		want[b.Text("SELECT currency FROM ghost_targets WHERE id = $1", id)] += amount
	}
	p, err := b.s.Playbook(t.Context(), b.merchant)
	if err != nil {
		t.Fatal(err)
	}
	run, err := b.s.DryRun(t.Context(), b.merchant, p.Playbook)
	if err != nil {
		t.Fatal(err)
	}
	told, err := ReadAuto(t.Context(), b.pool, b.merchant)
	if err != nil {
		t.Fatal(err)
	}
	if run.Hunts != len(chosen) || run.Auto.Ghosts != len(chosen)-1 || !reflect.DeepEqual(run.Auto.Amounts, want) {
		t.Errorf("%d hunts, %+v by themselves, want %d of %v", run.Hunts, run.Auto, len(chosen)-1, want)
	}
	if told == nil || !reflect.DeepEqual(*told, run.Auto) {
		t.Errorf("the report tells of %+v", told)
	}
	if !reflect.DeepEqual(run.Segments, map[string]int{"first": 1}) {
		t.Errorf("segments: %v", run.Segments)
	}
	for _, p := range run.Data {
		if (p.Segment == "first") != (p.Ghost == chosen[3]) || p.Invoice == "in_old" {
			t.Errorf("%+v", p)
		}
		if p.Ghost == chosen[2] && (p.Action == forecast.ActionCharge || p.Action == forecast.ActionTakeOver) {
			t.Errorf("who leaves: %+v", p)
		}
	}
	b.recoverWith(func(p *playbook.Playbook) { p.Auto = true })
	if told, err := ReadAuto(t.Context(), b.pool, b.merchant); told != nil || err != nil {
		t.Errorf("in mode recover the report tells of %+v, %v", told, err)
	}
	// What was foretold begins.
	b.startAuto()
	if n := b.Count("SELECT count(*) FROM hunts WHERE state = 'active'"); n != run.Auto.Ghosts {
		t.Errorf("%d hunts have begun, %d were foretold", n, run.Auto.Ghosts)
	}
}

// A hunt follows the playbook of its segment from its first line on: in what it plans, in how it is
// charged, and in what becomes of it when its ghost is of another segment.
func TestHuntsFollowTheirSegment(t *testing.T) {
	t.Parallel()
	b, ids := setupCharges(t, 1, func(b *bench, p *playbook.Playbook) {
		b.Exec("UPDATE ghost_targets SET prices = '{price_1}'")
		attempts := 5
		p.MaxAttempts = 0 // nothing would be charged without the segment
		p.Segments = []playbook.Segment{{Name: "gold", Match: playbook.Match{Prices: []string{"price_1"}}, Set: playbook.Changes{MaxAttempts: &attempts}}}
	})
	if note := b.Text("SELECT note FROM hunt_notes ORDER BY id LIMIT 1"); !strings.HasPrefix(note, "segment gold: begun in mode recover") {
		t.Errorf("the history begins with %q", note)
	}
	b.Exec("UPDATE ghost_targets SET prices = '{price_2}'") // the gate reads it now
	if status := b.try(ids[0]); status != "pending" || b.executed() != 0 {
		t.Errorf("outside its segment it is %s after %d charges", status, b.executed())
	}
	b.Exec("UPDATE ghost_targets SET prices = '{price_1}'")
	if status := b.try(ids[0]); b.executed() != 1 {
		t.Errorf("within its segment it is %s after %d charges", status, b.executed())
	}
}
