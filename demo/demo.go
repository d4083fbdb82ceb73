// Package demo lives through some days of a made-up merchant in four worlds that are alike: PHANTOM
// brings the money back in two of them, with the oracle and with its fixed rules, a fixed schedule
// of charges in the third, and Stripe alone in the last.
package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/lmittmann/tint"
	"golang.org/x/sync/errgroup"

	"phantom/report"
)

// Options say which demo to run.
type Options struct {
	Customers, Days int
	Others          int // merchants besides, from whom the oracle learns
	Seed            uint64
	Path            string // of the page
	Plain           bool   // lines instead of a live view
}

// Run shows PHANTOM on a generated merchant: everything runs for real, and only Stripe, Resend,
// Twilio and the time are stand-ins. It writes the page and, to stdout, how the days pass and what
// they come to.
func Run(ctx context.Context, o Options, stdout, stderr io.Writer) error {
	var log tailLog
	d := newRun(o, slog.New(tint.NewTextHandler(&log, &tint.Options{Level: slog.LevelWarn, TimeFormat: time.TimeOnly, NoColor: true})))
	err := d.play(ctx, stdout)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("[SERVER] the demo was stopped (%w): nothing of it is left", context.Cause(ctx))
	case err != nil:
		_, _ = stderr.Write(log.tail())
	}
	return err
}

// tailLog keeps the last warnings, for the case that the demo fails: lines would tear the live
// view.
type tailLog struct {
	mutex sync.Mutex
	text  []byte
}

func (l *tailLog) Write(p []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.text = append(l.text, p...)
	l.text = l.text[max(0, len(l.text)-4000):]
	return len(p), nil
}

func (l *tailLog) tail() []byte {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return bytes.Clone(l.text)
}

// run is one demo.
type run struct {
	Options
	log   *slog.Logger
	start time.Time // by the worlds' clocks: the same full hour
	sides []*side

	mutex  sync.Mutex // guards the sides' samples, main and stops
	main   string     // the currency of most debts at the start: the one that is drawn
	stops  []func()   // in the order of their starts
	result result
}

// schedule is the fixed schedule: so many days after the first failure.
var schedule = []int{1, 3, 5, 7}

func newRun(o Options, log *slog.Logger) *run {
	d := &run{Options: o, log: log, start: time.Now().UTC().Truncate(time.Hour)}
	d.sides = []*side{
		{run: d, Name: "oracle", Long: "PHANTOM with the oracle", phantom: &phantom{}, learns: true, others: o.Others},
		{run: d, Name: "fixed rules", Long: "PHANTOM with fixed rules", phantom: &phantom{}},
		{run: d, Name: "1/3/5/7 days", Long: "a fixed schedule", schedule: schedule},
		{run: d, Name: "Stripe alone", Long: "Stripe alone", emails: true},
	}
	return d
}

func (d *run) play(ctx context.Context, stdout io.Writer) (err error) {
	began := time.Now()
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // memory for time
	defer d.stop()
	view := newView(d, stdout)
	defer view.end()
	view.say("starting two private PostgreSQLs, four sandboxes and two servers")
	if err := d.each(ctx, (*side).open); err != nil {
		return err
	}
	view.say("connecting the merchant, and others from whom the oracle learns, and reading their history")
	if err := d.each(ctx, (*side).connect); err != nil {
		return err
	}
	if err := d.each(ctx, func(s *side, ctx context.Context) error { return s.live(ctx, view.show) }); err != nil {
		return err
	}
	if err := d.conclude(ctx, time.Since(began)); err != nil {
		return err
	}
	view.end()
	d.result.print(stdout)
	page, err := d.result.page()
	if err != nil {
		return fmt.Errorf("[SERVER] cannot draw the page: %w", err)
	}
	if err := report.WriteFile(d.Path, page); err != nil {
		return fmt.Errorf("[SERVER] cannot write the page: %w", err)
	}
	_, err = fmt.Fprintf(stdout, "\n%s has the curves\n", d.Path)
	return err
}

// each does something with all sides at once. None of them knows of the others; where one fails the
// others end.
func (d *run) each(ctx context.Context, do func(*side, context.Context) error) error {
	var group errgroup.Group
	ctx, end := context.WithCancelCause(ctx)
	d.onStop(func() { end(nil) }) // what is opened lives as long as ctx
	for _, s := range d.sides {
		group.Go(func() error {
			err := do(s, ctx)
			if err != nil {
				end(err)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return context.Cause(ctx) // the first, of which the others are consequences
	}
	return nil
}

func (d *run) onStop(stop func()) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.stops = append(d.stops, stop)
}

// stop ends what was started, the last first.
func (d *run) stop() {
	for {
		d.mutex.Lock()
		last := len(d.stops) - 1
		if last < 0 {
			d.mutex.Unlock()
			return
		}
		stop := d.stops[last]
		d.stops = d.stops[:last]
		d.mutex.Unlock()
		stop()
	}
}
