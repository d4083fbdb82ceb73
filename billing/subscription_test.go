package billing

import "testing"

// What is live, of every status that Stripe has. One that is new at Stripe is not live.
func TestSubscriptionStatuses(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]bool{
		Active: true, PastDue: true, Trialing: true,
		Unpaid: false, Canceled: false, Paused: false, Incomplete: false, IncompleteExpired: false,
		"": false, "of_tomorrow": false,
	} {
		if got := IsLive(status); got != want {
			t.Errorf("%q is live: %t", status, got)
		}
	}
}
