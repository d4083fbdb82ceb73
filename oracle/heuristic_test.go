package oracle

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"phantom/decline"
)

// seedNumber is an even die.
func seedNumber(i int) []byte {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
	return sum[:]
}

// A moment lies within what was asked for and by the customer's daylight, or is the first one by
// daylight that is allowed and says so; the same question has the same answer; and over many seeds
// each moment comes as often as its probability says, all of them together once.
func TestHeuristic(t *testing.T) {
	t.Parallel()
	zones := []*time.Location{time.UTC}
	for _, name := range []string{"Europe/Berlin", "America/Los_Angeles", "Asia/Kolkata", "Pacific/Auckland"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		zones = append(zones, zone)
	}
	const seeds = 400
	starts := []time.Time{
		time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC), time.Date(2026, 12, 31, 23, 59, 0, 0, time.UTC), time.Date(2026, 10, 24, 22, 30, 0, 0, time.UTC),
		time.Date(2027, 2, 26, 8, 59, 59, 0, time.UTC), time.Date(2026, 3, 28, 23, 0, 0, 0, time.UTC),
		time.Date(2026, 3, 29, 19, 0, 0, 0, time.UTC), time.Date(2026, 11, 1, 9, 30, 0, 0, time.UTC), time.Date(2028, 2, 29, 22, 1, 0, 0, time.UTC),
		time.Date(2026, 11, 28, 5, 15, 0, 0, time.UTC), time.Date(2026, 11, 28, 18, 45, 0, 0, time.UTC),
	}
	for _, class := range []decline.Class{decline.Timed, decline.Low, decline.Soon, decline.Unknown} {
		for _, code := range []string{"", "24", "27", "30"} {
			for i, start := range starts {
				for j, room := range []time.Duration{0, time.Hour, 9 * time.Hour, 3 * 24 * time.Hour, 30 * 24 * time.Hour} {
					q := Question{Class: class, Code: code, LastFailed: start.Add(-24 * time.Hour), NotBefore: start, NotAfter: start.Add(room), Zone: zones[(i+j)%len(zones)]}
					if i%2 == 1 {
						// an advisor's question need not come with our day between charges
						q.LastFailed = start.Add(-time.Hour)
					}
					t.Run(fmt.Sprintf("%s %s %s %s", class, code, start.Format(time.DateTime), room), func(t *testing.T) { checkHeuristic(t, q, seeds) })
				}
			}
		}
	}
}

func checkHeuristic(t *testing.T, q Question, seeds int) {
	t.Helper()
	probability, drawn := map[string]float64{}, map[string]int{}
	for i := range seeds {
		q.Seed = seedNumber(i)
		m, err := Heuristic{}.Next(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := (Heuristic{}).Next(t.Context(), q); again != m {
			t.Fatalf("%+v, then %+v", m, again)
		}
		if m.Probability <= 0 || m.Probability > 1 || m.Reason == "" {
			t.Fatalf("%+v", m)
		}
		if m.At.Before(q.NotBefore) {
			t.Fatalf("%s is before %s", m.At, q.NotBefore)
		}
		atOnce := strings.HasPrefix(m.Reason, "as soon as it is allowed")
		if m.At.After(q.NotAfter) && !atOnce {
			t.Fatalf("%s is after %s: %s", m.At, q.NotAfter, m.Reason)
		}
		if hour := m.At.In(q.Zone).Hour(); hour < 7 || hour >= 21 {
			t.Fatalf("%s is at night for the customer: %s", m.At.In(q.Zone), m.Reason)
		}
		// The minutes within the hour are no choice of their own.
		put := minutes(q.Seed)
		if atOnce && m.At.Equal(daylight(q.NotBefore, q.Zone, time.Minute)) {
			put = 0
		}
		choice := m.At.Add(-put).UTC().Format(time.RFC3339)
		if p, ok := probability[choice]; ok && math.Abs(p-m.Probability) > 1e-9 {
			t.Fatalf("%s has probability %v and %v", choice, p, m.Probability)
		}
		probability[choice] = m.Probability
		drawn[choice]++
	}
	sum := 0.0
	for choice, p := range probability {
		sum += p
		if share := float64(drawn[choice]) / float64(seeds); math.Abs(share-p) > 4*math.Sqrt(p*(1-p)/float64(seeds))+1e-9 {
			t.Errorf("%s: probability %.3f, drawn %.3f", choice, p, share)
		}
	}
	if math.Abs(sum-1) > 1e-9 {
		t.Errorf("the probabilities of all %d draws add up to %v: %v", len(probability), sum, probability)
	}
}

// Where the window leaves nothing but the night there is no charge: the morning lies behind it,
// which ends the hunt's charges.
func TestHeuristicChargesNobodyAtNight(t *testing.T) {
	t.Parallel()
	night := time.Date(2026, 11, 28, 23, 30, 0, 0, time.UTC)
	morning := time.Date(2026, 11, 29, 7, 0, 0, 0, time.UTC)
	for _, class := range []decline.Class{decline.Timed, decline.Low, decline.Soon, decline.Unknown} {
		q := Question{Class: class, LastFailed: night.Add(-24 * time.Hour), NotBefore: night, NotAfter: night.Add(2 * time.Hour), Zone: time.UTC, Seed: seedNumber(1)}
		m, err := Heuristic{}.Next(t.Context(), q)
		if err != nil || !m.At.Equal(morning) || m.Probability != 1 || m.Reason != "as soon as it is allowed by daylight" {
			t.Errorf("%s: %+v, %v", class, m, err)
		}
		q.NotAfter = morning
		if again, err := (Heuristic{}).Next(t.Context(), q); err != nil || again != m {
			t.Errorf("%s, with the morning in the window: %+v, %v", class, again, err)
		}
		q.NotAfter = morning.Add(spread)
		if m, err = (Heuristic{}).Next(t.Context(), q); err != nil || m.At.Sub(morning) < time.Minute || m.At.After(q.NotAfter) {
			t.Errorf("%s, with an hour of the morning in the window: %+v, %v", class, m, err)
		}
	}
}
