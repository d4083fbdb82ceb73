// Package demo lives through some days of a made-up merchant and compares what they bring with a
// fixed schedule.
package demo

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
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/lmittmann/tint"

	"phantom/app"
	"phantom/db"
	"phantom/db/local"
	"phantom/playbook"
	"phantom/report"
	"phantom/sandbox"
	"phantom/state"
	"phantom/web"
)

// Options say which demo to run.
type Options struct {
	Customers, Days int
	Seed            uint64
	Path            string // of the page
	Plain           bool   // lines instead of a live view
}

// Run shows PHANTOM on a generated merchant: everything runs for real, and only Stripe, Resend,
// Twilio and the time are stand-ins. It writes the page and, to stdout, how the days pass and what
// they come to.
func Run(ctx context.Context, o Options, stdout, stderr io.Writer) error {
	var log tailLog
	d := &run{Options: o, log: slog.New(tint.NewTextHandler(&log, &tint.Options{Level: slog.LevelWarn, TimeFormat: time.TimeOnly, NoColor: true}))}
	err := d.play(ctx, stdout)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("[SERVER] the demo was stopped (%w): nothing of it is left", context.Cause(ctx))
	case err != nil:
		_, _ = stderr.Write(log.tail())
	}
	return err
}

// tailLog keeps the last warnings, for the case that the demo fails: lines would tear the live
// view.
type tailLog struct {
	mutex sync.Mutex
	text  []byte
}

func (l *tailLog) Write(p []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.text = append(l.text, p...)
	l.text = l.text[max(0, len(l.text)-4000):]
	return len(p), nil
}

func (l *tailLog) tail() []byte {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return bytes.Clone(l.text)
}

// run is one demo.
type run struct {
	Options
	log   *slog.Logger
	stops []func() // in the order of their starts

	start, now   time.Time // by the worlds' clock
	pool         *pgxpool.Pool
	services     app.Services
	base         string // of the server
	merchant     uuid.UUID
	ours, theirs *world // PHANTOM's and the fixed schedule's
	samples      []sample
	result       result
}

func (d *run) play(ctx context.Context, stdout io.Writer) (err error) {
	began := time.Now()
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // memory for time
	defer func() {
		for len(d.stops) > 0 {
			last := len(d.stops) - 1
			d.stops[last]()
			d.stops = d.stops[:last]
		}
	}()
	view := newView(d, stdout)
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
	if err := report.WriteFile(d.Path, page); err != nil {
		return fmt.Errorf("[SERVER] cannot write the page: %w", err)
	}
	_, err = fmt.Fprintf(stdout, "\n%s has the curves\n", d.Path)
	return err
}

func (d *run) onStop(stop func()) { d.stops = append(d.stops, stop) }

// open starts everything and leaves to d.stops how it ends.
func (d *run) open(ctx context.Context) error {
	url, err := d.openDatabase(ctx)
	if err != nil {
		return err
	}
	// Both worlds and the database begin at the same full hour, and none of their clocks runs by
	// itself.
	d.start = time.Now().UTC().Truncate(time.Hour)
	d.now = d.start
	for _, world := range []**world{&d.ours, &d.theirs} {
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
	c, err := app.Load(func(name string) string { return environment[name] }, app.Needs{Database: true, Key: true, Stripe: true, Serves: true})
	if err != nil {
		return err
	}
	a, err := c.OpenComplete(ctx, d.log)
	if err != nil {
		return err
	}
	d.onStop(a.Close)
	d.pool = a.Pool
	if err := d.setClock(ctx, d.pool, d.start); err != nil {
		return err
	}
	d.services = a.NewServices()
	d.serve(a, listener)
	if err := d.ours.box.SetWebhook(sandbox.Webhook{URL: d.base + "/api/webhooks/stripe", Secret: secret}); err != nil {
		return err
	}
	return d.work(ctx, a)
}

// openDatabase starts a PostgreSQL of this run's own in a temporary folder. What demos left that
// were killed goes first.
func (d *run) openDatabase(ctx context.Context) (url string, err error) {
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
	// No pooler stands before it, so that statements can stay prepared: a third less to do for the
	// database. docs/adr/0003.
	return server.URL() + "&default_query_exec_mode=cache_statement", nil
}

// serve answers requests until the demo ends.
func (d *run) serve(a *app.App, listener *net.TCPListener) {
	server := a.NewServer(d.services, nil)
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
func (d *run) work(ctx context.Context, a *app.App) error {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	wait, err := a.StartWorkers(working, d.services)
	if err != nil {
		stop()
		return err
	}
	d.onStop(func() { stop(); wait() })
	return nil
}

// connect does what a merchant does: the handshake in a browser, the channels, the playbook. The
// audit begins by itself.
func (d *run) connect(ctx context.Context) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	browser := &http.Client{Jar: jar, Timeout: 30 * time.Second, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == "/oauth/authorize" { // the page where a merchant says who they are
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
	if d.merchant, err = d.services.Connect.Merchant(ctx, d.ours.account); err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	messages := d.services.Messages
	if _, err := messages.SetResend(ctx, d.merchant, sandbox.ResendKey, "Billing <billing@example.com>"); err != nil {
		return fmt.Errorf("[SERVER] set up Resend: %w", err)
	}
	if _, err := messages.SetTwilio(ctx, d.merchant, sandbox.TwilioSID, sandbox.TwilioToken, "+14155550100"); err != nil {
		return fmt.Errorf("[SERVER] set up Twilio: %w", err)
	}
	chosen := playbook.Default()
	// The other sandbox is what would have happened anyway, so nobody is held out.
	chosen.Mode, chosen.TakeOver, chosen.HoldoutPercent = state.ModeRecover, true, 0
	chosen.Steps = []playbook.Step{
		{AfterDays: 0, Channel: playbook.Email, Template: "payment_failed"},
		{AfterDays: 4, Channel: playbook.Email, Template: "reminder"},
		{AfterDays: 8, Channel: playbook.SMS, Template: "reminder"},
		{AfterDays: 12, Channel: playbook.Email, Template: "last_notice"},
	}
	if _, err := d.services.Hunts.SetPlaybook(ctx, d.merchant, chosen); err != nil {
		return fmt.Errorf("[SERVER] set the playbook: %w", err)
	}
	return d.settle(ctx)
}
