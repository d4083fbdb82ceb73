package db_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db/dbtest"
)

// Ids come back as they were sent, alone, in an array and as NULL, in every exec mode.
func TestUUIDs(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	id, other := uuid.Must(uuid.NewV7()), uuid.New()
	for _, mode := range execModes {
		var one uuid.UUID
		var none, some *uuid.UUID
		var many []uuid.UUID
		if err := pool.QueryRow(t.Context(), "SELECT $1::uuid, NULL::uuid, $2::uuid, $3::uuid[]", mode, id, &other, []uuid.UUID{id, other}).
			Scan(&one, &none, &some, &many); err != nil {
			t.Errorf("%s: %v", mode, err)
			continue
		}
		if one != id || none != nil || *some != other || !slices.Equal(many, []uuid.UUID{id, other}) {
			t.Errorf("%s: %s, %v, %s, %s", mode, one, none, some, many)
		}
	}
	if err := pool.QueryRow(t.Context(), "SELECT NULL::uuid", pgx.QueryExecModeCacheDescribe).Scan(&id); err == nil {
		t.Error("NULL was read as an id")
	}
}
