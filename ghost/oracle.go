package ghost

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"phantom/db"
)

// countForOracle adds the charges that an audit of the whole history has staged to the oracle's counts and returns how many days
// were new. Only whole UTC days that had ended by until and have no charge pending are counted, each once per merchant and livemode
// and in a transaction of its own: it may run again after any error, and at the same time in other processes.
func (s *Service) countForOracle(ctx context.Context, merchant db.Merchant, auditID uuid.UUID, until time.Time) (days int, err error) {
	category := "other"
	if merchant.BusinessCategory != nil {
		category = *merchant.BusinessCategory
	}
	waiting, err := s.oracleDays(ctx, merchant, auditID, until)
	if err != nil {
		return 0, fmt.Errorf("add up days for the oracle: %w", err)
	}
	for _, date := range slices.Sorted(maps.Keys(waiting)) {
		day := db.OracleCountDayParams{
			MerchantID: merchant.ID, Livemode: merchant.Livemode, BusinessCategory: category,
			Day: pgtype.Date{Time: time.Unix(date*secondsPerDay, 0).UTC(), Valid: true},
		}
		for cell, n := range waiting[date] {
			day.DeclineClasses = append(day.DeclineClasses, oracleClasses[cell/(7*24)])
			day.DaysOfWeek = append(day.DaysOfWeek, int16(cell/24%7))
			day.HoursOfDay = append(day.HoursOfDay, int16(cell%24))
			day.Attempts = append(day.Attempts, int64(n.attempts))
			day.Successes = append(day.Successes, int64(n.successes))
		}
		cells, err := s.queries.OracleCountDay(ctx, day)
		if err != nil {
			return days, fmt.Errorf("count a day for the oracle: %w", err)
		}
		if cells > 0 { // or else somebody was faster
			days++
		}
	}
	return days, nil
}

const secondsPerDay = 24 * 60 * 60

// oracleDay is what was tried on one UTC day, by the class of the failure before ('none' where there was none) and the customer's hour.
type oracleDay map[oracleCell]oracleCounts

// oracleCell packs class, weekday and hour into two bytes: all days of a long history are in memory together.
type oracleCell uint16

var oracleClasses = []string{"none", "never", "customer", "timed", "low", "soon", "unknown"}

func cellOf(after string, weekday, hour int16) oracleCell {
	return oracleCell(slices.Index(oracleClasses, after)*7*24 + int(weekday)*24 + int(hour))
}

type oracleCounts struct{ attempts, successes uint32 }

// oracleDays adds up the days that may be counted, by their number since 1970. Memory grows with the days, not with the charges: a day
// has some 400 cells at most.
func (s *Service) oracleDays(ctx context.Context, merchant db.Merchant, auditID uuid.UUID, until time.Time) (map[int64]oracleDay, error) {
	counted, err := s.queries.OracleDays(ctx, db.OracleDaysParams{MerchantID: merchant.ID, Livemode: merchant.Livemode})
	if err != nil {
		return nil, err
	}
	closed := make(map[int64]bool, len(counted)) // counted, or to wait for another audit
	for _, day := range counted {
		closed[dayNumber(day.Time)] = true
	}
	days := map[int64]oracleDay{}
	before := lastFailure{latest: "none"}
	err = s.queries.OracleChargesEach(ctx, db.OracleChargesParams{
		MerchantID: merchant.ID, AuditID: auditID, Before: until.UTC().Truncate(24 * time.Hour),
	}, func(charge db.OracleChargesRow) {
		cell := cellOf(before.of(charge), charge.DayOfWeek, charge.HourOfDay)
		date := dayNumber(charge.CreatedAt)
		if charge.Outcome == "pending" {
			closed[date] = true
			delete(days, date)
		}
		if closed[date] {
			return
		}
		if days[date] == nil {
			days[date] = oracleDay{}
		}
		n := days[date][cell]
		n.attempts++
		if charge.Outcome == "succeeded" {
			n.successes++
		}
		days[date][cell] = n
	})
	return days, err
}

func dayNumber(t time.Time) int64 { return t.Unix() / secondsPerDay }

// lastFailure walks over charges, each debt's together and in order of time, and remembers how the last failure was classed.
type lastFailure struct {
	sequence string
	earlier  string    // the class of the last failure before moment
	moment   time.Time // of the charge seen last
	latest   string    // the class of the last failure up to moment
}

// of is the class of the last failure before this charge, "none" if there is none. Of two charges of one second neither is before the
// other: Stripe keeps no finer time. For the next one the greater class counts.
func (f *lastFailure) of(charge db.OracleChargesRow) string {
	if charge.Sequence != f.sequence {
		*f = lastFailure{sequence: charge.Sequence, latest: "none"}
	}
	if !charge.CreatedAt.Equal(f.moment) {
		f.earlier, f.moment = f.latest, charge.CreatedAt
	}
	if charge.Outcome == "failed" {
		f.latest = charge.DeclineClass
	}
	return f.earlier
}
