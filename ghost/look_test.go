package ghost

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db/dbtest"
	"phantom/purge"
	"phantom/sandbox"
	"phantom/state"
)

// looks are the planned looks at subscriptions, with their times.
func (b *bench) looks() (all []string) {
	b.t.Helper()
	rows, err := b.pool.Query(b.t.Context(), `SELECT params ->> 'subscription' || ' ' || extract(epoch FROM run_at)::bigint FROM scheduled_tasks
		WHERE kind = 'refresh' AND status = 'pending' ORDER BY 1`)
	if err != nil {
		b.t.Fatal(err)
	}
	for rows.Next() {
		var look string
		if err := rows.Scan(&look); err != nil {
			b.t.Fatal(err)
		}
		all = append(all, look)
	}
	return all
}

// An invoice that was sent becomes a debt by the clock alone: one look is planned for that minute,
// by an audit and by a refresh, however often they judge; it finds the ghost, and plans the look at
// the next invoice.
func TestSentInvoicesBecomeDebtsByTheClock(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64 // seconds that both clocks are ahead
	b := setup(t, sandbox.Config{Seed: 3, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load()) * time.Second) }})
	b.audit()
	want := make(map[string]int64) // subscription: when its first sent invoice becomes a debt
	for _, o := range b.read("/v1/invoices?status=open&limit=100&collection_method=send_invoice")["data"].([]any) {
		invoice := o.(map[string]any)
		id, end := invoice["subscription"].(string), int64(invoice["due_date"].(float64))+int64(Grace/time.Second)
		if end > time.Now().Unix() && (want[id] == 0 || end < want[id]) {
			want[id] = end
		}
	}
	if len(want) == 0 {
		t.Fatal("no invoice is on its way: this proves nothing")
	}
	looks := b.looks()
	if len(looks) != len(want) {
		t.Errorf("%d looks for %d subscriptions: %v, %v", len(looks), len(want), looks, want)
	}
	for id, end := range want {
		if !strings.Contains(strings.Join(looks, "\n"), fmt.Sprintf("%s %d", id, end+60)) {
			t.Errorf("no look at %s at %d in %v", id, end+60, looks)
		}
		if err := b.s.Refresh(t.Context(), b.merchant, id); err != nil {
			t.Fatal(err)
		}
	}
	b.audit()
	if again := b.looks(); fmt.Sprint(again) != fmt.Sprint(looks) {
		t.Errorf("judging again made of %v %v", looks, again)
	}
	if _, err := b.pool.Exec(t.Context(), "DELETE FROM scheduled_tasks WHERE kind = 'refresh'"); err != nil {
		t.Fatal(err)
	}
	for id := range want {
		if err := b.s.Refresh(t.Context(), b.merchant, id); err != nil {
			t.Fatal(err)
		}
	}
	if again := b.looks(); fmt.Sprint(again) != fmt.Sprint(looks) {
		t.Errorf("refreshes plan %v, the audit %v", again, looks)
	}

	became := 0
	for _, id := range slices.SortedFunc(maps.Keys(want), func(a, b string) int { return cmp.Compare(want[a], want[b]) }) {
		ahead.Store(want[id] + 60 - time.Now().Unix())
		dbtest.Exec(t, b.pool, fmt.Sprintf(`CREATE OR REPLACE FUNCTION phantom_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
			RETURN now() + interval '%d seconds'`, ahead.Load()))
		var owed int64
		for _, g := range b.world.Truth(b.account) {
			if g.Subscription == id {
				owed = g.Amount
			}
		}
		var look uuid.UUID
		if err := b.pool.QueryRow(t.Context(), "SELECT id FROM scheduled_tasks WHERE kind = 'refresh' AND params ->> 'subscription' = $1", id).Scan(&look); err != nil {
			t.Fatal(err)
		}
		if err := b.queue().RunOne(t.Context(), b.merchant, look); err != nil {
			t.Fatal(err)
		}
		ghosts, err := b.queries.GhostListOfSubscriptions(t.Context(), listOf(b.merchant, id))
		found := int64(0)
		for _, g := range ghosts {
			found += g.Amount
		}
		if err != nil || found != owed {
			t.Errorf("%s owes %d, found %+v, %v", id, owed, ghosts, err)
		}
		if owed > 0 {
			became++
		}
	}
	if became == 0 {
		t.Error("no invoice has become a debt: this proves nothing")
	}
}

// What was planned for a ghost goes with them.
func TestPurgeTakesPlannedLooks(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Seed: 3})
	b.audit()
	looks := b.looks()
	if len(looks) == 0 {
		t.Fatal("no look is planned: this proves nothing")
	}
	subscription, _, _ := strings.Cut(looks[0], " ")
	dbtest.AddGhost(t, b.pool, b.merchant, "cus_gone", strings.TrimPrefix(subscription, "sub_"), 91*24*time.Hour)
	if _, err := purge.New(b.pool, b.connect, slog.New(slog.DiscardHandler)).Purge(t.Context(), false, nil); err != nil {
		t.Fatal(err)
	}
	if left := b.looks(); len(left) != len(looks)-1 {
		t.Errorf("of %v there is %v", looks, left)
	}
}

// Every merchant has one weekly audit ahead of them, which starts an audit or finds the one that
// runs, and plans the next.
func TestWeeklyAudit(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Customers: 5})
	const ahead = `SELECT count(*) FROM scheduled_tasks WHERE kind = 'weekly_audit' AND status = 'pending'
		AND run_at BETWEEN phantom_now() AND phantom_now() + interval '7 days'`
	if n := dbtest.Count(t, b.pool, ahead); n != 0 { // the bench has no hook
		t.Fatalf("%d are planned", n)
	}
	for range 2 {
		if err := b.s.EnsureAudits(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := Connected(t.Context(), b.pool, b.merchant); err != nil {
			t.Fatal(err)
		}
	}
	if n := dbtest.Count(t, b.pool, ahead); n != 1 {
		t.Fatalf("%d are planned", n)
	}
	first := b.audit()
	weekly := func() {
		t.Helper()
		dbtest.Exec(t, b.pool, "UPDATE scheduled_tasks SET run_at = phantom_now(), unique_key = 'today' WHERE kind = 'weekly_audit' AND status = 'pending'")
		var id uuid.UUID
		if err := b.pool.QueryRow(t.Context(), "SELECT id FROM scheduled_tasks WHERE kind = 'weekly_audit' AND status = 'pending'").Scan(&id); err != nil {
			t.Fatal(err)
		}
		if err := b.queue().RunOne(t.Context(), b.merchant, id); err != nil {
			t.Fatal(err)
		}
		if n := dbtest.Count(t, b.pool, ahead); n != 1 {
			t.Errorf("%d are planned behind it", n)
		}
	}
	weekly()
	weekly() // finds the running one
	if n := dbtest.Count(t, b.pool, "SELECT count(*) FROM audits WHERE state = 'running' AND since IS NULL"); n != 1 {
		t.Errorf("%d audits run", n)
	}
	if second := b.audit(); second.ID == first.ID || second.State != state.AuditSucceeded {
		t.Errorf("the audit %s", second.State)
	}
	if err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		_, err := b.connect.Disconnect(t.Context(), tx, b.account, time.Now().Add(time.Minute))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := b.s.EnsureAudits(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := dbtest.Count(t, b.pool, "SELECT count(*) FROM scheduled_tasks WHERE kind = 'weekly_audit' AND status IN ('pending', 'parked')"); n != 1 {
		t.Errorf("%d are planned for a merchant who has left", n)
	}
}

// A refresh counts a card's attempts of the last 30 days by PHANTOM's clock, as the audit does,
// also where it is far ahead.
func TestRefreshCountsAttemptsByPhantomsClock(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Seed: 3})
	if err := b.world.AdvanceClock(70 * 24 * time.Hour); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, b.pool, `CREATE OR REPLACE FUNCTION phantom_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
		RETURN now() + interval '1680 hours'`)
	b.audit()
	counts := func() (sum int) {
		if err := b.pool.QueryRow(t.Context(), "SELECT coalesce(sum(card_attempts), 0) FROM ghost_targets").Scan(&sum); err != nil {
			t.Fatal(err)
		}
		return sum
	}
	before := counts()
	rows, err := b.pool.Query(t.Context(), "SELECT DISTINCT stripe_subscription_id FROM ghost_targets")
	if err != nil {
		t.Fatal(err)
	}
	var subscriptions []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		subscriptions = append(subscriptions, id)
	}
	for _, id := range subscriptions {
		if err := b.s.Refresh(t.Context(), b.merchant, id); err != nil {
			t.Fatal(err)
		}
	}
	if after := counts(); before == 0 || after != before {
		t.Errorf("the audit counts %d attempts, the refreshes of %d subscriptions %d", before, len(subscriptions), after)
	}
}
