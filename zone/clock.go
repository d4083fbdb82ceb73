package zone

import (
	"regexp"
	"time"
)

var clockShape = regexp.MustCompile(`^([01][0-9]|2[0-3]):[0-5][0-9]$`)

// IsClock says whether a text is a time that a clock on a wall shows, from 00:00 to 23:59.
func IsClock(text string) bool { return clockShape.MatchString(text) }

// Toward is the moment at which a clock that runs evenly from at on next shows a time such as
// 09:00. It is later than at, and a day later at most. The clock is that of at's zone. Where it is
// changed before, the moment of that is returned instead: by then it may have passed the time by,
// or be before it once more.
func Toward(at time.Time, clock string) time.Time {
	told, _ := time.Parse("15:04", clock) // see IsClock
	left := (told.Hour()*60 + told.Minute() - at.Hour()*60 - at.Minute() + 24*60) % (24 * 60)
	if left == 0 {
		left = 24 * 60
	}
	next := at.Truncate(time.Minute).Add(time.Duration(left) * time.Minute)
	if _, change := at.ZoneBounds(); !change.IsZero() && change.Before(next) {
		return change
	}
	return next
}
