package sandbox

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// There is something to learn: for cards that follow paydays the right day is worth waiting for,
// and the longer ago it was, the less is left.
func TestMoneyRunsDown(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Customers = 400; c.Merchants = 3 })
	var tries, wins [3]float64 // within two days of a payday, within a week, later
	for n, id := range b.s.ids {
		b.find(n, payable)
		a := b.s.accounts[id]
		for _, o := range a.tables["charges"].rows {
			ch := o.(*charge)
			inv := a.tables["invoices"].byID[string(ch.Invoice)].(*invoice)
			card := inv.of.cust.cardOf(string(ch.PaymentMethod))
			if card == nil || card.habit != payday || card.dies != 0 || inv.BillingReason == "subscription_create" {
				continue
			}
			since, p := 0, a.payer(inv.of.cust)
			for at := time.Unix(ch.Created, 0).In(p.zone); !p.paidOn(at) && since < 40; since++ {
				at = at.AddDate(0, 0, -1)
			}
			group := 2
			if since < 2 {
				group = 0
			} else if since < 7 {
				group = 1
			}
			tries[group]++
			if ch.Paid {
				wins[group]++
			}
		}
	}
	var share [3]float64
	for i := range share {
		share[i] = wins[i] / tries[i]
	}
	if min(tries[0], tries[1], tries[2]) < 200 || share[0] < 1.5*share[1] || share[1] < 1.3*share[2] {
		t.Errorf("of charges within two days, a week and later succeed %.2f, of %.0f", share, tries)
	}
}

// Customers do not all follow one calendar: not even those of one merchant.
func TestPayersDiffer(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Customers = 120; c.Merchants = len(profiles) })
	for n, id := range b.s.ids {
		b.find(n, payable)
		a := b.s.accounts[id]
		t.Run(a.Country, func(t *testing.T) {
			t.Parallel()
			calendars, zones, own := map[string]int{}, map[string]int{}, 0
			for _, o := range a.tables["customers"].rows {
				p := a.payer(o.(*customer))
				calendars[fmt.Sprint(p.days, p.weeks, p.weekday, p.odd)]++
				zones[p.zone.String()]++
				if p.weeks == 0 && !slices.Contains(a.profile.Paydays, p.days[0]) {
					own++
				}
			}
			if len(calendars) < 10 {
				t.Errorf("only %d calendars: %v", len(calendars), calendars)
			}
			if n := len(a.tables["customers"].rows); own < n/10 || own > n*6/10 {
				t.Errorf("%d of %d have paydays of their own", own, n)
			}
			if want := map[string]int{"US": 2, "BR": 2}[a.Country]; len(zones) != max(want, 1) {
				t.Errorf("they live in %v", zones)
			}
		})
	}
}

// A payday that falls on a weekend comes on the working day before; a customer is asked about in
// their own zone; without money for long, the floor is left.
func TestFunds(t *testing.T) {
	t.Parallel()
	zone, err := time.LoadLocation("America/Denver")
	if err != nil {
		t.Fatal(err)
	}
	at := func(text string) time.Time {
		local, err := time.ParseInLocation("2006-01-02 15:04", text, zone)
		if err != nil {
			t.Fatal(err)
		}
		return local
	}
	monthly := payer{zone: zone, weekend: weekendIn("US"), days: []int{15}, arrives: 6, full: 0.9, floor: 0.1, half: 24 * time.Hour}
	last := monthly
	last.days = []int{lastDayOfTheMonth}
	weekly := monthly
	weekly.days, weekly.weeks, weekly.weekday = nil, 1, time.Friday
	kuwait := monthly
	kuwait.weekend = weekendIn("KW")
	for _, c := range []struct {
		name string
		p    payer
		at   string
		want float64
	}{
		{"as it comes", monthly, "2026-06-15 06:00", 0.9},
		{"half a day later", monthly, "2026-06-15 18:00", 0.1 + 0.8*0.7071},
		{"a day later", monthly, "2026-06-16 06:00", 0.5},
		{"just before it comes, a month after the last", monthly, "2026-06-15 05:59", 0.1},
		{"of a Saturday, on Friday", monthly, "2026-08-14 06:00", 0.9},
		{"of a Saturday, on the day itself", monthly, "2026-08-15 06:00", 0.5},
		{"of a Saturday where the weekend begins on Friday", kuwait, "2026-08-13 06:00", 0.9},
		{"the last day of a short month", last, "2027-02-26 06:00", 0.9},
		{"each week", weekly, "2026-06-12 06:00", 0.9},
		{"a day after the clocks went forward", monthly, "2026-03-16 06:00", 0.1 + 0.8*0.125},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := c.p.funds(at(c.at)); got < c.want-0.001 || got > c.want+0.001 {
				t.Errorf("the chance is %.4f instead of %.4f", got, c.want)
			}
		})
	}
}
