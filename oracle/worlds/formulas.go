package worlds

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"phantom/decline"
)

// Formulas are eight kinds of worlds whose truth is a formula of each customer's pay, hours and
// card. Each has a stream of randomness of its own, and is the same for the same seed and size.
func Formulas(seed uint64, size Size) []World {
	kinds := []func(r *rand.Rand) script{
		paydaysScript, hoursScript, habitsScript, categoriesScript, driftScript, confoundedScript,
		deadbeatsScript, thresholdsScript,
	}
	worlds := make([]World, len(kinds))
	for k, kind := range kinds {
		r := formulaStream(seed, uint64(k+1))
		worlds[k] = newFormula(r, size, kind(r))
	}
	return worlds
}

func formulaStream(seed, stream uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, stream))
}

// script is what one kind of world is made of.
type script struct {
	name  string
	dead  float64 // share of customers who never pay a debt
	tired float64 // factor of the chance for each further attempt
	fade  float64 // days after which an old debt's chance is by 1/e smaller
	soon  float64 // share of failures that are the issuer's
	// drifts says that cast gives a customer habits for both phases, before and after the turn.
	drifts bool
	// cast gives a customer habits.
	cast func(r *rand.Rand, d *debtor)
	// law is the chance of a later charge, before what the script has for all.
	law func(d *debtor, m instant) float64
	// batch, where it is set, chooses the UTC hour of a customer's bills.
	batch func(r *rand.Rand, d *debtor) int
	// hour, where it is set, overrides the local hour at which a customer is charged again.
	hour func(r *rand.Rand, d *debtor) int
}

// debtor is a customer's truth.
type debtor struct {
	Payer
	home     *homeland
	zone     *time.Location // the true one
	seller   *seller
	pay      [2]payRhythm // before and after things change
	hours    [2][24]float64
	shared   *[24]float64 // of the country, where a script says so
	weekdays [7]float64
	lasts    float64      // days a month's pay lasts
	cliff    bool         // it is spent at once, not bit by bit
	lands    int          // local hour at which pay arrives
	mood     float64      // 0 to 1, against others
	top      float64      // chance at the best of times
	limit    float64      // what pay is, in invoices
	apart    bool         // unlike the others, in what a script says
	cash     [2][]float32 // what is left of the pay, 0 to 1, by local day
	dead     bool
	ends     time.Time // from then on a dead customer pays no debt
}

// seller is a merchant's truth.
type seller struct {
	home     *homeland
	schedule int // see Retries
	hour     int // UTC, of daily and weekly retries
	weekday  time.Weekday
	batch    int // UTC hour of all bills, or -1
	mood     float64
	changes  bool // half of them do, where a script says so
}

// instant is a moment as a debtor lives it.
type instant struct {
	hour, weekday, n, phase int

	cash, age float64 // age in days
}

type formula struct {
	script
	seed     uint64
	invoices []Invoice
	debtors  []*debtor // by invoice
	luck     []float64 // by invoice: some months are bad
}

func (f *formula) Name() string        { return f.name }
func (f *formula) Invoices() []Invoice { return f.invoices }

// The days for which cash is known, counted from 1970.
var (
	firstDay = int(Start.Unix()/86400) - 62
	turnDay  = int(Start.AddDate(0, 7, 0).Unix() / 86400)
	allDays  = int(End.Unix()/86400) + 40 - firstDay
)

func newFormula(r *rand.Rand, size Size, s script) *formula {
	f := &formula{script: s, seed: r.Uint64()}
	type bill struct {
		Invoice
		debtor *debtor
		luck   float64
	}
	var bills []bill
	for i := range size.Merchants {
		merchant := newSeller(r, i)
		category := formulaCategories[(i+i/len(formulaCategories))%len(formulaCategories)]
		for j := range size.Customers {
			d := newDebtor(r, merchant, s.dead)
			d.Merchant, d.Category = fmt.Sprintf("m%02d", i), category
			d.Customer = fmt.Sprintf("cus_%02d_%03d", i, j)
			s.cast(r, d)
			if !s.drifts {
				d.pay[1], d.hours[1] = d.pay[0], d.hours[0]
			}
			d.fill()
			day, hour := 1+r.IntN(28), merchant.batch
			if hour < 0 {
				hour = (22 + r.IntN(8)) % 24
			}
			if s.batch != nil {
				hour = s.batch(r, d)
			}
			minute, from, to := time.Duration(r.IntN(60)), 0, 14
			if r.Float64() < 0.15 {
				from = r.IntN(8)
			}
			if r.Float64() < 0.1 {
				to = from + 3 + r.IntN(10)
			}
			for month := from; month < min(to, 14); month++ {
				at := time.Date(2025, time.Month(month+1), day, hour, 0, 0, 0, time.UTC)
				id := fmt.Sprintf("in_%03d_%02d", j, month)
				bills = append(bills, bill{
					Invoice{ID: id, Payer: &d.Payer, At: at.Add(minute * time.Minute)}, d,
					1.15 - 0.9*math.Pow(r.Float64(), 4),
				})
			}
		}
	}
	slices.SortStableFunc(bills, func(a, b bill) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Payer.Customer, b.Payer.Customer))
	})
	for i, b := range bills {
		f.invoices = append(f.invoices, b.Invoice)
		f.debtors = append(f.debtors, b.debtor)
		f.luck = append(f.luck, b.luck)
		// Most first charges succeed at any moment, of those who are in credit then. The others are
		// as any charge of theirs.
		reserve := 0.6 + 0.28*b.debtor.mood
		if b.debtor.dead && !b.At.Before(b.debtor.ends) {
			reserve = 0.25
		}
		if r.Float64() < reserve+(1-reserve)*f.Chance(i, b.At, 1) {
			continue
		}
		invoice := &f.invoices[i]
		invoice.Failed = true
		invoice.Class, invoice.Code = f.Failure(i, b.At, r.Float64())
	}
	return f
}

// feel tells how a debtor lives a moment.
func (f *formula) feel(i int, at time.Time, n int) (*debtor, instant) {
	d := f.debtors[i]
	_, offset := at.In(d.zone).Zone()
	seconds := int(at.Unix()) + offset
	day := seconds / 86400
	m := instant{
		hour: seconds % 86400 / 3600, weekday: (day + 4) % 7, n: max(n, 1),
		age: max(0, at.Sub(f.invoices[i].At).Hours()/24),
	}
	if d.seller.changes && day >= turnDay {
		m.phase = 1
	}
	known := min(max(day-firstDay, 1), allDays-1)
	if m.hour < d.lands {
		known--
	}
	m.cash = float64(d.cash[m.phase][known])
	return d, m
}

func (f *formula) Chance(i int, at time.Time, n int) float64 {
	d, m := f.feel(i, at, n)
	if d.dead && !f.invoices[i].At.Before(d.ends) {
		return 0.002 + 0.016*d.mood
	}
	chance := f.law(d, m) * f.luck[i] * d.seller.mood
	for range m.n - 1 {
		chance *= f.tired
	}
	chance *= math.Exp(-m.age / f.fade)
	switch f.invoices[i].Class {
	case string(decline.Low): // the bank has its reasons, and money does not cure them all
		chance *= 0.65
	case string(decline.Soon): // for some the outage was all, and it ends within three hours
		chance = 1 - (1-chance)*(1-0.4*min(1, m.age*8))
	case string(decline.Unknown):
		chance *= 0.85
	}
	return min(max(chance, 0.005), 0.75)
}

func (f *formula) Failure(i int, at time.Time, die float64) (class, code string) {
	d, m := f.feel(i, at, 1)
	timed := 0.9 - 0.5*m.cash
	if d.Funding == "credit" {
		timed -= 0.2
	}
	if d.dead && !f.invoices[i].At.Before(d.ends) {
		timed = 0.3
	}
	unknown := 0.07
	if d.Funding == "unknown" {
		unknown = 0.15
	}
	if die < f.soon {
		return string(decline.Soon), formulaCode(soonCodes, die/f.soon)
	}
	die = (die - f.soon) / (1 - f.soon)
	if die < unknown {
		return string(decline.Unknown), ""
	}
	die = (die - unknown) / (1 - unknown)
	if die < timed {
		return string(decline.Timed), formulaCode(timedCodes, die/timed)
	}
	return string(decline.Low), formulaCode(lowCodes, (die-timed)/(1-timed))
}

func (f *formula) Retries(i int) []time.Time {
	invoice, d := &f.invoices[i], f.debtors[i]
	if !invoice.Failed {
		return nil
	}
	r := formulaStream(f.seed, uint64(i)<<1)
	const day = 24 * time.Hour
	var moments []time.Time
	switch s := d.seller; s.schedule {
	case 0:
		for _, days := range []time.Duration{1, 3, 5, 7} {
			moments = append(moments, invoice.At.Add(days*day))
		}
	case 1: // as if a machine had chosen: scattered, by day rather than by night
		at := invoice.At
		for range 4 + r.IntN(5) {
			at = at.Add(6*time.Hour + time.Duration(r.Float64()*float64(3*day)))
			if hour := at.In(d.zone).Hour(); (hour < 7 || hour > 20) && r.Float64() < 0.7 {
				at = at.Add(10 * time.Hour)
			}
			moments = append(moments, at)
		}
	case 2, 3: // daily, weekly
		at := invoice.At.Truncate(day).Add(day + time.Duration(s.hour)*time.Hour)
		for ; at.Before(invoice.At.Add(Window)); at = at.Add(day) {
			if s.schedule == 2 || at.Weekday() == s.weekday {
				moments = append(moments, at)
			}
		}
	}
	if f.hour != nil {
		for k, at := range moments {
			y, month, date := at.In(d.zone).Date()
			moments[k] = time.Date(y, month, date, f.hour(r, d), r.IntN(60), 0, 0, d.zone).UTC()
		}
	}
	slices.SortFunc(moments, time.Time.Compare)
	moments = slices.CompactFunc(moments, func(a, b time.Time) bool {
		return a.Sub(b).Abs() < time.Hour
	})
	return slices.DeleteFunc(moments, func(at time.Time) bool {
		return at.Before(invoice.At.Add(2*time.Hour)) || !at.Before(invoice.At.Add(Window))
	})
}

func (f *formula) PaysAlone(i int) time.Time {
	invoice, d := &f.invoices[i], f.debtors[i]
	r := formulaStream(f.seed, uint64(i)<<1|1)
	willing := (0.15 + 0.2*d.mood) / (1 - f.dead)
	if !invoice.Failed || d.dead && !invoice.At.Before(d.ends) || r.Float64() > willing {
		return time.Time{}
	}
	// The evening of the richest day that is left, or of any where all days are alike.
	y, month, date := invoice.At.In(d.zone).Date()
	best, rich := time.Time{}, -1.0
	for days := 1; days < 14; days++ {
		evening := time.Date(y, month, date+days, 17+r.IntN(6), r.IntN(60), 0, 0, d.zone)
		_, m := f.feel(i, evening, 1)
		worth := m.cash + 0.2*r.Float64()
		if worth > rich && evening.Before(invoice.At.Add(Window)) {
			best, rich = evening.UTC(), worth
		}
	}
	return best
}

func newSeller(r *rand.Rand, i int) *seller {
	s := &seller{
		home: &homelands[r.IntN(len(homelands))], schedule: (i + r.IntN(2)) % 4, hour: r.IntN(24),
		weekday: time.Weekday(r.IntN(7)), batch: -1, mood: 0.85 + 0.3*r.Float64(),
		changes: i%2 == 1,
	}
	if r.IntN(2) == 0 {
		s.batch = r.IntN(7)
	}
	return s
}

func newDebtor(r *rand.Rand, s *seller, dead float64) *debtor {
	home := s.home
	if r.Float64() < 0.35 {
		home = &homelands[r.IntN(len(homelands))]
	}
	zone := home.zones[r.IntN(len(home.zones))]
	d := &debtor{
		home: home, seller: s, zone: formulaZones[zone], lands: r.IntN(10), mood: r.Float64(),
		lasts: 2 + 7*r.Float64(), cliff: r.IntN(4) == 0, limit: 1.2 + 8*math.Pow(r.Float64(), 2),
		dead: r.Float64() < dead, ends: Start,
	}
	if r.IntN(2) == 0 {
		d.ends = Start.AddDate(0, r.IntN(14), 0)
	}
	d.Country, d.Zone, d.Currency = home.country, zone, home.currency
	switch die := r.Float64(); {
	case die < 0.15:
		d.Zone = ""
	case die < 0.2:
		d.Zone = homelands[r.IntN(len(homelands))].zones[0]
	case die < 0.22:
		d.Zone = "Mars/Olympus"
	case die < 0.25:
		d.Country, d.Zone = "", ""
	}
	if r.Float64() < 0.2 {
		d.Currency = "usd"
	}
	d.Brand = []string{"visa", "visa", "visa", "mastercard", "mastercard", "amex"}[r.IntN(6)]
	d.Funding = []string{
		"debit", "debit", "debit", "debit", "credit", "credit", "credit", "prepaid", "unknown",
	}[r.IntN(9)]
	if d.Brand == "amex" && d.Funding != "unknown" {
		d.Funding = "credit"
	}
	price := []float64{499, 999, 1499, 1900, 2900, 4900, 9900, 24900}[r.IntN(8)]
	d.Amount = int64(price * formulaRates[d.Currency])
	d.top = (0.55 + 0.4*d.mood) * math.Pow(2000/price, 0.07)
	d.limit *= math.Sqrt(2000 / price)
	for hour := range 24 {
		d.hours[0][hour], d.hours[1][hour] = 1, 1
	}
	for day := range 7 {
		d.weekdays[day] = 1
	}
	return d
}

// fill computes what is left of a debtor's pay on each day.
func (d *debtor) fill() {
	for phase, rhythm := range d.pay {
		if phase == 1 && rhythm == d.pay[0] {
			d.cash[1] = d.cash[0]
			continue
		}
		paid := make(map[int]bool)
		for _, day := range rhythm.days(d.home.rest) {
			paid[day] = true
		}
		lasts := d.lasts
		switch rhythm.kind {
		case "weekly":
			lasts = max(1, lasts*0.35)
		case "fortnightly", "twice":
			lasts *= 0.6
		}
		cash, since := make([]float32, allDays), 1000
		for day := range cash {
			since++
			if paid[firstDay+day] {
				since = 0
			}
			switch {
			case rhythm.kind == "":
				cash[day] = 0.35
			case !d.cliff:
				cash[day] = float32(math.Exp(-float64(since) / lasts))
			case float64(since) < lasts:
				cash[day] = 1
			default:
				cash[day] = 0.08
			}
		}
		d.cash[phase] = cash
	}
}

// span is a table of hours that are good from one on for some time, and else as low as said.
func span(from, length int, low float64) (table [24]float64) {
	for hour := range 24 {
		table[hour] = low
		if (hour-from+48)%24 < length {
			table[hour] = 1
		}
	}
	return table
}
