package shield

import (
	"encoding/json"
	"testing"
	"time"
)

func enforced() Policy {
	p := Default()
	p.Mode, p.Features.Limited = Enforce, []string{"login", "export", Billing}
	return p
}

// The contract's example, byte for byte.
func TestVerdictIsTheContracts(t *testing.T) {
	t.Parallel()
	v := VerdictOf(enforced(), "cus_1", "export", []Known{{
		ID: "sub_1", Product: "prod_1", Level: Limited, Target: Limited, Reason: ByFailure, Since: time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC),
		Next: &Next{Blocked, time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC)},
	}})
	v.Revision, v.Livemode = "7c1f02aa.4812", true
	got, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"customer":"cus_1","known":true,"access":true,"level":"limited","reason":"payment_failed","since":"2026-11-20T09:00:00Z",` +
		`"next":{"level":"blocked","at":"2026-12-01T09:00:00Z"},"features":["login","export","billing"],"revision":"7c1f02aa.4812",` +
		`"livemode":true,"subscriptions":[{"id":"sub_1","product":"prod_1","level":"limited","reason":"payment_failed"}]}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestVerdictOf(t *testing.T) {
	t.Parallel()
	at := func(levels ...Level) (all []Known) {
		for _, level := range levels {
			all = append(all, Known{ID: "sub_" + string(level), Level: level, Target: level, Reason: ByFailure})
		}
		return all
	}
	ended := func(k []Known) []Known {
		for i := range k {
			k[i].Ended = true
		}
		return k
	}
	for _, test := range []struct {
		name   string
		change func(*Policy)
		known  []Known
		level  Level
		target Level
		access bool
	}{
		{name: "nobody knows them", level: Full, access: true},
		{name: "nobody knows them, and that is no access", change: func(p *Policy) { p.Unknown = Blocked }, level: Blocked},
		{name: "the best of several", known: at(Blocked, Notice, Limited), level: Notice, access: true},
		{name: "the worst by choice", change: func(p *Policy) { p.Customer = "worst" }, known: at(Notice, Blocked, Limited), level: Blocked},
		{name: "what has ended does not count", known: append(ended(at(Full)), at(Limited)...), level: Limited},
		{name: "unless it is all there is", known: ended(at(Blocked, Limited)), level: Limited},
		{name: "grace is access", known: at(Grace), level: Grace, access: true},
		{
			name: "held on the way", known: []Known{{Level: Grace, Target: Blocked}}, level: Grace, target: Blocked, access: true,
		},
		{name: "not enforced yet", change: func(p *Policy) { p.Mode = DryRun }, known: at(Blocked), level: Full, target: Blocked, access: true},
		{name: "off", change: func(p *Policy) { p.Mode = Off }, known: at(Limited), level: Full, target: Limited, access: true},
		{
			name: "an unknown one of a policy that is not enforced", change: func(p *Policy) { p.Mode, p.Unknown = DryRun, Blocked },
			level: Full, target: Blocked, access: true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := enforced()
			if test.change != nil {
				test.change(&p)
			}
			v := VerdictOf(p, "cus_1", "", test.known)
			if v.Level != test.level || v.Target != test.target || v.Access != test.access || v.Known != (len(test.known) > 0) {
				t.Errorf("%+v", v)
			}
			if !VerdictOf(p, "cus_1", Billing, test.known).Access {
				t.Error("billing is closed")
			}
			if len(v.Subscriptions) != len(test.known) {
				t.Errorf("%d subscriptions", len(v.Subscriptions))
			}
			for _, s := range v.Subscriptions {
				if p.Mode != Enforce && s.Level != Full {
					t.Errorf("%s is %s in mode %s", s.ID, s.Level, p.Mode)
				}
			}
		})
	}
}

// What is announced comes at its moment, and nothing else before.
func TestWhatIsAnnouncedComes(t *testing.T) {
	t.Parallel()
	announced := 0
	for seed := range uint64(rounds) {
		d := newDice(seed)
		p, s, who := d.policy(), d.subscription(true), d.standing()
		first := Judge(p, s, who, d.state(), monday)
		next := NextOf(p, s, who, first)
		end := monday.AddDate(3, 0, 0)
		if next != nil {
			announced++
			end = next.At
		}
		j := first
		for !j.NextAt.IsZero() && j.NextAt.Before(end) {
			if j = Judge(p, s, who, j.State, j.NextAt); j.Level != first.Level {
				t.Fatalf("seed %d: %s before what is announced: %+v", seed, j.Level, next)
			}
		}
		if next != nil {
			if j = Judge(p, s, who, j.State, next.At); j.Level != next.Level || next.Level == first.Level {
				t.Fatalf("seed %d: %s at %s, announced was %s", seed, j.Level, next.At, next.Level)
			}
		}
	}
	if announced < rounds/10 {
		t.Errorf("only %d were announced", announced)
	}
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	b := Default().Breaker // 2 % of customers, 5 % of revenue, always 5
	for _, test := range []struct {
		name string
		l    Lowered
		want bool
	}{
		{"five always may", Lowered{Customers: 5, Of: 5}, false},
		{"six of a few", Lowered{Customers: 6, Of: 10}, true},
		{"two in a hundred", Lowered{Customers: 20, Of: 1000}, false},
		{"one more", Lowered{Customers: 21, Of: 1000}, true},
		{
			"few who pay a lot",
			Lowered{Customers: 6, Of: 1000, Revenue: Revenue{"usd": 501}, OfRevenue: Revenue{"usd": 10_000}, ByCurrency: map[string]int{"usd": 6}}, true,
		},
		{
			"and not quite so much",
			Lowered{Customers: 6, Of: 1000, Revenue: Revenue{"usd": 500}, OfRevenue: Revenue{"usd": 10_000}, ByCurrency: map[string]int{"usd": 6}}, false,
		},
		{
			"the only one in yen",
			Lowered{
				Customers: 6, Of: 1000, Revenue: Revenue{"jpy": 900, "usd": 5}, OfRevenue: Revenue{"jpy": 900, "usd": 10_000},
				ByCurrency: map[string]int{"jpy": 1, "usd": 5},
			}, false,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := b.Trips(test.l); got != test.want {
				t.Errorf("%t", got)
			}
		})
	}
}
