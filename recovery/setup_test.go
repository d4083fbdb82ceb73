package recovery

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/connect"
	"phantom/db"
	"phantom/db/dbtest"
	"phantom/forecast"
	"phantom/ghost"
	"phantom/message"
	"phantom/oracle"
	"phantom/playbook"
	"phantom/sandbox"
	"phantom/state"
	"phantom/task"
)

func TestMain(m *testing.M) {
	if code, ok := workerMain(); ok {
		os.Exit(code)
	}
	os.Exit(dbtest.Main(m))
}

// atOnce is an advisor that does not wait.
type atOnce struct{}

func (atOnce) Next(_ context.Context, q oracle.Question) (oracle.Moment, error) {
	return oracle.Moment{At: q.NotBefore, Reason: "at once", Probability: 1}, nil
}

// bench is a Service on a database of its own, with a sandbox as Stripe, whose first merchant is
// connected and audited.
type bench struct {
	t        *testing.T
	s        *Service
	ghosts   *ghost.Service
	connect  *connect.Service
	pool     *pgxpool.Pool
	queries  *db.Queries
	world    *sandbox.Sandbox
	url      string // of the sandbox
	merchant uuid.UUID
	account  string
	log      *lockedBuffer
}

// lockedBuffer is written by many and read by the test.
type lockedBuffer struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.text.String()
}

// services are what a process wires together.
func services(pool *pgxpool.Pool, stripe string, advisor forecast.Advisor, log *slog.Logger) (*connect.Service, *ghost.Service, *Service) {
	account := connect.New(connect.Config{
		SecretKey: sandbox.SecretKey, ClientID: sandbox.ClientID, APIBase: stripe, ConnectBase: stripe,
		RedirectURI: "http://localhost:8080/api/auth/callback", Log: log,
	}, pool)
	messages := message.New(pool, account, message.Config{PublicURL: "http://localhost:8080", ResendBase: stripe + "/resend/", TwilioBase: stripe + "/twilio", Dev: true, Log: log})
	s := New(pool, account, messages, advisor, Config{Log: log, Refresh: ghost.RefreshIn})
	ghosts := ghost.New(pool, account, log)
	ghosts.Hunts = s
	return account, ghosts, s
}

func setup(t *testing.T, config sandbox.Config) *bench {
	t.Helper()
	return setupOn(t, config, dbtest.Pool(t))
}

func setupOn(t *testing.T, config sandbox.Config, pool *pgxpool.Pool) *bench {
	t.Helper()
	if config.Now == nil {
		config.Now = dbtest.Now
	}
	world, err := sandbox.New(config)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(world)
	t.Cleanup(server.Close)
	b := &bench{t: t, pool: pool, queries: db.New(pool), world: world, url: server.URL, log: &lockedBuffer{}}
	b.connect, b.ghosts, b.s = services(pool, server.URL, atOnce{}, slog.New(slog.NewTextHandler(b.log, nil)))
	b.account, b.merchant = b.handshake()
	return b
}

// handshake connects the sandbox's first merchant, as a browser would.
func (b *bench) handshake() (account string, merchant uuid.UUID) {
	b.t.Helper()
	page, browser, err := b.connect.Begin(b.t.Context(), "")
	if err != nil {
		b.t.Fatal(err)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Get(page)
	if err != nil {
		b.t.Fatal(err)
	}
	response.Body.Close()
	back, err := response.Location()
	if err != nil {
		b.t.Fatal(err)
	}
	account, err = b.connect.Complete(b.t.Context(), connect.Callback{
		State: back.Query().Get("state"), Code: back.Query().Get("code"), Browser: browser,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	row, err := b.queries.MerchantGetByStripeUserID(b.t.Context(), account)
	if err != nil {
		b.t.Fatal(err)
	}
	return account, row.ID
}

func (b *bench) handlers() map[string]task.Handler {
	handlers := b.ghosts.Handlers()
	maps.Copy(handlers, b.s.Handlers())
	return handlers
}

func (b *bench) queue() *task.Queue {
	b.t.Helper()
	queue, err := task.NewQueue(b.pool, task.Config{
		ListenURL: b.pool.Config().ConnString(), Handlers: b.handlers(), Log: slog.New(slog.NewTextHandler(b.log, nil)),
		RetryBase: time.Millisecond, Poll: 100 * time.Millisecond,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return queue
}

// start begins hunts of these ghosts, or of all where there are none.
func (b *bench) start(ghosts []uuid.UUID) (Started, error) {
	if ghosts == nil {
		return b.startAll()
	}
	return b.s.Start(b.t.Context(), b.merchant, ghosts)
}

// startAll has hunts of all ghosts begin, and waits until they have.
func (b *bench) startAll() (Started, error) {
	b.t.Helper()
	all, err := b.s.StartAll(b.t.Context(), b.merchant)
	if err != nil {
		return Started{}, err
	}
	if err := b.queue().RunOne(b.t.Context(), b.merchant, all.ID); err != nil {
		return Started{}, err
	}
	all, err = b.s.ReadStart(b.t.Context(), b.merchant, all.ID)
	if err == nil && all.State != state.StartSucceeded {
		b.t.Fatalf("the start is %+v", all)
	}
	return all.Started, err
}

// startAuto does what storing a playbook has done later.
func (b *bench) startAuto() {
	b.t.Helper()
	id, err := task.Enqueue(b.t.Context(), b.pool, task.New{MerchantID: b.merchant, Kind: KindHunt, Params: huntParams{Do: doAuto}})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.queue().RunOne(b.t.Context(), b.merchant, id); err != nil {
		b.t.Fatal(err)
	}
}

// targets are the open ghosts without a hunt.
func (b *bench) targets() (ghosts []db.GhostTarget) {
	b.t.Helper()
	for page, err := range targets(b.t.Context(), b.queries, b.merchant, "") {
		if err != nil {
			b.t.Fatal(err)
		}
		ghosts = append(ghosts, page.ghosts...)
	}
	return ghosts
}

// work runs a queue until the test ends.
func (b *bench) work() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	var running sync.WaitGroup
	queue := b.queue()
	running.Go(func() { queue.Run(ctx) })
	b.t.Cleanup(func() { cancel(); running.Wait() })
}

// audit runs an audit to its end.
func (b *bench) audit() {
	b.t.Helper()
	id, err := b.ghosts.StartAudit(b.t.Context(), b.merchant, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.queue().RunOne(b.t.Context(), b.merchant, id); err != nil {
		b.t.Fatalf("%v\n%s", err, b.log)
	}
}

// recoverWith stores a playbook that recovers, with all customers in. Which are hunted the test
// says.
func (b *bench) recoverWith(change func(*playbook.Playbook)) {
	b.t.Helper()
	p := playbook.Default()
	p.Mode, p.HoldoutPercent, p.Steps, p.Auto = state.ModeRecover, 0, []playbook.Step{}, false
	if change != nil {
		change(&p)
	}
	if _, err := b.s.SetPlaybook(b.t.Context(), b.merchant, p); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) count(query string, args ...any) (n int) {
	b.t.Helper()
	if err := b.pool.QueryRow(b.t.Context(), query, args...).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

func (b *bench) exec(query string, args ...any) {
	b.t.Helper()
	if _, err := b.pool.Exec(b.t.Context(), query, args...); err != nil {
		b.t.Fatal(err)
	}
}

// blocked says whether somebody waits for a lock.
func (b *bench) blocked() bool {
	return b.count("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == 1
}

// await fails the test if ok does not come true within three minutes, which a busy machine may
// need.
func (b *bench) await(what string, ok func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("waited in vain: %s\n%s", what, b.log)
		}
	}
}
