// Command api measures GET /api/ghosts over 1,000,000 ghosts of one merchant, through the handler
// with its authentication: the last page beside the first, in turns, then pages behind filters and
// the summary. With -all it goes on with hunts of all ghosts and dry runs, and asks for another
// merchant meanwhile. It ends with 1 if a bar is missed.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/connect"
	"phantom/db"
	"phantom/db/local"
	"phantom/ghost"
	"phantom/message"
	"phantom/recovery"
	"phantom/vault"
	"phantom/web"
)

const (
	rounds  = 7
	perPage = 50
	bar     = 1.2

	filterBar  = 50 * time.Millisecond
	summaryBar = 10 * time.Millisecond
)

func main() {
	ghosts := flag.Int("ghosts", 1_000_000, "how many")
	extra := flag.String("sql", "", "a statement to run before the rows are there, to try an index")
	pages := flag.Int("pages", 200, "of each kind in a round")
	all := flag.Bool("all", false, "hunt all of them too, and try playbooks out")
	flag.Parse()
	met, err := measure(context.Background(), *ghosts, *pages, *extra, *all)
	if err != nil {
		fmt.Fprintln(os.Stderr, "api:", err)
	}
	if err != nil || !met {
		os.Exit(1)
	}
}

func measure(ctx context.Context, ghosts, pages int, extra string, all bool) (met bool, err error) {
	folder := filepath.Join(os.TempDir(), "phantom-bench-"+strconv.Itoa(os.Getpid()))
	server, err := local.Start(ctx, local.Config{Dir: folder, Database: "phantom_bench", Unsafe: true})
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, server.Stop(ctx), os.RemoveAll(folder)) }()
	if _, err := db.Migrate(ctx, server.URL(), slog.New(slog.DiscardHandler)); err != nil {
		return false, err
	}
	key, err := vault.ParseKey("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	if err != nil {
		return false, err
	}
	ring, err := vault.NewKeyring(key)
	if err != nil {
		return false, err
	}
	pool, err := db.Open(ctx, server.URL(), ring)
	if err != nil {
		return false, err
	}
	defer pool.Close()
	if err := db.VerifyKeyring(ctx, pool, ring); err != nil {
		return false, err
	}
	if extra != "" {
		if _, err := pool.Exec(ctx, extra); err != nil {
			return false, err
		}
	}
	access := vault.NewToken("merchants.access_token:acct_1", "sk_test_1")
	merchant, err := db.New(pool).MerchantCreate(ctx, db.MerchantCreateParams{
		ID: uuid.Must(uuid.NewV7()), StripeUserID: "acct_1", AccessToken: &access, Scope: "read_write",
	})
	if err != nil {
		return false, err
	}
	started := time.Now()
	if err := load(ctx, pool, merchant, ghosts); err != nil {
		return false, err
	}
	fmt.Printf("%d ghosts loaded in %.0f s\n\n", ghosts, time.Since(started).Seconds())
	api, err := newClient(ctx, pool)
	if err != nil {
		return false, err
	}
	started = time.Now()
	if err := api.ghosts.Fold(ctx); err != nil {
		return false, err
	}
	if _, err := pool.Exec(ctx, "VACUUM ANALYZE ghost_counts, ghost_changes"); err != nil {
		return false, err
	}
	fmt.Printf("counts folded in %.1f s\n\n", time.Since(started).Seconds())
	cursor, err := lastCursor(ctx, pool, merchant)
	if err != nil {
		return false, err
	}
	if met, err = api.report(cursor, pages); err != nil || !all {
		return met, err
	}
	return met, api.huntAll(ctx, pool, merchant)
}

// lastCursor is the cursor of the last full page.
func lastCursor(ctx context.Context, pool *pgxpool.Pool, merchant uuid.UUID) (string, error) {
	var id uuid.UUID
	err := pool.QueryRow(ctx, "SELECT id FROM ghost_targets WHERE merchant_id = $1 ORDER BY id DESC OFFSET $2 LIMIT 1", merchant, perPage).Scan(&id)
	return base64.RawURLEncoding.EncodeToString(id[:]), err
}

// client asks the handler as an app with a key would.
type client struct {
	handler http.Handler
	key     string
	ghosts  *ghost.Service
	hunts   *recovery.Service
}

func newClient(ctx context.Context, pool *pgxpool.Pool) (*client, error) {
	log := slog.New(slog.DiscardHandler)
	merchants := connect.New(connect.Config{Log: log}, pool)
	key, _, err := merchants.CreateAPIKey(ctx, "acct_1", connect.NewAPIKey{Scope: connect.ScopeWrite})
	if err != nil {
		return nil, err
	}
	c := &client{key: key, ghosts: ghost.New(pool, merchants, log), hunts: recovery.New(pool, merchants, message.New(pool, merchants, message.Config{Log: log}), nil, recovery.Config{Log: log})}
	c.handler = web.New(web.Config{Connect: merchants, Ghost: c.ghosts, Ping: pool.Ping, Log: log, Recovery: c.hunts}).Handler()
	return c, nil
}

// get returns how long an answer takes and how many ghosts it holds.
func (c *client) get(path string) (time.Duration, int, error) {
	request := httptest.NewRequest(http.MethodGet, path, nil)
	request.Header.Set("Authorization", "Bearer "+c.key)
	answer := httptest.NewRecorder()
	started := time.Now()
	c.handler.ServeHTTP(answer, request)
	took := time.Since(started)
	if answer.Code != http.StatusOK {
		return 0, 0, fmt.Errorf("%s answered %d: %s", path, answer.Code, answer.Body)
	}
	var page struct{ Data []json.RawMessage }
	err := json.Unmarshal(answer.Body.Bytes(), &page)
	return took, len(page.Data), err
}

func (c *client) report(lastCursor string, pages int) (met bool, err error) {
	limit := fmt.Sprintf("?limit=%d", perPage)
	paths := []string{"/api/ghosts" + limit, "/api/ghosts" + limit + "&cursor=" + lastCursor}
	medians := make([][]time.Duration, len(paths))
	for range rounds {
		times := make([][]time.Duration, len(paths))
		for range pages { // in turns, because the machine is shared
			for i, path := range paths {
				took, ghosts, err := c.get(path)
				if err != nil || ghosts != perPage {
					return false, fmt.Errorf("%s: %d ghosts: %w", path, ghosts, err)
				}
				times[i] = append(times[i], took)
			}
		}
		for i := range paths {
			medians[i] = append(medians[i], median(times[i]))
		}
	}
	first, last := median(medians[0]), median(medians[1])
	ratio := float64(last) / float64(first)
	fmt.Printf("| page of %d | median of %d medians of %d | ratio | bar |\n| --- | --- | --- | --- |\n", perPage, rounds, pages)
	fmt.Printf("| first | %s | | |\n| last | %s | %.2f | ≤ %.1f |\n\n", milliseconds(first), milliseconds(last), ratio, bar)

	met = ratio <= bar
	fmt.Printf("| request | ghosts | median of %d | most |\n| --- | --- | --- | --- |\n", rounds)
	for _, query := range []string{
		"status=open", "status=closed", "currency=jpy", "currency=chf", "decline_class=soon", "min_amount=9999", "min_amount=10000",
		"status=closed&currency=jpy", "status=open&currency=usd&decline_class=timed&min_amount=5000", "kind=written_off", "kind=all&currency=chf",
		"kind=all&status=closed&decline_class=soon", "currency=jpy&decline_class=customer", "currency=usd&min_amount=10000",
		"status=closed&currency=jpy&min_amount=9999",
	} {
		ok, err := c.row("/api/ghosts"+limit+"&"+query, filterBar)
		if err != nil {
			return false, err
		}
		met = met && ok
	}
	ok, err := c.row("/api/summary", summaryBar)
	return met && ok, err
}

// row prints the median of a request, and says whether it is within a bar.
func (c *client) row(path string, most time.Duration) (met bool, err error) {
	var times []time.Duration
	ghosts := 0
	for range rounds {
		took, found, err := c.get(path)
		if err != nil {
			return false, err
		}
		times, ghosts = append(times, took), found
	}
	fmt.Printf("| `%s` | %d | %s | %s |\n", path, ghosts, milliseconds(median(times)), milliseconds(slices.Max(times)))
	return median(times) <= most, nil
}

func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}
