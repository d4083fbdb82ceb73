package oracle

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db/dbtest"
	"phantom/decline"
	"phantom/oracle/model"
)

// asking is a service that knows what it is given.
func asking(k known) *Service {
	s := New(nil)
	k.read = time.Now()
	s.latest[false], s.latest[true] = k, k
	return s
}

func askedAt() time.Time { return time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC) }

// due is a question about a customer's invoice.
func due(customer int) Question {
	now := askedAt()
	person, seed := sha256.Sum256(fmt.Appendf(nil, "person %d", customer)), sha256.Sum256(fmt.Appendf(nil, "seed %d", customer))
	return Question{
		Merchant: uuid.Nil, Invoice: "in_1", Amount: 1900, Currency: "usd", Country: "US", Zone: time.UTC,
		Class: decline.Timed, Code: "insufficient_funds", LastFailed: now.Add(-time.Hour), Tried: []Tried{{now.Add(-time.Hour), decline.Timed, "insufficient_funds"}},
		Attempt: 1, Left: 4, Now: now, NotBefore: now.Add(23 * time.Hour), NotAfter: now.AddDate(0, 0, 14), Seed: seed[:], Explore: true, Person: person[:],
	}
}

func at(state State, built time.Time) known {
	return known{model: model.New(), Knowledge: Knowledge{Version: 7, BuiltAt: &built}, Standing: Standing{State: state}}
}

func ask(t *testing.T, s *Service, q Question) Moment {
	t.Helper()
	m, err := s.Next(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// In shadow the fixed rules' moment is played, and what the oracle thinks of it, and would have
// chosen, stands beside it. On, it chooses for nine customers in ten, always the same ones.
func TestWhoChooses(t *testing.T) {
	t.Parallel()
	fresh := askedAt().Add(-time.Hour)
	shadow, on := asking(at(Shadow, fresh)), asking(at(On, fresh))
	counted := make(map[string]int)
	on.Asked = func(by string) { counted[by]++ }
	others := 0
	const customers = 400
	for customer := range customers {
		q := due(customer)
		plain, err := Heuristic{}.Next(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		s := ask(t, shadow, q)
		if !s.At.Equal(plain.At) || s.Reason != plain.Reason || s.Probability != plain.Probability {
			t.Fatalf("in shadow %+v is played, not %+v", s, plain)
		}
		a := s.Advice
		if a == nil || a.Arm != "" || a.Model != 7 || !(a.P > 0 && a.P < 1) || !(a.Low <= a.P && a.P <= a.High) || a.Chosen.IsZero() || !a.Heuristic.Equal(plain.At) {
			t.Fatalf("beside it: %+v", a)
		}
		m := ask(t, on, q)
		if again := ask(t, on, q); again.At != m.At || *again.Advice != *m.Advice {
			t.Fatalf("the same question is answered %+v and %+v", m, again)
		}
		switch {
		case m.Advice.Arm == ArmHeuristic && !m.At.Equal(plain.At), m.Advice.Arm == ArmOracle && !m.At.Equal(m.Advice.Chosen):
			t.Fatalf("in arm %s %s is played of %+v", m.Advice.Arm, m.At, m.Advice)
		case m.Advice.Arm == ArmOracle && m.Probability != m.Advice.Propensity:
			t.Fatalf("propensity %v is %v", m.Advice.Propensity, m.Probability)
		}
		if m.Advice.Arm == ArmHeuristic {
			others++
		}
		later := q
		later.Seed, later.Attempt, later.Now = []byte("another one"), 2, q.Now.AddDate(0, 0, 2)
		later.NotBefore = later.Now.Add(24 * time.Hour)
		if ask(t, on, later).Advice.Arm != m.Advice.Arm {
			t.Fatal("a customer changes arms within a hunt")
		}
		if m.At.Before(q.NotBefore) || m.At.After(q.NotAfter) {
			t.Fatalf("%s is outside the window", m.At)
		}
	}
	if share := float64(others) / customers; share < .06 || share > .15 {
		t.Errorf("%v of customers are in the heuristic's arm", share)
	}
	if counted[ArmHeuristic] != 3*others || counted[ArmOracle] != 3*(customers-others) {
		t.Errorf("counted %v", counted)
	}
}

// What cannot be trusted does not choose, in any state.
func TestFixedRulesChooseWhereTheOracleCannot(t *testing.T) {
	t.Parallel()
	fresh, old := askedAt().Add(-time.Hour), askedAt().Add(-7*24*time.Hour-time.Minute)
	none := at(On, fresh)
	none.Knowledge = Knowledge{Spoilt: true}
	empty := at(On, fresh)
	empty.model = nil
	broken := at(On, fresh)
	broken.model = new(model.Model)
	if err := broken.model.UnmarshalBinary([]byte(`{"Format":1,"Coefficients":[],"Paydays":[]}`)); err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]known{"fallback": at(Fallback, fresh), "an old model": at(On, old), "none that can be read": none, "nothing was read": empty} {
		for customer := range 30 {
			q := due(customer)
			plain, _ := Heuristic{}.Next(t.Context(), q)
			if m := ask(t, asking(k), q); !m.At.Equal(plain.At) || m.Advice != nil && m.Advice.Arm != "" {
				t.Errorf("%s: %+v is played, not %+v", name, m, plain)
			}
		}
	}
	for name, f := range map[string]func() Moment{
		"panics":       func() Moment { panic("a model that nobody has thought of") },
		"takes long":   func() Moment { time.Sleep(time.Second); return Moment{Advice: &Advice{}} },
		"is no number": func() Moment { return Moment{} },
	} {
		if _, err := within(20*time.Millisecond, f); !errors.Is(err, errAnswer) {
			t.Errorf("an oracle that %s answers: %v", name, err)
		}
	}
	if _, err := within(time.Minute, func() Moment { return Moment{Advice: &Advice{}} }); err != nil {
		t.Error(err)
	}
}

// A charge that is only thought of is not drawn, and costs nothing while nobody looks.
func TestThoughtsAreNotDrawn(t *testing.T) {
	t.Parallel()
	fresh := askedAt().Add(-time.Hour)
	on, shadow := asking(at(On, fresh)), asking(at(Shadow, fresh))
	drawn := 0
	for customer := range 300 {
		q := due(customer)
		q.Explore = false
		if m := ask(t, on, q); m.Probability != 1 && m.Advice.Arm == ArmOracle {
			t.Fatalf("a thought has the propensity %v", m.Probability)
		}
		if m := ask(t, shadow, q); m.Advice != nil {
			t.Fatal("in shadow the oracle was asked for a dry run")
		}
		q.Explore = true
		if m := ask(t, on, q); m.Advice.Arm == ArmOracle && m.Probability < .5 {
			drawn++
		}
	}
	if drawn == 0 || drawn > 300/5 {
		t.Errorf("%d of 300 moments were drawn", drawn)
	}
}

// A customer who has always paid on one day is remembered from what is sealed.
func TestMemoryChangesTheAnswer(t *testing.T) {
	t.Parallel()
	var seen []Seen
	for month := time.June; month < time.June+11; month++ { // 2025 to 2026
		day := func(d int) time.Time { return time.Date(2025, month, d, 10, 0, 0, 0, time.UTC) }
		invoice := fmt.Sprint("in_", month)
		for _, d := range []int{4, 9} {
			seen = append(seen, Seen{At: day(d), Invoice: invoice, Class: decline.Timed, Code: "insufficient_funds", Brand: "visa", Funding: "debit"})
		}
		seen = append(seen, Seen{At: day(13), Invoice: invoice, Brand: "visa", Funding: "debit"})
	}
	memory := Remember(seen, askedAt())
	if memory.Brand != "visa" || memory.Funding != "debit" || len(memory.Charges) != 33 {
		t.Fatalf("%+v", memory)
	}
	q := due(1)
	q.Country = "ZZ"
	q.Memory = memory
	s := asking(at(On, askedAt().Add(-time.Hour)))
	outlook := s.latest[false].model.Choices(q.model(), 4)
	if len(outlook) != 4 || outlook[0].At.Day() < 13 || outlook[0].At.Day() > 14 {
		t.Errorf("who pays on the 13th is charged on %v", outlook)
	}
	if sum := math.Abs(outlook[0].P - outlook[1].P); math.IsNaN(sum) || outlook[0].Reason == "" {
		t.Errorf("%+v", outlook)
	}
}

// Of what a memory holds, the old and the many go, and an invoice's own failures are known once.
func TestMemory(t *testing.T) {
	t.Parallel()
	now := askedAt()
	var seen []Seen
	for i := range 60 {
		seen = append(seen, Seen{At: now.AddDate(0, 0, -60+i), Invoice: fmt.Sprint("in_", i/2), Class: [...]decline.Class{decline.Low, ""}[i%2], Code: "x"})
	}
	m := Remember(append([]Seen{{At: now.AddDate(-1, -2, 0), Invoice: "in_0"}}, seen...), now)
	if len(m.Charges) != mostRemembered || m.Charges[39].At != now.AddDate(0, 0, -1).Unix() || !m.Charges[39].Late || m.Charges[39].Code != "" {
		t.Errorf("%+v", m)
	}
	if old := Remember([]Seen{{At: now.AddDate(0, -memoryMonths, -1), Invoice: "in_1"}}, now); len(old.Charges) != 0 {
		t.Errorf("%+v", old)
	}
	hard := []Seen{{now, "in_1", decline.Never, "stolen_card", "", ""}, {now, "in_1", "", "", "", ""}, {now, "in_2", "", "", "", ""}}
	if m := Remember(hard, now); len(m.Charges) != 1 || m.Charges[0].Invoice != "" || m.Charges[0].Late {
		t.Errorf("after a hard decline: %+v", m)
	}
	tried := m.Failures("in_29")
	if len(tried) != 1 || tried[0].Class != decline.Low {
		t.Fatalf("%+v", tried)
	}
	if again := AddFailure(tried, Tried{tried[0].At.Add(time.Minute), decline.Low, "x"}); len(again) != 1 {
		t.Errorf("the same failure counts twice: %+v", again)
	}
	if two := AddFailure(tried, Tried{tried[0].At.Add(-time.Hour), decline.Low, "x"}); len(two) != 2 || two[1] != tried[0] {
		t.Errorf("%+v", two)
	}
	if kept := m.text(); len(kept) > 4096 {
		t.Errorf("a memory takes %d bytes", len(kept))
	}
}

// What is read anew answers the next question, and what cannot be read leaves what was known.
func TestRefresh(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	s := New(pool)
	if m := ask(t, s, due(1)); m.Advice == nil || m.Advice.Model != 0 {
		t.Fatalf("the first question: %+v", m)
	}
	dbtest.Exec(t, pool, `INSERT INTO oracle_states (livemode, state, since, why, looks, fortnights, compared_at, falls, checked_at, charges, log_loss, base_log_loss, calibration_error)
		VALUES (false, 'on', now(), 'x', 0, 0, now(), 0, now(), 0, 0, 0, 0)`)
	dbtest.Exec(t, pool, `INSERT INTO oracle_model (livemode, merchants, attempts, coefficients, built_at) VALUES (false, 9, 9, '{"Format":1}', '2026-05-04')`)
	if err := s.refresh(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if m := ask(t, s, due(1)); m.Advice == nil || m.Advice.Arm == "" || m.Advice.Model == 0 {
		t.Fatalf("after it went on: %+v", m)
	}
	pool.Close()
	if err := s.refresh(t.Context(), false); err == nil {
		t.Fatal("a closed pool is read")
	}
	if m := ask(t, s, due(1)); m.Advice == nil || m.Advice.Arm == "" {
		t.Fatalf("without a database: %+v", m)
	}
}

// What is known is read anew once it is as old as it may be, while what was known answers.
func TestKnownFor(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	long, short := New(pool), New(pool)
	short.KnownFor = time.Nanosecond
	for _, s := range []*Service{long, short} {
		ask(t, s, due(1))
	}
	dbtest.Exec(t, pool, `INSERT INTO oracle_model (livemode, merchants, attempts, coefficients, built_at) VALUES (false, 9, 9, '{"Format":1}', '2026-05-04')`)
	for began := time.Now(); ask(t, short, due(1)).Advice.Model == 0; time.Sleep(time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatal("the new model is never read")
		}
	}
	if m := ask(t, long, due(1)); m.Advice.Model != 0 && time.Since(long.latest[false].read) < knownFor {
		t.Error("what is known is read with each question")
	}
}

// An invoice that the oracle would give up is charged when the fixed rules say: else it would be
// missing from the oracle's arm.
func TestNoInvoiceIsGivenUp(t *testing.T) {
	t.Parallel()
	k := at(On, askedAt().Add(-time.Hour))
	k.model = new(model.Model)
	hopeless := `{"Format":1,"Coefficients":[{"Block":"attempt","Class":0,"Mean":[-6,-6,-6,-6,-6],"Variance":[0.1,0.1,0.1,0.1,0.1]}],"Paydays":[]}`
	if err := k.model.UnmarshalBinary([]byte(hopeless)); err != nil || !k.model.Sound() {
		t.Fatal(err)
	}
	s, given := asking(k), 0
	for customer := range 100 {
		q := due(customer)
		plain, _ := Heuristic{}.Next(t.Context(), q)
		m := ask(t, s, q)
		if !m.Advice.Chosen.IsZero() {
			continue
		}
		if given++; !m.At.Equal(plain.At) || m.Probability != plain.Probability || m.Advice.Arm == "" || m.Advice.P >= .01 {
			t.Fatalf("%+v is played, not %+v", m, plain)
		}
	}
	if given < 50 {
		t.Errorf("%d of 100 would be given up", given)
	}
	k.model = new(model.Model)
	if err := k.model.UnmarshalBinary([]byte(strings.ReplaceAll(hopeless, "-6,", "-6.5,"))); err != nil || k.model.Sound() {
		t.Errorf("a coefficient of -6.5 is sound: %v", err)
	}
}

// A transaction that holds the last connection asks all the same, and is answered.
func TestAQuestionNeedsNoConnection(t *testing.T) {
	t.Parallel()
	config := dbtest.Pool(t).Config().Copy()
	config.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	held, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := New(pool)
	q := due(1)
	plain, _ := Heuristic{}.Next(t.Context(), q)
	for range 3 { // the first waits for a second, and the others for nothing
		if m := ask(t, s, q); !m.At.Equal(plain.At) || m.Advice != nil {
			t.Errorf("%+v", m)
		}
	}
	held.Release()
	for began := time.Now(); ask(t, s, q).Advice == nil; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatal("it is never read")
		}
	}
}
