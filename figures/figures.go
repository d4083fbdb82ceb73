// Package figures adds up what a merchant's hunts have brought and cost, and compares customers who
// were hunted with those who were held out.
package figures

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/decline"
	"phantom/state"
)

// Figures are what a merchant's hunts have brought and cost, in the mode (live or test) they work
// in. Amounts are in minor units, and those of two currencies are never added. docs/figures.md
// explains each figure and its limits. Its JSON is part of the HTTP API.
type Figures struct {
	// of hunts that were to recover, the held-out ones among them
	Currencies map[string]Recovered `json:"currencies"`
	Costs      Costs                `json:"costs"`
	Hunts      HuntCounts           `json:"hunts"` // that were to recover
	Uplift     Uplift               `json:"uplift"`
	// hunts in mode observe, of which nothing is counted above
	Watched Watched `json:"watched"`
}

// Recovered is what hunts have brought in one currency, each paid invoice counted once.
type Recovered struct {
	// what the ghosts of active hunts owe now
	AtRisk int64 `json:"at_risk"`
	// paid by our charge, or after our message
	AfterAction int64 `json:"recovered_after_action"`
	Anyway      int64 `json:"recovered_anyway"` // paid after nothing of ours
	// amounts; the first three add up to AfterAction
	ByCause ByCause `json:"by_cause"`
	// how many paid invoices those amounts are
	Invoices ByCause `json:"invoices"`
	// by the decline class with which the hunt began
	ByClass map[decline.Class]ClassPart `json:"by_class"`
}

// ByCause says what came before a payment.
type ByCause struct {
	Charge int64 `json:"charge"`
	Email  int64 `json:"email"`
	SMS    int64 `json:"sms"`
	Anyway int64 `json:"anyway"`
}

func (b *ByCause) add(cause string, n int64) {
	switch cause {
	case "charge":
		b.Charge += n
	case "email":
		b.Email += n
	case "sms":
		b.SMS += n
	default:
		b.Anyway += n
	}
}

// ClassPart is the part of a currency's figures that one decline class has.
type ClassPart struct {
	AtRisk      int64 `json:"at_risk"`
	AfterAction int64 `json:"recovered_after_action"`
	Anyway      int64 `json:"recovered_anyway"`
}

// Costs are what was sent, or may have been: an unknown outcome counts.
type Costs struct {
	Charges int64 `json:"charges"`
	Emails  int64 `json:"emails"`
	SMS     int64 `json:"sms"`
}

// HuntCounts are hunts by state.
type HuntCounts struct {
	Active    int64 `json:"active"`
	Recovered int64 `json:"recovered"`
	Exhausted int64 `json:"exhausted"`
	Stopped   int64 `json:"stopped"`
	HeldOut   int64 `json:"held_out"` // of these, in any state
}

// All is the number of hunts.
func (h HuntCounts) All() int64 { return h.Active + h.Recovered + h.Exhausted + h.Stopped }

func (h *HuntCounts) add(row db.FiguresHuntsRow) {
	h.Active += row.Active
	h.Recovered += row.Recovered
	h.Exhausted += row.Exhausted
	h.Stopped += row.Stopped
	h.HeldOut += row.HeldOut
}

// Watched are hunts in mode observe.
type Watched struct {
	Hunts      int64                     `json:"hunts"`
	Currencies map[string]WatchedAmounts `json:"currencies"`
}

// WatchedAmounts are what watched ghosts owe now, and what they have paid of their own accord.
type WatchedAmounts struct {
	AtRisk int64 `json:"at_risk"`
	Paid   int64 `json:"paid"`
}

// Any reports whether there is a hunt at all.
func (f *Figures) Any() bool { return f.Hunts.All()+f.Watched.Hunts > 0 }

// Read reads a merchant's figures. They are of one moment where the caller's transaction is a
// snapshot.
func Read(ctx context.Context, queries *db.Queries, merchantID uuid.UUID) (Figures, error) {
	f := Figures{Currencies: map[string]Recovered{}, Watched: Watched{Currencies: map[string]WatchedAmounts{}}, Uplift: compare(Arm{}, Arm{}, 0)}
	hunts, err := queries.FiguresHunts(ctx, merchantID)
	if err != nil {
		return f, fmt.Errorf("count hunts: %w", err)
	}
	if len(hunts) == 0 { // most of what follows hangs on a hunt
		return f, nil
	}
	paid, err := queries.FiguresRecovered(ctx, merchantID)
	if err != nil {
		return f, fmt.Errorf("add up payments: %w", err)
	}
	costs, err := queries.FiguresCosts(ctx, merchantID)
	if err != nil {
		return f, fmt.Errorf("count what was sent: %w", err)
	}
	arms, err := queries.FiguresArms(ctx, merchantID)
	if err != nil {
		return f, fmt.Errorf("count customers: %w", err)
	}
	for _, row := range hunts {
		f.addHunts(row)
	}
	for _, row := range paid {
		f.addPaid(row)
	}
	f.Costs = Costs{costs.Charges, costs.Emails, costs.Sms}
	var treated, heldOut Arm
	waiting := int64(0)
	for _, row := range arms {
		arm := &treated
		if row.HeldOut {
			arm = &heldOut
		}
		*arm = Arm{row.Customers, row.Recovered}
		waiting += row.Waiting
	}
	f.Uplift = compare(treated, heldOut, waiting)
	return f, nil
}

func (f *Figures) addHunts(row db.FiguresHuntsRow) {
	if row.Mode != state.ModeRecover {
		f.Watched.Hunts += row.Active + row.Recovered + row.Exhausted + row.Stopped
		amounts := f.Watched.Currencies[row.Currency]
		amounts.AtRisk += row.AtRisk
		f.Watched.Currencies[row.Currency] = amounts
		return
	}
	f.Hunts.add(row)
	f.change(row.Currency, row.DeclineClass, func(c *Recovered, part *ClassPart) {
		c.AtRisk += row.AtRisk
		part.AtRisk += row.AtRisk
	})
}

func (f *Figures) addPaid(row db.FiguresRecoveredRow) {
	if row.Mode != state.ModeRecover {
		amounts := f.Watched.Currencies[row.Currency]
		amounts.Paid += row.Amount
		f.Watched.Currencies[row.Currency] = amounts
		return
	}
	f.change(row.Currency, row.DeclineClass, func(c *Recovered, part *ClassPart) {
		c.ByCause.add(row.Cause, row.Amount)
		c.Invoices.add(row.Cause, row.Invoices)
		if row.Cause == "anyway" {
			c.Anyway += row.Amount
			part.Anyway += row.Amount
		} else {
			c.AfterAction += row.Amount
			part.AfterAction += row.Amount
		}
	})
}

// change changes a currency's figures and the part of one class in them together, so that they
// agree.
func (f *Figures) change(currency string, class decline.Class, by func(*Recovered, *ClassPart)) {
	c := f.Currencies[currency]
	if c.ByClass == nil {
		c.ByClass = map[decline.Class]ClassPart{}
	}
	part := c.ByClass[class]
	by(&c, &part)
	c.ByClass[class] = part
	f.Currencies[currency] = c
}
