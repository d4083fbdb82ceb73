package oracle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/decline"
)

// Count adds the charges that an audit of the whole history has staged to the oracle's counts and
// returns how many days were new. Only whole UTC days that had ended by until and have no charge
// pending are counted, each once per merchant and livemode, and all of them in one transaction: it
// may run again after any error, and at the same time in other processes.
func Count(ctx context.Context, pool *pgxpool.Pool, merchant db.Merchant, auditID uuid.UUID, until time.Time) (days int, err error) {
	queries, before := db.New(pool), until.UTC().Truncate(24*time.Hour)
	for {
		open, err := queries.OracleOpenDays(ctx, db.OracleOpenDaysParams{
			MerchantID: merchant.ID, Livemode: merchant.Livemode, AuditID: auditID, Before: before,
		})
		if err != nil {
			return 0, fmt.Errorf("list days for the oracle: %w", err)
		}
		if len(open) == 0 {
			return 0, nil
		}
		counts, err := addUp(ctx, queries, db.OracleChargesParams{MerchantID: merchant.ID, AuditID: auditID, Before: before}, open)
		if err != nil {
			return 0, fmt.Errorf("add up days for the oracle: %w", err)
		}
		err = add(ctx, pool, merchant, open, counts)
		if errors.Is(err, errCounted) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("count days for the oracle: %w", err)
		}
		return len(open), nil
	}
}

// errCounted says that another process has counted some of the days since they were listed.
var errCounted = errors.New("a day is counted already")

func add(ctx context.Context, pool *pgxpool.Pool, merchant db.Merchant, days []pgtype.Date, counts []counts) error {
	add := db.OracleCountParams{MerchantID: merchant.ID, Livemode: merchant.Livemode, BusinessCategory: "other"}
	if merchant.BusinessCategory != nil {
		add.BusinessCategory = *merchant.BusinessCategory
	}
	for cell, n := range counts {
		if n.attempts == 0 {
			continue
		}
		add.DeclineClasses = append(add.DeclineClasses, classes[cell/(7*24)])
		add.DaysOfWeek = append(add.DaysOfWeek, int16(cell/24%7))
		add.HoursOfDay = append(add.HoursOfDay, int16(cell%24))
		add.Attempts = append(add.Attempts, n.attempts)
		add.Successes = append(add.Successes, n.successes)
	}
	return db.InTx(ctx, pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		taken, err := queries.OracleTakeDays(ctx, db.OracleTakeDaysParams{MerchantID: merchant.ID, Livemode: merchant.Livemode, Days: days})
		if err != nil {
			return err
		}
		if taken < int64(len(days)) {
			return errCounted
		}
		return queries.OracleCount(ctx, add)
	})
}

const secondsPerDay = 24 * 60 * 60

// classes are the classes of the failure before an attempt, "none" where there was none.
var classes = append([]string{"none"}, db.Texts(decline.Classes)...)

// cellOf is the place of a class, a weekday and a customer's hour among the counts.
func cellOf(after string, weekday, hour int16) int {
	return slices.Index(classes, after)*7*24 + int(weekday)*24 + int(hour)
}

type counts struct{ attempts, successes int64 }

// addUp adds up the charges of some days, one count for each cell.
func addUp(ctx context.Context, queries *db.Queries, charges db.OracleChargesParams, days []pgtype.Date) ([]counts, error) {
	wanted := make(map[int64]bool, len(days))
	for _, day := range days {
		wanted[dayNumber(day.Time)] = true
	}
	counts := make([]counts, len(classes)*7*24)
	before := lastFailure{latest: "none"}
	err := queries.OracleChargesEach(ctx, charges, func(charge db.OracleChargesRow) {
		after := before.of(charge)
		if !wanted[dayNumber(charge.CreatedAt)] {
			return
		}
		n := &counts[cellOf(after, charge.DayOfWeek, charge.HourOfDay)]
		n.attempts++
		if charge.Outcome == "succeeded" {
			n.successes++
		}
	})
	return counts, err
}

func dayNumber(t time.Time) int64 { return t.Unix() / secondsPerDay }

// lastFailure walks over charges, each debt's together and in order of time, and remembers how the
// last failure was classed.
type lastFailure struct {
	sequence string
	earlier  string    // the class of the last failure before moment
	moment   time.Time // of the charge seen last
	latest   string    // the class of the last failure up to moment
}

// of is the class of the last failure before this charge, "none" if there is none. Of two charges
// of one second neither is before the other: Stripe keeps no finer time. For the next one the
// greater class counts.
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
