package shield

// Revenue is what customers bring in a month, in minor units by currency.
type Revenue map[string]int64

// Lowered counts a merchant's customers who were lowered to limited or blocked within 24 hours,
// those who are about to be included. Of and OfRevenue are all of them.
type Lowered struct {
	Customers, Of      int
	Revenue, OfRevenue Revenue
}

// Trips says whether so many are lowered that a person must be asked first. What is wrong with a
// policy, with Stripe or with us hits many at once, and must not lock them out.
func (b Breaker) Trips(l Lowered) bool {
	if l.Customers <= b.AlwaysAllowed {
		return false
	}
	if float64(l.Customers)*100 > b.MaxCustomersPercent*float64(l.Of) {
		return true
	}
	for currency, lowered := range l.Revenue {
		if float64(lowered)*100 > b.MaxMRRPercent*float64(l.OfRevenue[currency]) {
			return true
		}
	}
	return false
}
