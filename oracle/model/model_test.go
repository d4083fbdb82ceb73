package model_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"phantom/oracle/model"
	"phantom/oracle/worlds"
)

var now = time.Date(2026, 6, 10, 0, 0, 0, 0, time.UTC)

// someone is a debt of a merchant of whom nothing else is known.
func someone(merchant string) model.Question {
	q := model.Question{
		Debt:      model.Debt{Merchant: merchant, Category: "media", Country: "US", Zone: time.UTC, Brand: "visa", Funding: "debit", Amount: 1900, Decimals: 2},
		Tried:     []model.Tried{{At: now.Add(-24 * time.Hour), Class: model.Timed, Code: "insufficient_funds"}},
		NotBefore: now, NotAfter: now.AddDate(0, 0, 13), Left: 4,
	}
	q.Memory = model.NewCustomer().MemoryFor("", time.UTC, q.Tried)
	return q
}

// shop tells of a merchant's failed invoices: charged again at an hour that draw chooses, paid with
// the chance of that hour.
func shop(l *model.Ledger, merchant string, invoices int, chance func(hour int) float64) {
	r := rand.New(rand.NewPCG(uint64(len(merchant)), uint64(merchant[len(merchant)-1])))
	for i := range invoices {
		c := model.Charge{Debt: someone(merchant).Debt, Customer: fmt.Sprint(i), Invoice: fmt.Sprint(i), Attempt: 1, Class: model.Timed, Code: "insufficient_funds"}
		c.At = now.AddDate(0, 0, -30+i%20)
		l.Tell(c)
		c.Attempt, c.At = 2, c.At.AddDate(0, 0, 3).Add(time.Duration(r.IntN(24))*time.Hour)
		c.OK = r.Float64() < chance(c.At.Hour())
		l.Tell(c)
	}
}

// evening is when all is paid.
func evening(hour int) float64 {
	if hour >= 18 && hour < 22 {
		return .9
	}
	return .05
}

func morning(hour int) float64 { return evening((hour + 12) % 24) }

func shops(n, invoices int, chance func(int) float64) *model.Ledger {
	l := model.NewLedger()
	for i := range n {
		shop(l, fmt.Sprintf("acct_%02d", i), invoices, chance)
	}
	l.Rebuild(now)
	return l
}

// bytes is a model as it is stored.
func bytes(t *testing.T, m *model.Model) string {
	t.Helper()
	text, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What five merchants gave moves nothing for a sixth; what twelve gave does.
func TestRuleOfFive(t *testing.T) {
	t.Parallel()
	q := someone("acct_else")
	cold := model.New().Plan(q, .5, false)
	if few := shops(model.Enough-1, 60, evening).Model().Plan(q, .5, false); few != cold {
		t.Errorf("%d merchants show: %+v, want %+v", model.Enough-1, few, cold)
	}
	twelve := shops(12, 60, evening).Model().Plan(q, .5, false)
	if hour := twelve.At.Hour(); hour < 18 || hour > 21 || twelve.P < cold.P {
		t.Errorf("twelve merchants teach nothing: %+v", twelve)
	}
	// their own knowledge is theirs
	if own := shops(model.Enough-1, 200, evening).Model().Plan(someone("acct_01"), .5, false); own.At.Hour() < 17 || own.At.Hour() > 22 {
		t.Errorf("a merchant's own evenings count for nothing: %+v", own)
	}
}

// Nor do four who tell as well move somebody who has told something: they are five then, of whom
// one could tell the others apart.
func TestFourMoveNobodyWhoHasTold(t *testing.T) {
	t.Parallel()
	alone, among := model.NewLedger(), model.NewLedger()
	for _, l := range []*model.Ledger{alone, among} {
		shop(l, "acct_asks", 60, morning)
	}
	for i := range 4 {
		shop(among, fmt.Sprintf("acct_%02d", i), 400, evening)
	}
	alone.Rebuild(now)
	among.Rebuild(now)
	if a, b := alone.Model().Plan(someone("acct_asks"), .5, false), among.Model().Plan(someone("acct_asks"), .5, false); a != b {
		t.Errorf("four others show: %+v, want %+v", b, a)
	}
}

// Of what five merchants gave not even a name is stored.
func TestNoNamesOfFew(t *testing.T) {
	t.Parallel()
	if four := bytes(t, shops(model.Enough-1, 60, evening).Model()); strings.Contains(four, "insufficient_funds") || strings.Contains(four, "media") {
		t.Error("a model of four merchants names what they saw")
	}
	if twelve := bytes(t, shops(12, 60, evening).Model()); !strings.Contains(twelve, "insufficient_funds") {
		t.Error("a model of twelve merchants names nothing")
	}
}

// Nor do the paydays of five merchants' customers show; those of twelve do.
func TestRuleOfFivePaydays(t *testing.T) {
	t.Parallel()
	customers := func(merchants int) (all []model.Paid) {
		for m := range merchants {
			p := model.Paid{Merchant: fmt.Sprint("acct_", m), Country: "ZZ"}
			for range 30 {
				var memory []model.Past
				for month := time.January; month < time.June; month++ {
					for _, day := range []int{5, 12, 18} {
						memory = append(memory, model.Past{At: time.Date(2026, month, day, 10, 0, 0, 0, time.UTC), OK: day == 18, Weight: 1})
					}
				}
				p.Add(memory)
			}
			all = append(all, p)
		}
		return all
	}
	q := someone("acct_else")
	q.Country, q.Left = "ZZ", 1
	if four, cold := model.Learn(nil, customers(model.Enough-1)).Plan(q, .5, false), model.New().Plan(q, .5, false); four != cold {
		t.Errorf("four merchants show: %+v, want %+v", four, cold)
	}
	if twelve := model.Learn(nil, customers(12)).Plan(q, .5, false); twelve.At.Day() < 18 || twelve.At.Day() > 19 {
		t.Errorf("twelve merchants teach nothing: %+v", twelve)
	}
}

// Of a merchant who is forgotten the next night's model has no trace.
func TestForgettingLeavesNoTrace(t *testing.T) {
	t.Parallel()
	never := model.NewLedger()
	gone := model.NewLedger()
	all := worlds.History(worlds.Agents(3, worlds.Size{Merchants: 12, Customers: 8})[0])
	for _, c := range all {
		gone.Tell(c)
		if c.Merchant != all[0].Merchant {
			never.Tell(c)
		}
	}
	gone.Rebuild(worlds.Play)
	never.Rebuild(worlds.Play)
	if bytes(t, gone.Model()) == bytes(t, never.Model()) {
		t.Error("the merchant has told nothing")
	}
	gone.Forget(all[0].Merchant)
	gone.Rebuild(worlds.Play)
	if bytes(t, gone.Model()) != bytes(t, never.Model()) {
		t.Error("the model is not as if they had never been there")
	}
}

// The same charges make the same model in any order of merchants, and questions change nothing.
func TestDeterminism(t *testing.T) {
	t.Parallel()
	all := worlds.History(worlds.Formulas(4, worlds.Size{Merchants: 8, Customers: 8})[0])
	one, other := model.NewLedger(), model.NewLedger()
	for i, c := range all {
		one.Tell(c)
		if i%10 == 0 {
			q := someone(c.Merchant)
			q.Memory = one.MemoryOf(c.Merchant, c.Customer, "in_other", q.Zone, q.Tried)
			one.Model().Plan(q, .01, true)
			one.Model().Chance(q, now)
		}
	}
	slices.SortStableFunc(all, func(a, b model.Charge) int { return strings.Compare(b.Merchant, a.Merchant) })
	for _, c := range all {
		other.Tell(c)
	}
	one.Rebuild(worlds.Play)
	other.Rebuild(worlds.Play)
	if bytes(t, one.Model()) != bytes(t, other.Model()) {
		t.Error("another order makes another model")
	}
	q := someone(all[0].Merchant)
	if a, b := one.Model().Plan(q, .3, true), one.Model().Plan(q, .3, true); a != b {
		t.Errorf("%+v, then %+v", a, b)
	}
}

// One merchant who tells a hundred times as much as any other, and the opposite, does not rule.
func TestOneLoudMerchantDoesNotRule(t *testing.T) {
	t.Parallel()
	l := shops(12, 60, evening)
	shop(l, "acct_loud", 6000, morning)
	l.Rebuild(now)
	if got := l.Model().Plan(someone("acct_else"), .5, false); got.At.Hour() < 17 || got.At.Hour() > 22 {
		t.Errorf("the loud one rules: %+v", got)
	}
}

// A moment's propensity is how often it is drawn.
func TestPropensity(t *testing.T) {
	t.Parallel()
	m := model.New() // for which many moments are alike
	q := someone("acct_else")
	q.NotAfter = q.NotBefore.AddDate(0, 0, 2)
	const draws = 10_000
	drawn, claimed := map[time.Time]float64{}, map[time.Time]float64{}
	for i := range draws {
		a := m.Plan(q, (float64(i)+.5)/draws, true)
		drawn[a.At]++
		if before, known := claimed[a.At]; known && before != a.Propensity {
			t.Fatalf("%s has propensities %v and %v", a.At, before, a.Propensity)
		}
		claimed[a.At] = a.Propensity
	}
	if len(drawn) < 10 {
		t.Errorf("only %d moments are ever drawn", len(drawn))
	}
	sum := 0.0
	for at, n := range drawn {
		sum += claimed[at]
		if share := n / draws; math.Abs(share-claimed[at]) > 1.5/draws {
			t.Errorf("%s: drawn with %.5f, and says %.5f", at, share, claimed[at])
		}
	}
	if sum > 1+1e-9 || sum < .99 {
		t.Errorf("the propensities sum to %v", sum)
	}
	if best := m.Plan(q, .001, false); best.Propensity != 1 {
		t.Errorf("without exploration: %+v", best)
	}
}

// The answer lies within its bounds, to odd questions too.
func TestOddQuestions(t *testing.T) {
	t.Parallel()
	m := shops(6, 40, evening).Model()
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 3000 {
		q := someone("acct_01")
		q.Amount = []int64{0, -5, 1, 1900, math.MaxInt64, math.MinInt64}[r.IntN(6)]
		q.Country = []string{"", "US", "XX", "SA", "BR"}[r.IntN(5)]
		q.Zone = []*time.Location{time.UTC, time.FixedZone("far", 14*3600), time.FixedZone("half", -12600)}[r.IntN(3)]
		q.Left = r.IntN(12) - 1
		q.NotBefore = now.Add(time.Duration(r.IntN(1_000_000)) * time.Second)
		q.NotAfter = q.NotBefore.Add(time.Duration(r.IntN(40*24*3600)-1000) * time.Second)
		if i%50 == 0 {
			q.NotBefore = time.Date([]int{1, 1969, 2500, 9999}[r.IntN(4)], 12, 31, 23, 0, 0, 0, time.UTC)
			q.NotAfter = q.NotBefore.AddDate(0, 5, 0)
			q.Tried[0].At = q.NotBefore.AddDate(0, 0, -400)
			q.Memory = model.NewCustomer().MemoryFor("", q.Zone, q.Tried)
		}
		a := m.Plan(q, r.Float64(), true)
		if !a.At.IsZero() && (a.At.Before(q.NotBefore) || a.At.After(q.NotAfter)) {
			t.Fatalf("%+v lies outside of %s to %s", a, q.NotBefore, q.NotAfter)
		}
		if a.At.IsZero() != (a.Reason == "") || !(a.P >= 0 && a.P <= 1) || !(a.Propensity > 0 && a.Propensity <= 1) || a.Low > a.High {
			t.Fatalf("%+v for %+v", a, q)
		}
		if q.Left < 1 && !a.At.IsZero() || q.NotAfter.Before(q.NotBefore) && !a.At.IsZero() {
			t.Fatalf("a moment where none is possible: %+v", a)
		}
		if c := m.Chance(q, q.NotBefore); !c.At.Equal(q.NotBefore) || !(c.P > 0 && c.P < 1) || c.Reason == "" {
			t.Fatalf("%+v", c)
		}
	}
}

// A longer window, or one more charge, never makes the plan worse.
func TestDominance(t *testing.T) {
	t.Parallel()
	m := shops(12, 60, evening).Model()
	for left := 1; left < 4; left++ {
		for days := 1; days < 13; days++ {
			q := someone("acct_else")
			q.Left, q.NotAfter = left, q.NotBefore.AddDate(0, 0, days)
			base := m.Value(q)
			q.Left++
			if more := m.Value(q); more < base-1e-9 {
				t.Errorf("%d charges in %d days: one more makes %.4f of %.4f", left, days, more, base)
			}
			q.Left, q.NotAfter = left, q.NotAfter.AddDate(0, 0, 1)
			if longer := m.Value(q); longer < base-1e-9 {
				t.Errorf("%d charges in %d days: a day more makes %.4f of %.4f", left, days, longer, base)
			}
		}
	}
}

// A model is the same after it was stored.
func TestStoring(t *testing.T) {
	t.Parallel()
	m := shops(12, 60, evening).Model()
	text := bytes(t, m)
	var back model.Model
	if err := back.UnmarshalBinary([]byte(text)); err != nil {
		t.Fatal(err)
	}
	q := someone("acct_03")
	if a, b := m.Plan(q, .02, true), back.Plan(q, .02, true); !reflect.DeepEqual(a, b) {
		t.Errorf("%+v, stored %+v", a, b)
	}
	for cut := range 60 {
		if err := new(model.Model).UnmarshalBinary([]byte(text[:len(text)*cut/60])); err == nil {
			t.Errorf("%d of %d bytes are read as a model", len(text)*cut/60, len(text))
		}
	}
}

// Customers who are regular are charged on their payday.
func TestPaydayOfOne(t *testing.T) {
	t.Parallel()
	q := someone("acct_1")
	q.Country, q.Left = "ZZ", 1
	day := func(month time.Month, d int, ok bool) model.Past {
		return model.Past{At: time.Date(2026, month, d, 10, 0, 0, 0, time.UTC), OK: ok, Weight: 1}
	}
	for month := time.January; month < time.June; month++ {
		q.Memory = append(q.Memory, day(month, 5, false), day(month, 9, false), day(month, 18, true))
	}
	q.Memory = append(q.Memory, model.NewCustomer().MemoryFor("", time.UTC, q.Tried)...)
	a := model.New().Plan(q, .5, false)
	if a.At.Day() < 18 || a.At.Day() > 19 {
		t.Errorf("the next charge of somebody who is paid on the 18th: %s", a.At)
	}
}

func BenchmarkPlan(b *testing.B) {
	all := worlds.History(worlds.Formulas(4, worlds.Size{Merchants: 20, Customers: 40})[0])
	l := model.NewLedger()
	for _, c := range all {
		l.Tell(c)
	}
	l.Rebuild(worlds.Play)
	last := all[len(all)-1]
	q := someone(last.Merchant)
	q.Memory = l.MemoryOf(last.Merchant, last.Customer, "in_else", q.Zone, q.Tried)
	for b.Loop() {
		l.Model().Plan(q, .5, true)
	}
}
