// Command charges measures due tasks of one Stripe call each, marked, sent through PHANTOM's one
// door and recorded, beside River doing the same bare call and recording its result, and beside the
// sandbox's own ceiling for that call; and whole charges as PHANTOM does them (two reads, the caps,
// the mutation, its record and what follows). All in one process on one PostgreSQL, in turns: once
// with a sandbox that answers at once, and once with one that takes as long as a distant Stripe.
package main

import (
	"context"
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
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"phantom/connect"
	"phantom/db"
	"phantom/db/local"
	"phantom/ghost"
	"phantom/message"
	"phantom/oracle"
	"phantom/playbook"
	"phantom/recovery"
	"phantom/sandbox"
	"phantom/state"
	"phantom/task"
	"phantom/vault"
)

const workers = 32

func main() {
	rounds := flag.Int("rounds", 5, "loops of each side")
	charges := flag.Int("charges", 2000, "charges in a loop")
	latency := flag.Duration("latency", 100*time.Millisecond, "what a distant Stripe adds to each request")
	flag.Parse()
	if err := run(context.Background(), *rounds, *charges, *latency); err != nil {
		fmt.Fprintln(os.Stderr, "charges:", err)
		os.Exit(1)
	}
}

var sides = []struct {
	name string
	run  func(context.Context, *world) error
}{{"ceiling", ceiling}, {"river", riverSide}, {"call", oneCall}, {"charge", ours}}

func run(ctx context.Context, rounds, charges int, latency time.Duration) (err error) {
	folder := filepath.Join(os.TempDir(), "phantom-bench-"+strconv.Itoa(os.Getpid()))
	for _, added := range []time.Duration{0, latency} {
		rates := map[string][]float64{}
		for range rounds {
			for _, side := range sides {
				took, err := loop(ctx, folder, charges, added, side.run)
				if err != nil {
					return fmt.Errorf("%s: %w", side.name, err)
				}
				rates[side.name] = append(rates[side.name], float64(charges)/took.Seconds())
			}
		}
		median := func(name string) float64 { slices.Sort(rates[name]); return rates[name][len(rates[name])/2] }
		fmt.Printf("%d charges a loop, %d at a time, medians of %d loops, each request takes %s longer\n", charges, workers, rounds, added)
		for _, side := range sides {
			fmt.Printf("%-8s %.0f a second (%.0f to %.0f), %.2f of the ceiling\n", side.name, median(side.name), rates[side.name][0],
				rates[side.name][len(rates[side.name])-1], median(side.name)/median("ceiling"))
		}
		for _, name := range []string{"call", "charge"} {
			fmt.Printf("one %s beside River's bare call: %.2f\n", name, median(name)/median("river"))
		}
	}
	return nil
}

// world is a fresh sandbox with so many invoices that can be paid now, and a database with its
// merchant audited.
type world struct {
	pool     *pgxpool.Pool
	connect  *connect.Service
	ghosts   *ghost.Service
	hunts    *recovery.Service
	url      string // of the sandbox
	token    string
	merchant uuid.UUID
	invoices []string
	start    time.Time
}

type atOnce struct{}

func (atOnce) Next(_ context.Context, q oracle.Question) (oracle.Moment, error) {
	return oracle.Moment{At: q.NotBefore, Reason: "at once", Probability: 1}, nil
}

func loop(ctx context.Context, folder string, charges int, latency time.Duration, side func(context.Context, *world) error) (took time.Duration, err error) {
	server, err := local.Start(ctx, local.Config{Dir: folder, Database: "phantom_bench", Unsafe: true})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, server.Stop(context.WithoutCancel(ctx)), os.RemoveAll(folder)) }()
	if _, err := db.Migrate(ctx, server.URL(), slog.New(slog.DiscardHandler)); err != nil {
		return 0, err
	}
	stripe, err := sandbox.New(sandbox.Config{Merchants: 1, OpenInvoices: charges})
	if err != nil {
		return 0, err
	}
	var distant atomic.Bool // once the world is there
	host := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if distant.Load() {
			time.Sleep(latency)
		}
		stripe.ServeHTTP(rw, r)
	}))
	defer host.Close()
	w, err := newWorld(ctx, server.URL(), host.URL)
	if err != nil {
		return 0, err
	}
	defer w.pool.Close()
	distant.Store(true)
	if err := side(ctx, w); err != nil {
		return 0, err
	}
	took = time.Since(w.start)
	if done := len(stripe.AllExecutions()); done != charges {
		return 0, fmt.Errorf("%d of %d charges were executed", done, charges)
	}
	return took, nil
}

func newWorld(ctx context.Context, database, stripe string) (*world, error) {
	key, err := vault.ParseKey("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	if err != nil {
		return nil, err
	}
	ring, err := vault.NewKeyring(key)
	if err != nil {
		return nil, err
	}
	w := &world{url: stripe}
	if w.pool, err = db.Open(ctx, database, ring); err != nil {
		return nil, err
	}
	if err := db.VerifyKeyring(ctx, w.pool, ring); err != nil {
		return nil, err
	}
	log := slog.New(slog.DiscardHandler)
	w.connect = connect.New(connect.Config{
		SecretKey: sandbox.SecretKey, ClientID: sandbox.ClientID, APIBase: stripe, ConnectBase: stripe, RedirectURI: "http://localhost:8080/api/auth/callback", Log: log,
	}, w.pool)
	w.ghosts = ghost.New(w.pool, w.connect, log)
	w.hunts = recovery.New(w.pool, w.connect, message.New(w.pool, w.connect, message.Config{Log: log}), atOnce{}, recovery.Config{Log: log, Refresh: ghost.RefreshIn})
	w.ghosts.Hunts = w.hunts
	account, err := handshake(ctx, w.connect)
	if err != nil {
		return nil, err
	}
	row, err := db.New(w.pool).MerchantGetByStripeUserID(ctx, account)
	if err != nil {
		return nil, err
	}
	w.merchant = row.ID
	if w.token, err = row.AccessToken.Reveal("merchants.access_token:" + account); err != nil {
		return nil, err
	}
	audit, err := w.ghosts.StartAudit(ctx, w.merchant, nil)
	if err != nil {
		return nil, err
	}
	queue, err := w.queue(database)
	if err != nil {
		return nil, err
	}
	if err := queue.RunOne(ctx, w.merchant, audit); err != nil {
		return nil, err
	}
	rows, err := w.pool.Query(ctx, "SELECT stripe_invoice_id FROM ghost_targets")
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		w.invoices = append(w.invoices, id)
	}
	w.start = time.Now()
	return w, rows.Err()
}

func (w *world) queue(database string) (*task.Queue, error) {
	handlers := w.hunts.Handlers()
	for kind, handler := range w.ghosts.Handlers() {
		handlers[kind] = handler
	}
	return task.NewQueue(w.pool, task.Config{ListenURL: database, Handlers: handlers, Workers: workers, Log: slog.New(slog.DiscardHandler)})
}

func handshake(ctx context.Context, s *connect.Service) (string, error) {
	page, browser, err := s.Begin(ctx, "")
	if err != nil {
		return "", err
	}
	client := http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Get(page)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	back, err := response.Location()
	if err != nil {
		return "", err
	}
	return s.Complete(ctx, connect.Callback{State: back.Query().Get("state"), Code: back.Query().Get("code"), Browser: browser})
}

// pay is the one bare call.
func (w *world) pay(ctx context.Context, invoice string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+"/v1/invoices/"+invoice+"/pay", nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+w.token)
	request.Header.Set("Idempotency-Key", "task_"+uuid.NewString())
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

var client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 2 * workers}}

// ceiling is what the sandbox takes when nobody does anything else.
func ceiling(ctx context.Context, w *world) error {
	var next atomic.Int64
	var group sync.WaitGroup
	var failed atomic.Value
	for range workers {
		group.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(w.invoices)); i = next.Add(1) - 1 {
				if _, err := w.pay(ctx, w.invoices[i]); err != nil {
					failed.Store(err)
				}
			}
		})
	}
	group.Wait()
	err, _ := failed.Load().(error)
	return err
}

// charge is River's job: the same call, with its result recorded in the job's own transaction.
type charge struct {
	Invoice string `json:"invoice"`
}

func (charge) Kind() string { return "charge" }

type charger struct {
	river.WorkerDefaults[charge]
	w    *world
	left atomic.Int64
	all  chan struct{}
}

func (c *charger) Work(ctx context.Context, job *river.Job[charge]) error {
	status, err := c.w.pay(ctx, job.Args.Invoice)
	if err != nil {
		return err
	}
	if _, err := c.w.pool.Exec(ctx, "INSERT INTO results (id, status) VALUES ($1, $2)", job.ID, status); err != nil {
		return err
	}
	if c.left.Add(-1) == 0 {
		close(c.all)
	}
	return nil
}

func riverSide(ctx context.Context, w *world) error {
	driver := riverpgxv5.New(w.pool)
	migrator, err := rivermigrate.New(driver, nil)
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	if _, err := w.pool.Exec(ctx, "CREATE TABLE results (id bigint PRIMARY KEY, status integer NOT NULL)"); err != nil {
		return err
	}
	c := &charger{w: w, all: make(chan struct{})}
	c.left.Store(int64(len(w.invoices)))
	list := river.NewWorkers()
	river.AddWorker(list, c)
	queue, err := river.NewClient(driver, &river.Config{
		Workers: list, Logger: slog.New(slog.DiscardHandler), Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}},
		FetchCooldown: 2 * time.Millisecond, FetchPollInterval: 20 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	jobs := make([]river.InsertManyParams, len(w.invoices))
	for i, id := range w.invoices {
		jobs[i].Args = charge{id}
	}
	if _, err := queue.InsertManyFast(ctx, jobs); err != nil {
		return err
	}
	w.start = time.Now()
	if err := queue.Start(ctx); err != nil {
		return err
	}
	<-c.all
	return queue.Stop(ctx)
}

// oneCall is a task with one Stripe call in it: marked as sent, sent through the one door, and
// ended with its result.
func oneCall(ctx context.Context, w *world) error {
	var left atomic.Int64
	left.Store(int64(len(w.invoices)))
	all := make(chan struct{})
	handler := func(ctx context.Context, t *task.Task) error {
		reader, err := w.connect.Reader(ctx, t.MerchantID)
		if err != nil {
			return err
		}
		if err := reader.Turn(ctx); err != nil {
			return err
		}
		by := time.Now().Add(5 * time.Second)
		if err := task.MarkSent(ctx, w.pool, t); err != nil {
			return err
		}
		answer, err := reader.Mutate(ctx, t, by)
		if err != nil {
			return err
		}
		if err := task.Finish(ctx, w.pool, t, "succeeded", answer.Status, ""); err != nil {
			return err
		}
		if left.Add(-1) == 0 {
			close(all)
		}
		return nil
	}
	queue, err := task.NewQueue(w.pool, task.Config{
		ListenURL: w.pool.Config().ConnString(), Handlers: map[string]task.Handler{"bare_call": handler}, Workers: workers, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	for _, id := range w.invoices {
		request := connect.Mutation{Method: http.MethodPost, Path: "/v1/invoices/" + id + "/pay"}
		if _, err := task.Enqueue(ctx, w.pool, task.New{MerchantID: w.merchant, Kind: "bare_call", Params: map[string]any{"request": request}}); err != nil {
			return err
		}
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	w.start = time.Now()
	group.Go(func() { queue.Run(running) })
	select {
	case <-all:
		return nil
	case <-time.After(5 * time.Minute):
		return errors.New("the calls did not end within 5 minutes")
	}
}

// ours plans every charge first, and is timed from when they may go to when each has its result.
func ours(ctx context.Context, w *world) error {
	chosen := playbook.Default()
	chosen.Mode, chosen.HoldoutPercent, chosen.Steps = state.ModeRecover, 0, []playbook.Step{}
	chosen.Auto = false // chosen by hand
	if _, err := w.hunts.SetPlaybook(ctx, w.merchant, chosen); err != nil {
		return err
	}
	all, err := w.hunts.StartAll(ctx, w.merchant)
	if err != nil {
		return err
	}
	queue, err := w.queue(w.pool.Config().ConnString())
	if err != nil {
		return err
	}
	if err := queue.RunOne(ctx, w.merchant, all.ID); err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	until := func(query string) error {
		for {
			var left int
			if err := w.pool.QueryRow(ctx, query).Scan(&left); err != nil || left == 0 {
				return err
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	// They are planned, and none leaves yet.
	for _, statement := range []string{
		"CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.run_at := NEW.run_at + interval '1 hour'; RETURN NEW; END $$",
		"CREATE TRIGGER later BEFORE INSERT ON scheduled_tasks FOR EACH ROW WHEN (NEW.kind = 'invoice_pay') EXECUTE FUNCTION later()",
	} {
		if _, err := w.pool.Exec(ctx, statement); err != nil {
			return err
		}
	}
	group.Go(func() { queue.Run(running) })
	if err := until("SELECT count(*) FROM scheduled_tasks WHERE kind = 'hunt' AND params ->> 'do' = 'begin' AND status <> 'succeeded'"); err != nil {
		return err
	}
	if _, err := w.pool.Exec(ctx, "VACUUM ANALYZE"); err != nil {
		return err
	}
	w.start = time.Now()
	for _, statement := range []string{"UPDATE scheduled_tasks SET run_at = phantom_now() WHERE kind = 'invoice_pay'", "SELECT pg_notify('phantom_task', '')"} {
		if _, err := w.pool.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return until("SELECT count(*) FROM attempts WHERE number = 1 AND result IS NULL")
}
