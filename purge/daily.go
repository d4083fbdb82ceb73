package purge

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/task"
)

// Kind is the kind of the daily purge's tasks, one for each merchant, connected or not, and
// day. Their unique key is the day.
const Kind = "purge"

// EnsurePurges gives every merchant that has no daily purge ahead of them one, at their time of
// day. It is for each start of the workers and for a merchant who has just connected; done twice it
// changes nothing. After that each purge plans the next.
func (s *Service) EnsurePurges(ctx context.Context) error {
	if err := task.EnsureSeries(ctx, s.pool, Plan); err != nil {
		return fmt.Errorf("plan purges: %w", err)
	}
	return nil
}

// Plan enqueues a merchant's next purge, or, for the zero id, one for each merchant of a page of
// those that have none ahead.
func Plan(ctx context.Context, tx db.DBTX, merchant uuid.UUID) (planned int, err error) {
	slots, err := db.New(tx).PurgeListSlots(ctx, merchant)
	if err != nil {
		return 0, err
	}
	return task.EnqueueSlots(ctx, tx, Kind, slots)
}

func (s *Service) handlePurge(ctx context.Context, merchant uuid.UUID) (Purged, error) {
	if _, err := Plan(ctx, s.pool, merchant); err != nil {
		return Purged{}, fmt.Errorf("plan the next purge: %w", err)
	}
	if err := s.EnsurePurges(ctx); err != nil {
		return Purged{}, err
	}
	purged, err := s.purge(ctx, []uuid.UUID{merchant}, false, nil)
	for _, forget := range s.Forget { // none keeps the others from their day
		err = errors.Join(err, forget(ctx, merchant))
	}
	return purged, err
}

// HandlePurge is the handler of [Kind]. It plans the merchant's next purge before it begins,
// so that none of its own failures ends the series, and looks after merchants who have none.
func (s *Service) HandlePurge(ctx context.Context, t *task.Task) error {
	purged, err := s.handlePurge(ctx, t.MerchantID)
	if purged != (Purged{}) {
		task.Log(ctx, s.log).Info("[WORKER] purged what is over 90 days old", "merchant", t.MerchantID, "ghosts", purged.Ghosts, "left", purged.Left,
			"tasks", purged.Tasks, "events", purged.Events, "facts", purged.Facts,
			"records", purged.Records)
	}
	if ctx.Err() != nil {
		return task.Snooze(0) // the process stops: another one goes on
	}
	return err
}

// Handlers are the kinds of tasks that this package does.
func (s *Service) Handlers() map[string]task.Handler {
	return map[string]task.Handler{Kind: s.HandlePurge}
}
