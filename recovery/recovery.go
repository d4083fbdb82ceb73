// Package recovery is stage 3: hunts that bring money back and never charge twice.
//
// # A hunt
//
// A hunt is the plan and the record of recovering one ghost. It keeps the version of the merchant's playbook that it began with, plans
// one charge and one message at a time, and ends when the debt or the ghost is gone, when the window is over, or when somebody says
// stop. docs/hunt-states.md draws its states.
//
// # A charge
//
// One task is one intended mutation, one idempotency key and one frozen request. Before the request leaves, the invoice is read and
// what forbids it is checked in the transaction that marks the task as sent; when the outcome is known, the transaction that ends the
// task plans the next one. An unknown outcome is settled by the same key within 20 hours, and by reading after that. docs/adr/0013 has
// the rules and their reasons.
//
// # A message
//
// Messages leave through the merchant's own accounts, after suppression, caps and quiet hours were checked in the transaction that
// marks them as sent: an email by its idempotency key, an SMS at most once.
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
	"phantom/task"
)

// ErrNotFound says that the merchant has no such object.
var ErrNotFound = errors.New("not found")

// FieldError says which field of an input is wrong, and what would be right. It never quotes the input.
type FieldError struct{ Field, Rule string }

func (e *FieldError) Error() string { return e.Field + " " + e.Rule }

// Config is what hunts need to know of the world.
type Config struct {
	ResendBase string // "" is api.resend.com
	TwilioBase string // "" is api.twilio.com
	PublicURL  string // base of the links to unsubscribe
	Dev        bool   // links to pay may lead to the sandbox
	Log        *slog.Logger

	Now func() time.Time // the wall clock; nil is time.Now. A simulation sets its own

	// Refresh has a subscription read anew and judged, as after a webhook, once tx has committed.
	Refresh func(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, subscription string) error
}

// Service runs hunts. It is safe for concurrent use.
type Service struct {
	pool    *pgxpool.Pool
	queries *db.Queries
	connect *connect.Service
	advisor Advisor
	config  Config
	log     *slog.Logger
}

// New returns a Service over pool that reaches Stripe through connect and asks advisor for moments; nil is [Heuristic].
func New(pool *pgxpool.Pool, connect *connect.Service, advisor Advisor, config Config) *Service {
	if advisor == nil {
		advisor = Heuristic{}
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Service{pool: pool, queries: db.New(pool), connect: connect, advisor: advisor, config: config, log: config.Log}
}

// Handlers are the kinds of tasks that this package does.
func (s *Service) Handlers() map[string]task.Handler {
	handlers := map[string]task.Handler{
		KindHunt: s.connect.Parking(s.HandleHunt), Email: s.connect.Parking(s.HandleMessage), SMS: s.connect.Parking(s.HandleMessage),
	}
	for kind := range mutations {
		handlers[kind] = s.connect.Parking(s.HandleMutation)
	}
	return handlers
}
