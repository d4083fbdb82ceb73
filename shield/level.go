// Package shield answers one question of a merchant's app: may this customer keep access, and how
// much of it?
//
// A [Policy] is what a merchant wants. [Judge] holds it against what is known of a subscription and
// says which [Level] it has from now on. It is a pure function: it asks nobody, and looks at no
// clock. What it decides is stored; a request for access looks it up and never decides.
package shield

import "slices"

// Level is how much access a subscription keeps.
type Level string

// The levels. Each leaves less than the one before.
const (
	Full    Level = "full"
	Notice  Level = "notice" // full, and the app shows that a payment failed
	Grace   Level = "grace"  // full, and the app asks for it
	Limited Level = "limited"
	Blocked Level = "blocked"
)

// Levels are all of them, from the most access to the least.
var Levels = []Level{Full, Notice, Grace, Limited, Blocked}

// Below says whether l leaves less access than other.
func (l Level) Below(other Level) bool { return slices.Index(Levels, l) > slices.Index(Levels, other) }

// Access says whether a customer at this level may use the product as a whole. A policy's features
// say what is left at the others.
func (l Level) Access() bool { return !l.Below(Grace) }

// Best is the one that leaves the most access.
func Best(a, b Level) Level {
	if a.Below(b) {
		return b
	}
	return a
}

// Worst is the one that leaves the least.
func Worst(a, b Level) Level {
	if a.Below(b) {
		return a
	}
	return b
}

// Reason is why a subscription has its level.
type Reason string

// The reasons, in the order in which they are asked about.
const (
	ByOverride        Reason = "override"  // a person has said so
	ByExemption       Reason = "exemption" // a person has taken the customer out
	ByEnd             Reason = "ended"
	ByIncompleteness  Reason = "incomplete" // nothing was ever paid
	ByPause           Reason = "paused"
	ByCollection      Reason = "collection_paused" // the merchant asks for nothing, and goes on serving
	ByPayment         Reason = "paid"              // nothing is owed
	ByWriteOff        Reason = "written_off"
	ByHoldout         Reason = "held_out" // of hunts, to compare with
	ByDispute         Reason = "dispute"  // an open one: the level does not fall
	ByPaymentUnderWay Reason = "payment_under_way"
	ByMinimum         Reason = "below_minimum"
	ByFailure         Reason = "payment_failed"
	ByChargeback      Reason = "charged_back"
	ByPromise         Reason = "promise"     // the customer has named a day
	ByPaidPeriod      Reason = "paid_period" // what they have paid for is not over
	ByAnnouncement    Reason = "provisional" // Stripe has said that they paid, and it is being read
	ByStaleness       Reason = "stale"       // nothing newer is known, and the policy says what holds
)
