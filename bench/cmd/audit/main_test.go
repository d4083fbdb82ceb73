package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"
)

// A test's binary is also the processes that the command starts.
func TestMain(m *testing.M) {
	flag.Parse()
	if *role == "" {
		os.Exit(m.Run())
	}
	if err := roles[*role](context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "audit:", err)
		os.Exit(1)
	}
}

// Figures of so little mean nothing. This says that the command still measures.
func TestTinyForm(t *testing.T) {
	*charges, *limited, *small, *large, *rounds = 200, 200, 200, 2000, 1
	if err := run(t.Context()); err != nil && !errors.Is(err, errMissed) {
		t.Fatal(err)
	}
}
