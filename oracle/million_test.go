package oracle

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/decline"
	"phantom/oracle/model"
)

var manyCells = flag.Int("cells", 0, "measure a rebuild from so many cells")

// randomCell is one of a merchant of a category.
func randomCell(r *rand.Rand, category string) model.Cell {
	pick := func(names string) string { all := strings.Fields(names); return all[r.IntN(len(all))] }
	return model.Cell{
		Class: model.Class(r.IntN(4)), Code: pick("insufficient_funds generic_decline do_not_honor processing_error try_again_later"), Attempt: uint8(r.IntN(5)),
		Age: uint8(r.IntN(6)), Gap: uint8(r.IntN(6)), Category: category, Country: pick("US GB DE FR NL SE JP BR IN AU"), Funding: pick("debit credit prepaid"),
		Brand: pick("visa mastercard amex"), Amount: int8(r.IntN(9) - 4), Weekday: uint8(r.IntN(7)), Hour: uint8(r.IntN(24)), Rest: r.IntN(7) < 2,
		Billed: uint8(r.IntN(24)), Lift: int8(r.IntN(9)), Level: int8(r.IntN(16) - 10), Own: int8(r.IntN(7) - 3),
	}
}

// TestRebuildOfMany measures a night over -cells of 200 merchants, and a question to its model. It
// measures nothing in CI.
func TestRebuildOfMany(t *testing.T) { //nolint:paralleltest // it measures
	if *manyCells == 0 {
		t.Skip("-cells says how many")
	}
	s := newBench(dbtest.Pool(t))
	r := rand.New(rand.NewPCG(1, 1))
	categories := []string{"software", "media", "education", "health", "retail"}
	const merchants = 200
	for m := range merchants {
		category := categories[m%len(categories)]
		merchant := oracleMerchant(t, s, fmt.Sprint("acct_", m), category, true)
		seen := make(map[string]bool)
		var rows []db.OracleAddCellsParams
		for len(rows) < *manyCells/merchants {
			cell := randomCell(r, category)
			row := db.OracleAddCellsParams{
				MerchantID: merchant.ID, Livemode: true, Month: pgtype.Date{Time: model.MonthOf(time.Now()).AddDate(0, -r.IntN(Months), 0), Valid: true},
				Cell: cell.Text(), Attempts: 1, Successes: int32(r.IntN(10) / 8),
			}
			if key := row.Month.Time.String() + row.Cell; !seen[key] {
				seen[key] = true
				rows = append(rows, row)
			}
		}
		if _, err := s.queries.OracleAddCells(t.Context(), rows); err != nil {
			t.Fatal(err)
		}
	}
	before, start := used(t), time.Now()
	b, err := Rebuild(t.Context(), s.pool, true)
	if err != nil {
		t.Fatal(err)
	}
	after := used(t)
	t.Logf("%d cells: %.1f s of CPU, %.1f s; %d MB at the peak, %d MB before", b.Cells, seconds(after)-seconds(before), time.Since(start).Seconds(), after.Maxrss>>10, before.Maxrss>>10)
	m, _, err := New(s.pool).Model(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := m.MarshalBinary()
	now := time.Now().Truncate(time.Hour)
	q := model.Question{
		Debt:      model.Debt{Merchant: "else", Category: "media", Country: "US", Zone: time.UTC, Brand: "visa", Funding: "debit", Amount: 1900, Decimals: 2},
		Tried:     []model.Tried{{At: now.Add(-24 * time.Hour), Class: model.Timed, Code: "insufficient_funds"}},
		NotBefore: now, NotAfter: now.AddDate(0, 0, 13), Left: 4,
	}
	for i := range 40 {
		q.Memory = append(q.Memory, model.Past{At: now.AddDate(0, 0, -10*i), OK: i%3 == 0, Weight: 1})
	}
	const questions = 2000
	before = used(t)
	for i := range questions {
		m.Plan(q, float64(i)/questions, true)
	}
	t.Logf("a model of %d kB; a question with 40 charges to remember: %.3f ms", len(text)>>10, (seconds(used(t))-seconds(before))*1000/questions)

	// as hunts ask, with the fixed rules' moment and its chance beside
	service := New(s.pool)
	asked := due(1)
	asked.Now = now.Add(time.Minute)
	asked.Livemode, asked.LastFailed, asked.NotBefore, asked.NotAfter = true, now.Add(-time.Hour), now.Add(23*time.Hour), now.AddDate(0, 0, 14)
	asked.Tried = []Tried{{asked.LastFailed, asked.Class, asked.Code}}
	var seen []Seen
	for i := range 40 {
		seen = append(seen, Seen{At: now.AddDate(0, 0, -390+9*i), Invoice: fmt.Sprint("in_", i/2), Class: []decline.Class{decline.Timed, ""}[i%2]})
	}
	asked.Memory = Remember(seen, now)
	if m := ask(t, service, asked); m.Advice == nil || m.Advice.Model == 0 || len(asked.Memory.Charges) != 40 {
		t.Fatalf("%+v", m)
	}
	before = used(t)
	for range questions {
		ask(t, service, asked)
	}
	t.Logf("the same in the product, beside the fixed rules: %.3f ms", (seconds(used(t))-seconds(before))*1000/questions)
}

// used is what the process has used so far.
func used(t *testing.T) (usage syscall.Rusage) {
	t.Helper()
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return usage
}

// seconds are those of CPU time.
func seconds(usage syscall.Rusage) float64 {
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}
