package demo

import (
	"bytes"
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
	"phantom/oracle"
	"phantom/report"
	"phantom/sandbox"
)

// currencies are those of the debts, the main one first.
func (d *run) currencies() []string {
	debts := map[string]bool{}
	for _, s := range d.sides {
		for _, debt := range s.debts {
			debts[debt.currency] = true
		}
	}
	delete(debts, d.main)
	return append([]string{d.main}, slices.Sorted(maps.Keys(debts))...)
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
	Charges, Retries int64           // its own, and those of Stripe's Smart Retries besides
	Chosen           int64           // of its own, those at a moment that the oracle chose
	standing         oracle.Standing // at the end, where the oracle plays
	knows            oracle.Knowledge
	Emails, SMS      int64
	Debts, Paid      int // invoices that a ghost has ever owed, and that are paid
	Ghosts           int // left at the end
	Twice            int
	Hunts            figures.HuntCounts
	Ours             bool // PHANTOM's
	Access           access
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
			if err := s.concludePhantom(ctx, &o); err != nil {
				return err
			}
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

// concludePhantom adds what only PHANTOM's sides have.
func (s *side) concludePhantom(ctx context.Context, o *outcome) (err error) {
	o.Ours = true
	if o.Access, err = s.phantom.readAccess(ctx); err != nil {
		return err
	}
	if o.Chosen, err = db.New(s.phantom.pool).DemoCountChosen(ctx); err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	if !s.learns {
		return nil
	}
	if o.standing, err = s.phantom.services.Oracle.Standing(ctx, false); err == nil {
		_, o.knows, err = s.phantom.services.Oracle.Model(ctx, false)
	}
	if err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
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
	ours := func(name string, of func(outcome) int64) {
		line := row{Name: name}
		for _, o := range r.Sides {
			says := ""
			if o.Ours {
				says = money.Count(of(o))
			}
			line.Values = append(line.Values, says)
		}
		rows = append(rows, line)
	}
	count("Charges sent", func(o outcome) int64 { return o.Charges })
	ours("Of these, the oracle chose", func(o outcome) int64 { return o.Chosen })
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
		if slices.ContainsFunc(c.Sides, func(s currencyOutcome) bool { return s.Recovered != 0 }) || c.Code == r.Currencies[0].Code {
			rows = append(rows, recovered)
		}
		rows = append(rows, left)
	}
	count("Invoices owed", func(o outcome) int64 { return int64(o.Debts) })
	count("Of these, paid", func(o outcome) int64 { return int64(o.Paid) })
	each := row{Name: "Charges per invoice paid"}
	for _, o := range r.Sides {
		each.Values = append(each.Values, fmt.Sprintf("%.1f", float64(o.Charges+o.Retries)/float64(max(o.Paid, 1))))
	}
	rows = append(rows, each)
	ours("Lost access", func(o outcome) int64 { return int64(o.Access.Lost) })
	ours("Of these, have it again", func(o outcome) int64 { return int64(o.Access.Back) })
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
		"PHANTOM tells the app who may keep access. After 10 days of debt a customer has limited access, after 21 none. Once a day a person releases what the breaker holds. " +
			"Who pays has access again at once. In the sandbox nobody pays because they lost access.",
		"The schedule charges each failed invoice 1, 3, 5 and 7 days after its failure, and those that had failed before the start as if they had then. It writes to nobody.",
		"Stripe alone stands for Smart Retries with Stripe's emails: up to eight charges within two weeks, at random hours of the day, and an email after each failure. " +
			"How the real one chooses is not known, so this does not measure it. Smart Retries is off for what PHANTOM or the schedule charges, and goes on for all else.",
		"Recovered is what a ghost owed and paid, no matter who brought it about. A subscription that Stripe cancels or marks unpaid after its last retry is no ghost any more, " +
			"so what it owes is not at risk either.",
		"One run shows no small difference: two runs of one seed may differ by a tenth, because charges are spread over the hour by a key that is drawn anew.",
	}
	if at := r.Sides[0].standing; at.State != "" && at.State != oracle.On {
		notes = append(notes, fmt.Sprintf("Since %s the oracle has been in %s: %s.", at.Since.UTC().Format(time.DateOnly), at.State, at.Why))
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
	amount := func(n int64) string { return money.Format(n, code) }
	curves := func(of func(sample) int64) (all []report.Curve) {
		for i, o := range r.Sides {
			c := report.Curve{Name: o.Name, Strong: i == 0}
			for _, s := range o.samples {
				c.Points = append(c.Points, report.CurvePoint{Day: s.day, Amount: of(s)})
			}
			all = append(all, c)
		}
		return all
	}
	view := struct {
		*result
		Main                               currencyResult
		Style                              template.CSS
		Policy                             string
		Recovered, AtRisk, Charges, Access template.HTML
	}{result: r, Main: r.Currencies[0], Style: report.Style(), Policy: report.Policy()}
	for _, chart := range []struct {
		into      *template.HTML
		id, title string
		format    func(int64) string
		curves    []report.Curve
	}{
		{&view.Recovered, "chart-recovered", "Recovered, by the day", amount, curves(func(s sample) int64 { return s.recovered[code] })},
		{&view.AtRisk, "chart-at-risk", "At risk, by the day", amount, curves(func(s sample) int64 { return s.atRisk[code] })},
		{&view.Charges, "chart-charges", "Charges, by the day", money.Count, curves(func(s sample) int64 { return s.charges })},
		{&view.Access, "chart-access", "Subscriptions without access, by the day", money.Count, r.closedCurves()},
	} {
		var err error
		if *chart.into, err = report.CurveChart(chart.id, chart.title, chart.format, chart.curves); err != nil {
			return nil, err
		}
	}
	var page bytes.Buffer
	err := pageTemplate.Execute(&page, view)
	return page.Bytes(), err
}

// closedCurves are how many are without access, where PHANTOM tells the app.
func (r *result) closedCurves() (all []report.Curve) {
	for i, o := range r.Sides {
		if !o.Ours {
			continue
		}
		c := report.Curve{Name: o.Name, Strong: i == 0, Points: []report.CurvePoint{{}}}
		for _, change := range o.Access.closed {
			c.Points = append(c.Points, report.CurvePoint{Day: change.at.Sub(r.From).Hours() / 24, Amount: int64(change.without)})
		}
		last := c.Points[len(c.Points)-1]
		all = append(all, report.Curve{Name: c.Name, Strong: c.Strong, Points: append(c.Points, report.CurvePoint{Day: float64(r.Days), Amount: last.Amount})})
	}
	return all
}
