package db

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/vault"
)

// Unopened is how many values of a sealed column do not open.
type Unopened struct {
	Column string // "table.column"
	Values int64
}

// FindUnopened opens so many values of each sealed column at most, and returns the columns with
// values that do not open, without a word of these. all says that every value was looked at. The
// pool opens with the keyring.
func FindUnopened(ctx context.Context, pool *pgxpool.Pool, most int64) (found []Unopened, all bool, err error) {
	all = true
	for _, column := range sealedColumns {
		values, unopened, err := column.open(ctx, pool, most)
		if err != nil {
			return nil, false, fmt.Errorf("open %s.%s: %w", column.table, column.column, err)
		}
		if unopened > 0 {
			found = append(found, Unopened{column.table + "." + column.column, unopened})
		}
		all = all && values < most
	}
	return found, all, nil
}

func (c sealedColumn) open(ctx context.Context, pool *pgxpool.Pool, most int64) (values, unopened int64, err error) {
	table, column, keyID := c.names()
	rows, err := pool.Query(ctx, fmt.Sprintf("SELECT %s FROM %s WHERE %s IS NOT NULL LIMIT $1", column, table, keyID), most)
	if err != nil {
		return 0, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var token vault.StoredToken
		if err := rows.Scan(&token); err != nil {
			return 0, 0, err
		}
		values++
		if !token.Opens() {
			unopened++
		}
	}
	return values, unopened, rows.Err()
}
