package ghost

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"phantom/billing"
	"phantom/db"
)

// cardAttempts gathers the failed charges that go into the ledger of attempts on cards.
type cardAttempts struct {
	hash func(subject, value string) []byte
	from int64 // what is older counts in no budget
	rows db.CardAttemptAddParams
}

func (a *cardAttempts) add(c *charge) {
	outcome := c.outcome()
	if outcome != billing.ChargeFailed && outcome != billing.ChargeBlocked || c.fingerprint == "" || c.created < a.from {
		return
	}
	a.rows.Charges = append(a.rows.Charges, a.hash("charge", c.id))
	a.rows.Cards = append(a.rows.Cards, a.hash("card", c.fingerprint))
	a.rows.Ats = append(a.rows.Ats, at(c.created))
	a.rows.Reached = append(a.rows.Reached, outcome == billing.ChargeFailed)
}

// rewind undoes what was added since a copy was made.
func (a *cardAttempts) rewind(to *cardAttempts) {
	n := len(to.rows.Charges)
	a.rows.Charges, a.rows.Cards, a.rows.Ats, a.rows.Reached = a.rows.Charges[:n], a.rows.Cards[:n], a.rows.Ats[:n], a.rows.Reached[:n]
}

// store adds what the ledger does not have yet.
func (a *cardAttempts) store(ctx context.Context, queries *db.Queries, merchant uuid.UUID) error {
	if len(a.rows.Charges) == 0 {
		return nil
	}
	a.rows.MerchantID = merchant
	if err := queries.CardAttemptAdd(ctx, a.rows); err != nil {
		return fmt.Errorf("add attempts on cards: %w", err)
	}
	return nil
}
