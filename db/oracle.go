package db

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// OracleChargesEach calls each for every row of OracleCharges and holds one at a time. each must
// not use q.
func (q *Queries) OracleChargesEach(ctx context.Context, arg OracleChargesParams, each func(OracleChargesRow)) error {
	rows, err := q.db.Query(ctx, oracleCharges, arg.MerchantID, arg.AuditID, arg.Before)
	if err != nil {
		return err
	}
	var row OracleChargesRow
	_, err = pgx.ForEachRow(rows,
		[]any{&row.Sequence, &row.CreatedAt, &row.Outcome, &row.DeclineClass, &row.DayOfWeek, &row.HourOfDay},
		func() error { each(row); return nil })
	return err
}
