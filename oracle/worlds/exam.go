package worlds

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"phantom/decline"
	"phantom/oracle/model"
	"phantom/zone"
)

// Player is what is examined.
type Player interface {
	Tell(c model.Charge)
	// Ask chooses a moment. The zero time gives up.
	Ask(q model.Question, customer, invoice string, die float64, explore bool) (at time.Time, p float64)
	// Chance is the chance of a given moment.
	Chance(q model.Question, customer, invoice string, at time.Time) float64
	Rebuild(now time.Time)
}

// Score is how a player does in one world. Gaps are shares of what lies between the fixed schedule
// of days 1, 3, 5 and 7 and perfect knowledge of every customer, by true chances.
type Score struct {
	World               string
	Fixed, Spread, Best float64 // chance that a failed invoice is collected
	Cold, History, Play float64 // shares of the gap
	Skill               float64 // in play, of what lies between an even spread and perfection
	Explained           float64 // share of the log loss from one chance a class to the truth
	Calibration         float64 // ECE of random moments, after history
	Chosen              float64 // ECE of chosen moments in play
	Overclaim           float64 // of chosen moments in play: mean claim, less the truth
	Charges             float64 // for each recovery, beside the fixed schedule's
}

// String is the score in one line.
func (s Score) String() string {
	return fmt.Sprintf("%-22s fixed %.3f spread %.3f best %.3f | cold %5.1f history %5.1f play %5.1f skill %5.1f | explained %5.1f ece %.3f chosen %.3f over %+.3f charges %.2f",
		s.World, s.Fixed, s.Spread, s.Best, 100*s.Cold, 100*s.History, 100*s.Play, 100*s.Skill, 100*s.Explained, s.Calibration, s.Chosen, s.Overclaim, s.Charges)
}

const tries = 4 // charges that may be made after the first one

// exam is one world under examination.
type exam struct {
	world    World
	invoices []Invoice
	zones    map[string]*time.Location
}

// Examine plays a world: cold, after ten months of history, and for four months in which its own
// moments are played, with a rebuild each week. Of what is asked only every so manieth invoice is
// looked at, to bound the time.
func Examine(w World, player func() Player, every int) Score {
	e := newExam(w)
	var asked []int
	for i := range e.invoices {
		if in := &e.invoices[i]; in.Failed && in.At.After(Play) && in.At.Add(Window).Before(End) {
			asked = append(asked, i)
		}
	}
	var sample []int
	for i := 0; i < len(asked); i += every {
		sample = append(sample, asked[i])
	}
	s := Score{World: w.Name()}
	s.Fixed, s.Spread, s.Best = e.bounds(sample)
	gap := func(value float64) float64 { return (value - s.Fixed) / max(s.Best-s.Fixed, 1e-9) }
	cold := player()
	s.Cold = gap(e.apart(cold, sample).value)
	learned := player()
	for _, c := range e.history() {
		learned.Tell(c)
	}
	learned.Rebuild(Play)
	s.History = gap(e.apart(learned, sample).value)
	s.Explained, s.Calibration = e.loss(learned, sample)
	played := e.play(learned, asked, every)
	s.Play, s.Skill = gap(played.value), (played.value-s.Spread)/max(s.Best-s.Spread, 1e-9)
	s.Chosen, s.Overclaim = calibration(played.claims)
	s.Charges = played.charges / played.value / e.fixedCharges(sample)
	return s
}

func newExam(w World) *exam {
	return &exam{w, w.Invoices(), make(map[string]*time.Location)}
}

func (e *exam) zone(name string) *time.Location {
	if z, known := e.zones[name]; known {
		return z
	}
	e.zones[name] = zone.Named(name)
	return e.zones[name]
}

func (e *exam) debt(i int) model.Debt {
	p := e.invoices[i].Payer
	decimals := 2
	if p.Currency == "jpy" {
		decimals = 0
	}
	return model.Debt{
		Merchant: p.Merchant, Category: p.Category, Country: p.Country, Zone: e.zone(p.Zone), Brand: p.Brand, Funding: p.Funding,
		Amount: p.Amount, Decimals: decimals,
	}
}

func (e *exam) charge(i, attempt int, at time.Time) model.Charge {
	return model.Charge{Debt: e.debt(i), Customer: e.invoices[i].Payer.Customer, Invoice: e.invoices[i].ID, Attempt: attempt, At: at}
}

// value is the chance that an invoice is collected by charges at given moments.
func (e *exam) value(i int, at []time.Time) (value, charges float64) {
	open := 1.0
	for n, moment := range at {
		charges += open
		open *= 1 - e.world.Chance(i, moment, n+1)
	}
	return 1 - open, charges
}

func offsets(from time.Time, hours ...int) (at []time.Time) {
	for _, h := range hours {
		at = append(at, from.Add(time.Duration(h)*time.Hour))
	}
	return at
}

func fixedDays(from time.Time) []time.Time  { return offsets(from, 24, 72, 120, 168) }
func spreadDays(from time.Time) []time.Time { return offsets(from, 84, 168, 252, 335) }

// bounds are the mean values of the fixed schedule, an even spread, and perfect knowledge.
func (e *exam) bounds(list []int) (fixed, spread, best float64) {
	for _, i := range list {
		v, _ := e.value(i, fixedDays(e.invoices[i].At))
		fixed += v
		v, _ = e.value(i, spreadDays(e.invoices[i].At))
		spread += v
		best += e.best(i)
	}
	n := float64(len(list))
	return fixed / n, spread / n, best / n
}

func (e *exam) fixedCharges(list []int) float64 {
	value, charges := 0.0, 0.0
	for _, i := range list {
		v, c := e.value(i, fixedDays(e.invoices[i].At))
		value += v
		charges += c
	}
	return charges / value
}

// best is the chance by the best moments, a day apart at least.
func (e *exam) best(i int) float64 {
	const hours = int(Window / time.Hour)
	first := e.invoices[i].At
	var least [tries + 1][hours + 25]float64 // log of the chance that all fail, by charges left
	for left := 1; left <= tries; left++ {
		for h := hours; h >= 24; h-- {
			least[left][h] = least[left][h+1]
			p := e.world.Chance(i, first.Add(time.Duration(h)*time.Hour), tries-left+1)
			least[left][h] = min(least[left][h], math.Log1p(-min(p, .9999))+least[left-1][min(h+24, hours+1)])
		}
	}
	return 1 - math.Exp(least[tries][24])
}

func (e *exam) die(i, n int, what string) float64 {
	h := uint64(14695981039346656037)
	for _, c := range what + e.invoices[i].Payer.Merchant + e.invoices[i].ID {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return rand.New(rand.NewPCG(h, uint64(n))).Float64()
}

// History is what merchants charge in a world before the play begins, in order of time.
func History(w World) []model.Charge { return newExam(w).history() }

func (e *exam) history() []model.Charge {
	var all []model.Charge
	for i := range e.invoices {
		if e.invoices[i].At.Before(Play) {
			all = append(all, e.scheduled(i)...)
		}
	}
	slices.SortStableFunc(all, func(a, b model.Charge) int { return a.At.Compare(b.At) })
	for len(all) > 0 && !all[len(all)-1].At.Before(Play) {
		all = all[:len(all)-1]
	}
	return all
}

// scheduled are an invoice's charges as its merchant makes them.
func (e *exam) scheduled(i int) []model.Charge {
	in := &e.invoices[i]
	first := e.charge(i, 1, in.At)
	first.OK, first.Class, first.Code = !in.Failed, model.ClassOf(decline.Class(in.Class)), in.Code
	all := []model.Charge{first}
	if !in.Failed {
		return all
	}
	alone := e.world.PaysAlone(i)
	for n, at := range e.world.Retries(i) {
		if !alone.IsZero() && alone.Before(at) {
			break
		}
		c := e.charge(i, n+2, at)
		c.OK = e.die(i, n, "schedule") < e.world.Chance(i, at, n+1)
		e.explain(i, n, &c)
		all = append(all, c)
		if c.OK {
			return all
		}
	}
	if !alone.IsZero() {
		c := e.charge(i, len(all)+1, alone)
		c.OK, c.Alone = true, true
		all = append(all, c)
	}
	return all
}

// explain draws why a charge has failed.
func (e *exam) explain(i, n int, c *model.Charge) {
	if !c.OK {
		class, code := e.world.Failure(i, c.At, e.die(i, n, "failure"))
		c.Class, c.Code = model.ClassOf(decline.Class(class)), code
	}
}

// result is what a player has achieved, by true chances.
type result struct {
	n, value, charges float64
	claims            []claim
}

// claim is a chance that a player has claimed, with the truth, and how likely it was to be asked
// for.
type claim struct{ p, truth, weight float64 }

func (r result) mean() result {
	r.value /= r.n
	r.charges /= r.n
	return r
}

// question is what is asked about an invoice after some charges.
func (e *exam) question(i int, tried []model.Tried) model.Question {
	last := tried[len(tried)-1].At
	return model.Question{
		Debt: e.debt(i), Tried: tried, NotBefore: last.Add(24 * time.Hour), NotAfter: e.invoices[i].At.Add(Window), Left: tries + 1 - len(tried),
	}
}

// apart asks about invoices one by one, without a word about what becomes of them.
func (e *exam) apart(player Player, list []int) (r result) {
	for _, i := range list {
		e.follow(player, i, false, &r)
	}
	return r.mean()
}

// follow asks about an invoice as if each charge were to fail, and adds up what each would bring:
// so chance plays no part in the score.
func (e *exam) follow(player Player, i int, explore bool, r *result) {
	in := &e.invoices[i]
	tried := []model.Tried{{At: in.At, Class: model.ClassOf(decline.Class(in.Class)), Code: in.Code}}
	open := 1.0
	r.n++
	for n := 0; n < tries; n++ {
		at, p := player.Ask(e.question(i, tried), in.Payer.Customer, in.ID, e.die(i, len(tried), "follow"), explore)
		if at.IsZero() {
			break
		}
		truth := e.world.Chance(i, at, n+1)
		r.charges += open
		r.value += open * truth
		r.claims = append(r.claims, claim{p, truth, open})
		open *= 1 - truth
		c := e.charge(i, n+2, at)
		e.explain(i, n, &c)
		tried = append(tried, model.Tried{At: at, Class: c.Class, Code: c.Code})
	}
}

// play lets the player choose for four months, day by day, and tells what came of it.
func (e *exam) play(player Player, list []int, every int) (r result) {
	type open struct {
		i     int
		tried []model.Tried
		at    time.Time
		p     float64
	}
	var told []model.Charge
	for i := range e.invoices {
		switch in := &e.invoices[i]; {
		case in.At.Before(Play):
			for _, c := range e.scheduled(i) { // their rest
				if !c.At.Before(Play) {
					told = append(told, c)
				}
			}
		case !in.Failed:
			told = append(told, e.scheduled(i)...)
		}
	}
	slices.SortStableFunc(told, func(a, b model.Charge) int { return a.At.Compare(b.At) })
	var under []open
	next := 0
	ask := func(o open) {
		in := &e.invoices[o.i]
		o.at, o.p = player.Ask(e.question(o.i, o.tried), in.Payer.Customer, in.ID, e.die(o.i, len(o.tried), "explore"), true)
		if !o.at.IsZero() {
			under = append(under, o)
		}
	}
	for hour := Play; hour.Before(End); hour = hour.Add(time.Hour) {
		if hour.Sub(Play)%(7*24*time.Hour) == 0 {
			player.Rebuild(hour)
		}
		for len(told) > 0 && told[0].At.Before(hour.Add(time.Hour)) {
			player.Tell(told[0])
			told = told[1:]
		}
		due := under
		under = nil
		for _, o := range due {
			if !o.at.Before(hour.Add(time.Hour)) {
				under = append(under, o)
				continue
			}
			truth, n := e.world.Chance(o.i, o.at, len(o.tried)), len(o.tried)-1
			c := e.charge(o.i, n+2, o.at)
			c.Ours = true
			c.OK = e.die(o.i, n, "play") < truth
			e.explain(o.i, n, &c)
			player.Tell(c)
			if !c.OK && len(o.tried) < tries {
				o.tried = append(slices.Clone(o.tried), model.Tried{At: o.at, Class: c.Class, Code: c.Code})
				ask(o)
			}
		}
		for next < len(list) && e.invoices[list[next]].At.Before(hour.Add(time.Hour)) {
			i := list[next]
			in := &e.invoices[i]
			first := e.scheduled(i)[0]
			player.Tell(first)
			ask(open{i: i, tried: []model.Tried{{At: in.At, Class: first.Class, Code: first.Code}}})
			if next%every == 0 {
				e.follow(player, i, true, &r)
			}
			next++
		}
	}
	return r.mean()
}

// loss compares chances of random moments with the truth: the share of the log loss that is
// explained, and the expected calibration error.
func (e *exam) loss(player Player, list []int) (explained, ece float64) {
	var claims []claim
	var class []model.Class
	var mean, n [4]float64
	for _, i := range list {
		in := &e.invoices[i]
		c := model.ClassOf(decline.Class(in.Class))
		q := e.question(i, []model.Tried{{At: in.At, Class: c, Code: in.Code}})
		at := q.NotBefore.Add(time.Duration(e.die(i, 0, "moment") * float64(q.NotAfter.Sub(q.NotBefore))))
		truth := e.world.Chance(i, at, 1)
		claims, class = append(claims, claim{player.Chance(q, in.Payer.Customer, in.ID, at), truth, 1}), append(class, c)
		mean[c] += truth
		n[c]++
	}
	cross := func(p, truth float64) float64 {
		p = min(max(p, .001), .999)
		return -truth*math.Log(p) - (1-truth)*math.Log(1-p)
	}
	constant, ours, truth := 0.0, 0.0, 0.0
	for i, c := range claims {
		constant += cross(mean[class[i]]/n[class[i]], c.truth)
		ours += cross(c.p, c.truth)
		truth += cross(c.truth, c.truth)
	}
	ece, _ = calibration(claims)
	return (constant - ours) / (constant - truth), ece
}

// calibration is the expected calibration error over ten groups of like claims, and the mean claim
// less the mean truth.
func calibration(claims []claim) (ece, over float64) {
	slices.SortFunc(claims, func(a, b claim) int { return cmp.Compare(a.p, b.p) })
	const bins = 10
	all := 0.0
	for _, c := range claims {
		all += c.weight
	}
	for b := range bins {
		sum := 0.0
		for _, c := range claims[b*len(claims)/bins : (b+1)*len(claims)/bins] {
			sum += c.weight * (c.p - c.truth)
		}
		ece += math.Abs(sum) / all
		over += sum / all
	}
	return ece, over
}
