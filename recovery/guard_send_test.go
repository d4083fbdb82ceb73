package recovery

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/connect"
	"phantom/db"
	"phantom/gate"
	"phantom/message"
	"phantom/playbook"
	"phantom/sandbox"
)

// stops are what keeps a hunt's requests back, and how its charge stands then.
var stops = map[string]struct {
	do   func(b *bench)
	want string // "" where it may end or wait
}{
	"the merchant is halted": {func(b *bench) {
		b.Exec("INSERT INTO halts (scope) VALUES ($1)",
			b.merchant)
	}, "pending"},
	"all are halted": {func(b *bench) {
		b.Exec("INSERT INTO halts (scope) VALUES ('00000000-0000-0000-0000-000000000000')")
	}, "pending"},
	"the hunt is stopped": {func(b *bench) {
		if err := b.s.Stop(b.t.Context(), b.merchant,
			b.text2id("SELECT id::text FROM hunts")); err != nil {
			b.t.Error(err)
		}
	}, ""},
	"the customer is held out": {func(b *bench) { b.Exec("UPDATE hunts SET held_out = true") }, ""},
	"the hunt only watches":    {func(b *bench) { b.Exec("UPDATE hunts SET mode = 'observe'") }, ""},
	"the merchant has left":    {(*bench).leave, "parked"},
	"the ghost is closed": {func(b *bench) {
		b.Exec(`UPDATE ghost_targets SET status = 'closed',
			closed_reason = 'paid', closed_at = phantom_now()`)
	}, ""},
}

// leave ends the merchant's connection. The sandbox still takes the token: only PHANTOM's own word
// counts.
func (b *bench) leave() {
	if err := pgx.BeginFunc(b.t.Context(), b.pool, func(tx pgx.Tx) error {
		_, err := b.connect.Disconnect(b.t.Context(), tx, b.account, time.Now().Add(time.Second))
		return err
	}); err != nil {
		b.t.Error(err)
	}
}

// What stops a hunt after everything was looked at is seen by the transaction that lets its charge
// leave, the first time and, where the first request got lost, the second time.
func TestNothingLeavesAfterAStop(t *testing.T) {
	t.Parallel()
	for name, stop := range stops {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, ids := setupCharges(t, 1, nil)
			b.meanwhile(func() { stop.do(b) })
			status := b.try(ids[0])
			if b.left() != 0 ||
				b.Count("SELECT count(*) FROM scheduled_tasks WHERE first_sent_at IS NOT NULL") != 0 {
				t.Errorf("it left, and is %s", status)
			}
			if stop.want != "" && status != stop.want || status == "succeeded" || status == "failed" {
				t.Errorf("it is %s", status)
			}
		})
		t.Run(name+", again", func(t *testing.T) {
			t.Parallel()
			b, ids := setupCharges(t, 1, nil)
			b.lose(ids[0])
			b.meanwhile(func() { stop.do(b) })
			status := b.try(ids[0])
			if b.left() != 1 {
				t.Errorf("it left again, and is %s", status)
			}
			if status == "succeeded" || status == "canceled" { // what became of it is not known yet
				t.Errorf("it is %s", status)
			}
		})
	}
}

// A stop that holds the hunt's row comes first: the charge waits for it and hears it.
func TestAChargeWaitsForWhoStopsItsHunt(t *testing.T) {
	t.Parallel()
	b, ids := setupCharges(t, 1, nil)
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), "SELECT 1 FROM hunts FOR NO KEY UPDATE"); err != nil {
		t.Fatal(err)
	}
	tried, wait := b.begin(ids[0])
	b.await("the charge waits, or is through", func() bool { return b.blocked() || tried() })
	if _, err := tx.Exec(t.Context(), "INSERT INTO halts (scope) VALUES ($1)",
		b.merchant); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status := wait(); status != "pending" || b.left() != 0 {
		t.Errorf("it is %s, and %d requests left", status, b.left())
	}
}

// together says what makes the charges of several hunts one matter, though Stripe knows several
// customers.
var together = map[string]func(b *bench){
	"one card": func(b *bench) { b.oneCard("declines") },
	"one cap":  func(*bench) {},
}

// oneCard gives all customers one card, which has not been tried yet. It declines, or pays with "".
func (b *bench) oneCard(status string) {
	b.t.Helper()
	subscriptions := b.Text("SELECT string_agg(stripe_subscription_id, ' ') FROM ghost_targets")
	for _, id := range strings.Fields(subscriptions) {
		b.turn(sandbox.Change{Do: "new_card", Status: status, ID: id})
		b.turn(sandbox.Change{Do: "same_card", ID: id})
	}
}

// capped has a playbook allow one charge of a day, whichever it is.
func capped(b *bench, p *playbook.Playbook) {
	p.DailyCap = map[string]int64{b.Text(`SELECT max(currency)
		FROM ghost_targets`): int64(b.Count("SELECT max(amount) FROM ghost_targets"))}
}

// Two charges at the same moment that a budget allows one of: the second one waits for the first,
// counts it, and is put off. In the order of any two: the first is held while it writes down that
// it leaves.
func TestTwoChargesAtOnce(t *testing.T) {
	t.Parallel()
	for name, prepare := range together {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			change := capped
			if name != "one cap" {
				change = nil
			}
			b, ids := setupCharges(t, 2, change)
			prepare(b)
			tx, err := b.pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(t.Context()) }()
			if _, err := tx.Exec(t.Context(), "SELECT 1 FROM attempts WHERE task_id = $1 FOR UPDATE",
				ids[0]); err != nil {
				t.Fatal(err)
			}
			_, first := b.begin(ids[0])
			b.await("the first one is held", b.blocked)
			tried, second := b.begin(ids[1])
			b.await("the second one waits, or is through", func() bool {
				return b.Count(`SELECT count(*) FROM pg_stat_activity
					WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 2 || tried()
			})
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if status := first(); status != "succeeded" && status != "failed" {
				t.Errorf("the first one is %s", status)
			}
			if status := second(); status != "pending" || b.left() != 1 {
				t.Errorf("the second one is %s, and %d requests left", status, b.left())
			}
		})
	}
}

// One after the other: a second charge within the day waits, and a third one within the month where
// the budget is two. Stripe knows nothing of it that would forbid them: only what PHANTOM has sent
// counts.
func TestSentChargesAreCounted(t *testing.T) {
	t.Parallel()
	for name, prepare := range together {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, ids := setupCharges(t, 3, func(b *bench, p *playbook.Playbook) {
				if name == "one cap" {
					capped(b, p)
				} else {
					p.CardBudget = 2
				}
			})
			prepare(b)
			try := func(id uuid.UUID, leaves bool) {
				t.Helper()
				before := b.left()
				status := b.try(id)
				if got := b.left() - before; (got == 1) != leaves || (status == "pending") == leaves {
					t.Errorf("%d requests left, and it is %s", got, status)
				}
			}
			try(ids[0], true)
			try(ids[1], false)
			b.later(23 * time.Hour)
			try(ids[1], false)
			b.later(2 * time.Hour)
			try(ids[1], true)
			b.later(25 * time.Hour)
			try(ids[2], name == "one cap")
			b.later(6 * 24 * time.Hour)
			if name != "one cap" {
				try(ids[2], false)
			}
		})
	}
}

// A charge does not leave while it is unknown what another request has done: one of another hunt
// for the same invoice, or one with the same card.
func TestNoChargeBesideAnUnknownOne(t *testing.T) {
	t.Parallel()
	beside := func(t *testing.T, b *bench, first, second uuid.UUID) {
		t.Helper()
		b.later(25 * time.Hour) // so that it is not the day that forbids it
		if status := b.try(second); status != "pending" || b.left() != 1 {
			t.Errorf("it is %s, and %d requests left", status, b.left())
		}
		if status := b.status(first); status != "pending" {
			t.Errorf("the first one is %s", status)
		}
	}
	t.Run("one invoice", func(t *testing.T) {
		t.Parallel()
		b, ids := setupCharges(t, 1, nil)
		b.lose(ids[0])
		hunt := b.text2id("SELECT id::text FROM hunts")
		if err := b.s.Stop(t.Context(), b.merchant, hunt); err != nil {
			t.Fatal(err)
		}
		if _, err := b.startAll(); err != nil {
			t.Fatal(err)
		}
		b.try(b.text2id(`SELECT id::text FROM scheduled_tasks WHERE params ->> 'do' = 'begin'
			AND status = 'pending'`))
		b.turn(sandbox.Change{Do: "new_card", ID: b.subscription()})
		beside(t, b, ids[0], b.text2id(`SELECT id::text FROM scheduled_tasks
			WHERE kind = 'invoice_pay' AND first_sent_at IS NULL`))
	})
	t.Run("one card", func(t *testing.T) {
		t.Parallel()
		b, ids := setupCharges(t, 2, nil)
		b.oneCard("")
		b.lose(ids[0])
		beside(t, b, ids[0], ids[1])
	})
}

// A process that stands still between the mark and the sending sends nothing, and that is no failed
// try.
func TestTooLateIsNotSent(t *testing.T) {
	t.Parallel()
	b, ids := setupCharges(t, 1, nil)
	still := connect.New(connect.Config{
		APIBase: b.url, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Now().Add(gate.Freshness + time.Second) },
	}, b.pool)
	right := b.s
	b.s = New(b.pool, still, message.New(b.pool, still, message.Config{}), atOnce{}, right.config)
	b.Exec("UPDATE scheduled_tasks SET attempts = 2 WHERE id = $1", ids[0])
	status := b.try(ids[0])
	if b.left() != 0 || status != "pending" {
		t.Errorf("%d requests left, and it is %s", b.left(), status)
	}
	if n := b.Count("SELECT attempts FROM scheduled_tasks WHERE id = $1", ids[0]); n != 2 {
		t.Errorf("it has failed %d times", n-2)
	}
	b.s = right
	if status := b.try(ids[0]); status != "succeeded" && status != "failed" || b.executed() != 1 {
		t.Errorf("in time it is %s after %d executions", status, b.executed())
	}
}

// A hunt has one charge under way, however often it is thought over, and a stop leaves alone what
// may be out.
func TestAStopLeavesWhatMayBeOut(t *testing.T) {
	t.Parallel()
	b, ids := setupCharges(t, 1, nil)
	b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/invoices/", Drop: true,
		After: true})
	if status := b.try(ids[0]); status != "pending" || b.executed() != 1 {
		t.Fatalf("it is %s after %d executions", status, b.executed())
	}
	ghosts := b.ids("SELECT id FROM ghost_targets")
	for _, amount := range []int{0, 1} { // the second time what is owed has changed
		b.Exec("UPDATE ghost_targets SET amount = amount + $1, invoices = '[]'", amount)
		if err := b.s.GhostsChanged(t.Context(), b.pool, b.merchant, ghosts); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.Count("SELECT count(*) FROM attempts"); n != 1 || b.status(ids[0]) != "pending" {
		t.Errorf("%d charges are planned, and the first one is %s", n, b.status(ids[0]))
	}
	if err := b.s.Stop(t.Context(), b.merchant, b.text2id("SELECT id::text FROM hunts")); err != nil {
		t.Fatal(err)
	}
	if status := b.status(ids[0]); status != "pending" {
		t.Errorf("the stop made it %s", status)
	}
	b.try(ids[0])
	if result := b.Text("SELECT coalesce(result, 'none') FROM attempts"); result != "paid" &&
		result != "declined" {
		t.Errorf("what it did is said to be %s", result)
	}
	if n := b.executed(); n != 1 {
		t.Errorf("%d charges were executed", n)
	}
}

// What a person gives up counts as what may have been executed: for the day, and in what is told of
// it.
func TestAChargeGivenUpMayHaveBeenExecuted(t *testing.T) {
	t.Parallel()
	b, ids := setupCharges(t, 1, nil)
	b.lose(ids[0])
	b.Exec("UPDATE scheduled_tasks SET status = 'needs_review' WHERE id = $1", ids[0])
	params := []byte(b.Text("SELECT params FROM scheduled_tasks WHERE id = $1", ids[0]))
	cancel := db.TaskCancelParams{MerchantID: b.merchant, ID: ids[0]}
	if n, err := b.queries.TaskCancel(t.Context(), cancel); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	again, _ := planAgain(b.merchant, params)
	if _, err := b.queries.TaskEnqueue(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	b.try(again.ID)
	if result := b.Text("SELECT coalesce(result, 'none') FROM attempts WHERE number = 1"); result != "unknown" {
		t.Errorf("it counts as %s", result)
	}
	if status := b.try(b.planned(gate.KindPay)); status != "pending" || b.left() != 1 {
		t.Errorf("the next one is %s, and %d requests left", status, b.left())
	}
}
