package main

import (
	"testing"
	"time"
)

// Figures of so little mean nothing. This says that the command still measures.
func TestTinyForm(t *testing.T) {
	if err := run(t.Context(), 1, 20, time.Millisecond); err != nil {
		t.Fatal(err)
	}
}
