package model

import "time"

// Month is how likely a customer is to pay on each day of the month, as far as their own charges
// and their country's paydays tell: means over the year from a day on. It knows nothing of hours,
// cards or merchants, so that it compares days, and is no forecast of a charge.
type Month [31]float64

// MonthOfOne is a customer's. The zone is that of the debt.
func (m *Model) MonthOfOne(d Debt, memory []Past, from time.Time) (month Month) {
	w := weekendOf(d.Country)
	b := believe(w, memory, m.paydaysOf(d.Country))
	from = from.In(d.Zone)
	var n [31]float64
	for day := range 365 {
		date := time.Date(from.Year(), from.Month(), from.Day()+day, 12, 0, 0, 0, d.Zone)
		month[date.Day()-1] += logistic(b.level + b.lift(w, date))
		n[date.Day()-1]++
	}
	for day := range month {
		month[day] /= n[day]
	}
	return month
}
