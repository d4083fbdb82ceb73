package worlds

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"time"
	_ "time/tzdata" // the same worlds on every machine
)

// stride is how many hours lie between two balances that are kept.
const stride = 6

// epoch is hour 0 and day 0 of the agents: accounts run for six weeks before they are looked at.
var (
	epoch = Start.AddDate(0, 0, -42)
	days  = int(End.Sub(epoch)/(24*time.Hour)) + 20
	hours = days * 24
)

// hourOf is the hour of a moment, kept within what is simulated.
func hourOf(at time.Time) int {
	return min(max(int(at.Sub(epoch)/time.Hour), 0), hours-1)
}

// country is where people are paid: its banks' zones, its weekend and holidays. Days are local
// dates counted from the epoch.
type country struct {
	code, currency string
	zones          string // by space
	weekend        [2]time.Weekday
	holidays       string // 0501 each year or 20250421, by space
	free           float64
	batch          int // hour at which banks book what came in, local
	dates          []int

	off       []bool // by day: weekend or holiday
	locations []*time.Location
}

var (
	satSun = [2]time.Weekday{time.Saturday, time.Sunday}
	friSat = [2]time.Weekday{time.Friday, time.Saturday}
)

// atlas makes the countries. Free is what a month leaves after fixed costs, in dollars; dates are
// the usual days of pay, 0 for the last working day.
func atlas() map[string]*country {
	list := []*country{
		{code: "US", currency: "usd", zones: "America/New_York America/Chicago America/Los_Angeles",
			weekend:  satSun,
			holidays: "0101 0619 0704 1111 1225 20250526 20250901 20251127 20260119",
			free:     1400, batch: 3, dates: []int{15, 0, 1}},
		{code: "GB", currency: "gbp", zones: "Europe/London", weekend: satSun,
			holidays: "0101 1225 1226 20250418 20250421 20250505 20250526 20250825",
			free:     1100, batch: 1, dates: []int{28, 0, 25}},
		{code: "AU", currency: "aud", zones: "Australia/Sydney Australia/Perth", weekend: satSun,
			holidays: "0101 0126 0425 1225 1226 20250418 20250421 20250609",
			free:     1200, batch: 5, dates: []int{15, 0}},
		{code: "DE", currency: "eur", zones: "Europe/Berlin", weekend: satSun,
			holidays: "0101 0501 1003 1225 1226 20250418 20250421 20250529 20250609",
			free:     1100, batch: 6, dates: []int{0, 0, 27, 1, 15}},
		{code: "FR", currency: "eur", zones: "Europe/Paris", weekend: satSun,
			holidays: "0101 0501 0508 0714 0815 1101 1111 1225 20250421 20250529",
			free:     900, batch: 4, dates: []int{28, 0, 5}},
		{code: "SE", currency: "sek", zones: "Europe/Stockholm", weekend: satSun,
			holidays: "0101 0106 0501 0606 1224 1225 1226 20250418 20250421 20250620",
			free:     1100, batch: 0, dates: []int{25}},
		{code: "JP", currency: "jpy", zones: "Asia/Tokyo", weekend: satSun,
			holidays: "0101 0102 0103 0211 0429 0503 0504 0505 0811 1103 1123 1231",
			free:     1000, batch: 9, dates: []int{25, 25, 10, 20}},
		{code: "BR", currency: "brl", zones: "America/Sao_Paulo America/Manaus", weekend: satSun,
			holidays: "0101 0421 0501 0907 1012 1102 1115 1225 20250303 20250304",
			free:     350, batch: 6, dates: []int{5, 5, 20}},
		{code: "IN", currency: "inr", zones: "Asia/Kolkata", weekend: satSun,
			holidays: "0126 0815 1002 1225 20250314 20251020 20251021",
			free:     250, batch: 10, dates: []int{0, 1, 7}},
		{code: "SA", currency: "sar", zones: "Asia/Riyadh", weekend: friSat,
			holidays: "0222 0923 20250330 20250331 20250401 20250606 20250607 20250608",
			free:     900, batch: 0, dates: []int{27, 27, 1}},
		{code: "EG", currency: "egp", zones: "Africa/Cairo", weekend: friSat,
			holidays: "0107 0125 0425 0501 0723 1006 20250330 20250331 20250606",
			free:     200, batch: 8, dates: []int{24, 0}},
		{code: "IL", currency: "ils", zones: "Asia/Jerusalem", weekend: friSat,
			holidays: "20250413 20250419 20250501 20250602 20250923 20250924 20251002",
			free:     1100, batch: 7, dates: []int{1, 9, 10}},
	}
	all := map[string]*country{}
	for _, c := range list {
		for zone := range strings.FieldsSeq(c.zones) {
			location, err := time.LoadLocation(zone)
			if err != nil {
				panic(err) // the zones are embedded
			}
			c.locations = append(c.locations, location)
		}
		c.off = make([]bool, days)
		for day := range c.off {
			date := epoch.AddDate(0, 0, day)
			c.off[day] = slices.Contains(c.weekend[:], date.Weekday())
			for holiday := range strings.FieldsSeq(c.holidays) {
				if strings.HasSuffix(date.Format("20060102"), holiday) {
					c.off[day] = true
				}
			}
		}
		all[c.code] = c
	}
	return all
}

// before is the day itself or the last working day before it, after the first from it on.
func (c *country) before(day int) int {
	for day > 0 && c.off[day] {
		day--
	}
	return day
}

func (c *country) after(day int) int {
	for day < days-1 && c.off[day] {
		day++
	}
	return day
}

// moment is an hour of a local date.
func moment(day, hour int, zone *time.Location) int {
	date := epoch.AddDate(0, 0, day)
	return hourOf(time.Date(date.Year(), date.Month(), date.Day(), hour, 0, 0, 0, zone))
}

// working reports a moment within the office hours of a zone.
func (c *country) working(at time.Time, zone *time.Location) bool {
	local := at.In(zone)
	if hour := local.Hour(); hour < 9 || hour >= 17 {
		return false
	}
	_, shift := local.Zone()
	day := int(at.Add(time.Duration(shift)*time.Second).Sub(epoch) / (24 * time.Hour))
	return day >= 0 && day < days && !c.off[day]
}

// monthly are the dates of each month, 0 the last, moved to a working day.
func monthly(date int, move func(int) int) []int {
	var list []int
	for month := epoch.AddDate(0, 0, 1-epoch.Day()); ; month = month.AddDate(0, 1, 0) {
		last := month.AddDate(0, 1, -1).Day()
		if date > 0 {
			last = min(date, last)
		}
		day := int(month.AddDate(0, 0, last-1).Sub(epoch) / (24 * time.Hour))
		if day >= days {
			return list
		}
		if day >= 0 {
			list = append(list, move(day))
		}
	}
}

// every are the days of one weekday, each so many days, moved to the working day before.
func (c *country) every(weekday time.Weekday, first, gap int) []int {
	day := (int(weekday)-int(epoch.Weekday())+7)%7 + first
	var list []int
	for ; day < days; day += gap {
		list = append(list, c.before(day))
	}
	return list
}

// style is how an agent gets money.
type style int

const (
	wages     style = iota // on a date of the month
	weekly                 // each week
	biweekly               // each fortnight
	twice                  // on the 15th and the last working day
	pension                // on the first working day, or the Wednesday of one's birthday
	freelance              // when the clients pay
	repaid                 // a credit card's bill is paid, or a corporate limit starts anew
)

// income is the days on which money comes in, in order, and how many days lie between them.
func (c *country) income(r *rand.Rand, s style) (list []int, gap float64) {
	switch s {
	case weekly:
		day := []time.Weekday{time.Friday, time.Friday, time.Thursday, time.Wednesday}[r.IntN(4)]
		return c.every(day, 0, 7), 7
	case biweekly:
		day := []time.Weekday{time.Friday, time.Friday, time.Thursday}[r.IntN(3)]
		return c.every(day, 7*r.IntN(2), 14), 14
	case twice:
		list = append(monthly(15, c.before), monthly(0, c.before)...)
		slices.Sort(list)
		return list, 15
	case pension:
		if c.code != "US" {
			return monthly(1, c.after), 30
		}
		week := 1 + r.IntN(3)
		for _, day := range c.every(time.Wednesday, 0, 7) {
			if (epoch.AddDate(0, 0, day).Day()-1)/7 == week {
				list = append(list, day)
			}
		}
		return list, 30
	case freelance:
		gap = 8 + 10*r.Float64()
		for day := r.ExpFloat64() * gap; int(day) < days; day += 1 + r.ExpFloat64()*gap {
			list = append(list, c.after(int(day)))
		}
		return list, gap
	case repaid:
		return monthly(1+r.IntN(28), c.after), 30
	case wages:
	}
	return monthly(c.dates[r.IntN(len(c.dates))], c.before), 30
}

// move is what changes an account at an hour.
type move struct {
	hour   int
	change float64
	fill   bool // up to change, rather than by it
}

// account is what an agent can spend, in units of a month's pay or of a limit.
type account struct {
	marks []float32 // each stride hours
	moves []move    // in order, with what they changed
	paid  []int     // hours at which money came in, in order
}

// plan is how an account will be lived on.
type plan struct {
	moves  []move
	drain  float64               // per day, as a part of what is there
	shocks float64               // per day
	mood   func(day int) float64 // how much faster money goes; nil: never
}

// live runs an account.
func live(r *rand.Rand, p plan) *account {
	slices.SortStableFunc(p.moves, func(a, b move) int { return a.hour - b.hour })
	a := &account{marks: make([]float32, hours/stride+1), moves: p.moves}
	left, next, pace, shock := 0.5, 0, 1.0, -1
	for mark := range a.marks {
		hour := mark * stride
		for ; next < len(p.moves) && p.moves[next].hour <= hour; next++ {
			m := &p.moves[next]
			if m.change > 0 {
				a.paid = append(a.paid, m.hour)
			}
			switch {
			case m.fill:
				m.change = max(m.change-left, 0)
			case m.change < 0: // a bill that would take nearly all is paid in part
				m.change = max(m.change, -0.7*left)
			}
			left += m.change
		}
		if day := hour / 24; hour%24 == 0 {
			pace, shock = 0.5+r.Float64(), -1
			if weekday := epoch.AddDate(0, 0, day).Weekday(); weekday == time.Saturday {
				pace *= 1.5
			}
			if p.mood != nil {
				pace *= p.mood(day)
			}
			if r.Float64() < p.shocks {
				shock = hour + stride*r.IntN(24/stride)
			}
		}
		if hour == shock {
			left *= 0.02 + 0.2*r.Float64()
		}
		left *= math.Exp(-p.drain * pace * stride / 24)
		a.marks[mark] = float32(left)
	}
	return a
}

// at is what can be spent at an hour.
func (a *account) at(hour int) float64 {
	mark := hour / stride
	left := float64(a.marks[mark])
	next := sort.Search(len(a.moves), func(i int) bool { return a.moves[i].hour > mark*stride })
	for ; next < len(a.moves) && a.moves[next].hour <= hour; next++ {
		left += a.moves[next].change
	}
	return left
}

// refilled is the first hour after another at which money comes in.
func (a *account) refilled(hour int) (int, bool) {
	next := sort.SearchInts(a.paid, hour+1)
	if next == len(a.paid) {
		return 0, false
	}
	return a.paid[next], true
}

// issuer is a bank behind cards.
type issuer struct {
	up    []float32 // by hour: chance that it can answer
	limit int       // charges after which it blocks; 0: never
	block float64   // days for each charge over the limit
}

// weather is how issuers of a kind of world behave.
type weather struct {
	outages float64 // per day
	longest float64 // hours
	refuses float64 // most of what a nightly batch refuses
	blocks  bool
}

func (w weather) issuer(r *rand.Rand, zone *time.Location) *issuer {
	b := &issuer{up: make([]float32, hours)}
	from, length := r.IntN(7), 2+r.IntN(4)
	batch := w.refuses * (0.3 + 0.7*r.Float64())
	for hour := range b.up {
		b.up[hour] = 0.995
		if local := epoch.Add(time.Duration(hour) * time.Hour).In(zone).Hour(); local >= from &&
			local < from+length {
			b.up[hour] = float32(1 - batch)
		}
	}
	for hour := r.ExpFloat64() * 24 / w.outages; int(hour) < hours; {
		end := hour + 1 + r.Float64()*w.longest
		for h := int(hour); h < min(int(end), hours); h++ {
			b.up[h] *= 0.06
		}
		hour = end + r.ExpFloat64()*24/w.outages
	}
	if w.blocks {
		b.limit, b.block = 2+r.IntN(3), 1.5+3*r.Float64()
	}
	return b
}

// blocks reports that the issuer refuses every charge, after n charges within so many days.
func (b *issuer) blocks(n int, since float64) bool {
	return b.limit > 0 && n >= b.limit && since < b.block*float64(n-b.limit+1)
}
