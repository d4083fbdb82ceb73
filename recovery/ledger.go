package recovery

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"phantom/db"
)

// hashOf is the keyed hash of a card or an account by its key, nil where nothing tells it from others.
func (j *job) hashOf(key string) []byte {
	if key == "" {
		return nil
	}
	return j.reader.Hash("card", key)
}

// unite adds to what the ledger knows of a card what the look has seen of it, each charge once. The newest come first.
func (j *job) unite(rows []db.CardAttemptListRow, card []byte) []time.Time {
	var all []time.Time
	known := map[string]bool{}
	for _, row := range rows {
		all = append(all, row.At)
		known[string(row.Charge)] = true
	}
	for _, c := range recent(j.charges, j.now) {
		counts := c.declined() || c.Status == "pending"
		if counts && bytes.Equal(j.hashOf(c.key()), card) && !known[string(j.reader.Hash("charge", c.ID))] {
			all = append(all, c.at())
		}
	}
	slices.SortFunc(all, func(a, b time.Time) int { return b.Compare(a) })
	return all
}

// enterSeen enters the failed charges that a look has seen into the ledger.
func (j *job) enterSeen(ctx context.Context, queries *db.Queries) error {
	p := db.CardAttemptAddParams{MerchantID: j.t.MerchantID}
	for _, c := range recent(j.charges, j.now) {
		card := j.hashOf(c.key())
		if c.Status != "failed" || card == nil {
			continue
		}
		p.Charges, p.Cards = append(p.Charges, j.reader.Hash("charge", c.ID)), append(p.Cards, card)
		p.Ats, p.Reached = append(p.Ats, c.at()), append(p.Reached, !c.blocked())
	}
	if len(p.Charges) == 0 {
		return nil
	}
	if err := queries.CardAttemptAdd(ctx, p); err != nil {
		return fmt.Errorf("enter what was seen into the ledger: %w", err)
	}
	return nil
}
