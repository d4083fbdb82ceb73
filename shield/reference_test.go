package shield

import (
	"slices"
	"time"

	"phantom/debt"
)

// reference judges as docs/adr/0022-levels-of-access.md says, written from that page alone.
func reference(p Policy, s Subscription, who Standing, was State, now time.Time) (State, Level) {
	// How much access a level leaves, as a number of the reference's own.
	access := map[Level]int{Full: 5, Notice: 4, Grace: 3, Limited: 2, Blocked: 1}
	passed := func(from time.Time, days int) bool { return !now.Before(from.AddDate(0, 0, days)) }

	soFar := was.Level
	if soFar == "" {
		soFar = Full
	}
	var override Override
	if who.Override != nil {
		override = *who.Override
	}
	var owed Debt
	if s.Debt != nil {
		owed = *s.Debt
	}

	// The debt begins with the first failure, or when the policy does. After a relapse its steps
	// are due earlier, and that is told by the first failure alone.
	began, earlier := owed.Since, 0
	if p.EffectiveFrom.After(began) {
		began = p.EffectiveFrom
	}
	if p.Hysteresis.RelapseDays > 0 && !was.DebtEndedAt.IsZero() &&
		owed.Since.Before(was.DebtEndedAt.AddDate(0, 0, p.Hysteresis.RelapseDays)) {
		earlier = was.Reached
	}

	// Where a ladder has come to. Without a debt nothing is due.
	due := func(l Ladder) Level {
		level := Full
		for _, step := range l.Steps {
			if s.Debt != nil && passed(began, step.AfterDays-earlier) {
				level = step.Level
			}
		}
		return level
	}

	// The ladders: of the prices, or else of the products, or else the policy's.
	var ladders []Ladder
	for _, id := range s.Prices {
		if own, has := p.Prices[id]; has {
			ladders = append(ladders, own)
		}
	}
	if len(ladders) == 0 {
		for _, id := range s.Products {
			if own, has := p.Products[id]; has {
				ladders = append(ladders, own)
			}
		}
	}
	if len(ladders) == 0 {
		ladders = append(ladders, p.Ladder)
	}
	small, led := false, Blocked
	for _, l := range ladders {
		least := l.MinAmount
		if len(least) == 0 {
			least = p.Ladder.MinAmount
		}
		small = small || owed.Amount < least[owed.Currency]
		if access[due(l)] > access[led] {
			led = due(l)
		}
	}

	// The ladder's answer: what is due, softened, and then with a floor.
	because := ByFailure
	if owed.Kind == debt.ChargedBack {
		because = ByChargeback
	}
	if access[led] < access[Grace] && p.PaidPeriod == Keep && now.Before(s.PaidUntil) {
		led, because = Grace, ByPaidPeriod
	}
	if access[led] < access[Grace] && now.Before(who.PromisedUntil) {
		led, because = Grace, ByPromise
	}
	if access[led] < access[p.NeverBelow] {
		led = p.NeverBelow
	}

	writtenOff := owed.Kind == debt.WrittenOff

	// The questions of the page, in its order. The first that is answered counts.
	type question struct {
		answered bool
		target   Level
		atOnce   bool
		reason   Reason
	}
	overridden := who.Override != nil && (override.Until.IsZero() || now.Before(override.Until))
	gone := s.Service == Ended && passed(s.EndedAt, p.Ended.GraceDays)
	questions := []question{
		{overridden, override.Level, true, ByOverride},
		{who.Exempt, Full, false, ByExemption},
		{gone, p.Ended.Level, true, ByEnd},
		{s.Service == Incomplete, Blocked, true, ByIncompleteness},
		{s.Service == Suspended, p.Paused, true, ByPause},
		{s.Service == Given, Full, false, ByCollection},
		{s.Debt == nil, Full, false, ByPayment},
		{writtenOff && p.WrittenOff == string(Full), Full, false, ByWriteOff},
		{s.HeldOut && p.Holdout == string(Full), Full, false, ByHoldout},
		{s.PaymentUnderWay, Full, false, ByPaymentUnder},
		{small, Full, false, ByMinimum},
		{true, led, false, because},
	}
	for !questions[0].answered {
		questions = questions[1:]
	}
	answer := questions[0]
	if !answer.atOnce && access[answer.target] < access[soFar] {
		if writtenOff && p.WrittenOff == Hold {
			answer.target, answer.reason = soFar, ByWriteOff
		} else if s.Disputed && p.Dispute == Hold {
			answer.target, answer.reason = soFar, ByDispute
		}
	}

	// A step down is the first step of the ladder that leaves less than the level so far.
	zone := who.Zone
	if zone == nil {
		zone = time.UTC
	}
	local := now.In(zone)
	day, told := int(local.Weekday()), local.Format("15:04")
	if day == 0 {
		day = 7
	}
	open := slices.Contains(p.Hours.Days, day) && p.Hours.From <= told && told < p.Hours.To
	waited := was.LoweredAt.IsZero() || passed(was.LoweredAt, p.Hysteresis.MinDaysPerStep)
	step := answer.target
	for _, l := range ladders {
		for _, its := range l.Steps {
			if access[its.Level] < access[soFar] && access[its.Level] > access[step] {
				step = its.Level
			}
		}
	}

	next := was
	next.Level, next.Reason = soFar, answer.reason
	if answer.atOnce || access[answer.target] > access[soFar] {
		next.Level = answer.target
	} else if access[answer.target] < access[soFar] && waited && open {
		next.Level, next.LoweredAt = step, now
	}
	if next.Level != soFar || was.Since.IsZero() {
		next.Since = now
	}

	// A debt that is over had come to the last step that the level had fallen to.
	next.InDebt = s.Debt != nil
	if was.InDebt && !next.InDebt {
		next.DebtEndedAt, next.Reached = now, 0
		var days []int
		for _, l := range ladders {
			reached := 0
			for _, step := range l.Steps {
				if access[step.Level] >= access[soFar] {
					reached = step.AfterDays
				}
			}
			days = append(days, reached)
		}
		switch was.Reason {
		case ByOverride, ByEnd, ByIncompleteness, ByPause:
		default:
			next.Reached = slices.Min(days)
		}
	}
	return next, answer.target
}
