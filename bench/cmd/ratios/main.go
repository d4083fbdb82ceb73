// Command ratios measures PHANTOM beside its peers and prints how many times as long it takes. It
// exits with 1 if a ratio misses its bar.
//
// The machine may be noisy: the two sides of a pair take turns in short loops, and the medians of
// all loops are compared.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/perf/benchmath"

	"phantom/bench"
)

func main() {
	testing.Init() // registers test.benchtime, which testing.Benchmark reads
	rounds := flag.Int("rounds", 25, "loops of each side, at least 5")
	loop := flag.Duration("loop", 100*time.Millisecond, "length of a loop")
	only := flag.String("only", "", "measure only the pairs whose name contains this")
	markdown := flag.Bool("md", false, "print Markdown")
	flag.Parse()

	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	err := errors.Join(flag.Set("test.benchtime", loop.String()), run(ctx, os.Stdout, max(*rounds, 5), *only, *markdown))
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "ratios:", err)
		os.Exit(1)
	}
}

var errMissed = errors.New("bars missed")

func run(ctx context.Context, out io.Writer, rounds int, only string, markdown bool) (err error) {
	pairs, err := bench.Vault()
	if err != nil {
		return err
	}
	database, closeAll, err := bench.Database(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll()) }()

	rows := [][]string{{"pair", "ours", "±", "peer", "±", "ratio", "bar", ""}}
	missed := 0
	for _, pair := range append(pairs, database...) {
		if !strings.Contains(pair.Name, only) {
			continue
		}
		ours, peer, err := measure(ctx, pair, rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", pair.Name, err)
		}
		ratio, verdict := ours.Center/peer.Center, "pass"
		if ratio > pair.Bar {
			verdict = "MISSED"
			missed++
		}
		rows = append(rows, []string{
			pair.Name, duration(ours.Center), ours.PctRangeString(), duration(peer.Center), peer.PctRangeString(),
			fmt.Sprintf("%.2f", ratio), fmt.Sprintf("≤ %.1f", pair.Bar), verdict,
		})
	}
	print(out, rows, markdown)
	fmt.Fprintf(out, "\nMedians of %d loops a side, which took turns; ± is the 95 %% confidence interval. %s, %s/%s, %d CPUs.\n",
		rounds, runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	if missed > 0 {
		return fmt.Errorf("%d of %d %w", missed, len(rows)-1, errMissed)
	}
	return nil
}

func measure(ctx context.Context, pair bench.Pair, rounds int) (ours, peer benchmath.Summary, err error) {
	var nanoseconds [2][]float64
	for round := range 2*rounds + 2 {
		if err := ctx.Err(); err != nil {
			return ours, peer, err
		}
		side := round % 2
		do := pair.Ours
		if side == 1 {
			do = pair.Peer
		}
		result := testing.Benchmark(func(b *testing.B) {
			for b.Loop() {
				if err = do(); err != nil {
					b.FailNow()
				}
			}
		})
		if err != nil {
			return ours, peer, err
		}
		if round >= 2 { // the first of each warms up
			nanoseconds[side] = append(nanoseconds[side], float64(result.T.Nanoseconds())/float64(result.N))
		}
	}
	summarize := func(values []float64) benchmath.Summary {
		return benchmath.AssumeNothing.Summary(benchmath.NewSample(values, &benchmath.DefaultThresholds), 0.95)
	}
	return summarize(nanoseconds[0]), summarize(nanoseconds[1]), nil
}

func duration(nanoseconds float64) string {
	if nanoseconds < 10_000 {
		return fmt.Sprintf("%.0f ns", nanoseconds)
	}
	return fmt.Sprintf("%.0f µs", nanoseconds/1_000)
}

func print(out io.Writer, rows [][]string, markdown bool) {
	if markdown {
		for i, row := range rows {
			fmt.Fprintf(out, "| %s |\n", strings.Join(row, " | "))
			if i == 0 {
				fmt.Fprintf(out, "|%s\n", strings.Repeat(" --- |", len(row)))
			}
		}
		return
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	_ = table.Flush()
}
