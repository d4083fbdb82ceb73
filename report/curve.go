package report

import (
	"cmp"
	"fmt"
	"html/template"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Curve is one line of a [CurveChart]: an amount or a count by the day.
type Curve struct {
	Name   string
	Strong bool // the one that the chart is about
	Points []CurvePoint
}

// CurvePoint is an amount, in minor units where it is money, at a time in days.
type CurvePoint struct {
	Day    float64
	Amount int64
}

const curveHeight = 210 // points

// dashes tell the other curves apart.
var dashes = [][]vg.Length{nil, {6, 3}, {1.5, 2.5}}

// CurveChart draws amounts of one currency, or counts, over days, each curve with its name and last
// amount at its end. Id names the chart on the page; title is for who cannot see it; format writes
// an amount.
func CurveChart(id, title string, format func(int64) string, curves []Curve) (template.HTML, error) {
	p := plot.New()
	p.BackgroundColor = nil
	p.X.Padding, p.Y.Padding = 4, 4
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Color, axis.Tick.Color = light, light
		axis.Tick.Label.Font, axis.Tick.Label.Color = sans(false), ink
	}
	var days float64
	var most int64
	for _, c := range curves {
		for _, point := range c.Points {
			days, most = max(days, point.Day), max(most, point.Amount)
		}
	}
	p.Y.Min, p.Y.Max = 0, max(float64(most), 1)*1.08
	p.X.Min, p.X.Max = 0, max(days, 1)*1.34 // room for the names
	p.X.Tick.Marker = plot.TickerFunc(func(float64, float64) (ticks []plot.Tick) {
		for day, every := 0.0, dayTicks(days); day <= days; day += every {
			ticks = append(ticks, plot.Tick{Value: day, Label: fmt.Sprintf("day %.0f", day)})
		}
		return ticks
	})
	p.Y.Tick.Marker = plot.TickerFunc(func(least, most float64) (ticks []plot.Tick) {
		for _, t := range (plot.DefaultTicks{}).Ticks(least, most) {
			if t.Label != "" {
				ticks = append(ticks, plot.Tick{Value: t.Value, Label: format(int64(t.Value))})
			}
		}
		return ticks
	})
	curves = slices.DeleteFunc(slices.Clone(curves), func(c Curve) bool { return len(c.Points) == 0 })
	ends := apart(curves, p.Y.Max)
	description, others := "", 0
	for i, c := range curves {
		style := draw.LineStyle{Color: middle, Width: 1.6, Dashes: dashes[others%len(dashes)]}
		if c.Strong {
			style = draw.LineStyle{Color: dark, Width: 2.6}
		} else {
			others++
		}
		last := c.Points[len(c.Points)-1]
		// from the curve's end to its name, which may have had to make room
		lead := plotter.XYs{{X: last.Day, Y: float64(last.Amount)}, {X: days * 1.03, Y: ends[i]}}
		for _, points := range []plotter.XYs{steps(c.Points), lead} {
			line, err := plotter.NewLine(points)
			if err != nil {
				return "", err
			}
			line.LineStyle = style
			p.Add(line)
		}
		says := format(last.Amount)
		for row, t := range []string{c.Name, says} {
			label, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: days * 1.03, Y: ends[i]}}, Labels: []string{t}})
			if err != nil {
				return "", err
			}
			label.TextStyle[0] = text.Style{Font: sans(row == 1), Color: ink, XAlign: text.XLeft, YAlign: text.YCenter, Handler: plot.DefaultTextHandler}
			label.Offset = vg.Point{X: 6, Y: vg.Length(6 - 13*row)}
			p.Add(label)
		}
		description += fmt.Sprintf("%s: %s at the end. ", c.Name, says)
	}
	return drawn(p, curveHeight, id, title, description)
}

// steps lets an amount stay until it changes.
func steps(points []CurvePoint) (line plotter.XYs) {
	for i, point := range points {
		if i > 0 {
			if point.Amount == points[i-1].Amount && i < len(points)-1 {
				continue
			}
			line = append(line, plotter.XY{X: point.Day, Y: float64(points[i-1].Amount)})
		}
		line = append(line, plotter.XY{X: point.Day, Y: float64(point.Amount)})
	}
	return line
}

// apart says where the names of curves stand: at their last amounts, but so far from each other
// that none covers another.
func apart(curves []Curve, top float64) []float64 {
	ends, order := make([]float64, len(curves)), make([]int, len(curves))
	for i, c := range curves {
		ends[i], order[i] = float64(c.Points[len(c.Points)-1].Amount), i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(ends[a], ends[b]) })
	least := top / 6.5
	for n := 1; n < len(order); n++ {
		ends[order[n]] = max(ends[order[n]], ends[order[n-1]]+least)
	}
	for n, limit := len(order)-1, top*0.96; n >= 0 && ends[order[n]] > limit; n, limit = n-1, limit-least {
		ends[order[n]] = limit // too many at the top: those below give way
	}
	return ends
}

func dayTicks(days float64) float64 {
	for _, every := range []float64{1, 2, 5, 10} {
		if days/every <= 7 {
			return every
		}
	}
	return 15
}

// Style is the style of our pages. A page that has it allows it alone by [Policy].
func Style() template.CSS { return template.CSS(styleText) } //nolint:gosec // our own file

// Policy is the content of the page's Content-Security-Policy: it loads nothing and runs nothing.
func Policy() string { return policy }
