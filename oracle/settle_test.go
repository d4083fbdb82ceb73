package oracle

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/connect"
	"phantom/db"
	"phantom/db/dbtest"
	"phantom/decline"
	"phantom/figures"
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
	// In newer versions each charge of an invoice may have a payment intent of its own.
	dbtest.Exec(t, s.pool, `INSERT INTO audit_intents (merchant_id, audit_id, invoice, status, intent)
		SELECT merchant_id, audit_id, sequence, '', 'pi_' || md5(created_at::text) FROM audit_charges`)
	dbtest.Exec(t, s.pool, "UPDATE audit_charges SET intent = 'pi_' || md5(created_at::text), sequence = 'pi_' || md5(created_at::text)")
	if n := gather(); n != 16 {
		t.Fatalf("%d charges are counted in newer shapes, want 16", n)
	}
	// the second charge of in_0 was ours; a minute lies between the clocks. One of another
	// customer's at that time was not.
	sent := started.AddDate(0, 0, 1).Add(time.Minute)
	ours := s.planned(t, shop, hashOf("customer", "cus_0"), sent, sent)
	others := s.planned(t, shop, hashOf("customer", "cus_9"), started.AddDate(0, 0, 8), started.AddDate(0, 0, 8))
	if n := gather(); n != 16 {
		t.Errorf("%d charges are counted beside one of ours that nobody was told of, want 16", n)
	}
	for _, id := range []uuid.UUID{ours, others} {
		if err := Settle(t.Context(), s.pool, shop.ID, id, false); err != nil {
			t.Fatal(err)
		}
	}
	if n := gather(); n != 15 {
		t.Errorf("%d charges are counted beside one of ours, want 15", n)
	}

	ghost := uuid.Must(uuid.NewV7())
	dbtest.Exec(t, s.pool, `INSERT INTO ghost_targets (merchant_id, id, stripe_customer_id, stripe_subscription_id, stripe_invoice_id, amount, currency, rule)
		SELECT id, '`+ghost.String()+`', 'cus_0', 'sub_1', 'in_6', 900, 'usd', 'past_due' FROM merchants`)
	gather()
	remembered, err := Memories(t.Context(), s.queries, shop.ID, []uuid.UUID{ghost})
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
	newer := Remember([]Seen{{At: worlds.Play.Add(time.Hour), Invoice: "in_6", Class: decline.Low}}, worlds.Play)
	keep := func(m Memory) {
		t.Helper()
		if err := KeepMemories(t.Context(), s.pool, shop.ID, map[uuid.UUID]Memory{ghost: m}); err != nil {
			t.Fatal(err)
		}
	}
	keep(newer)
	gather() // its facts are older than what is known by now
	if known, _ := Memories(t.Context(), s.queries, shop.ID, []uuid.UUID{ghost}); len(known[ghost].Charges) != 1 {
		t.Errorf("an audit puts back what is older: %+v", known[ghost])
	}
	dbtest.Exec(t, s.pool, "DELETE FROM ghost_memories")
	gather()
	before := stage.On(t, s.pool).Text("SELECT (memory).iv FROM ghost_memories")
	if gather(); stage.On(t, s.pool).Text("SELECT (memory).iv FROM ghost_memories") != before {
		t.Error("what has not changed is written again")
	}
	dbtest.Exec(t, s.pool, "DELETE FROM ghost_targets")
	if n := dbtest.Count(t, s.pool, "SELECT count(*) FROM ghost_memories"); n != 0 {
		t.Errorf("%d memories outlive their ghost", n)
	}
}

// Customers are compared by their first hunt since the oracle is on, once its window is over,
// whether or not it was ever charged.
func TestArmsAreOfHunts(t *testing.T) {
	t.Parallel()
	s := newBench(dbtest.Pool(t))
	shop := oracleMerchant(t, s, "acct_1", "media", false)
	dbtest.Exec(t, s.pool, `INSERT INTO playbooks (merchant_id, version, body) SELECT id, 1, '{"window_days": 14}' FROM merchants`)
	n := 0
	hunt := func(customer, arm string, daysAgo int, paidAfter int) {
		t.Helper()
		n++
		dbtest.Exec(t, s.pool, `INSERT INTO hunts (merchant_id, id, ghost_id, customer, playbook_version, mode, held_out, currency, amount, decline_class, livemode, state,
				ended_at, ended_reason, began_at, paid_at, oracle_arm)
			VALUES ($1, gen_random_uuid(), gen_random_uuid(), sha256($2::text::bytea), 1, 'recover', false, 'usd', 100, 'timed', false, 'stopped', now(), 'x',
				now() - $3 * interval '1 day', now() - $3 * interval '1 day' + nullif($4, 0) * interval '1 day', nullif($5, ''))`, shop.ID, customer, daysAgo, paidAfter, arm)
	}
	hunt("paid in time", ArmOracle, 40, 5)
	hunt("paid too late", ArmOracle, 40, 15)
	hunt("never", ArmOracle, 20, 0)
	hunt("not over", ArmOracle, 10, 3)
	hunt("before it was on", ArmOracle, 80, 3)
	hunt("not asked", "", 40, 3)
	hunt("the first counts", ArmHeuristic, 40, 0)
	hunt("the first counts", ArmHeuristic, 20, 1)
	hunt("paid", ArmHeuristic, 20, 2)
	now := time.Now()
	var e Evidence
	if err := e.arms(t.Context(), s.queries, false, Standing{Since: now.AddDate(0, 0, -60), Compared: now.AddDate(0, 0, -14)}); err != nil {
		t.Fatal(err)
	}
	if want := (Arms{figures.Arm{Customers: 3, Recovered: 1}, figures.Arm{Customers: 2, Recovered: 1}}); e.All != want {
		t.Errorf("%+v, want %+v", e.All, want)
	}
	if want := (Arms{figures.Arm{Customers: 1}, figures.Arm{Customers: 1, Recovered: 1}}); e.Late != want {
		t.Errorf("late: %+v, want %+v", e.Late, want)
	}
}

// What was said goes in time: reasons and cells after 90 days, all of it with its merchant.
func TestWhatWasSaidIsForgotten(t *testing.T) {
	t.Parallel()
	s := newBench(dbtest.Pool(t))
	shop := oracleMerchant(t, s, "acct_1", "media", false)
	count := func(where string) int64 {
		t.Helper()
		return dbtest.Count(t, s.pool, "SELECT count(*) FROM oracle_advice WHERE "+where)
	}
	now := time.Now()
	s.planned(t, shop, make([]byte, 32), now, now)
	old := s.planned(t, shop, make([]byte, 32), now, now)
	dbtest.Exec(t, s.pool, "UPDATE oracle_advice SET asked_at = now() - interval '91 days' WHERE task_id = $1", old)
	if _, err := Rebuild(t.Context(), s.pool, false); err != nil {
		t.Fatal(err)
	}
	if count("reason = '' AND cell = ''") != 1 || count("reason <> '' AND cell <> ''") != 1 {
		t.Error("reasons and cells do not go with their age")
	}
	settled := s.planned(t, shop, make([]byte, 32), now, now)
	if err := Settle(t.Context(), s.pool, shop.ID, settled, true); err != nil {
		t.Fatal(err)
	}
	if count("paid AND cell = ''") != 1 {
		t.Error("a cell stays where it has counted")
	}
	dbtest.Exec(t, s.pool, "UPDATE merchants SET disconnected_at = now()")
	s.planned(t, shop, make([]byte, 32), now, now)
	if count("true") != 3 {
		t.Errorf("%d are kept, one of them of who has left", count("true"))
	}
	if _, err := Rebuild(t.Context(), s.pool, false); err != nil {
		t.Fatal(err)
	}
	if n := count("true"); n != 0 {
		t.Errorf("%d outlive their merchant", n)
	}
}

// A merchant who leaves while a charge of theirs settles waits for it, and it does not wait for
// them: each locks the advice before the cell where it counts.
func TestLeavingWaitsForACharge(t *testing.T) {
	t.Parallel()
	s := newBench(dbtest.Pool(t))
	shop := oracleMerchant(t, s, "acct_1", "media", false)
	now := time.Now()
	for range 2 { // the second finds the cell of the first
		if err := Settle(t.Context(), s.pool, shop.ID, s.planned(t, shop, make([]byte, 32), now, now), true); err != nil {
			t.Fatal(err)
		}
	}
	id := s.planned(t, shop, make([]byte, 32), now, now)
	settling, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = settling.Rollback(context.Background()) }()
	// as the settling statement does first
	if _, err := settling.Exec(t.Context(), "SELECT 1 FROM oracle_advice WHERE task_id = $1 FOR UPDATE", id); err != nil {
		t.Fatal(err)
	}
	left := make(chan error, 1)
	go func() {
		left <- db.InTx(t.Context(), s.pool, func(tx pgx.Tx) error {
			_, err := connect.New(connect.Config{}, s.pool).Disconnect(t.Context(), tx, shop.StripeUserID, time.Now())
			return err
		})
	}()
	for dbtest.Count(t, s.pool, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == 0 {
		select {
		case err := <-left:
			t.Fatalf("they have left without waiting: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := Settle(t.Context(), settling, shop.ID, id, true); err != nil {
		t.Errorf("the charge: %v", err)
	}
	if err := settling.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-left; err != nil {
		t.Errorf("who leaves: %v", err)
	}
	for _, table := range []string{"oracle_advice", "oracle_cells"} {
		if n := dbtest.Count(t, s.pool, "SELECT count(*) FROM "+table); n != 0 {
			t.Errorf("%d rows of %s stay", n, table)
		}
	}
}

// Charges at the fixed rules' moments stand for all that were not drawn, and one that was drawn
// seldom for more of them.
func TestReplay(t *testing.T) {
	t.Parallel()
	s := newBench(dbtest.Pool(t))
	shop := oracleMerchant(t, s, "acct_1", "media", false)
	dbtest.Exec(t, s.pool, `INSERT INTO oracle_states (livemode, state, since, why, looks, fortnights, compared_at, falls, checked_at, charges, log_loss, base_log_loss, calibration_error)
		VALUES (false, 'on', phantom_now(), 'a test says so', 0, 0, phantom_now(), 0, phantom_now(), 0, 0, 0, 0)`)
	at := time.Date(2026, 5, 31, 23, 30, 0, 0, time.UTC)
	for _, c := range []struct {
		arm        string
		propensity float64
		rules      time.Duration // the fixed rules' moment, after the charge
		paid       bool
		days       int // since it was settled
	}{
		{"oracle", 0.95, 48 * time.Hour, true, 1},
		{"oracle", 0.95, -2 * time.Hour, false, 1},
		{"oracle", 0.5, 30 * time.Minute, true, 89}, // weighs 2
		{"oracle", 0.05, 0, false, 1},               // weighs 20
		{"oracle", 0.1, -30 * time.Minute, true, 1}, // weighs 10
		{"heuristic", 1, 0, true, 1},
		{"", 1, 0, true, 1},
		{"oracle", 1, 0, true, 91},
	} {
		id := s.planned(t, shop, make([]byte, 32), at, at)
		if _, err := s.pool.Exec(t.Context(), `UPDATE oracle_advice SET arm = nullif($2, ''), propensity = $3, chosen_for = planned_for,
			heuristic_for = planned_for + $4::interval, paid = $5, settled_at = phantom_now() - make_interval(days => $6) WHERE task_id = $1`,
			id, c.arm, c.propensity, c.rules, c.paid, c.days); err != nil {
			t.Fatal(err)
		}
	}
	_, e, err := New(s.pool).Evidence(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	want := Replay{Charges: 5, Paid: 3. / 5, Rules: 12. / 32, Worth: 32. * 32 / (4 + 400 + 100)}
	if got := e.Replay; got.Charges != want.Charges || math.Abs(got.Paid-want.Paid)+math.Abs(got.Rules-want.Rules)+math.Abs(got.Worth-want.Worth) > 1e-9 {
		t.Errorf("%+v, want %+v", got, want)
	}
}
