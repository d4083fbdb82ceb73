package shield

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/input"
	"phantom/trail"
)

// Kind is what a person has decided about a customer or one of their subscriptions.
type Kind string

// The kinds of decisions.
const (
	KindOverride  Kind = decisionOverride  // this level, for any debt
	KindPromise   Kind = decisionPromise   // the customer pays by a day: grace at least until then
	KindExemption Kind = decisionExemption // no debt lowers anything
)

const (
	decisionOverride  = "override"
	decisionPromise   = "promise"
	decisionExemption = "exemption"
)

// Wish is what a person decides. Either the customer or the subscription is named.
type Wish struct {
	Customer     string     `json:"customer"`
	Subscription string     `json:"subscription"`
	Level        Level      `json:"level"` // of an override
	Until        *time.Time `json:"until"` // of a promise, and where the others end by themselves
}

// Decision is one that holds.
type Decision struct {
	ID           uuid.UUID  `json:"id"`
	Customer     string     `json:"customer"`
	Subscription *string    `json:"subscription"` // null: all of the customer's
	Level        *string    `json:"level,omitempty"`
	Until        *time.Time `json:"until"` // null: until it is taken back
	CreatedAt    time.Time  `json:"created_at"`
}

// Decide stores a decision and judges the customer's subscriptions by it at once. It returns the
// revision at which that is so. A fault of the wish is a [*input.FieldError].
func (s *Service) Decide(ctx context.Context, merchantID uuid.UUID, kind Kind, wish Wish) (d Decision, revision string, err error) {
	if err := wish.check(kind); err != nil {
		return Decision{}, "", err
	}
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		if wish.Customer == "" {
			if wish.Customer, err = queries.ShieldCustomerOf(ctx, db.ShieldCustomerOfParams{MerchantID: merchantID, Subscription: wish.Subscription}); errors.Is(err, pgx.ErrNoRows) {
				return input.Wrong("subscription", "must be one that PHANTOM knows")
			} else if err != nil {
				return fmt.Errorf("find the customer: %w", err)
			}
		}
		rows, err := queries.ShieldListOfCustomer(ctx, db.ShieldListOfCustomerParams{MerchantID: merchantID, Customer: wish.Customer})
		if err != nil {
			return fmt.Errorf("list levels: %w", err)
		}
		if len(rows) == 0 {
			return input.Wrong("customer", "must be one that PHANTOM knows")
		}
		rules, err := queries.ShieldContext(ctx, merchantID)
		if err != nil {
			return fmt.Errorf("read the policy: %w", err)
		}
		if err := wish.fits(ctx, queries, merchantID, kind, rules); err != nil {
			return err
		}
		if d, err = create(ctx, queries, merchantID, kind, wish, rules.Now); err != nil {
			return err
		}
		if err := s.judge(ctx, tx, merchantID, rows, bench{}); err != nil {
			return err
		}
		if err := trail.Record(ctx, tx, trail.Change{
			Merchant: merchantID, Action: "shield." + string(kind) + ".create", Object: d.ID.String(), After: struct {
				Level *string    `json:"level,omitempty"`
				Until *time.Time `json:"until"`
			}{d.Level, d.Until},
		}); err != nil {
			return err
		}
		revision, err = revisionIn(ctx, tx, merchantID)
		return err
	})
	return d, revision, err
}

// check says what is wrong with a wish by itself.
func (w Wish) check(kind Kind) error {
	switch {
	case (w.Customer == "") == (w.Subscription == ""):
		return input.Wrong("customer", "must be given, or else a subscription")
	case w.Customer != "" && !IsID(w.Customer):
		return input.Wrong("customer", "must be an id such as cus_…")
	case w.Subscription != "" && !IsID(w.Subscription):
		return input.Wrong("subscription", "must be an id such as sub_…")
	case kind == KindOverride && !isLevel(w.Level):
		return input.Wrong("level", anyLevel)
	case kind != KindOverride && w.Level != "":
		return input.Wrong("level", "is for overrides alone")
	case kind == KindPromise && w.Until == nil:
		return input.Wrong("until", "must be the time by which the customer pays, such as 2026-12-01T00:00:00Z")
	}
	return nil
}

// fits says what a policy has against a wish.
func (w Wish) fits(ctx context.Context, queries *db.Queries, merchantID uuid.UUID, kind Kind, rules db.ShieldContextRow) error {
	if w.Until != nil && !w.Until.After(rules.Now) {
		return input.Wrong("until", "must be a time to come, such as 2027-01-31T18:00:00Z")
	}
	if kind != KindPromise {
		return nil
	}
	policy, err := Parse(rules.Body)
	if err != nil {
		return fmt.Errorf("read policy %d: %w", rules.Version, err)
	}
	if w.Until.After(after(rules.Now, policy.Promise.MaxDays)) {
		return input.Wrong("until", fmt.Sprintf("must be within %d days, which is the policy's promise.max_days", policy.Promise.MaxDays))
	}
	made, err := queries.ShieldDecisionCountYear(ctx, db.ShieldDecisionCountYearParams{MerchantID: merchantID, Customer: w.Customer})
	if err != nil {
		return fmt.Errorf("count promises: %w", err)
	}
	if made >= int64(policy.Promise.PerYear) {
		return input.Wrong("customer", fmt.Sprintf("has promised %d times within a year, which is the policy's promise.per_year", made))
	}
	return nil
}

func create(ctx context.Context, queries *db.Queries, merchantID uuid.UUID, kind Kind, wish Wish, now time.Time) (Decision, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Decision{}, fmt.Errorf("make id: %w", err)
	}
	d := Decision{ID: id, Customer: wish.Customer, Until: utc(wish.Until), CreatedAt: now.UTC()}
	if wish.Subscription != "" {
		d.Subscription = &wish.Subscription
	}
	if wish.Level != "" {
		level := string(wish.Level)
		d.Level = &level
	}
	if err := queries.ShieldDecisionCreate(ctx, db.ShieldDecisionCreateParams{
		MerchantID: merchantID, ID: id, Kind: string(kind), Customer: d.Customer, Subscription: d.Subscription, Level: d.Level, Until: d.Until,
	}); err != nil {
		return Decision{}, fmt.Errorf("store a decision: %w", err)
	}
	return d, nil
}

// TakeBack ends a decision, and judges the customer's subscriptions anew. One that does not hold
// any more is [ErrNotFound].
func (s *Service) TakeBack(ctx context.Context, merchantID uuid.UUID, kind Kind, id uuid.UUID) (revision string, err error) {
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		customer, err := queries.ShieldDecisionEnd(ctx, db.ShieldDecisionEndParams{MerchantID: merchantID, ID: id, Kind: string(kind)})
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("end a decision: %w", err)
		}
		rows, err := queries.ShieldListOfCustomer(ctx, db.ShieldListOfCustomerParams{MerchantID: merchantID, Customer: customer})
		if err != nil {
			return fmt.Errorf("list levels: %w", err)
		}
		if err := s.judge(ctx, tx, merchantID, rows, bench{}); err != nil {
			return err
		}
		if err := trail.Record(ctx, tx, trail.Change{Merchant: merchantID, Action: "shield." + string(kind) + ".delete", Object: id.String()}); err != nil {
			return err
		}
		revision, err = revisionIn(ctx, tx, merchantID)
		return err
	})
	return revision, err
}

// Decisions returns a page of those that hold, the newest first, and the id behind which the next
// page begins, which is zero on the last.
func (s *Service) Decisions(ctx context.Context, merchantID uuid.UUID, kind Kind, before uuid.UUID, limit int) (all []Decision, next uuid.UUID, err error) {
	rows, err := s.queries.ShieldDecisionList(ctx, db.ShieldDecisionListParams{
		MerchantID: merchantID, Kind: string(kind), BeforeID: cmp.Or(before, uuid.Max), Page: int32(limit) + 1,
	})
	if err != nil {
		return nil, uuid.Nil, fmt.Errorf("list decisions: %w", err)
	}
	rows, next = onePage(rows, limit, func(row db.ShieldDecisionListRow) uuid.UUID { return row.ID })
	all = make([]Decision, 0, len(rows))
	for _, row := range rows {
		all = append(all, Decision{row.ID, row.Customer, row.Subscription, row.Level, utc(row.Until), row.CreatedAt.UTC()})
	}
	return all, next, nil
}

// Status is how a merchant's levels stand.
type Status struct {
	Policy   Versioned
	Revision string
	Levels   map[Level]StatusLevel
	Hold     *HoldReport // the open one; nil: the breaker is closed
}

// StatusLevel is how many subscriptions have a level, and how many of them are held there.
type StatusLevel struct{ Subscriptions, Held int64 }

// Status says how a merchant's levels stand.
func (s *Service) Status(ctx context.Context, merchantID uuid.UUID) (status Status, err error) {
	if status.Policy, err = s.Policy(ctx, merchantID); err != nil {
		return status, err
	}
	if status.Revision, err = revisionIn(ctx, s.pool, merchantID); err != nil {
		return status, err
	}
	rows, err := s.queries.ShieldCountLevels(ctx, merchantID)
	if err != nil {
		return status, fmt.Errorf("count levels: %w", err)
	}
	status.Levels = map[Level]StatusLevel{}
	for _, row := range rows {
		status.Levels[Level(row.Level)] = StatusLevel{row.Subscriptions, row.Held}
	}
	holds, _, err := s.Holds(ctx, merchantID, uuid.Nil, 1) // no other one is open
	if len(holds) > 0 && holds[0].ClosedAt == nil {
		status.Hold = &holds[0]
	}
	return status, err
}

// Transition is a change of a level.
type Transition struct {
	ID            uuid.UUID       `json:"id"`
	At            time.Time       `json:"at"`
	Customer      string          `json:"customer"`
	Subscription  string          `json:"subscription"`
	From          Level           `json:"from"`
	To            Level           `json:"to"`
	Reason        Reason          `json:"reason"`
	Enforced      bool            `json:"enforced"` // false: the policy was not, and nobody noticed
	PolicyVersion int32           `json:"policy_version"`
	Revision      int64           `json:"revision"`
	Facts         json.RawMessage `json:"facts"`
}

// Transitions returns a page of them, the newest first, and the id behind which the next page
// begins, which is zero on the last. customer, if not empty, is the only one.
func (s *Service) Transitions(ctx context.Context, merchantID uuid.UUID, customer string, before uuid.UUID, limit int) (all []Transition, next uuid.UUID, err error) {
	params := db.ShieldTransitionListParams{MerchantID: merchantID, BeforeID: cmp.Or(before, uuid.Max), Page: int32(limit) + 1}
	if customer != "" {
		params.Customer = &customer
	}
	rows, err := s.queries.ShieldTransitionList(ctx, params)
	if err != nil {
		return nil, uuid.Nil, fmt.Errorf("list transitions: %w", err)
	}
	rows, next = onePage(rows, limit, func(row db.ShieldTransitionListRow) uuid.UUID { return row.ID })
	all = make([]Transition, 0, len(rows))
	for _, row := range rows {
		all = append(all, Transition{
			row.ID, row.At.UTC(), row.Customer, row.Subscription, Level(row.FromLevel), Level(row.ToLevel), Reason(row.Reason), row.Enforced,
			row.PolicyVersion, row.Revision, row.Facts,
		})
	}
	return all, next, nil
}

// onePage takes off the row too many that says that there is more.
func onePage[T any](rows []T, limit int, id func(T) uuid.UUID) (page []T, next uuid.UUID) {
	if len(rows) <= limit {
		return rows, uuid.Nil
	}
	return rows[:limit], id(rows[limit-1])
}

func utc(at *time.Time) *time.Time {
	if at == nil {
		return nil
	}
	moved := at.UTC()
	return &moved
}

// revisionIn is the merchant's revision as tokens have it.
func revisionIn(ctx context.Context, tx db.DBTX, merchantID uuid.UUID) (string, error) {
	epoch, err := db.Epoch(ctx, tx)
	if err != nil {
		return "", err
	}
	revision, err := db.New(tx).ShieldRevisionGet(ctx, merchantID)
	if err != nil {
		return "", fmt.Errorf("read the revision: %w", err)
	}
	return fmt.Sprintf("%s.%d", epoch, revision), nil
}

// IsID says whether a text may be an id of Stripe's.
func IsID(text string) bool {
	if len(text) == 0 || len(text) > 255 {
		return false
	}
	for i := range len(text) {
		if c := text[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

// IsFeature says whether a text has the shape of a policy's features.
func IsFeature(text string) bool {
	if len(text) == 0 || len(text) > 64 || text[0] < 'a' || text[0] > 'z' {
		return false
	}
	for i := range len(text) {
		c := text[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}
