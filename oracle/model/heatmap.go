package model

import "time"

// Shade is a chance, and whether anybody's charges stand behind when it is high: where they do not,
// it is what was thought before.
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
	for weekday := range hours {
		for hour, p := range hours[weekday] {
			h.Hours[weekday][hour] = Shade{p, r.knows(hourBlock, hour) || r.knows(weekdayBlock, weekday)}
		}
	}
	paydays := m.paydays[d.Country] != nil || m.paydays[""] != nil
	for day := range days {
		h.Days[day] = Shade{days[day] / n[day], paydays}
	}
	return h
}

// knows says whether enough merchants stand behind a coefficient of the reader's debt: its variance
// is less than that of its prior.
func (r *reader) knows(b block, place int) bool {
	learned := r.learned[b]
	if learned == nil {
		return false
	}
	prior := kinds[b].sd * kinds[b].sd
	if kinds[b].hours {
		sum := 0.0
		for _, x := range squares {
			sum += x
		}
		prior *= sum
	}
	return learned[place].Variance < prior*(1-1e-9)
}
