package report

import (
	"cmp"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"phantom/oracle"
	"phantom/oracle/model"
)

// moments are when charges succeed, as the oracle knows.
type moments struct {
	Hours, Days template.HTML
	Best        string // the best hours
	Shared      bool   // something is known, and not grey
}

// The shades of a heatmap, from the least chance to the best; grey where too few merchants have
// charged. They differ in lightness too.
var (
	shades = ramp{color.NRGBA{0xe6, 0xec, 0xfa, 0xff}, color.NRGBA{0x8f, 0xab, 0xe6, 0xff}, color.NRGBA{0x1f, 0x3a, 0x8a, 0xff}}
	grey   = color.NRGBA{0xdc, 0xdc, 0xdc, 0xff}
)

// ramp goes through three colors, in sixteen steps.
type ramp [3]color.NRGBA

// colors are its steps.
func (r ramp) colors() (all []color.Color) {
	const steps = 16
	for i := range steps {
		at := 2 * float64(i) / (steps - 1)
		from, to := r[0], r[1]
		if at > 1 {
			from, to, at = r[1], r[2], at-1
		}
		mix := func(a, b uint8) uint8 { return uint8(math.Round(float64(a) + at*(float64(b)-float64(a)))) }
		all = append(all, color.NRGBA{mix(from.R, to.R), mix(from.G, to.G), mix(from.B, to.B), 0xff})
	}
	return all
}

// grid is a heatmap's values, row by row from the bottom; NaN where nothing is known.
type grid [][]float64

// heat draws a grid. The library's own heatmap can draw images too, and their codecs alone would
// make the binary larger than it may be.
type heat struct {
	grid
	least, best float64
}

// Plot implements the interface Plotter of package plot.
func (h heat) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	colors := shades.colors()
	for row, values := range h.grid {
		for column, value := range values {
			shade := color.Color(grey)
			if !math.IsNaN(value) {
				step := (value - h.least) / (h.best - h.least) * float64(len(colors))
				shade = colors[min(max(int(step), 0), len(colors)-1)]
			}
			left, right := x(float64(column)-.5), x(float64(column)+.5)
			low, high := y(float64(row)-.5), y(float64(row)+.5)
			c.FillPolygon(shade, []vg.Point{{X: left, Y: low}, {X: right, Y: low}, {X: right, Y: high}, {X: left, Y: high}})
		}
	}
}

// DataRange implements the interface DataRanger of package plot.
func (h heat) DataRange() (xmin, xmax, ymin, ymax float64) {
	return -.5, float64(len(h.grid[0])) - .5, -.5, float64(len(h.grid)) - .5
}

// bounds are the least and the best value that is known.
func (g grid) bounds() (least, best float64, known bool) {
	least, best = math.Inf(1), math.Inf(-1)
	for _, row := range g {
		for _, x := range row {
			if !math.IsNaN(x) {
				least, best, known = min(least, x), max(best, x), true
			}
		}
	}
	return least, best, known
}

func known(s model.Shade) float64 {
	if s.Known {
		return s.P
	}
	return math.NaN()
}

// weekdays from Monday, as a calendar shows them.
var weekdays = []time.Weekday{time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday, time.Saturday, time.Sunday}

// drawMoments draws what the oracle knows. Where it has no model there is nothing to draw.
func drawMoments(p *oracle.Picture) (*moments, error) {
	if p == nil {
		return nil, nil //nolint:nilnil // no picture, no error
	}
	hours := make(grid, len(weekdays))
	var names []string
	for row, weekday := range slices.Backward(weekdays) {
		at := len(weekdays) - 1 - row
		names = append(names, weekday.String()[:3])
		for _, s := range p.Hours[weekday] {
			hours[at] = append(hours[at], known(s))
		}
	}
	days := grid{nil}
	for _, s := range p.Days {
		days[0] = append(days[0], known(s))
	}
	m := &moments{Best: bestHours(p)}
	_, _, m.Shared = hours.bounds()
	var ticks plot.ConstantTicks
	for hour := 0; hour < 24; hour += 3 {
		ticks = append(ticks, plot.Tick{Value: float64(hour), Label: fmt.Sprintf("%02d:00", hour)})
	}
	var err error
	if m.Hours, err = heatChart("heatmap-hours", "When charges succeed, by weekday and hour", m.Best, hours, names, ticks, 8*rowHeight); err != nil {
		return nil, err
	}
	ticks = nil
	for day := 1; day <= 31; day += 5 {
		ticks = append(ticks, plot.Tick{Value: float64(day - 1), Label: fmt.Sprint(day)})
	}
	m.Days, err = heatChart("heatmap-days", "When charges succeed, by day of the month", bestDays(p), days, []string{"Day"}, ticks, 2*rowHeight)
	return m, err
}

// heatChart draws a grid whose rows have names, the first at the bottom.
func heatChart(id, title, description string, g grid, names []string, ticks plot.ConstantTicks, height vg.Length) (template.HTML, error) {
	p := plot.New()
	p.BackgroundColor = nil
	least, best, known := g.bounds()
	if !known {
		least, best = 0, 1
	}
	p.Add(heat{g, least, max(best, least+1e-6)})
	p.NominalY(names...)
	p.X.Tick.Marker = ticks
	p.X.Color, p.X.Tick.Color = light, light
	p.X.Tick.Label.Font, p.X.Tick.Label.Color = sans(false), ink
	p.Y.Tick.Label.Font, p.Y.Tick.Label.Color = sans(false), ink
	p.X.Padding, p.Y.Padding = 2, 6
	return drawn(p, height, id, title, description)
}

// bestHours says which hours are the best of those that are known.
func bestHours(p *oracle.Picture) string {
	type hour struct {
		weekday time.Weekday
		hour    int
		p       float64
	}
	var all []hour
	for _, weekday := range weekdays {
		for h, s := range p.Hours[weekday] {
			if s.Known {
				all = append(all, hour{weekday, h, s.P})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b hour) int { return cmp.Compare(b.p, a.p) })
	if len(all) == 0 {
		return "not known yet"
	}
	var words []string
	for _, h := range all[:min(len(all), 3)] {
		words = append(words, fmt.Sprintf("%s %02d:00 (%.1f %%)", h.weekday, h.hour, 100*h.p))
	}
	return strings.Join(words, ", ")
}

func bestDays(p *oracle.Picture) string {
	best, at := 0.0, 0
	for day, s := range p.Days {
		if s.Known && s.P > best {
			best, at = s.P, day+1
		}
	}
	if at == 0 {
		return "No day is known yet."
	}
	return fmt.Sprintf("The best day is %d (%.1f %%).", at, 100*best)
}
