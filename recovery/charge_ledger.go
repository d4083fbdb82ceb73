package recovery

import (
	"bytes"
	"slices"
	"time"

	"phantom/billing"
	"phantom/db"
	"phantom/gate"
)

// hashOf is the keyed hash of a card or an account by its key, nil where nothing tells it from
// others.
func (j *job) hashOf(key string) []byte {
	if key == "" {
		return nil
	}
	return j.reader.Hash("card", key)
}

// unite adds to what the ledger knows of a card what the look has seen of it, each charge once. The
// newest come first.
func (j *job) unite(rows []db.CardAttemptListRow, card []byte) []time.Time {
	var all []time.Time
	known := map[string]bool{}
	for _, row := range rows {
		all = append(all, row.At)
		known[string(row.Charge)] = true
	}
	for _, c := range gate.Recent(j.charges, j.now) {
		counts := c.Declined() || c.Status == billing.ChargePending
		if counts && bytes.Equal(j.hashOf(c.Key()), card) && !known[string(j.reader.Hash("charge", c.ID))] {
			all = append(all, c.At())
		}
	}
	slices.SortFunc(all, func(a, b time.Time) int { return b.Compare(a) })
	return all
}

// marking is what is stored when a request is about to leave: the card that it is charged to, and
// the failed charges that the look has seen.
func (j *job) marking(card []byte) db.AttemptMarkSentParams {
	p := db.AttemptMarkSentParams{MerchantID: j.t.MerchantID, TaskID: j.t.ID, Card: card}
	for _, c := range gate.Recent(j.charges, j.now) {
		tried := j.hashOf(c.Key())
		if c.Status != billing.ChargeFailed || tried == nil {
			continue
		}
		p.Charges, p.Cards = append(p.Charges, j.reader.Hash("charge", c.ID)), append(p.Cards, tried)
		p.Ats, p.Reached = append(p.Ats, c.At()), append(p.Reached, !c.Blocked())
	}
	return p
}
