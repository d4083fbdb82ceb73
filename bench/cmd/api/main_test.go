package main

import "testing"

// Figures of so little mean nothing. This says that the command still measures.
func TestTinyForm(t *testing.T) {
	if _, err := measure(t.Context(), 2000, 2, "", true); err != nil {
		t.Fatal(err)
	}
}
