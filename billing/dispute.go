// Package billing is what we read of Stripe's invoices, subscriptions, charges and payment methods,
// and what their statuses mean, for all that sees, charges or reports.
package billing

import "slices"

// closedDisputes are the statuses of a dispute that is decided.
// https://docs.stripe.com/api/disputes/object#dispute_object-status
var closedDisputes = []string{"won", "lost", "warning_closed", "prevented", "charge_refunded"}

// openDisputes are those in which a bank has still to decide.
var openDisputes = []string{
	"warning_needs_response", "warning_under_review", "needs_response", "under_review",
}

// DisputeIsOpen says whether a dispute is not decided. A status that nobody knows is open: no card
// is charged while it may be.
func DisputeIsOpen(status string) bool { return !slices.Contains(closedDisputes, status) }

// DisputeIsLost says whether the bank has taken the money back for good.
func DisputeIsLost(status string) bool { return status == "lost" }

// DisputeIsKnown says whether a status is one that PHANTOM knows.
func DisputeIsKnown(status string) bool {
	return slices.Contains(closedDisputes, status) || slices.Contains(openDisputes, status)
}
