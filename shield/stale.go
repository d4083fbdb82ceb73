package shield

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
)

// stale is an event: for a while a server has answered by what it knew before.
type stale struct {
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until"`
	Expired bool      `json:"expired"` // for longer than fail.max_stale: fail.mode was the answer
	Mode    string    `json:"mode"`    // fail.mode
}

// TellStale tells the app of each merchant who enforces a policy that levels were not followed for
// so long until now. It returns how many were told.
func (s *Service) TellStale(ctx context.Context, tenants []Tenant, away time.Duration) (told int, err error) {
	for _, t := range tenants {
		if t.Disconnected || t.Policy.Mode != Enforce {
			continue
		}
		is, err := s.tellStale(ctx, t.ID, t.Policy.Fail, away)
		if err != nil {
			return told, err
		}
		if is {
			told++
		}
	}
	return told, nil
}

func (s *Service) tellStale(ctx context.Context, merchantID uuid.UUID, fail Fail, away time.Duration) (told bool, err error) {
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		now, err := db.New(tx).ShieldNoteStale(ctx, db.ShieldNoteStaleParams{MerchantID: merchantID, Seconds: away.Seconds()})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("note that levels were stale: %w", err)
		}
		told = true
		return s.emit(ctx, tx, merchantID, "shield.stale", stale{
			now.Add(-away).UTC().Truncate(time.Second), now.UTC().Truncate(time.Second), away > time.Duration(fail.MaxStale), fail.Mode,
		})
	})
	return told && err == nil, err
}
