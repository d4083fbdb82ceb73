package app

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/internal/stage"
	"phantom/shield"
	"phantom/verdict"
)

// While nothing is heard nobody can be told: it is told once the database is there again.
func TestStaleLevelsAreToldAfterwards(t *testing.T) {
	t.Parallel()
	pool, log := dbtest.Pool(t), &stage.Log{}
	merchant := stage.Merchant(t, pool, "acct_1")
	if _, err := pool.Exec(t.Context(), "INSERT INTO shield_revisions (merchant_id) VALUES ($1)", merchant); err != nil {
		t.Fatal(err)
	}
	var told []string
	levels := shield.New(pool, shield.Config{Log: log.Logger(), Emit: func(_ context.Context, _ db.DBTX, _ uuid.UUID, kind string, _ any) error {
		told = append(told, kind)
		return nil
	}})
	v := &Verdicts{app: &App{Config: &Config{}, Log: log.Logger()}, services: Services{Shield: levels}, Table: verdict.NewTable()}
	look := func(want int) {
		t.Helper()
		if err := v.tellStale(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(told) != want || want > 0 && !slices.Equal(told[want-1:], []string{"shield.stale"}) {
			t.Errorf("told %v, want %d", told, want)
		}
	}
	v.Table.SyncedAgo(time.Hour)
	look(0)
	v.Table.Synced()
	look(0) // before anything was answered there was nothing old

	policy := shield.Default()
	policy.Mode = shield.Enforce
	if err := v.Table.Load("00000000", []shield.Tenant{{ID: merchant, Policy: policy}}, true, func(func(uuid.UUID, shield.Row)) error { return nil }); err != nil {
		t.Fatal(err)
	}
	look(0)
	v.Table.SyncedAgo(50 * time.Second) // a restart of the database
	look(0)
	v.Table.Synced()
	look(0)
	v.Table.SyncedAgo(3 * time.Minute)
	look(0)
	v.Table.SyncedAgo(5 * time.Minute)
	look(0)
	v.Table.Synced()
	look(1)
	look(1)
}
