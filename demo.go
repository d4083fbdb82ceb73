package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/lmittmann/tint"

	"phantom/db"
	"phantom/db/local"
	"phantom/recovery"
	"phantom/sandbox"
	"phantom/task"
	"phantom/web"
)

// demoConfig says which demo to run.
type demoConfig struct {
	customers, days int
	seed            uint64
	path            string // of the page
	plain           bool   // lines instead of a live view
}

// runDemo shows PHANTOM on a generated merchant: everything runs for real, and only Stripe, Resend, Twilio and the time are stand-ins.
func runDemo(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var o demoConfig
	flags := newFlags("demo")
	flags.IntVar(&o.customers, "customers", 150, "customers of the merchant, from 1 to 2000; more take longer")
	flags.IntVar(&o.days, "days", 60, "days to live through, from 1 to 90")
	flags.Uint64Var(&o.seed, "seed", 1, "the same seed at the same hour makes the same merchant")
	flags.StringVar(&o.path, "o", "demo.html", "the page to write")
	flags.BoolVar(&o.plain, "plain", false, "plain lines instead of a live view, as where the output is no terminal")
	if err := parseFlags(flags, args, stderr); err != nil {
		return err
	}
	switch {
	case o.customers < 1 || o.customers > 2000:
		return errors.New("phantom demo: --customers must lie between 1 and 2000")
	case o.days < 1 || o.days > 90:
		return errors.New("phantom demo: --days must lie between 1 and 90")
	}
	if info, err := os.Stat(filepath.Dir(o.path)); o.path == "" || err != nil || !info.IsDir() {
		return fmt.Errorf("phantom demo: -o %.200q lies in no folder: name a file in one that is there", o.path)
	}
	for _, name := range []string{"DATABASE_URL", "DATABASE_DIRECT_URL", "DATABASE_URL_FILE", "DATABASE_DIRECT_URL_FILE"} {
		if getenv(name) != "" {
			return fmt.Errorf("[DATABASE] phantom demo moves the time of its database and drops it at the end: unset %s, and it takes a private one", name)
		}
	}
	var log demoLog
	d := &demo{demoConfig: o, log: slog.New(tint.NewTextHandler(&log, &tint.Options{Level: slog.LevelWarn, TimeFormat: time.TimeOnly, NoColor: true}))}
	err := d.run(ctx, stdout)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("[SERVER] the demo was stopped (%w): nothing of it is left", context.Cause(ctx))
	case err != nil:
		_, _ = stderr.Write(log.tail())
	}
	return err
}

// demoLog keeps the last warnings, for the case that the demo fails: lines would tear the live view.
type demoLog struct {
	mutex sync.Mutex
	text  []byte
}

func (l *demoLog) Write(p []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.text = append(l.text, p...)
	l.text = l.text[max(0, len(l.text)-4000):]
	return len(p), nil
}

func (l *demoLog) tail() []byte {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return bytes.Clone(l.text)
}

// demo is one run.
type demo struct {
	demoConfig
	log   *slog.Logger
	stops []func() // in the order of their starts

	start, now   time.Time // by the worlds' clock
	pool         *pgxpool.Pool
	services     services
	base         string // of the server
	merchant     uuid.UUID
	ours, theirs *demoWorld // PHANTOM's and the fixed schedule's
	samples      []demoSample
	result       demoResult
}

func (d *demo) run(ctx context.Context, stdout io.Writer) (err error) {
	began := time.Now()
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // memory for time
	defer func() {
		for len(d.stops) > 0 {
			last := len(d.stops) - 1
			d.stops[last]()
			d.stops = d.stops[:last]
		}
	}()
	view := newDemoView(d, stdout)
	defer view.end()
	view.say("starting a private PostgreSQL, two sandboxes and a server")
	if err := d.open(ctx); err != nil {
		return err
	}
	view.say("connecting the merchant and reading the whole history")
	if err := d.connect(ctx); err != nil {
		return err
	}
	if err := d.live(ctx, view); err != nil {
		return err
	}
	if err := d.conclude(ctx, time.Since(began)); err != nil {
		return err
	}
	view.end()
	d.result.print(stdout)
	page, err := d.result.page()
	if err != nil {
		return fmt.Errorf("[SERVER] cannot draw the page: %w", err)
	}
	if err := writeWhole(d.path, page); err != nil {
		return fmt.Errorf("[SERVER] cannot write the page: %w", err)
	}
	_, err = fmt.Fprintf(stdout, "\n%s has the curves\n", d.path)
	return err
}

func (d *demo) onStop(stop func()) { d.stops = append(d.stops, stop) }

// open starts everything and leaves to d.stops how it ends.
func (d *demo) open(ctx context.Context) error {
	url, err := d.openDatabase(ctx)
	if err != nil {
		return err
	}
	// Both worlds and the database begin at the same full hour, and none of their clocks runs by itself.
	d.start = time.Now().UTC().Truncate(time.Hour)
	d.now = d.start
	for _, world := range []**demoWorld{&d.ours, &d.theirs} {
		if *world, err = d.openWorld(); err != nil {
			return err
		}
	}
	listener, err := web.Listen(ctx, "127.0.0.1", 0)
	if err != nil {
		return fmt.Errorf("[SERVER] cannot listen: %w", err)
	}
	d.base = "http://" + listener.Addr().String()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	secret := "whsec_" + rand.Text()
	environment := map[string]string{ // nothing of the user's
		"PHANTOM_DEV": "1", "DATABASE_URL": url, "ENCRYPTION_KEY": hex.EncodeToString(key), "PUBLIC_URL": d.base,
		"STRIPE_SECRET_KEY": sandbox.SecretKey, "STRIPE_CLIENT_ID": sandbox.ClientID, "STRIPE_WEBHOOK_SECRET": secret, "STRIPE_RATE_LIMIT": "0",
		"STRIPE_API_BASE": d.ours.base, "STRIPE_CONNECT_BASE": d.ours.base,
	}
	c, err := loadConfig(func(name string) string { return environment[name] }, needs{database: true, key: true, stripe: true})
	if err != nil {
		return err
	}
	if err := proveVault(c.ring, d.log); err != nil {
		return err
	}
	if _, err := c.migrate(ctx, d.log); err != nil {
		return err
	}
	if d.pool, err = c.openPool(ctx); err != nil {
		return err
	}
	d.onStop(func() { closePool(d.pool) })
	if err := d.setClock(ctx, d.pool, d.start); err != nil {
		return err
	}
	d.services = c.newServices(d.pool, d.log)
	d.serve(c, listener)
	if err := d.ours.box.SetWebhook(sandbox.Webhook{URL: d.base + "/api/webhooks/stripe", Secret: secret}); err != nil {
		return err
	}
	return d.work(ctx, c)
}

// openDatabase starts a PostgreSQL of this run's own in a temporary folder. What demos left that were killed goes first.
func (d *demo) openDatabase(ctx context.Context) (url string, err error) {
	folder, remove, err := local.Scratch(ctx, "phantom-demo", d.log)
	if err != nil {
		return "", fmt.Errorf("[DATABASE] the demo needs a temporary folder: %w", err)
	}
	d.onStop(remove)
	server, err := local.Start(ctx, local.Config{Dir: local.ScratchDir(folder), Unsafe: true, Log: d.log})
	var missing *local.NotInstalledError
	if errors.As(err, &missing) {
		err = missing
	}
	if err != nil {
		return "", fmt.Errorf("[DATABASE] %w", err)
	}
	d.onStop(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			d.log.Error("[DATABASE] private PostgreSQL does not stop", "cause", err)
		}
	})
	// No pooler stands before it, so that statements can stay prepared: a third less to do for the database. docs/adr/0003.
	return server.URL() + "&default_query_exec_mode=cache_statement", nil
}

// serve answers requests until the demo ends.
func (d *demo) serve(c *config, listener *net.TCPListener) {
	server := web.New(web.Config{
		Connect: d.services.connect, Ghost: d.services.ghosts, Recovery: d.services.hunts, OpenAPI: openAPI, Ping: d.pool.Ping, Log: d.log,
		Tasks: func(ctx context.Context, merchantID uuid.UUID, filter task.Filter) (task.Page, error) {
			return task.List(ctx, d.pool, merchantID, filter)
		},
		WebhookSecrets: c.webhookSecrets,
	})
	serving, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := server.Serve(serving, listener); err != nil {
			d.log.Error("[SERVER] ended", "cause", err)
		}
	})
	d.onStop(func() { stop(); running.Wait() })
}

// work runs workers until the demo ends.
func (d *demo) work(ctx context.Context, c *config) error {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	wait, err := c.startWorkers(working, d.services, d.log)
	if err != nil {
		stop()
		return err
	}
	d.onStop(func() { stop(); wait() })
	return nil
}

// connect does what a merchant does: the handshake in a browser, the channels, the playbook. The audit begins by itself.
func (d *demo) connect(ctx context.Context) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	browser := &http.Client{Jar: jar, Timeout: 30 * time.Second, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == "/oauth/authorize" { // the page where a merchant says who he is
			query := r.URL.Query()
			query.Set("sandbox_account", d.ours.account)
			r.URL.RawQuery = query.Encode()
		}
		return nil
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.base+"/api/auth/stripe", nil)
	if err != nil {
		return err
	}
	response, err := browser.Do(request)
	if err != nil {
		return fmt.Errorf("[STRIPE] handshake: %w", err)
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	_ = response.Body.Close()
	if err != nil || !bytes.Contains(answer, []byte(`"status":"success"`)) {
		return fmt.Errorf("[STRIPE] handshake: %s: %.200s", response.Status, answer)
	}
	if err := d.theirs.authorize(ctx); err != nil {
		return fmt.Errorf("[STRIPE] the fixed schedule's sandbox: %w", err)
	}
	if d.merchant, err = d.services.connect.Merchant(ctx, d.ours.account); err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	hunts := d.services.hunts
	if _, err := hunts.SetResend(ctx, d.merchant, sandbox.ResendKey, "Billing <billing@example.com>"); err != nil {
		return fmt.Errorf("[SERVER] set up Resend: %w", err)
	}
	if _, err := hunts.SetTwilio(ctx, d.merchant, sandbox.TwilioSID, sandbox.TwilioToken, "+14155550100"); err != nil {
		return fmt.Errorf("[SERVER] set up Twilio: %w", err)
	}
	playbook := recovery.DefaultPlaybook()
	// The other sandbox is what would have happened anyway, so nobody is held out.
	playbook.Mode, playbook.TakeOver, playbook.HoldoutPercent = recovery.ModeRecover, true, 0
	playbook.Steps = []recovery.Step{
		{AfterDays: 0, Channel: recovery.Email, Template: "payment_failed"},
		{AfterDays: 4, Channel: recovery.Email, Template: "reminder"},
		{AfterDays: 8, Channel: recovery.SMS, Template: "reminder"},
		{AfterDays: 12, Channel: recovery.Email, Template: "last_notice"},
	}
	if _, err := hunts.SetPlaybook(ctx, d.merchant, playbook); err != nil {
		return fmt.Errorf("[SERVER] set the playbook: %w", err)
	}
	return d.settle(ctx)
}
