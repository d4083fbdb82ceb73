// Command audit measures the audit of a merchant's history: how many objects a second it reads
// beside a plain loop over stripe-go's lists, whether its memory stays flat, whether it uses the
// rate that its limiter allows, and how quickly findings are written. It exits with 1 if a bar is
// missed.
//
// Stripe is the sandbox in a process of its own, and so is each side, so that memory and processor
// time are their own.
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"

	"phantom/connect"
	"phantom/db"
	"phantom/db/local"
	"phantom/ghost"
	"phantom/sandbox"
	"phantom/task"
	"phantom/vault"
)

var (
	role    = flag.String("role", "", "internal: which process this is")
	url     = flag.String("db", "", "internal: the database")
	stripes = flag.String("stripe", "", "internal: the sandbox")
	limit   = flag.Int("limit", 0, "internal: requests a second")
	charges = flag.Int("charges", 100_000, "size of the world for the ratio")
	limited = flag.Int("limited", 50_000, "size of the world for the limiter")
	large   = flag.Int("large", 1_000_000, "size of the large world, whose memory is measured")
	small   = flag.Int("small", 10_000, "size of the world whose memory it is held against")
	only    = flag.String("only", "", "measure one thing alone: ratio, limiter, memory or writing")
	rounds  = flag.Int("rounds", 5, "runs of each side")
)

// roles are what a process may be.
var roles = map[string]func(context.Context) error{"": run, "sandbox": runSandbox, "audit": runAudit, "loop": runLoop}

// errMissed says that the measurements missed bars.
var errMissed = errors.New("bars missed")

func main() {
	flag.Parse()
	if *rounds < 5 {
		fmt.Fprintln(os.Stderr, "audit: -rounds must be 5 at least: a median of fewer says little")
		os.Exit(2)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := roles[*role](ctx); err != nil {
		fmt.Fprintln(os.Stderr, "audit:", err)
		cancel()
		os.Exit(1) //nolint:gocritic // cancel has been called
	}
}

// result is what a side prints.
type result struct {
	Objects int64
	Seconds float64
	Peak    int64 // most bytes resident
}

func (r result) rate() float64 { return float64(r.Objects) / r.Seconds }

func run(ctx context.Context) (err error) {
	folder := filepath.Join(os.TempDir(), "phantom-bench-"+strconv.Itoa(os.Getpid()))
	server, err := local.Start(ctx, local.Config{Dir: folder, Database: "phantom_bench", Unsafe: true})
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, server.Stop(context.WithoutCancel(ctx)), os.RemoveAll(folder))
	}()
	if _, err := db.Migrate(ctx, server.URL(), slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	missed := 0
	var invalid error
	judge := func(what string, value, bar float64, atLeast bool) {
		if math.IsNaN(value) || math.IsInf(value, 0) || value <= 0 {
			invalid = errors.Join(invalid, fmt.Errorf("%s: %f is no measurement", what, value))
		}
		verdict := "met"
		if atLeast && value < bar || !atLeast && value > bar {
			verdict, missed = "MISSED", missed+1
		}
		fmt.Printf("| %s | %.2f | %.2f | %s |\n", what, value, bar, verdict)
	}

	fmt.Println("| what | ratio | bar | |\n| --- | --- | --- | --- |")
	if *only == "" || *only == "ratio" {
		if err := measureRatio(ctx, server.URL(), judge); err != nil {
			return err
		}
	}
	if *only == "" || *only == "limiter" {
		if err := measureLimiter(ctx, server.URL(), judge); err != nil {
			return err
		}
	}
	if *only == "" || *only == "memory" {
		if err := measureMemory(ctx, server.URL(), judge); err != nil {
			return err
		}
	}
	if *only == "" || *only == "writing" {
		if err := measureWriting(ctx, server.URL(), judge); err != nil {
			return err
		}
	}
	if invalid != nil {
		return invalid
	}
	if missed > 0 {
		return fmt.Errorf("%d %w", missed, errMissed)
	}
	return nil
}

// judgment prints a ratio beside its bar.
type judgment func(what string, value, bar float64, atLeast bool)

func measureRatio(ctx context.Context, url string, judge judgment) error {
	var ours, loop []float64
	err := inWorld(ctx, url, *charges, func(base string) error {
		for range *rounds {
			audit, err := side(ctx, "audit", base, url, 0)
			if err != nil {
				return err
			}
			plain, err := side(ctx, "loop", base, url, 0)
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "audit %d objects in %.2f s, loop %d in %.2f s\n", audit.Objects, audit.Seconds, plain.Objects, plain.Seconds)
			ours, loop = append(ours, audit.rate()), append(loop, plain.rate())
		}
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "objects/s, medians of %d: audit %.0f, loop %.0f\n", len(ours), median(ours), median(loop))
	judge("audit objects/s, beside a loop over stripe-go's lists", median(ours)/median(loop), 4, true)
	return nil
}

func measureLimiter(ctx context.Context, url string, judge judgment) error {
	var rate float64
	err := inWorld(ctx, url, *limited, func(base string) error {
		limited, err := side(ctx, "audit", base, url, 80)
		if err != nil {
			return err
		}
		if rate, err = requestRate(base); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "limited to 80/s: %d objects in %.2f s, %.1f requests a second\n", limited.Objects, limited.Seconds, rate)
		return nil
	})
	if err != nil {
		return err
	}
	judge("requests/s with the limiter, of its rate", rate/80, 0.95, true)
	return nil
}

func measureMemory(ctx context.Context, url string, judge judgment) error {
	peaks := make(map[int]int64)
	for _, size := range []int{*small, *large} {
		err := inWorld(ctx, url, size, func(base string) error {
			audit, err := side(ctx, "audit", base, url, 0)
			peaks[size] = audit.Peak
			fmt.Fprintf(os.Stderr, "%d charges: %d objects in %.1f s, %.1f MB at most\n", size, audit.Objects, audit.Seconds, float64(audit.Peak)/1e6)
			return err
		})
		if err != nil {
			return err
		}
	}
	judge(fmt.Sprintf("memory with %d charges, of that with %d", *large, *small), float64(peaks[*large])/float64(peaks[*small]), 1.2, false)
	return nil
}

func measureWriting(ctx context.Context, url string, judge judgment) error {
	// A world, so that there is a merchant to write for.
	if err := inWorld(ctx, url, 100, func(base string) error {
		_, err := side(ctx, "audit", base, url, 0)
		return err
	}); err != nil {
		return err
	}
	upsert, copied, again, err := writing(ctx, url, *rounds)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "rows/s, medians of %d: upsert %.0f, unchanged %.0f, COPY %.0f\n", len(upsert), median(upsert), median(again), median(copied))
	judge("findings by upsert, rows/s of COPY's", median(upsert)/median(copied), 0.45, true)
	return nil
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// inWorld runs a sandbox process with a world of so many charges, of which the database knows
// nothing yet.
func inWorld(ctx context.Context, url string, size int, do func(base string) error) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "TRUNCATE ghost_targets, ghost_memories")
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return err
	}
	command := exec.CommandContext(ctx, os.Args[0], "-role", "sandbox", "-charges", strconv.Itoa(size))
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	defer func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	}()
	var base string
	if _, err := fmt.Fscanln(out, &base); err != nil {
		return fmt.Errorf("the sandbox did not start: %w", err)
	}
	return do(base)
}

// side runs one side as a process.
func side(ctx context.Context, role, base, url string, limit int) (r result, err error) {
	command := exec.CommandContext(ctx, os.Args[0], "-role", role, "-stripe", base, "-db", url, "-limit", strconv.Itoa(limit))
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return r, fmt.Errorf("%s: %w", role, err)
	}
	return r, json.Unmarshal(out, &r)
}

// counter counts requests of lists, and when the first and the last came.
type counter struct {
	next        http.Handler
	mutex       sync.Mutex
	n           int
	first, last time.Time
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mutex.Lock()
	if r.URL.Path == "/count" {
		defer c.mutex.Unlock()
		_ = json.NewEncoder(w).Encode(float64(c.n-1) / c.last.Sub(c.first).Seconds())
		return
	}
	if r.URL.Query().Has("limit") {
		if c.n++; c.n == 1 {
			c.first = time.Now()
		}
		c.last = time.Now()
	}
	c.mutex.Unlock()
	c.next.ServeHTTP(w, r)
}

func requestRate(base string) (rate float64, err error) {
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get(base + "/count")
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	return rate, json.NewDecoder(response.Body).Decode(&rate)
}

func runSandbox(ctx context.Context) error {
	world, err := sandbox.New(sandbox.Config{Charges: *charges, Merchants: 1})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + listener.Addr().String())
	server := &http.Server{Handler: &counter{next: world}, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	return server.Serve(listener)
}

func newService(ctx context.Context) (*connect.Service, *ghost.Service, *task.Queue, error) {
	key, err := vault.ParseKey(hex.EncodeToString(make([]byte, 31)) + "01")
	if err != nil {
		return nil, nil, nil, err
	}
	ring, err := vault.NewKeyring(key)
	if err != nil {
		return nil, nil, nil, err
	}
	pool, err := db.Open(ctx, *url, ring)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := db.VerifyKeyring(ctx, pool, ring); err != nil {
		return nil, nil, nil, err
	}
	log := slog.New(slog.DiscardHandler)
	account := connect.New(connect.Config{
		SecretKey: sandbox.SecretKey, ClientID: sandbox.ClientID, APIBase: *stripes, ConnectBase: *stripes,
		RedirectURI: "http://localhost:8080/api/auth/callback", RateLimit: *limit, Log: log,
	}, pool)
	ghosts := ghost.New(pool, account, log)
	queue, err := task.NewQueue(pool, task.Config{ListenURL: *url, Handlers: ghosts.Handlers(), Log: log})
	return account, ghosts, queue, err
}

// handshake connects the sandbox's merchant.
func handshake(ctx context.Context, s *connect.Service) (account string, err error) {
	page, browser, err := s.Begin(ctx, "")
	if err != nil {
		return "", err
	}
	client := http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Get(page)
	if err != nil {
		return "", err
	}
	_ = response.Body.Close()
	back, err := response.Location()
	if err != nil {
		return "", err
	}
	return s.Complete(ctx, connect.Callback{State: back.Query().Get("state"), Code: back.Query().Get("code"), Browser: browser})
}

// runAudit is our side, from the order to the stored end.
func runAudit(ctx context.Context) error {
	account, ghosts, queue, err := newService(ctx)
	if err != nil {
		return err
	}
	name, err := handshake(ctx, account)
	if err != nil {
		return err
	}
	pool, err := db.Open(ctx, *url, nil)
	if err != nil {
		return err
	}
	defer pool.Close()
	merchant, err := db.New(pool).MerchantGetID(ctx, name)
	if err != nil {
		return err
	}
	begin := time.Now()
	id, err := ghosts.StartAudit(ctx, merchant, nil)
	if err != nil {
		return err
	}
	if err := queue.RunOne(ctx, merchant, id); err != nil {
		return err
	}
	row, err := db.New(pool).AuditGet(ctx, db.AuditGetParams{MerchantID: merchant, ID: id})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result{Objects: row.Objects, Seconds: time.Since(begin).Seconds(), Peak: peak()})
}

// runLoop is the peer: what somebody writes who follows stripe-go's examples. It reads the same
// four lists and does nothing with them.
func runLoop(ctx context.Context) error {
	_, _, _, err := newService(ctx)
	if err != nil {
		return err
	}
	backend := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
		URL: stripe.String(*stripes), LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelError}, EnableTelemetry: stripe.Bool(false),
	})
	key := os.Getenv("PHANTOM_BENCH_TOKEN")
	if key == "" {
		key = sandbox.SecretKey
	}
	accounts, err := connected(*stripes)
	if err != nil {
		return err
	}
	api := client.New(key, &stripe.Backends{API: backend, Connect: backend, Uploads: backend})
	params := stripe.ListParams{Context: ctx, Limit: stripe.Int64(100), StripeAccount: stripe.String(accounts)}
	var r result
	begin := time.Now()
	subscriptions := api.Subscriptions.List(&stripe.SubscriptionListParams{ListParams: params, Status: stripe.String("all")})
	for subscriptions.Next() {
		r.Objects++
	}
	invoices := api.Invoices.List(&stripe.InvoiceListParams{ListParams: params})
	for invoices.Next() {
		r.Objects++
	}
	all := api.Charges.List(&stripe.ChargeListParams{ListParams: params})
	for all.Next() {
		r.Objects++
	}
	disputes := api.Disputes.List(&stripe.DisputeListParams{ListParams: params})
	for disputes.Next() {
		r.Objects++
	}
	if err := errors.Join(subscriptions.Err(), invoices.Err(), all.Err(), disputes.Err()); err != nil {
		return err
	}
	r.Seconds, r.Peak = time.Since(begin).Seconds(), peak()
	return json.NewEncoder(os.Stdout).Encode(r)
}

// connected is the sandbox's merchant, connected by an audit before.
func connected(base string) (string, error) {
	world, err := sandbox.New(sandbox.Config{Charges: 1, Merchants: 1})
	if err != nil {
		return "", err
	}
	_ = base
	return world.Accounts()[0], nil // the seed alone makes it
}

// peak is the most memory that this process had resident, in bytes.
func peak() int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kilobytes, _ := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return kilobytes << 10
		}
	}
	return 0
}
