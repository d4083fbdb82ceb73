// Command rls measures what row-level security would cost the queries of one merchant: a policy
// that compares merchant_id with the setting phantom.merchant. The same rows, queries and rights in
// turns:
//
//	without    by a role with BYPASSRLS, for which the planner leaves the policy out
//	session    the setting is made once for a session, which a pooler does not carry
//	request    the setting goes with each query, in one message and one transaction
//
// docs/adr/0020 has the decision.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"phantom/db"
	"phantom/db/local"
	"phantom/vault"
)

const (
	merchants = 20
	rows      = 5_000 // of each table, for each merchant
)

func main() {
	rounds := flag.Int("rounds", 7, "the figures are medians of so many medians")
	calls := flag.Int("calls", 100, "of each query in a round")
	flag.Parse()
	if err := measure(context.Background(), *rounds, *calls); err != nil {
		fmt.Fprintln(os.Stderr, "rls:", err)
		os.Exit(1)
	}
}

var tables = []string{"ghost_targets", "scheduled_tasks", "hunts", "messages"}

func measure(ctx context.Context, rounds, calls int) (err error) {
	folder := filepath.Join(os.TempDir(), "phantom-bench-"+strconv.Itoa(os.Getpid()))
	server, err := local.Start(ctx, local.Config{Dir: folder, Database: "phantom_bench", Unsafe: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop(ctx), os.RemoveAll(folder)) }()
	ring, ids, err := fill(ctx, server.URL())
	if err != nil {
		return err
	}
	ways, err := connect(ctx, server.URL(), ring, ids[0])
	if err != nil {
		return err
	}
	defer func() {
		for _, w := range ways {
			w.close()
		}
	}()
	fmt.Printf("| query | without | session | ratio | request | ratio |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, q := range queries(ids) {
		times := make([][]time.Duration, len(ways))
		counts := make([]int, len(ways))
		for range rounds {
			taken := make([][]time.Duration, len(ways))
			for call := range calls {
				for turn := range ways {
					// in turns, because the machine is shared; another begins each time
					i := (call + turn) % len(ways)
					began := time.Now()
					found, err := q.ask(ctx, db.New(ways[i].on), call)
					if err != nil {
						return fmt.Errorf("%s, %s: %w", q.name, ways[i].name, err)
					}
					taken[i] = append(taken[i], time.Since(began))
					counts[i] += found
				}
			}
			for i := range ways {
				times[i] = append(times[i], median(taken[i]))
			}
		}
		if counts[0] != counts[1] || counts[0] != counts[2] || counts[0] == 0 {
			return fmt.Errorf("%s found %v rows: they differ", q.name, counts)
		}
		without, session, request := median(times[0]), median(times[1]), median(times[2])
		fmt.Printf("| %s | %s | %s | %.2f | %s | %.2f |\n", q.name, without.Round(time.Microsecond), session.Round(time.Microsecond),
			float64(session)/float64(without), request.Round(time.Microsecond), float64(request)/float64(without))
	}
	return nil
}

// way is one of the three.
type way struct {
	name  string
	on    db.DBTX
	close func()
}

func connect(ctx context.Context, base string, ring *vault.Keyring, merchant uuid.UUID) (ways []way, err error) {
	for _, name := range []string{"without", "session", "request"} {
		role := "walled"
		if name == "without" {
			role = "unwalled"
		}
		parsed, err := url.Parse(base)
		if err != nil {
			return nil, err
		}
		parsed.User = url.User(role)
		pool, err := db.Open(ctx, db.WithPool(parsed.String(), 1), ring)
		if err != nil {
			return nil, err
		}
		w := way{name: name, on: pool, close: pool.Close}
		switch name {
		case "session":
			_, err = pool.Exec(ctx, "SELECT set_config('phantom.merchant', $1, false)", merchant.String())
		case "request":
			var conn *pgx.Conn
			acquired, errAcquire := pool.Acquire(ctx)
			if err = errAcquire; err == nil {
				conn = acquired.Conn()
				w.on = &batched{conn, merchant.String()}
				w.close = func() { acquired.Release(); pool.Close() }
			}
		}
		if err != nil {
			return nil, err
		}
		ways = append(ways, w)
	}
	return ways, nil
}

// batched puts the setting before each query, in the same message and so in the same transaction.
type batched struct {
	conn     *pgx.Conn
	merchant string
}

func (b *batched) send(ctx context.Context, query string, args []any) (pgx.BatchResults, error) {
	batch := &pgx.Batch{}
	batch.Queue("SELECT set_config('phantom.merchant', $1, true)", b.merchant)
	batch.Queue(query, args...)
	results := b.conn.SendBatch(ctx, batch)
	_, err := results.Exec()
	return results, err
}

func (b *batched) Query(ctx context.Context, query string, args ...any) (pgx.Rows, error) {
	results, err := b.send(ctx, query, args)
	if err != nil {
		return nil, errors.Join(err, results.Close())
	}
	rows, err := results.Query()
	return &batchedRows{rows, results}, err
}

func (b *batched) QueryRow(ctx context.Context, query string, args ...any) pgx.Row {
	rows, err := b.Query(ctx, query, args...)
	return batchedRow{rows, err}
}

func (b *batched) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, errors.ErrUnsupported
}

func (b *batched) CopyFrom(context.Context, pgx.Identifier, []string, pgx.CopyFromSource) (int64, error) {
	return 0, errors.ErrUnsupported
}

type batchedRows struct {
	pgx.Rows
	results pgx.BatchResults
}

func (r *batchedRows) Close() {
	r.Rows.Close()
	_ = r.results.Close()
}

type batchedRow struct {
	rows pgx.Rows
	err  error
}

func (r batchedRow) Scan(into ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		return errors.Join(r.rows.Err(), pgx.ErrNoRows)
	}
	return r.rows.Scan(into...)
}

// query is what is asked of one merchant. call chooses among their rows.
type query struct {
	name string
	ask  func(ctx context.Context, q *db.Queries, call int) (rows int, err error)
}

func queries(ids []uuid.UUID) []query {
	merchant, newest := ids[0], uuid.UUID{}
	for i := range newest {
		newest[i] = 0xff
	}
	return []query{
		{"a ghost", func(ctx context.Context, q *db.Queries, call int) (int, error) {
			_, err := q.GhostRead(ctx, db.GhostReadParams{MerchantID: merchant, ID: numbered(call * 13 % rows)})
			return 1, err
		}},
		{"a page of 50 ghosts", func(ctx context.Context, q *db.Queries, call int) (int, error) {
			page, err := q.GhostReadPage(ctx, db.GhostReadPageParams{MerchantID: merchant, After: numbered(call * 13 % (rows - 100)), PageSize: 50, LookAt: 1000})
			return len(page), err
		}},
		{"the summary of 5,000 ghosts", func(ctx context.Context, q *db.Queries, _ int) (int, error) {
			groups, err := q.GhostReadTotals(ctx, merchant)
			return len(groups), err
		}},
		{"a page of 50 tasks", func(ctx context.Context, q *db.Queries, _ int) (int, error) {
			page, err := q.TaskReadPage(ctx, db.TaskReadPageParams{MerchantID: merchant, Before: newest, PageSize: 50})
			return len(page), err
		}},
		{"a page of 50 hunts", func(ctx context.Context, q *db.Queries, _ int) (int, error) {
			page, err := q.HuntList(ctx, db.HuntListParams{MerchantID: merchant, Most: 50})
			return len(page), err
		}},
		{"a person's messages", func(ctx context.Context, q *db.Queries, call int) (int, error) {
			sent, err := q.MessageListSent(ctx, db.MessageListSentParams{MerchantID: merchant, Persons: [][]byte{person(call * 13 % rows)}})
			return len(sent), err
		}},
	}
}

// numbered is the id of a row, the same in every table.
func numbered(i int) uuid.UUID {
	return uuid.MustParse(fmt.Sprintf("00000000-0000-7000-8000-%012d", i))
}

func person(i int) []byte { return []byte(fmt.Sprintf("%032d", i)) }

// fill makes the tables, their rows, the two roles and the policies.
func fill(ctx context.Context, base string) (*vault.Keyring, []uuid.UUID, error) {
	if _, err := db.Migrate(ctx, base, slog.New(slog.DiscardHandler)); err != nil {
		return nil, nil, err
	}
	key, err := vault.ParseKey("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	if err != nil {
		return nil, nil, err
	}
	ring, err := vault.NewKeyring(key)
	if err != nil {
		return nil, nil, err
	}
	pool, err := db.Open(ctx, base, ring)
	if err != nil {
		return nil, nil, err
	}
	defer pool.Close()
	if err := db.VerifyKeyring(ctx, pool, ring); err != nil {
		return nil, nil, err
	}
	var ids []uuid.UUID
	for i := range merchants {
		account := fmt.Sprintf("acct_%d", i)
		access := vault.NewToken("merchants.access_token:"+account, "sk_test_1")
		id, err := db.New(pool).MerchantCreate(ctx, db.MerchantCreateParams{
			ID: uuid.Must(uuid.NewV7()), StripeUserID: account, AccessToken: &access, Scope: "read_write",
		})
		if err != nil {
			return nil, nil, err
		}
		ids = append(ids, id)
		columns := []string{"merchant_id", "id", "stripe_customer_id", "stripe_subscription_id", "stripe_invoice_id", "email", "amount", "currency",
			"decline_class", "attempt_count", "first_failed_at", "last_failed_at", "rule"}
		_, err = pool.CopyFrom(ctx, pgx.Identifier{"ghost_targets"}, columns, pgx.CopyFromSlice(rows, func(i int) ([]any, error) {
			email := vault.NewToken("ghost_targets.email:"+numbered(i).String(), fmt.Sprintf("customer%07d@example.com", i))
			failed := time.Now().Add(-time.Duration(i%90) * 24 * time.Hour)
			return []any{id, numbered(i), fmt.Sprintf("cus_%014d", i), fmt.Sprintf("sub_%024d", i), fmt.Sprintf("in_%024d", i), &email,
				int64(500 + i%9500), []string{"usd", "eur", "gbp"}[i%3], "low", int32(i % 9), failed, failed, "an open invoice"}, nil
		}))
		if err != nil {
			return nil, nil, err
		}
	}
	for _, statement := range []string{
		`INSERT INTO playbooks (merchant_id, version, body) SELECT id, 1, '{}' FROM merchants`,
		`INSERT INTO scheduled_tasks (merchant_id, id, kind, run_at, status, finished_at)
			SELECT m.id, gen_random_uuid(), 'refresh', now(), 'succeeded', now()
			FROM merchants m, generate_series(0, ` + strconv.Itoa(rows-1) + `) i`,
		`INSERT INTO hunts (merchant_id, id, ghost_id, customer, playbook_version, mode, held_out, livemode, decline_class, currency, amount)
			SELECT m.id, ('00000000-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid, ('00000000-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid,
				lpad(i::text, 32, '0')::bytea, 1, 'recover', false, false, 'low', 'usd', 100
			FROM merchants m, generate_series(0, ` + strconv.Itoa(rows-1) + `) i`,
		`INSERT INTO messages (merchant_id, id, hunt_id, step, channel, template, person, persons, state, planned_for, sent_at)
			SELECT m.id, ('00000000-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid, ('00000000-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid, 0,
				'email', 'reminder', lpad(i::text, 32, '0')::bytea, ARRAY[lpad(i::text, 32, '0')::bytea], 'sent', now(), now()
			FROM merchants m, generate_series(0, ` + strconv.Itoa(rows-1) + `) i`,
		"CREATE ROLE walled LOGIN", "CREATE ROLE unwalled LOGIN",
	} {
		if _, err := pool.Exec(ctx, statement); err != nil {
			return nil, nil, fmt.Errorf("%.60s: %w", statement, err)
		}
	}
	for _, role := range []string{"walled", "unwalled"} {
		if err := db.GrantRuntime(ctx, base, role); err != nil {
			return nil, nil, err
		}
	}
	statements := []string{"ALTER ROLE unwalled BYPASSRLS", "VACUUM ANALYZE"}
	for _, table := range tables {
		statements = append(statements, "ALTER TABLE "+table+" ENABLE ROW LEVEL SECURITY",
			// Asked once a query, and not once a row.
			"CREATE POLICY merchant ON "+table+" USING (merchant_id = (SELECT current_setting('phantom.merchant')::uuid))")
	}
	for _, statement := range statements {
		if _, err := pool.Exec(ctx, statement); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", statement, err)
		}
	}
	return ring, ids, nil
}

func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}
