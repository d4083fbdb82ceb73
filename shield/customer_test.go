package shield

import (
	"encoding/json"
	"slices"
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
		ID: "sub_1", Product: "prod_1", Level: Limited, Reason: ByFailure, Since: time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC),
		Ahead: []Next{{Blocked, time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC)}},
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
			all = append(all, Known{ID: "sub_" + string(level), Level: level, Reason: ByFailure, Ahead: []Next{{Blocked, monday}}})
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
		{
			name: "an abandoned purchase says nothing", change: func(p *Policy) { p.Customer = "worst" },
			known: append(at(Full), Known{ID: "sub_2", Level: Blocked, Reason: ByIncompleteness}), level: Full, access: true,
		},
		{name: "unless it is all there is, too", known: []Known{{ID: "sub_2", Level: Blocked, Reason: ByIncompleteness}}, level: Blocked},
		{name: "on the way, and not held", known: []Known{{Level: Notice, Target: Blocked}}, level: Notice, access: true},
		{name: "grace is access", known: at(Grace), level: Grace, access: true},
		{
			name: "held on the way", known: []Known{{Level: Grace, Target: Blocked, Held: true}}, level: Grace, target: Blocked, access: true,
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
			if p.Mode != Enforce && (v.Next != nil || v.Level != Full || v.Target != "" && v.Reason != "") {
				t.Errorf("mode %s announces %+v", p.Mode, v)
			}
			for _, s := range v.Subscriptions {
				if p.Mode != Enforce && s.Level != Full {
					t.Errorf("%s is %s in mode %s", s.ID, s.Level, p.Mode)
				}
			}
		})
	}
}

// What lies ahead comes at its moment, and nothing else before.
func TestWhatLiesAheadComes(t *testing.T) {
	t.Parallel()
	ahead := 0
	for seed := range uint64(rounds) {
		d := newDice(seed)
		p, s, who := d.policy(), d.subscription(true), d.standing()
		j := Judge(p, s, who, d.state(), monday)
		all := Ahead(p, s, who, j)
		ahead += len(all)
		for range 200 {
			if j.NextAt.IsZero() {
				break
			}
			at := j.NextAt
			next := Judge(p, s, who, j.State, at)
			switch {
			case next.Level == j.Level:
			case len(all) == 0 || all[0] != Next{next.Level, at}:
				t.Fatalf("seed %d: %s at %s; ahead was %v", seed, next.Level, at, all)
			default:
				all = all[1:]
			}
			j = next
		}
		if len(all) > 0 {
			t.Fatalf("seed %d: %v never came", seed, all)
		}
	}
	if ahead < rounds/5 {
		t.Errorf("only %d changes lay ahead", ahead)
	}
}

// A customer's next level is that of all their subscriptions together.
func TestNextOfACustomer(t *testing.T) {
	t.Parallel()
	day := func(n int) time.Time { return monday.AddDate(0, 0, n) }
	both := []Known{
		{ID: "sub_1", Level: Grace, Ahead: []Next{{Limited, day(1)}, {Blocked, day(12)}}},
		{ID: "sub_2", Level: Grace, Ahead: []Next{{Limited, day(10)}}},
	}
	for _, test := range []struct {
		name, customer string
		known          []Known
		want           *Next
	}{
		{"the best falls with the last of them", "best", both, &Next{Limited, day(10)}},
		{"the worst with the first", "worst", both, &Next{Limited, day(1)}},
		{"never while one stays", "best", append([]Known{{ID: "sub_0", Level: Grace}}, both...), nil},
		{"the better one does not matter to the worst", "worst", []Known{{ID: "sub_1", Level: Blocked}, both[1]}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := enforced()
			p.Customer = test.customer
			got := VerdictOf(p, "cus_1", "", test.known).Next
			if (got == nil) != (test.want == nil) || got != nil && *got != *test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
			slices.Reverse(test.known)
			if again := VerdictOf(p, "cus_1", "", test.known).Next; (again == nil) != (got == nil) || again != nil && *again != *got {
				t.Errorf("in another order %v", again)
			}
		})
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
		{"few who pay a lot", Lowered{Customers: 6, Of: 1000, Revenue: Revenue{"usd": 501}, OfRevenue: Revenue{"usd": 10_000}}, true},
		{"and not quite so much", Lowered{Customers: 6, Of: 1000, Revenue: Revenue{"usd": 500}, OfRevenue: Revenue{"usd": 10_000}}, false},
		{
			"five in dollars and one in euros",
			Lowered{Customers: 6, Of: 1000, Revenue: Revenue{"usd": 9500, "eur": 1}, OfRevenue: Revenue{"usd": 10_000, "eur": 900}}, true,
		},
		{"five who pay a lot", Lowered{Customers: 5, Of: 1000, Revenue: Revenue{"usd": 9000}, OfRevenue: Revenue{"usd": 10_000}}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := b.Trips(test.l); got != test.want {
				t.Errorf("%t", got)
			}
		})
	}
}
