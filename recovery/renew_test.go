package recovery

import (
	"testing"

	"github.com/google/uuid"

	"phantom/sandbox"
	"phantom/task"
)

// A new payment method is news for the hunts that act, each once at a time, and for no others.
func TestMethodsChangedTellsHunts(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 6})
	b.audit()
	b.recoverWith(nil)
	if _, err := b.startAll(); err != nil {
		t.Fatal(err)
	}
	rows, err := b.pool.Query(t.Context(), "SELECT id, ghost_id FROM hunts ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	var hunts, ghosts []uuid.UUID
	for rows.Next() {
		var hunt, ghost uuid.UUID
		if err := rows.Scan(&hunt, &ghost); err != nil {
			t.Fatal(err)
		}
		hunts, ghosts = append(hunts, hunt), append(ghosts, ghost)
	}
	if len(hunts) < 5 {
		t.Fatalf("%d hunts", len(hunts))
	}
	b.Exec("UPDATE hunts SET held_out = true WHERE id = $1", hunts[0])
	b.Exec("UPDATE hunts SET mode = 'observe' WHERE id = $1", hunts[1])
	b.Exec("UPDATE hunts SET state = 'stopped', ended_reason = 'x', ended_at = now() WHERE id = $1", hunts[2])
	told := func(of []uuid.UUID) {
		t.Helper()
		if err := b.s.MethodsChanged(t.Context(), b.pool, b.merchant, of); err != nil {
			t.Fatal(err)
		}
	}
	told(ghosts[:4])
	told(ghosts[:4])
	told(nil)
	const asked = "SELECT count(*) FROM scheduled_tasks WHERE kind = 'hunt' AND params ->> 'do' = 'method' AND status = $1"
	if n := b.Count(asked, "pending"); n != 1 {
		t.Fatalf("%d hunts look at the methods", n)
	}
	var id uuid.UUID
	if err := b.pool.QueryRow(t.Context(), "SELECT id FROM scheduled_tasks WHERE params ->> 'do' = 'method' AND params ->> 'hunt' = $1",
		hunts[3].String()).Scan(&id); err != nil {
		t.Fatal(err)
	}
	if err := b.queue().RunOne(t.Context(), b.merchant, id); err != nil {
		t.Error(err)
	}
	told(ghosts[3:4])
	if n := b.Count(asked, "pending"); n != 1 {
		t.Errorf("%d hunts look again", n)
	}
	if err := b.s.HandleHunt(t.Context(), &task.Task{MerchantID: b.merchant, Params: []byte(`{"hunt":"` + newID().String() + `","do":"method"}`)}); err != nil {
		t.Errorf("a hunt that is not there: %v", err)
	}
}
