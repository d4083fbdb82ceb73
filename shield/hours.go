package shield

import (
	"slices"
	"time"

	"phantom/zone"
)

// Hours are the local times at which a debt may lower a level, in the merchant's zone.
type Hours struct {
	Days []int  `json:"days"` // 1 is Monday, 7 is Sunday
	From string `json:"from"` // 09:00
	To   string `json:"to"`   // later on the same day, up to 24:00; not within
}

// Next is the first moment from at on that is within the hours. It goes by what clocks on walls
// show, also where they are changed.
func (h Hours) Next(at time.Time, where *time.Location) time.Time {
	for range mostChanges {
		local := at.In(where)
		clock := local.Format("15:04")
		day := slices.Contains(h.Days, weekday(local))
		if day && h.From <= clock && clock < h.To {
			return at
		}
		open := "00:00" // of the next day
		if day && clock < h.From {
			open = h.From
		}
		at = zone.Toward(local, open)
	}
	return at // of hours that open on no day: a validated policy has none
}

// mostChanges bounds the search. It goes from opening to midnight to change of clocks, and finds
// hours that open once a week within a few.
const mostChanges = 2000

func weekday(day time.Time) int {
	if day.Weekday() == time.Sunday {
		return 7
	}
	return int(day.Weekday())
}
