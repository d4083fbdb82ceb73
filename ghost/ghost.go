// Package ghost is stage 2: it finds the customers who keep access while their payments fail.
//
// # How a ghost is found
//
// An audit reads a merchant's whole history, in windows of created times, into narrow facts in the
// database, and judges each subscription that has debts by pure functions. From then on webhooks
// name what has changed, and the subscription is read and judged anew. Both ways end in the same
// write, which takes only what was read later than what is there.
//
// # How it ends
//
// A ghost closes with the reason when its debt is gone, reopens with its old discovered_at, and is
// purged 90 days after it was discovered.
package ghost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/connect"
	"phantom/db"
	"phantom/purge"
	"phantom/shield"
	"phantom/task"
)

// Service finds ghosts. It is safe for concurrent use.
type Service struct {
	pool    *pgxpool.Pool
	queries *db.Queries
	connect *connect.Service
	log     *slog.Logger

	// Hunts and Shield, if not nil, are told of every change. They are set before the service is
	// used.
	Hunts  Hunts
	Shield Shield
	// Emit, if not nil, tells the merchant's app of an event.
	Emit func(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, kind string, data any) error

	// DatabaseTimeout bounds what is stored of an event while Stripe waits; 0 is 4 seconds.
	DatabaseTimeout time.Duration

	concluding chan struct{} // held by the audit that writes its findings
	spacing    spacing       // between readings of one subscription for events
	links      links
}

// Hunts hears in the transaction that stores it which ghosts are not what they were, are new or are
// gone.
type Hunts interface {
	GhostsChanged(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, ghosts []uuid.UUID) error
	// MethodsChanged says that the payment methods of these ghosts' customer may have changed: a
	// new one is charged soon.
	MethodsChanged(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, ghosts []uuid.UUID) error
}

// New returns a Service over pool that reads merchants' accounts through connect.
func New(pool *pgxpool.Pool, connect *connect.Service, log *slog.Logger) *Service {
	return &Service{pool: pool, queries: db.New(pool), connect: connect, log: log, concluding: make(chan struct{}, 1), spacing: defaultSpacing}
}

func (s *Service) tellHunts(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, ghosts []uuid.UUID) error {
	if s.Hunts == nil || len(ghosts) == 0 {
		return nil
	}
	return s.Hunts.GhostsChanged(ctx, tx, merchantID, ghosts)
}

// Connected begins what every merchant has, in the transaction that stores their tokens: an audit
// now, one each week, and a purge each day. A merchant who comes back in the other mode (live or
// test) begins anew.
func Connected(ctx context.Context, tx db.DBTX, merchantID uuid.UUID) error {
	if err := leaveOtherMode(ctx, tx, merchantID); err != nil {
		return err
	}
	if _, err := StartAuditIn(ctx, tx, merchantID, nil); err != nil {
		return err
	}
	if _, err := planAudits(ctx, tx, merchantID); err != nil {
		return err
	}
	_, err := purge.Plan(ctx, tx, merchantID)
	return err
}

// leaveOtherMode forgets what was found in the mode that the merchant does not work in any more, if
// that has just changed. Who still reads for it writes nothing: see inMode.
func leaveOtherMode(ctx context.Context, tx db.DBTX, merchantID uuid.UUID) error {
	queries := db.New(tx)
	changed, err := queries.GhostModeChanged(ctx, merchantID)
	if err != nil || !changed {
		return err
	}
	if err := queries.AuditEndOtherMode(ctx, merchantID); err != nil {
		return fmt.Errorf("end the other mode's audit: %w", err)
	}
	if err := queries.HuntDropAll(ctx, merchantID); err != nil {
		return fmt.Errorf("end the other mode's hunts: %w", err)
	}
	if err := queries.GhostDropAll(ctx, merchantID); err != nil {
		return fmt.Errorf("drop the other mode's ghosts: %w", err)
	}
	return shield.Left(ctx, tx, merchantID)
}

// errOtherMode says that what was read is of the mode that the merchant does not work in any more.
var errOtherMode = errors.New("the account was connected in the other mode (live or test) meanwhile")

// inMode compares the mode in which somebody has read with the merchant's, whose row is locked.
func inMode(read, now bool, err error) error {
	if err == nil && read != now {
		err = errOtherMode
	}
	return err
}

// Handlers are the kinds of tasks that this package does.
func (s *Service) Handlers() map[string]task.Handler {
	return map[string]task.Handler{
		KindAudit:       s.connect.Parking(s.HandleAudit),
		KindWeeklyAudit: s.connect.Parking(s.HandleWeeklyAudit),
		KindRefresh:     s.connect.Parking(s.HandleRefresh),
		KindWebhook:     s.connect.Parking(s.HandleEvent),
	}
}
