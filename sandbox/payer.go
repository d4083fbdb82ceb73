package sandbox

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// payer is when one customer has money, and when the bank of their card says yes: the pattern that
// there is to learn. Countries have their customs, each customer keeps or breaks them, and money
// runs down between two paydays. No formula of ours adds these up: the oracle must find them.
type payer struct {
	zone *time.Location // where they live

	// Paydays: days of the month, each moved to the working day before; or a weekday of every week,
	// or of every second one, of even or odd ones.
	days    []int
	weekday time.Weekday
	weeks   int // 0 for days of the month, 1 or 2
	odd     bool
	weekend [2]time.Weekday
	arrives int // the hour at which the money is there

	full, floor float64       // chances right after a payday and long after it
	half        time.Duration // after which half of the difference is gone
	hour        int           // at which they top up what is missing
	swing       float64       // what is lost at the hour that is farthest from that, from 0 to 1

	bank bank
}

// bank is the issuer of a card. Its hours are those of its customers' clocks.
type bank struct {
	opens   int // hour at which it looks at what it has put off
	hours   int // for how long
	best    []time.Weekday
	outage  int // hour at which its machines begin to fail
	outages int // hours
}

const (
	banksOfACountry   = 6
	lastDayOfTheMonth = 31
)

// payer is the customer's, made when first asked for. It draws from numbers of its own, so that the
// rest of the world stays as it is.
func (a *account) payer(cu *customer) *payer {
	if cu.payer == nil {
		r := stream(a.world.seed, "payer", cu.ID)
		p := &payer{zone: a.zoneOf(cu), weekend: weekendIn(a.Country), arrives: r.IntN(10), bank: a.bank(r.IntN(banksOfACountry))}
		p.drawPaydays(&a.profile, r)
		p.full, p.floor = 0.55+0.4*r.Float64(), 0.02+0.10*r.Float64()
		p.half = time.Duration((0.7 + 5*r.Float64()*r.Float64()) * float64(day) * float64(time.Second))
		p.hour = 6 + r.IntN(16)
		if r.IntN(3) > 0 { // the others do not look at the clock
			p.swing = 0.15 + 0.45*r.Float64()
		}
		cu.payer = p
	}
	return cu.payer
}

// drawPaydays follows the country's customs for seven customers in ten; each of the others has days
// of their own.
func (p *payer) drawPaydays(of *profile, r *rand.Rand) {
	if r.IntN(100) < of.Weekly {
		p.weeks, p.weekday, p.odd = 1+r.IntN(2), time.Friday, r.IntN(2) == 0
		if r.IntN(4) == 0 {
			p.weekday = time.Monday + time.Weekday(r.IntN(4))
		}
		return
	}
	switch r.IntN(10) {
	case 0, 1, 2:
		p.days = []int{1 + r.IntN(28)}
	case 3:
		p.days = []int{lastDayOfTheMonth}
	case 4, 5: // twice a month
		p.days = of.Paydays
	default:
		p.days = []int{of.Paydays[r.IntN(len(of.Paydays))]}
	}
}

// bank is one of the country's.
func (a *account) bank(n int) bank {
	r := stream(a.world.seed, "bank", a.Country, n)
	b := bank{opens: 7 + r.IntN(5), hours: 6 + r.IntN(5), outage: (20 + r.IntN(9)) % 24, outages: 4 + r.IntN(4)}
	if r.IntN(4) == 0 { // it works through the night
		b.opens = (b.opens + 12) % 24
	}
	first := time.Weekday(1 + r.IntN(3))
	if weekendIn(a.Country)[0] == time.Friday {
		first--
	}
	b.best = []time.Weekday{first, first + 1, first + 2}
	return b
}

// zoneOf is where a customer lives: by their city, else where the merchant is.
func (a *account) zoneOf(cu *customer) *time.Location {
	for _, place := range a.profile.Places {
		if place.city == string(cu.Address.City) && place.zone != "" {
			if zone, err := time.LoadLocation(place.zone); err == nil {
				return zone
			}
		}
	}
	return a.loc
}

// chance is the probability that a charge of a card with this habit succeeds.
func (p *payer) chance(h habit, at time.Time) float64 {
	local := at.In(p.zone)
	switch h {
	case liquid:
		return 0.985
	case bankDebit:
		return 0.93
	case payday:
		return min(p.funds(local)*p.awake(local.Hour()), 0.97)
	case moody:
		return p.bank.mood(local)
	case unstable:
		if within(local.Hour(), p.bank.outage, p.bank.outages) {
			return 0.25
		}
		return 0.75
	}
	return 0
}

// funds is the chance that there is enough money: much after a payday, and less with every day.
func (p *payer) funds(local time.Time) float64 {
	year, month, day := local.Date()
	for past := range 62 {
		// a date alone, which no change of the clocks moves
		d := time.Date(year, month, day-past, 0, 0, 0, 0, time.UTC)
		if !p.paidOn(d) {
			continue
		}
		since := local.Sub(time.Date(d.Year(), d.Month(), d.Day(), p.arrives, 0, 0, 0, p.zone))
		if since >= 0 {
			return p.floor + (p.full-p.floor)*math.Exp2(-float64(since)/float64(p.half))
		}
	}
	return p.floor
}

// paidOn says whether a day is one on which their money comes.
func (p *payer) paidOn(d time.Time) bool {
	if p.weeks > 0 {
		_, week := d.ISOWeek()
		return d.Weekday() == p.weekday && (p.weeks == 1 || week%2 == 1 == p.odd)
	}
	if !p.working(d) {
		return false
	}
	// This day, or one of those without work that follow it.
	for ahead := range 3 {
		next := d.AddDate(0, 0, ahead)
		if ahead > 0 && p.working(next) {
			return false
		}
		last := next.AddDate(0, 0, 1).Day() == 1
		if slices.Contains(p.days, next.Day()) || last && slices.Contains(p.days, lastDayOfTheMonth) {
			return true
		}
	}
	return false
}

func (p *payer) working(d time.Time) bool { return !slices.Contains(p.weekend[:], d.Weekday()) }

func weekendIn(country string) [2]time.Weekday {
	if country == "KW" {
		return [2]time.Weekday{time.Friday, time.Saturday}
	}
	return [2]time.Weekday{time.Saturday, time.Sunday}
}

// awake is what is left of a chance at an hour: all at the hour at which they top up.
func (p *payer) awake(hour int) float64 {
	return 1 - p.swing*(1-math.Cos(2*math.Pi*float64(hour-p.hour)/24))/2
}

// mood is the chance that a bank says yes which puts off what comes outside its hours.
func (b *bank) mood(local time.Time) float64 {
	p := 0.30
	if slices.Contains(b.best, local.Weekday()) {
		p += 0.20
	}
	if within(local.Hour(), b.opens, b.hours) {
		p += 0.25
	}
	return p
}

// within says whether an hour is one of so many from another on, around midnight too.
func within(hour, from, hours int) bool { return (hour-from+24)%24 < hours }
