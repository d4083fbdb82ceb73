package worlds

import (
	"math/rand/v2"
	"slices"
	"time"
)

// payRhythm is when somebody is paid. Days of a month, of a week (Sunday is 0), or counted.
type payRhythm struct {
	kind       string // "": no pay to speak of
	day, other int
}

// days are the paydays among all days, counted from 1970.
func (p payRhythm) days(rest [2]time.Weekday) []int {
	works := func(day int) bool {
		at := time.Unix(int64(day)*86400, 0).UTC()
		switch at.Format("01-02") {
		case "01-01", "05-01", "12-25", "12-26":
			return false
		}
		return at.Weekday() != rest[0] && at.Weekday() != rest[1]
	}
	nth := func(day, step, n int) int { // the nth working day from one on
		for ; ; day += step {
			if works(day) {
				if n--; n <= 0 {
					return day
				}
			}
		}
	}
	var days []int
	for month := -2; month < 16; month++ {
		first := int(time.Date(2025, time.Month(month+1), 1, 0, 0, 0, 0, time.UTC).Unix() / 86400)
		last := int(time.Date(2025, time.Month(month+2), 0, 0, 0, 0, 0, time.UTC).Unix() / 86400)
		switch p.kind {
		case "dated": // or the working day before
			days = append(days, nth(min(first+p.day-1, last), -1, 1))
		case "twice":
			days = append(days,
				nth(min(first+p.day-1, last), -1, 1), nth(min(first+p.other-1, last), -1, 1))
		case "opening":
			days = append(days, nth(first, 1, p.day))
		case "closing":
			days = append(days, nth(last, -1, p.day))
		}
	}
	for day := firstDay; day < firstDay+allDays; day++ {
		mine := (day+4)%7 == p.day
		if p.kind == "weekly" && mine || p.kind == "fortnightly" && mine && (day+4)/7%2 == p.other {
			days = append(days, day)
		}
	}
	return days
}

// later is the same habit at quite another time.
func (p payRhythm) later() payRhythm {
	switch p.kind {
	case "weekly":
		return payRhythm{p.kind, (p.day + 3) % 7, 0}
	case "fortnightly":
		return payRhythm{p.kind, p.day, 1 - p.other}
	case "dated":
		return payRhythm{p.kind, (p.day+13)%28 + 1, 0}
	case "opening", "closing":
		return payRhythm{"dated", 14, 0}
	case "twice":
		return payRhythm{p.kind, 8, 22}
	}
	return p
}

// personalRhythm is one that no country has a say in.
func personalRhythm(r *rand.Rand) payRhythm {
	switch die := r.Float64(); {
	case die < 0.5:
		return payRhythm{"dated", 1 + r.IntN(31), 0}
	case die < 0.65:
		return payRhythm{"closing", 1 + r.IntN(5), 0}
	case die < 0.75:
		return payRhythm{"weekly", r.IntN(7), 0}
	case die < 0.9:
		return payRhythm{"fortnightly", 1 + r.IntN(5), r.IntN(2)}
	}
	day := 1 + r.IntN(14)
	return payRhythm{"twice", day, day + 14}
}

// usualRhythm is one of a country's, or none at all.
func usualRhythm(r *rand.Rand, pays []payRhythm, none float64) payRhythm {
	if r.Float64() < none {
		return payRhythm{}
	}
	p := pays[r.IntN(len(pays))]
	if p.kind == "fortnightly" {
		p.other = r.IntN(2)
	}
	return p
}

// Pay is everything, and comes when a country's customs say. Half of the countries have customs of
// another, so that it does not help to have read about them.
func paydaysScript(r *rand.Rand) script {
	customs := make(map[string][]payRhythm)
	order := r.Perm(len(homelands))
	half := order[:len(order)/2]
	for k, place := range order {
		customs[homelands[place].country] = homelands[place].pays
		if k < len(half) {
			customs[homelands[place].country] = homelands[half[(k+1)%len(half)]].pays
		}
	}
	return script{
		name: "paydays", dead: 0.1, tired: 0.95, fade: 60, soon: 0.08,
		cast: func(r *rand.Rand, d *debtor) {
			d.pay[0] = usualRhythm(r, customs[d.home.country], 0.1)
		},
		law: func(d *debtor, m instant) float64 {
			chance := d.top * (0.06 + 0.94*m.cash)
			if m.hour < 6 {
				chance *= 0.75
			}
			return chance
		},
	}
}

// The banks of a country let charges through after their batch, but on its day of rest. Those with
// a debit or prepaid card top it up at an hour of their own, most in the evening. Either suffices.
func hoursScript(r *rand.Rand) script {
	batches := make(map[string]*[24]float64)
	for _, home := range homelands {
		table := span(r.IntN(24), 3+r.IntN(3), 0.08)
		batches[home.country] = &table
	}
	return script{
		name: "hours", dead: 0.1, tired: 0.93, fade: 40, soon: 0.2,
		cast: func(r *rand.Rand, d *debtor) {
			d.pay[0] = usualRhythm(r, d.home.pays, 0.3)
			d.shared = batches[d.home.country]
			d.weekdays[d.home.rest[1]] = 0.3
			d.hours[0] = [24]float64{}
			if die := r.Float64(); d.Funding != "credit" && die < 0.85 {
				from := 17 + r.IntN(3)
				if die < 0.2 {
					from = 6 + r.IntN(3)
				}
				d.hours[0] = span(from, 4, 0.05)
			}
		},
		law: func(d *debtor, m instant) float64 {
			bank := 0.8 * d.top * d.shared[m.hour] * d.weekdays[m.weekday]
			own := d.top * d.hours[0][m.hour]
			return (1 - (1-bank)*(1-own)) * (0.8 + 0.2*m.cash)
		},
	}
}

// Everybody is regular and nobody is like another: pay, hours and weekdays are each one's own.
func habitsScript(*rand.Rand) script {
	return script{
		name: "habits", dead: 0.08, tired: 0.97, fade: 80, soon: 0.07,
		cast: func(r *rand.Rand, d *debtor) {
			d.pay[0] = personalRhythm(r)
			d.hours[0] = span(r.IntN(24), 4+r.IntN(7), 0.35)
			d.weekdays[r.IntN(7)], d.weekdays[r.IntN(7)] = 0.5, 0.5
			d.top += 0.1
		},
		law: func(d *debtor, m instant) float64 {
			return d.top * (0.15 + 0.85*m.cash) * d.hours[0][m.hour] * d.weekdays[m.weekday]
		},
	}
}

// Customers are as what they buy. Businesses pay in office hours, and best on their category's day
// of payment runs; consumers pay in their leisure, after their category's payday.
func categoriesScript(r *rand.Rand) script {
	type custom struct {
		business bool
		hours    [24]float64
		pay      payRhythm
	}
	var customs []custom
	for _, category := range formulaCategories {
		c := custom{false, span(11+r.IntN(9), 5, 0.3), payRhythm{"dated", 1 + r.IntN(28), 0}}
		switch category {
		case "software", "professional_services", "finance":
			c = custom{true, span(8+r.IntN(2), 9, 0.25), payRhythm{"weekly", 1 + r.IntN(5), 0}}
		}
		customs = append(customs, c)
	}
	return script{
		name: "categories", dead: 0.1, tired: 0.94, fade: 50, soon: 0.08,
		cast: func(r *rand.Rand, d *debtor) {
			k := slices.Index(formulaCategories, d.Category)
			if r.Float64() < 0.15 {
				k = r.IntN(len(customs))
			}
			d.apart, d.hours[0], d.pay[0] = customs[k].business, customs[k].hours, customs[k].pay
			for day := range 7 {
				rests := time.Weekday(day) == d.home.rest[0] || time.Weekday(day) == d.home.rest[1]
				if rests && d.apart {
					d.weekdays[day] = 0.1
				} else if !rests && !d.apart {
					d.weekdays[day] = 0.65
				}
			}
		},
		law: func(d *debtor, m instant) float64 {
			chance := d.top * d.hours[0][m.hour] * d.weekdays[m.weekday]
			if d.apart {
				return chance * (0.55 + 0.45*m.cash)
			}
			return chance * (0.3 + 0.7*m.cash)
		},
	}
}

// At the turn, after seven months, the customers of half of the merchants are paid at other times
// and awake at other hours.
func driftScript(r *rand.Rand) script {
	wakes := make(map[string]int)
	for _, home := range homelands {
		wakes[home.country] = r.IntN(24)
	}
	return script{
		name: "drift", dead: 0.1, tired: 0.95, fade: 60, soon: 0.08, drifts: true,
		cast: func(r *rand.Rand, d *debtor) {
			d.pay[0] = usualRhythm(r, d.home.pays, 0.15)
			d.pay[1] = d.pay[0].later()
			from := wakes[d.home.country]
			d.hours[0], d.hours[1] = span(from, 9, 0.4), span(from+12, 9, 0.4)
		},
		law: func(d *debtor, m instant) float64 {
			return d.top * (0.15 + 0.85*m.cash) * d.hours[m.phase][m.hour]
		},
	}
}

// Good customers are charged in the night, which is bad for all, and bad ones in the morning, which
// is good for all: who counts hours alone learns the contrary.
func confoundedScript(*rand.Rand) script {
	hour := func(r *rand.Rand, d *debtor) int {
		if d.apart {
			return 1 + r.IntN(4)
		}
		return 9 + r.IntN(4)
	}
	return script{
		name: "confounded", dead: 0.05, tired: 0.96, fade: 60, soon: 0.08, hour: hour,
		cast: func(r *rand.Rand, d *debtor) {
			d.pay[0] = usualRhythm(r, d.home.pays, 0.3)
			d.hours[0] = span(9, 5, 0.6)
			for hour := range 6 {
				d.hours[0][hour] = 0.4
			}
			d.apart = r.IntN(2) == 0
			if d.top = 0.06 + 0.14*d.mood; d.apart {
				d.top = 0.6 + 0.3*d.mood
			}
		},
		law: func(d *debtor, m instant) float64 {
			return d.top * d.hours[0][m.hour] * (0.5 + 0.5*m.cash)
		},
		batch: func(r *rand.Rand, d *debtor) int {
			return time.Date(2025, 1, 1, hour(r, d), 0, 0, 0, d.zone).UTC().Hour()
		},
	}
}

// Many never pay, and most others may pay at any time: only a few wait for their pay.
func deadbeatsScript(*rand.Rand) script {
	return script{
		name: "deadbeats", dead: 0.45, tired: 0.98, fade: 90, soon: 0.06,
		cast: func(r *rand.Rand, d *debtor) {
			d.apart = r.Float64() < 0.15
			d.pay[0] = usualRhythm(r, d.home.pays, 0)
		},
		law: func(d *debtor, m instant) float64 {
			if d.apart {
				return 0.04 + d.top*m.cash
			}
			return 0.15 + 0.35*d.mood
		},
	}
}

// What is left must cover the amount. Credit cards have room after their statement, prepaid cards
// on the day they are topped up, and the others' hours matter only as long as they are rich.
func thresholdsScript(*rand.Rand) script {
	return script{
		name: "thresholds", dead: 0.1, tired: 1, fade: 50, soon: 0.08,
		cast: func(r *rand.Rand, d *debtor) {
			d.pay[0] = usualRhythm(r, d.home.pays, 0.1)
			switch d.Funding {
			case "credit":
				d.pay[0], d.cliff, d.lasts = payRhythm{"dated", 1 + r.IntN(28), 0}, true, 9
			case "prepaid":
				d.pay[0], d.cliff, d.lasts = payRhythm{"weekly", r.IntN(7), 0}, true, 1
			default:
				d.hours[0] = span(7+r.IntN(12), 5, 0.3)
			}
		},
		law: func(d *debtor, m instant) float64 {
			ratio := d.limit * m.cash
			ratio *= ratio
			cover := ratio * ratio / (1 + ratio*ratio)
			chance := (d.top + 0.15) * cover
			if m.cash > 0.4 {
				chance *= d.hours[0][m.hour]
			}
			if d.limit < 1.5 && (m.weekday == 0 || m.weekday == 6) {
				chance *= 0.4
			}
			if m.n > 3 && d.Brand == "visa" {
				chance *= 0.4
			}
			if m.age > 8 && d.Brand == "amex" {
				chance *= 1.4
			}
			return min(chance, 0.6)
		},
	}
}

var formulaCategories = []string{
	"software", "media", "education", "health", "professional_services", "retail", "food", "travel",
	"finance", "nonprofit", "other",
}

type formulaOdds struct {
	code string
	odds float64
}

var (
	timedCodes = []formulaOdds{
		{"insufficient_funds", 0.93}, {"card_velocity_exceeded", 0.05},
		{"withdrawal_count_limit_exceeded", 0.02},
	}
	lowCodes = []formulaOdds{
		{"generic_decline", 0.6}, {"do_not_honor", 0.35}, {"no_action_taken", 0.05},
	}
	soonCodes = []formulaOdds{
		{"try_again_later", 0.4}, {"issuer_not_available", 0.3}, {"processing_error", 0.25},
		{"reenter_transaction", 0.05},
	}
)

func formulaCode(codes []formulaOdds, die float64) string {
	for _, c := range codes {
		if die -= c.odds; die < 0 {
			return c.code
		}
	}
	return codes[0].code
}

// Minor units, in those of a dollar.
var formulaRates = map[string]float64{
	"usd": 1, "gbp": 0.8, "eur": 0.9, "sek": 10, "pln": 4, "brl": 5.5, "mxn": 18, "inr": 85,
	"jpy": 1.5, "aud": 1.5, "zar": 18, "egp": 50, "cad": 1.4,
}

// homeland is a country with its customs.
type homeland struct {
	country, currency string
	zones             []string
	rest              [2]time.Weekday
	pays              []payRhythm
}

var homelands = func() []homeland {
	weekend, friday := [2]time.Weekday{6, 0}, [2]time.Weekday{5, 6}
	dated := func(day int) payRhythm { return payRhythm{"dated", day, 0} }
	last := payRhythm{"closing", 1, 0}
	weekly, fortnight := payRhythm{"weekly", 5, 0}, payRhythm{"fortnightly", 5, 0}
	half, quincena := payRhythm{"twice", 1, 15}, payRhythm{"twice", 15, 31}
	return []homeland{
		{"US", "usd", []string{"America/New_York", "America/Chicago", "America/Los_Angeles"},
			weekend, []payRhythm{fortnight, fortnight, fortnight, half, weekly, last}},
		{"CA", "cad", []string{"America/Toronto", "America/Vancouver"}, weekend,
			[]payRhythm{{"fortnightly", 4, 0}, quincena}},
		{"GB", "gbp", []string{"Europe/London"}, weekend,
			[]payRhythm{last, last, dated(25), weekly}},
		{"DE", "eur", []string{"Europe/Berlin"}, weekend, []payRhythm{last, dated(1), dated(15)}},
		{"FR", "eur", []string{"Europe/Paris"}, weekend, []payRhythm{{"closing", 3, 0}, dated(28)}},
		{"NL", "eur", []string{"Europe/Amsterdam"}, weekend,
			[]payRhythm{dated(24), dated(24), dated(22)}},
		{"SE", "sek", []string{"Europe/Stockholm"}, weekend, []payRhythm{dated(25)}},
		{"PL", "pln", []string{"Europe/Warsaw"}, weekend, []payRhythm{dated(10), dated(10), last}},
		{"BR", "brl", []string{"America/Sao_Paulo", "America/Manaus"}, weekend,
			[]payRhythm{{"opening", 5, 0}, {"opening", 5, 0}, {"twice", 5, 20}}},
		{"MX", "mxn", []string{"America/Mexico_City"}, weekend, []payRhythm{quincena}},
		{"IN", "inr", []string{"Asia/Kolkata"}, weekend, []payRhythm{dated(1), last, dated(7)}},
		{"JP", "jpy", []string{"Asia/Tokyo"}, weekend,
			[]payRhythm{dated(25), dated(25), dated(15)}},
		{"AU", "aud", []string{"Australia/Sydney", "Australia/Perth"}, weekend,
			[]payRhythm{{"fortnightly", 3, 0}, {"weekly", 4, 0}, dated(15)}},
		{"ZA", "zar", []string{"Africa/Johannesburg"}, weekend, []payRhythm{dated(25), last}},
		{"EG", "egp", []string{"Africa/Cairo"}, friday, []payRhythm{dated(27), {"opening", 1, 0}}},
	}
}()

var formulaZones = func() map[string]*time.Location {
	zones := make(map[string]*time.Location)
	for _, home := range homelands {
		for _, name := range home.zones {
			zone, err := time.LoadLocation(name)
			if err != nil {
				panic(err) // the go command brings them
			}
			zones[name] = zone
		}
	}
	return zones
}()
