// Package dispute says which disputes are decided, for all that sees, charges or reports.
package dispute

import "slices"

// closed are the statuses of a dispute that is decided.
// https://docs.stripe.com/api/disputes/object#dispute_object-status
var closed = []string{"won", "lost", "warning_closed", "prevented", "charge_refunded"}

// open are those in which a bank has still to decide.
var open = []string{
	"warning_needs_response", "warning_under_review", "needs_response", "under_review",
}

// IsOpen says whether a dispute is not decided. A status that nobody knows is open: no card is
// charged while it may be.
func IsOpen(status string) bool { return !slices.Contains(closed, status) }

// IsLost says whether the bank has taken the money back for good.
func IsLost(status string) bool { return status == "lost" }

// IsKnown says whether a status is one that PHANTOM knows.
func IsKnown(status string) bool {
	return slices.Contains(closed, status) || slices.Contains(open, status)
}
