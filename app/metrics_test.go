package app

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/state"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

// Without an answer of the database nothing is claimed of the queue; and scrapers do not multiply
// the questions.
func TestMetricsOfTheQueue(t *testing.T) {
	t.Parallel()
	i := newInstruments(dbtest.Ring(t))
	text := func(url string) map[string]float64 {
		t.Helper()
		pool, err := db.OpenWithoutKeyring(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		var b strings.Builder
		i.write(t.Context(), &b, pool)
		samples := map[string]float64{}
		for line := range strings.Lines(b.String()) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			if number, err := strconv.ParseFloat(value, 64); err == nil && !strings.HasPrefix(name, "#") {
				samples[name] = number
			}
		}
		return samples
	}
	nowhere := "postgres://u:p@127.0.0.1:1/x"
	got := text(nowhere)
	// What is not of the queue is this process's own.
	if up, said := got["phantom_database_up"]; up != 0 || !said || len(got) != 16 {
		t.Errorf("no database: %v", got)
	}
	url := dbtest.URL(t)
	pool := dbtest.Open(t, url, dbtest.Ring(t))
	if _, err := pool.Exec(t.Context(), `INSERT INTO merchants (id, stripe_user_id, scope, livemode, disconnected_at)
		VALUES (gen_random_uuid(), 'acct_1', 'read_write', false, now())`); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `INSERT INTO scheduled_tasks (merchant_id, id, kind, status, run_at, finished_at)
		SELECT id, gen_random_uuid(), 'audit', s, now() - interval '1 minute', CASE s WHEN 'succeeded' THEN now() END
		FROM merchants, unnest(ARRAY['pending', 'pending', 'parked', 'succeeded']) s`); err != nil {
		t.Fatal(err)
	}
	if got := text(url); got["phantom_database_up"] != 0 {
		t.Errorf("asked again at once: %v", got)
	}
	i.queue.at = time.Now().Add(-scrapeFresh)
	got = text(url)
	if got["phantom_database_up"] != 1 || got[`phantom_tasks{kind="audit",status="pending"}`] != 2 || got[`phantom_tasks{kind="audit",status="parked"}`] != 1 ||
		got["phantom_task_lag_seconds"] < 60 || got["phantom_task_lag_seconds"] > 120 || len(got) != 33 {
		t.Errorf("%d: %v", len(got), got)
	}
	if got := text(nowhere); got["phantom_database_up"] != 1 {
		t.Errorf("asked again at once: %v", got)
	}
}

// What a hook costs beside the 50 µs and more that a task costs the database.
func BenchmarkTaskRan(b *testing.B) {
	ring, err := dbtest.NewRing()
	if err != nil {
		b.Fatal(err)
	}
	i := newInstruments(ring)
	b.RunParallel(func(next *testing.PB) {
		for next.Next() {
			i.taskRan("refresh", state.TaskSucceeded, time.Millisecond)
		}
	})
}
