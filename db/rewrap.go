package db

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/vault"
)

// sealedColumn is a column of type sealed_token that Rewrap re-seals. Beside it stands a generated
// column_key_id.
type sealedColumn struct{ table, column string }

// sealedColumns are all of them but the sentinels, which belong to their key for good. A test holds
// the list against the database's own.
var sealedColumns = []sealedColumn{
	{"merchants", "access_token"},
	{"merchants", "refresh_token"},
	{"merchants", "hash_salt"},
	{"merchants", "webhook_secret"},
	{"ghost_targets", "email"},
	{"ghost_memories", "memory"},
	{"scheduled_tasks", "sealed_params"},
	{"audit_invoices", "email"},
	{"channels", "secret"},
	{"shield_keys", "secret"},
	{"event_endpoints", "secret"},
}

// rewrapBatch bounds how long a row stays locked, which a handshake of that merchant waits for.
const rewrapBatch = 200

// Rewrapped says what a rewrap did.
type Rewrapped struct {
	Values int64 // sealed again under the newest key
	// ids of the keys that seal nothing any more and may be taken out of ENCRYPTION_KEYS_PREVIOUS
	Retired []string
}

// DamagedError lists the places of values that do not open under their key. All others were
// rewrapped.
type DamagedError struct{ Places []string }

func (e DamagedError) Error() string {
	return fmt.Sprintf("%d values do not open and stay as they are: %s: put these rows back from a backup, or let the merchant "+
		"connect again", len(e.Places), strings.Join(e.Places, ", "))
}

// Rewrap seals every value again that is not sealed under ring's newest key, in short transactions
// and each row locked, while servers run. Ended at any point, it goes on from there when called
// again; several at once share the work. Progress, if not nil, is called with the values done and
// those found at the start. Values that do not open are passed over and end it with a
// [DamagedError].
func Rewrap(ctx context.Context, pool *pgxpool.Pool, ring *vault.Keyring, progress func(done, total int64)) (Rewrapped, error) {
	var result Rewrapped
	if err := VerifyKeyring(ctx, pool, ring); err != nil {
		return result, err
	}
	sentinels, err := New(pool).VaultSentinelListKeyIDs(ctx)
	if err != nil {
		return result, err
	}
	old := slices.DeleteFunc(sentinels, func(id string) bool { return id == ring.KeyID() })
	var total int64
	for _, column := range sealedColumns {
		count, err := column.count(ctx, pool, old)
		if err != nil {
			return result, err
		}
		total += count
	}
	var damaged DamagedError
	for _, column := range sealedColumns {
		var passedOver []string
		for {
			count, err := column.rewrapSome(ctx, pool, old, &passedOver)
			if err != nil {
				return result, fmt.Errorf("rewrap %s.%s: %w", column.table, column.column, err)
			}
			result.Values += count
			if progress != nil && count > 0 {
				progress(result.Values, total)
			}
			if count > 0 {
				continue
			}
			// A batch may also come back empty because another rewrap was faster.
			left, err := column.count(ctx, pool, old)
			if err != nil {
				return result, err
			}
			if left <= int64(len(passedOver)) {
				break
			}
		}
		damaged.Places = append(damaged.Places, passedOver...)
	}
	if len(damaged.Places) > 0 {
		return result, damaged
	}
	for _, id := range old {
		if err := retire(ctx, pool, id); err != nil {
			return result, err
		}
		result.Retired = append(result.Retired, id)
	}
	return result, nil
}

// retire drops the sentinel of a key that seals nothing any more. The foreign keys refuse it while
// something is sealed under the key, in columns that a newer schema added too, and refuse what
// a process still seals under it later.
func retire(ctx context.Context, pool *pgxpool.Pool, keyID string) error {
	_, err := New(pool).VaultSentinelDelete(ctx, keyID)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == "23503" {
		return fmt.Errorf("values under key id %s keep coming: a process still seals under it; give every process the new "+
			"ENCRYPTION_KEY, then run phantom rewrap again", keyID)
	}
	return err
}

// names quotes the table and its columns for SQL. They come from the list above, never from
// outside.
func (c sealedColumn) names() (table, column, keyID string) {
	return pgx.Identifier{c.table}.Sanitize(), pgx.Identifier{c.column}.Sanitize(), pgx.Identifier{c.column + "_key_id"}.Sanitize()
}

func (c sealedColumn) count(ctx context.Context, db DBTX, keyIDs []string) (count int64, err error) {
	table, _, keyID := c.names()
	err = db.QueryRow(ctx, fmt.Sprintf("SELECT count(*) FROM %s WHERE %s = ANY($1)", table, keyID), keyIDs).Scan(&count)
	return count, err
}

// rewrapSome re-seals a batch of the values under old keys and returns how many. The codec opens on
// the way out and seals under the newest key on the way in. A row's ctid stays what it is while we
// hold its lock.
func (c sealedColumn) rewrapSome(ctx context.Context, pool *pgxpool.Pool, old []string, damaged *[]string) (count int64, err error) {
	table, column, keyID := c.names()
	err = InTx(ctx, pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, fmt.Sprintf(`
			SELECT ctid, %[2]s, (%[2]s).context FROM %[1]s
			WHERE %[3]s = ANY($1) AND NOT (%[2]s).context = ANY($2) LIMIT %[4]d FOR UPDATE`,
			table, column, keyID, rewrapBatch), old, append([]string{}, *damaged...))
		if err != nil {
			return err
		}
		defer rows.Close()
		updates := &pgx.Batch{}
		for rows.Next() {
			// Not rows.Scan, which would end the batch at the first value that does not open.
			scan := func(i int, target any) error {
				field := rows.FieldDescriptions()[i]
				return rows.Conn().TypeMap().Scan(field.DataTypeOID, field.Format, rows.RawValues()[i], target)
			}
			var place pgtype.TID
			var token vault.EncryptedToken
			var context string
			if err := errors.Join(scan(0, &place), scan(2, &context)); err != nil {
				return err
			}
			if err := scan(1, &token); err != nil {
				*damaged = append(*damaged, context)
				continue
			}
			updates.Queue(fmt.Sprintf("UPDATE %[1]s SET %[2]s = $2 WHERE ctid = $1", table, column), place, token)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		count = int64(updates.Len())
		return tx.SendBatch(ctx, updates).Close()
	})
	return count, err
}
