package ghost

import (
	"testing"

	"phantom/db/dbtest"
	"phantom/sandbox"
)

// What an audit has counted on a card, no matter who paid with it, a refresh does not lower: it
// sees one customer's charges. Another card, or an audit of long ago, says nothing about this one.
func TestRefreshKeepsTheCardsAttempts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, change string
		kept         bool
	}{
		{"the same card", "SELECT 1", true},
		{"tried since", "UPDATE ghost_targets SET first_failed_at = first_failed_at - interval '1 second', last_failed_at = last_failed_at - interval '1 second', card_attempts = card_attempts - 1", true},
		{"closed since", "UPDATE ghost_targets SET status = 'closed', closed_reason = 'paid', closed_at = now() - interval '20 days'", true},
		{"closed long ago", "UPDATE ghost_targets SET status = 'closed', closed_reason = 'paid', closed_at = now() - interval '31 days'", false},
		{"another card", "UPDATE ghost_targets SET card = sha256('other')", false},
		{"audited long ago", "UPDATE audits SET created_at = now() - interval '31 days'", false},
		{"audited in part", "UPDATE audits SET since = '2020-01-01'", false},
		{"audited without success", "UPDATE audits SET state = 'failed', error = 'x'", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Customers: 40})
			b.audit()
			var subscription string
			var own, got int32
			if err := b.pool.QueryRow(t.Context(), `SELECT stripe_subscription_id, card_attempts FROM ghost_targets
				WHERE status = 'open' AND card IS NOT NULL ORDER BY id LIMIT 1`).Scan(&subscription, &own); err != nil {
				t.Fatal(err)
			}
			// as for another customer's invoices
			dbtest.Exec(t, b.pool, "UPDATE ghost_targets SET card_attempts = card_attempts + 3")
			dbtest.Exec(t, b.pool, test.change)
			if err := b.s.Refresh(t.Context(), b.merchant, subscription); err != nil {
				t.Fatal(err)
			}
			if err := b.pool.QueryRow(t.Context(), "SELECT card_attempts FROM ghost_targets WHERE stripe_subscription_id = $1 AND status = 'open'",
				subscription).Scan(&got); err != nil {
				t.Fatal(err)
			}
			if kept := got == own+3; kept != test.kept || !kept && got != own {
				t.Errorf("%d attempts, of the customer's own %d", got, own)
			}
			if b.audit(); test.kept { // which counts anew
				if err := b.pool.QueryRow(t.Context(), "SELECT card_attempts FROM ghost_targets WHERE stripe_subscription_id = $1", subscription).Scan(&got); err != nil || got > own {
					t.Errorf("%d attempts after an audit, %v", got, err)
				}
			}
		})
	}
}
