package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"phantom/sandbox"
)

// The truth file lists the ghosts of every merchant before the sandbox says that it serves.
func TestSandboxWritesItsTruth(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "truth.json")
	process := start(t, nil, []string{"sandbox", "-addr", "127.0.0.1:0", "-seed", "7", "-charges", "3000", "-truth", path})
	process.awaitLine(t, "\n")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var ghosts []sandbox.Ghost
	if err := json.Unmarshal(text, &ghosts); err != nil {
		t.Fatal(err)
	}
	accounts, hidden := map[string]int{}, 0
	for _, g := range ghosts {
		accounts[g.Account]++
		if g.Hidden {
			hidden++
		}
		if g.Customer == "" || g.Subscription == "" || g.Currency == "" || g.Amount <= 0 || len(g.Invoices) == 0 || g.Why == "" {
			t.Errorf("%+v", g)
		}
	}
	if len(accounts) != 3 || hidden == 0 {
		t.Errorf("ghosts by merchant: %v, %d of them hidden", accounts, hidden)
	}
}
