package report

import (
	"cmp"
	"fmt"
	"html/template"
	"iter"
	"maps"
	"slices"
	"strings"

	"phantom/decline"
	"phantom/figures"
	"phantom/money"
)

// recovered is the part of the page about hunts.
type recovered struct {
	figures.Figures
	Rows     []recoveredRow // by currency, in the order of the report's
	Reasons  []reason
	Charts   []chart
	Watching []watchedRow
	Compare  *comparison // nil where there is not enough data
}

type recoveredRow struct {
	Code string
	figures.Recovered
	Paid int64 // invoices
}

// reason is what hunts that began with one decline class have brought, by currency.
type reason struct {
	Name                        string
	AtRisk, AfterAction, Anyway []Sum
}

type watchedRow struct{ AtRisk, Paid Sum }

// comparison is the uplift in words.
type comparison struct {
	Treated, HeldOut            string // shares, "70.0 %"
	Difference, Low, High, Show string // percentage points, "+20.0"
	Says                        string
	Picture                     template.HTML
}

// verdicts are what a founder is told of a comparison.
var verdicts = map[string]string{
	figures.VerdictMore: "Hunts bring back more than would have come anyway.",
	figures.VerdictLess: "Fewer customers pay with hunts than without. Look at what is sent, and to whom.",
	figures.VerdictNone: "No difference is shown: it may be that there is none, or that it is too small to be seen among so few customers.",
}

// recovered lays out the figures of hunts, or returns nil where there are none.
func (r *Report) recovered() (*recovered, error) {
	if r.Recovery == nil {
		return nil, nil
	}
	v := &recovered{Figures: *r.Recovery}
	for _, code := range r.order(maps.Keys(v.Currencies)) {
		c := v.Currencies[code]
		i := c.Invoices
		v.Rows = append(v.Rows, recoveredRow{code, c, i.Charge + i.Email + i.SMS + i.Anyway})
		if len(v.Charts) < moneyCharts {
			picture, err := recoveredChart(code, c)
			if err != nil {
				return nil, err
			}
			v.Charts = append(v.Charts, chart{code, picture})
		}
	}
	for _, class := range classes {
		if line, found := v.reason(class.code, class.name); found {
			v.Reasons = append(v.Reasons, line)
		}
	}
	for _, code := range r.order(maps.Keys(v.Watched.Currencies)) {
		c := v.Watched.Currencies[code]
		v.Watching = append(v.Watching, watchedRow{Sum{c.AtRisk, code}, Sum{c.Paid, code}})
	}
	var err error
	v.Compare, err = compare(v.Uplift)
	return v, err
}

// order sorts currencies as the rest of the page has them, and others behind.
func (r *Report) order(codes iter.Seq[string]) []string {
	at := func(code string) int {
		if i := slices.IndexFunc(r.Currencies, func(c Currency) bool { return c.Code == code }); i >= 0 {
			return i
		}
		return len(r.Currencies)
	}
	return slices.SortedFunc(codes, func(a, b string) int { return cmp.Or(cmp.Compare(at(a), at(b)), cmp.Compare(a, b)) })
}

// reason is one line of the table of reasons, if it is to be there.
func (v *recovered) reason(class decline.Class, name string) (line reason, found bool) {
	line.Name = name
	add := func(to *[]Sum, amount int64, code string) {
		if amount > 0 {
			*to = append(*to, Sum{amount, code})
		}
	}
	for _, row := range v.Rows {
		part, has := row.ByClass[class]
		found = found || has
		add(&line.AtRisk, part.AtRisk, row.Code)
		add(&line.AfterAction, part.AfterAction, row.Code)
		add(&line.Anyway, part.Anyway, row.Code)
	}
	return line, found
}

func recoveredChart(code string, c figures.Recovered) (template.HTML, error) {
	bars := []bar{
		{"At risk, hunt goes on", float64(c.AtRisk), money.Format(c.AtRisk, code), light},
		{"Recovered after our action", float64(c.AfterAction), money.Format(c.AfterAction, code), dark},
		{"Recovered anyway", float64(c.Anyway), money.Format(c.Anyway, code), middle},
	}
	return barChart("chart-recovered-"+code, "What hunts brought back in "+strings.ToUpper(code), describe(bars), bars)
}

func compare(u figures.Uplift) (*comparison, error) {
	if u.Difference == nil {
		return nil, nil
	}
	c := &comparison{
		Treated: share(u.Treated), HeldOut: share(u.HeldOut), Says: verdicts[u.Verdict],
		Difference: points(*u.Difference), Low: points(*u.Low), High: points(*u.High), Show: strings.TrimPrefix(points(*u.Detectable), "+"),
	}
	var err error
	c.Picture, err = intervalChart("chart-uplift", "Difference between treated and held-out customers",
		fmt.Sprintf("%s percentage points, with a 95 %% interval from %s to %s.", c.Difference, c.Low, c.High),
		100**u.Low, 100**u.Difference, 100**u.High, c.Difference+" points")
	return c, err
}

func share(a figures.Arm) string {
	return fmt.Sprintf("%.1f %%", 100*float64(a.Recovered)/float64(a.Customers))
}

// points writes a difference of shares in percentage points, with its sign.
func points(difference float64) string {
	text := fmt.Sprintf("%+.1f", 100*difference)
	if text == "-0.0" || text == "+0.0" {
		return "0.0"
	}
	return strings.Replace(text, "-", "−", 1)
}
