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

// currencies are those of the debts, that of most first: the one that the curves show, because
// amounts of two currencies do not compare.
func (d *run) currencies() []string {
	debts := map[string]int{}
	for _, s := range d.sides {
		for _, debt := range s.debts {
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
	Customers, Days, Others int
	From, To                time.Time
	Took                    time.Duration
	Currencies              []currencyResult
	Sides                   []outcome
	Review                  int64 // tasks that wait for a person
}

// currencyResult is the comparison in one currency.
type currencyResult struct {
	Code    string
	AtStart int64 // at risk on all sides
	Sides   []currencyOutcome
}

type currencyOutcome struct {
	Recovered, Left int64
	Causes          figures.ByCause // by PHANTOM's books
}

// outcome is what a side has done and reached, and whether anything was paid twice by the sandbox's
// own ledger.
type outcome struct {
	Name, Long       string
	Charges, Retries int64 // its own, and those of Stripe's Smart Retries besides
	Emails, SMS      int64
	Debts, Paid      int // invoices that a ghost has ever owed, and that are paid
	Ghosts           int // left at the end
	Twice            int
	Hunts            figures.HuntCounts
	Access           *access // nil where nobody tells the app
	samples          []sample
}

func (d *run) conclude(ctx context.Context, took time.Duration) error {
	r := result{Customers: d.Customers, Days: d.Days, From: d.start, To: d.start.AddDate(0, 0, d.Days), Took: took}
	for _, code := range d.currencies() {
		r.Currencies = append(r.Currencies, currencyResult{Code: code, AtStart: d.sides[0].samples[0].atRisk[code]})
	}
	for _, s := range d.sides {
		r.Others = max(r.Others, s.others)
		retries, emails := s.box.Own(s.account)
		o := outcome{
			Name: s.Name, Long: s.Long, Charges: int64(s.attempts), Retries: int64(retries), Emails: int64(emails), Debts: len(s.debts),
			Ghosts: s.ghosts, Twice: paidTwice(s.box), samples: s.samples,
		}
		for _, n := range s.invoices {
			o.Paid += n
		}
		var causes map[string]figures.ByCause
		if p := s.phantom; p != nil {
			booked, err := p.services.Hunts.Figures(ctx, p.merchant)
			if err != nil {
				return fmt.Errorf("[DATABASE] %s", db.Describe(err))
			}
			o.Charges, o.Emails, o.SMS, o.Hunts = booked.Costs.Charges, o.Emails+booked.Costs.Emails, booked.Costs.SMS, booked.Hunts
			causes = map[string]figures.ByCause{}
			for code, c := range booked.Currencies {
				causes[code] = c.ByCause
			}
			told, err := p.readAccess(ctx)
			if err != nil {
				return err
			}
			o.Access = &told
			review, err := db.New(p.pool).DemoCountReview(ctx)
			if err != nil {
				return fmt.Errorf("[DATABASE] %s", db.Describe(err))
			}
			r.Review += review
		}
		for i := range r.Currencies {
			c := &r.Currencies[i]
			c.Sides = append(c.Sides, currencyOutcome{s.recovered[c.Code], s.atRisk[c.Code], causes[c.Code]})
		}
		r.Sides = append(r.Sides, o)
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

// row is a line of the table, with a value of each side.
type row struct {
	Name   string
	Values []string
}

// Rows are the table, the same on the terminal and on the page.
func (r *result) Rows() (rows []row) {
	count := func(name string, of func(outcome) int64) {
		line := row{Name: name}
		for _, o := range r.Sides {
			line.Values = append(line.Values, money.Count(of(o)))
		}
		rows = append(rows, line)
	}
	count("Charges sent", func(o outcome) int64 { return o.Charges })
	count("Retries by Stripe", func(o outcome) int64 { return o.Retries })
	count("Emails sent", func(o outcome) int64 { return o.Emails })
	count("SMS sent", func(o outcome) int64 { return o.SMS })
	for _, c := range r.Currencies {
		code := strings.ToUpper(c.Code)
		recovered, left := row{Name: "Recovered, " + code}, row{Name: "Still at risk, " + code}
		for _, s := range c.Sides {
			recovered.Values = append(recovered.Values, money.Format(s.Recovered, c.Code))
			left.Values = append(left.Values, money.Format(s.Left, c.Code))
		}
		if slices.ContainsFunc(c.Sides, func(s currencyOutcome) bool { return s.Recovered != 0 }) || len(rows) == 4 {
			rows = append(rows, recovered) // of the main currency always
		}
		rows = append(rows, left)
	}
	count("Invoices owed", func(o outcome) int64 { return int64(o.Debts) })
	count("Of them paid", func(o outcome) int64 { return int64(o.Paid) })
	each := row{Name: "Charges per invoice paid"}
	for _, o := range r.Sides {
		each.Values = append(each.Values, fmt.Sprintf("%.1f", float64(o.Charges+o.Retries)/float64(max(o.Paid, 1))))
	}
	rows = append(rows, each)
	apps := func(name string, of func(*access) int) {
		line := row{Name: name}
		for _, o := range r.Sides {
			says := ""
			if o.Access != nil {
				says = money.Count(int64(of(o.Access)))
			}
			line.Values = append(line.Values, says)
		}
		rows = append(rows, line)
	}
	apps("Lost access", func(a *access) int { return a.Lost })
	apps("Of them let in again", func(a *access) int { return a.Back })
	count("Ghosts left", func(o outcome) int64 { return int64(o.Ghosts) })
	count("Paid twice, by the ledger", func(o outcome) int64 { return int64(o.Twice) })
	return rows
}

// Notes say what the table compares.
func (r *result) Notes() []string {
	whose := "this merchant alone"
	if r.Others > 0 {
		whose = fmt.Sprintf("this merchant and %d more", r.Others)
	}
	notes := []string{
		fmt.Sprintf("All sides have the same merchant with the same %s customers, from the same hour on.", money.Count(int64(r.Customers))),
		fmt.Sprintf("The oracle has learnt from the past of %s. It plays from the first day, and leaves one customer in ten to the fixed rules. "+
			"A new installation lets it play only once it has shown in shadow that it predicts well.", whose),
		"Both PHANTOMs write the same emails and SMS, and nobody is held out.",
		"PHANTOM tells the app who may keep access: with less of it after 10 days of debt, and without it after 21. " +
			"A person lets through once a day what the breaker holds. A payment lets in again at once. That nobody pays because of it is the sandbox's guess.",
		"The schedule charges each failed invoice 1, 3, 5 and 7 days after its failure, and those that had failed before the start as if they had then. It writes to nobody.",
		"Stripe alone stands for Smart Retries with Stripe's emails: up to eight charges within two weeks, at random hours of the day, and an email after each failure. " +
			"How the real one chooses is not known, so that this is no measure of it. Smart Retries is off for what PHANTOM or the schedule charges, and goes on for all else.",
		"Recovered is what a ghost owed and paid, no matter who brought it about.",
	}
	for _, c := range r.Currencies {
		for i, s := range c.Sides {
			if b := s.Causes; b != (figures.ByCause{}) {
				notes = append(notes, fmt.Sprintf("The books of %s, %s: %s after its charge, %s after an email, %s after an SMS, %s after nothing of its own.",
					r.Sides[i].Long, strings.ToUpper(c.Code), money.Format(b.Charge, c.Code), money.Format(b.Email, c.Code), money.Format(b.SMS, c.Code), money.Format(b.Anyway, c.Code)))
			}
		}
	}
	if r.Review > 0 {
		notes = append(notes, fmt.Sprintf("%d tasks wait for a person.", r.Review))
	}
	return append(notes, "The customers are made up: how they pay and answer is the sandbox's guess, and no promise.")
}

func (r *result) print(w io.Writer) {
	fmt.Fprintf(w, "%d days in %.0f seconds: %s to %s\n\n", r.Days, r.Took.Seconds(), r.From.Format(time.DateOnly), r.To.Format(time.DateOnly))
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, o := range r.Sides {
		fmt.Fprint(table, "\t", o.Name)
	}
	fmt.Fprintln(table, "\t")
	for _, row := range r.Rows() {
		fmt.Fprintf(table, "%s\t%s\t\n", row.Name, strings.Join(row.Values, "\t"))
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
	code := r.Currencies[0].Code
	curves := func(of func(sample) map[string]int64) (all []report.Curve) {
		for i, o := range r.Sides {
			c := report.Curve{Name: o.Name, Strong: i == 0}
			for _, s := range o.samples {
				c.Points = append(c.Points, report.CurvePoint{Day: s.day, Amount: of(s)[code]})
			}
			all = append(all, c)
		}
		return all
	}
	view := struct {
		*result
		Main              currencyResult
		Style             template.CSS
		Policy            string
		Recovered, AtRisk template.HTML
	}{result: r, Main: r.Currencies[0], Style: report.Style(), Policy: report.Policy()}
	var err error
	if view.Recovered, err = report.CurveChart("chart-recovered", "Recovered, by the day", code,
		curves(func(s sample) map[string]int64 { return s.recovered })); err != nil {
		return nil, err
	}
	if view.AtRisk, err = report.CurveChart("chart-at-risk", "At risk, by the day", code,
		curves(func(s sample) map[string]int64 { return s.atRisk })); err != nil {
		return nil, err
	}
	var page bytes.Buffer
	err = pageTemplate.Execute(&page, view)
	return page.Bytes(), err
}
