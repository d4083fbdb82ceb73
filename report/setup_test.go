package report

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/connect"
	"phantom/db"
	"phantom/db/dbtest"
	"phantom/ghost"
	"phantom/internal/stage"
	"phantom/sandbox"
	"phantom/task"
	"phantom/vault"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

const account = "acct_report"

// bench is a database with one merchant.
type bench struct {
	stage.Database
	t        *testing.T
	pool     *pgxpool.Pool
	merchant uuid.UUID
	account  string
}

func setup(t *testing.T, livemode bool) *bench {
	t.Helper()
	pool := dbtest.Pool(t)
	b := &bench{Database: stage.On(t, pool), t: t, pool: pool, account: account}
	b.merchant = stage.Merchant(t, pool, account, func(row *db.MerchantCreateParams) { row.Livemode = livemode })
	return b
}

// audited is a bench whose merchant's sandbox account has been audited.
func audited(t *testing.T, config sandbox.Config) *bench {
	t.Helper()
	pool := dbtest.Pool(t)
	b := &bench{Database: stage.On(t, pool), t: t, pool: pool}
	_, url := stage.Stripe(t, config)
	log := slog.New(slog.DiscardHandler)
	accounts := connect.New(connect.Config{
		SecretKey: sandbox.SecretKey, ClientID: sandbox.ClientID, APIBase: url, ConnectBase: url,
		RedirectURI: stage.RedirectURI, Log: log,
	}, b.pool)
	page, browser, err := accounts.Begin(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	state, code := stage.Agree(t, page, "")
	b.account, err = accounts.Complete(t.Context(), connect.Callback{State: state, Code: code, Browser: browser})
	if err != nil {
		t.Fatal(err)
	}
	b.row("SELECT id FROM merchants", &b.merchant)
	ghosts := ghost.New(b.pool, accounts, log)
	id, err := ghosts.StartAudit(t.Context(), b.merchant, nil)
	if err != nil {
		t.Fatal(err)
	}
	queue, err := task.NewQueue(b.pool, task.Config{ListenURL: b.pool.Config().ConnString(), Handlers: ghosts.Handlers(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := queue.RunOne(t.Context(), b.merchant, id); err != nil {
		t.Fatal(err)
	}
	return b
}

func newID(t *testing.T) uuid.UUID {
	t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// row reads what one row holds.
func (b *bench) row(query string, into ...any) {
	b.t.Helper()
	if err := b.pool.QueryRow(b.t.Context(), query).Scan(into...); err != nil {
		b.t.Fatal(err)
	}
}

// add stores an open ghost of the given age.
func (b *bench) add(customer, subscription, email, currency, class, code, rule string, amount int64, hidden bool, age time.Duration) {
	b.t.Helper()
	id := newID(b.t)
	b.Exec(`INSERT INTO ghost_targets (merchant_id, id, stripe_customer_id, stripe_subscription_id, stripe_invoice_id, email, amount, currency,
		decline_class, decline_code, rule, hidden, attempt_count, first_failed_at, last_failed_at)
		VALUES ($1, $2, $3, $4, 'in_1', $5, $6, $7, $8, nullif($9, ''), $10, $11, 3, phantom_now() - $12::interval, phantom_now())`,
		b.merchant, id, customer, subscription, vault.NewToken("ghost_targets.email:"+id.String(), email), amount, currency, class, code,
		rule, hidden, age)
}

// finish stores an audit that has ended.
func (b *bench) finish(state, totals string, failure *string) {
	b.t.Helper()
	b.Exec(`INSERT INTO audits (merchant_id, id, state, ticket, livemode, objects, totals, error, finished_at)
		SELECT id, $2, $3, 1, livemode, 12345, $4, $5, clock_timestamp() FROM merchants WHERE id = $1`, b.merchant, newID(b.t), state, totals, failure)
}

func (b *bench) load() *Report {
	b.t.Helper()
	r, err := Load(b.t.Context(), b.pool, b.account)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *bench) html() string {
	b.t.Helper()
	var out bytes.Buffer
	if err := b.load().WriteHTML(&out); err != nil {
		b.t.Fatal(err)
	}
	return out.String()
}

// wantText fails the test where the page does not say each of the texts.
func wantText(t *testing.T, page string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(page, text) {
			t.Errorf("the page lacks %q", text)
		}
	}
}
