package shield

import (
	"slices"
	"time"

	"phantom/debt"
)

// Subscription is what is known of one at Stripe.
type Subscription struct {
	Products, Prices []string // of its items
	Service          ServiceState
	EndedAt          time.Time
	PaidUntil        time.Time // the end of the last period that is paid
	Disputed         bool      // a dispute about one of its charges is open
	PaymentUnderWay  bool      // the bank still moves the money for what is owed
	HeldOut          bool      // of hunts, to compare with
	Debt             *Debt     // nil: nothing is owed
}

// ServiceState is whether a merchant serves a subscription, no matter what is owed.
type ServiceState string

// The services. A pause that is a hunt's final step is none of them: it is no reason to keep
// access.
const (
	Serving    ServiceState = ""
	Ended      ServiceState = "ended"
	Incomplete ServiceState = "incomplete" // its first payment was never made
	Suspended  ServiceState = "suspended"  // paused: nothing is served meanwhile
	Unbilled   ServiceState = "unbilled"   // the merchant collects nothing, and serves
)

// Debt is what a subscription owes. What a hunt's final step has written off is still owed.
type Debt struct {
	Kind     debt.Kind `json:"kind"`
	Amount   int64     `json:"amount,omitempty"` // minor units
	Currency string    `json:"currency"`
	// of the oldest invoice's first failure. That is its due date where it was sent, and the
	// dispute's beginning where it was charged back. Zero is not known, and ages nothing
	Since time.Time `json:"since,omitzero"`
	// the purge has taken the amount
	Forgotten bool `json:"forgotten,omitempty"`
}

// Standing is what people have decided about a subscription or its customer.
type Standing struct {
	Override      *Override
	Exempt        bool
	PromisedUntil time.Time      // the customer pays until then
	Zone          *time.Location // the merchant's; nil is UTC
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
	Lowest    Level // to which this debt has lowered it; "" or full: to none
	HeldAt    Level // the level when a dispute or a write-off began to hold it; "": none does

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
// docs/adr/0022-levels-of-access.md has the questions and their order.
func Judge(p Policy, s Subscription, standing Standing, was State, now time.Time) Judgement {
	if was.Level == "" {
		was.Level = Full
	}
	j := judging{policy: p, sub: s, standing: standing, was: was, now: now, ladders: laddersOf(p, s)}
	j.holds()
	a := j.answer()
	next := j.was
	next.Reason = a.reason
	if a.atOnce || !a.level.Below(was.Level) {
		next.Level = a.level
	} else if step, ok := j.stepDown(a); ok {
		next.Level, next.LoweredAt, next.Lowest = step, now, Worst(next.Lowest, step)
		j.judgeAgainAt(p.Hours.Next(after(now, p.Hysteresis.MinDaysPerStep), j.zone()))
	}
	if next.Level != was.Level || was.Since.IsZero() {
		next.Since = now
	}
	next.InDebt = s.Debt != nil
	if was.InDebt && !next.InDebt {
		next.DebtEndedAt, next.Reached, next.Lowest = now, j.reached(was.Lowest), ""
	}
	return Judgement{next, a.level, j.next}
}

// judging is one judgement under way.
type judging struct {
	policy   Policy
	sub      Subscription
	standing Standing
	was      State
	now      time.Time

	ladders []Ladder  // that hold for the subscription
	next    time.Time // see Judgement.NextAt
}

// judgeAgainAt notes a moment at which time alone may change something.
func (j *judging) judgeAgainAt(at time.Time) {
	if at.After(j.now) && (j.next.IsZero() || at.Before(j.next)) {
		j.next = at
	}
}

// isAhead says whether a moment is still to come, and has the judgement repeated then.
func (j *judging) isAhead(at time.Time) bool {
	j.judgeAgainAt(at)
	return at.After(j.now)
}

// after is so many days of 24 hours later: no zone's clock changes have a say.
func after(at time.Time, days int) time.Time { return at.Add(time.Duration(days) * 24 * time.Hour) }

func (j *judging) zone() *time.Location {
	if j.standing.Zone == nil {
		return time.UTC
	}
	return j.standing.Zone
}

// answer is where a judgement leads.
type answer struct {
	level  Level
	reason Reason
	atOnce bool // and not by steps: it is no debt that lowers
}

// answer asks the questions in their order; the first answer counts.
func (j *judging) answer() answer {
	if o := j.standing.Override; o != nil && (o.Until.IsZero() || j.isAhead(o.Until)) {
		return answer{o.Level, ByOverride, true}
	}
	if j.standing.Exempt {
		return answer{Full, ByExemption, false}
	}
	if a, ok := j.service(); ok {
		return a
	}
	if j.sub.Debt == nil {
		return answer{Full, ByPayment, false}
	}
	a, ok := j.harmless()
	if !ok {
		a = j.softened(j.owing())
	}
	if reason, held := j.held(); held && a.level.Below(j.was.HeldAt) {
		return answer{j.was.HeldAt, reason, false}
	}
	return a
}

// held says whether nothing may be lowered for now, and why.
func (j *judging) held() (Reason, bool) {
	switch s := j.sub; {
	case s.Debt == nil:
	case s.Debt.Kind == debt.WrittenOff && j.policy.WrittenOff == Hold:
		return ByWriteOff, true
	case s.Disputed && j.policy.Dispute == Hold:
		return ByDispute, true
	}
	return "", false
}

// holds keeps the level at which a hold began. What raises it meanwhile and fails, such as a bank
// debit that bounces, leads back there and buys nothing.
func (j *judging) holds() {
	if _, held := j.held(); !held {
		j.was.HeldAt = ""
	} else if j.was.HeldAt == "" {
		j.was.HeldAt = j.was.Level
	}
}

// service says what holds where a subscription gives no service, or gives it for nothing. An end or
// a pause is no gift to a customer who owes.
func (j *judging) service() (answer, bool) {
	atMost := func(level Level) Level {
		if j.sub.Debt != nil {
			return Worst(level, j.was.Level)
		}
		return level
	}
	switch p := j.policy; j.sub.Service {
	case Ended:
		over := !j.isAhead(after(j.sub.EndedAt, p.Ended.GraceDays))
		return answer{atMost(p.Ended.Level), ByEnd, true}, over
	case Incomplete:
		return answer{Blocked, ByIncompleteness, true}, true
	case Suspended:
		return answer{atMost(p.Paused), ByPause, true}, true
	case Unbilled:
		return answer{Full, ByCollection, false}, true
	case Serving:
	}
	return answer{}, false
}

// harmless says which debts lower nothing.
func (j *judging) harmless() (answer, bool) {
	s, p := j.sub, j.policy
	switch {
	case s.Debt.Kind == debt.WrittenOff && p.WrittenOff == string(Full):
		return answer{Full, ByWriteOff, false}, true
	case s.HeldOut && p.Holdout == string(Full):
		return answer{Full, ByHoldout, false}, true
	case s.PaymentUnderWay:
		return answer{Full, ByPaymentUnderWay, false}, true
	case j.isSmall():
		return answer{Full, ByMinimum, false}, true
	}
	return answer{}, false
}

// owing is where the ladders lead.
func (j *judging) owing() answer {
	reason := ByFailure
	if j.sub.Debt.Kind == debt.ChargedBack {
		reason = ByChargeback
	}
	level := Blocked
	for _, ladder := range j.ladders {
		level = Best(level, j.at(ladder))
	}
	return answer{level, reason, false}
}

// softened is an answer that a promise or a paid period keeps at grace, and that is never below the
// policy's floor.
func (j *judging) softened(a answer) answer {
	soften := func(until time.Time, reason Reason) {
		if j.isAhead(until) && a.level.Below(Grace) {
			a.level, a.reason = Grace, reason
		}
	}
	if j.policy.PaidPeriod == Keep {
		soften(j.sub.PaidUntil, ByPaidPeriod)
	}
	soften(j.standing.PromisedUntil, ByPromise)
	a.level = Best(a.level, j.policy.NeverBelow)
	return a
}

// begin is from when on a debt's days count.
func (j *judging) begin() time.Time {
	begin := j.sub.Debt.Since
	if begin.IsZero() {
		begin = j.now
	}
	ended, days := j.was.DebtEndedAt, j.policy.Hysteresis.RelapseDays
	if days > 0 && !ended.IsZero() && begin.Before(after(ended, days)) {
		begin = relapsed(begin, ended, j.was.Reached)
	}
	if from := j.policy.EffectiveFrom.Time; from.After(begin) {
		begin = from
	}
	return begin
}

// relapsed is from when on a debt's days count that came soon after the last one: it goes on from
// the step which that one had reached. A debt from before that end is the same one come back, whose
// days have counted already.
func relapsed(begin, ended time.Time, reached int) time.Time {
	if !begin.Before(ended) {
		return after(begin, -reached)
	}
	if last := after(ended, -reached); last.Before(begin) {
		return last
	}
	return begin
}

// at is the level that a ladder has come to now.
func (j *judging) at(ladder Ladder) Level {
	level := Full
	for _, step := range ladder.Steps {
		if !j.isAhead(after(j.begin(), step.AfterDays)) {
			level = step.Level
		}
	}
	return level
}

// isSmall says whether a debt is too small to lower anything by one of the ladders.
func (j *judging) isSmall() bool { return isSmall(j.ladders, *j.sub.Debt) }

func isSmall(ladders []Ladder, d Debt) bool {
	return slices.ContainsFunc(ladders, func(l Ladder) bool { return d.Amount < l.MinAmount[d.Currency] })
}

// laddersOf are a subscription's: those of its prices before those of its products before the
// policy's own. Of several the one that leaves the most access counts, whenever it is asked.
func laddersOf(p Policy, s Subscription) (all []Ladder) {
	for _, own := range []struct {
		ids     []string
		ladders map[string]Ladder
	}{{s.Prices, p.Prices}, {s.Products, p.Products}} {
		for _, id := range own.ids {
			if ladder, ok := own.ladders[id]; ok {
				all = append(all, ladder)
			}
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
			if level != "" && !step.Level.Below(level) {
				days = step.AfterDays
			}
		}
		if i == 0 || days < fewest {
			fewest = days
		}
	}
	return fewest
}

// stepDown is the next level on the way to an answer, if it may be taken now: so many days after
// the last one, and within the policy's hours.
func (j *judging) stepDown(a answer) (Level, bool) {
	next := a.level
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
	if j.isAhead(j.policy.Hours.Next(earliest, j.zone())) {
		return "", false
	}
	return next, true
}
