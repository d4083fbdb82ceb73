package demo

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"phantom/db"
	"phantom/figures"
	"phantom/money"
	"phantom/report"
	"phantom/sandbox"
)

// sample is what both sides stand at on a day.
type sample struct {
	day          float64
	ours, theirs amounts
}

// amounts are in minor units by currency. Those of two currencies are never added.
type amounts struct {
	atRisk, recovered map[string]int64
	charges, messages int64
}

func (w *world) amounts() amounts {
	return amounts{atRisk: maps.Clone(w.atRisk), recovered: maps.Clone(w.recovered), charges: int64(w.attempts)}
}

// sample notes what both sides stand at.
func (d *run) sample(ctx context.Context) error {
	if err := d.ours.look(ctx, d.start); err != nil {
		return err
	}
	booked, err := d.services.Hunts.Figures(ctx, d.merchant)
	if err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	s := sample{day: d.now.Sub(d.start).Hours() / 24, ours: d.ours.amounts(), theirs: d.theirs.amounts()}
	s.ours.charges, s.ours.messages = booked.Costs.Charges, booked.Costs.Emails+booked.Costs.SMS
	d.samples = append(d.samples, s)
	return nil
}

// currency is the one that the curves show: that of most debts, because amounts of two currencies
// do not compare.
func (d *run) currency() string { return d.currencies()[0] }

func (d *run) currencies() []string {
	debts := map[string]int{}
	for _, world := range []*world{d.ours, d.theirs} {
		for _, debt := range world.debts {
			debts[debt.currency]++
		}
	}
	if len(debts) == 0 {
		return []string{"usd"}
	}
	return slices.SortedFunc(maps.Keys(debts), func(a, b string) int { return cmp.Or(debts[b]-debts[a], strings.Compare(a, b)) })
}

// result is what the demo came to.
type result struct {
	Customers, Days int
	From, To        time.Time
	Took            time.Duration
	Currencies      []currencyResult
	Ours, Theirs    effort
	Hunts           figures.HuntCounts
	Review          int64 // tasks that wait for a person
	samples         []sample
}

// currencyResult is the comparison in one currency.
type currencyResult struct {
	Code                      string
	AtStart                   int64 // at risk on both sides
	OursRecovered, OursLeft   int64
	TheirsRecovered, TheirsAt int64
	OursPaid, TheirsPaid      int // invoices
	Causes                    figures.ByCause
}

// effort is what a side has done, and whether anything was paid twice by the sandbox's own ledger.
type effort struct {
	Charges, Emails, SMS int64
	Ghosts               int // left at the end
	Twice                int
}

func (d *run) conclude(ctx context.Context, took time.Duration) error {
	booked, err := d.services.Hunts.Figures(ctx, d.merchant)
	if err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	r := result{
		Customers: d.Customers, Days: d.Days, From: d.start, To: d.now, Took: took, Hunts: booked.Hunts, samples: d.samples,
		Ours:   effort{booked.Costs.Charges, booked.Costs.Emails, booked.Costs.SMS, d.ours.ghosts, paidTwice(d.ours.box)},
		Theirs: effort{Charges: int64(d.theirs.attempts), Ghosts: d.theirs.ghosts, Twice: paidTwice(d.theirs.box)},
	}
	if r.Review, err = db.New(d.pool).DemoCountReview(ctx); err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	first := d.samples[0]
	for _, code := range d.currencies() {
		r.Currencies = append(r.Currencies, currencyResult{
			Code: code, AtStart: first.ours.atRisk[code], Causes: booked.Currencies[code].ByCause,
			OursRecovered: d.ours.recovered[code], OursLeft: d.ours.atRisk[code], OursPaid: d.ours.invoices[code],
			TheirsRecovered: d.theirs.recovered[code], TheirsAt: d.theirs.atRisk[code], TheirsPaid: d.theirs.invoices[code],
		})
	}
	d.result = r
	return nil
}

// paidTwice counts the invoices that two charges have paid, and the keys that were executed again.
func paidTwice(box *sandbox.Sandbox) int {
	count := len(box.PaidTwice())
	for _, e := range box.Ledger("") {
		if e.Repeated {
			count++
		}
	}
	return count
}

// row is a line of the table.
type row struct{ Name, Ours, Theirs string }

// Rows are the table, the same on the terminal and on the page.
func (r *result) Rows() []row {
	count := func(n int64) string { return money.Count(n) }
	rows := []row{
		{"Charges sent", count(r.Ours.Charges), count(r.Theirs.Charges)},
		{"Emails sent", count(r.Ours.Emails), "0"},
		{"SMS sent", count(r.Ours.SMS), "0"},
	}
	for _, c := range r.Currencies {
		code := strings.ToUpper(c.Code)
		rows = append(rows,
			row{"Recovered, " + code, money.Format(c.OursRecovered, c.Code), money.Format(c.TheirsRecovered, c.Code)},
			row{"Invoices paid, " + code, count(int64(c.OursPaid)), count(int64(c.TheirsPaid))},
			row{"Still at risk, " + code, money.Format(c.OursLeft, c.Code), money.Format(c.TheirsAt, c.Code)},
		)
	}
	return append(rows,
		row{"Ghosts left", count(int64(r.Ours.Ghosts)), count(int64(r.Theirs.Ghosts))},
		row{"Paid twice, by the ledger", count(int64(r.Ours.Twice)), count(int64(r.Theirs.Twice))})
}

// Notes say what the table compares.
func (r *result) Notes() []string {
	notes := []string{
		fmt.Sprintf("Both sides have the same merchant with the same %s customers, from the same hour on. Stripe's Smart Retries is off for what either charges.",
			money.Count(int64(r.Customers))),
		"The fixed schedule charges each failed invoice 1, 3, 5 and 7 days after its failure, and those that had failed before the start as if they had then. It writes to nobody.",
		"Recovered is what a ghost owed and paid, no matter who brought it about: also what Smart Retries or the customer did.",
	}
	for _, c := range r.Currencies {
		if b := c.Causes; b != (figures.ByCause{}) {
			notes = append(notes, fmt.Sprintf("PHANTOM's books, %s: %s after its charge, %s after an email, %s after an SMS, %s after nothing of its own.",
				strings.ToUpper(c.Code), money.Format(b.Charge, c.Code), money.Format(b.Email, c.Code), money.Format(b.SMS, c.Code), money.Format(b.Anyway, c.Code)))
		}
	}
	if r.Review > 0 {
		notes = append(notes, fmt.Sprintf("%d tasks wait for a person.", r.Review))
	}
	return append(notes, "The customers are made up: how they pay and answer is the sandbox's guess, and no promise.")
}

func (r *result) print(w io.Writer) {
	fmt.Fprintf(w, "%d days in %.0f seconds: %s to %s\n\n", r.Days, r.Took.Seconds(), r.From.Format(time.DateOnly), r.To.Format(time.DateOnly))
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tPHANTOM\tfixed 1/3/5/7\t")
	for _, row := range r.Rows() {
		fmt.Fprintf(table, "%s\t%s\t%s\t\n", row.Name, row.Ours, row.Theirs)
	}
	_ = table.Flush()
	fmt.Fprintln(w)
	for _, note := range r.Notes() {
		fmt.Fprintln(w, note)
	}
}

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("demo").Funcs(template.FuncMap{"money": money.Format, "code": strings.ToUpper}).Parse(pageText))

// page is the result with its curves.
func (r *result) page() ([]byte, error) {
	main := r.Currencies[0]
	curves := func(of func(amounts) map[string]int64) []report.Curve {
		ours, theirs := report.Curve{Name: "PHANTOM", Strong: true}, report.Curve{Name: "Fixed schedule"}
		for _, s := range r.samples {
			ours.Points = append(ours.Points, report.CurvePoint{Day: s.day, Amount: of(s.ours)[main.Code]})
			theirs.Points = append(theirs.Points, report.CurvePoint{Day: s.day, Amount: of(s.theirs)[main.Code]})
		}
		return []report.Curve{ours, theirs}
	}
	view := struct {
		*result
		Main              currencyResult
		Style             template.CSS
		Policy            string
		Recovered, AtRisk template.HTML
	}{result: r, Main: main, Style: report.Style(), Policy: report.Policy()}
	var err error
	if view.Recovered, err = report.CurveChart("chart-recovered", "Recovered, by the day", main.Code,
		curves(func(f amounts) map[string]int64 { return f.recovered })); err != nil {
		return nil, err
	}
	if view.AtRisk, err = report.CurveChart("chart-at-risk", "At risk, by the day", main.Code,
		curves(func(f amounts) map[string]int64 { return f.atRisk })); err != nil {
		return nil, err
	}
	var page bytes.Buffer
	err = pageTemplate.Execute(&page, view)
	return page.Bytes(), err
}
