package recovery

import (
	"bytes"
	"testing"

	"github.com/google/uuid"

	"phantom/db"
)

// A charge that Stripe has made with another card than was foreseen counts for the foreseen one
// too. Were it forgotten there, the same request would leave again as soon as anything wakes its
// task.
func TestWhatWasForeseenCounts(t *testing.T) {
	t.Parallel()
	for name, reached := range map[string]bool{"declined by the network": true, "blocked by Stripe": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, ids := setupCharges(t, 1, nil)
			foreseen, charged, charge := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32), bytes.Repeat([]byte{3}, 32)
			b.Exec("UPDATE attempts SET sent_at = phantom_now(), result = 'declined', card = $2, charge = $3 WHERE task_id = $1",
				ids[0], foreseen, charge)
			b.Exec("INSERT INTO card_attempts (merchant_id, charge, card, at, reached) VALUES ($1, $2, $3, phantom_now(), $4)",
				b.merchant, charge, charged, reached)
			for _, test := range []struct {
				card []byte
				want bool
			}{{foreseen, true}, {charged, reached}, {bytes.Repeat([]byte{4}, 32), false}} {
				rows, err := b.s.queries.CardAttemptList(t.Context(), db.CardAttemptListParams{
					MerchantID: b.merchant, Card: test.card, Customer: bytes.Repeat([]byte{5}, 32), TaskID: uuid.Nil,
				})
				if err != nil || (len(rows) == 1) != test.want {
					t.Errorf("%d attempts on card %d, %v", len(rows), test.card[0], err)
				}
			}
		})
	}
}
