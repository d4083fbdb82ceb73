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
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/app"
	"phantom/connect"
	"phantom/db"
	"phantom/db/local"
	"phantom/oracle"
	"phantom/playbook"
	"phantom/sandbox"
	"phantom/state"
	"phantom/task"
	"phantom/web"
)

// phantom is one PHANTOM with a database, a server and workers of its own. Only Stripe, Resend,
// Twilio and the time are stand-ins.
type phantom struct {
	pool     *pgxpool.Pool
	services app.Services
	base     string // of the server
	secret   string // of the webhook
	merchant uuid.UUID
}

// open starts everything, and leaves to the run how it ends.
func (p *phantom) open(ctx context.Context, d *run, world *world) error {
	url, err := openDatabase(ctx, d)
	if err != nil {
		return err
	}
	listener, err := web.Listen(ctx, "127.0.0.1", 0)
	if err != nil {
		return fmt.Errorf("[SERVER] cannot listen: %w", err)
	}
	p.base = "http://" + listener.Addr().String()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	p.secret = "whsec_" + rand.Text()
	environment := map[string]string{ // nothing of the user's
		"PHANTOM_DEV": "1", "DATABASE_URL": url, "ENCRYPTION_KEY": hex.EncodeToString(key), "PUBLIC_URL": p.base,
		"STRIPE_SECRET_KEY": sandbox.SecretKey, "STRIPE_CLIENT_ID": sandbox.ClientID, "STRIPE_WEBHOOK_SECRET": p.secret, "STRIPE_RATE_LIMIT": "0",
		"STRIPE_API_BASE": world.base, "STRIPE_CONNECT_BASE": world.base,
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
	p.pool = a.Pool
	if err := p.setClock(ctx, p.pool, d.start); err != nil {
		return err
	}
	p.services = a.NewServices()
	p.services.Oracle.KnownFor = 50 * time.Millisecond // a day takes about a second here
	serve(d, a.NewServer(p.services, nil), listener)
	return work(ctx, d, a, p.services)
}

// openDatabase starts a PostgreSQL of this run's own in a temporary folder. What demos left that
// were killed goes first.
func openDatabase(ctx context.Context, d *run) (url string, err error) {
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
func serve(d *run, server *web.Server, listener *net.TCPListener) {
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
func work(ctx context.Context, d *run, a *app.App, services app.Services) error {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	wait, err := a.StartWorkers(working, services)
	if err != nil {
		stop()
		return err
	}
	d.onStop(func() { stop(); wait() })
	return nil
}

// connect does what a merchant does: the handshake in a browser, the channels, the playbook. The
// audit begins by itself. Other merchants come first, where there are any: the oracle learns from
// their past, and from then on they stand still.
func (p *phantom) connect(ctx context.Context, s *side) (err error) {
	others := slices.DeleteFunc(s.box.Accounts(), func(account string) bool { return account == s.account })
	for _, account := range others[:s.others] {
		if err := p.enroll(ctx, s.world, account); err != nil {
			return fmt.Errorf("[STRIPE] handshake: %w", err)
		}
	}
	if err := p.authorize(ctx, s.account); err != nil {
		return err
	}
	if err := s.box.SetWebhook(sandbox.Webhook{URL: p.base + "/api/webhooks/stripe", Secret: p.secret, Accounts: []string{s.account}}); err != nil {
		return err
	}
	if p.merchant, err = p.services.Connect.Merchant(ctx, s.account); err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	if err := p.settle(ctx, s.box); err != nil {
		return err
	}
	if s.learns {
		if err := p.learn(ctx); err != nil {
			return err
		}
	}
	messages := p.services.Messages
	if _, err := messages.SetResend(ctx, p.merchant, sandbox.ResendKey, "Billing <billing@example.com>"); err != nil {
		return fmt.Errorf("[SERVER] set up Resend: %w", err)
	}
	if _, err := messages.SetTwilio(ctx, p.merchant, sandbox.TwilioSID, sandbox.TwilioToken, "+14155550100"); err != nil {
		return fmt.Errorf("[SERVER] set up Twilio: %w", err)
	}
	if _, err := p.services.Hunts.SetPlaybook(ctx, p.merchant, chosen()); err != nil {
		return fmt.Errorf("[SERVER] set the playbook: %w", err)
	}
	if err := p.enforce(ctx, s.run); err != nil {
		return err
	}
	return p.settle(ctx, s.box)
}

// chosen is the playbook of the demo. The other worlds are what would have happened anyway, so
// nobody is held out.
func chosen() playbook.Playbook {
	book := playbook.Default()
	book.Mode, book.TakeOver, book.HoldoutPercent = state.ModeRecover, true, 0
	book.Steps = []playbook.Step{
		{AfterDays: 0, Channel: playbook.Email, Template: "payment_failed"},
		{AfterDays: 4, Channel: playbook.Email, Template: "reminder"},
		{AfterDays: 8, Channel: playbook.SMS, Template: "reminder"},
		{AfterDays: 12, Channel: playbook.Email, Template: "last_notice"},
	}
	return book
}

// authorize is one merchant's handshake.
func (p *phantom) authorize(ctx context.Context, account string) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	browser := &http.Client{Jar: jar, Timeout: 30 * time.Second, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == "/oauth/authorize" { // the page where a merchant says who they are
			query := r.URL.Query()
			query.Set("sandbox_account", account)
			r.URL.RawQuery = query.Encode()
		}
		return nil
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/api/auth/stripe", nil)
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
	return nil
}

// enroll connects another merchant, without a browser: one address may not connect so many.
func (p *phantom) enroll(ctx context.Context, world *world, account string) error {
	page, cookie, err := p.services.Connect.Begin(ctx, "")
	if err != nil {
		return err
	}
	back, err := world.allow(ctx, page, account)
	if err != nil {
		return err
	}
	_, err = p.services.Connect.Complete(ctx, connect.Callback{State: back.Get("state"), Code: back.Get("code"), Browser: cookie})
	return err
}

// learn makes the oracle's first model, and lets it play: its trial in shadow takes weeks, and is
// no part of the demo. From then on it learns each night, and is checked, as in production.
func (p *phantom) learn(ctx context.Context) error {
	built, err := oracle.Rebuild(ctx, p.pool, false)
	if err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	if built.Version == 0 {
		return errors.New("[SERVER] the oracle has learnt nothing: the audits have told it nothing")
	}
	queries := db.New(p.pool)
	if err := queries.DemoOracleOn(ctx); err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	if err := queries.DemoRest(ctx, p.merchant); err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	return nil
}

// night is what happens once a day: the oracle learns, and a person looks at what is held. The
// workers' own nights go by the machine's clock.
func (p *phantom) night(ctx context.Context, log *slog.Logger) error {
	if err := oracle.Night(ctx, p.pool, log); err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	return p.release(ctx)
}

// settle waits until every event is delivered and nothing that is due is left.
func (p *phantom) settle(ctx context.Context, box *sandbox.Sandbox) error {
	idle := 0
	for idle < 2 {
		// what ran in between may have made events: only the second look proves that there are none
		select {
		case <-box.Mailed():
		case <-ctx.Done():
			return ctx.Err()
		}
		busy, err := db.New(p.pool).DemoBusy(ctx)
		if err != nil {
			return fmt.Errorf("[DATABASE] %s", db.Describe(err))
		}
		if idle++; !busy {
			continue
		}
		idle = 0
		select {
		case <-time.After(8 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// unknownAfter is how long a request of an unknown outcome may wait to be settled.
const unknownAfter = 10 * time.Minute

var errUnsettled = errors.New("[WORKER] a request of an unknown outcome is waiting: the demo's clock does not pass it by")

// move moves the database's clock to the moment that next chooses, given when the next task is due,
// and the world with it. Nobody can claim or plan a task meanwhile. Where something has come in
// since p has settled, nothing moves.
func (p *phantom) move(ctx context.Context, next func(due time.Time) time.Time, world func(time.Time) error) error {
	return db.InTx(ctx, p.pool, func(tx pgx.Tx) error {
		// Readers may go on; anyone who would write waits for the new time.
		if _, err := tx.Exec(ctx, "LOCK TABLE scheduled_tasks IN EXCLUSIVE MODE"); err != nil {
			return fmt.Errorf("[DATABASE] %s", db.Describe(err))
		}
		tasks, err := db.New(tx).DemoNext(ctx, unknownAfter.Seconds())
		switch {
		case err != nil:
			return fmt.Errorf("[DATABASE] %s", db.Describe(err))
		case tasks.Busy:
			return nil
		case tasks.Unknown:
			return errUnsettled
		}
		at := next(tasks.Due)
		if err := p.setClock(ctx, tx, at); err != nil {
			return err
		}
		if err := task.Rouse(ctx, tx); err != nil {
			return fmt.Errorf("[DATABASE] %s", db.Describe(err))
		}
		return world(at)
	})
}

// setClock makes phantom_now() stand at a moment.
func (p *phantom) setClock(ctx context.Context, on db.DBTX, at time.Time) error {
	_, err := on.Exec(ctx, fmt.Sprintf(`CREATE OR REPLACE FUNCTION phantom_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
		RETURN timestamptz '%s'`, at.UTC().Format("2006-01-02 15:04:05+00")))
	if err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	}
	return nil
}
