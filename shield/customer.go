package shield

import (
	"slices"
	"time"
)

// Known is a subscription with the level that is stored of it.
type Known struct {
	ID, Product string
	Ended       bool
	Level       Level
	Target      Level // where the policy leads; the same as Level unless it is on its way there
	Reason      Reason
	Since       time.Time
	Next        *Next
}

// Next is the level to which time alone leads, and when.
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
	Target        Level                 `json:"target,omitempty"` // of a level that is held
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
// empty one is the product as a whole. Of several subscriptions that have not ended the best
// counts, or the worst where the policy says so, so that an annual plan that is paid ignores
// another one's debt. What has ended counts only where nothing else is left. Unless the policy is
// enforced everybody has full access, and target says what they would have.
func VerdictOf(p Policy, customer, feature string, all []Known) Verdict {
	v := Verdict{Customer: customer, Known: len(all) > 0, Level: p.Unknown, Features: []string{}, Subscriptions: []SubscriptionVerdict{}}
	if v.Known {
		counts := slices.DeleteFunc(slices.Clone(all), func(k Known) bool { return k.Ended })
		if len(counts) == 0 {
			counts = all
		}
		chosen := counts[0]
		for _, k := range counts[1:] {
			if p.Customer == "worst" && k.Level.Below(chosen.Level) || p.Customer != "worst" && chosen.Level.Below(k.Level) {
				chosen = k
			}
		}
		v.Level, v.Reason, v.Since, v.Next = chosen.Level, chosen.Reason, &chosen.Since, chosen.Next
		if chosen.Target != chosen.Level {
			v.Target = chosen.Target
		}
	}
	for _, k := range all {
		v.Subscriptions = append(v.Subscriptions, SubscriptionVerdict{k.ID, k.Product, k.Level, k.Reason})
	}
	if p.Mode != Enforce {
		v.spare()
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

// spare gives full access to everybody, and keeps in target what a customer would have.
func (v *Verdict) spare() {
	if v.Level != Full {
		v.Level, v.Target, v.Next = Full, v.Level, nil
	}
	for i := range v.Subscriptions {
		v.Subscriptions[i].Level = Full
	}
}

// NextOf says to which other level time alone leads after a judgement. It is nil if there is none.
func NextOf(p Policy, s Subscription, who Standing, j Judgement) *Next {
	for range mostLooks {
		at := j.NextAt
		if at.IsZero() {
			return nil
		}
		next := Judge(p, s, who, j.State, at)
		if next.Level != j.Level {
			return &Next{next.Level, at}
		}
		j = next
	}
	return nil
}

// mostLooks is far more than there are moments in a policy: each step, an end, a promise, a paid
// period, a rest and the hours after each of them.
const mostLooks = 100
