package oracle

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/zone"
)

// Random histories, audited again and again while charges settle, against an independent count in
// Go.
func TestOracleEqualsARecount(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			s := newBench(dbtest.Pool(t))
			r := rand.New(rand.NewPCG(seed, 7))
			expected := map[uuid.UUID]map[pooledCell]pooledCounts{}
			for i, category := range []string{"media", "media", "", "other", "retail"} {
				merchant := oracleMerchant(t, s, "acct_"+strconv.Itoa(i), category, r.IntN(2) == 0)
				history := randomHistory(seed*100+uint64(i), 500)
				expected[merchant.ID] = map[pooledCell]pooledCounts{}
				days := map[string]bool{}
				for until := historyStart; until.Before(historyStart.AddDate(0, 0, 70)); until = until.Add(time.Duration(r.IntN(300)) * time.Hour) {
					auditID := stageCharges(t, s, merchant, history, until)
					countDays(t, s, merchant, auditID, until, recountDays(expected[merchant.ID], days, merchant, history, until))
					countDays(t, s, merchant, auditID, until, 0)
				}
			}
			got, want := oracleTable(t, s), pooled(expected)
			if len(want) < 500 || !maps.Equal(got, want) {
				t.Errorf("%d cells differ from the %d of the recount", len(got), len(want))
				for c := range want {
					if got[c] != want[c] {
						t.Errorf("%+v: %+v, want %+v", c, got[c], want[c])
					}
				}
			}
		})
	}
}

var historyStart = time.Date(2026, 1, 5, 7, 0, 0, 0, time.UTC)

// randomHistory is charges of some 40 days, in no order: first attempts, retries, pending ones,
// blocked ones, some within one second.
func randomHistory(seed uint64, charges int) []stagedAttempt {
	r := rand.New(rand.NewPCG(seed, 1))
	classes := []string{"never", "customer", "timed", "low", "soon", "unknown", ""}
	countries := []string{"US", "JP", "DE", "NZ", ""}
	all := make([]stagedAttempt, charges)
	for i := range all {
		a := stagedAttempt{
			sequence: "in_" + strconv.Itoa(r.IntN(charges/3)), outcome: "succeeded",
			at:   historyStart.Add(time.Duration(r.IntN(40*24*60)) * time.Minute),
			zone: zone.OfCustomer(countries[r.IntN(len(countries))], "US/Pacific"),
		}
		if i > 0 && r.IntN(10) == 0 { // within the second of another
			a.sequence, a.at = all[i-1].sequence, all[i-1].at
		}
		switch r.IntN(8) {
		case 0, 1, 2:
			a.outcome, a.class = "failed", classes[r.IntN(len(classes))]
		case 3:
			a.outcome, a.class = "blocked", "never"
		}
		if a.outcome != "blocked" && r.IntN(200) == 0 {
			a.settles = a.at.Add(time.Duration(r.IntN(10*24)) * time.Hour)
		}
		all[i] = a
	}
	return all
}

// daysIn is how many UTC days have an attempt and had ended by until, where nothing is pending.
func daysIn(history []stagedAttempt, until time.Time) int {
	days := map[string]bool{}
	for _, a := range history {
		if end := a.at.UTC().Truncate(24*time.Hour).AddDate(0, 0, 1); a.outcome != "blocked" && !end.After(until) {
			days[end.Format(time.DateOnly)] = true
		}
	}
	return len(days)
}

// recountDays adds to given what an audit at until pooledCounts of the days that are not in days
// yet, by looking at every pair of charges.
func recountDays(given map[pooledCell]pooledCounts, days map[string]bool, merchant db.Merchant, history []stagedAttempt, until time.Time) (added int) {
	day := func(a stagedAttempt) string { return a.at.UTC().Format(time.DateOnly) }
	seen := slices.DeleteFunc(slices.Clone(history), func(a stagedAttempt) bool { return a.outcome == "blocked" || !a.at.Before(until) })
	open, counted := map[string]bool{}, maps.Clone(days)
	for _, a := range seen {
		if until.Before(a.settles) {
			open[day(a)] = true
		}
	}
	today := until.UTC().Format(time.DateOnly)
	for _, a := range seen {
		if day(a) >= today || open[day(a)] || counted[day(a)] {
			continue
		}
		if !days[day(a)] {
			days[day(a)] = true
			added++
		}
		c := pooledCell{category: "other", class: "none", day: int(a.local().Weekday()), hour: a.local().Hour(), livemode: merchant.Livemode}
		if merchant.BusinessCategory != nil {
			c.category = *merchant.BusinessCategory
		}
		var last time.Time
		for _, b := range seen {
			class := cmp.Or(b.class, "unknown")
			if b.sequence == a.sequence && b.outcome == "failed" && !until.Before(b.settles) && b.at.Before(a.at) &&
				(b.at.After(last) || b.at.Equal(last) && class > c.class) {
				last, c.class = b.at, class
			}
		}
		n := given[c]
		n.attempts++
		if a.outcome == "succeeded" {
			n.successes++
		}
		n.merchants = 1
		given[c] = n
	}
	return added
}

// pooled adds up what each merchant gave.
func pooled(given map[uuid.UUID]map[pooledCell]pooledCounts) map[pooledCell]pooledCounts {
	sum := map[pooledCell]pooledCounts{}
	for _, cells := range given {
		for c, n := range cells {
			sum[c] = pooledCounts{sum[c].attempts + n.attempts, sum[c].successes + n.successes, sum[c].merchants + n.merchants}
		}
	}
	return sum
}
