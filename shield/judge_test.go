package shield

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"phantom/debt"
)

// monday is one at noon, within the default's hours.
var monday = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// owing is a subscription in good order that has owed $49 for so many days on monday.
func owing(days int) Subscription {
	return Subscription{
		Products: []string{"prod_1"}, Prices: []string{"price_1"},
		Debt: &Debt{Kind: debt.Owed, Amount: 4900, Currency: "usd", Since: monday.AddDate(0, 0, -days)},
	}
}

// always is the default policy without hours, so that a test says days alone.
func always() Policy {
	p := Default()
	p.Hours = Hours{Days: []int{1, 2, 3, 4, 5, 6, 7}, From: "00:00", To: "24:00"}
	return p
}

func TestJudge(t *testing.T) {
	t.Parallel()
	paid := owing(0)
	paid.Debt = nil
	with := func(s Subscription, change func(*Subscription)) Subscription { change(&s); return s }
	limited := State{
		Level: Limited, Reason: ByFailure, Since: monday.AddDate(0, 0, -5), LoweredAt: monday.AddDate(0, 0, -5), InDebt: true, Lowest: Limited,
	}
	day := func(n int) time.Time { return monday.AddDate(0, 0, n) }
	for _, test := range []struct {
		name   string
		policy func(*Policy)
		sub    Subscription
		who    Standing
		was    State
		level  Level
		target Level
		reason Reason
	}{
		{name: "nothing is owed", sub: paid, level: Full, reason: ByPayment},
		{name: "paying raises at once", sub: paid, was: limited, level: Full, reason: ByPayment},
		{name: "the first day", sub: owing(0), level: Notice, reason: ByFailure},
		{name: "an old debt falls one step", sub: owing(40), level: Notice, target: Blocked, reason: ByFailure},
		{name: "the step after it", sub: owing(40), was: limited, level: Blocked, reason: ByFailure},
		{
			name: "not twice in a day", sub: owing(40), was: State{Level: Notice, LoweredAt: monday.Add(-23 * time.Hour)},
			level: Notice, target: Blocked, reason: ByFailure,
		},
		{
			name: "the policy came later than the debt", policy: func(p *Policy) { p.EffectiveFrom.Time = day(-1) }, sub: owing(40),
			level: Notice, reason: ByFailure,
		},
		{
			name: "never below", policy: func(p *Policy) { p.NeverBelow = Grace }, sub: owing(40), was: State{Level: Notice},
			level: Grace, reason: ByFailure,
		},
		{name: "an override raises", sub: owing(40), was: limited, who: Standing{Override: &Override{Level: Full}}, level: Full, reason: ByOverride},
		{name: "an override lowers at once", sub: paid, who: Standing{Override: &Override{Level: Blocked, Until: day(1)}}, level: Blocked, reason: ByOverride},
		{name: "an override has ended", sub: paid, was: limited, who: Standing{Override: &Override{Level: Blocked, Until: day(0)}}, level: Full, reason: ByPayment},
		{name: "an exemption", sub: owing(40), was: limited, who: Standing{Exempt: true}, level: Full, reason: ByExemption},
		{
			name: "ended", sub: with(paid, func(s *Subscription) { s.Service, s.EndedAt = Ended, day(-1) }), level: Blocked, reason: ByEnd,
		},
		{
			name: "ended, and not over yet", policy: func(p *Policy) { p.Ended.GraceDays = 3 },
			sub: with(paid, func(s *Subscription) { s.Service, s.EndedAt = Ended, day(-1) }), level: Full, reason: ByPayment,
		},
		{name: "never paid", sub: with(owing(0), func(s *Subscription) { s.Service = Incomplete }), level: Blocked, reason: ByIncompleteness},
		{name: "paused", sub: with(paid, func(s *Subscription) { s.Service = Suspended }), level: Limited, reason: ByPause},
		{
			name: "the merchant serves for nothing", sub: with(owing(40), func(s *Subscription) { s.Service = Unbilled }), was: limited,
			level: Full, reason: ByCollection,
		},
		{name: "a dispute holds", sub: with(owing(40), func(s *Subscription) { s.Disputed = true }), was: limited, level: Limited, reason: ByDispute},
		{
			name: "a dispute lets rise", sub: with(owing(4), func(s *Subscription) { s.Disputed = true }), was: limited,
			level: Grace, reason: ByFailure,
		},
		{
			name: "a dispute about what is paid", sub: with(paid, func(s *Subscription) { s.Disputed = true }), was: limited,
			level: Full, reason: ByPayment,
		},
		{
			name: "a bank moves the money", sub: with(owing(40), func(s *Subscription) { s.PaymentUnderWay = true }), was: limited,
			level: Full, reason: ByPaymentUnderWay,
		},
		{
			name: "a small debt", policy: func(p *Policy) { p.Ladder.MinAmount = map[string]int64{"usd": 4901} }, sub: owing(40), was: limited,
			level: Full, reason: ByMinimum,
		},
		{
			name: "small in another currency", policy: func(p *Policy) { p.Ladder.MinAmount = map[string]int64{"eur": 4901} }, sub: owing(0),
			level: Notice, reason: ByFailure,
		},
		{
			name: "written off", sub: with(owing(40), func(s *Subscription) { s.Debt.Kind = debt.WrittenOff }), was: limited,
			level: Limited, reason: ByWriteOff,
		},
		{
			name: "written off, and forgotten", policy: func(p *Policy) { p.WrittenOff = string(Full) },
			sub: with(owing(40), func(s *Subscription) { s.Debt.Kind = debt.WrittenOff }), was: limited, level: Full, reason: ByWriteOff,
		},
		{
			name: "charged back", sub: with(owing(40), func(s *Subscription) { s.Debt.Kind = debt.ChargedBack }), was: limited,
			level: Blocked, reason: ByChargeback,
		},
		{
			name: "held out of hunts", policy: func(p *Policy) { p.Holdout = string(Full) }, sub: with(owing(40), func(s *Subscription) { s.HeldOut = true }),
			was: limited, level: Full, reason: ByHoldout,
		},
		{name: "a promise", sub: owing(40), was: limited, who: Standing{PromisedUntil: day(1)}, level: Grace, reason: ByPromise},
		{name: "a promise that is over", sub: owing(40), was: limited, who: Standing{PromisedUntil: day(0)}, level: Blocked, reason: ByFailure},
		{
			name: "what is paid goes on", sub: with(owing(40), func(s *Subscription) { s.PaidUntil = day(100) }), was: limited,
			level: Grace, reason: ByPaidPeriod,
		},
		{
			// https://github.com/killbill/killbill/issues/2297
			name: "a part of the debt is paid", sub: owing(4), was: limited, level: Grace, reason: ByFailure,
		},
		{
			name: "a relapse goes on where the last debt stood", sub: owing(1),
			was:   State{Level: Grace, Reason: ByFailure, LoweredAt: day(-1), InDebt: true, DebtEndedAt: day(-10), Reached: 10},
			level: Limited, reason: ByFailure,
		},
		{
			name: "a relapse after a while is none", sub: owing(1),
			was:   State{Level: Full, DebtEndedAt: day(-32), Reached: 21},
			level: Notice, reason: ByFailure,
		},
		{
			name: "the same debt comes back, and its days have counted", sub: owing(14),
			was:   State{Level: Full, DebtEndedAt: day(-2), Reached: 10, LoweredAt: day(-4)},
			level: Notice, target: Limited, reason: ByFailure,
		},
		{
			name: "a relapse counts from the policy's beginning", policy: func(p *Policy) { p.EffectiveFrom.Time = day(-1) }, sub: owing(1),
			was:   State{Level: Full, DebtEndedAt: day(-10), Reached: 21},
			level: Notice, reason: ByFailure,
		},
		{
			name: "a debt that bounces comes back to where a dispute held it", sub: with(owing(40), func(s *Subscription) { s.Disputed = true }),
			was:   State{Level: Full, HeldAt: Limited, InDebt: true, LoweredAt: day(-9)},
			level: Notice, target: Limited, reason: ByDispute,
		},
		{
			name: "a pause is no gift to a customer who owes", sub: with(owing(40), func(s *Subscription) { s.Service = Suspended }),
			was: State{Level: Blocked, InDebt: true}, level: Blocked, reason: ByPause,
		},
		{
			name: "nor is an end", policy: func(p *Policy) { p.Ended.Level = Limited },
			sub: with(owing(40), func(s *Subscription) { s.Service, s.EndedAt = Ended, day(-1) }),
			was: State{Level: Blocked, InDebt: true}, level: Blocked, reason: ByEnd,
		},
		{
			name: "nobody knows since when", sub: with(owing(0), func(s *Subscription) { s.Debt.Since = time.Time{} }), was: State{Level: Notice},
			level: Notice, reason: ByFailure,
		},
		{
			name: "a price of its own", policy: func(p *Policy) {
				p.Prices = map[string]Ladder{"price_1": {Steps: []Step{{Blocked, 0}}}}
				p.Products = map[string]Ladder{"prod_1": {Steps: []Step{{Notice, 0}}}}
			}, sub: owing(0), level: Blocked, reason: ByFailure,
		},
		{
			name: "of two products the milder", policy: func(p *Policy) {
				p.Products = map[string]Ladder{"prod_1": {Steps: []Step{{Grace, 0}}}, "prod_2": {Steps: []Step{{Blocked, 0}}}}
			}, sub: with(owing(0), func(s *Subscription) { s.Products = []string{"prod_1", "prod_2"} }), level: Grace, reason: ByFailure,
		},
		{
			name: "a ladder without steps", policy: func(p *Policy) { p.Ladder.Steps = []Step{} }, sub: owing(40), level: Full, reason: ByFailure,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := always()
			if test.policy != nil {
				test.policy(&p)
			}
			if test.target == "" {
				test.target = test.level
			}
			got := Judge(p, test.sub, test.who, test.was, monday)
			if got.Level != test.level || got.Target != test.target || got.Reason != test.reason {
				t.Errorf("%s (%s), on the way to %s; want %s (%s), on the way to %s",
					got.Level, got.Reason, got.Target, test.level, test.reason, test.target)
			}
		})
	}
}

// A debt that nobody pays falls step by step, each on its day, and the sweep needs no other moments
// than those that a judgement names.
func TestALadderFromTopToBottom(t *testing.T) {
	t.Parallel()
	p, s, was, now := Default(), owing(0), State{}, monday
	var fell []string
	for range 50 {
		got := Judge(p, s, Standing{}, was, now)
		if got.Level != was.Level {
			fell = append(fell, now.Format("Mon 2006-01-02 15:04 ")+string(got.Level))
		}
		if was = got.State; got.NextAt.IsZero() {
			break
		}
		now = got.NextAt
	}
	want := []string{
		"Mon 2026-11-30 12:00 notice", "Thu 2026-12-03 12:00 grace", "Thu 2026-12-10 12:00 limited", "Mon 2026-12-21 12:00 blocked",
	}
	if !slices.Equal(fell, want) {
		t.Errorf("got %q, want %q", fell, want)
	}
	if s.Debt = nil; Judge(p, s, Standing{}, was, now.Add(time.Hour)).Level != Full {
		t.Error("paying does not raise to full")
	}
}

// dice make random worlds of one judgement.
type dice struct{ *rand.Rand }

func newDice(seed uint64) dice { return dice{rand.New(rand.NewPCG(seed, 14))} }

func one[T any](d dice, of ...T) T { return of[d.IntN(len(of))] }

// moment is one within so many days around monday.
func (d dice) moment(days int) time.Time {
	return monday.Add(time.Duration(d.IntN(2*days*24*60)-days*24*60) * time.Minute)
}

// maybe is a moment, or none.
func (d dice) maybe(days int) (at time.Time) {
	if d.IntN(2) == 0 {
		at = d.moment(days)
	}
	return at
}

func (d dice) ladder() (l Ladder) {
	days := 0
	for _, level := range Levels[1:] {
		if d.IntN(4) > 0 {
			l.Steps = append(l.Steps, Step{level, days + d.IntN(3)})
			days += 3 + d.IntN(8)
		}
	}
	if d.IntN(2) == 0 {
		l.MinAmount = map[string]int64{"usd": d.Int64N(3000), "eur": d.Int64N(3000)}
	}
	return l
}

func (d dice) policy() Policy {
	p := Default()
	p.EffectiveFrom.Time = d.maybe(30)
	p.Ladder = d.ladder()
	for _, id := range []string{"1", "2"} {
		if d.IntN(3) == 0 {
			p.Products["prod_"+id] = d.ladder()
		}
		if d.IntN(4) == 0 {
			p.Prices["price_"+id] = d.ladder()
		}
	}
	p.NeverBelow = one(d, Blocked, Blocked, Limited, Grace)
	p.PaidPeriod, p.Dispute = one(d, Keep, Ignore), one(d, Hold, FollowLadder)
	p.Paused, p.Ended = one(d, Levels...), Ending{one(d, Levels...), d.IntN(3)}
	p.WrittenOff, p.Holdout = one(d, Hold, FollowLadder, string(Full)), one(d, Apply, string(Full))
	p.Hysteresis = Hysteresis{1 + d.IntN(3), d.IntN(40)}
	if d.IntN(2) == 0 {
		p.Hours = always().Hours
	}
	return p
}

// subscription is one whose service goes on unless it is wild.
func (d dice) subscription(wild bool) Subscription {
	s := Subscription{
		Products: one(d, nil, []string{"prod_1"}, []string{"prod_1", "prod_2"}), Prices: one(d, nil, []string{"price_2"}, []string{"price_2", "price_1"}),
		PaidUntil: d.maybe(20), Disputed: d.IntN(5) == 0, PaymentUnderWay: d.IntN(8) == 0, HeldOut: d.IntN(4) == 0,
	}
	if d.IntN(5) > 0 {
		s.Debt = &Debt{
			Kind: one(d, debt.Owed, debt.Owed, debt.WrittenOff, debt.ChargedBack), Amount: d.Int64N(6000), Currency: one(d, "usd", "eur", "jpy"), Since: d.moment(40),
		}
	}
	if wild {
		s.Service, s.EndedAt = one(d, Serving, Serving, Ended, Incomplete, Suspended, Unbilled), d.moment(10)
	}
	return s
}

func (d dice) standing() (who Standing) {
	if d.IntN(6) == 0 {
		who.Override = &Override{one(d, Levels...), d.maybe(10)}
	}
	who.Exempt, who.PromisedUntil = d.IntN(8) == 0, d.maybe(10)
	who.Zone = one(d, nil, time.UTC, newYork)
	return who
}

var newYork = func() *time.Location {
	zone, err := time.LoadLocation("America/New_York")
	if err != nil {
		panic(err)
	}
	return zone
}()

func (d dice) state() State {
	if d.IntN(5) == 0 {
		return State{}
	}
	before := monday.AddDate(0, 0, -d.IntN(10))
	return State{
		Level: one(d, Levels...), Reason: one(d, ByFailure, ByPause, ByPayment, ByPromise), Since: before, LoweredAt: one(d, time.Time{}, before),
		InDebt: d.IntN(2) == 0, Lowest: one(d, "", Full, Notice, Limited), HeldAt: one(d, "", "", Grace, Limited), DebtEndedAt: one(d, time.Time{}, before.AddDate(0, 0, -d.IntN(30))), Reached: d.IntN(20),
	}
}

const rounds = 20_000

// Paying gives full access at once: a debt alone never outlives its payment.
func TestPayingRaisesToFull(t *testing.T) {
	t.Parallel()
	for seed := range uint64(rounds) {
		d := newDice(seed)
		p, s, who := d.policy(), d.subscription(false), d.standing()
		s.Debt, who.Override = nil, nil
		if got := Judge(p, s, who, d.state(), monday); got.Level != Full {
			t.Fatalf("seed %d: %s (%s)", seed, got.Level, got.Reason)
		}
	}
}

// A smaller debt, a younger one and none leave as much access at least.
func TestLessDebtNeverMeansLessAccess(t *testing.T) {
	t.Parallel()
	for seed := range uint64(rounds) {
		d := newDice(seed)
		p, s, who, was := d.policy(), d.subscription(true), d.standing(), d.state()
		if s.Debt == nil {
			continue
		}
		less := s
		smaller := *s.Debt
		less.Debt = &smaller
		switch d.IntN(3) {
		case 0:
			smaller.Amount -= d.Int64N(smaller.Amount + 1)
		case 1:
			smaller.Since = smaller.Since.Add(time.Duration(d.IntN(40*24)) * time.Hour)
		case 2:
			less.Debt = nil
		}
		before, after := Judge(p, s, who, was, monday), Judge(p, less, who, was, monday)
		if after.Level.Below(before.Level) || after.Target.Below(before.Target) {
			t.Fatalf("seed %d: with less debt %s on the way to %s, before %s on the way to %s", seed, after.Level, after.Target, before.Level, before.Target)
		}
	}
}

func TestASecondLookChangesNothing(t *testing.T) {
	t.Parallel()
	for seed := range uint64(rounds) {
		d := newDice(seed)
		p, s, who := d.policy(), d.subscription(true), d.standing()
		first := Judge(p, s, who, d.state(), monday)
		if second := Judge(p, s, who, first.State, monday); second.State != first.State {
			t.Fatalf("seed %d: %+v, and then %+v", seed, first.State, second.State)
		}
	}
}

// Between a judgement and the moment that it names time changes nothing, and without such a moment
// never.
func TestTimeChangesNothingBeforeItsMoment(t *testing.T) {
	t.Parallel()
	for seed := range uint64(rounds) {
		d := newDice(seed)
		p, s, who := d.policy(), d.subscription(true), d.standing()
		got := Judge(p, s, who, d.state(), monday)
		at := monday.Add(time.Duration(d.IntN(400*24*60)) * time.Minute)
		if next := got.NextAt; !next.IsZero() && !at.Before(next) {
			at = monday.Add(time.Duration(d.Int64N(int64(next.Sub(monday)))))
		}
		if later := Judge(p, s, who, got.State, at); later.Level != got.Level {
			t.Fatalf("seed %d: %s at %s and %s at %s, before %s", seed, got.Level, monday, later.Level, at, got.NextAt)
		}
	}
}

// In which zone a machine or a database tells its times changes nothing.
func TestZonesOfMachinesDoNotMatter(t *testing.T) {
	t.Parallel()
	for seed := range uint64(rounds) {
		d := newDice(seed)
		p, s, who, was := d.policy(), d.subscription(true), d.standing(), d.state()
		now := monday.Add(time.Duration(d.IntN(400*24)) * time.Hour) // clocks change meanwhile
		got := Judge(p, s, who, was, now)
		p.EffectiveFrom.Time, s.EndedAt, s.PaidUntil = p.EffectiveFrom.In(newYork), s.EndedAt.In(newYork), s.PaidUntil.In(newYork)
		was.LoweredAt, was.DebtEndedAt = was.LoweredAt.In(newYork), was.DebtEndedAt.In(newYork)
		if s.Debt != nil {
			s.Debt.Since = s.Debt.Since.In(newYork)
		}
		there := Judge(p, s, who, was, now.In(newYork))
		if there.Level != got.Level || there.Target != got.Target || !there.NextAt.Equal(got.NextAt) {
			t.Fatalf("seed %d: %s until %s, and in New York %s until %s", seed, got.Level, got.NextAt, there.Level, there.NextAt)
		}
	}
}

// A debt lowers a level to the next step of its ladder and no further.
func TestNoStepIsSkipped(t *testing.T) {
	t.Parallel()
	fell := 0
	for seed := range uint64(rounds) {
		d := newDice(seed)
		p, s, who, was := d.policy(), d.subscription(false), d.standing(), d.state()
		p.Products, p.Prices, who.Override = nil, nil, nil
		if was.Level == "" {
			was.Level = Full
		}
		got := Judge(p, s, who, was, monday)
		if !got.Level.Below(was.Level) {
			continue
		}
		fell++
		next := slices.IndexFunc(p.Ladder.Steps, func(step Step) bool { return step.Level.Below(was.Level) })
		if next >= 0 && got.Level.Below(p.Ladder.Steps[next].Level) || next < 0 && got.Level != got.Target {
			t.Fatalf("seed %d: from %s to %s by %+v", seed, was.Level, got.Level, p.Ladder.Steps)
		}
		if who.Zone == nil {
			who.Zone = time.UTC
		}
		if !p.Hours.Next(monday, who.Zone).Equal(monday) {
			t.Fatalf("seed %d: outside of the hours", seed)
		}
	}
	if fell < rounds/50 {
		t.Errorf("only %d fell", fell)
	}
}

// A thousand histories are judged as the decision's page says, by code that was written from that
// page alone.
func TestHistoriesAreTheReferences(t *testing.T) {
	t.Parallel()
	seen := map[Reason]int{}
	for seed := range uint64(1000) {
		d := newDice(seed)
		p, s, who := d.policy(), d.subscription(true), d.standing()
		var was State
		for now := monday; now.Before(monday.AddDate(0, 0, 60)); now = now.Add(time.Duration(1+d.IntN(40)) * time.Hour) {
			switch d.IntN(12) {
			case 0:
				s = d.subscription(d.IntN(3) == 0)
			case 1:
				s.Debt = nil
			case 2:
				who = d.standing()
			case 3:
				p = d.policy()
			}
			got := Judge(p, s, who, was, now)
			state, target := reference(p, s, who, was, now)
			if got.State != state || got.Target != target {
				t.Fatalf("seed %d, %s: %+v on the way to %s, the reference says %+v on the way to %s\n%+v %+v %+v",
					seed, now, got.State, got.Target, state, target, s, s.Debt, was)
			}
			seen[got.Reason]++
			was = got.State
		}
	}
	for _, reason := range []Reason{
		ByOverride, ByExemption, ByEnd, ByIncompleteness, ByPause, ByCollection, ByPayment, ByDispute, ByPaymentUnderWay, ByHoldout, ByWriteOff,
		ByMinimum, ByFailure, ByChargeback, ByPromise, ByPaidPeriod,
	} {
		if seen[reason] < 20 {
			t.Errorf("%s was met %d times", reason, seen[reason])
		}
	}
}
