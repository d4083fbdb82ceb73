package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"phantom/app"
	"phantom/money"
)

// view shows the demo while it runs: a few lines that are drawn anew, or a line now and then.
type view struct {
	d      *run
	out    io.Writer
	redraw bool
	lines  int // drawn last
	shown  time.Time
	days   int // that plain lines have told
	ended  bool
}

const minWidth = 76 // columns

func newView(d *run, out io.Writer) *view {
	v := &view{d: d, out: out, days: -1}
	if file, ok := out.(*os.File); ok && !d.Plain && app.IsTerminal(out) {
		width, _, err := term.GetSize(int(file.Fd()))
		v.redraw = err == nil && width >= minWidth
	}
	return v
}

// say tells what is going on before the days begin.
func (v *view) say(text string) {
	if v.redraw {
		v.draw([]string{text + " …"})
		return
	}
	fmt.Fprintln(v.out, text)
}

// show draws the last sample.
func (v *view) show() {
	d := v.d
	last := d.samples[len(d.samples)-1]
	code := d.currency()
	day := int(last.day)
	if !v.redraw {
		if day == v.days || day%5 != 0 && day != d.Days {
			return
		}
		v.days = day
		fmt.Fprintf(v.out, "day %2d  at risk %s, fixed schedule %s; recovered %s, fixed schedule %s\n", day,
			money.Format(last.ours.atRisk[code], code), money.Format(last.theirs.atRisk[code], code),
			money.Format(last.ours.recovered[code], code), money.Format(last.theirs.recovered[code], code))
		return
	}
	if time.Since(v.shown) < 80*time.Millisecond && day != d.Days {
		return
	}
	v.shown = time.Now()
	const column = "%-12s %18s %18s   %s"
	v.draw([]string{
		fmt.Sprintf("day %d of %d, %s  %s", day, d.Days, d.now.Format("Monday 2 January 2006"), meter(float64(day)/float64(d.Days), 16)),
		fmt.Sprintf(column, "", "PHANTOM", "fixed 1/3/5/7", ""),
		fmt.Sprintf(column, "at risk", money.Format(last.ours.atRisk[code], code), money.Format(last.theirs.atRisk[code], code),
			spark(d.samples, func(s sample) int64 { return s.ours.atRisk[code] })),
		fmt.Sprintf(column, "recovered", money.Format(last.ours.recovered[code], code), money.Format(last.theirs.recovered[code], code),
			spark(d.samples, func(s sample) int64 { return s.ours.recovered[code] })),
		fmt.Sprintf(column, "charges", money.Count(last.ours.charges), money.Count(last.theirs.charges), ""),
		fmt.Sprintf(column, "messages", money.Count(last.ours.messages), "none", ""),
	})
}

func (v *view) draw(lines []string) {
	var b strings.Builder
	if v.lines == 0 {
		b.WriteString("\x1b[?25l") // no cursor
	} else {
		fmt.Fprintf(&b, "\x1b[%dA", v.lines)
	}
	for _, line := range lines {
		b.WriteString("\r\x1b[2K" + line + "\n")
	}
	b.WriteString("\x1b[J")
	v.lines = len(lines)
	_, _ = io.WriteString(v.out, b.String())
}

// end gives the terminal back.
func (v *view) end() {
	if v.redraw && v.lines > 0 && !v.ended {
		_, _ = io.WriteString(v.out, "\x1b[?25h\n")
	}
	v.ended = true
}

func meter(part float64, width int) string {
	done := min(int(part*float64(width)), width)
	return strings.Repeat("█", done) + strings.Repeat("░", width-done)
}

// spark is a curve of 22 columns.
func spark(samples []sample, of func(sample) int64) string {
	const width, bars = 22, "▁▂▃▄▅▆▇█"
	most := int64(1)
	for _, s := range samples {
		most = max(most, of(s))
	}
	var b strings.Builder
	levels := []rune(bars)
	for i := range min(width, len(samples)) {
		s := samples[(i+1)*len(samples)/min(width, len(samples))-1]
		b.WriteRune(levels[of(s)*int64(len(levels)-1)/most])
	}
	return b.String()
}
