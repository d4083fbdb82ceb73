package shield

import (
	"slices"
	"time"

	"phantom/debt"
)

// Subscription is what is known of one at Stripe.
type Subscription struct {
	Products, Prices []string // of its items
	Service          Service
	EndedAt          time.Time
	PaidUntil        time.Time // the end of the last period that is paid
	Disputed         bool      // a dispute about one of its charges is open
	PaymentUnderWay  bool      // the bank still moves the money for what is owed
	HeldOut          bool      // of hunts, to compare with
	Debt             *Debt     // nil: nothing is owed
}

// Service is whether a merchant serves a subscription, no matter what is owed.
type Service string

// The services. A pause that is a hunt's final step is none of them: it is no reason to keep
// access.
const (
	Serving    Service = ""
	Ended      Service = "ended"
	Incomplete Service = "incomplete" // its first payment was never made
	Suspended  Service = "suspended"  // paused: nothing is served meanwhile
	Given      Service = "given"      // the merchant collects nothing, and serves
)

// Debt is what a subscription owes.
type Debt struct {
	Kind     debt.Kind
	Amount   int64 // minor units
	Currency string
	Since    time.Time // of the oldest invoice's first failure
}

// Standing is what people have decided about a subscription or its customer.
type Standing struct {
	Override      *Override
	Exempt        bool
	PromisedUntil time.Time // the customer pays until then
	Zone          *time.Location
}

// Override is a level that a person has chosen.
type Override struct {
	Level Level
	Until time.Time // zero: until it is taken back
}

// State is what is kept of a subscription from one judgement to the next.
type State struct {
	Level     Level
	Reason    Reason
	Since     time.Time // of the level
	LoweredAt time.Time // the last time that a debt did it
	InDebt    bool

	// The last debt that is over: when, and the after_days of the step that it had come to.
	DebtEndedAt time.Time
	Reached     int
}

// Judgement is a new state, and where it leads.
type Judgement struct {
	State
	Target Level // where the policy leads from here, one step at a time
	// the first moment at which time alone may change something; zero: never
	NextAt time.Time
}

// Judge says what level a subscription has from now on. The zero State is one that has just become
// known: it had full access. Judging again at the same moment changes nothing.
func Judge(p Policy, s Subscription, who Standing, was State, now time.Time) Judgement {
	if was.Level == "" {
		was.Level = Full
	}
	j := judging{policy: p, sub: s, who: who, was: was, now: now, ladders: laddersOf(p, s)}
	t := j.target()
	next := was
	next.Reason = t.reason
	if t.free || !t.level.Below(was.Level) {
		next.Level = t.level
	} else if step, ok := j.stepDown(t); ok {
		next.Level, next.LoweredAt = step, now
		j.again(p.Hours.Next(after(now, p.Hysteresis.MinDaysPerStep), j.zone()))
	}
	if next.Level != was.Level || was.Since.IsZero() {
		next.Since = now
	}
	next.InDebt = s.Debt != nil
	if was.InDebt && !next.InDebt {
		next.DebtEndedAt, next.Reached = now, 0
		if !slices.Contains(othersReasons, was.Reason) {
			next.Reached = j.reached(was.Level)
		}
	}
	return Judgement{next, t.level, j.next}
}

// othersReasons are those of levels that no debt has made.
var othersReasons = []Reason{ByOverride, ByEnd, ByIncompleteness, ByPause}

// judging is one judgement under way.
type judging struct {
	policy Policy
	sub    Subscription
	who    Standing
	was    State
	now    time.Time

	ladders []Ladder  // that hold for the subscription
	next    time.Time // see Judgement.NextAt
}

// again notes a moment at which time alone may change something.
func (j *judging) again(at time.Time) {
	if at.After(j.now) && (j.next.IsZero() || at.Before(j.next)) {
		j.next = at
	}
}

// after is so many days of 24 hours later: no zone's clock changes have a say.
func after(at time.Time, days int) time.Time { return at.Add(time.Duration(days) * 24 * time.Hour) }

// until says whether a moment is still to come, and has the judgement repeated then.
func (j *judging) until(at time.Time) bool {
	j.again(at)
	return at.After(j.now)
}

func (j *judging) zone() *time.Location {
	if j.who.Zone == nil {
		return time.UTC
	}
	return j.who.Zone
}

// target is where a judgement leads.
type target struct {
	level  Level
	reason Reason
	free   bool // at once, and not by steps: it is no debt that lowers
}

// target asks the questions in their order; the first answer counts.
func (j *judging) target() target {
	if who := j.who.Override; who != nil && (who.Until.IsZero() || j.until(who.Until)) {
		return target{who.Level, ByOverride, true}
	}
	if j.who.Exempt {
		return target{Full, ByExemption, false}
	}
	if t, ok := j.service(); ok {
		return t
	}
	if j.sub.Debt == nil {
		return target{Full, ByPayment, false}
	}
	t, ok := j.spared()
	if !ok {
		t = j.softened(j.owing())
	}
	if reason, held := j.held(); held && t.level.Below(j.was.Level) {
		return target{j.was.Level, reason, false}
	}
	return t
}

// held says whether nothing may be lowered for now, and why.
func (j *judging) held() (Reason, bool) {
	switch {
	case j.sub.Debt.Kind == debt.WrittenOff && j.policy.WrittenOff == Hold:
		return ByWriteOff, true
	case j.sub.Disputed && j.policy.Dispute == Hold:
		return ByDispute, true
	}
	return "", false
}

// service says what holds where a subscription gives no service, or gives it for nothing.
func (j *judging) service() (target, bool) {
	switch p := j.policy; j.sub.Service {
	case Ended:
		over := !j.until(after(j.sub.EndedAt, p.Ended.GraceDays))
		return target{p.Ended.Level, ByEnd, true}, over
	case Incomplete:
		return target{Blocked, ByIncompleteness, true}, true
	case Suspended:
		return target{p.Paused, ByPause, true}, true
	case Given:
		return target{Full, ByCollection, false}, true
	case Serving:
	}
	return target{}, false
}

// spared says which debts lower nothing.
func (j *judging) spared() (target, bool) {
	s, p := j.sub, j.policy
	switch {
	case s.Debt.Kind == debt.WrittenOff && p.WrittenOff == string(Full):
		return target{Full, ByWriteOff, false}, true
	case s.HeldOut && p.Holdout == string(Full):
		return target{Full, ByHoldout, false}, true
	case s.PaymentUnderWay:
		return target{Full, ByPaymentUnder, false}, true
	case j.isSmall():
		return target{Full, ByMinimum, false}, true
	}
	return target{}, false
}

// owing is where the ladders lead.
func (j *judging) owing() target {
	reason := ByFailure
	if j.sub.Debt.Kind == debt.ChargedBack {
		reason = ByChargeback
	}
	level := Blocked
	for _, ladder := range j.ladders {
		level = Best(level, j.at(ladder))
	}
	return target{level, reason, false}
}

// softened is a target that a promise or a paid period keeps at grace, and that is never below the
// policy's floor.
func (j *judging) softened(t target) target {
	soften := func(until time.Time, reason Reason) {
		if j.until(until) && t.level.Below(Grace) {
			t.level, t.reason = Grace, reason
		}
	}
	if j.policy.PaidPeriod == Keep {
		soften(j.sub.PaidUntil, ByPaidPeriod)
	}
	soften(j.who.PromisedUntil, ByPromise)
	t.level = Best(t.level, j.policy.NeverBelow)
	return t
}

// since is from when on a debt's days count.
func (j *judging) since() time.Time {
	since := j.sub.Debt.Since
	if from := j.policy.EffectiveFrom; from.After(since) {
		since = from
	}
	return since
}

// relapse is how many days a debt has ahead because the one before it was not long ago.
func (j *judging) relapse() int {
	ended, days := j.was.DebtEndedAt, j.policy.Hysteresis.RelapseDays
	if days == 0 || ended.IsZero() || !j.sub.Debt.Since.Before(after(ended, days)) {
		return 0
	}
	return j.was.Reached
}

// due is when a step is reached.
func (j *judging) due(step Step) time.Time {
	return after(j.since(), step.AfterDays-j.relapse())
}

// at is the level that a ladder has come to now.
func (j *judging) at(ladder Ladder) Level {
	level := Full
	for _, step := range ladder.Steps {
		if !j.until(j.due(step)) {
			level = step.Level
		}
	}
	return level
}

// isSmall says whether a debt is too small to lower anything by one of the ladders.
func (j *judging) isSmall() bool {
	return slices.ContainsFunc(j.ladders, func(l Ladder) bool { return j.sub.Debt.Amount < l.MinAmount[j.sub.Debt.Currency] })
}

// laddersOf are a subscription's: those of its prices before those of its products before the
// policy's own. Of several the one that leaves the most access counts, whenever it is asked.
func laddersOf(p Policy, s Subscription) (all []Ladder) {
	for _, own := range []struct {
		ids     []string
		ladders map[string]Ladder
	}{{s.Prices, p.Prices}, {s.Products, p.Products}} {
		for _, id := range own.ids {
			ladder, ok := own.ladders[id]
			if !ok {
				continue
			}
			if len(ladder.MinAmount) == 0 {
				ladder.MinAmount = p.Ladder.MinAmount
			}
			all = append(all, ladder)
		}
		if len(all) > 0 {
			return all
		}
	}
	return []Ladder{p.Ladder}
}

// reached is the after_days of the last step that is not below a level. Of several ladders it is
// the fewest days.
func (j *judging) reached(level Level) int {
	fewest := 0
	for i, ladder := range j.ladders {
		days := 0
		for _, step := range ladder.Steps {
			if !step.Level.Below(level) {
				days = step.AfterDays
			}
		}
		if i == 0 || days < fewest {
			fewest = days
		}
	}
	return fewest
}

// stepDown is the next level on the way to a target, if it may be taken now: so many days after the
// last one, and within the policy's hours.
func (j *judging) stepDown(t target) (Level, bool) {
	next := t.level
	for _, ladder := range j.ladders {
		for _, step := range ladder.Steps {
			if step.Level.Below(j.was.Level) {
				next = Best(next, step.Level)
			}
		}
	}
	earliest := j.now
	if rested := after(j.was.LoweredAt, j.policy.Hysteresis.MinDaysPerStep); rested.After(earliest) {
		earliest = rested
	}
	if j.until(j.policy.Hours.Next(earliest, j.zone())) {
		return "", false
	}
	return next, true
}
