package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The real binary from an audit to a charge that the oracle has planned: cells, a model, a hunt,
// and why. What it takes weeks to earn is given to it here: TestAGoodOracleGoesOnAndStays and its
// neighbours in package oracle simulate how it is earned and lost.
func TestAcceptanceOfTheOracle(t *testing.T) {
	t.Parallel()
	s := newShielded(t)
	exec := func(statement string) {
		t.Helper()
		if _, err := s.pool.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	text := func(query string) (text string) {
		t.Helper()
		if err := s.pool.QueryRow(t.Context(), query).Scan(&text); err != nil {
			t.Fatal(err)
		}
		return text
	}
	if said := s.run("oracle", "status"); !strings.Contains(said, "in shadow") || !strings.Contains(said, "no charge that it has spoken about is settled yet") {
		t.Errorf("before anything the status says %s", said)
	}
	if said := s.run("oracle", "rebuild", "--mode", "test"); !strings.Contains(said, "of 1 merchants and ") {
		t.Fatalf("rebuild says %s", said)
	}
	if n := text("SELECT count(*)::text FROM ghost_memories"); n == "0" {
		t.Error("the audit remembers nobody")
	}
	// Its why is the operator's: it holds figures of everybody.
	exec(`INSERT INTO oracle_states (livemode, state, since, why, looks, fortnights, compared_at, falls, checked_at, charges, log_loss, base_log_loss, calibration_error)
		VALUES (false, 'on', now(), 'a test says so', 0, 0, now(), 0, now(), 0, 0, 0, 0)`)
	s.call(http.MethodPut, s.at+"/api/playbook", `{"mode":"recover","take_over":false,"holdout_percent":0,"steps":[]}`, http.StatusOK)
	s.call(http.MethodPost, s.at+"/api/hunts", `{"ghosts":"all"}`, http.StatusAccepted)
	const chosen = `SELECT count(*)::text FROM oracle_advice o JOIN attempts a USING (merchant_id, task_id)
		WHERE o.arm = 'oracle' AND a.planned_for = o.chosen_for AND a.probability = o.propensity AND o.model > 0`
	for began := time.Now(); text(chosen) == "0"; time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > 2*time.Minute {
			t.Fatalf("no charge is planned by the oracle; attempts: %s", text("SELECT coalesce(string_agg(reason, '; '), 'none') FROM attempts"))
		}
	}
	hunt := text("SELECT a.hunt_id::text FROM oracle_advice o JOIN attempts a USING (merchant_id, task_id) WHERE o.arm = 'oracle' AND a.result IS NULL LIMIT 1")
	said := s.run("oracle", "explain", hunt)
	for _, want := range []string{"Hunt " + hunt, "; the oracle is on", "Charge 1, for ", "because: ", "chosen by the oracle\n", "the oracle (model ", " foretold ", "A charge is planned for ", " confidence)", "By the fixed rules:", "by model "} {
		if !strings.Contains(said, want) {
			t.Errorf("explain lacks %q: %s", want, said)
		}
	}
	advice := s.call(http.MethodGet, s.at+"/api/hunts/"+hunt+"/advice", "", http.StatusOK)
	if advice["state"] != "on" || advice["model"] == nil || advice["planned"] == nil || advice["next"] == nil {
		t.Errorf("advice: %v", advice)
	}
	story := s.call(http.MethodGet, s.at+"/api/hunts/"+hunt, "", http.StatusOK)
	attempts, _ := story["attempts"].([]any)
	if last, _ := attempts[len(attempts)-1].(map[string]any); last["advice"] == nil {
		t.Errorf("an attempt says nothing of the oracle: %v", last)
	}
	if state := s.call(http.MethodGet, s.at+"/api/oracle", "", http.StatusOK); state["state"] != "on" || state["why"] != "it has shown that it predicts well" {
		t.Errorf("the oracle's state: %v", state)
	}
	report := filepath.Join(t.TempDir(), "report.html")
	s.run("report", "--merchant", s.account, "-o", report)
	if page, err := os.ReadFile(report); err != nil || !strings.Contains(string(page), "heatmap-hours") {
		t.Errorf("the report has no heatmap: %v", err)
	}
}
