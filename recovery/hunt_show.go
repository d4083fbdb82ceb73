package recovery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/decline"
	"phantom/figures"
	"phantom/state"
)

// Figures reads a merchant's figures, all of one moment.
func (s *Service) Figures(ctx context.Context, merchantID uuid.UUID) (figures.Figures, error) {
	var f figures.Figures
	err := db.InSnapshot(ctx, s.pool, func(tx pgx.Tx) (err error) {
		f, err = figures.Read(ctx, db.New(tx), merchantID)
		return err
	})
	return f, err
}

// Hunt is a hunt as its merchant reads it. Its JSON is part of the HTTP API.
type Hunt struct {
	ID              uuid.UUID     `json:"id"`
	Ghost           uuid.UUID     `json:"ghost"`
	Mode            state.Mode    `json:"mode"`
	HeldOut         bool          `json:"held_out"`
	State           state.Hunt    `json:"state"`
	EndedReason     *string       `json:"ended_reason"`
	DeclineClass    decline.Class `json:"decline_class"` // when it began
	Currency        string        `json:"currency"`
	Amount          int64         `json:"amount"`   // minor units, when it began
	Charges         int32         `json:"charges"`  // that reached the bank
	Messages        int32         `json:"messages"` // sent
	ChargesOver     *string       `json:"charges_over"`
	BeganAt         time.Time     `json:"began_at"`
	EndedAt         *time.Time    `json:"ended_at"`
	PlaybookVersion int32         `json:"playbook_version"`
}

// HuntStory is a hunt with all that happened in it.
type HuntStory struct {
	Hunt
	Attempts   []HuntAttempt  `json:"attempts"`
	Recoveries []HuntRecovery `json:"recoveries"`
	History    []HuntNote     `json:"history"`
}

// HuntAttempt is a change at Stripe that was planned.
type HuntAttempt struct {
	Action       string         `json:"action"`
	Number       int32          `json:"number"` // of the attempts at this action on this object
	Amount       int64          `json:"amount"`
	Currency     string         `json:"currency"`
	PlannedFor   time.Time      `json:"planned_for"`
	SentAt       *time.Time     `json:"sent_at"`
	Result       *state.Attempt `json:"result"` // null while it is under way
	DeclineClass *decline.Class `json:"decline_class"`
	DeclineCode  *string        `json:"decline_code"`
	Reason       string         `json:"reason"`
	Probability  float64        `json:"probability"`
	Task         uuid.UUID      `json:"task"`
	Advice       *Said          `json:"advice"` // null where the oracle was not asked
}

// HuntRecovery is an invoice that was paid.
type HuntRecovery struct {
	Amount      int64     `json:"amount"`
	Currency    string    `json:"currency"`
	Cause       string    `json:"cause"`
	RecoveredAt time.Time `json:"recovered_at"`
}

// HuntNote is a line of a hunt's history.
type HuntNote struct {
	At   time.Time  `json:"at"`
	Note string     `json:"note"`
	Task *uuid.UUID `json:"task"`
}

// HuntFilter narrows [Service.Hunts].
type HuntFilter struct {
	State  *string
	Ghost  *uuid.UUID // nil: of any
	Before uuid.UUID  // the last hunt of the page before; zero for the first page
	Limit  int        // hunts on a page
}

// HuntPage is a part of a merchant's hunts, the newest first.
type HuntPage struct {
	Hunts []Hunt
	Next  uuid.UUID // Before for the page behind this one; zero when this is the last
}

// Hunts returns a page of a merchant's hunts.
func (s *Service) Hunts(ctx context.Context, merchantID uuid.UUID, filter HuntFilter) (HuntPage, error) {
	params := db.HuntListParams{MerchantID: merchantID, State: filter.State, Most: int32(filter.Limit) + 1}
	if filter.Before != uuid.Nil {
		params.Before = &filter.Before
	}
	var rows []db.Hunt
	var err error
	if filter.Ghost != nil {
		rows, err = s.queries.HuntListOfGhost(ctx, db.HuntListOfGhostParams{
			MerchantID: merchantID, GhostID: *filter.Ghost, Before: params.Before, State: params.State, Most: params.Most,
		})
	} else {
		rows, err = s.queries.HuntList(ctx, params)
	}
	if err != nil {
		return HuntPage{}, fmt.Errorf("list hunts: %w", err)
	}
	page := HuntPage{Hunts: make([]Hunt, 0, filter.Limit)}
	if len(rows) > filter.Limit { // the one too many says that there is more
		rows = rows[:filter.Limit]
		page.Next = rows[len(rows)-1].ID
	}
	for _, row := range rows {
		page.Hunts = append(page.Hunts, show(row))
	}
	return page, nil
}

func show(h db.Hunt) Hunt {
	return Hunt{
		ID: h.ID, Ghost: h.GhostID, Mode: h.Mode, HeldOut: h.HeldOut, State: h.State, EndedReason: h.EndedReason, DeclineClass: h.DeclineClass,
		Currency: h.Currency, Amount: h.Amount, Charges: h.Charges, Messages: h.Messages, ChargesOver: h.ChargesOver,
		BeganAt: h.BeganAt.UTC(), EndedAt: inUTC(h.EndedAt), PlaybookVersion: h.PlaybookVersion,
	}
}

func inUTC(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	utc := t.UTC()
	return &utc
}

// Hunt returns a hunt with its history, all of one moment, or [ErrNotFound].
func (s *Service) Hunt(ctx context.Context, merchantID, huntID uuid.UUID) (story HuntStory, err error) {
	err = db.InSnapshot(ctx, s.pool, func(tx pgx.Tx) error {
		story, err = readStory(ctx, db.New(tx), merchantID, huntID)
		return err
	})
	return story, err
}

func readStory(ctx context.Context, queries *db.Queries, merchantID, huntID uuid.UUID) (HuntStory, error) {
	hunt, err := queries.HuntGet(ctx, db.HuntGetParams{MerchantID: merchantID, ID: huntID})
	if errors.Is(err, pgx.ErrNoRows) {
		return HuntStory{}, ErrNotFound
	}
	if err != nil {
		return HuntStory{}, fmt.Errorf("read hunt: %w", err)
	}
	story := HuntStory{Hunt: show(hunt), Attempts: []HuntAttempt{}, Recoveries: []HuntRecovery{}, History: []HuntNote{}}
	attempts, err := queries.AttemptListOfHunt(ctx, db.AttemptListOfHuntParams{MerchantID: merchantID, HuntID: huntID})
	if err != nil {
		return HuntStory{}, fmt.Errorf("list attempts: %w", err)
	}
	rows, err := queries.OracleAdviceListOfHunt(ctx, db.OracleAdviceListOfHuntParams{MerchantID: merchantID, HuntID: huntID})
	if err != nil {
		return HuntStory{}, fmt.Errorf("list what the oracle said: %w", err)
	}
	advice := make(map[uuid.UUID]*Said)
	for _, row := range rows {
		advice[row.TaskID] = saidOf(row)
	}
	for _, a := range attempts {
		story.Attempts = append(story.Attempts, HuntAttempt{
			Action: a.Action, Number: a.Number, Amount: a.Amount, Currency: a.Currency, PlannedFor: a.PlannedFor.UTC(), SentAt: inUTC(a.SentAt),
			Result: a.Result, DeclineClass: a.DeclineClass, DeclineCode: a.DeclineCode, Reason: a.Reason, Probability: a.Probability, Task: a.TaskID, Advice: advice[a.TaskID],
		})
	}
	recoveries, err := queries.RecoveryListOfHunt(ctx, db.RecoveryListOfHuntParams{MerchantID: merchantID, HuntID: huntID})
	if err != nil {
		return HuntStory{}, fmt.Errorf("list recoveries: %w", err)
	}
	for _, r := range recoveries {
		story.Recoveries = append(story.Recoveries, HuntRecovery{r.Amount, r.Currency, r.Cause, r.RecoveredAt.UTC()})
	}
	notes, err := queries.HuntNoteList(ctx, db.HuntNoteListParams{MerchantID: merchantID, HuntID: huntID})
	if err != nil {
		return HuntStory{}, fmt.Errorf("list notes: %w", err)
	}
	for _, n := range notes {
		story.History = append(story.History, HuntNote{n.NotedAt.UTC(), n.Note, n.TaskID})
	}
	return story, nil
}
