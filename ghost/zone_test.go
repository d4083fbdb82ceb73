package ghost

import (
	"testing"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/sandbox"
	"phantom/state"
	"phantom/zone"
)

// What is stored with a ghost is told by its charges alone: the billing country, or else the
// card's. Of another it is left open.
func TestZoneToStore(t *testing.T) {
	t.Parallel()
	zone := "Europe/Berlin"
	for _, test := range []struct{ billing, card, want string }{
		{"JP", "DE", "Asia/Tokyo"}, {"", "jp", "Asia/Tokyo"}, {"US", "", "America/New_York"}, {"", "", ""}, {"XX", "", ""}, {"BV", "", ""},
	} {
		if got := zoneToStore(&charge{country: test.billing, cardCountry: test.card}, db.Merchant{Timezone: &zone}); got != test.want {
			t.Errorf("%+v: %q", test, got)
		}
	}
	if got := zoneToStore(&charge{country: "US"}, db.Merchant{}); got != "America/New_York" {
		t.Errorf("a merchant without a zone: %q", got)
	}
}

// A ghost keeps the zone of its customer's country, where the merchant's is another: after an
// audit, and after a refresh that finds nothing else changed.
func TestGhostKeepsTheCustomersZone(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 40})
	dbtest.Exec(t, b.pool, "UPDATE merchants SET timezone = 'Pacific/Auckland'")
	var country string
	if err := b.pool.QueryRow(t.Context(), "SELECT country FROM merchants").Scan(&country); err != nil {
		t.Fatal(err)
	}
	want := zone.OfCustomer(country, "").String() // where the sandbox's customers live
	check := func(when string) {
		t.Helper()
		zoned := 0
		for _, g := range b.ghosts() {
			if g.Status != state.GhostOpen || g.Card == nil {
				continue
			}
			if zoned++; text0(g.Zone) != want {
				t.Errorf("%s: %q, want %s", when, text0(g.Zone), want)
			}
		}
		if zoned == 0 {
			t.Fatal("no ghost has a card")
		}
	}
	b.audit()
	check("after an audit")
	for _, lost := range []string{"NULL", "'Pacific/Auckland'"} {
		dbtest.Exec(t, b.pool, "UPDATE ghost_targets SET zone = "+lost)
		for _, g := range b.ghosts() {
			if err := b.s.Refresh(t.Context(), b.merchant, g.StripeSubscriptionID); err != nil {
				t.Fatal(err)
			}
		}
		check("after a refresh over " + lost)
	}
	dbtest.Exec(t, b.pool, "UPDATE ghost_targets SET zone = NULL")
	b.audit()
	check("after another audit")
}
