package shield

import (
	"slices"
	"time"

	"phantom/debt"
)

// reference judges as docs/adr/0022-levels-of-access.md says. It was written from that page alone;
// who wrote the code has kept it to the page since.
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

	// The debt begins with the first failure, or now if nobody knows it, or when the policy does.
	// After a relapse it counts from earlier on.
	began := owed.Since
	if began.IsZero() {
		began = now
	}
	if p.Hysteresis.RelapseDays > 0 && !was.DebtEndedAt.IsZero() &&
		began.Before(was.DebtEndedAt.AddDate(0, 0, p.Hysteresis.RelapseDays)) {
		if began.Before(was.DebtEndedAt) { // the same debt, come back
			if stood := was.DebtEndedAt.AddDate(0, 0, -was.Reached); stood.Before(began) {
				began = stood
			}
		} else {
			began = began.AddDate(0, 0, -was.Reached)
		}
	}
	if p.EffectiveFrom.After(began) {
		began = p.EffectiveFrom.Time
	}

	// Where a ladder has come to. Without a debt nothing is due.
	due := func(l Ladder) Level {
		level := Full
		for _, step := range l.Steps {
			if s.Debt != nil && passed(began, step.AfterDays) {
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
		small = small || owed.Amount < l.MinAmount[owed.Currency]
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
	least := func(level Level) Level { // to a customer who owes an end or a pause gives nothing back
		if s.Debt != nil && access[soFar] < access[level] {
			return soFar
		}
		return level
	}
	questions := []question{
		{overridden, override.Level, true, ByOverride},
		{who.Exempt, Full, false, ByExemption},
		{gone, least(p.Ended.Level), true, ByEnd},
		{s.Service == Incomplete, Blocked, true, ByIncompleteness},
		{s.Service == Suspended, least(p.Paused), true, ByPause},
		{s.Service == Unbilled, Full, false, ByCollection},
		{s.Debt == nil, Full, false, ByPayment},
		{writtenOff && p.WrittenOff == string(Full), Full, false, ByWriteOff},
		{s.HeldOut && p.Holdout == string(Full), Full, false, ByHoldout},
		{s.PaymentUnderWay, Full, false, ByPaymentUnderWay},
		{small, Full, false, ByMinimum},
		{true, led, false, because},
	}
	for !questions[0].answered {
		questions = questions[1:]
	}
	answer := questions[0]
	// A hold keeps the level at which it began, for the answers of questions about debts.
	byWriteOff, byDispute := writtenOff && p.WrittenOff == Hold, s.Debt != nil && s.Disputed && p.Dispute == Hold
	heldAt := was.HeldAt
	if !byWriteOff && !byDispute {
		heldAt = ""
	} else if heldAt == "" {
		heldAt = soFar
	}
	if heldAt != "" && len(questions) <= 5 && access[answer.target] < access[heldAt] {
		answer.target, answer.reason = heldAt, ByDispute
		if byWriteOff {
			answer.reason = ByWriteOff
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
	next.Level, next.Reason, next.HeldAt = soFar, answer.reason, heldAt
	if answer.atOnce || access[answer.target] > access[soFar] {
		next.Level = answer.target
	} else if access[answer.target] < access[soFar] && waited && open {
		next.Level, next.LoweredAt = step, now
		if was.Lowest == "" || access[step] < access[was.Lowest] {
			next.Lowest = step
		}
	}
	if next.Level != soFar || was.Since.IsZero() {
		next.Since = now
	}

	// A debt that is over had come to the last step that the level had fallen to.
	next.InDebt = s.Debt != nil
	if was.InDebt && !next.InDebt {
		next.DebtEndedAt, next.Lowest = now, ""
		var days []int
		for _, l := range ladders {
			reached := 0
			for _, step := range l.Steps {
				if was.Lowest != "" && access[step.Level] >= access[was.Lowest] {
					reached = step.AfterDays
				}
			}
			days = append(days, reached)
		}
		next.Reached = slices.Min(days)
	}
	return next, answer.target
}
