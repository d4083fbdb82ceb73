package oracle

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/internal/stage"
	"phantom/zone"
)

// stagedAttempt is a charge as an audit stages it. settles is when a pending one will have an
// outcome.
type stagedAttempt struct {
	sequence, outcome, class string
	at, settles              time.Time
	zone                     *time.Location // nil is UTC
}

func (a stagedAttempt) local() time.Time {
	if a.zone == nil {
		return a.at.UTC()
	}
	return a.at.In(a.zone)
}

// pooledCell names one row of counts: class, weekday, hour.
type pooledCell struct {
	category, class string
	day, hour       int
	livemode        bool
}

type pooledCounts struct{ attempts, successes, merchants int64 }

func utcTime(t testing.TB, text string) time.Time {
	t.Helper()
	parsed, err := time.Parse("2006-01-02 15:04:05", text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// bench is a database on which days are counted.
type bench struct {
	pool    *pgxpool.Pool
	queries *db.Queries
}

func newBench(pool *pgxpool.Pool) *bench {
	return &bench{pool, db.New(pool)}
}

// oracleMerchant connects an account, or connects it again. An empty category is one that Stripe
// has not named.
func oracleMerchant(t testing.TB, s *bench, account, category string, livemode bool) db.Merchant {
	t.Helper()
	id := stage.Merchant(t, s.pool, account, func(row *db.MerchantCreateParams) { row.Livemode = livemode })
	var known *string
	if category != "" {
		known = &category
	}
	if _, err := s.queries.MerchantUpdateFacts(t.Context(), db.MerchantUpdateFactsParams{ID: id, BusinessCategory: known}); err != nil {
		t.Fatal(err)
	}
	merchant, err := s.queries.MerchantGet(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return merchant
}

// stageCharges is what an audit of everything that ran at until saw of a history.
func stageCharges(t testing.TB, s *bench, merchant db.Merchant, history []stagedAttempt, until time.Time) (auditID uuid.UUID) {
	t.Helper()
	auditID = uuid.Must(uuid.NewV7())
	var rows [][]any
	for _, a := range history {
		if !a.at.Before(until) {
			continue
		}
		outcome, class := a.outcome, &a.class
		if until.Before(a.settles) {
			outcome = "pending"
		}
		if outcome != "failed" && outcome != "blocked" || a.class == "" {
			class = nil
		}
		local := a.local()
		rows = append(rows, []any{merchant.ID, auditID, a.sequence, a.at, outcome, false, class, int16(local.Weekday()), int16(local.Hour())})
	}
	_, err := s.pool.CopyFrom(t.Context(), pgx.Identifier{"audit_charges"},
		[]string{"merchant_id", "audit_id", "sequence", "created_at", "outcome", "refunded", "decline_class", "day_of_week", "hour_of_day"},
		pgx.CopyFromRows(rows))
	if err != nil {
		t.Fatal(err)
	}
	return auditID
}

// countDays counts and expects that many new days.
func countDays(t testing.TB, s *bench, merchant db.Merchant, auditID uuid.UUID, until time.Time, want int) {
	t.Helper()
	if days, err := Count(t.Context(), s.pool, merchant, auditID, until); err != nil || days != want {
		t.Fatalf("counted %d days, %v; want %d", days, err, want)
	}
}

// oracleTable reads what is pooled, and checks that it is the sum of what the merchants gave.
func oracleTable(t testing.TB, s *bench) map[pooledCell]pooledCounts {
	t.Helper()
	read := func(query string) map[pooledCell]pooledCounts {
		rows, err := s.pool.Query(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		table := map[pooledCell]pooledCounts{}
		var at pooledCell
		var n pooledCounts
		if _, err := pgx.ForEachRow(rows, []any{&at.category, &at.class, &at.day, &at.hour, &at.livemode, &n.attempts, &n.successes, &n.merchants},
			func() error { table[at] = n; return nil }); err != nil {
			t.Fatal(err)
		}
		return table
	}
	const key = "business_category, decline_class, day_of_week, hour_of_day, livemode"
	table := read("SELECT " + key + ", attempts, successes, merchants FROM liquidity_oracle WHERE action = 'charge'")
	given := read("SELECT " + key + ", sum(attempts), sum(successes), count(*) FROM oracle_contributions WHERE action = 'charge' GROUP BY " + key)
	if !maps.Equal(table, given) {
		t.Errorf("pooled %v, but given %v", table, given)
	}
	return table
}

func TestOracleCounts(t *testing.T) {
	t.Parallel()
	day := func(hour string) time.Time { return utcTime(t, "2026-03-02 "+hour) } // a Monday
	const until = "2026-03-04 12:00:00"
	type want map[string][2]int64 // class weekday hour → attempts, successes
	for _, test := range []struct {
		name    string
		charges []stagedAttempt
		until   string
		days    int
		want    want
	}{
		{name: "no charges", want: want{}},
		{name: "what came before", days: 1, charges: []stagedAttempt{
			{sequence: "in_1", at: day("09:00:00"), outcome: "failed", class: "timed"},
			{sequence: "in_1", at: day("12:00:00"), outcome: "failed", class: "low"},
			{sequence: "in_1", at: day("15:00:00"), outcome: "succeeded"},
			{sequence: "in_1", at: day("18:00:00"), outcome: "succeeded"}, // looks past the success
			{sequence: "in_2", at: day("09:59:59"), outcome: "succeeded"},
		}, want: want{"none 1 9": {2, 1}, "timed 1 12": {1, 0}, "low 1 15": {1, 1}, "low 1 18": {1, 1}}},
		{name: "before it on another day", days: 2, charges: []stagedAttempt{
			{sequence: "in_1", at: day("23:59:59"), outcome: "failed", class: "never"},
			{sequence: "in_1", at: utcTime(t, "2026-03-03 00:00:00"), outcome: "succeeded"},
		}, want: want{"none 1 23": {1, 0}, "never 2 0": {1, 1}}},
		{name: "more than nine before it", days: 1, charges: func() (all []stagedAttempt) {
			for i, class := range append(slices.Repeat([]string{"timed"}, 11), "soon", "") {
				a := stagedAttempt{sequence: "in_1", at: day("09:00:00").Add(time.Duration(i) * time.Minute), outcome: "failed", class: class}
				if class == "" {
					a.outcome = "succeeded"
				}
				all = append(all, a)
			}
			return all
		}(), want: want{"none 1 9": {1, 0}, "timed 1 9": {11, 0}, "soon 1 9": {1, 1}}},
		{name: "a failure without a class", days: 1, charges: []stagedAttempt{
			{sequence: "in_1", at: day("09:00:00"), outcome: "failed"},
			{sequence: "in_1", at: day("10:00:00"), outcome: "succeeded"},
		}, want: want{"none 1 9": {1, 0}, "unknown 1 10": {1, 1}}},
		{name: "blocked ones are no attempts", days: 1, charges: []stagedAttempt{
			{sequence: "in_1", at: day("09:00:00"), outcome: "failed", class: "timed"},
			{sequence: "in_1", at: day("10:00:00"), outcome: "blocked", class: "never"},
			{sequence: "in_1", at: day("11:00:00"), outcome: "succeeded"},
			{sequence: "in_2", at: day("10:00:00"), outcome: "blocked", class: "never"},
			{sequence: "in_2", at: utcTime(t, "2026-03-01 10:00:00"), outcome: "blocked", class: "never"},
		}, want: want{"none 1 9": {1, 0}, "timed 1 11": {1, 1}}},
		{name: "two of one second", days: 1, charges: []stagedAttempt{
			{sequence: "in_1", at: day("09:00:00"), outcome: "failed", class: "timed"},
			{sequence: "in_1", at: day("09:00:00"), outcome: "failed", class: "low"},
			{sequence: "in_1", at: day("10:00:00"), outcome: "succeeded"},
			{sequence: "in_1", at: day("10:00:00"), outcome: "failed", class: "never"},
		}, want: want{"none 1 9": {2, 0}, "timed 1 10": {2, 1}}},
		{name: "a debt without a name", days: 1, charges: []stagedAttempt{
			{at: day("09:00:00"), outcome: "failed", class: "timed"}, {at: day("10:00:00"), outcome: "succeeded"},
		}, want: want{"none 1 9": {1, 0}, "timed 1 10": {1, 1}}},
		{name: "a pending one makes its day wait", days: 1, charges: []stagedAttempt{
			{sequence: "in_1", at: day("09:00:00"), outcome: "failed", class: "timed"},
			{sequence: "in_2", at: day("10:00:00"), outcome: "succeeded", settles: utcTime(t, until).Add(time.Second)},
			{sequence: "in_1", at: utcTime(t, "2026-03-03 09:00:00"), outcome: "succeeded"},
		}, want: want{"timed 2 9": {1, 1}}},
		{name: "the day's last second", until: "2026-03-02 23:59:59", charges: []stagedAttempt{
			{sequence: "in_1", at: day("09:00:00"), outcome: "succeeded"},
		}, want: want{}},
		{name: "the day is over", until: "2026-03-03 00:00:00", days: 1, charges: []stagedAttempt{
			{sequence: "in_1", at: day("00:00:00"), outcome: "succeeded"},
		}, want: want{"none 1 0": {1, 1}}},
		{name: "the customer's hour, the day in UTC", days: 1, charges: []stagedAttempt{
			{sequence: "in_1", at: day("23:30:00"), outcome: "succeeded", zone: zone.OfCustomer("JP", "")},
			{sequence: "in_2", at: day("02:30:00"), outcome: "succeeded", zone: zone.OfCustomer("US", "")},
		}, want: want{"none 2 8": {1, 1}, "none 0 21": {1, 1}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newBench(dbtest.Pool(t))
			merchant := oracleMerchant(t, s, "acct_1", "media", true)
			end := utcTime(t, cmp.Or(test.until, until))
			auditID := stageCharges(t, s, merchant, test.charges, end)
			countDays(t, s, merchant, auditID, end, test.days)
			got := want{}
			for c, n := range oracleTable(t, s) {
				got[fmt.Sprintf("%s %d %d", c.class, c.day, c.hour)] = [2]int64{n.attempts, n.successes}
				if c.category != "media" || !c.livemode || n.merchants != 1 {
					t.Errorf("%+v: %+v", c, n)
				}
			}
			if !maps.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
			countDays(t, s, merchant, auditID, end, 0)
		})
	}
}

func TestOracleCountsADayOnce(t *testing.T) {
	t.Parallel()
	s := newBench(dbtest.Pool(t))
	history := randomHistory(1, 400)
	first, later := historyStart.AddDate(0, 0, 20), historyStart.AddDate(0, 0, 60)
	for _, livemode := range []bool{true, false} {
		merchant := oracleMerchant(t, s, "acct_1", "media", livemode)
		countDays(t, s, merchant, stageCharges(t, s, merchant, history, first), first, daysIn(history, first))
	}
	merchant := oracleMerchant(t, s, "acct_1", "media", true)
	before := oracleTable(t, s)
	for c, n := range before { // test mode and live mode saw the same, each for itself
		twin := c
		twin.livemode = !c.livemode
		if before[twin] != n {
			t.Fatalf("%+v: %+v, %+v: %+v", c, n, twin, before[twin])
		}
	}

	countDays(t, s, merchant, stageCharges(t, s, merchant, history, first), first, 0)
	// A disconnection and a purge leave nothing of the audit, and reconnecting finds the row again.
	for _, statement := range []string{
		"UPDATE merchants SET access_token = NULL, disconnected_at = clock_timestamp()", "DELETE FROM audit_charges", "DELETE FROM ghost_targets",
	} {
		if _, err := s.pool.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	merchant = oracleMerchant(t, s, "acct_1", "retail", true)
	countDays(t, s, merchant, stageCharges(t, s, merchant, history, first), first, 0)
	if after := oracleTable(t, s); !maps.Equal(before, after) {
		t.Errorf("counting again made %v of %v", after, before)
	}
	countDays(t, s, merchant, stageCharges(t, s, merchant, history, later), later, daysIn(history, later)-daysIn(history, first))
	total := int64(0)
	for c, n := range oracleTable(t, s) {
		if c.livemode {
			total += n.attempts
		}
	}
	settled := 0
	for _, a := range history {
		if a.outcome != "blocked" {
			settled++
		}
	}
	if total != int64(settled) {
		t.Errorf("%d attempts are counted of %d", total, settled)
	}
}

// Several processes count the same audits at once: every day is counted by one of them, and nobody
// fails.
func TestOracleCountsADayOnceInParallel(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	s := newBench(dbtest.Open(t, url, dbtest.Ring(t)))
	until := historyStart.AddDate(0, 0, 60)
	expected := map[uuid.UUID]map[pooledCell]pooledCounts{}
	type work struct {
		merchant db.Merchant
		auditID  uuid.UUID
	}
	var all []work
	wantDays := 0
	for i := range 4 {
		merchant := oracleMerchant(t, s, "acct_"+strconv.Itoa(i), "media", true)
		history := randomHistory(uint64(i), 600)
		all = append(all, work{merchant, stageCharges(t, s, merchant, history, until)})
		wantDays += daysIn(history, until)
		expected[merchant.ID] = map[pooledCell]pooledCounts{}
		recountDays(expected[merchant.ID], map[string]bool{}, merchant, history, until)
	}
	var processes sync.WaitGroup
	var mutex sync.Mutex
	gotDays := 0
	for p := range 3 {
		other := newBench(dbtest.Open(t, url, dbtest.Ring(t)))
		for i := range all {
			w := all[(i+p)%len(all)]
			processes.Go(func() {
				days, err := Count(t.Context(), other.pool, w.merchant, w.auditID, until)
				if err != nil {
					t.Error(err)
				}
				mutex.Lock()
				defer mutex.Unlock()
				gotDays += days
			})
		}
	}
	processes.Wait()
	if gotDays != wantDays {
		t.Errorf("the processes counted %d days, want %d", gotDays, wantDays)
	}
	if got, want := oracleTable(t, s), pooled(expected); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestOracleCountsAllDaysOrNone(t *testing.T) {
	t.Parallel()
	s := newBench(dbtest.Pool(t))
	merchant := oracleMerchant(t, s, "acct_1", "media", true)
	until := historyStart.AddDate(0, 0, 60)
	history := randomHistory(1, 400)
	auditID := stageCharges(t, s, merchant, history, until)
	// The table refuses a count in the middle.
	if _, err := s.pool.Exec(t.Context(), "ALTER TABLE liquidity_oracle ADD CONSTRAINT lost CHECK (attempts < 4)"); err != nil {
		t.Fatal(err)
	}
	days, err := Count(t.Context(), s.pool, merchant, auditID, until)
	if err == nil || days != 0 || len(oracleTable(t, s)) > 0 {
		t.Fatalf("counted %d days, %v, %v", days, oracleTable(t, s), err)
	}
	if _, err := s.pool.Exec(t.Context(), "ALTER TABLE liquidity_oracle DROP CONSTRAINT lost"); err != nil {
		t.Fatal(err)
	}
	countDays(t, s, merchant, auditID, until, daysIn(history, until))
	want := map[uuid.UUID]map[pooledCell]pooledCounts{merchant.ID: {}}
	recountDays(want[merchant.ID], map[string]bool{}, merchant, history, until)
	if got := oracleTable(t, s); !maps.Equal(got, pooled(want)) {
		t.Errorf("got %v, want %v", got, pooled(want))
	}
}

func TestOracleServesCellsOfFiveMerchants(t *testing.T) {
	t.Parallel()
	s := newBench(dbtest.Pool(t))
	until := utcTime(t, "2026-03-04 00:00:00")
	charge := func(text string) stagedAttempt {
		return stagedAttempt{sequence: text, at: utcTime(t, text), outcome: "succeeded"}
	}
	for i := range 5 {
		for _, livemode := range []bool{true, false} {
			if !livemode && i == 4 {
				continue
			}
			merchant := oracleMerchant(t, s, "acct_"+strconv.Itoa(i), "media", livemode)
			history := []stagedAttempt{charge("2026-03-02 09:00:00"), charge("2026-03-03 10:00:00")}
			if i < 4 { // 4 merchants, with a week's worth each
				history = append(history, charge("2026-03-02 11:00:00"), charge("2026-02-23 11:00:00"))
			}
			days := daysIn(history, until)
			countDays(t, s, merchant, stageCharges(t, s, merchant, history, until), until, days)
		}
	}
	oracleTable(t, s)
	served, err := s.queries.OracleCells(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	want := []db.LiquidityOracle{
		{BusinessCategory: "media", DeclineClass: "none", Action: "charge", DayOfWeek: 1, HourOfDay: 9, Livemode: true, Attempts: 5, Successes: 5, Merchants: 5},
		{BusinessCategory: "media", DeclineClass: "none", Action: "charge", DayOfWeek: 2, HourOfDay: 10, Livemode: true, Attempts: 5, Successes: 5, Merchants: 5},
	}
	if !slices.Equal(served, want) {
		t.Errorf("served %+v, want %+v", served, want)
	}
	if served, err = s.queries.OracleCells(t.Context(), false); err != nil || len(served) != 0 {
		t.Errorf("of four merchants in test mode served %+v, %v", served, err)
	}
}

// A million charges of two years.
func BenchmarkOracleMillion(b *testing.B) {
	s := newBench(dbtest.Pool(b))
	merchant := oracleMerchant(b, s, "acct_1", "media", true)
	auditID := uuid.Must(uuid.NewV7())
	if _, err := s.pool.Exec(b.Context(), `
		INSERT INTO audit_charges (merchant_id, audit_id, sequence, created_at, outcome, refunded, decline_class, day_of_week, hour_of_day)
		SELECT $1, $2, 'in_' || i % 600000, at, CASE WHEN i % 3 = 0 THEN 'failed' ELSE 'succeeded' END, false,
			CASE WHEN i % 3 = 0 THEN (ARRAY['never', 'customer', 'timed', 'low', 'soon', 'unknown'])[1 + i / 3 % 6] END,
			extract(dow FROM at AT TIME ZONE 'UTC'), extract(hour FROM at AT TIME ZONE 'UTC')
		FROM (SELECT i, timestamptz '2024-01-01 UTC' + i::bigint * 7919 % 1000000 * interval '63 seconds' AS at FROM generate_series(1, 1000000) AS i) AS charges`,
		merchant.ID, auditID); err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	for b.Loop() {
		b.StopTimer()
		if _, err := s.pool.Exec(ctx, "TRUNCATE oracle_days, oracle_contributions, liquidity_oracle"); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		days, err := Count(ctx, s.pool, merchant, auditID, time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(days), "days")
	}
}
