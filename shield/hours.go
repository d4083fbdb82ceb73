package shield

import (
	"slices"
	"time"
)

// Hours are the local times at which a level may be lowered, in the merchant's zone.
type Hours struct {
	Days []int  `json:"days"` // 1 is Monday, 7 is Sunday
	From string `json:"from"` // 09:00
	To   string `json:"to"`   // later on the same day; not within
}

// Next is the first moment from at on that is within the hours.
func (h Hours) Next(at time.Time, zone *time.Location) time.Time {
	for {
		local := at.In(zone)
		from, to := clock(local, h.From), clock(local, h.To)
		if slices.Contains(h.Days, weekday(local)) && at.Before(to) {
			if at.Before(from) {
				return from
			}
			return at
		}
		at = time.Date(local.Year(), local.Month(), local.Day()+1, 0, 0, 0, 0, zone)
	}
}

// clock is a time such as 09:00 on a day.
func clock(day time.Time, text string) time.Time {
	told, _ := time.Parse("15:04", text) // validated
	return time.Date(day.Year(), day.Month(), day.Day(), told.Hour(), told.Minute(), 0, 0, day.Location())
}

func weekday(day time.Time) int {
	if day.Weekday() == time.Sunday {
		return 7
	}
	return int(day.Weekday())
}
