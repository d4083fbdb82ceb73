package db

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/vault"
)

// sealedColumn is a column of type sealed_token that Rewrap re-seals. Its (key_id, iv) index finds what an old key sealed.
type sealedColumn struct{ table, column string }

// sealedColumns are all of them but the sentinels, which belong to their key for good. A test holds the list against the
// database's own.
var sealedColumns = []sealedColumn{
	{"merchants", "access_token"},
	{"merchants", "refresh_token"},
	{"ghost_targets", "email"},
	{"scheduled_tasks", "sealed_params"},
}

// rewrapBatch bounds how long a row stays locked, which a handshake of that merchant waits for.
const rewrapBatch = 200

// Rewrapped says what a rewrap did.
type Rewrapped struct {
	Values  int64    // sealed again under the newest key
	Retired []string // ids of the keys that seal nothing any more and may be taken out of ENCRYPTION_KEYS_PREVIOUS
}

// Rewrap seals every value again that is not sealed under ring's newest key, in short transactions and each row locked, while
// servers run. Ended at any point, it goes on from there when called again. Progress, if not nil, is called with the values done and
// those found at the start. A value that does not open ends it with an error that names its place.
func Rewrap(ctx context.Context, pool *pgxpool.Pool, ring *vault.Keyring, progress func(done, total int64)) (Rewrapped, error) {
	var result Rewrapped
	if err := VerifyKeyring(ctx, pool, ring); err != nil {
		return result, err
	}
	var total int64
	for _, column := range sealedColumns {
		count, err := column.countOthers(ctx, pool, ring.KeyID())
		if err != nil {
			return result, err
		}
		total += count
	}
	for _, column := range sealedColumns {
		for {
			// Asked again for each batch: a batch may come back empty because another rewrap was faster.
			id, err := column.oldKeyID(ctx, pool, ring)
			if err != nil {
				return result, err
			}
			if id == "" {
				break
			}
			count, err := column.rewrapSome(ctx, pool, id)
			if err != nil {
				return result, fmt.Errorf("rewrap %s.%s: %w", column.table, column.column, err)
			}
			result.Values += count
			if progress != nil {
				progress(result.Values, total)
			}
		}
	}
	var err error
	result.Retired, err = retireKeys(ctx, pool, ring)
	return result, err
}

// retireKeys drops the sentinels of keys that seal nothing any more.
func retireKeys(ctx context.Context, pool *pgxpool.Pool, ring *vault.Keyring) (retired []string, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		queries := New(tx)
		if err := queries.VaultSentinelLock(ctx); err != nil {
			return err
		}
		sentinels, err := queries.VaultSentinelListKeyIDs(ctx)
		if err != nil {
			return err
		}
		for _, column := range sealedColumns {
			id, err := column.oldKeyID(ctx, tx, ring)
			if err != nil {
				return err
			}
			if id != "" {
				return fmt.Errorf("values under key id %s keep coming: a process still seals under it; give every process the new "+
					"ENCRYPTION_KEY, then run phantom rewrap again", id)
			}
		}
		for _, id := range sentinels {
			if id == ring.KeyID() {
				continue
			}
			if _, err := queries.VaultSentinelDelete(ctx, id); err != nil {
				return err
			}
			retired = append(retired, id)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return retired, nil
}

// names quotes the table and the column for SQL. Both come from the list above, never from outside.
func (c sealedColumn) names() (table, column string) {
	return pgx.Identifier{c.table}.Sanitize(), pgx.Identifier{c.column}.Sanitize()
}

func (c sealedColumn) countOthers(ctx context.Context, db DBTX, keyID string) (count int64, err error) {
	table, column := c.names()
	err = db.QueryRow(ctx, fmt.Sprintf("SELECT count(*) FROM %s WHERE (%s).key_id <> $1", table, column), keyID).Scan(&count)
	return count, err
}

// keyIDs lists the key ids in use by hopping over the index from one to the next instead of reading the table.
func (c sealedColumn) keyIDs(ctx context.Context, db DBTX) ([]string, error) {
	table, column := c.names()
	rows, err := db.Query(ctx, fmt.Sprintf(`
		WITH RECURSIVE used AS (
			(SELECT (%[2]s).key_id AS id FROM %[1]s WHERE (%[2]s).key_id IS NOT NULL ORDER BY 1 LIMIT 1)
			UNION ALL
			SELECT (SELECT (%[2]s).key_id FROM %[1]s WHERE (%[2]s).key_id > used.id ORDER BY 1 LIMIT 1)
			FROM used WHERE used.id IS NOT NULL
		)
		SELECT id FROM used WHERE id IS NOT NULL ORDER BY id`, table, column))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// oldKeyID returns the id of a key in use other than ring's newest, or "".
func (c sealedColumn) oldKeyID(ctx context.Context, db DBTX, ring *vault.Keyring) (string, error) {
	ids, err := c.keyIDs(ctx, db)
	if err != nil {
		return "", err
	}
	if i := slices.IndexFunc(ids, func(id string) bool { return id != ring.KeyID() }); i >= 0 {
		return ids[i], nil
	}
	return "", nil
}

// rewrapSome re-seals a batch of the values under one old key and returns how many. The codec opens on the way out and seals
// under the newest key on the way in. A row's ctid stays what it is while we hold its lock.
func (c sealedColumn) rewrapSome(ctx context.Context, pool *pgxpool.Pool, keyID string) (count int64, err error) {
	table, column := c.names()
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, fmt.Sprintf(
			"SELECT ctid, %[2]s FROM %[1]s WHERE (%[2]s).key_id = $1 LIMIT %[3]d FOR UPDATE", table, column, rewrapBatch), keyID)
		if err != nil {
			return err
		}
		var place pgtype.TID
		var token vault.EncryptedToken
		updates := &pgx.Batch{}
		if _, err := pgx.ForEachRow(rows, []any{&place, &token}, func() error {
			updates.Queue(fmt.Sprintf("UPDATE %[1]s SET %[2]s = $2 WHERE ctid = $1", table, column), place, token)
			return nil
		}); err != nil {
			if errors.Is(err, vault.ErrOpen) {
				return fmt.Errorf("%w: put that row back from a backup or disconnect that merchant, then run phantom rewrap again", err)
			}
			return err
		}
		count = int64(updates.Len())
		return tx.SendBatch(ctx, updates).Close()
	})
	return count, err
}
