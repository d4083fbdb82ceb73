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

// OracleHistoryEach calls each for every row of OracleHistory and holds one at a time. each must
// not use q.
func (q *Queries) OracleHistoryEach(ctx context.Context, arg OracleHistoryParams, each func(OracleHistoryRow)) error {
	rows, err := q.db.Query(ctx, oracleHistory, arg.MerchantID, arg.AuditID, arg.Before)
	if err != nil {
		return err
	}
	var row OracleHistoryRow
	_, err = pgx.ForEachRow(rows, []any{
		&row.Customer, &row.Invoice, &row.CreatedAt, &row.Outcome, &row.DeclineClass, &row.DeclineCode, &row.Brand, &row.Funding, &row.Country,
		&row.Zone, &row.Amount, &row.Currency,
	}, func() error { each(row); return nil })
	return err
}

// OracleListCellsEach calls each for every row of OracleListCells and holds one at a time. each
// must not use q.
func (q *Queries) OracleListCellsEach(ctx context.Context, livemode bool, each func(OracleListCellsRow)) error {
	rows, err := q.db.Query(ctx, oracleListCells, livemode)
	if err != nil {
		return err
	}
	var row OracleListCellsRow
	_, err = pgx.ForEachRow(rows, []any{&row.MerchantID, &row.Month, &row.Ours, &row.Cell, &row.Attempts, &row.Successes},
		func() error { each(row); return nil })
	return err
}

// OracleListSettledEach calls each for every row of OracleListSettled and holds one at a time. each
// must not use q.
func (q *Queries) OracleListSettledEach(ctx context.Context, livemode bool, each func(OracleListSettledRow)) error {
	rows, err := q.db.Query(ctx, oracleListSettled, livemode)
	if err != nil {
		return err
	}
	var row OracleListSettledRow
	_, err = pgx.ForEachRow(rows, []any{&row.Class, &row.P, &row.Paid}, func() error { each(row); return nil })
	return err
}
