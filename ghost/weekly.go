package ghost

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/task"
)

// KindWeeklyAudit is the kind of the tasks that start an audit each week, as a net for what no
// event has said. Their unique key is the day.
const KindWeeklyAudit = "weekly_audit"

// EnsureAudits gives every connected merchant that has no weekly audit ahead of them one, at their
// moment of the week. It is for each start of the workers; done twice it changes nothing. After
// that each of these tasks plans the next.
func (s *Service) EnsureAudits(ctx context.Context) error {
	if err := task.EnsureSeries(ctx, s.pool, planAudits); err != nil {
		return fmt.Errorf("plan weekly audits: %w", err)
	}
	return nil
}

// planAudits enqueues a merchant's next weekly audit, or, for the zero id, one for each merchant of
// a page of those that have none ahead.
func planAudits(ctx context.Context, tx db.DBTX, merchant uuid.UUID) (planned int, err error) {
	rows, err := db.New(tx).AuditListSlots(ctx, merchant)
	if err != nil {
		return 0, err
	}
	slots := make([]task.Slot, len(rows))
	for i, row := range rows {
		slots[i] = task.Slot(row)
	}
	return task.EnqueueSlots(ctx, tx, KindWeeklyAudit, slots)
}

// HandleWeeklyAudit is the handler of [KindWeeklyAudit]. It plans the next one before it begins, so
// that none of its own failures ends the series. An audit that runs will do.
func (s *Service) HandleWeeklyAudit(ctx context.Context, t *task.Task) error {
	if _, err := planAudits(ctx, s.pool, t.MerchantID); err != nil {
		return fmt.Errorf("plan the next weekly audit: %w", err)
	}
	_, err := s.StartAudit(ctx, t.MerchantID, nil)
	return err
}
