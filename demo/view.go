package demo

import (
	"fmt"
	"io"
	"os"
	"slices"
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

// show draws what all sides stand at on the day up to which each of them has come.
func (v *view) show() {
	d := v.d
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if slices.ContainsFunc(d.sides, func(s *side) bool { return len(s.samples) == 0 }) {
		return
	}
	reached := d.sides[0].samples[len(d.sides[0].samples)-1].day
	for _, s := range d.sides {
		reached = min(reached, s.samples[len(s.samples)-1].day)
	}
	day := int(reached)
	if v.redraw {
		if time.Since(v.shown) < 80*time.Millisecond && day != d.Days {
			return
		}
	} else if day == v.days || day%5 != 0 && day != d.Days {
		return
	}
	v.shown, v.days = time.Now(), day
	var then []sample
	for _, s := range d.sides {
		at := 0
		for at+1 < len(s.samples) && s.samples[at+1].day <= reached {
			at++
		}
		then = append(then, s.samples[at])
	}
	code := d.main
	if !v.redraw {
		line := fmt.Sprintf("day %2d  recovered:", day)
		for i, s := range d.sides {
			line += fmt.Sprintf(" %s %s,", s.Name, money.Format(then[i].recovered[code], code))
		}
		fmt.Fprintln(v.out, strings.TrimSuffix(line, ","))
		return
	}
	cells := func(name string, of func(i int) string) string {
		line := fmt.Sprintf("%-11s", name)
		for i := range d.sides {
			line += fmt.Sprintf(" %15s", of(i))
		}
		return line
	}
	v.draw([]string{
		fmt.Sprintf("day %d of %d, %s  %s", day, d.Days, d.start.AddDate(0, 0, day).Format("Monday 2 January 2006"), meter(reached/float64(d.Days), 16)),
		cells("", func(i int) string { return d.sides[i].Name }),
		cells("at risk", func(i int) string { return money.Format(then[i].atRisk[code], code) }),
		cells("recovered", func(i int) string { return money.Format(then[i].recovered[code], code) }),
		cells("all charges", func(i int) string { return money.Count(then[i].charges) }),
		cells("messages", func(i int) string { return money.Count(then[i].messages) }),
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
