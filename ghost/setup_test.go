package ghost

import (
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/connect"
	"phantom/db"
	"phantom/db/dbtest"
	"phantom/internal/stage"
	"phantom/sandbox"
	"phantom/task"
)

func TestMain(m *testing.M) {
	if setting := os.Getenv(workerEnv); setting != "" {
		os.Exit(workerProcess(setting))
	}
	os.Exit(dbtest.Main(m))
}

// bench is a Service on a database of its own, with a sandbox as Stripe and its first merchant
// connected.
type bench struct {
	stage.Database
	t        *testing.T
	s        *Service
	connect  *connect.Service
	pool     *pgxpool.Pool
	queries  *db.Queries
	world    *sandbox.Sandbox
	url      string // of the sandbox
	merchant uuid.UUID
	account  string
	log      *stage.Log
}

func setup(t *testing.T, world sandbox.Config) *bench {
	t.Helper()
	return setupOn(t, dbtest.Pool(t), world, 0)
}

func setupOn(t *testing.T, pool *pgxpool.Pool, config sandbox.Config, limit int) *bench {
	t.Helper()
	world, url := stage.Stripe(t, config)
	b := &bench{Database: stage.On(t, pool), t: t, pool: pool, queries: db.New(pool), world: world, url: url, log: &stage.Log{}}
	log := b.log.Logger()
	b.connect = connect.New(connect.Config{
		SecretKey: sandbox.SecretKey, ClientID: sandbox.ClientID, APIBase: url, ConnectBase: url,
		RedirectURI: stage.RedirectURI, RateLimit: limit, Log: log, DatabaseTimeout: time.Minute, // a busy machine may need it
	}, pool)
	b.s = New(pool, b.connect, log)
	b.s.DatabaseTimeout = time.Minute
	b.s.spacing = spacing{} // most tests take one step after the other
	b.account, b.merchant = b.handshake(b.world.Accounts()[0])
	return b
}

// handshake connects one of the sandbox's merchants, as a browser would.
func (b *bench) handshake(chosen string) (account string, merchant uuid.UUID) {
	b.t.Helper()
	page, browser, err := b.connect.Begin(b.t.Context(), "")
	if err != nil {
		b.t.Fatal(err)
	}
	state, code := stage.Agree(b.t, page, chosen)
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

func (b *bench) queue() *task.Queue {
	b.t.Helper()
	queue, err := task.NewQueue(b.pool, task.Config{
		ListenURL: b.pool.Config().ConnString(), Handlers: b.s.Handlers(), Log: b.log.Logger(),
		RetryBase: time.Millisecond,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return queue
}

// audit runs an audit to its end and returns its row.
func (b *bench) audit() db.Audit {
	b.t.Helper()
	id, err := b.s.StartAudit(b.t.Context(), b.merchant, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.queue().RunOne(b.t.Context(), b.merchant, id); err != nil {
		b.t.Fatalf("%v\n%s", err, b.log)
	}
	row, err := b.queries.AuditGet(b.t.Context(), db.AuditGetParams{MerchantID: b.merchant, ID: id})
	if err != nil {
		b.t.Fatal(err)
	}
	return row
}

// ghosts are all rows, open and closed.
func (b *bench) ghosts() []db.GhostTarget {
	b.t.Helper()
	rows, err := b.pool.Query(b.t.Context(), "SELECT DISTINCT stripe_subscription_id FROM ghost_targets WHERE merchant_id = $1", b.merchant)
	if err != nil {
		b.t.Fatal(err)
	}
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			b.t.Fatal(err)
		}
		ids = append(ids, id)
	}
	ghosts, err := b.queries.GhostListOfSubscriptions(b.t.Context(), db.GhostListOfSubscriptionsParams{MerchantID: b.merchant, Subscriptions: ids})
	if err != nil {
		b.t.Fatal(err)
	}
	return ghosts
}
