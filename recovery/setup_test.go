package recovery

import (
	"context"
	"log/slog"
	"maps"
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
	"phantom/internal/stage"
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

// atOnce is an advisor that does not wait. What it says about its moments counts in one cell of
// each merchant, so that all charges that settle meet there.
type atOnce struct{}

func (atOnce) Next(_ context.Context, q oracle.Question) (oracle.Moment, error) {
	advice := &oracle.Advice{
		P: .5, Low: .1, High: .9, Confidence: "low", Cell: "cell", Chosen: q.NotBefore, ChosenP: .5, Propensity: 1, Reason: "at once", Heuristic: q.NotBefore,
	}
	return oracle.Moment{At: q.NotBefore, Reason: "at once", Probability: 1, Advice: advice}, nil
}

// checkOracle says whether the oracle was told of each charge that is settled, once, and of what
// came of it. Some may be left out, which left long after their moment.
func (b *bench) checkOracle() {
	b.t.Helper()
	const soft = `a.action = 'invoice_pay' AND (a.result = 'paid' OR a.result = 'declined' AND a.decline_class NOT IN ('never', 'customer'))`
	advised := b.Count("SELECT count(*) FROM oracle_advice o JOIN attempts a USING (merchant_id, task_id) WHERE " + soft)
	told := b.Count("SELECT count(*) FROM oracle_advice WHERE paid IS NOT NULL")
	if advised == 0 || told < advised*9/10 || told > advised {
		b.t.Errorf("the oracle was told of %d charges of %d", told, advised)
	}
	if n := b.Count("SELECT count(*) FROM oracle_advice o JOIN attempts a USING (merchant_id, task_id) WHERE o.paid IS DISTINCT FROM (a.result = 'paid') AND o.paid IS NOT NULL"); n != 0 {
		b.t.Errorf("the oracle was told wrongly of %d charges", n)
	}
	if n := b.Count("SELECT count(*) FROM oracle_advice o JOIN attempts a USING (merchant_id, task_id) WHERE o.paid IS NOT NULL AND NOT (" + soft + ")"); n != 0 {
		b.t.Errorf("the oracle was told of %d charges that tell nothing", n)
	}
	if got, want := b.Text("SELECT coalesce(sum(successes), 0) || ' of ' || coalesce(sum(attempts), 0) FROM oracle_cells WHERE ours"),
		b.Text("SELECT count(*) FILTER (WHERE paid) || ' of ' || count(*) FROM oracle_advice WHERE paid IS NOT NULL"); got != want {
		b.t.Errorf("cells count %s, and %s were settled", got, want)
	}
}

// bench is a Service on a database of its own, with a sandbox as Stripe, whose first merchant is
// connected and audited.
type bench struct {
	stage.Database
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
	log      *stage.Log
}

// services are what a process wires together.
func services(pool *pgxpool.Pool, stripe string, advisor forecast.Advisor, log *slog.Logger) (*connect.Service, *ghost.Service, *Service) {
	account := connect.New(connect.Config{
		SecretKey: sandbox.SecretKey, ClientID: sandbox.ClientID, APIBase: stripe, ConnectBase: stripe,
		RedirectURI: stage.RedirectURI, Log: log, DatabaseTimeout: time.Minute, // a busy machine may need it
	}, pool)
	messages := message.New(pool, account, message.Config{PublicURL: "http://localhost:8080", ResendBase: stripe + "/resend/", TwilioBase: stripe + "/twilio", Dev: true, Log: log})
	s := New(pool, account, messages, advisor, Config{Log: log, Refresh: ghost.RefreshIn})
	ghosts := ghost.New(pool, account, log)
	ghosts.DatabaseTimeout = time.Minute
	ghosts.Hunts = s
	return account, ghosts, s
}

func setup(t *testing.T, config sandbox.Config) *bench {
	t.Helper()
	return setupOn(t, config, dbtest.Pool(t))
}

func setupOn(t *testing.T, config sandbox.Config, pool *pgxpool.Pool) *bench {
	t.Helper()
	world, url := stage.Stripe(t, config)
	b := &bench{Database: stage.On(t, pool), t: t, pool: pool, queries: db.New(pool), world: world, url: url, log: &stage.Log{}}
	b.connect, b.ghosts, b.s = services(pool, url, atOnce{}, b.log.Logger())
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
	state, code := stage.Agree(b.t, page, "")
	account, err = b.connect.Complete(b.t.Context(), connect.Callback{State: state, Code: code, Browser: browser})
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
		ListenURL: b.pool.Config().ConnString(), Handlers: b.handlers(), Log: b.log.Logger(),
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

// blocked says whether somebody waits for a lock.
func (b *bench) blocked() bool {
	return b.Count("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == 1
}

// await asks until the answer is yes, and shows the log where it stays no.
func (b *bench) await(what string, ask func() bool) {
	b.t.Helper()
	stage.Await(b.t, what, b.log, ask)
}
