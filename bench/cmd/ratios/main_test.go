package main

import (
	"errors"
	"flag"
	"io"
	"testing"
)

// Figures of so little mean nothing. This says that the command still measures.
func TestTinyForm(t *testing.T) {
	if err := flag.Set("test.benchtime", "1x"); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), io.Discard, 5, "", true); err != nil && !errors.Is(err, errMissed) {
		t.Fatal(err)
	}
}
