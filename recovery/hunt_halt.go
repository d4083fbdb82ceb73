package recovery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/trail"
)

// Whose halt one is: neither lifts the other's.
const (
	ByMerchant = "merchant"
	ByOperator = "operator"
)

// SetHalt halts a merchant, or all of them for the zero id, or lifts that again. What is so already
// stays as it is.
func SetHalt(ctx context.Context, tx pgx.Tx, scope uuid.UUID, by string, halted bool) error {
	queries, action := db.New(tx), "halt.set"
	var changed int64
	var err error
	if halted {
		changed, err = queries.HaltCreate(ctx, db.HaltCreateParams{Scope: scope, By: by})
	} else {
		action = "halt.lift"
		changed, err = queries.HaltDelete(ctx, db.HaltDeleteParams{Scope: scope, By: by})
	}
	if err != nil || changed == 0 {
		return err
	}
	return trail.Record(ctx, tx, trail.Change{Merchant: scope, Action: action})
}

// Halt puts off every charge and message of a merchant, in all processes from their next send on,
// until they lift it. It may be repeated. It returns since when they are halted.
func (s *Service) Halt(ctx context.Context, merchantID uuid.UUID) (*time.Time, error) {
	if err := db.InTx(ctx, s.pool, func(tx pgx.Tx) error { return SetHalt(ctx, tx, merchantID, ByMerchant, true) }); err != nil {
		return nil, fmt.Errorf("halt: %w", err)
	}
	return s.HaltedAt(ctx, merchantID)
}

// Unhalt lifts what [Service.Halt] has halted. It returns what [Service.HaltedAt] does: the
// operator's halt stays.
func (s *Service) Unhalt(ctx context.Context, merchantID uuid.UUID) (*time.Time, error) {
	if err := db.InTx(ctx, s.pool, func(tx pgx.Tx) error { return SetHalt(ctx, tx, merchantID, ByMerchant, false) }); err != nil {
		return nil, fmt.Errorf("lift the halt: %w", err)
	}
	return s.HaltedAt(ctx, merchantID)
}

// HaltedAt says since when nothing is sent for a merchant, no matter who has halted it: they, or
// the operator for them or for all. Nil if nothing is halted.
func (s *Service) HaltedAt(ctx context.Context, merchantID uuid.UUID) (*time.Time, error) {
	at, err := s.queries.HaltGetSince(ctx, merchantID)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read halts: %w", err)
	}
	at = at.UTC()
	return &at, nil
}
