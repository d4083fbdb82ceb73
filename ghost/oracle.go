package ghost

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"phantom/db"
)

// countForOracle adds the charges that an audit has staged to the oracle's counts and returns how many days were new. Only whole
// UTC days that had ended by until are counted, each once per merchant and livemode and in a transaction of its own: it may run
// again after any error, and beside itself in other processes.
//
// Memory grows with the days, not with the charges: a day has some 400 cells at most.
func (s *Service) countForOracle(ctx context.Context, merchant db.Merchant, auditID uuid.UUID, until time.Time) (days int, err error) {
	category := "other"
	if merchant.BusinessCategory != nil {
		category = *merchant.BusinessCategory
	}
	waiting, err := s.queries.OracleDaysToCount(ctx, db.OracleDaysToCountParams{
		MerchantID: merchant.ID, AuditID: auditID, Livemode: merchant.Livemode, Until: until,
	})
	if err != nil {
		return 0, fmt.Errorf("add up days for the oracle: %w", err)
	}
	for _, day := range waiting {
		cells, err := s.queries.OracleCountDay(ctx, db.OracleCountDayParams{
			MerchantID: merchant.ID, Livemode: merchant.Livemode, Day: day.Day, BusinessCategory: category,
			DeclineClasses: day.DeclineClasses, DaysOfWeek: day.DaysOfWeek, HoursOfDay: day.HoursOfDay,
			Attempts: day.Attempts, Successes: day.Successes,
		})
		if err != nil {
			return days, fmt.Errorf("count a day for the oracle: %w", err)
		}
		if cells > 0 { // or else somebody was faster
			days++
		}
	}
	return days, nil
}
