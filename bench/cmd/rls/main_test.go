package main

import "testing"

// Figures of so little mean nothing. This says that the command still measures.
func TestTinyForm(t *testing.T) {
	if err := measure(t.Context(), 1, 1); err != nil {
		t.Fatal(err)
	}
}
