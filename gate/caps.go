package gate

import (
	"time"

	"phantom/db"
)

const day = 24 * time.Hour

// caps are how often one person may be written to, over all hunts of a merchant. The query
// MessageListSent looks back as far as the longest.
var caps = []struct {
	most       int
	within     time.Duration
	oneChannel bool // counts the messages of the same channel alone
}{
	{1, day, true},
	{4, 7 * day, false},
	{12, 30 * day, false},
}

// AllowedAt is the first moment, now or later, at which the caps let a message through. sent is
// newest first.
func AllowedAt(sent []db.MessageListSentRow, channel string, now time.Time) time.Time {
	at := now
	for _, c := range caps {
		count := 0
		for _, s := range sent {
			if c.oneChannel && s.Channel != channel || !s.SentAt.After(now.Add(-c.within)) {
				continue
			}
			if count++; count == c.most {
				if free := s.SentAt.Add(c.within); free.After(at) {
					at = free
				}
				break
			}
		}
	}
	return at
}
