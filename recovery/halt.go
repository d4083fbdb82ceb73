package recovery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
)

// byMerchant tells a merchant's own halt from the operator's: neither lifts the other's.
const byMerchant = "merchant"

// Halt puts off every charge and message of a merchant, in all processes from their next send on,
// until they lift it. It may be repeated. It returns since when they are halted.
func (s *Service) Halt(ctx context.Context, merchantID uuid.UUID) (*time.Time, error) {
	halt := db.HaltCreateParams{Scope: merchantID, By: byMerchant}
	if _, err := s.queries.HaltCreate(ctx, halt); err != nil {
		return nil, fmt.Errorf("halt: %w", err)
	}
	return s.HaltedAt(ctx, merchantID)
}

// Unhalt lifts what [Service.Halt] has halted. It returns what [Service.HaltedAt] does: the
// operator's halt stays.
func (s *Service) Unhalt(ctx context.Context, merchantID uuid.UUID) (*time.Time, error) {
	halt := db.HaltDeleteParams{Scope: merchantID, By: byMerchant}
	if _, err := s.queries.HaltDelete(ctx, halt); err != nil {
		return nil, fmt.Errorf("lift the halt: %w", err)
	}
	return s.HaltedAt(ctx, merchantID)
}

// HaltedAt says since when nothing is sent for a merchant, whoever has halted it: they, or the
// operator for them or for all. Nil if nothing is halted.
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
