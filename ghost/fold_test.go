package ghost

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/debt"
	"phantom/decline"
)

// summaryComputed adds up all ghosts, which is what the counts stand for.
const summaryComputed = `SELECT kind, currency, decline_class,
	date_part('day', phantom_now() - coalesce(first_failed_at, discovered_at))::integer AS age,
	count(*), count(first_failed_at), count(*) FILTER (WHERE hidden), sum(amount)::bigint
	FROM ghost_targets WHERE merchant_id = $1 AND status = 'open' GROUP BY kind, currency, decline_class, age`

func computeSummary(ctx context.Context, tx pgx.Tx, merchant uuid.UUID) (Summary, error) {
	summary := Summary{
		Currencies: map[string]Totals{}, WrittenOff: map[string]Totals{}, ChargedBack: map[string]Totals{}, DeclineClasses: map[string]int64{},
		Ages: map[string]int64{"0-7": 0, "8-30": 0, "31-90": 0, "91-365": 0, "over_365": 0},
	}
	for _, class := range db.Texts(decline.Classes) {
		summary.DeclineClasses[class] = 0
	}
	rows, err := tx.Query(ctx, summaryComputed, merchant)
	if err != nil {
		return summary, err
	}
	defer rows.Close()
	of := map[debt.Kind]map[string]Totals{debt.Owed: summary.Currencies, debt.WrittenOff: summary.WrittenOff, debt.ChargedBack: summary.ChargedBack}
	for rows.Next() {
		var kind debt.Kind
		var currency, class string
		var age, ghosts, failed, hidden, owed int64
		if err := rows.Scan(&kind, &currency, &class, &age, &ghosts, &failed, &hidden, &owed); err != nil {
			return summary, err
		}
		totals := of[kind][currency]
		of[kind][currency] = Totals{Owed: totals.Owed + owed, Ghosts: totals.Ghosts + ghosts, Hidden: totals.Hidden + hidden}
		if kind != debt.Owed {
			continue
		}
		summary.DeclineClasses[class] += ghosts
		summary.DaysGivenAway += max(age, 0) * failed
		switch {
		case age <= 7:
			summary.Ages["0-7"] += ghosts
		case age <= 30:
			summary.Ages["8-30"] += ghosts
		case age <= 90:
			summary.Ages["31-90"] += ghosts
		case age <= 365:
			summary.Ages["91-365"] += ghosts
		default:
			summary.Ages["over_365"] += ghosts
		}
	}
	return summary, rows.Err()
}

// countsDiffer are the rows in which what is counted is not what there is.
const countsDiffer = `SELECT count(*) FROM (
	SELECT merchant_id, part, name, place, sum(ghosts) AS g, sum(hidden) AS h, sum(failed) AS f, sum(owed) AS o FROM (
		SELECT merchant_id, part, name, place, ghosts, hidden, failed, owed FROM ghost_counts
		UNION ALL SELECT c.merchant_id, p.part, p.name, p.place, p.ghosts, p.hidden, p.failed, p.owed
			FROM ghost_changes c CROSS JOIN LATERAL ghost_change_parts(c) AS p
		UNION ALL SELECT merchant_id, part, name, place, -ghosts, -hidden, -failed, -owed FROM ghost_counts_computed) AS x
	GROUP BY merchant_id, part, name, place) AS y WHERE (g, h, f, o) <> (0, 0, 0, 0)`

// checkCounts compares, in one snapshot, what is counted with what there is.
func checkCounts(ctx context.Context, pool *pgxpool.Pool, merchants []uuid.UUID) error {
	return db.InSnapshot(ctx, pool, func(tx pgx.Tx) error {
		var differ int
		if err := tx.QueryRow(ctx, countsDiffer).Scan(&differ); err != nil {
			return err
		}
		if differ != 0 {
			return fmt.Errorf("%d counts differ", differ)
		}
		for _, merchant := range merchants {
			got, err := summarize(ctx, db.New(tx), merchant)
			if err != nil {
				return err
			}
			want, err := computeSummary(ctx, tx, merchant)
			if err != nil {
				return err
			}
			if !reflect.DeepEqual(got, want) {
				return fmt.Errorf("the summary is %+v, of all ghosts it is %+v", got, want)
			}
		}
		return nil
	})
}

// changes of ghosts, of which each hits some rows of a merchant. $1 is theirs.
var ghostChanges = []string{
	`INSERT INTO ghost_targets (merchant_id, id, stripe_customer_id, stripe_subscription_id, stripe_invoice_id, amount, currency,
		decline_class, rule, kind, hidden, first_failed_at, last_failed_at, discovered_at)
		SELECT $1, gen_random_uuid(), 'cus_' || n + 60 * floor(random() * 7), 'sub_1', 'in_1', 1 + floor(random() * 9999),
			(ARRAY['usd', 'eur', 'jpy'])[1 + floor(random() * 3)], (ARRAY['never', 'timed', 'soon', 'unknown'])[1 + floor(random() * 4)], 'a rule',
			(ARRAY['owed', 'owed', 'written_off', 'charged_back'])[1 + floor(random() * 4)], random() < 0.3, at, at, phantom_now() - ago * interval '1 second'
		FROM (SELECT CASE WHEN random() < 0.9 THEN date_trunc(CASE WHEN random() < 0.5 THEN 'second' ELSE 'day' END, phantom_now(), 'UTC')
			- floor(random() * 40000000) * interval '1 second' + floor(random() * 3) * interval '6 hours' END AS at, floor(random() * 9000000) AS ago, n
			FROM generate_series(1, 1 + floor(random() * 60)::int) AS n) AS new
		ON CONFLICT ON CONSTRAINT ghost_targets_one_per_subscription_currency_and_kind DO UPDATE SET amount = excluded.amount,
			hidden = excluded.hidden, decline_class = excluded.decline_class, first_failed_at = excluded.first_failed_at,
			last_failed_at = excluded.last_failed_at, status = 'open', closed_reason = NULL, closed_at = NULL`,
	`UPDATE ghost_targets SET status = 'closed', closed_reason = 'paid', closed_at = now() WHERE merchant_id = $1 AND random() < 0.1 AND status = 'open'`,
	`UPDATE ghost_targets SET status = 'open', closed_reason = NULL, closed_at = NULL WHERE merchant_id = $1 AND random() < 0.1 AND status = 'closed'`,
	`UPDATE ghost_targets SET amount = amount + 1, hidden = NOT hidden WHERE merchant_id = $1 AND random() < 0.1`,
	`UPDATE ghost_targets SET kind = 'written_off' WHERE merchant_id = $1 AND kind = 'charged_back' AND random() < 0.05`,
	`UPDATE ghost_targets SET first_failed_at = NULL WHERE merchant_id = $1 AND random() < 0.05`,
	`UPDATE ghost_targets SET first_failed_at = phantom_now() - floor(random() * 400) * interval '1 day', last_failed_at = NULL WHERE merchant_id = $1 AND random() < 0.05`,
	`UPDATE ghost_targets SET first_failed_at = phantom_now() + random() * interval '3 days', last_failed_at = NULL WHERE merchant_id = $1 AND random() < 0.02`,
	`UPDATE ghost_targets SET id = gen_random_uuid(), updated_at = now() WHERE merchant_id = $1 AND random() < 0.05`,
	`DELETE FROM ghost_targets WHERE merchant_id = $1 AND random() < 0.05`,
	`DELETE FROM ghost_targets WHERE merchant_id = $1 AND random() < 0.01 * floor(random() * 1.02) * 100`,
}

// Ghosts are written by writers who give up, fail or are killed, while others fold. What is counted
// is what there is, at every moment and at every time of the day.
func TestCountsAreWhatThereIs(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), dbtest.Pool(t)
	merchants := []uuid.UUID{uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())}
	for i, id := range merchants {
		if _, err := pool.Exec(ctx, `INSERT INTO merchants (id, stripe_user_id, scope, livemode, disconnected_at)
			VALUES ($1, $2, 'read_write', false, now())`, id, fmt.Sprintf("acct_%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	s := &Service{pool: pool, queries: db.New(pool)}
	var writers, others sync.WaitGroup
	for i := range 4 {
		writers.Go(func() { // one that fails is rolled back, too
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for range 60 {
				merchant := merchants[r.IntN(len(merchants))]
				tx, err := pool.Begin(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				for range 1 + r.IntN(3) {
					_, _ = tx.Exec(ctx, ghostChanges[r.IntN(len(ghostChanges))], merchant)
				}
				switch r.IntN(8) {
				case 0:
					_ = tx.Rollback(ctx)
				case 1: // as one whose process is gone
					_ = tx.Conn().PgConn().Conn().Close()
					_ = tx.Rollback(ctx)
				default:
					_ = tx.Commit(ctx)
				}
			}
		})
	}
	ended := make(chan struct{})
	again := func(do func()) {
		others.Go(func() {
			for {
				do()
				select {
				case <-ended:
					return
				default:
				}
			}
		})
	}
	for range 2 {
		again(func() {
			if err := s.Fold(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	again(func() {
		if err := checkCounts(ctx, pool, merchants); err != nil {
			t.Error(err)
		}
	})
	writers.Wait()
	close(ended)
	others.Wait()
	r := rand.New(rand.NewPCG(9, 9))
	for range 200 { // moments of other days, and of the very second and microsecond of a ghost's
		ahead := time.Duration(r.Int64N(int64(500 * 24 * time.Hour))).Truncate(time.Microsecond)
		to := fmt.Sprintf("now() + interval '%d microseconds'", ahead.Microseconds())
		if r.IntN(2) == 0 {
			to = fmt.Sprintf(`timestamptz '%s'`, momentOf(t, pool, r.IntN(400)).Format(time.RFC3339Nano))
		}
		if _, err := pool.Exec(ctx, "CREATE OR REPLACE FUNCTION phantom_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE RETURN "+to); err != nil {
			t.Fatal(err)
		}
		if err := checkCounts(ctx, pool, merchants); err != nil {
			t.Fatalf("at %s: %v", to, err)
		}
	}
	if err := s.Fold(ctx); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := pool.QueryRow(ctx, "SELECT count(*) FROM ghost_changes").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d changes are not folded: %v", left, err)
	}
	if _, err := pool.Exec(ctx, "DELETE FROM ghost_targets"); err != nil {
		t.Fatal(err)
	}
	if err := s.Fold(ctx); err != nil {
		t.Fatal(err)
	}
	for _, merchant := range merchants {
		if err := s.queries.GhostDropEmptyCounts(ctx, merchant); err != nil {
			t.Fatal(err)
		}
	}
	if err := pool.QueryRow(ctx, "SELECT count(*) FROM ghost_counts").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d counts of nothing are left: %v", left, err)
	}
}

// Two who fold the same changes at the same time count them once.
func TestFoldsCountOnce(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), dbtest.Pool(t)
	merchant := uuid.Must(uuid.NewV7())
	if _, err := pool.Exec(ctx, `INSERT INTO merchants (id, stripe_user_id, scope, livemode, disconnected_at)
		VALUES ($1, 'acct_1', 'read_write', false, now())`, merchant); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(ctx, ghostChanges[0], merchant); err != nil {
		t.Fatal(err)
	}
	first, err := pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Rollback(context.Background()) }()
	p := db.GhostFoldParams{MerchantID: merchant, Batch: foldBatch}
	if n, err := db.New(first).GhostFold(ctx, p); err != nil || n == 0 {
		t.Fatal(n, err)
	}
	second := make(chan error, 1)
	go func() { // past the lock that folds take
		n, err := db.New(pool).GhostFold(ctx, p)
		if err == nil && n != 0 {
			err = fmt.Errorf("%d changes are folded twice", n)
		}
		second <- err
	}()
	for waits := 0; waits == 0; {
		if err := pool.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waits); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
	if err := checkCounts(ctx, pool, []uuid.UUID{merchant}); err != nil {
		t.Error(err)
	}
}

// momentOf is some days after the moment of a ghost, or a microsecond before that or behind it.
func momentOf(t *testing.T, pool *pgxpool.Pool, days int) (at time.Time) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), `SELECT coalesce(first_failed_at, discovered_at)
		+ make_interval(hours => 24 * $1) + (floor(random() * 3) - 1) * interval '1 microsecond'
		FROM ghost_targets WHERE status = 'open' AND kind = 'owed' ORDER BY random() LIMIT 1`, days).Scan(&at); err != nil {
		t.Fatal(err)
	}
	return at.UTC()
}
