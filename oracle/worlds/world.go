// Package worlds simulates merchants, customers and the truth about their charges, so that what the
// oracle claims can be examined: nothing of it is in the product. [Formulas] and [Agents] are two
// families of worlds, written by different hands and without a look at the model.
package worlds

import "time"

// Start and End bound the time of every world: ten months of history and four of play.
var (
	Start = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	Play  = Start.AddDate(0, 10, 0)
	End   = Start.AddDate(0, 14, 0)
)

// Window is how long after its first failure an invoice may be charged.
const Window = 14 * 24 * time.Hour

// Size is how large a world is.
type Size struct {
	Merchants int
	Customers int // of each merchant
}

// Payer is a customer with their card, as an examiner shows them. Country and Zone may be empty or
// unknown.
type Payer struct {
	Merchant, Category, Customer, Country, Zone, Brand, Funding, Currency string

	Amount int64 // of each invoice, minor units
}

// Invoice is one month's debt of a payer.
type Invoice struct {
	ID          string // unique within the merchant
	Payer       *Payer
	At          time.Time // of the first charge
	Failed      bool      // the first charge was refused
	Class, Code string    // of that failure
}

// World is a world and its truth. All its methods answer alike for the same arguments.
type World interface {
	Name() string
	// Invoices are all invoices from Start until End, in order of their first charge.
	Invoices() []Invoice
	// Chance is the true chance that a charge of invoice i succeeds at a moment, after n ≥ 1
	// others.
	Chance(i int, at time.Time, n int) float64
	// Failure is the class and code of a failure then. The die lies in [0, 1).
	Failure(i int, at time.Time, die float64) (class, code string)
	// Retries are the moments at which invoice i is charged again in the history, in order, within
	// the window after its first charge.
	Retries(i int) []time.Time
	// PaysAlone is when the customer pays of their own accord where nobody has collected by then.
	// Zero: never.
	PaysAlone(i int) time.Time
}
