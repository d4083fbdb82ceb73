package recovery

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"phantom/billing"
	"phantom/connect"
	"phantom/db"
	"phantom/task"
)

// What the ledger knows of a card and what the look has seen are one: each charge counts once, and
// what counts has reached the network, or may have.
func TestSeenChargesJoinTheLedger(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	j := &job{t: &task.Task{}, reader: &connect.Reader{}, now: now}
	made := func(id string, age time.Duration, change func(*billing.Charge)) billing.Charge {
		c := billing.Charge{ID: id, Status: "failed", Created: now.Add(-age).Unix(), Method: cardOnFile}
		c.Outcome.NetworkStatus = "declined_by_network"
		if change != nil {
			change(&c)
		}
		return c
	}
	card := j.hashOf(cardOnFile.Key())
	j.charges = []billing.Charge{
		made("ch_known", time.Hour, nil),
		made("ch_seen", 2*time.Hour, nil),
		made("ch_pending", 3*time.Hour, func(c *billing.Charge) { c.Status = "pending" }),
		made("ch_paid", 4*time.Hour, func(c *billing.Charge) { c.Status = "succeeded" }),
		made("ch_blocked", 5*time.Hour, func(c *billing.Charge) {
			c.Outcome.NetworkStatus = "not_sent_to_network"
		}),
		made("ch_other", 6*time.Hour, func(c *billing.Charge) { c.Method.Fingerprint = "g" }),
		made("ch_old", 31*24*time.Hour, nil),
	}
	rows := []db.CardAttemptListRow{
		// no matter who entered it
		{Charge: j.reader.Hash("charge", "ch_known"), At: now.Add(-time.Hour)},
		// sent, and not known
		{At: now.Add(-150 * time.Minute)},
	}
	hours := func(list []time.Time) (h []float64) {
		for _, at := range list {
			h = append(h, now.Sub(at).Hours())
		}
		return h
	}
	if got := hours(j.unite(rows, card)); !slices.Equal(got, []float64{1, 2, 2.5, 3}) {
		t.Errorf("counted were those of %v hours ago", got)
	}
	p := j.marking(card)
	if len(p.Charges) != 4 || !bytes.Equal(p.Card, card) ||
		!slices.Equal(hours(p.Ats), []float64{1, 2, 5, 6}) ||
		!slices.Equal(p.Reached, []bool{true, true, false, true}) ||
		!bytes.Equal(p.Cards[0], card) || bytes.Equal(p.Cards[3], card) {
		t.Errorf("entered were %v of %v hours ago", p.Reached, hours(p.Ats))
	}
}
