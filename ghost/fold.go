package ghost

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
)

const (
	// foldEvery is how often changes are added to the counts of [Service.Summary]: what is written
	// meanwhile is added up by each request.
	foldEvery = time.Second
	// foldBatch is how many rows of changes are added in one transaction. One holds the ghosts of
	// one statement that are counted alike.
	foldBatch = 1000
)

// KeepCounts folds until ctx ends. Any number of processes may do it at once. failed, which may be
// nil, learns of what did not work and is tried again.
func (s *Service) KeepCounts(ctx context.Context, failed func(error)) {
	tick := time.NewTicker(foldEvery)
	defer tick.Stop()
	for {
		if err := s.Fold(ctx); err != nil && ctx.Err() == nil && failed != nil {
			failed(err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Fold adds what has changed to what is counted of every merchant's ghosts. The sum of both is the
// same before and after.
func (s *Service) Fold(ctx context.Context) error {
	merchants, err := s.queries.GhostFoldMerchants(ctx)
	if err != nil {
		return fmt.Errorf("list merchants with changes: %w", err)
	}
	for _, merchant := range merchants {
		for more := true; more; {
			if more, err = s.foldBatch(ctx, merchant); err != nil {
				return fmt.Errorf("fold changes: %w", err)
			}
		}
	}
	return nil
}

func (s *Service) foldBatch(ctx context.Context, merchant uuid.UUID) (more bool, err error) {
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := s.queries.WithTx(tx)
		locked, err := queries.GhostFoldTryLock(ctx, merchant)
		if err != nil || !locked { // another process is at it
			return err
		}
		folded, err := queries.GhostFold(ctx, db.GhostFoldParams{MerchantID: merchant, Batch: foldBatch})
		more = folded == foldBatch
		return err
	})
	return more, err
}
