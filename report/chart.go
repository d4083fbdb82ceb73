package report

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// bar is one line of a chart.
type bar struct {
	label string
	value float64
	says  string // written behind the bar
	shade color.Color
}

// The shades differ in lightness too, so that they do in print without colour.
var (
	ink    = color.NRGBA{0x17, 0x1c, 0x2b, 0xff}
	dark   = color.NRGBA{0x1f, 0x3a, 0x8a, 0xff}
	middle = color.NRGBA{0x5f, 0x83, 0xd6, 0xff}
	light  = color.NRGBA{0xb9, 0xc6, 0xe4, 0xff}
	track  = color.NRGBA{0xf0, 0xf2, 0xf7, 0xff}
)

// The chart's own units; the page scales it to its width.
const (
	chartWidth = 540 // points
	rowHeight  = 23
	barHeight  = 14
	textSize   = 10.5
)

// barChart draws lying bars, the first on top, on one scale from 0. Bars without a value stay as
// empty tracks. id names it on the page; title and description are for who cannot see it.
func barChart(id, title, description string, bars []bar) (template.HTML, error) {
	most, n := 0.0, len(bars)
	for _, b := range bars {
		most = max(most, b.value)
	}
	if most == 0 {
		most = 1
	}
	p := plot.New()
	p.BackgroundColor = nil
	p.HideX()
	p.X.Padding = 0
	p.Y.Padding = 8 // between names and bars
	names := make([]string, n)
	says := plotter.XYLabels{XYs: make(plotter.XYs, n), Labels: make([]string, n)}
	empty := make(plotter.Values, n)
	for i, b := range bars {
		row := n - 1 - i // the axis counts from below
		names[row], says.Labels[row], empty[row] = b.label, b.says, most
		says.XYs[row] = plotter.XY{X: most, Y: float64(row)}
	}
	p.NominalY(names...)
	p.Y.Tick.Label.Font = sans(false)
	p.Y.Tick.Label.Color = ink
	p.Y.Tick.Label.YAlign = text.YCenter
	if err := addBars(p, empty, track); err != nil {
		return "", err
	}
	for i, b := range bars { // each in its own shade
		values := make(plotter.Values, n)
		values[n-1-i] = b.value
		if b.value > 0 {
			if err := addBars(p, values, b.shade); err != nil {
				return "", err
			}
		}
	}
	labels, err := plotter.NewLabels(says)
	if err != nil {
		return "", err
	}
	for i := range labels.TextStyle {
		labels.TextStyle[i] = text.Style{Font: sans(true), Color: ink, XAlign: text.XLeft, YAlign: text.YCenter, Handler: plot.DefaultTextHandler}
	}
	labels.Offset = vg.Point{X: 8, Y: 2} // the axis sets its names this much higher
	p.Add(labels)
	p.X.Min, p.X.Max = 0, most
	p.Y.Min, p.Y.Max = -0.5, float64(n)-0.5
	return drawn(p, vg.Length(n*rowHeight), id, title, description)
}

// intervalChart draws a value and the interval around it on an axis that has 0.
func intervalChart(id, title, description string, low, value, high float64, says string) (template.HTML, error) {
	p := plot.New()
	p.BackgroundColor = nil
	p.HideY()
	p.Y.Min, p.Y.Max, p.X.Padding = -1, 1, 4
	least, most := min(low, 0), max(high, 0)
	room := (most - least) / 12
	p.X.Min, p.X.Max = least-room, most+room
	p.X.Color, p.X.Tick.Color = light, light
	p.X.Tick.Label.Font, p.X.Tick.Label.Color = sans(false), ink
	p.X.Tick.Marker = plot.TickerFunc(func(least, most float64) []plot.Tick {
		var ticks []plot.Tick
		for _, t := range (plot.DefaultTicks{}).Ticks(least, most) {
			if t.Label != "" { // no minor ones
				ticks = append(ticks, plot.Tick{Value: t.Value, Label: points(t.Value / 100)})
			}
		}
		return ticks
	})
	for _, l := range []struct {
		from, to plotter.XY
		width    vg.Length
		shade    color.Color
	}{
		{plotter.XY{X: 0, Y: -1}, plotter.XY{X: 0, Y: 1}, 1.2, ink},
		{plotter.XY{X: low, Y: 0}, plotter.XY{X: high, Y: 0}, 5, middle},
	} {
		line, err := plotter.NewLine(plotter.XYs{l.from, l.to})
		if err != nil {
			return "", err
		}
		line.Width, line.Color = l.width, l.shade
		p.Add(line)
	}
	dot, err := plotter.NewScatter(plotter.XYs{{X: value, Y: 0}})
	if err != nil {
		return "", err
	}
	dot.GlyphStyle = draw.GlyphStyle{Color: dark, Radius: 6, Shape: draw.CircleGlyph{}}
	label, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: value, Y: 0}}, Labels: []string{says}})
	if err != nil {
		return "", err
	}
	label.TextStyle[0] = text.Style{Font: sans(true), Color: ink, XAlign: text.XCenter, YAlign: text.YBottom, Handler: plot.DefaultTextHandler}
	label.Offset = vg.Point{Y: 10}
	p.Add(dot, label)
	return drawn(p, 3*rowHeight, id, title, description)
}

// drawn is a chart as a part of the page.
func drawn(p *plot.Plot, height vg.Length, id, title, description string) (template.HTML, error) {
	canvas := vgsvg.New(chartWidth, height)
	p.Draw(draw.New(canvas))
	var drawing bytes.Buffer
	if _, err := canvas.WriteTo(&drawing); err != nil {
		return "", err
	}
	picture, err := inline(&drawing, id, title, description)
	if err != nil {
		return "", fmt.Errorf("draw chart %s: %w", id, err)
	}
	return picture, nil
}

func addBars(p *plot.Plot, values plotter.Values, shade color.Color) error {
	bars, err := plotter.NewBarChart(values, barHeight)
	if err != nil {
		return err
	}
	bars.Horizontal, bars.Color, bars.LineStyle.Width = true, shade, 0
	p.Add(bars)
	return nil
}

// sans is the font by whose widths the chart is laid out. Its widths are those of Arial and
// Helvetica, which the page asks for.
func sans(bold bool) font.Font {
	f := font.Font{Typeface: "Liberation", Variant: "Sans", Size: textSize}
	if bold {
		f.Weight = xfont.WeightBold
	}
	return f
}
