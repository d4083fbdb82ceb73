package task

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/state"
)

// View is a task as it is shown to people and apps. Its params are not part of it. Times are in
// UTC.
type View struct {
	ID       uuid.UUID  `json:"id"`
	Kind     string     `json:"kind"`
	Status   state.Task `json:"status"`
	RunAt    time.Time  `json:"run_at"`
	Attempts int32      `json:"attempts"`
	// when its effect was first asked for outside
	FirstSentAt *time.Time      `json:"first_sent_at"`
	FinishedAt  *time.Time      `json:"finished_at"`
	Outcome     json.RawMessage `json:"outcome"`
	Error       *string         `json:"error"` // the last one
}

// Filter says which tasks a page holds. What is nil does not filter.
type Filter struct {
	Status, Kind *string
	Before       uuid.UUID // the last task of the page before; zero for the first page
	Limit        int       // tasks on a page
}

// Page is a part of a merchant's tasks, the newest first.
type Page struct {
	Tasks []View
	Next  uuid.UUID // Before for the page behind this one; zero when this is the last
}

// List returns a page of a merchant's tasks. Anyone who reads to the last page sees every task that
// was there at the first once, but for those whose status changes meanwhile where that is filtered.
func List(ctx context.Context, from db.DBTX, merchantID uuid.UUID, filter Filter) (Page, error) {
	rows, err := db.New(from).TaskReadPage(ctx, db.TaskReadPageParams{
		MerchantID: merchantID, Before: cmp.Or(filter.Before, uuid.Max), Status: filter.Status, Kind: filter.Kind, PageSize: int32(filter.Limit) + 1,
	})
	if err != nil {
		return Page{}, fmt.Errorf("list tasks: %w", err)
	}
	page := Page{Tasks: make([]View, 0, filter.Limit)}
	if len(rows) > filter.Limit { // the one too many says that there is more
		rows = rows[:filter.Limit]
		page.Next = rows[len(rows)-1].ID
	}
	for _, row := range rows {
		page.Tasks = append(page.Tasks, View{
			ID: row.ID, Kind: row.Kind, Status: row.Status, RunAt: row.RunAt, Attempts: row.Attempts,
			FirstSentAt: row.FirstSentAt, FinishedAt: row.FinishedAt, Outcome: row.Outcome, Error: row.LastError,
		}.UTC())
	}
	return page, nil
}

// UTC returns the view with its times in UTC.
func (v View) UTC() View {
	v.RunAt = v.RunAt.UTC()
	for _, at := range []**time.Time{&v.FirstSentAt, &v.FinishedAt} {
		if *at != nil {
			shown := (*at).UTC()
			*at = &shown
		}
	}
	return v
}
