package ghost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/debt"
	"phantom/decline"
	"phantom/state"
	"phantom/trail"
)

// ErrNotFound is returned for an id that is unknown, and in the same way for one that is another
// merchant's.
var ErrNotFound = errors.New("not found")

// Ghost is one ghost as the API shows it. Amounts are in minor units of the currency, times in UTC.
type Ghost struct {
	ID            uuid.UUID     `json:"id"`
	Customer      string        `json:"customer"`     // cus_…
	Subscription  string        `json:"subscription"` // sub_…
	Invoice       string        `json:"invoice"`      // in_…, the oldest unpaid
	Kind          debt.Kind     `json:"kind"`
	Email         *string       `json:"email"`
	Amount        int64         `json:"amount"`
	Currency      string        `json:"currency"`
	Access        string        `json:"access"` // presumed or proven
	Status        state.Ghost   `json:"status"` // open or closed
	ClosedReason  *debt.Closing `json:"closed_reason"`
	Rule          string        `json:"rule"`
	DeclineClass  decline.Class `json:"decline_class"`
	DeclineCode   *string       `json:"decline_code"`
	AttemptCount  int32         `json:"attempt_count"`
	FirstFailedAt *time.Time    `json:"first_failed_at"`
	LastFailedAt  *time.Time    `json:"last_failed_at"`
	DiscoveredAt  time.Time     `json:"discovered_at"`
	Leaving       bool          `json:"leaving"`      // the subscription ends with its period
	Resubscribed  bool          `json:"resubscribed"` // a newer one to the same product is alive
}

// Filter says which ghosts a page holds. What is nil does not filter.
type Filter struct {
	Status, Currency, DeclineClass, Kind *string
	MinAmount                            *int64 // minor units
	// the last ghost of the page before; zero for the first page
	After uuid.UUID
	Limit int // ghosts on a page
}

// Page is a part of a merchant's ghosts in the order in which they were discovered.
type Page struct {
	Ghosts []Ghost
	Next   uuid.UUID // After for the page behind this one; zero when this is the last
}

const (
	// firstLook is how many ghosts are looked at in their order before an index is asked.
	firstLook = 1000
	// amountLook is how many entries of that index are looked at for a page's min_amount.
	amountLook = 10_000
)

// List returns a page of a merchant's ghosts. An app that reads to the last page sees every ghost
// once that was there at the first.
//
// A page by [Filter.MinAmount] may hold fewer than Limit although it is not the last: there is no
// more among those that one request looks at.
func (s *Service) List(ctx context.Context, merchantID uuid.UUID, filter Filter) (Page, error) {
	size := int32(filter.Limit) + 1 // the one too many says that there is more
	rows, err := s.queries.GhostReadPage(ctx, db.GhostReadPageParams{
		MerchantID: merchantID, After: filter.After, Status: filter.Status, Currency: filter.Currency,
		DeclineClass: filter.DeclineClass, Kind: filter.Kind, MinAmount: filter.MinAmount, PageSize: size, LookAt: firstLook,
	})
	if err != nil {
		return Page{}, fmt.Errorf("list ghosts: %w", err)
	}
	more := false
	if len(rows) < int(size) {
		more, err = s.queries.GhostMoreBehind(ctx, db.GhostMoreBehindParams{MerchantID: merchantID, After: filter.After, LookAt: firstLook})
		if err != nil {
			return Page{}, fmt.Errorf("list ghosts: %w", err)
		}
	}
	var seenTo uuid.UUID
	if more {
		if rows, seenTo, err = s.find(ctx, merchantID, filter, size); err != nil {
			return Page{}, fmt.Errorf("find ghosts: %w", err)
		}
	}
	page := Page{Ghosts: make([]Ghost, 0, filter.Limit), Next: seenTo}
	if len(rows) > filter.Limit {
		rows = rows[:filter.Limit]
		page.Next = rows[len(rows)-1].ID
	}
	for _, row := range rows {
		ghost, err := show(row)
		if err != nil {
			return Page{}, err
		}
		page.Ghosts = append(page.Ghosts, ghost)
	}
	return page, nil
}

// find reads a page by the index of filters. seenTo is the ghost up to which it has looked, zero
// where that is the last one.
func (s *Service) find(ctx context.Context, merchantID uuid.UUID, filter Filter, size int32) (rows []db.GhostTarget,
	seenTo uuid.UUID, err error) {
	p := db.GhostFindPageParams{
		MerchantID: merchantID, Kinds: db.Texts(debt.Kinds), Statuses: db.Texts(state.Ghosts), Classes: db.Texts(decline.Classes),
		Currency: filter.Currency, MinAmount: filter.MinAmount, After: filter.After, PageSize: size,
	}
	for _, only := range []struct {
		value *string
		of    *[]string
	}{{filter.Kind, &p.Kinds}, {filter.Status, &p.Statuses}, {filter.DeclineClass, &p.Classes}} {
		if only.value != nil {
			*only.of = []string{*only.value}
		}
	}
	if filter.MinAmount != nil {
		p.LookAt = amountLook
	}
	err = db.InSnapshot(ctx, s.pool, func(tx pgx.Tx) error {
		queries := s.queries.WithTx(tx)
		found, err := queries.GhostFindPage(ctx, p)
		if err != nil {
			return err
		}
		seenTo = found.SeenTo
		rows, err = queries.GhostReadMany(ctx, db.GhostReadManyParams{MerchantID: merchantID, Ids: found.Ids})
		return err
	})
	return rows, seenTo, err
}

// Get returns one ghost of a merchant, or [ErrNotFound].
func (s *Service) Get(ctx context.Context, merchantID, id uuid.UUID) (Ghost, error) {
	return one(s.queries.GhostRead(ctx, db.GhostReadParams{MerchantID: merchantID, ID: id}))
}

// SetAccess records what the merchant's app knows and returns the ghost. Without access it is
// closed and stays closed. With proven access an open ghost goes on as proven, and one that was
// closed for lack of access is looked at anew soon: it opens again if it still owes. An unknown id
// is [ErrNotFound].
func (s *Service) SetAccess(ctx context.Context, merchantID, id uuid.UUID, proven bool) (Ghost, error) {
	var row db.GhostTarget
	err := db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		before, err := queries.GhostAccessLock(ctx, db.GhostAccessLockParams{MerchantID: merchantID, ID: id})
		if err != nil {
			return err
		}
		if proven {
			row, err = queries.GhostAccessProven(ctx, db.GhostAccessProvenParams{MerchantID: merchantID, ID: id})
		} else {
			row, err = queries.GhostAccessNone(ctx, db.GhostAccessNoneParams{MerchantID: merchantID, ID: id})
		}
		if err != nil {
			return err
		}
		if err := recordAccess(ctx, tx, before, row); err != nil || proven {
			return err
		}
		return s.tellHunts(ctx, tx, merchantID, []uuid.UUID{id})
	})
	ghost, err := one(row, err)
	if !proven {
		return ghost, err
	}
	// Each time, not only when the reason has just changed: so anyone who got an error may ask
	// again.
	if err == nil && ghost.Status == state.GhostClosed {
		if err := s.RefreshLater(ctx, merchantID, ghost.Subscription); err != nil {
			return Ghost{}, fmt.Errorf("refresh ghost: %w", err)
		}
	}
	return ghost, err
}

// accessTold is what the log says of a ghost's access.
type accessTold struct {
	Access string        `json:"access"`
	Status state.Ghost   `json:"status"`
	Reason *debt.Closing `json:"closed_reason"`
}

// recordAccess leaves a row where something has changed: an app may say the same of a customer on
// each of their visits.
func recordAccess(ctx context.Context, tx pgx.Tx, was db.GhostAccessLockRow, is db.GhostTarget) error {
	before, after := accessTold{was.Access, was.Status, was.ClosedReason}, accessTold{is.Access, is.Status, is.ClosedReason}
	if reflect.DeepEqual(before, after) {
		return nil
	}
	return trail.Record(ctx, tx, trail.Change{
		Merchant: is.MerchantID, Action: "ghost.access", Object: is.ID.String(), Before: before, After: after,
	})
}

// one is the answer to a query for a single ghost.
func one(row db.GhostTarget, err error) (Ghost, error) {
	if errors.Is(err, pgx.ErrNoRows) {
		return Ghost{}, ErrNotFound
	}
	if err != nil {
		return Ghost{}, fmt.Errorf("read ghost: %w", err)
	}
	return show(row)
}

// show opens a row for the merchant it belongs to.
func show(row db.GhostTarget) (Ghost, error) {
	ghost := Ghost{
		ID: row.ID, Customer: row.StripeCustomerID, Subscription: row.StripeSubscriptionID, Invoice: row.StripeInvoiceID,
		Kind: row.Kind, Leaving: row.Leaving, Resubscribed: row.Resubscribed,
		Amount: row.Amount, Currency: row.Currency, Access: row.Access, Status: row.Status, ClosedReason: row.ClosedReason,
		Rule: row.Rule.Words(), DeclineClass: row.DeclineClass, DeclineCode: row.DeclineCode, AttemptCount: row.AttemptCount,
		FirstFailedAt: utc(row.FirstFailedAt), LastFailedAt: utc(row.LastFailedAt), DiscoveredAt: row.DiscoveredAt.UTC(),
	}
	if email := Email(row.ID, row.Email); email != "" {
		ghost.Email = &email
	}
	return ghost, nil
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	moved := t.UTC()
	return &moved
}

// Totals are the ghosts of one currency.
type Totals struct {
	Owed   int64 `json:"owed"` // minor units
	Ghosts int64 `json:"ghosts"`
	Hidden int64 `json:"hidden"` // of these, the ones whose latest invoice is paid
}

// Summary is what a merchant's open ghosts come to. Currencies are never added, nor kinds: all that
// is not named after another is of those who owe.
type Summary struct {
	Currencies     map[string]Totals `json:"currencies"`
	WrittenOff     map[string]Totals `json:"written_off"`     // by currency
	ChargedBack    map[string]Totals `json:"charged_back"`    // by currency
	DeclineClasses map[string]int64  `json:"decline_classes"` // ghosts by class, every class
	// ghosts by days since the first failure, or else the discovery
	Ages map[string]int64 `json:"ages"`
	// retries of hard declines that the latest finished audit counted
	WastedAttempts int64 `json:"wasted_attempts"`
	// whole days since each ghost's first failure, added up
	DaysGivenAway int64 `json:"days_given_away"`
}

// Summary is what a merchant's open ghosts come to at one moment. The database counts with each
// change, so that it takes the same time for any number of ghosts.
func (s *Service) Summary(ctx context.Context, merchantID uuid.UUID) (summary Summary, err error) {
	err = db.InSnapshot(ctx, s.pool, func(tx pgx.Tx) (err error) {
		summary, err = summarize(ctx, s.queries.WithTx(tx), merchantID)
		return err
	})
	return summary, err
}

// summarize reads a summary in the caller's snapshot.
func summarize(ctx context.Context, queries *db.Queries, merchantID uuid.UUID) (Summary, error) {
	totals, err := queries.GhostReadTotals(ctx, merchantID)
	if err != nil {
		return Summary{}, fmt.Errorf("read totals: %w", err)
	}
	ages, err := queries.GhostReadAges(ctx, merchantID)
	if err != nil {
		return Summary{}, fmt.Errorf("read ages: %w", err)
	}
	wasted, err := queries.AuditReadWasted(ctx, merchantID)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return Summary{}, fmt.Errorf("read wasted attempts: %w", err)
	}
	summary := Summary{
		Currencies: map[string]Totals{}, WrittenOff: map[string]Totals{}, ChargedBack: map[string]Totals{},
		DeclineClasses: map[string]int64{}, WastedAttempts: wasted, DaysGivenAway: ages.Days,
		Ages: map[string]int64{
			"0-7": ages.Under8, "8-30": ages.Under31 - ages.Under8, "31-90": ages.Under91 - ages.Under31,
			"91-365": ages.Under366 - ages.Under91, "over_365": ages.Ghosts - ages.Under366,
		},
	}
	for _, class := range db.Texts(decline.Classes) {
		summary.DeclineClasses[class] = 0
	}
	of := map[debt.Kind]map[string]Totals{
		debt.Owed: summary.Currencies, debt.WrittenOff: summary.WrittenOff, debt.ChargedBack: summary.ChargedBack,
	}
	for _, t := range totals {
		if currencies, is := of[debt.Kind(t.Part)]; is {
			currencies[t.Name] = Totals{Owed: t.Owed, Ghosts: t.Ghosts, Hidden: t.Hidden}
		} else {
			summary.DeclineClasses[t.Name] = t.Ghosts
		}
	}
	return summary, nil
}

// Progress is how far an audit has come. Windows grow in number while it runs, because a slow one
// is split.
type Progress struct {
	Objects     int64 `json:"objects"` // of Stripe's, read
	WindowsDone int64 `json:"windows_done"`
	Windows     int64 `json:"windows"`
}

// AuditReport is an audit as the API shows it.
type AuditReport struct {
	ID       uuid.UUID   `json:"id"`
	State    state.Audit `json:"state"` // running (queued too), succeeded or failed
	Progress Progress    `json:"progress"`
	// of those who owe, by currency; empty until it has ended
	Totals      map[string]Totals `json:"totals"`
	WrittenOff  map[string]Totals `json:"written_off"`  // as Totals, of that kind
	ChargedBack map[string]Totals `json:"charged_back"` // as Totals, of that kind
	Error       *string           `json:"error"`
}

// Audit returns one audit of a merchant, or [ErrNotFound].
func (s *Service) Audit(ctx context.Context, merchantID, id uuid.UUID) (AuditReport, error) {
	row, err := s.queries.AuditRead(ctx, db.AuditReadParams{MerchantID: merchantID, ID: id})
	if errors.Is(err, pgx.ErrNoRows) {
		return AuditReport{}, ErrNotFound
	}
	if err != nil {
		return AuditReport{}, fmt.Errorf("read audit: %w", err)
	}
	var found struct {
		Currencies  map[string]Totals `json:"currencies"`
		WrittenOff  map[string]Totals `json:"written_off"`
		ChargedBack map[string]Totals `json:"charged_back"`
	}
	if err := json.Unmarshal(row.Totals, &found); err != nil {
		return AuditReport{}, fmt.Errorf("read totals of audit %s: %w", row.ID, err)
	}
	for _, totals := range []*map[string]Totals{&found.Currencies, &found.WrittenOff, &found.ChargedBack} {
		if *totals == nil {
			*totals = map[string]Totals{}
		}
	}
	return AuditReport{
		ID: row.ID, State: row.State, Totals: found.Currencies, WrittenOff: found.WrittenOff, ChargedBack: found.ChargedBack,
		Error:    row.Error,
		Progress: Progress{Objects: row.Objects, WindowsDone: row.WindowsDone, Windows: row.Windows},
	}, nil
}
