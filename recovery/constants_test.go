package recovery

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"phantom/gate"
	"phantom/task"
)

// SQL and Go have one idea of how long Stripe knows a key and over how long attempts count.
func TestSQLHasTheSameConstants(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		pattern string
		want    []time.Duration // any of them
		least   int             // how often it stands there
	}{
		"how long a key is sent": {`first_sent_at <?>?=? ?clock_timestamp\(\) - interval '([^']+)'`, []time.Duration{task.KeyDeadline}, 4},
		"over how long a card's attempts count": {
			`(?:reached AND c\.at|a\.sent_at) > phantom_now\(\) - interval '([^']+)'`, []time.Duration{gate.BudgetDays * oneADay, oneADay}, 6,
		},
		"over how long an audit counts them": {`c\.created_at > phantom_now\(\) - interval '([^']+)'`, []time.Duration{gate.BudgetDays * oneADay}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shape, found := regexp.MustCompile(test.pattern), 0
			files, err := filepath.Glob("../sql/queries/*.sql")
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				for _, match := range shape.FindAllStringSubmatch(string(text), -1) {
					found++
					if !containsInterval(test.want, match[1]) {
						t.Errorf("%s: %s, and Go knows %s", filepath.Base(file), match[0], test.want)
					}
				}
			}
			if found < test.least {
				t.Errorf("it is found %d times, and was %d times: has the SQL changed its form?", found, test.least)
			}
		})
	}
}

// containsInterval says whether one of these durations is an interval of hours or days.
func containsInterval(durations []time.Duration, interval string) bool {
	parts := regexp.MustCompile(`^(\d+) (hours|days)$`).FindStringSubmatch(interval)
	if parts == nil {
		return false
	}
	number, err := strconv.Atoi(parts[1])
	unit := time.Hour
	if parts[2] == "days" {
		unit = 24 * time.Hour
	}
	for _, d := range durations {
		if err == nil && d == time.Duration(number)*unit {
			return true
		}
	}
	return false
}
