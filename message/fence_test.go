package message

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/internal/stage"
	"phantom/playbook"
	"phantom/state"
	"phantom/task"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

// noHunts hears how messages have ended.
type noHunts struct{ ended int }

func (*noHunts) MayWrite(context.Context, *db.Queries, Question) (Permission, error) {
	return Permission{}, nil
}
func (n *noHunts) MessageEnded(context.Context, pgx.Tx, Ended) error { n.ended++; return nil }
func (*noHunts) EndUnwanted(context.Context, db.DBTX, db.Hunt) (bool, error) {
	return false, nil
}

// A process that was taken for dead comes back to life: what it writes with its old fence changes
// nothing, and its hunt hears nothing.
func TestStaleEndChangesNothing(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	queries, hunts := db.New(pool), &noHunts{}
	s := New(pool, nil, Config{Log: slog.New(slog.DiscardHandler)})
	s.Hunts = hunts
	merchant, exec := stage.Merchant(t, pool, "acct_1"), stage.On(t, pool).Exec
	ghost, hunt, id := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	exec("INSERT INTO playbooks (merchant_id, version, body) VALUES ($1, 1, '{}')", merchant)
	exec(`INSERT INTO hunts (merchant_id, id, ghost_id, customer, playbook_version, mode, held_out, livemode, decline_class, currency, amount)
		VALUES ($1, $2, $3, sha256('customer'), 1, 'recover', false, false, 'timed', 'usd', 4900)`, merchant, hunt, ghost)
	exec("INSERT INTO messages (merchant_id, id, hunt_id, step, channel, template, planned_for, state) VALUES ($1, $2, $3, 0, 'email', 'reminder', phantom_now(), 'sending')",
		merchant, id, hunt)
	if _, err := task.Enqueue(t.Context(), pool, task.New{MerchantID: merchant, ID: id, Kind: playbook.Email}); err != nil {
		t.Fatal(err)
	}
	claim := func() *task.Task {
		t.Helper()
		row, err := queries.TaskClaimOne(t.Context(), db.TaskClaimOneParams{LeaseSeconds: 60, MerchantID: merchant, ID: id})
		if err != nil {
			t.Fatal(err)
		}
		return &task.Task{MerchantID: merchant, ID: id, Kind: row.Kind, Fence: row.Fence}
	}
	dead := claim()
	exec("UPDATE scheduled_tasks SET status = 'pending', lease_until = NULL WHERE id = $1", id)
	alive := claim()
	load := func() db.MessageLoadRow {
		t.Helper()
		row, err := queries.MessageLoad(t.Context(), db.MessageLoadParams{MerchantID: merchant, ID: id})
		if err != nil {
			t.Fatal(err)
		}
		return row
	}
	err := s.end(t.Context(), &message{MessageLoadRow: load(), task: dead}, failed("x"))
	if got := load().State; !errors.Is(err, task.ErrLost) || got != state.MessageSending || hunts.ended != 0 {
		t.Errorf("a stale fence wrote %s: %v", got, err)
	}
	err = s.end(t.Context(), &message{MessageLoadRow: load(), task: alive}, sent("email_1"))
	if got := load().State; err != nil || got != state.MessageSent || hunts.ended != 1 {
		t.Errorf("the task's holder wrote %s: %v", got, err)
	}
}
