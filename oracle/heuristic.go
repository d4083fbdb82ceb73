package oracle

import (
	"context"
	"encoding/binary"
	"slices"
	"time"

	"phantom/decline"
)

// Heuristic is the advisor until statistics say better. What failed for lack of money is tried on
// the mornings after paydays (the first, the fifteenth, the last working day, Fridays), a bank's
// "within hours" two to eight hours later or, where one attempt a day holds it back, in the first
// hours that are allowed, anything else after two days, and a day more with each attempt, five at
// most. Among the nearest such moments one is drawn, nearer ones more often, so that what others
// would have brought can be learned.
//
// Every moment is by the customer's daylight. A bank tells its customer of a charge at once, and a
// fault of the night is mostly gone by the morning. Where the window ends before the next morning
// there is no charge: the moment then lies behind the window.
type Heuristic struct{}

// candidate is a moment that may be drawn, with its weight.
type candidate struct {
	at     time.Time
	reason string
	weight float64
}

// Next implements the interface Advisor of package forecast.
func (Heuristic) Next(_ context.Context, q Question) (Moment, error) {
	from := q.NotBefore
	var all []candidate
	switch q.Class {
	case decline.Soon:
		all = soon(q)
	case decline.Timed:
		all = paydays(from.In(q.Zone))
	default:
		base := q.LastFailed.AddDate(0, 0, min(max(q.Attempt, 1)+1, 5))
		if base.Before(from) {
			base = from
		}
		for i := range 3 {
			for _, hour := range []int{10, 15} {
				at := atHour(base.In(q.Zone).AddDate(0, 0, i), hour)
				all = append(all, candidate{at, "some days after the last refusal, by daylight", weights[i]})
			}
		}
	}
	all = slices.DeleteFunc(all, func(c candidate) bool { return c.at.Before(from) || c.at.Add(spread).After(q.NotAfter) })
	if len(all) == 0 {
		at := daylight(from, q.Zone, time.Minute)
		if at.Equal(from) {
			return Moment{At: at, Reason: "as soon as it is allowed", Probability: 1}, nil
		}
		if some := at.Add(minutes(q.Seed)); !some.After(q.NotAfter) {
			at = some
		}
		return Moment{At: at, Reason: "as soon as it is allowed by daylight", Probability: 1}, nil
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return a.at.Compare(b.at) })
	return draw(merge(all), q.Seed), nil
}

// weights of the nearest, the second and the third choice.
var weights = []float64{4, 2, 1}

// soon are moments within hours. Those of the night come in the first hours of the morning.
func soon(q Question) []candidate {
	var all []candidate
	for i, hours := range []int{2, 4, 8} {
		at, reason := q.LastFailed.Add(time.Duration(hours)*time.Hour), "the bank asked to be tried again within hours"
		if at.Before(q.NotBefore) {
			at, reason = q.NotBefore.Add(time.Duration(i)*time.Hour), "the bank asked to be tried again soon: in the first hours that are allowed"
		}
		if day := daylight(at, q.Zone, spread); !day.Equal(at) {
			at, reason = day.Add(time.Duration(i)*time.Hour), "the bank asked to be tried again soon: in the first hours of the morning"
		}
		all = append(all, candidate{at, reason, weights[i]})
	}
	return all
}

// Daylight is from seven in the morning until before nine in the evening.
const (
	dayBegins = 7
	dayEnds   = 21
)

// daylight is the first moment from at on that lies by daylight in a zone with so much of it left.
func daylight(at time.Time, zone *time.Location, left time.Duration) time.Time {
	local := at.In(zone)
	switch begins := atHour(local, dayBegins); {
	case local.Before(begins):
		return begins
	case local.Add(left).After(atHour(local, dayEnds)):
		return atHour(local.AddDate(0, 0, 1), dayBegins)
	}
	return at
}

// merge makes one candidate of those for one moment, as likely as they were together. They are in
// order of time.
func merge(all []candidate) []candidate {
	merged := all[:1:1]
	for _, c := range all[1:] {
		if last := &merged[len(merged)-1]; c.at.Equal(last.at) {
			last.weight += c.weight
			continue
		}
		merged = append(merged, c)
	}
	return merged
}

// paydays are the mornings of the next three days on which money comes in.
func paydays(from time.Time) []candidate {
	var all []candidate
	for day := from; len(all) < 6 && day.Before(from.AddDate(0, 0, 32)); day = day.AddDate(0, 0, 1) {
		reason := payday(day)
		if reason == "" || atHour(day, 9).Before(from) {
			continue
		}
		for _, hour := range []int{7, 9} {
			if at := atHour(day, hour); !at.Before(from) {
				all = append(all, candidate{at, reason, weights[min(len(all)/2, 2)]})
			}
		}
	}
	return all
}

// payday says why money comes in on a day, or "".
func payday(day time.Time) string {
	next := day.AddDate(0, 0, 1)
	for next.Weekday() == time.Saturday || next.Weekday() == time.Sunday {
		next = next.AddDate(0, 0, 1)
	}
	working := day.Weekday() != time.Saturday && day.Weekday() != time.Sunday
	switch {
	case day.Day() == 1:
		return "the first of the month, when rents and salaries move"
	case day.Day() == 15:
		return "the fifteenth, a common payday"
	case working && next.Month() != day.Month():
		return "the last working day of the month, a common payday"
	case day.Weekday() == time.Friday:
		return "a Friday, when weekly wages come in"
	}
	return ""
}

func atHour(day time.Time, hour int) time.Time {
	return time.Date(day.Year(), day.Month(), day.Day(), hour, 0, 0, 0, day.Location())
}

// spread is more than any moment is put off within its hour.
const spread = 50 * time.Minute

// draw picks by weight with the seed as the die, and spreads the moment over its hour, so that a
// bank does not see all at once.
func draw(all []candidate, seed []byte) Moment {
	die := float64(binary.BigEndian.Uint64(seed)>>11) / (1 << 53)
	total := 0.0
	for _, c := range all {
		total += c.weight
	}
	chosen := all[len(all)-1]
	for sum, i := 0.0, 0; i < len(all); i++ {
		if sum += all[i].weight / total; die < sum {
			chosen = all[i]
			break
		}
	}
	return Moment{At: chosen.at.Add(minutes(seed)), Reason: chosen.reason, Probability: chosen.weight / total}
}

// minutes are by how much a moment is put off within its hour: one at least. A charge that left in
// the very moment that was planned would leave it to milliseconds whether the same hour of the next
// day is a day later.
func minutes(seed []byte) time.Duration {
	return time.Minute + time.Duration(seed[len(seed)-1])*time.Minute%(spread-time.Minute)
}
