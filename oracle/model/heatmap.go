package model

import "time"

// Shade is a chance, and whether charges of enough merchants at that very hour stand behind it:
// where they do not, it goes by the hours about it, and by what was thought before. A day is known
// where the paydays of the country, or of all, were learned.
type Shade struct {
	P     float64
	Known bool
}

// Heatmap is when charges of a kind succeed: by weekday from Sunday and hour, and by day of the
// month, in the customer's time.
type Heatmap struct {
	Hours [7][24]Shade
	Days  [31]Shade
}

// Heatmap shows what the model knows of a debt of a class that was refused two days ago, of a
// customer of whom nothing else is known: means over the year from a day on.
func (m *Model) Heatmap(d Debt, class Class, from time.Time) (h Heatmap) {
	d.Zone = time.UTC
	q := Question{Debt: d, Tried: []Tried{{Class: class}}}
	r := m.reader(&q)
	// Nothing of when merchants charge first, which would follow the hour that is drawn.
	r.learned[billedBlock] = nil
	var hours [7][24]float64
	var days, n [31]float64
	const weeks = 52
	from = time.Date(from.Year(), from.Month(), from.Day(), 0, 0, 0, 0, time.UTC)
	for hour := range weeks * 7 * 24 {
		at := from.Add(time.Duration(hour) * time.Hour)
		q.Tried[0].At = at.AddDate(0, 0, -2)
		by, _ := r.odds(at)
		p := bounded(logistic(sum(by)))
		hours[at.Weekday()][at.Hour()] += p / weeks
		days[at.Day()-1] += p
		n[at.Day()-1]++
	}
	seen := m.coefficients[key{seenBlock, class, ""}]
	for weekday := range hours {
		for hour, p := range hours[weekday] {
			h.Hours[weekday][hour] = Shade{p, seen != nil && seen[weekday*24+hour].Mean > 0}
		}
	}
	paydays := m.paydays[d.Country] != nil || m.paydays[""] != nil
	for day := range days {
		h.Days[day] = Shade{days[day] / n[day], paydays}
	}
	return h
}
