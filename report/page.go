package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the page's form and style
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"phantom/money"
)

//go:embed page.html
var pageText string

//go:embed style.css
var styleText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"money": money.Format,
	"count": money.Count,
	"many":  many,
	"day":   day,
	"code":  strings.ToUpper,
}).Parse(pageText))

// policy lets a browser load nothing and run nothing. The one style is known by its hash.
var policy = func() string {
	hash := sha256.Sum256([]byte(styleText))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'; base-uri 'none'; form-action 'none'"
}()

// view is the report with its charts drawn.
type view struct {
	*Report
	Style       template.CSS
	Policy      string
	AtRisk      bool // something is at risk
	MoneyCharts []chart
	AgeChart    template.HTML
	ClassChart  template.HTML
	Recovered   *recovered // nil: there has been no hunt
	When        *moments   // nil: there is no model yet
}

type chart struct {
	Code    string
	Picture template.HTML
}

// moneyCharts is how many currencies get a chart of their own; the table has them all.
const moneyCharts = 4

// WriteHTML writes the report as one page that needs nothing besides itself.
func (r *Report) WriteHTML(w io.Writer) error {
	v := view{Report: r, Style: template.CSS(styleText), Policy: policy} //nolint:gosec // our own file
	v.AtRisk = slices.ContainsFunc(r.Currencies, func(c Currency) bool { return c.AtRisk > 0 })
	for _, c := range r.Currencies[:min(len(r.Currencies), moneyCharts)] {
		picture, err := moneyChart(c)
		if err != nil {
			return err
		}
		v.MoneyCharts = append(v.MoneyCharts, chart{c.Code, picture})
	}
	var err error
	if v.AgeChart, err = groupChart("chart-ages", "Ghosts by the time since their first failed payment", r.Ages); err != nil {
		return err
	}
	if v.ClassChart, err = groupChart("chart-classes", "Ghosts by why the last payment failed", r.Classes); err != nil {
		return err
	}
	if v.Recovered, err = r.recovered(); err != nil {
		return err
	}
	if v.When, err = drawMoments(r.Moments); err != nil {
		return err
	}
	var out bytes.Buffer // half a page is none
	if err := page.Execute(&out, v); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	_, err = w.Write(out.Bytes())
	return err
}

// moneyChart compares the sums of one currency. Those of two are never on one scale.
func moneyChart(c Currency) (template.HTML, error) {
	seen := c.Owed - c.HiddenOwed
	code := strings.ToUpper(c.Code)
	bars := []bar{
		{"Owed, plain to see", float64(seen), money.Format(seen, c.Code), dark},
		{"Owed, hidden", float64(c.HiddenOwed), money.Format(c.HiddenOwed, c.Code), middle},
		{"At risk, not owed yet", float64(c.AtRisk), money.Format(c.AtRisk, c.Code), light},
	}
	return barChart("chart-money-"+c.Code, "Money in "+code, describe(bars), bars)
}

func groupChart(id, title string, groups []Group) (template.HTML, error) {
	var bars []bar
	for _, g := range groups {
		bars = append(bars, bar{g.Name, float64(g.Ghosts), money.Count(g.Ghosts), dark})
	}
	return barChart(id, title, describe(bars), bars)
}

func describe(bars []bar) string {
	var parts []string
	for _, b := range bars {
		parts = append(parts, b.label+": "+b.says)
	}
	return strings.Join(parts, "; ") + "."
}

// many writes a count with its noun: "1 customer", "37 customers".
func many(n int64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return money.Count(n) + " " + noun
}

func day(t time.Time) string { return t.UTC().Format("2 January 2006") }
