// Package message writes to customers about failed payments, through the merchant's own accounts at
// Resend and Twilio.
//
// A message is a task. When it is due, [Service.HandleMessage] asks the hunt's gate and composes
// what Stripe says now. It asks the gate again in the transaction that freezes the message, and
// sends it: an email by its idempotency key, an SMS at most once.
//
// Files sort by subject: message, compose and
// deliver are the way of a message; channel, resend, twilio and exchange the accounts; template and
// wording what is said; person, suppress and phone to whom.
package message

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/connect"
	"phantom/db"
	"phantom/gate"
	"phantom/playbook"
	"phantom/rarely"
	"phantom/task"
)

// ErrNotFound says that the merchant has no such object.
var ErrNotFound = errors.New("not found")

// Config is what messages need to know of the world.
type Config struct {
	ResendBase string // "" is api.resend.com
	TwilioBase string // "" is api.twilio.com
	PublicURL  string // base of the links to unsubscribe
	Dev        bool   // links to pay may lead anywhere
	Sandbox    bool   // links to pay may lead to the pages of phantom sandbox
	Log        *slog.Logger

	// the wall clock, the same as that of recovery; nil is time.Now. A simulation sets its own
	Now func() time.Time
}

// Hunts are what messages belong to. MessageEnded and EndUnwanted work in the caller's transaction,
// and so does MayWrite where queries are of one.
type Hunts interface {
	// MayWrite asks the gate whether one of a hunt's messages may leave.
	MayWrite(ctx context.Context, queries *db.Queries, q Question) (Permission, error)
	// MessageEnded writes into a hunt's history how one of its messages has ended, and plans what
	// comes next.
	MessageEnded(ctx context.Context, tx pgx.Tx, e Ended) error
	// EndUnwanted ends a hunt, whose row the caller has locked, if its customer has said stop
	// wherever they could be written to.
	EndUnwanted(ctx context.Context, tx db.DBTX, hunt db.Hunt) (ended bool, err error)
}

// Question names a message whose time has come.
type Question struct {
	MerchantID, HuntID uuid.UUID
	Channel            string
	Zones              []*time.Location // where its person may live, most likely in the first
	// the person and all that a cap counts as them, once the message is composed: then the hunt is
	// kept as it is until the transaction ends
	Person  []byte
	Persons [][]byte
	Counted bool // the caller has locked the persons: the caps are asked too
}

// Permission is the gate's answer, with what it was given by.
type Permission struct {
	gate.Ruling
	Now      time.Time
	Playbook playbook.Playbook // that holds for the hunt
	// that the message is about: the oldest one of the ghost that is hunted
	Invoice string
	ByHand  bool // somebody has named the ghost

	NextCharge time.Time // when the hunt charges next; zero for never, or where it is not known
}

// Ended is how a message has ended.
type Ended struct {
	MerchantID, HuntID, TaskID uuid.UUID
	Words                      string // for the hunt's history
	Unwanted                   bool   // the customer may want no message any more
}

// Service sends messages. It is safe for concurrent use.
type Service struct {
	pool    *pgxpool.Pool
	queries *db.Queries
	connect *connect.Service
	config  Config
	log     *slog.Logger
	ended   rarely.Lines // how messages end that do not leave

	// Hunts are whose messages these are. They are set before the service is used.
	Hunts Hunts
}

// New returns a Service over pool that reaches Stripe through connect.
func New(pool *pgxpool.Pool, connect *connect.Service, config Config) *Service {
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Service{pool: pool, queries: db.New(pool), connect: connect, config: config, log: config.Log}
}

// Handlers are the kinds of tasks that this package does.
func (s *Service) Handlers() map[string]task.Handler {
	handler := s.connect.Parking(s.HandleMessage)
	return map[string]task.Handler{playbook.Email: handler, playbook.SMS: handler}
}
