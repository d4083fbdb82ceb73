package model

import (
	"slices"
	"sync"
	"time"
)

// weekend says on which days nobody works where a customer lives.
type weekend uint8

const (
	saturdaySunday weekend = iota
	fridaySaturday
	weekends
)

// fridayCountries rest on Fridays and Saturdays.
var fridayCountries = []string{"AF", "BD", "BH", "DZ", "EG", "IL", "IQ", "IR", "JO", "KW", "LY", "MV", "OM", "QA", "SA", "SD", "SY", "YE"}

func weekendOf(country string) weekend {
	if slices.Contains(fridayCountries, country) {
		return fridaySaturday
	}
	return saturdaySunday
}

func (w weekend) has(day time.Weekday) bool {
	if w == fridaySaturday {
		return day == time.Friday || day == time.Saturday
	}
	return day == time.Saturday || day == time.Sunday
}

// A habit is a guess at when a customer's money comes in. These are all that are weighed: a day of
// the month, moved to the working day before or taken as it is (a day that a month has not is its
// last); the nth or the nth last working day; a weekday, each week or each second one; the last
// Friday; two days a month; nothing that repeats.
const (
	movedDays   = 0  // 31 of them
	exactDays   = 31 // 31 of them
	firstWorked = 62 // the first to the fifth working day
	lastWorked  = 67 // the last to the fourth last
	weekly      = 71 // from Sunday
	fortnightly = 78 // from Sunday, in two phases
	lastFriday  = 92
	halfMonthly = 93 // the first and the fifteenth
	midAndLast  = 94 // the fifteenth and the last
	irregular   = 95
	habits      = 96
)

// longAgo is the most days since a payday that are told apart.
const longAgo = 31

// payTable says for each day of a year and each habit how many days ago money came in, longAgo at
// most.
type payTable [366][habits]uint8

var payTables = struct {
	sync.RWMutex
	years map[int]*[weekends]*payTable
}{years: map[int]*[weekends]*payTable{}}

// sincePay is for each habit how many days before a local date money came in.
func sincePay(w weekend, date time.Time) *[habits]uint8 {
	year := min(max(date.Year(), 1970), 2200) // tables are kept, and other times are no harm
	payTables.RLock()
	tables := payTables.years[year]
	payTables.RUnlock()
	if tables == nil {
		tables = &[weekends]*payTable{newPayTable(saturdaySunday, year), newPayTable(fridaySaturday, year)}
		payTables.Lock()
		payTables.years[year] = tables
		payTables.Unlock()
	}
	return &tables[w][date.YearDay()-1]
}

// newPayTable runs through the seven weeks before a year too, so that each habit has paid once.
func newPayTable(w weekend, year int) *payTable {
	const before = 49
	start := time.Date(year, 1, 1-before, 0, 0, 0, 0, time.UTC)
	paid := make([][habits]bool, before+366+40)
	mark := func(habit int, date time.Time) {
		if day := int(date.Sub(start) / (24 * time.Hour)); day >= 0 && day < len(paid) {
			paid[day][habit] = true
		}
	}
	for month := start.AddDate(0, 0, 1-start.Day()); month.Year() <= year+1 && month.Before(start.AddDate(0, 0, len(paid))); month = month.AddDate(0, 1, 0) {
		markMonth(w, month, mark)
	}
	for day := range paid {
		date := start.AddDate(0, 0, day)
		wd := int(date.Weekday())
		paid[day][weekly+wd] = true
		paid[day][fortnightly+2*wd+int(date.Unix()/(7*24*60*60)+2)%2] = true
	}
	table := new(payTable)
	var since [habits]uint8
	for habit := range since {
		since[habit] = longAgo
	}
	for day := range before + 366 {
		for habit := range since {
			if paid[day][habit] {
				since[habit] = 0
			} else {
				since[habit] = min(since[habit]+1, longAgo)
			}
		}
		if day >= before {
			table[day-before] = since //nolint:gosec // 366 days at most
		}
	}
	return table
}

// markMonth marks the paydays of one month.
func markMonth(w weekend, first time.Time, mark func(habit int, date time.Time)) {
	length := first.AddDate(0, 1, -1).Day()
	var working []time.Time
	for day := range length {
		if date := first.AddDate(0, 0, day); !w.has(date.Weekday()) {
			working = append(working, date)
		}
	}
	moved := func(day int) time.Time {
		date := first.AddDate(0, 0, min(day, length)-1)
		for w.has(date.Weekday()) {
			date = date.AddDate(0, 0, -1)
		}
		return date
	}
	for day := range 31 {
		mark(movedDays+day, moved(day+1))
		mark(exactDays+day, first.AddDate(0, 0, min(day, length-1)))
	}
	for n := range 5 {
		mark(firstWorked+n, working[n])
	}
	for n := range 4 {
		mark(lastWorked+n, working[len(working)-1-n])
	}
	last := first.AddDate(0, 0, length-1)
	mark(lastFriday, last.AddDate(0, 0, -(int(last.Weekday())-int(time.Friday)+7)%7))
	mark(halfMonthly, moved(1))
	mark(halfMonthly, moved(15))
	mark(midAndLast, moved(15))
	mark(midAndLast, moved(31))
}

// common are habits that are found everywhere, with how usual they are beside each other.
var common = func() (prior [habits]float64) {
	for day := range 31 {
		prior[movedDays+day], prior[exactDays+day] = .004, .002
	}
	for day, more := range map[int]float64{1: .05, 5: .02, 10: .03, 15: .05, 20: .02, 25: .05, 26: .015, 27: .02, 28: .03, 30: .03, 31: .04} {
		prior[movedDays+day-1] += more
		prior[exactDays+day-1] += more / 4
	}
	for n, more := range []float64{.03, .01, .01, .005, .01} {
		prior[firstWorked+n] = more
	}
	for n, more := range []float64{.08, .02, .01, .005} {
		prior[lastWorked+n] = more
	}
	for wd, more := range []float64{.002, .01, .01, .01, .025, .06, .002} {
		prior[weekly+wd] = more
		prior[fortnightly+2*wd], prior[fortnightly+2*wd+1] = more*.7, more*.7
	}
	prior[lastFriday], prior[halfMonthly], prior[midAndLast], prior[irregular] = .02, .04, .04, .15
	return normal(prior)
}()

// customs are how people are paid in single countries, as far as it is widely known. They weigh as
// much as what is common everywhere.
var customs = map[string]map[int]float64{
	"US": {fortnightly + 10: 3, fortnightly + 11: 3, halfMonthly: 1, midAndLast: 2, weekly + 5: 3, lastWorked: 1},
	"CA": {fortnightly + 10: 2, fortnightly + 11: 2, fortnightly + 8: 1, fortnightly + 9: 1, midAndLast: 2, lastWorked: 1},
	"AU": {fortnightly + 6: 1, fortnightly + 7: 1, fortnightly + 8: 2, fortnightly + 9: 2, weekly + 4: 2, movedDays + 14: 1},
	"NZ": {fortnightly + 4: 1, fortnightly + 5: 1, weekly + 3: 1, weekly + 4: 1, movedDays + 19: 1},
	"GB": {lastWorked: 4, movedDays + 27: 3, movedDays + 24: 2, lastFriday: 2, weekly + 5: 2}, "IE": {weekly + 4: 1, weekly + 5: 2, lastWorked: 2, lastFriday: 2},
	"DE": {lastWorked: 4, movedDays: 2, movedDays + 14: 2, movedDays + 26: 1}, "AT": {lastWorked: 2, movedDays + 14: 2, movedDays: 2}, "CH": {movedDays + 24: 4, movedDays + 25: 1},
	"FR": {lastWorked: 3, movedDays + 27: 2, lastWorked + 1: 1, movedDays + 4: 1}, "BE": {lastWorked: 3, movedDays + 24: 1}, "NL": {movedDays + 23: 3, movedDays + 24: 3, movedDays + 22: 1},
	"ES": {lastWorked: 3, movedDays + 27: 2, firstWorked: 1}, "PT": {lastWorked: 2, movedDays + 24: 1, movedDays + 27: 1}, "IT": {movedDays + 26: 3, movedDays + 9: 2, movedDays + 14: 1},
	"SE": {movedDays + 24: 5}, "NO": {movedDays + 11: 1, movedDays + 14: 2, movedDays + 19: 1, movedDays + 24: 2}, "DK": {lastWorked: 5}, "FI": {movedDays + 14: 3, lastWorked: 3},
	"PL": {movedDays + 9: 3, lastWorked: 2, movedDays + 27: 1}, "CZ": {movedDays + 9: 2, movedDays + 14: 2}, "JP": {movedDays + 24: 5, movedDays + 14: 1, lastWorked: 1}, "KR": {movedDays + 24: 3, movedDays + 9: 2},
	"BR": {firstWorked + 4: 4, movedDays + 4: 2, movedDays + 19: 1}, "MX": {midAndLast: 6}, "CO": {midAndLast: 3, lastWorked: 2}, "AR": {firstWorked + 3: 2, lastWorked: 2, movedDays + 4: 1},
	"IN": {exactDays: 2, lastWorked: 3, firstWorked: 2, movedDays + 6: 1}, "SG": {movedDays + 24: 2, lastWorked: 2}, "ZA": {movedDays + 24: 4, lastWorked: 2}, "TR": {movedDays + 14: 3, movedDays: 2},
	"AE": {lastWorked: 2, movedDays + 27: 1, movedDays: 1}, "SA": {movedDays + 26: 3, lastWorked: 1}, "EG": {movedDays + 23: 2, lastWorked: 2}, "IL": {movedDays: 2, movedDays + 8: 3, movedDays + 9: 1},
}

// usual is what is known of a country's habits before any charge was seen.
func usual(country string) [habits]float64 {
	custom := customs[country]
	if custom == nil {
		return common
	}
	var own [habits]float64
	for habit, weight := range custom {
		own[habit] = weight
	}
	own = normal(own)
	for habit := range own {
		own[habit] = (own[habit] + common[habit]) / 2
	}
	return own
}

func normal(weights [habits]float64) [habits]float64 {
	sum := 0.0
	for _, weight := range weights {
		sum += weight
	}
	for i := range weights {
		weights[i] /= sum
	}
	return weights
}
