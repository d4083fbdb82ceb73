package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/db/local"
	"phantom/shield"
	"phantom/vault"
	"phantom/verdict"
)

// follower is a table that follows a database, and says when a revision is visible.
type follower struct {
	*verdict.Table
	feed     *shield.Feed
	merchant uuid.UUID
}

// database measures a load, the way of a change to who follows, and what announcing costs commits.
func database(ctx context.Context, s size) (bars []bar, err error) {
	folder := filepath.Join(os.TempDir(), "phantom-bench-"+strconv.Itoa(os.Getpid()))
	server, err := local.Start(ctx, local.Config{Dir: folder, Database: "phantom_bench"})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Stop(context.WithoutCancel(ctx)), os.RemoveAll(folder)) }()
	pool, merchant, err := fill(ctx, server.URL(), s.rows)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	f := &follower{Table: verdict.NewTable(), merchant: merchant}
	f.feed = shield.NewFeed(pool, server.URL(), f.Table, slog.New(slog.DiscardHandler))
	following, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { f.feed.Run(following) })
	defer func() { stop(); running.Wait() }()
	began := time.Now()
	for !f.Loaded() {
		time.Sleep(time.Millisecond)
	}
	took := time.Since(began)
	bars = append(bars, bar{"rows loaded a second", float64(s.rows) / took.Seconds(), true, 250_000, fmt.Sprintf(" (%d in %s)", s.rows, took.Round(time.Millisecond))})
	way, err := f.ways(ctx, pool, s)
	if err != nil {
		return nil, err
	}
	bars = append(bars, way...)
	for _, writers := range []int{8, 16} {
		share, err := commits(ctx, pool, merchant, writers, s)
		if err != nil {
			return nil, err
		}
		bars = append(bars, bar{fmt.Sprintf("commits a second with announcing to those without, %d writers", writers), share, true, 0.7, ""})
	}
	return bars, nil
}

func fill(ctx context.Context, url string, rows int) (*pgxpool.Pool, uuid.UUID, error) {
	if _, err := db.Migrate(ctx, url, slog.New(slog.DiscardHandler)); err != nil {
		return nil, uuid.Nil, err
	}
	key, err := vault.ParseKey("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff")
	if err != nil {
		return nil, uuid.Nil, err
	}
	ring, err := vault.NewKeyring(key)
	if err != nil {
		return nil, uuid.Nil, err
	}
	pool, err := db.Open(ctx, db.WithPool(url, 24), ring)
	if err != nil {
		return nil, uuid.Nil, err
	}
	merchant := uuid.Must(uuid.NewV7())
	for _, statement := range []string{
		"INSERT INTO merchants (id, stripe_user_id, scope, livemode, disconnected_at) VALUES ($1, 'acct_bench', 'read_write', false, now())",
		`INSERT INTO shield_policies (merchant_id, version, body) VALUES ($1, 1, '{"mode":"enforce"}')`,
		"INSERT INTO shield_revisions (merchant_id, revision) VALUES ($1, 1)",
		fmt.Sprintf(`INSERT INTO shield_states (merchant_id, subscription, customer, livemode, facts, ticket, told_at, level, reason, shown, revision)
			SELECT $1, 'sub_1NX' || substr(md5(n::text), 1, 21), 'cus_' || substr(md5(n::text), 1, 14), false, '{"products":["prod_1"]}', 1, now(), 'full', 'paid',
				'cus_' || substr(md5(n::text), 1, 14) || ' prod_1', 1 FROM generate_series(1, %d) n`, rows),
		"ANALYZE shield_states",
	} {
		var args []any
		if statement[:7] != "ANALYZE" {
			args = append(args, merchant)
		}
		if _, err := pool.Exec(ctx, statement, args...); err != nil {
			return nil, uuid.Nil, err
		}
	}
	return pool, merchant, nil
}

// change is what a change of a level writes: the counter, the row and the announcement.
func change(ctx context.Context, tx db.DBTX, merchant uuid.UUID, subscription, customer string, announces bool) (revision int64, err error) {
	if err := tx.QueryRow(ctx, "UPDATE shield_revisions SET revision = revision + 1, changed_at = clock_timestamp() WHERE merchant_id = $1 RETURNING revision", merchant).
		Scan(&revision); err != nil {
		return 0, err
	}
	if _, err := tx.Exec(ctx, "UPDATE shield_states SET level = 'notice', since = clock_timestamp(), revision = $3 WHERE merchant_id = $1 AND subscription = $2",
		merchant, subscription, revision); err != nil || !announces {
		return revision, err
	}
	return revision, shield.Announce(ctx, tx, merchant, revision, []shield.Row{{Subscription: subscription, Customer: customer, Level: shield.Notice}})
}

// ways measures from the begin of a change to when it is visible over another connection, beside
// the bare commit of the same, in turns.
func (f *follower) ways(ctx context.Context, pool *pgxpool.Pool, s size) ([]bar, error) {
	var subscription, customer string
	if err := pool.QueryRow(ctx, "SELECT subscription, customer FROM shield_states LIMIT 1").Scan(&subscription, &customer); err != nil {
		return nil, err
	}
	var bare, visible []float64
	for range s.commits {
		for _, announces := range []bool{false, true} {
			began := time.Now()
			var revision int64
			if err := db.InTx(ctx, pool, func(tx pgx.Tx) (err error) {
				revision, err = change(ctx, tx, f.merchant, subscription, customer, announces)
				return err
			}); err != nil {
				return nil, err
			}
			committed := time.Since(began)
			if !announces {
				bare = append(bare, float64(committed.Microseconds()))
				// So that the next one follows what is known.
				if err := f.feed.Catch(ctx, f.merchant); err != nil {
					return nil, err
				}
				continue
			}
			for f.Revision(f.merchant) < revision {
				time.Sleep(10 * time.Microsecond)
			}
			visible = append(visible, float64(time.Since(began).Microseconds()))
		}
	}
	fmt.Printf("\na bare commit %.0f µs, visible after %.0f µs, medians of %d\n", median(bare), median(visible), s.commits)
	return []bar{{"begin of a change to visible elsewhere, in bare commits", median(visible) / median(bare), false, 2.0, ""}}, nil
}

// commits measures writers of different merchants, announcing or not, in turns.
func commits(ctx context.Context, pool *pgxpool.Pool, _ uuid.UUID, writers int, s size) (float64, error) {
	merchants := make([]uuid.UUID, writers)
	for i := range merchants {
		merchants[i] = uuid.Must(uuid.NewV7())
		if _, err := pool.Exec(ctx, "INSERT INTO merchants (id, stripe_user_id, scope, livemode, disconnected_at) VALUES ($1, $2, 'read_write', false, now())",
			merchants[i], "acct_"+strings.ReplaceAll(merchants[i].String(), "-", "")); err != nil {
			return 0, err
		}
		if _, err := pool.Exec(ctx, "INSERT INTO shield_revisions (merchant_id) VALUES ($1)", merchants[i]); err != nil {
			return 0, err
		}
		if _, err := pool.Exec(ctx, `INSERT INTO shield_states (merchant_id, subscription, customer, livemode, facts, ticket, told_at, shown)
			VALUES ($1, 'sub_1', 'cus_1', false, '{}', 1, now(), 'cus_1 ')`, merchants[i]); err != nil {
			return 0, err
		}
	}
	rates := map[bool][]float64{}
	for range s.rounds {
		for _, announces := range []bool{false, true} {
			n, err := write(ctx, pool, merchants, announces, time.Duration(s.seconds*float64(time.Second)))
			if err != nil {
				return 0, err
			}
			rates[announces] = append(rates[announces], n)
		}
	}
	return median(rates[true]) / median(rates[false]), nil
}

func write(ctx context.Context, pool *pgxpool.Pool, merchants []uuid.UUID, announces bool, d time.Duration) (rate float64, err error) {
	var group sync.WaitGroup
	var mutex sync.Mutex
	total := 0
	began := time.Now()
	for _, merchant := range merchants {
		group.Go(func() {
			n := 0
			var failed error
			for ; failed == nil && time.Since(began) < d; n++ {
				failed = db.InTx(ctx, pool, func(tx pgx.Tx) error {
					_, err := change(ctx, tx, merchant, "sub_1", "cus_1", announces)
					return err
				})
			}
			mutex.Lock()
			defer mutex.Unlock()
			total, err = total+n, errors.Join(err, failed)
		})
	}
	group.Wait()
	return float64(total) / time.Since(began).Seconds(), err
}
