package verdict

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/connect"
	"phantom/db"
	"phantom/db/dbtest"
	"phantom/debt"
	"phantom/internal/stage"
	"phantom/shield"
	"phantom/task"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

// following is a table that follows a database, with one merchant whose policy is enforced.
type following struct {
	stage.Database
	t        *testing.T
	pool     *pgxpool.Pool
	s        *shield.Service
	keys     *connect.Service
	table    *Table
	feed     *shield.Feed
	h        *Handler
	log      *stage.Log
	merchant uuid.UUID
	ticket   int64
}

func follow(t *testing.T) *following {
	t.Helper()
	url := dbtest.URL(t)
	pool, err := db.Open(t.Context(), url, dbtest.Ring(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if err := db.VerifyKeyring(t.Context(), pool, dbtest.Ring(t)); err != nil {
		t.Fatal(err)
	}
	f := &following{Database: stage.On(t, pool), t: t, pool: pool, table: NewTable(), log: &stage.Log{}}
	f.keys = connect.New(connect.Config{Log: f.log.Logger()}, pool)
	f.s = shield.New(pool, shield.Config{Log: f.log.Logger(), Hash: connect.HasherIn})
	f.merchant = stage.Merchant(t, pool, "acct_1")
	f.policy(`{"mode":"enforce","hours":{"days":[1,2,3,4,5,6,7],"from":"00:00","to":"24:00"}}`)
	f.feed = shield.NewFeed(pool, url, f.table, f.log.Logger())
	f.h = New(Config{Table: f.table, Catch: f.feed.Catch})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() { defer close(done); f.feed.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	stage.Await(t, "everything is read", f.log, f.table.Loaded)
	return f
}

func (f *following) policy(text string) {
	f.t.Helper()
	policy, err := shield.Parse([]byte(text))
	if err != nil {
		f.t.Fatal(err)
	}
	preview, err := f.s.Preview(f.t.Context(), f.merchant, policy)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, _, err := f.s.SetPolicy(f.t.Context(), f.merchant, policy, preview.Token); err != nil {
		f.t.Fatal(err)
	}
	if err := f.s.HandleJudge(f.t.Context(), &task.Task{MerchantID: f.merchant}); err != nil {
		f.t.Fatal(err)
	}
}

// tell tells of a customer who owes, or not.
func (f *following) tell(name string, owes bool) {
	f.t.Helper()
	f.ticket++
	facts := shield.Facts{Subscription: "sub_" + name, Customer: "cus_" + name, Products: []string{"prod_1"}}
	if owes {
		facts.Debts = []shield.Debt{{Kind: debt.Owed, Amount: 4900, Currency: "usd", Since: time.Now().Add(-time.Minute)}}
	}
	if err := db.InTx(f.t.Context(), f.pool, func(tx pgx.Tx) error {
		return f.s.Told(f.t.Context(), tx, f.merchant, f.ticket, []shield.Facts{facts})
	}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *following) level(merchant uuid.UUID, customer string) string {
	entry := f.table.tenantOf(merchant)
	if entry == nil {
		return "nobody"
	}
	a, _ := f.h.levelOf(entry.view.Load(), customer, false)
	if !a.known {
		return "unknown"
	}
	return string(a.level)
}

func (f *following) await(customer, want string) {
	f.t.Helper()
	stage.Await(f.t, customer+" has "+want, f.log, func() bool { return f.level(f.merchant, customer) == want })
}

// What is committed is answered: changes, new customers, policies, merchants, and keys.
func TestFollowing(t *testing.T) {
	t.Parallel()
	f := follow(t)
	f.tell("1", false)
	f.await("cus_1", "full")
	f.tell("1", true)
	f.await("cus_1", "notice")
	f.policy(`{"mode":"dry_run","hours":{"days":[1,2,3,4,5,6,7],"from":"00:00","to":"24:00"}}`)
	f.await("cus_1", "full")
	key, id, err := f.keys.CreateAPIKey(t.Context(), "acct_1", connect.NewAPIKey{Scope: connect.ScopeShield})
	if err != nil || !strings.HasPrefix(key, "phs_") {
		t.Fatalf("%q, %v", key, err)
	}
	isKey := func() bool { return f.table.keyOf([]string{"Bearer " + key}) != nil }
	stage.Await(t, "the key is known", f.log, isKey)
	if err := f.keys.RevokeAPIKey(t.Context(), "acct_1", id); err != nil {
		t.Fatal(err)
	}
	stage.Await(t, "the key is revoked", f.log, func() bool { return !isKey() })
	second := stage.Merchant(t, f.pool, "acct_2")
	if _, _, err := f.keys.CreateAPIKey(t.Context(), "acct_2", connect.NewAPIKey{Scope: connect.ScopeShield}); err != nil {
		t.Fatal(err)
	}
	stage.Await(t, "the new merchant is known", f.log, func() bool { return f.table.tenantOf(second) != nil })
	if err := db.InTx(t.Context(), f.pool, func(tx pgx.Tx) error {
		left, err := f.keys.Disconnect(t.Context(), tx, "acct_2", time.Now().Add(time.Hour))
		if err == nil && !left {
			err = fmt.Errorf("nobody has left")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	stage.Await(t, "they have left", f.log, func() bool { return f.table.tenantOf(second).view.Load().Disconnected })
}

// A notification that is lost, a connection that is lost, and a process that ends between commit
// and notification lose nothing.
func TestLostNotifications(t *testing.T) {
	t.Parallel()
	f := follow(t)
	f.tell("1", false)
	f.await("cus_1", "full")
	// As if the process that committed it had ended there.
	f.Exec(`WITH raised AS (UPDATE shield_revisions SET revision = revision + 1, changed_at = clock_timestamp() RETURNING revision)
		UPDATE shield_states SET level = 'limited', revision = raised.revision FROM raised`)
	f.await("cus_1", "limited")
	f.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'")
	f.tell("2", true)
	f.await("cus_2", "notice")
	// The history has gone back, as after a backup was put back.
	f.Exec("UPDATE shield_states SET level = 'grace' WHERE customer = 'cus_1'")
	f.Exec("UPDATE shield_revisions SET revision = 1, changed_at = clock_timestamp()")
	f.await("cus_1", "grace")
}

// Who has changed something asks with its revision, and reads their own change, a hundred times of
// a hundred.
func TestReadYourWrites(t *testing.T) {
	t.Parallel()
	f := follow(t)
	f.tell("1", false)
	f.await("cus_1", "full")
	key, _, err := f.keys.CreateAPIKey(t.Context(), "acct_1", connect.NewAPIKey{Scope: connect.ScopeShield})
	if err != nil {
		t.Fatal(err)
	}
	stage.Await(t, "the key is known", f.log, func() bool { return f.table.keyOf([]string{"Bearer " + key}) != nil })
	s := &stand{t: t, table: f.table, h: f.h}
	for i := range 100 {
		level := shield.Levels[i%len(shield.Levels)]
		_, revision, err := f.s.Decide(t.Context(), f.merchant, shield.KindOverride, shield.Wish{Customer: "cus_1", Level: level})
		if err != nil {
			t.Fatal(err)
		}
		w := s.ask("GET", "/api/shield/customers/cus_1", "", "Authorization", "Bearer "+key, "Shield-At-Least", revision)
		var v shield.Verdict
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || w.Code != 200 || v.Level != level {
			t.Fatalf("%d: %d %s, want %s", i, w.Code, w.Body, level)
		}
	}
}
