package billing

import "slices"

// Statuses of a subscription, as Stripe has them.
// https://docs.stripe.com/api/subscriptions/object#subscription_object-status
const (
	Active            = "active"
	PastDue           = "past_due"
	Trialing          = "trialing"
	Unpaid            = "unpaid"
	Canceled          = "canceled"
	Paused            = "paused"
	Incomplete        = "incomplete"
	IncompleteExpired = "incomplete_expired"
)

// Live are the statuses of a subscription whose service goes on.
var Live = []string{Active, Trialing, PastDue}

// IsLive says whether the service of a subscription in this status goes on. A status that nobody
// knows is not live: nothing is charged for what may have ended.
func IsLive(status string) bool { return slices.Contains(Live, status) }
