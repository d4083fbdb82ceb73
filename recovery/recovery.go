// Package recovery is stage 3: hunts that bring money back and never charge twice.
//
// # A hunt
//
// A hunt is the plan and the record of recovering one ghost. It keeps the version of the merchant's
// playbook that it began with, plans one charge and one message at a time, and ends when the debt
// or the ghost is gone, when the window is over, or when somebody says stop. docs/hunt-states.md
// draws its states.
//
// # A charge
//
// One task is one intended mutation, one idempotency key and one frozen request. Before the request
// leaves, the invoice is read and what forbids it is checked in the transaction that marks the task
// as sent; when the outcome is known, the transaction that ends the task plans the next one. An
// unknown outcome is settled by the same key within 20 hours, and by reading after that.
// docs/adr/0013 has the rules and their reasons.
//
// # Rooms beside this one
//
// Package playbook has what a merchant wants, gate what may leave, oracle the moments, forecast
// what comes next and when, message how a customer is written to, billing what is read of Stripe,
// and figures what hunts have brought. Here files that begin with hunt_ are about a hunt as a
// whole, those with charge_ about one change at Stripe.
package recovery

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/connect"
	"phantom/db"
	"phantom/forecast"
	"phantom/message"
	"phantom/oracle"
	"phantom/task"
)

// ErrNotFound says that the merchant has no such object.
var ErrNotFound = errors.New("not found")

// Config is what hunts need to know of the world.
type Config struct {
	Log *slog.Logger

	// the wall clock, the same as that of messages; nil is time.Now. A simulation sets its own
	Now func() time.Time

	// Emit, if not nil, tells the merchant's app of an event.
	Emit func(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, kind string, data any) error

	// Look asks a mode's oracle about a charge that is not planned; about none where q is nil.
	// Only [Service.Advice] needs it.
	Look func(ctx context.Context, livemode bool, q *oracle.Question) (oracle.Outlook, error)

	// Refresh has a subscription read anew and judged, as after a webhook, once tx has committed.
	Refresh func(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, subscription string) error
}

// Service runs hunts. It is safe for concurrent use.
type Service struct {
	pool     *pgxpool.Pool
	queries  *db.Queries
	connect  *connect.Service
	messages *message.Service
	advisor  forecast.Advisor
	config   Config
	log      *slog.Logger
}

// New returns a Service over pool that reaches Stripe through connect, whose messages are sent by
// messages, and that asks advisor for moments; nil is [oracle.Heuristic].
func New(pool *pgxpool.Pool, connect *connect.Service, messages *message.Service, advisor forecast.Advisor, config Config) *Service {
	if advisor == nil {
		advisor = oracle.Heuristic{}
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	s := &Service{pool: pool, queries: db.New(pool), connect: connect, messages: messages, advisor: advisor, config: config, log: config.Log}
	messages.Hunts = s
	return s
}

// Handlers are the kinds of tasks that this package does, and those of its messages.
func (s *Service) Handlers() map[string]task.Handler {
	handlers := s.messages.Handlers()
	handlers[KindHunt] = s.connect.Parking(s.HandleHunt)
	for kind := range mutations {
		handlers[kind] = s.connect.Parking(s.HandleMutation)
	}
	return handlers
}
