package oracle

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/decline"
	"phantom/internal/stage"
	"phantom/oracle/worlds"
)

// planned keeps advice about a charge that is planned for a moment, and says that it left at
// another.
func (s *bench) planned(t *testing.T, merchant db.Merchant, customer []byte, at, sent time.Time) uuid.UUID {
	t.Helper()
	id, object := uuid.Must(uuid.NewV7()), sha256.Sum256([]byte(uuid.NewString()))
	if _, err := s.queries.AttemptCreate(t.Context(), db.AttemptCreateParams{
		MerchantID: merchant.ID, Object: object[:], Action: "invoice_pay", TaskID: id, HuntID: id, Customer: customer, Currency: "usd", Amount: 1900,
		Reason: "x", Probability: 1, PlannedFor: at,
	}); err != nil {
		t.Fatal(err)
	}
	q := due(1)
	q.Merchant, q.Livemode = merchant.ID, merchant.Livemode
	m := ask(t, asking(at7()), q)
	m.At, m.Advice.Cell = at, "cell"
	if err := Keep(t.Context(), s.pool, merchant.ID, id, q, m); err != nil {
		t.Fatal(err)
	}
	if _, err := s.pool.Exec(t.Context(), "UPDATE attempts SET sent_at = $2, result = 'declined' WHERE task_id = $1", id, sent); err != nil {
		t.Fatal(err)
	}
	return id
}

// at7 is what a question in shadow is answered with, in both modes.
func at7() known { return at(Shadow, askedAt().Add(-time.Hour)) }

// An outcome counts once, in the month of the charge, and only where the charge left at about the
// moment that was foretold. Of who has left, none does.
func TestSettle(t *testing.T) {
	t.Parallel()
	s := newBench(dbtest.Pool(t))
	shop := oracleMerchant(t, s, "acct_1", "media", false)
	settle := func(id uuid.UUID, paid bool) {
		t.Helper()
		if err := Settle(t.Context(), s.pool, shop.ID, id, paid); err != nil {
			t.Fatal(err)
		}
	}
	cells := func(want string) {
		t.Helper()
		if got := stage.On(t, s.pool).Text(`SELECT coalesce(string_agg(format('%s %s %s %s/%s', month, ours, cell, successes, attempts), ', ' ORDER BY month), '') FROM oracle_cells`); got != want {
			t.Errorf("cells %q, want %q", got, want)
		}
	}
	customer := make([]byte, 32)
	// a UTC month ends
	at := time.Date(2026, 5, 31, 23, 30, 0, 0, time.UTC)
	paid := s.planned(t, shop, customer, at, at.Add(20*time.Minute))
	settle(paid, true)
	cells("2026-05-01 t cell 1/1")
	settle(paid, false)
	cells("2026-05-01 t cell 1/1")
	settle(s.planned(t, shop, customer, at, at.Add(5*time.Minute)), false)
	cells("2026-05-01 t cell 1/2")
	settle(s.planned(t, shop, customer, at, at.Add(40*time.Minute)), false)
	cells("2026-05-01 t cell 1/2, 2026-06-01 t cell 0/1")
	for _, off := range []time.Duration{-2 * time.Hour, 61 * time.Minute, 48 * time.Hour} {
		settle(s.planned(t, shop, customer, at, at.Add(off)), true)
	}
	settle(uuid.New(), true) // nobody was asked
	cells("2026-05-01 t cell 1/2, 2026-06-01 t cell 0/1")
	if n := dbtest.Count(t, s.pool, "SELECT count(*) FROM oracle_advice WHERE paid"); n != 1 {
		t.Errorf("%d are paid", n)
	}
	late := s.planned(t, shop, customer, at, at)
	dbtest.Exec(t, s.pool, "UPDATE merchants SET disconnected_at = now()")
	settle(late, true)
	cells("2026-05-01 t cell 1/2, 2026-06-01 t cell 0/1")
	if err := s.queries.OracleDropOldCells(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	cells("")
}

// A charge of a hunt is not counted again by the audit that reads it, and what a customer owes is
// remembered.
func TestGatherLeavesOutOurs(t *testing.T) {
	t.Parallel()
	s := newBench(dbtest.Pool(t))
	shop := oracleMerchant(t, s, "acct_1", "media", true)
	audit, started := uuid.Must(uuid.NewV7()), worlds.Start
	var rows []db.AuditAddChargesParams
	for i := range 8 {
		customer, invoice, class := fmt.Sprint("cus_", i%2), fmt.Sprint("in_", i), decline.Timed
		at := started.AddDate(0, 0, 7*i)
		for n, outcome := range []string{"failed", "failed", "succeeded"} {
			row := db.AuditAddChargesParams{
				MerchantID: shop.ID, AuditID: audit, Sequence: invoice, CreatedAt: at.AddDate(0, 0, n), Outcome: outcome, Customer: &customer, Amount: new(int64(900)),
				Currency: new("usd"), Funding: new("debit"), Brand: new("visa"),
			}
			if outcome == "failed" {
				row.DeclineClass, row.DeclineCode = &class, new("insufficient_funds")
			}
			rows = append(rows, row)
		}
	}
	if _, err := s.queries.AuditAddCharges(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	gather := func() int64 {
		t.Helper()
		if err := Gather(t.Context(), s.pool, shop, audit, worlds.Play, hashOf); err != nil {
			t.Fatal(err)
		}
		return dbtest.Count(t, s.pool, "SELECT coalesce(sum(attempts), 0) FROM oracle_cells WHERE NOT ours")
	}
	if n := gather(); n != 16 {
		t.Fatalf("%d charges after a failure are counted, want 16", n)
	}
	// the second charge of in_0 was ours; a minute lies between the clocks. One of another
	// customer's at that time was not.
	sent := started.AddDate(0, 0, 1).Add(time.Minute)
	s.planned(t, shop, hashOf("customer", "cus_0"), sent, sent)
	s.planned(t, shop, hashOf("customer", "cus_9"), started.AddDate(0, 0, 8), started.AddDate(0, 0, 8))
	if n := gather(); n != 15 {
		t.Errorf("%d charges are counted beside one of ours, want 15", n)
	}

	ghost := uuid.Must(uuid.NewV7())
	dbtest.Exec(t, s.pool, `INSERT INTO ghost_targets (merchant_id, id, stripe_customer_id, stripe_subscription_id, stripe_invoice_id, amount, currency, rule)
		SELECT id, '`+ghost.String()+`', 'cus_0', 'sub_1', 'in_6', 900, 'usd', 'past_due' FROM merchants`)
	gather()
	remembered, err := Memories(t.Context(), s.queries, shop.ID, []db.GhostTarget{{ID: ghost}})
	if err != nil {
		t.Fatal(err)
	}
	m := remembered[ghost]
	if len(m.Charges) != 12 || m.Brand != "visa" || m.Funding != "debit" || len(m.Failures("in_6")) != 2 {
		t.Errorf("remembered: %+v", m)
	}
	if sealed := stage.On(t, s.pool).Text("SELECT (memory).ciphertext FROM ghost_memories"); len(sealed) == 0 {
		t.Error("it is not sealed")
	}
	before := stage.On(t, s.pool).Text("SELECT (memory).iv FROM ghost_memories")
	if gather(); stage.On(t, s.pool).Text("SELECT (memory).iv FROM ghost_memories") != before {
		t.Error("what has not changed is written again")
	}
	dbtest.Exec(t, s.pool, "DELETE FROM ghost_targets")
	if n := dbtest.Count(t, s.pool, "SELECT count(*) FROM ghost_memories"); n != 0 {
		t.Errorf("%d memories outlive their ghost", n)
	}
}
