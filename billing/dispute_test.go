package billing

import "testing"

// The statuses of Stripe's documents, and one that is not there.
func TestDisputeStatuses(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]struct{ open, lost, known bool }{
		"warning_needs_response": {true, false, true},
		"warning_under_review":   {true, false, true},
		"warning_closed":         {false, false, true},
		"needs_response":         {true, false, true},
		"under_review":           {true, false, true},
		"won":                    {false, false, true},
		"lost":                   {false, true, true},
		"prevented":              {false, false, true},
		"charge_refunded":        {false, false, true},
		"needs_arbitration":      {true, false, false},
		"":                       {true, false, false},
	} {
		if got := DisputeIsOpen(status); got != want.open {
			t.Errorf("%q is open: %t", status, got)
		}
		if got := DisputeIsLost(status); got != want.lost {
			t.Errorf("%q is lost: %t", status, got)
		}
		if got := DisputeIsKnown(status); got != want.known {
			t.Errorf("%q is known: %t", status, got)
		}
	}
}
