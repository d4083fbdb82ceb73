package main

import (
	"fmt"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "serve" { // a server of the tests
		if err := serve(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// Everything that make bench-shield measures runs, small. No figure is held against a bar.
func TestEveryPartRuns(t *testing.T) {
	for _, part := range parts {
		bars, err := part.measure(t.Context(), tinySize)
		if err != nil {
			t.Errorf("%s: %v", part.name, err)
		}
		for _, b := range bars {
			if b.got <= 0 {
				t.Errorf("%s: %v", b.name, b.got)
			}
		}
	}
}
