package recovery

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/gate"
	"phantom/sandbox"
	"phantom/task"
)

// due is one more try at the bench's one charge, which is due. It returns how many charges Stripe
// has executed then.
func (b *bench) due(charge uuid.UUID) (executed int) {
	b.t.Helper()
	b.Exec("UPDATE scheduled_tasks SET status = 'pending', lease_until = NULL, run_at = phantom_now() WHERE id = $1 AND status IN ('pending', 'running')", charge)
	row, err := b.queries.TaskClaimOne(b.t.Context(), db.TaskClaimOneParams{LeaseSeconds: 60, MerchantID: b.merchant, ID: charge})
	if err != nil {
		b.t.Fatal(err)
	}
	held := &task.Task{MerchantID: row.MerchantID, ID: row.ID, Kind: row.Kind, Params: row.Params, Attempt: row.Attempts, Fence: row.Fence, FirstSentAt: row.FirstSentAt}
	if err := b.s.HandleMutation(b.t.Context(), held); err != nil && err.Error() != task.Snooze(0).Error() {
		b.t.Errorf("%v\n%s", err, b.log)
	}
	for _, e := range b.world.Ledger(b.account) {
		if strings.HasSuffix(e.Path, "/pay") {
			executed++
		}
	}
	return executed
}

// A merchant's halt holds back their charges and nobody else's, and neither they nor the operator
// lift the other's.
func TestAMerchantsHaltIsTheirs(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	ctx := t.Context()
	charge := func(seed uint64) (*bench, uuid.UUID) {
		t.Helper()
		b := setupOn(t, sandbox.Config{Seed: seed, Merchants: 1, OpenInvoices: 1}, pool)
		b.audit()
		b.recoverWith(nil)
		if _, err := b.startAll(); err != nil {
			t.Fatal(err)
		}
		if err := b.queue().RunOne(ctx, b.merchant, b.text2id("SELECT id::text FROM scheduled_tasks WHERE params ->> 'do' = 'begin' AND status = 'pending'")); err != nil {
			t.Fatal(err)
		}
		return b, b.planned(gate.KindPay)
	}
	other, others := charge(2)
	if _, err := other.s.Halt(ctx, other.merchant); err != nil {
		// it is the first: nothing of it must be planned elsewhere
		t.Fatal(err)
	}
	other.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() + interval '1 hour' WHERE id = $1", others)
	b, own := charge(1)
	if b.merchant == other.merchant || own == others {
		t.Fatal("the two are one merchant")
	}
	since, err := b.s.Halt(ctx, b.merchant)
	if err != nil || since == nil {
		t.Fatal(since, err)
	}
	if at, err := other.s.Unhalt(ctx, other.merchant); at != nil || err != nil {
		t.Fatal(at, err)
	}
	if n := b.due(own); n != 0 {
		t.Errorf("%d charges in spite of the halt", n)
	}
	if n := other.due(others); n != 1 {
		t.Errorf("the other merchant's halt is lifted: %d charges", n)
	}
	if again, err := b.s.Halt(ctx, b.merchant); err != nil || again == nil || !again.Equal(*since) {
		t.Errorf("halted again since %v, %v, want %v", again, err, since)
	}

	operator := db.HaltCreateParams{Scope: b.merchant, By: "operator"}
	if _, err := b.queries.HaltCreate(ctx, operator); err != nil {
		t.Fatal(err)
	}
	if at, err := b.s.Unhalt(ctx, b.merchant); at == nil || err != nil {
		t.Errorf("the merchant has lifted the operator's halt: %v", err)
	}
	if n := b.due(own); n != 0 {
		t.Errorf("%d charges in spite of the operator's halt", n)
	}
	if _, err := b.s.Halt(ctx, b.merchant); err != nil {
		t.Fatal(err)
	}
	if _, err := b.queries.HaltDelete(ctx, db.HaltDeleteParams(operator)); err != nil {
		t.Fatal(err)
	}
	if n := b.due(own); n != 0 {
		t.Errorf("%d charges: the operator has lifted the merchant's halt", n)
	}
	if at, err := b.s.Unhalt(ctx, b.merchant); at != nil || err != nil {
		t.Error(at, err)
	}
	if n := b.due(own); n != 1 {
		t.Errorf("%d charges after both are lifted", n)
	}
}
