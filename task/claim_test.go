package task_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/state"
	"phantom/task"
)

// claims are the ways in which a worker takes tasks; each says how many it took.
var claims = map[string]func(ctx context.Context, q *db.Queries, merchant, id uuid.UUID) (int,
	error){
	"all":    claimLane(false, false),
	"urgent": claimLane(false, true),
	"first":  claimLane(true, false),
	"audit": func(ctx context.Context, q *db.Queries, _, _ uuid.UUID) (int, error) {
		rows, err := q.TaskClaimLong(ctx, db.TaskClaimLongParams{LeaseSeconds: 60, Batch: 8})
		return len(rows), err
	},
	"one": func(ctx context.Context, q *db.Queries, merchant, id uuid.UUID) (int, error) {
		_, err := q.TaskClaimOne(ctx, db.TaskClaimOneParams{LeaseSeconds: 60, MerchantID: merchant,
			ID: id})
		if errors.Is(err, pgx.ErrNoRows) {
			return 0, nil
		}
		return 1, err
	},
}

func claimLane(first, urgent bool) func(ctx context.Context, q *db.Queries, merchant, id uuid.UUID) (int, error) {
	return func(ctx context.Context, q *db.Queries, merchant, _ uuid.UUID) (int, error) {
		rows, err := q.TaskClaim(ctx, db.TaskClaimParams{
			LeaseSeconds: 60, Merchants: []uuid.UUID{merchant}, First: first, Urgent: urgent, Share: 8, Batch: 8,
		})
		return len(rows), err
	}
}

// A task is claimed once, though another worker claims in the same moment, and only while it waits
// and is due.
func TestClaimedOnce(t *testing.T) {
	t.Parallel()
	for name, claim := range claims {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			ctx := t.Context()
			kind := "webhook"
			if name == "audit" {
				kind = "audit"
			}
			id := b.enqueue(task.New{Kind: kind})
			b.Exec("UPDATE scheduled_tasks SET first = true")
			tx, err := b.pool.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(context.Background()) }()
			if n, err := claim(ctx, db.New(tx), b.merchant, id); n != 1 || err != nil {
				t.Fatalf("the first worker took %d, %v", n, err)
			}
			took := make(chan int, 1)
			go func() {
				n, err := claim(ctx, db.New(b.pool), b.merchant, id)
				if err != nil {
					t.Error(err)
				}
				took <- n
			}()
			await(t, "the second worker's end, or wait", func() bool {
				return len(took) == 1 ||
					b.blocked()
			})
			if err := tx.Commit(ctx); err != nil {
				t.Fatal(err)
			}
			if n := <-took; n != 0 {
				t.Errorf("the second worker took %d", n)
			}
			for what, statement := range map[string]string{
				"is running": `UPDATE scheduled_tasks SET
					lease_until = clock_timestamp() + interval '1 hour'`,
				"is not due": `UPDATE scheduled_tasks SET status = 'pending', lease_until = NULL,
					run_at = phantom_now() + interval '1 hour'`,
				"is parked": `UPDATE scheduled_tasks SET status = 'parked', lease_until = NULL,
					run_at = phantom_now()`,
				"needs a person": `UPDATE scheduled_tasks SET status = 'needs_review', lease_until = NULL,
					run_at = phantom_now()`,
			} {
				b.Exec(statement)
				if n, err := claim(ctx, db.New(b.pool), b.merchant, id); n != 0 || err != nil {
					t.Errorf("what %s was claimed: %d, %v", what, n, err)
				}
				b.Exec(`UPDATE scheduled_tasks SET status = 'running', run_at = phantom_now(),
					lease_until = clock_timestamp() + interval '1 hour'`)
			}
		})
	}
}

// A claim does not wait for another one: it takes what is left.
func TestClaimsDoNotWait(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"all", "urgent", "first", "audit"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			kind := "webhook"
			if name == "audit" {
				kind = "audit"
			}
			b.enqueue(task.New{Kind: kind})
			b.Exec("UPDATE scheduled_tasks SET first = true")
			tx, err := b.pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(context.Background()) }()
			if n, err := claims[name](t.Context(), db.New(tx), b.merchant, uuid.Nil); n != 1 || err != nil {
				t.Fatalf("the first worker took %d, %v", n, err)
			}
			b.enqueue(task.New{Kind: kind})
			b.Exec("UPDATE scheduled_tasks SET first = true WHERE status = 'pending' AND NOT first")
			ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
			defer stop()
			if n, err := claims[name](ctx, db.New(b.pool), b.merchant, uuid.Nil); n != 1 || err != nil {
				t.Errorf("the second worker took %d, %v", n, err)
			}
		})
	}
}

// A queue of the urgent kinds, or of what goes first, takes nothing else: its hands are kept free.
func TestLanesTakeTheirOwn(t *testing.T) {
	t.Parallel()
	for name, mine := range map[string]struct {
		lane  task.Config
		kind  string
		first bool
		other string
	}{
		"urgent": {task.Config{Urgent: true}, "webhook", false, "note"},
		"first":  {task.Config{First: true}, "webhook", true, "webhook"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			mine.lane.Handlers = map[string]task.Handler{"webhook": done, "note": done}
			other := b.enqueue(task.New{Kind: mine.other})
			wanted := b.enqueue(task.New{Kind: mine.kind})
			b.Exec("UPDATE scheduled_tasks SET first = $1 WHERE id = $2", mine.first, wanted)
			b.run(mine.lane)
			b.awaitStatus(wanted, state.TaskSucceeded)
			if status := b.get(other).Status; status != state.TaskPending {
				t.Errorf("another task is %s", status)
			}
		})
	}
}

func done(context.Context, *task.Task) error { return nil }

// blocked says whether somebody waits for a lock.
func (b *bench) blocked() bool {
	b.t.Helper()
	var n int
	if err := b.pool.QueryRow(b.t.Context(), `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n > 0
}

// Only what has outlived its lease is taken from its holder, and what has used up its tries comes
// to a person.
func TestRescueTakesFromTheDeadAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	queries := db.New(b.pool)
	for name, rescue := range map[string]func(id uuid.UUID) (int64, error){
		"all": func(uuid.UUID) (int64, error) { return queries.TaskRescue(t.Context(), 8) },
		"one": func(id uuid.UUID) (int64, error) {
			return queries.TaskRescueOne(t.Context(), db.TaskRescueOneParams{MaxAttempts: 8,
				MerchantID: b.merchant, ID: id})
		},
	} {
		id := b.enqueue(task.New{Kind: "note"})
		b.claim(id)
		if n, err := rescue(id); n != 0 || err != nil {
			t.Errorf("%s: %d of the living were rescued, %v", name, n, err)
		}
		for attempts, want := range map[int]state.Task{1: state.TaskPending, 8: state.TaskNeedsReview} {
			b.Exec(`UPDATE scheduled_tasks SET status = 'running', attempts = $2,
				lease_until = clock_timestamp() - interval '1 second'
				WHERE id = $1`, id, attempts)
			if n, err := rescue(id); n != 1 || err != nil || b.get(id).Status != want {
				t.Errorf("%s: %d of the dead were rescued, %v; it is %s", name, n, err, b.get(id).Status)
			}
		}
		b.Exec("UPDATE scheduled_tasks SET status = 'canceled', finished_at = now() WHERE id = $1", id)
	}
}

// By hand nothing is canceled that runs or has ended, nothing that may be out while it finds out by
// itself, and nothing is tried anew under a key that Stripe may have forgotten.
func TestByHand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	queries := db.New(b.pool)
	for _, c := range []struct {
		status         string
		sent           string // ago; "" is not at all
		cancels, young bool   // canceled; tried again
	}{
		{"pending", "", true, false}, {"pending", "1 hour", false, false}, {"running", "", false, false},
		{"running", "1 hour", false, false},
		{"parked", "", true, false}, {"parked", "1 hour", false, false}, {"needs_review", "", true, true}, {"needs_review", "19 hours", true,
			true},
		{"needs_review", "21 hours", true, false}, {"succeeded", "", false, false}, {"canceled", "",
			false, false}, {"failed", "1 hour", false, false},
	} {
		id := b.enqueue(task.New{Kind: "note"})
		stand := func() {
			b.Exec(`UPDATE scheduled_tasks
				SET status = $2, first_sent_at = clock_timestamp() - nullif($3::text, '')::interval,
				lease_until = CASE WHEN $2 = 'running' THEN clock_timestamp() + interval '1 hour' END,
				finished_at = CASE WHEN $2 IN ('succeeded', 'failed', 'canceled') THEN clock_timestamp() END
					WHERE id = $1`, id, c.status, c.sent)
		}
		stand()
		n, err := queries.TaskCancel(t.Context(), db.TaskCancelParams{MerchantID: b.merchant, ID: id})
		if err != nil || (n == 1) != c.cancels {
			t.Errorf("%s, sent %q ago: %d canceled, %v", c.status, c.sent, n, err)
		}
		stand()
		n, err = queries.TaskRetryYoung(t.Context(), db.TaskRetryYoungParams{MerchantID: b.merchant,
			ID: id})
		if err != nil || (n == 1) != c.young {
			t.Errorf("%s, sent %q ago: %d tried again, %v", c.status, c.sent, n, err)
		}
		stand()
		n, err = queries.TaskWakeMessages(t.Context(), db.TaskWakeMessagesParams{MerchantID: b.merchant,
			Kind: "note"})
		if wakes := c.status == "needs_review" && c.sent == ""; err != nil || (n == 1) != wakes {
			t.Errorf("%s, sent %q ago: %d woken, %v", c.status, c.sent, n, err)
		}
		b.Exec("DELETE FROM scheduled_tasks WHERE id = $1", id)
	}
}
