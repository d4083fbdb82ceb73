// Command shield measures what an answer about access costs, beside a hello-world server of
// net/http in the same run; how soon another process sees a change; what a table takes; and what
// announcing costs commits. It ends with 1 if a bar is missed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
)

// bar is a figure with what it must be.
type bar struct {
	name   string
	got    float64
	least  bool // got must be no less than want, or else no more
	want   float64
	detail string
}

func (b bar) met() bool {
	if b.least {
		return b.got >= b.want
	}
	return b.got <= b.want
}

// size is how much is measured.
type size struct {
	rounds        int
	subscriptions int     // in the table that answers
	seconds       float64 // of each round of requests
	rate          int     // requests a second where latency is measured
	rows          int     // that are loaded from the database
	commits       int     // whose way to another process is measured
	large         []int   // tables whose memory is measured
}

// parts are what is measured.
var parts = []struct {
	name    string
	measure func(context.Context, size) ([]bar, error)
}{{"requests", requests}, {"peers", peers}, {"latency", latency}, {"memory", memory}, {"database", database}}

// tinySize shows that it runs, and nothing else.
var tinySize = size{rounds: 1, subscriptions: 1000, seconds: 0.2, rate: 500, rows: 2000, commits: 20, large: []int{20_000}}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		if err := serve(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "shield:", err)
			os.Exit(1)
		}
		return
	}
	tiny := flag.Bool("tiny", false, "everything once and small: to see that it runs")
	only := flag.String("only", "", "one part: requests, peers, latency, memory or database")
	flag.StringVar(&opaProgram, "opa", "", "OPA's program, to measure beside it")
	flag.StringVar(&openfgaProgram, "openfga", "", "OpenFGA's program, to measure beside it")
	flag.Parse()
	s := size{rounds: 7, subscriptions: 100_000, seconds: 2, rate: 4000, rows: 1_000_000, commits: 400, large: []int{1_000_000, 10_000_000}}
	if *tiny {
		s = tinySize
	}
	met := true
	for _, part := range parts {
		if *only != "" && *only != part.name {
			continue
		}
		bars, err := part.measure(context.Background(), s)
		if err != nil {
			fmt.Fprintf(os.Stderr, "shield: %s: %v\n", part.name, err)
			os.Exit(1)
		}
		if len(bars) == 0 {
			continue
		}
		fmt.Println("\n| figure | measured | bar | |\n| --- | --- | --- | --- |")
		for _, b := range bars {
			word, sign := "met", "at most"
			if b.least {
				sign = "at least"
			}
			if !b.met() {
				word, met = "**missed**", false
			}
			fmt.Printf("| %s | %.3g%s | %s %.3g | %s |\n", b.name, b.got, b.detail, sign, b.want, word)
		}
	}
	if !met && !*tiny { // so small, nothing is a figure
		os.Exit(1)
	}
}
