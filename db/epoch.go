package db

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Epoch names the history of a database, in 8 hex digits. A restore into another server and a
// failover begin a new one: what was committed last may be lost there.
func Epoch(ctx context.Context, from DBTX) (string, error) {
	var history string
	if err := from.QueryRow(ctx, `SELECT (pg_control_system()).system_identifier::text || ' ' ||
		CASE WHEN pg_is_in_recovery() THEN '' ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END || ' ' || current_database()`).
		Scan(&history); err != nil {
		return "", fmt.Errorf("read which history this is: %w", err)
	}
	sum := sha256.Sum256([]byte(history))
	return hex.EncodeToString(sum[:4]), nil
}
