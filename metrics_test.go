package main

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"phantom/db/dbtest"
)

// scrape reads the metrics as Prometheus does, and holds them against its rules: a type for each
// family, once, before its samples.
func scrape(t *testing.T, text string) map[string]float64 {
	t.Helper()
	samples, types := map[string]float64{}, map[string]bool{}
	shape := regexp.MustCompile(`^([a-z_]+)(\{[a-z]+="[^"{},]*"(?:,[a-z]+="[^"{},]*")*\})? (\S+)$`)
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if fields := strings.Fields(line); strings.HasPrefix(line, "# TYPE ") {
			if types[fields[2]] {
				t.Errorf("the type of %s stands twice", fields[2])
			}
			types[fields[2]] = true
			continue
		} else if strings.HasPrefix(line, "#") {
			continue
		}
		match := shape.FindStringSubmatch(line)
		if match == nil {
			t.Errorf("malformed: %q", line)
			continue
		}
		value, err := strconv.ParseFloat(match[3], 64)
		if _, twice := samples[match[1]+match[2]]; err != nil || twice || !types[match[1]] {
			t.Errorf("%q: %v, twice %v, type known %v", line, err, twice, types[match[1]])
		}
		samples[match[1]+match[2]] = value
	}
	return samples
}

// The metrics of a server that has audited an account say so; nothing else is served beside them.
func TestMetrics(t *testing.T) {
	t.Parallel()
	url := dbtest.EmptyURL(t)
	variables := production(t, url)
	variables["METRICS_ADDR"] = "127.0.0.1:" + freePort(t)
	server, base := ready(t, variables)
	handshake(t, base)
	pool := dbtest.Open(t, url, dbtest.Ring(t))
	if _, err := pool.Exec(t.Context(), `INSERT INTO scheduled_tasks (merchant_id, id, kind, status) SELECT id, gen_random_uuid(), 'invoice_pay', 'needs_review' FROM merchants`); err != nil {
		t.Fatal(err)
	}
	server.awaitLine(t, "[WORKER] audit ends")
	at := "http://" + variables["METRICS_ADDR"]
	var got map[string]float64
	for end := time.Now().Add(time.Minute); got[`phantom_task_runs_total{kind="audit",status="succeeded"}`] == 0; time.Sleep(50 * time.Millisecond) {
		status, text, err := get(browser(t), at+"/metrics")
		if err != nil || status != http.StatusOK || time.Now().After(end) {
			t.Fatalf("%d, %v\n%s", status, err, text)
		}
		got = scrape(t, text)
	}
	for name, least := range map[string]float64{
		"phantom_database_up": 1, `phantom_tasks{kind="invoice_pay",status="needs_review"}`: 1,
		`phantom_task_run_seconds_count{kind="audit"}`: 1, `phantom_task_run_seconds_sum{kind="audit"}`: 0.001,
		`phantom_stripe_requests_total{class="2xx"}`: 5, "phantom_stripe_request_seconds_count": 5, "phantom_stripe_request_seconds_sum": 0.0001,
		"phantom_rate_limit_wait_seconds_total": 0.0001, "phantom_vault_seals_total": 3, "phantom_vault_opens_total": 3,
	} {
		if got[name] < least {
			t.Errorf("%s is %g, want %g at least", name, got[name], least)
		}
	}
	if _, ok := got["phantom_task_lag_seconds"]; !ok {
		t.Error("no lag")
	}
	for _, path := range []string{"/", "/metrics/", "/debug/pprof/", "/healthz"} {
		if status, _, err := get(browser(t), at+path); err != nil || status != http.StatusNotFound {
			t.Errorf("%s: %d, %v", path, status, err)
		}
	}
	if status, _, _ := get(browser(t), base+"/metrics"); status != http.StatusNotFound {
		t.Errorf("the public port has metrics: %d", status)
	}
	response, err := browser(t).Post(at+"/metrics", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST gets %d", response.StatusCode)
	}
}
