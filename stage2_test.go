package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"phantom/db/dbtest"
)

// The whole of stage 2 with the real binary: a merchant connects, the audit begins by itself in
// another process than the server's, their key opens the API, the command attaches and prints, the
// report is written.
func TestAcceptanceOfTheGhostHunter(t *testing.T) {
	t.Parallel()
	url := dbtest.EmptyURL(t)
	env := production(t, url)
	env["WORKERS"], env["STRIPE_RATE_LIMIT"] = "0", "0"
	_, base := ready(t, env)
	handshake(t, base)
	pool := dbtest.Open(t, url, dbtest.Ring(t))
	var account string
	if err := pool.QueryRow(t.Context(), "SELECT stripe_user_id FROM merchants").Scan(&account); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		p := start(t, env, args)
		if code := p.wait(t); code != 0 {
			t.Fatalf("phantom %v: exit code %d\n%s%s", args, code, p.stdout, p.stderr)
		}
		return p.stdout.String()
	}
	key := strings.TrimSuffix(run("apikey", "create", "--merchant", account), "\n")
	call := func(path string, into any) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+key)
		response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", path, response.Status)
		}
		if err := json.NewDecoder(response.Body).Decode(into); err != nil {
			t.Fatal(err)
		}
	}

	// The server works on nothing, so the command does, on the audit that the handshake began.
	var audit struct {
		ID, State string
		Progress  struct{ Objects int }
		Totals    map[string]struct{ Owed, Ghosts int }
	}
	if err := json.Unmarshal([]byte(run("audit", "--merchant", account, "--json")), &audit); err != nil || audit.State != "succeeded" ||
		audit.Progress.Objects < 1000 || len(audit.Totals) == 0 {
		t.Fatalf("%+v, %v", audit, err)
	}
	var audits int
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM audits").Scan(&audits); err != nil || audits != 1 {
		t.Errorf("%d audits, %v: the command did not attach", audits, err)
	}
	var summary struct {
		Currencies map[string]struct{ Owed, Ghosts int }
	}
	call("/api/summary", &summary)
	for currency, totals := range audit.Totals {
		if summary.Currencies[currency] != totals {
			t.Errorf("%s: the summary says %+v, the audit %+v", currency, summary.Currencies[currency], totals)
		}
	}
	var page struct {
		Data []struct{ ID, Email string }
	}
	call("/api/ghosts?limit=200", &page)
	if len(page.Data) == 0 || page.Data[0].Email == "" {
		t.Fatalf("%+v", page)
	}

	report := filepath.Join(t.TempDir(), "report.html")
	run("report", "--merchant", account, "-o", report)
	text, err := os.ReadFile(report)
	if err != nil || !strings.Contains(string(text), "<svg") {
		t.Errorf("the report is %d bytes, %v", len(text), err)
	}
	named := 0
	for _, ghost := range page.Data {
		if strings.Contains(string(text), ghost.Email) {
			named++
		}
	}
	if named < 20 {
		t.Errorf("the report names %d of %d ghosts, it promises the largest 20", named, len(page.Data))
	}

	// What the oracle learns from is there, and it learns at once when it is told to.
	if said := run("oracle", "rebuild", "--mode", "test"); !strings.Contains(said, "of 1 merchants and ") || strings.Contains(said, " and 0 charges") {
		t.Errorf("the oracle learns from nothing: %s", said)
	}
	if said := run("oracle", "status"); !strings.Contains(said, "test: learned from ") || !strings.Contains(said, "fewer than 6 merchants share nothing") {
		t.Errorf("the oracle's status: %s", said)
	}

	// A second process takes its part in the work.
	worker := start(t, with(env, "WORKERS", "2"), []string{"work"})
	worker.awaitLine(t, "[WORKER] ready")
	if _, err := pool.Exec(t.Context(), "DELETE FROM ghost_targets"); err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/api/audits", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	if err != nil || response.StatusCode != http.StatusAccepted {
		t.Fatalf("%v, %v", response, err)
	}
	response.Body.Close()
	worker.awaitLine(t, "[WORKER] audit ends")
	var again struct{ Data []struct{ ID string } }
	call("/api/ghosts?limit=200", &again)
	if len(again.Data) != len(page.Data) {
		t.Errorf("%d ghosts, before %d", len(again.Data), len(page.Data))
	}
	worker.signal(t, syscall.SIGTERM)
	if code := worker.wait(t); code != 0 {
		t.Errorf("phantom work ended with %d\n%s", code, worker.stdout)
	}
}

// with is an environment with one variable changed.
func with(env map[string]string, name, value string) map[string]string {
	env = maps.Clone(env)
	env[name] = value
	return env
}
