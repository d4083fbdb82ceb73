package db

import (
	"context"
	"iter"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// AuditStreamDebts gives the rows of AuditListDebts one by one: there may be more than fit into memory. An error ends it as its last item.
func (q *Queries) AuditStreamDebts(ctx context.Context, merchantID, auditID uuid.UUID) iter.Seq2[AuditListDebtsRow, error] {
	return stream[AuditListDebtsRow](ctx, q.db, auditListDebts, merchantID, auditID)
}

func stream[T any](ctx context.Context, db DBTX, query string, args ...any) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		rows, err := db.Query(ctx, query, args...)
		if err == nil {
			defer rows.Close()
			for rows.Next() {
				row, err := pgx.RowToStructByPos[T](rows)
				if !yield(row, err) || err != nil {
					return
				}
			}
			err = rows.Err()
		}
		if err != nil {
			var zero T
			yield(zero, err)
		}
	}
}
