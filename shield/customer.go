package shield

import (
	"cmp"
	"slices"
	"time"
)

// Known is a subscription with the level that is stored of it.
type Known struct {
	ID, Product string
	Ended       bool
	Level       Level
	Reason      Reason
	Since       time.Time
	Held        bool   // the breaker holds the level
	Target      Level  // where the policy leads
	Ahead       []Next // see [Ahead]
}

// Next is a level to which time alone leads, and when.
type Next struct {
	Level Level     `json:"level"`
	At    time.Time `json:"at"`
}

// Verdict is what an app is told about a customer. Its JSON is part of the HTTP API.
type Verdict struct {
	Customer      string                `json:"customer"`
	Known         bool                  `json:"known"`
	Access        bool                  `json:"access"` // to what was asked for
	Level         Level                 `json:"level"`
	Target        Level                 `json:"target,omitempty"` // of a level that is held or not enforced
	Reason        Reason                `json:"reason,omitempty"`
	Since         *time.Time            `json:"since,omitempty"`
	Next          *Next                 `json:"next,omitempty"`
	Features      []string              `json:"features"` // what is left at a level without access
	Revision      string                `json:"revision"`
	Livemode      bool                  `json:"livemode"`
	Subscriptions []SubscriptionVerdict `json:"subscriptions"`
}

// SubscriptionVerdict is a verdict's part about one subscription.
type SubscriptionVerdict struct {
	ID      string `json:"id"`
	Product string `json:"product,omitempty"`
	Level   Level  `json:"level"`
	Reason  Reason `json:"reason,omitempty"`
}

// VerdictOf says whether a customer, of whom these subscriptions are known, may use a feature. An
// empty one is the product as a whole. Unless the policy is enforced everybody has full access, and
// target says what they would have.
func VerdictOf(p Policy, customer, feature string, all []Known) Verdict {
	v := Verdict{Customer: customer, Known: len(all) > 0, Level: p.Unknown, Features: []string{}, Subscriptions: []SubscriptionVerdict{}}
	if v.Known {
		counted := thatCount(all)
		k := chosen(p, counted)
		v.Level, v.Reason, v.Since, v.Next = k.Level, k.Reason, &k.Since, nextOf(p, counted, k.Level)
		if k.Held {
			v.Target, v.Next = k.Target, nil
		}
	}
	for _, k := range all {
		v.Subscriptions = append(v.Subscriptions, SubscriptionVerdict{k.ID, k.Product, k.Level, k.Reason})
	}
	if p.Mode != Enforce {
		v.unenforced()
	}
	v.Access = p.Allows(v.Level, feature)
	switch v.Level {
	case Limited:
		v.Features = p.Features.Limited
	case Blocked:
		v.Features = p.Features.Blocked
	case Full, Notice, Grace:
	}
	return v
}

// thatCount are a customer's subscriptions that have not ended, in the order of their ids. One
// whose first payment was never made is no subscription yet. Those count where nothing else is
// left.
func thatCount(all []Known) []Known {
	counted := slices.Clone(all)
	for _, left := range []func(Known) bool{
		func(k Known) bool { return k.Ended || k.Reason == ByIncompleteness },
		func(k Known) bool { return k.Ended },
	} {
		if some := slices.DeleteFunc(slices.Clone(all), left); len(some) > 0 {
			counted = some
			break
		}
	}
	slices.SortFunc(counted, func(a, b Known) int { return cmp.Compare(a.ID, b.ID) })
	return counted
}

// chosen is the one of a customer's subscriptions whose level is theirs: the best, so that an
// annual plan that is paid ignores another one's debt, or the worst where the policy says so.
func chosen(p Policy, counted []Known) Known {
	choice := counted[0]
	for _, k := range counted[1:] {
		if p.together(choice.Level, k.Level) != choice.Level {
			choice = k
		}
	}
	return choice
}

// together is the level of somebody who has both.
func (p Policy) together(a, b Level) Level {
	if p.Customer == "worst" {
		return Worst(a, b)
	}
	return Best(a, b)
}

// nextOf is the first moment at which time alone changes a customer's level. It is nil if there is
// none.
func nextOf(p Policy, counted []Known, level Level) *Next {
	var moments []time.Time
	for _, k := range counted {
		for _, next := range k.Ahead {
			moments = append(moments, next.At)
		}
	}
	slices.SortFunc(moments, time.Time.Compare)
	for _, at := range moments {
		then := counted[0].levelAt(at)
		for _, k := range counted[1:] {
			then = p.together(then, k.levelAt(at))
		}
		if then != level {
			return &Next{then, at}
		}
	}
	return nil
}

// levelAt is the level to which time alone has led at a moment.
func (k Known) levelAt(at time.Time) Level {
	level := k.Level
	for _, next := range k.Ahead {
		if !next.At.After(at) {
			level = next.Level
		}
	}
	return level
}

// unenforced gives full access to everybody. Target is what a customer would have.
func (v *Verdict) unenforced() {
	if v.Level != Full {
		v.Target, v.Reason, v.Since = v.Level, "", nil
	}
	v.Level, v.Next = Full, nil
	for i := range v.Subscriptions {
		v.Subscriptions[i].Level = Full
	}
}

// Ahead are the levels to which time alone leads after a judgement, in their order.
func Ahead(p Policy, s Subscription, standing Standing, j Judgement) (all []Next) {
	for range mostMoments {
		at := j.NextAt
		if at.IsZero() {
			break
		}
		next := Judge(p, s, standing, j.State, at)
		if next.Level != j.Level {
			all = append(all, Next{next.Level, at})
		}
		j = next
	}
	return all
}

// mostMoments is far more than a policy has: each step, an end, a promise, a paid period, a rest,
// and the hours after each of them.
const mostMoments = 100
