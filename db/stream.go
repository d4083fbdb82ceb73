package db

import (
	"context"
	"errors"
	"iter"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// byHash has a statement join by hashing. The planner knows nothing of a CTE's rows, guesses a
// hundredth of them, and would compare each with each. Nor is such a statement compiled.
const byHash = "SET LOCAL enable_nestloop = off; SET LOCAL jit = off"

// errEnough says that nobody wants further rows.
var errEnough = errors.New("no further rows are wanted")

// AuditStreamDebts gives the rows of AuditListDebts one by one: there may be more than fit into
// memory. An error ends it as its last item.
func AuditStreamDebts(ctx context.Context, pool *pgxpool.Pool, merchantID, auditID uuid.UUID) iter.Seq2[AuditListDebtsRow, error] {
	return streamFacts[AuditListDebtsRow](ctx, pool, auditListDebts, merchantID, auditID)
}

// AuditStreamOthers gives the rows of AuditListOthers in the same way.
func AuditStreamOthers(ctx context.Context, pool *pgxpool.Pool, merchantID, auditID uuid.UUID) iter.Seq2[AuditListOthersRow, error] {
	return streamFacts[AuditListOthersRow](ctx, pool, auditListOthers, merchantID, auditID)
}

func streamFacts[Row any](ctx context.Context, pool *pgxpool.Pool, query string, merchantID, auditID uuid.UUID) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		// Without the bounds of others: it locks nothing, and its reader may take a while.
		begin := pgx.TxOptions{BeginQuery: "BEGIN READ ONLY; " + byHash + "; " + watch}
		err := pgx.BeginTxFunc(ctx, pool, begin, func(tx pgx.Tx) error {
			for row, err := range stream[Row](ctx, tx, query, merchantID, auditID) {
				if err != nil {
					return err
				}
				if !yield(row, nil) {
					return errEnough
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			var zero Row
			yield(zero, err)
		}
	}
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
