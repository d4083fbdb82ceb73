package worlds

import (
	"time"

	"phantom/oracle/model"
)

// Ours is the model with all that it is told in memory.
type Ours struct{ *model.Ledger }

// NewOurs knows what the product knows before any charge.
func NewOurs() Player { return Ours{model.NewLedger()} }

// Ask implements Player.
func (o Ours) Ask(q model.Question, customer, invoice string, die float64, explore bool) (time.Time, float64) {
	q.Memory = o.MemoryOf(q.Merchant, customer, invoice, q.Zone, q.Tried)
	advice := o.Model().Plan(q, die, explore)
	return advice.At, advice.P
}

// Chance implements Player.
func (o Ours) Chance(q model.Question, customer, invoice string, at time.Time) float64 {
	q.Memory = o.MemoryOf(q.Merchant, customer, invoice, q.Zone, q.Tried)
	return o.Model().Chance(q, at).P
}
