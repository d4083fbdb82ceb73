package shield_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/connect"
	"phantom/db"
	"phantom/internal/stage"
	"phantom/shield"
)

func TestStaleIsToldOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	quiet := stage.Merchant(t, b.pool, "acct_2") // has said nothing
	var told []map[string]any
	b.s = shield.New(b.pool, shield.Config{Log: b.log.Logger(), Hash: connect.HasherIn,
		Emit: func(_ context.Context, _ db.DBTX, merchant uuid.UUID, kind string, data any) error {
			if merchant != b.merchant || kind != "shield.stale" {
				t.Errorf("an event %s of %s", kind, merchant)
			}
			text, _ := json.Marshal(data)
			var event map[string]any
			if err := json.Unmarshal(text, &event); err != nil {
				t.Error(err)
			}
			told = append(told, event)
			return nil
		}})
	b.policy(`{"mode":"enforce","fail":{"mode":"closed","max_stale":"5m"}}`)
	policy, err := shield.Parse([]byte(`{"mode":"enforce","fail":{"mode":"closed","max_stale":"5m"}}`))
	if err != nil {
		t.Fatal(err)
	}
	tenants := []shield.Tenant{{ID: b.merchant, Policy: policy}, {ID: quiet, Policy: shield.Default()}}
	tell := func(away time.Duration) int {
		t.Helper()
		n, err := b.s.TellStale(t.Context(), tenants, away)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}

	if n := tell(10 * time.Minute); n != 1 || len(told) != 1 {
		t.Fatalf("%d told, %v: only who enforces a policy is", n, told)
	}
	first := told[0]
	if first["expired"] != true || first["mode"] != "closed" {
		t.Errorf("ten minutes under a max_stale of five are %v", first)
	}
	since, _ := time.Parse(time.RFC3339, first["since"].(string))
	until, _ := time.Parse(time.RFC3339, first["until"].(string))
	if d := until.Sub(since); d < 9*time.Minute+58*time.Second || d > 10*time.Minute+2*time.Second {
		t.Errorf("it lasted for %s, want 10 minutes", d)
	}
	if n := tell(9 * time.Minute); n != 0 || len(told) != 1 { // another server
		t.Errorf("the same time was told again: %v", told)
	}

	b.Exec("UPDATE shield_revisions SET stale_until = stale_until - interval '1 hour'")
	if n := tell(2 * time.Minute); n != 1 || told[1]["expired"] != false {
		t.Errorf("%d told of another time: %v", n, told)
	}

	b.Exec("UPDATE shield_revisions SET stale_until = NULL")
	tenants[0].Disconnected = true
	if n := tell(time.Hour); n != 0 {
		t.Error("who has left is told")
	}
}

func TestRehearsalIsADryRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 2 { // connecting anew adds nothing
		if err := shield.Rehearse(t.Context(), b.pool, b.merchant); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.Text("SELECT string_agg(version || ' ' || (body ->> 'mode'), ',') FROM shield_policies WHERE merchant_id = $1", b.merchant); got != "1 dry_run" {
		t.Errorf("policies: %s", got)
	}
}
