package gate

import (
	"testing"
	"time"

	"phantom/db"
	"phantom/playbook"
)

func TestAllowed(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ago := func(channel string, days ...float64) (rows []db.MessageListSentRow) {
		for _, d := range days {
			at := now.Add(-time.Duration(d * float64(day)))
			rows = append(rows, db.MessageListSentRow{Channel: channel, SentAt: &at})
		}
		return rows
	}
	for _, test := range []struct {
		name string
		sent []db.MessageListSentRow
		days float64 // until the next email
	}{
		{"nothing yet", nil, 0},
		{"one an hour ago", ago(playbook.Email, 1.0/24), 23.0 / 24},
		{"one a day ago", ago(playbook.Email, 1), 0},
		{"an SMS just now", ago(playbook.SMS, 0), 0},
		{"four in the week", ago(playbook.SMS, 1, 2, 3, 6.5), 0.5},
		{"four in the week and one today", ago(playbook.Email, 0.5, 2, 3, 6.5), 0.5},
		{"three in the week", ago(playbook.Email, 2, 3, 6.5, 7), 0},
		{"twelve in the month", ago(playbook.Email, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 29), 1},
		{"twelve in 31 days", ago(playbook.Email, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 30), 0},
	} {
		if got := AllowedAt(test.sent, playbook.Email, now).Sub(now).Hours() / 24; got < test.days-1e-6 || got > test.days+1e-6 {
			t.Errorf("%s: in %v days, want %v", test.name, got, test.days)
		}
	}
}
