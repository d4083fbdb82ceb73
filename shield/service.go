package shield

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/task"
)

// ErrNotFound says that the merchant has no such object.
var ErrNotFound = errors.New("not found")

// Config is what the service needs to know of the world.
type Config struct {
	Log *slog.Logger
	// Refresh has a subscription read anew at Stripe, once tx has committed.
	Refresh func(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, subscription string) error
	// Emit tells the merchant's app of an event; nil: nobody is told.
	Emit func(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, kind string, data any) error
	// Hash returns a keyed hash of the merchant's.
	Hash func(ctx context.Context, tx db.DBTX, merchantID uuid.UUID) (func(subject, value string) []byte, error)
}

// Service keeps the levels. It is safe for concurrent use.
type Service struct {
	pool    *pgxpool.Pool
	queries *db.Queries
	config  Config
	log     *slog.Logger
}

// New returns a Service over pool.
func New(pool *pgxpool.Pool, config Config) *Service {
	return &Service{pool: pool, queries: db.New(pool), config: config, log: config.Log}
}

// Handlers are the kinds of tasks that this package does. Those of a merchant who has left are
// parked: nobody is lowered by what nobody can see any more.
func (s *Service) Handlers() map[string]task.Handler {
	return map[string]task.Handler{KindSweep: s.HandleSweep, KindJudge: s.HandleJudge}
}

func (s *Service) emit(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, kind string, data any) error {
	if s.config.Emit == nil {
		return nil
	}
	return s.config.Emit(ctx, tx, merchantID, kind, data)
}

// Told is what somebody has read of subscriptions at Stripe, in the transaction in which they judge
// it. ticket was taken before they read: what was read later is not overwritten. Who calls it locks
// nothing afterwards.
func (s *Service) Told(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, ticket int64, all []Facts) error {
	if len(all) == 0 {
		return nil
	}
	tell := db.ShieldTellParams{MerchantID: merchantID, Ticket: ticket}
	for _, f := range all {
		text, err := json.Marshal(f)
		if err != nil {
			return fmt.Errorf("marshal facts: %w", err)
		}
		tell.Subscriptions, tell.Customers = append(tell.Subscriptions, f.Subscription), append(tell.Customers, f.Customer)
		tell.Facts = append(tell.Facts, text)
	}
	rows, err := db.New(tx).ShieldTell(ctx, tell)
	if err != nil {
		return fmt.Errorf("store what the shield is told: %w", err)
	}
	return s.judge(ctx, tx, merchantID, rows, bench{told: true})
}

// provisional is for how long an announced payment gives full access before Stripe has been read.
const provisional = 600 // seconds

// Paid hears that Stripe has announced a payment for a subscription. Who owes gets full access at
// once; the reading that follows confirms it or not. Who calls it has locked nothing yet.
func (s *Service) Paid(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, subscription string) error {
	row, err := db.New(tx).ShieldAnnounce(ctx, db.ShieldAnnounceParams{MerchantID: merchantID, Subscription: subscription, Seconds: provisional})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("raise for an announced payment: %w", err)
	}
	return s.judge(ctx, tx, merchantID, []db.ShieldState{row}, bench{announced: true})
}

// Left forgets all levels of a merchant, who works in the other mode (live or test) from now on.
func Left(ctx context.Context, tx db.DBTX, merchantID uuid.UUID) error {
	queries := db.New(tx)
	if err := queries.ShieldDropAll(ctx, merchantID); err != nil {
		return fmt.Errorf("drop levels: %w", err)
	}
	return reload(ctx, tx, merchantID)
}
