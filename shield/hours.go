package shield

import (
	"slices"
	"time"
)

// Hours are the local times at which a debt may lower a level, in the merchant's zone.
type Hours struct {
	Days []int  `json:"days"` // 1 is Monday, 7 is Sunday
	From string `json:"from"` // 09:00
	To   string `json:"to"`   // later on the same day; not within
}

// Next is the first moment from at on that is within the hours. It goes by what clocks on walls
// show, also where they are changed.
func (h Hours) Next(at time.Time, zone *time.Location) time.Time {
	for range mostChanges {
		local := at.In(zone)
		clock := local.Format("15:04")
		day := slices.Contains(h.Days, weekday(local))
		if day && h.From <= clock && clock < h.To {
			return at
		}
		// The clock runs evenly until it is changed. Then it may have passed the opening by, or be
		// before it once more.
		open := "00:00" // of the next day
		if day && clock < h.From {
			open = h.From
		}
		at = local.Truncate(time.Minute).Add(untilClock(local, open))
		if _, change := local.ZoneBounds(); !change.IsZero() && change.Before(at) {
			at = change
		}
	}
	return at // of hours that open on no day: a validated policy has none
}

// mostChanges bounds the search. It goes from opening to midnight to change of clocks, and finds
// hours that open once a week within a few.
const mostChanges = 2000

// untilClock is how long it takes until a clock that runs evenly shows a time: a minute at least, a
// day at most.
func untilClock(local time.Time, clock string) time.Duration {
	told, _ := time.Parse("15:04", clock) // validated
	left := (told.Hour()*60 + told.Minute() - local.Hour()*60 - local.Minute() + 24*60) % (24 * 60)
	if left == 0 {
		left = 24 * 60
	}
	return time.Duration(left) * time.Minute
}

func weekday(day time.Time) int {
	if day.Weekday() == time.Sunday {
		return 7
	}
	return int(day.Weekday())
}
