package worlds

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"phantom/decline"
)

// kind is what the agents of a world are like.
type kind struct {
	name      string
	countries string  // by space
	styles    []style // drawn from alike
	credit    float64 // part of the cards that are credit cards
	pinched   float64 // part of the agents whose money does not last until the next
	lasts     float64 // of the time between two incomes, for how much it lasts at least
	doubt     float64 // what even perfect knowledge does not know of a balance, as log sd
	shocks    float64 // per day
	weather   weather
	company   bool // corporate limits and office hours
	slump     bool // a recession from August on
	constant  bool // a chance of their own for each agent, at any time
	tiny      bool // many merchants of three customers
}

var calm = weather{outages: 0.02, longest: 5, refuses: 0.15}

var kinds = []kind{
	{name: "wages", countries: "US GB DE FR SE JP BR IN SA IL",
		styles: []style{wages, wages, wages, wages, pension}, credit: 0.15,
		pinched: 0.5, lasts: 0.35, doubt: 0.45, shocks: 0.008, weather: calm},
	{name: "weekly", countries: "US GB AU", styles: []style{weekly, biweekly, biweekly, twice},
		pinched: 0.55, lasts: 0.35, doubt: 0.4, shocks: 0.008, weather: calm},
	{name: "limits", countries: "US GB DE FR JP BR", styles: []style{repaid},
		credit: 1, pinched: 0.5, lasts: 0.35, doubt: 0.4, shocks: 0.006, weather: calm},
	{name: "companies", countries: "US GB DE FR JP IN SA", styles: []style{repaid},
		credit: 1, pinched: 0.35, lasts: 0.45, doubt: 0.35, shocks: 0.004, weather: calm,
		company: true},
	{name: "issuers", countries: "US GB DE BR IN JP", styles: []style{wages},
		credit: 0.4, pinched: 0.15, lasts: 0.4, doubt: 0.5, shocks: 0.003,
		weather: weather{outages: 0.12, longest: 16, refuses: 0.85, blocks: true}},
	{name: "freelancers", countries: "US GB DE FR BR IN", styles: []style{freelance},
		credit: 0.2, pinched: 0.4, lasts: 0.6, doubt: 0.9, shocks: 0.01, weather: calm},
	{name: "recession", countries: "US GB AU DE FR SE JP BR IN SA EG IL",
		styles: []style{wages, wages, wages, pension, twice}, credit: 0.15,
		pinched: 0.5, lasts: 0.35, doubt: 0.45, shocks: 0.006, weather: calm, slump: true},
	{name: "constant", countries: "US GB DE FR BR", styles: []style{wages}, credit: 0.4,
		constant: true, weather: calm},
	{name: "tiny", countries: "US GB DE FR SE JP BR",
		styles: []style{wages, wages, biweekly, pension}, credit: 0.15,
		pinched: 0.5, lasts: 0.35, doubt: 0.45, shocks: 0.008, weather: calm, tiny: true},
}

// agent is a customer, with what only the world knows of them.
type agent struct {
	payer   *Payer
	shop    *shop
	country *country
	zone    *time.Location
	bank    *issuer
	money   *account // nil: a constant chance
	need    float64  // an invoice, in the account's units
	doubt   float64
	grace   float64 // chance that the bank pays without money
	base    float64 // chance that nothing else is wrong
	fade    float64 // of the base for each further charge
	closed  float64 // chance outside the office hours; 0: there are none
	alone   float64 // how likely they pay of their own accord
	gone    int     // hour from which they are lost
	frozen  [2]int  // hours between which the card is frozen
}

// shop is a merchant with its habit of charging again.
type shop struct {
	id, category string
	home         *country
	habit        int
	hour         int
}

// debt is what only the world knows of an invoice.
type debt struct {
	invoice Invoice
	agent   *agent
	settled int // hour from which someone has seen to the money; 0: never
	alone   time.Time
}

type agentWorld struct {
	name     string
	seed     uint64
	invoices []Invoice
	debts    []debt
}

// Agents are worlds made of accounts: chances come from what is on them, from what issuers are up
// to, and from who is still there. Each kind has a stream of random numbers of its own.
func Agents(seed uint64, size Size) []World {
	all := atlas()
	worlds := make([]World, 0, len(kinds))
	for i, k := range kinds {
		own := seed*0x9e3779b97f4a7c15 + uint64(i+1)
		worlds = append(worlds, k.world(rand.New(rand.NewPCG(own, uint64(i))), own, size, all))
	}
	return worlds
}

func (k kind) world(r *rand.Rand, seed uint64, size Size, all map[string]*country) *agentWorld {
	w := &agentWorld{name: "agents/" + k.name, seed: seed}
	codes := strings.Fields(k.countries)
	banks := map[string][]*issuer{}
	for _, code := range codes {
		for range 4 {
			banks[code] = append(banks[code], k.weather.issuer(r, all[code].locations[0]))
		}
	}
	if k.tiny {
		size = Size{Merchants: max(size.Merchants*size.Customers/3, 1), Customers: 3}
	}
	for m := range size.Merchants {
		s := &shop{
			id:       fmt.Sprintf("acct_%s_%04d", k.name, m),
			category: categories[r.IntN(len(categories))],
			home:     all[codes[r.IntN(len(codes))]], habit: r.IntN(4), hour: r.IntN(24),
		}
		for n := range size.Customers {
			c := s.home
			if r.Float64() < 0.4 {
				c = all[codes[r.IntN(len(codes))]]
			}
			a := k.agent(r, s, c, banks[c.code])
			a.payer.Customer = fmt.Sprintf("cus_%s_%04d_%03d", k.name, m, n)
			w.bill(r, a)
		}
	}
	slices.SortStableFunc(w.debts, func(a, b debt) int {
		return a.invoice.At.Compare(b.invoice.At)
	})
	w.invoices = make([]Invoice, len(w.debts))
	for i := range w.debts {
		w.debts[i].invoice.ID = fmt.Sprintf("in_%s_%06d", k.name, i)
		w.invoices[i] = w.debts[i].invoice
	}
	return w
}

var categories = []string{
	"software", "media", "education", "health", "professional_services", "retail", "food", "travel",
	"finance", "nonprofit", "other",
}

// rates are minor units for a dollar.
var rates = map[string]float64{
	"usd": 100, "gbp": 78, "aud": 152, "eur": 92, "sek": 1040, "jpy": 150, "brl": 560, "inr": 8500,
	"sar": 375, "egp": 4900, "ils": 365,
}

// between is a number from low up to high.
func between(r *rand.Rand, low, high float64) float64 { return low + (high-low)*r.Float64() }

func (k kind) agent(r *rand.Rand, s *shop, c *country, banks []*issuer) *agent {
	zone := r.IntN(len(c.locations))
	a := &agent{
		shop: s, country: c, zone: c.locations[zone], doubt: k.doubt * between(r, 0.8, 1.3),
		base: between(r, 0.84, 0.985), fade: between(r, 0.95, 1), alone: between(r, 0, 0.4),
		grace: between(r, 0, 0.08), gone: hours,
	}
	if r.Float64() < 0.08 { // something about this card is often not liked
		a.base = between(r, 0.4, 0.75)
	}
	brand := []int{0, 0, 0, 1, 1, 2}[r.IntN(6)]
	a.bank = banks[brand]
	if r.Float64() < 0.25 {
		a.bank = banks[3] // one that issues all brands
	}
	if r.Float64() < 0.08 {
		a.gone = hourOf(Start) + r.IntN(hours)
	}
	if r.Float64() < 0.3 {
		from := r.IntN(hours)
		a.frozen = [2]int{from, from + 24 + r.IntN(9*24)}
	}
	dollars := math.Exp(3.3 + 0.8*r.NormFloat64())
	if s.category == "media" || s.category == "food" {
		dollars *= 0.6
	}
	if k.company {
		dollars *= 12
		a.closed = 1
		if r.Float64() < 0.5 {
			a.closed = between(r, 0.45, 0.9)
		}
	}
	currency := s.home.currency
	if r.Float64() < 0.25 {
		currency = c.currency
	}
	a.payer = &Payer{
		Merchant: s.id, Category: s.category, Country: c.code, Zone: a.zone.String(),
		Brand: []string{"visa", "mastercard", "amex"}[brand], Funding: "debit", Currency: currency,
		Amount: max(int64(dollars*rates[currency]), 100),
	}
	credit := r.Float64() < k.credit
	switch die := r.Float64(); {
	case die < 0.06:
		a.payer.Funding = "unknown"
	case credit:
		a.payer.Funding = "credit"
	case die < 0.14:
		a.payer.Funding = "prepaid"
	}
	if r.Float64() < 0.08 {
		a.payer.Country = ""
	}
	if die := r.Float64(); die < 0.12 {
		a.payer.Zone = ""
	} else if die < 0.15 {
		a.payer.Zone = "Etc/Unknown"
	}
	if k.constant {
		a.gone, a.frozen, a.fade, a.bank, a.base = hours, [2]int{}, 1, nil, between(r, 0.85, 0.97)
		if r.Float64() < 0.4 {
			a.base = between(r, 0.08, 0.7)
		}
		return a
	}
	a.money = k.account(r, a, credit, dollars)
	return a
}

// account opens an agent's account and runs it, so that money lasts for as long as drawn.
func (k kind) account(r *rand.Rand, a *agent, credit bool, dollars float64) *account {
	how := k.styles[r.IntN(len(k.styles))]
	if credit {
		how = repaid
	}
	incomes, gap := a.country.income(r, how)
	level := gap / 30
	free := a.country.free * math.Exp(0.5*r.NormFloat64())
	if k.company {
		free *= 10
	}
	a.need = level * min(max(dollars/free, 0.008), 0.25)

	lasts := gap * between(r, 1.3, 4)
	pinched := k.pinched
	if a.payer.Funding == "prepaid" {
		pinched += 0.2
	}
	if r.Float64() < pinched {
		lasts = gap * between(r, k.lasts, 1.05) * math.Pow(dollars/30, -0.08)
	}
	p := plan{drain: math.Log(level/a.need) / lasts, shocks: k.shocks}
	hour := (a.country.batch + r.IntN(3)) % 24
	if k.company {
		hour = 0
	}
	missed := 0.0
	if how == repaid && !k.company {
		missed = between(r, 0, 0.25) // bills of the card that are only paid in part
	}
	for _, day := range incomes {
		if k.slump {
			day += slump(day).late
			day = a.country.after(min(day, days-1))
		}
		m := move{change: level * between(r, 0.92, 1.08)}
		switch {
		case how == freelance:
			m.change = level * math.Exp(0.7*r.NormFloat64()-0.25)
		case how == repaid && r.Float64() < missed:
			m.change, m.fill = a.need*between(r, 0.3, 3), true
		case how == repaid:
			m.fill = true
		}
		m.hour = moment(day, hour, a.zone)
		p.moves = append(p.moves, m)
	}
	if how != repaid && r.Float64() < 0.6 { // rent, a loan
		bill, date := level*between(r, 0.1, 0.3), []int{1, 1, 5, 15}[r.IntN(4)]
		for _, day := range monthly(date, a.country.after) {
			p.moves = append(p.moves, move{hour: moment(day, 4, a.zone), change: -bill})
		}
	}
	if k.slump {
		p.mood = func(day int) float64 { return slump(day).pace }
	}
	return live(r, p)
}

// trouble is what a recession does: money goes faster and comes in later.
type trouble struct {
	pace float64
	late int
}

func slump(day int) trouble {
	switch date := epoch.AddDate(0, 0, day); {
	case date.Before(Start.AddDate(0, 7, 9)):
		return trouble{1, 0}
	case date.Before(Start.AddDate(0, 9, 9)):
		return trouble{1.8, 4}
	}
	return trouble{1.3, 1}
}

// bill makes the invoices of an agent, with what becomes of their first charges.
func (w *agentWorld) bill(r *rand.Rand, a *agent) {
	day, clock := 1+r.IntN(31), time.Duration(r.IntN(6*3600))*time.Second
	if r.Float64() < 0.3 { // the hour at which they signed up
		clock = time.Duration(r.IntN(24*3600)) * time.Second
	}
	joins := Start
	if r.Float64() < 0.3 {
		joins = Start.AddDate(0, 0, r.IntN(300))
	}
	for month := Start; month.Before(End); month = month.AddDate(0, 1, 0) {
		last := month.AddDate(0, 1, -1).Day()
		at := month.AddDate(0, 0, min(day, last)-1).Add(clock)
		if at.Before(joins) {
			continue
		}
		if hourOf(at) > a.gone+60*24 {
			return
		}
		d := debt{invoice: Invoice{Payer: a.payer, At: at}, agent: a}
		success, die, willing := r.Float64(), r.Float64(), r.Float64()
		if success >= d.parts(at, 0).chance() {
			d.invoice.Failed = true
			d.invoice.Class, d.invoice.Code = d.failure(at, 0, die)
			d.followUp(r, willing)
		}
		w.debts = append(w.debts, d)
	}
}

// followUp draws what people do about a failure.
func (d *debt) followUp(r *rand.Rand, willing float64) {
	a, from := d.agent, hourOf(d.invoice.At)
	wait, lag := 24*between(r, 1, 12), r.ExpFloat64()
	if a.closed > 0 && r.Float64() < 0.5 {
		hour := from + 4 + int(lag*40)
		for hour < hours && !a.country.working(epoch.Add(time.Duration(hour)*time.Hour), a.zone) {
			hour++
		}
		d.settled = hour
		wait = float64(hour - from)
	} else if a.money != nil {
		refill, ok := a.money.refilled(from)
		if !ok {
			return
		}
		wait = float64(refill-from) + 2 + 20*lag
	}
	at := d.invoice.At.Add(time.Duration(wait * float64(time.Hour)))
	for hour := at.In(a.zone).Hour(); hour < 8 || hour > 21; hour = at.In(a.zone).Hour() {
		at = at.Add(time.Hour)
	}
	if willing < a.alone && hourOf(at) < a.gone && at.Sub(d.invoice.At) < 35*24*time.Hour {
		d.alone = at.Truncate(time.Minute)
	}
}

// parts are the chances of all that must be well for a charge to succeed.
type parts struct{ there, up, open, money, base float64 }

func (p parts) chance() float64 {
	return min(max(p.there*p.up*p.open*p.money*p.base, 0.002), 0.98)
}

// parts are the truth about a charge at a moment, after n others.
func (d *debt) parts(at time.Time, n int) parts {
	a, hour := d.agent, hourOf(at)
	p := parts{1, 1, 1, 1, a.base}
	if a.money == nil {
		return p
	}
	if hour >= a.gone {
		p.there = 0.015
	} else if hour >= a.frozen[0] && hour < a.frozen[1] {
		p.there = 0.03
	}
	p.up = float64(a.bank.up[hour])
	if a.closed > 0 && !a.country.working(at, a.zone) {
		p.open = a.closed
	}
	if a.bank.blocks(n, at.Sub(d.invoice.At).Hours()/24) {
		p.open *= 0.05
	}
	left := max(a.money.at(hour), 1e-6)
	p.money = a.grace + (1-a.grace)*0.5*math.Erfc(math.Log(a.need/left)/(a.doubt*math.Sqrt2))
	if d.settled > 0 && hour >= d.settled {
		p.money = max(p.money, 0.9)
	}
	for range min(n-1, 20) {
		p.base *= a.fade
	}
	return p
}

// failure draws what was not well, and how the issuer words it: not all say that money lacks.
func (d *debt) failure(at time.Time, n int, die float64) (class, code string) {
	p := d.parts(at, n)
	refused := []float64{
		1 - p.up,
		p.up * (1 - p.there),
		p.up * p.there * (1 - p.open),
		p.up * p.there * p.open * (1 - p.money),
		p.up * p.there * p.open * p.money * (1 - p.base),
	}
	if d.agent.money == nil { // their one chance stands for all causes
		refused = []float64{0.1, 0.1, 0, 0.5, 0.3}
	}
	total := 0.0
	for _, part := range refused {
		total += part
	}
	die *= total
	cause := 0
	for cause < len(refused)-1 && die >= refused[cause] {
		die -= refused[cause]
		cause++
	}
	words := wordings[cause]
	if cause == 2 && d.agent.closed > 0 {
		words = wordings[4]
	}
	share := 0.0
	if refused[cause] > 0 {
		share = min(max(die/refused[cause], 0), 0.999999)
	}
	said := words[int(share*float64(len(words)))]
	read, code := decline.Classify("", "", said, "", d.agent.payer.Brand)
	return string(read), code
}

// wordings are the decline codes for each cause, in the order of what is refused; "" for none.
var wordings = [][]string{
	{"issuer_not_available", "issuer_not_available", "issuer_not_available", "processing_error",
		"processing_error", "try_again_later", "try_again_later", "do_not_honor", ""},
	{"do_not_honor", "do_not_honor", "generic_decline", "generic_decline", "no_action_taken", ""},
	{"card_velocity_exceeded", "card_velocity_exceeded", "withdrawal_count_limit_exceeded",
		"do_not_honor", "generic_decline"},
	{"insufficient_funds", "insufficient_funds", "insufficient_funds", "insufficient_funds",
		"insufficient_funds", "insufficient_funds", "insufficient_funds", "insufficient_funds",
		"insufficient_funds", "insufficient_funds", "insufficient_funds", "do_not_honor",
		"do_not_honor", "generic_decline", ""},
	{"generic_decline", "generic_decline", "generic_decline", "do_not_honor", "do_not_honor",
		"do_not_honor", "no_action_taken", "processing_error", "try_again_later", ""},
}

func (w *agentWorld) Name() string { return w.name }

func (w *agentWorld) Invoices() []Invoice { return w.invoices }

func (w *agentWorld) Chance(i int, at time.Time, n int) float64 {
	return w.debts[i].parts(at, n).chance()
}

func (w *agentWorld) Failure(i int, at time.Time, die float64) (class, code string) {
	return w.debts[i].failure(at, 1, die)
}

func (w *agentWorld) PaysAlone(i int) time.Time { return w.debts[i].alone }

// Retries follow the merchant's habit: days 1, 3, 5 and 7, scattered moments as of Stripe's Smart
// Retries, each day at an hour of the merchant's, or each week.
func (w *agentWorld) Retries(i int) []time.Time {
	d := &w.debts[i]
	r := rand.New(rand.NewPCG(w.seed, uint64(i)<<8|0x5e))
	var after []time.Duration
	switch first := d.invoice.At; d.agent.shop.habit {
	case 0:
		after = []time.Duration{24 * time.Hour, 72 * time.Hour, 120 * time.Hour, 168 * time.Hour}
	case 1:
		for range 4 + r.IntN(5) {
			after = append(after, time.Duration(between(r, 6, 335)*float64(time.Hour)))
		}
		slices.Sort(after)
	case 2:
		at := first.Truncate(24 * time.Hour).Add(time.Duration(24+d.agent.shop.hour) * time.Hour)
		for ; at.Sub(first) < Window; at = at.Add(24 * time.Hour) {
			after = append(after, at.Sub(first))
		}
	default:
		after = []time.Duration{7 * 24 * time.Hour, Window - time.Hour}
	}
	list := make([]time.Time, len(after))
	for j, wait := range after {
		list[j] = d.invoice.At.Add(wait).Truncate(time.Second)
	}
	return list
}
