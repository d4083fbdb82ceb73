// Command queue measures the durable queue on one PostgreSQL with its default settings, in turns
// with what it is held against: no-op tasks a second beside River, claiming beside a million
// finished rows, enqueueing beside a plain COPY. It ends with 1 if a bar is missed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/db/local"
	"phantom/vault"
)

const (
	rateBar    = 2.5 // times River
	claimBar   = 0.9 // of the rate on an empty table
	enqueueBar = 0.6 // of COPY
)

// bench is a server with one database where the table is empty before each loop, and one where a
// million finished tasks lie.
type bench struct {
	empty, full *side
	tasks       int
}

// side is a database with PHANTOM's tables and one merchant.
type side struct {
	url      string
	pool     *pgxpool.Pool
	merchant uuid.UUID
}

func main() {
	rounds := flag.Int("rounds", 5, "loops of each side")
	tasks := flag.Int("tasks", 20_000, "tasks in a loop")
	finished := flag.Int("finished", 1_000_000, "finished tasks beside which claiming is measured")
	flag.Parse()
	met, err := measure(context.Background(), *rounds, *tasks, *finished)
	if err != nil {
		fmt.Fprintln(os.Stderr, "queue:", err)
	}
	if err != nil || !met {
		os.Exit(1)
	}
}

func measure(ctx context.Context, rounds, tasks, finished int) (met bool, err error) {
	folder := filepath.Join(os.TempDir(), "phantom-bench-"+strconv.Itoa(os.Getpid()))
	b := &bench{tasks: tasks}
	for name, s := range map[string]**side{"empty": &b.empty, "full": &b.full} {
		server, err := local.Start(ctx, local.Config{Dir: folder, Database: "phantom_" + name})
		if err != nil {
			return false, err
		}
		defer func() { err = errors.Join(err, server.Stop(context.WithoutCancel(ctx)), os.RemoveAll(folder)) }()
		if *s, err = newSide(ctx, server.URL()); err != nil {
			return false, err
		}
		defer (*s).pool.Close()
	}
	if err := b.full.fill(ctx, finished); err != nil {
		return false, fmt.Errorf("fill: %w", err)
	}
	rivers, closeRivers, err := newRivers(ctx, b.empty.url)
	if err != nil {
		return false, err
	}
	defer closeRivers()

	rates := table{what: "no-op tasks, from enqueued to final in the table"}
	claims := table{what: "claims"}
	enqueues := table{what: "tasks enqueued"}
	for range rounds {
		if err := rates.add("ours", tasks, func() (time.Duration, error) { return b.runOurs(ctx) }); err != nil {
			return false, err
		}
		for _, r := range rivers {
			if err := rates.add(r.name, tasks, func() (time.Duration, error) { return r.run(ctx, tasks) }); err != nil {
				return false, err
			}
		}
		for name, s := range map[string]*side{"beside finished tasks": b.full, "on an empty table": b.empty} {
			if err := claims.add(name, tasks, func() (time.Duration, error) { return s.claimAll(ctx, tasks) }); err != nil {
				return false, err
			}
		}
		for name, enqueue := range map[string]enqueue{"unnest, as Queue has it": byUnnest, "COPY": byCopy} {
			if err := enqueues.add(name, tasks, func() (time.Duration, error) { return b.empty.enqueueOnly(ctx, tasks, enqueue) }); err != nil {
				return false, err
			}
		}
	}
	fmt.Printf("%d tasks a loop, %d finished rows, medians of %d loops\n", tasks, finished, rounds)
	rates.print()
	claims.print()
	enqueues.print()
	best := 0.0
	for _, r := range rivers {
		fmt.Printf("beside %s: %.2f\n", r.name, rates.median("ours")/rates.median(r.name))
		best = max(best, rates.median(r.name))
	}
	met = verdict("rate beside River's better one", rates.median("ours")/best, rateBar)
	met = verdict("claiming beside finished tasks", claims.median("beside finished tasks")/claims.median("on an empty table"), claimBar) && met
	met = verdict("enqueueing beside COPY", enqueues.median("unnest, as Queue has it")/enqueues.median("COPY"), enqueueBar) && met
	return met, nil
}

func verdict(what string, ratio, bar float64) bool {
	word := "missed"
	if ratio >= bar {
		word = "met"
	}
	fmt.Printf("%s: %.2f, bar %.1f: %s\n", what, ratio, bar, word)
	return ratio >= bar
}

// table holds the rates of one measurement's sides.
type table struct {
	what  string
	names []string
	rates map[string][]float64
}

func (t *table) add(name string, tasks int, loop func() (time.Duration, error)) error {
	took, err := loop()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if t.rates == nil {
		t.rates = make(map[string][]float64)
	}
	if !slices.Contains(t.names, name) {
		t.names = append(t.names, name)
		slices.Sort(t.names)
	}
	t.rates[name] = append(t.rates[name], float64(tasks)/took.Seconds())
	return nil
}

func (t *table) median(name string) float64 {
	sorted := slices.Sorted(slices.Values(t.rates[name]))
	return sorted[len(sorted)/2]
}

func (t *table) print() {
	fmt.Printf("\n| %s | a second, median | least | most |\n| --- | --- | --- | --- |\n", t.what)
	for _, name := range t.names {
		fmt.Printf("| %s | %.0f | %.0f | %.0f |\n", name, t.median(name), slices.Min(t.rates[name]), slices.Max(t.rates[name]))
	}
	fmt.Println()
}

func newSide(ctx context.Context, url string) (*side, error) {
	if _, err := db.Migrate(ctx, url, slog.New(slog.DiscardHandler)); err != nil {
		return nil, err
	}
	key, err := vault.ParseKey("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	if err != nil {
		return nil, err
	}
	ring, err := vault.NewKeyring(key)
	if err != nil {
		return nil, err
	}
	pool, err := db.Open(ctx, url, ring)
	if err != nil {
		return nil, err
	}
	s := &side{url: url, pool: pool}
	if err := db.VerifyKeyring(ctx, pool, ring); err != nil {
		return nil, err
	}
	access := vault.NewToken("merchants.access_token:acct_1", "sk_test_1")
	s.merchant, err = db.New(pool).MerchantCreate(ctx, db.MerchantCreateParams{
		ID: uuid.Must(uuid.NewV7()), StripeUserID: "acct_1", AccessToken: &access, Scope: "read_write",
	})
	return s, err
}
