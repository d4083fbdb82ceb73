package ghost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
)

// ErrNotFound is returned for an id that is unknown, and in the same way for one that is another merchant's.
var ErrNotFound = errors.New("not found")

// Ghost is one ghost as the API shows it. Amounts are in minor units of the currency, times in UTC.
type Ghost struct {
	ID            uuid.UUID  `json:"id"`
	Customer      string     `json:"customer"`     // cus_…
	Subscription  string     `json:"subscription"` // sub_…
	Invoice       string     `json:"invoice"`      // in_…, the oldest unpaid
	Kind          string     `json:"kind"`         // one of Kinds
	Email         *string    `json:"email"`
	Amount        int64      `json:"amount"`
	Currency      string     `json:"currency"`
	Access        string     `json:"access"` // presumed or proven
	Status        string     `json:"status"` // open or closed
	ClosedReason  *string    `json:"closed_reason"`
	Rule          string     `json:"rule"`
	DeclineClass  string     `json:"decline_class"`
	DeclineCode   *string    `json:"decline_code"`
	AttemptCount  int32      `json:"attempt_count"`
	FirstFailedAt *time.Time `json:"first_failed_at"`
	LastFailedAt  *time.Time `json:"last_failed_at"`
	DiscoveredAt  time.Time  `json:"discovered_at"`
	Leaving       bool       `json:"leaving"`      // the subscription ends with its period
	Resubscribed  bool       `json:"resubscribed"` // a newer one to the same product is alive
}

// Filter says which ghosts a page holds. What is nil does not filter.
type Filter struct {
	Status, Currency, DeclineClass, Kind *string
	MinAmount                            *int64    // minor units
	After                                uuid.UUID // the last ghost of the page before; zero for the first page
	Limit                                int       // ghosts on a page
}

// Page is a part of a merchant's ghosts in the order in which they were discovered.
type Page struct {
	Ghosts []Ghost
	Next   uuid.UUID // After for the page behind this one; zero when this is the last
}

// List returns a page of a merchant's ghosts. Whoever reads to the last page sees every ghost that was there at the first once,
// whatever was discovered meanwhile.
func (s *Service) List(ctx context.Context, merchantID uuid.UUID, filter Filter) (Page, error) {
	rows, err := s.queries.GhostReadPage(ctx, db.GhostReadPageParams{
		MerchantID: merchantID, After: filter.After, Status: filter.Status, Currency: filter.Currency,
		DeclineClass: filter.DeclineClass, Kind: filter.Kind, MinAmount: filter.MinAmount, PageSize: int32(filter.Limit) + 1,
	})
	if err != nil {
		return Page{}, fmt.Errorf("list ghosts: %w", err)
	}
	page := Page{Ghosts: make([]Ghost, 0, filter.Limit)}
	if len(rows) > filter.Limit { // the one too many says that there is more
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

// Get returns one ghost of a merchant, or [ErrNotFound].
func (s *Service) Get(ctx context.Context, merchantID, id uuid.UUID) (Ghost, error) {
	return one(s.queries.GhostRead(ctx, db.GhostReadParams{MerchantID: merchantID, ID: id}))
}

// SetAccess records what the merchant's app knows and returns the ghost. Without access it is closed and stays closed. With proven
// access an open ghost goes on as proven, and one that was closed for lack of access is looked at anew soon: it opens again if it
// still owes. An unknown id is [ErrNotFound].
func (s *Service) SetAccess(ctx context.Context, merchantID, id uuid.UUID, proven bool) (Ghost, error) {
	if !proven {
		var row db.GhostTarget
		err := db.InTx(ctx, s.pool, func(tx pgx.Tx) (err error) {
			if row, err = db.New(tx).GhostAccessNone(ctx, db.GhostAccessNoneParams{MerchantID: merchantID, ID: id}); err != nil {
				return err
			}
			return s.tellHunts(ctx, tx, merchantID, []uuid.UUID{id})
		})
		return one(row, err)
	}
	ghost, err := one(s.queries.GhostAccessProven(ctx, db.GhostAccessProvenParams{MerchantID: merchantID, ID: id}))
	// Each time, not only when the reason has just changed: so whoever got an error may ask again.
	if err == nil && ghost.Status == "closed" {
		if err := s.RefreshLater(ctx, merchantID, ghost.Subscription); err != nil {
			return Ghost{}, fmt.Errorf("refresh ghost: %w", err)
		}
	}
	return ghost, err
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
		Rule: row.Rule, DeclineClass: row.DeclineClass, DeclineCode: row.DeclineCode, AttemptCount: row.AttemptCount,
		FirstFailedAt: utc(row.FirstFailedAt), LastFailedAt: utc(row.LastFailedAt), DiscoveredAt: row.DiscoveredAt.UTC(),
	}
	if row.Email != nil {
		email := Email(row.ID, row.Email)
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
	Ages           map[string]int64  `json:"ages"`            // ghosts by days since the first failure, or else the discovery
	WastedAttempts int64             `json:"wasted_attempts"` // retries of hard declines that the latest finished audit counted
	DaysGivenAway  int64             `json:"days_given_away"` // whole days since each ghost's first failure, added up
}

var (
	// DeclineClasses are the ways a payment can have failed.
	DeclineClasses = []string{"never", "customer", "timed", "low", "soon", "unknown"}
	// ageBuckets are the keys of Summary.Ages with the last whole day of each.
	ageBuckets = []struct {
		name string
		last int32
	}{{"0-7", 7}, {"8-30", 30}, {"31-90", 90}, {"91-365", 365}, {"over_365", math.MaxInt32}}
)

// Summary adds up a merchant's open ghosts, as they are at one moment.
func (s *Service) Summary(ctx context.Context, merchantID uuid.UUID) (Summary, error) {
	summary := Summary{
		Currencies: map[string]Totals{}, WrittenOff: map[string]Totals{}, ChargedBack: map[string]Totals{},
		DeclineClasses: map[string]int64{}, Ages: map[string]int64{},
	}
	for _, class := range DeclineClasses {
		summary.DeclineClasses[class] = 0
	}
	for _, bucket := range ageBuckets {
		summary.Ages[bucket.name] = 0
	}
	var groups []db.GhostReadSummaryRow
	err := db.InSnapshot(ctx, s.pool, func(tx pgx.Tx) (err error) {
		queries := s.queries.WithTx(tx)
		if groups, err = queries.GhostReadSummary(ctx, merchantID); err != nil {
			return err
		}
		summary.WastedAttempts, err = queries.AuditReadWasted(ctx, merchantID)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return Summary{}, fmt.Errorf("summarize ghosts: %w", err)
	}
	of := map[string]map[string]Totals{Owed: summary.Currencies, WrittenOff: summary.WrittenOff, ChargedBack: summary.ChargedBack}
	for _, group := range groups {
		totals := of[group.Kind][group.Currency]
		totals.Owed += group.Owed
		totals.Ghosts += group.Ghosts
		totals.Hidden += group.Hidden
		of[group.Kind][group.Currency] = totals
		if group.Kind != Owed {
			continue
		}
		summary.DeclineClasses[group.DeclineClass] += group.Ghosts
		summary.Ages[ageBucket(group.Age)] += group.Ghosts
		summary.DaysGivenAway += int64(max(group.Age, 0)) * group.Failed
	}
	return summary, nil
}

func ageBucket(days int32) string {
	for _, bucket := range ageBuckets {
		if days <= bucket.last {
			return bucket.name
		}
	}
	return "" // the last bucket has no end
}

// Progress is how far an audit has come. Windows grow in number while it runs, because a slow one is split.
type Progress struct {
	Objects     int64 `json:"objects"` // of Stripe's, read
	WindowsDone int64 `json:"windows_done"`
	Windows     int64 `json:"windows"`
}

// AuditReport is an audit as the API shows it.
type AuditReport struct {
	ID          uuid.UUID         `json:"id"`
	State       string            `json:"state"` // running (queued too), succeeded or failed
	Progress    Progress          `json:"progress"`
	Totals      map[string]Totals `json:"totals"`       // of those who owe, by currency; empty until it has ended
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
