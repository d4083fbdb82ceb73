package doctor

import (
	"context"
	"fmt"
	"strings"

	"phantom/db"
	"phantom/state"
)

// reasonsNamed is how many reasons are named for which messages did not leave.
const reasonsNamed = 3

// checkMessages says how many messages have left within a day, and why others have not. None that
// leaves looks like a quiet day, and may be a channel or a link that nobody can use.
func (d *Diagnosis) checkMessages(ctx context.Context, queries *db.Queries) error {
	rows, err := queries.DoctorMessages(ctx)
	if err != nil {
		return err
	}
	var sent, others, failed int64
	var said []string
	for _, row := range rows {
		switch row.State {
		case state.MessageSent:
			sent += row.Messages
			continue
		case state.MessageFailed:
			failed += row.Messages
		default:
		}
		others += row.Messages
		if len(said) < reasonsNamed {
			said = append(said, fmt.Sprintf("%d because %s", row.Messages, row.Why))
		}
	}
	detail := fmt.Sprintf("%d were sent within 24 hours", sent)
	if others > 0 {
		detail += fmt.Sprintf(", and %d were not: %s", others, strings.Join(said, "; "))
	}
	if failed > 0 || others > 0 && sent == 0 {
		d.add(Warn, "messages", detail, "GET /api/hunts/{id} has the history of each; phantom tasks list shows them")
		return nil
	}
	d.add(OK, "messages", detail, "")
	return nil
}
