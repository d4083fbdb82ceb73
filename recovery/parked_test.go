package recovery

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"phantom/connect"
	"phantom/db"
	"phantom/sandbox"
	"phantom/state"
	"phantom/task"
)

// rest runs a task until it rests as want.
func (b *bench) rest(id uuid.UUID, want state.Task) {
	b.t.Helper()
	b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE id = $1", id)
	err := b.queue().RunOne(b.t.Context(), b.merchant, id)
	var status *task.StatusError
	if (err != nil || want != state.TaskSucceeded) && (!errors.As(err, &status) || status.Status != want) {
		b.t.Fatalf("%v, want %s\n%s", err, want, b.log)
	}
}

// A charge that was marked as sent and then parked is canceled by nobody, and after the probe it is
// settled: the customer is charged once.
func TestAParkedChargeIsSettled(t *testing.T) {
	t.Parallel()
	b, id := setupCharge(t)
	b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/invoices", Status: 401, Times: -1})
	b.world.Fail(sandbox.Fault{Path: "/v1/account", Status: 401, Times: -1})
	b.rest(id, state.TaskParked)
	if n := b.Count("SELECT count(*) FROM scheduled_tasks WHERE id = $1 AND first_sent_at IS NOT NULL", id); n != 1 {
		t.Fatal("the charge is not marked as sent")
	}
	hunt := uuid.MustParse(b.Text("SELECT params ->> 'hunt' FROM scheduled_tasks WHERE id = $1", id))
	if n, err := b.queries.TaskCancel(t.Context(), db.TaskCancelParams{MerchantID: b.merchant, ID: id}); n != 0 || err != nil {
		t.Errorf("a person could cancel it: %v", err)
	}
	if n, err := b.queries.TaskCancelKeys(t.Context(), db.TaskCancelKeysParams{
		MerchantID: b.merchant, UniqueKeys: []string{chargeKey(hunt)}, Why: "test",
	}); n != 0 || err != nil {
		t.Errorf("a hunt's end could cancel it: %v", err)
	}
	b.world.Mend()
	probe := b.planned(connect.KindProbe)
	b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE id = $1", probe)
	row, err := b.queries.TaskClaimOne(t.Context(), db.TaskClaimOneParams{LeaseSeconds: 60, MerchantID: b.merchant, ID: probe})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.connect.HandleProbe(t.Context(), &task.Task{MerchantID: b.merchant, ID: probe, Fence: row.Fence}); err != nil {
		t.Fatal(err)
	}
	b.rest(id, state.TaskSucceeded)
	paid := 0
	for _, e := range b.world.Ledger(b.account) {
		if strings.HasSuffix(e.Path, "/pay") {
			paid++
		}
	}
	if paid != 1 {
		t.Errorf("charged %d times", paid)
	}
}
