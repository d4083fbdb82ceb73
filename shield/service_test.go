package shield_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
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
	"phantom/input"
	"phantom/internal/stage"
	"phantom/shield"
	"phantom/task"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

// bench is a service over a database of its own, with one merchant.
type bench struct {
	stage.Database
	t        *testing.T
	pool     *pgxpool.Pool
	s        *shield.Service
	merchant uuid.UUID
	ticket   int64
	asked    []string // subscriptions that were to be read anew
	log      *stage.Log
}

func setup(t *testing.T) *bench {
	t.Helper()
	pool := dbtest.Pool(t)
	b := &bench{Database: stage.On(t, pool), t: t, pool: pool, log: &stage.Log{}}
	b.merchant = stage.Merchant(t, pool, "acct_1")
	b.s = shield.New(pool, shield.Config{
		Log: b.log.Logger(), Hash: connect.HasherIn,
		Refresh: func(_ context.Context, _ db.DBTX, _ uuid.UUID, subscription string) error {
			b.asked = append(b.asked, subscription)
			return nil
		},
	})
	return b
}

// always is a policy that is enforced at any hour.
const always = `{"mode":"enforce","hours":{"days":[1,2,3,4,5,6,7],"from":"00:00","to":"24:00"}}`

// policy stores a policy as a person does who has seen its preview.
func (b *bench) policy(text string) {
	b.t.Helper()
	policy, err := shield.Parse([]byte(text))
	if err != nil {
		b.t.Fatal(err)
	}
	preview, err := b.s.Preview(b.t.Context(), b.merchant, policy)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, _, err := b.s.SetPolicy(b.t.Context(), b.merchant, policy, preview.Token); err != nil {
		b.t.Fatal(err)
	}
	b.run(shield.KindJudge)
}

// run runs a kind's task, if there is one.
func (b *bench) run(kind string) {
	b.t.Helper()
	if err := b.s.Handlers()[kind](b.t.Context(), &task.Task{MerchantID: b.merchant, Kind: kind}); err != nil {
		b.t.Fatal(err)
	}
}

// tell tells of subscriptions as a reading of Stripe does.
func (b *bench) tell(all ...shield.Facts) {
	b.t.Helper()
	b.ticket++
	if err := db.InTx(b.t.Context(), b.pool, func(tx pgx.Tx) error { return b.s.Told(b.t.Context(), tx, b.merchant, b.ticket, all) }); err != nil {
		b.t.Fatal(err)
	}
}

// level is how a subscription stands.
func (b *bench) level(subscription string) string {
	b.t.Helper()
	return b.Text("SELECT level || ' ' || reason || CASE WHEN held THEN ' held' ELSE '' END FROM shield_states WHERE merchant_id = $1 AND subscription = $2",
		b.merchant, subscription)
}

// later moves PHANTOM's clock on.
func (b *bench) later(by time.Duration) {
	b.t.Helper()
	b.Exec(fmt.Sprintf("CREATE OR REPLACE FUNCTION phantom_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE RETURN now() + interval '%d seconds'",
		b.offset()+int(by.Seconds())))
}

func (b *bench) offset() int {
	b.t.Helper()
	return b.Count("SELECT round(extract(epoch FROM phantom_now() - now()))::int")
}

func (b *bench) now() time.Time {
	b.t.Helper()
	now, err := db.New(b.pool).Now(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return now
}

// owing is a subscription that has owed $49 for so many days.
func (b *bench) owing(name string, days int) shield.Facts {
	b.t.Helper()
	return shield.Facts{
		Subscription: "sub_" + name, Customer: "cus_" + name, Products: []string{"prod_1"}, Monthly: 4900, Currency: "usd",
		Debts: []shield.Debt{{Kind: debt.Owed, Amount: 4900, Currency: "usd", Since: b.now().AddDate(0, 0, -days).Truncate(time.Second)}},
	}
}

func paying(name string) shield.Facts {
	return shield.Facts{Subscription: "sub_" + name, Customer: "cus_" + name, Products: []string{"prod_1"}, Monthly: 4900, Currency: "usd"}
}

func (b *bench) want(subscription, want string) {
	b.t.Helper()
	if got := b.level(subscription); got != want {
		b.t.Errorf("%s has %q, want %q", subscription, got, want)
	}
}

// A debt lowers step by step, each by a reading of its own, and a payment raises at once.
func TestDebtLowersAndPaymentRaises(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.tell(b.owing("1", 40), paying("2"))
	b.want("sub_1", "full ") // nobody has a policy yet
	b.policy(always)
	owed := b.owing("1", 40)
	for _, want := range []string{"notice payment_failed", "grace payment_failed", "limited payment_failed", "blocked payment_failed", "blocked payment_failed"} {
		b.tell(owed)
		b.want("sub_1", want)
		b.later(25 * time.Hour)
	}
	b.want("sub_2", "full paid")
	b.tell(paying("1"))
	b.want("sub_1", "full paid")
	if n := b.Count("SELECT count(*) FROM shield_transitions WHERE subscription = 'sub_1'"); n != 5 {
		t.Errorf("%d transitions, want 5", n)
	}
	if n := b.Count("SELECT count(*) FROM shield_transitions WHERE lowered"); n != 2 {
		t.Errorf("%d transitions have taken access, want 2", n)
	}
}

// Time alone leads to grace. Who would lose access is read anew first, and keeps it for as long as
// Stripe cannot be read.
func TestNobodyLosesAccessUnread(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.policy(always)
	b.tell(b.owing("1", 40))
	for range 5 {
		b.later(25 * time.Hour)
		b.run(shield.KindSweep)
	}
	b.want("sub_1", "grace payment_failed")
	if len(b.asked) == 0 || b.asked[0] != "sub_1" {
		t.Errorf("asked for %v", b.asked)
	}
	b.tell(b.owing("1", 45))
	b.want("sub_1", "limited payment_failed")
	if n := b.Count("SELECT count(*) FROM scheduled_tasks WHERE kind = 'shield_sweep' AND status = 'pending'"); n != 1 {
		t.Errorf("%d sweeps are planned", n)
	}
}

// What takes access at once, and not step by step, goes by a fresh reading, too: here a policy that
// has changed.
func TestNobodyLosesAccessAtOnceUnread(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const open = `{"mode":"enforce","paused":"full","hours":{"days":[1,2,3,4,5,6,7],"from":"00:00","to":"24:00"}}`
	b.policy(open)
	paused := paying("1")
	paused.Service = shield.Suspended
	b.tell(paused)
	b.want("sub_1", "full paused")
	b.later(2 * time.Hour)
	b.policy(strings.Replace(open, `"full"`, `"blocked"`, 1))
	b.want("sub_1", "full paused")
	if !slices.Contains(b.asked, "sub_1") {
		t.Errorf("asked for %v", b.asked)
	}
	b.tell(paused)
	b.want("sub_1", "blocked paused")
}

// What was read earlier never overwrites what was read later, and hearing the same again changes
// nothing that apps are told.
func TestToldTwiceAndLate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.policy(always)
	owed := b.owing("1", 1)
	b.tell(owed)
	revision := b.Count("SELECT revision FROM shield_revisions")
	b.tell(owed)
	if again := b.Count("SELECT revision FROM shield_revisions"); again != revision {
		t.Errorf("the same facts have raised the revision from %d to %d", revision, again)
	}
	b.tell(paying("1"))
	b.ticket -= 2
	b.tell(owed)
	b.want("sub_1", "full paid")
}

// A dry run lowers nobody: what it has led to is not what enforcing begins with.
func TestEnforcingBeginsWithFullAccess(t *testing.T) {
	t.Parallel()
	b := setup(t)
	dry := strings.Replace(always, "enforce", "dry_run", 1)
	b.policy(dry)
	owed := b.owing("1", 40)
	for range 4 {
		b.tell(owed)
		b.later(25 * time.Hour)
	}
	b.want("sub_1", "blocked payment_failed")
	policy, err := shield.Parse([]byte(always))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.s.SetPolicy(t.Context(), b.merchant, policy, ""); !errors.Is(err, shield.ErrNotSeen) {
		t.Fatalf("enforced unseen: %v", err)
	}
	b.later(4 * 24 * time.Hour) // more than 7 days of dry run
	if _, _, err := b.s.SetPolicy(t.Context(), b.merchant, policy, ""); err != nil {
		t.Fatal(err)
	}
	b.want("sub_1", "full ")
	b.run(shield.KindJudge)
	b.want("sub_1", "notice payment_failed")
}

// A token is for the policy that was previewed, by the merchant who has seen it, for an hour.
func TestPreviewTokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.tell(b.owing("1", 40), b.owing("2", 1), paying("3"))
	policy, err := shield.Parse([]byte(always))
	if err != nil {
		t.Fatal(err)
	}
	preview, err := b.s.Preview(t.Context(), b.merchant, policy)
	if err != nil {
		t.Fatal(err)
	}
	if preview.Customers != 2 || preview.MRR["usd"] != 9800 || len(preview.Lowered) != 2 || preview.Lowered[0].From != shield.Full {
		t.Errorf("%+v", preview)
	}
	other := policy
	other.Ended.GraceDays = 5
	foreign := stage.Merchant(t, b.pool, "acct_2")
	b.later(59 * time.Minute)
	for name, set := range map[string]func() error{
		"another policy":   func() error { _, _, err := b.s.SetPolicy(t.Context(), b.merchant, other, preview.Token); return err },
		"another merchant": func() error { _, _, err := b.s.SetPolicy(t.Context(), foreign, policy, preview.Token); return err },
		"no token":         func() error { _, _, err := b.s.SetPolicy(t.Context(), b.merchant, policy, "x"); return err },
	} {
		if err := set(); !errors.Is(err, shield.ErrNotSeen) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := b.s.SetPolicy(t.Context(), b.merchant, policy, preview.Token); err != nil {
		t.Error(err)
	}
	b.policy(`{"mode":"off"}`)
	b.later(2 * time.Minute)
	if _, _, err := b.s.SetPolicy(t.Context(), b.merchant, policy, preview.Token); !errors.Is(err, shield.ErrNotSeen) {
		t.Errorf("an old token: %v", err)
	}
}

// An announced payment raises at once, and the reading that follows has the last word.
func TestAnnouncedPayment(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.policy(always)
	owed := b.owing("1", 40)
	for range 4 {
		b.tell(owed)
		b.later(25 * time.Hour)
	}
	b.want("sub_1", "blocked payment_failed")
	announce := func() {
		if err := db.InTx(t.Context(), b.pool, func(tx pgx.Tx) error { return b.s.Paid(t.Context(), tx, b.merchant, "sub_1") }); err != nil {
			t.Fatal(err)
		}
	}
	told := func() shield.Row {
		row, err := db.New(b.pool).ShieldPage(t.Context(), db.ShieldPageParams{MerchantID: b.merchant, Page: 1})
		if err != nil {
			t.Fatal(err)
		}
		var facts shield.Facts
		if err := json.Unmarshal(row[0].Facts, &facts); err != nil {
			t.Fatal(err)
		}
		return shield.RowOf(row[0], facts)
	}
	revision := b.Count("SELECT revision FROM shield_revisions")
	announce()
	if row := told(); row.Level != shield.Full || row.Reason != shield.ByAnnouncement {
		t.Errorf("%+v", row)
	}
	if again := b.Count("SELECT revision FROM shield_revisions"); again != revision+1 {
		t.Errorf("revision %d after %d", again, revision)
	}
	b.tell(owed) // another invoice was paid, or Stripe was wrong
	if row := told(); row.Level != shield.Blocked {
		t.Errorf("after a reading that says otherwise: %+v", row)
	}
	announce()
	b.later(9 * time.Minute)
	b.run(shield.KindSweep)
	if row := told(); row.Level != shield.Full {
		t.Errorf("within ten minutes: %+v", row)
	}
	b.later(2 * time.Minute)
	b.run(shield.KindSweep)
	if row := told(); row.Level != shield.Full || !slices.Contains(b.asked, "sub_1") {
		t.Errorf("nobody has read it since, so what was read before takes nothing: %+v, asked for %v", row, b.asked)
	}
	b.tell(owed)
	if row := told(); row.Level != shield.Blocked {
		t.Errorf("nobody has confirmed it: %+v", row)
	}
	announce()
	b.tell(paying("1"))
	if row := told(); row.Level != shield.Full || row.Reason != shield.ByPayment {
		t.Errorf("after a reading that confirms it: %+v", row)
	}
}

// What people decide holds at once, until it ends or is taken back.
func TestDecisions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.policy(always)
	owed := b.owing("1", 40)
	for range 4 {
		b.tell(owed)
		b.later(25 * time.Hour)
	}
	decide := func(kind shield.Kind, wish shield.Wish) (shield.Decision, error) {
		d, revision, err := b.s.Decide(t.Context(), b.merchant, kind, wish)
		if err == nil && !strings.Contains(revision, ".") {
			t.Errorf("revision %q", revision)
		}
		return d, err
	}
	soon := b.now().Add(24 * time.Hour)
	d, err := decide(shield.KindOverride, shield.Wish{Subscription: "sub_1", Level: shield.Notice})
	if err != nil || d.Customer != "cus_1" {
		t.Fatalf("%+v, %v", d, err)
	}
	b.want("sub_1", "notice override")
	if _, err := b.s.TakeBack(t.Context(), b.merchant, shield.KindPromise, d.ID); !errors.Is(err, shield.ErrNotFound) {
		t.Errorf("taken back as a promise: %v", err)
	}
	if _, err := b.s.TakeBack(t.Context(), b.merchant, shield.KindOverride, d.ID); err != nil {
		t.Fatal(err)
	}
	b.want("sub_1", "grace payment_failed") // one step at a time from there
	if _, err := decide(shield.KindPromise, shield.Wish{Customer: "cus_1", Until: &soon}); err != nil {
		t.Fatal(err)
	}
	b.want("sub_1", "grace promise")
	if _, err := decide(shield.KindExemption, shield.Wish{Customer: "cus_1"}); err != nil {
		t.Fatal(err)
	}
	b.want("sub_1", "full exemption")
	if list, _, err := b.s.Decisions(t.Context(), b.merchant, shield.KindExemption, uuid.Nil, 10); err != nil || len(list) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	late := b.now().AddDate(0, 0, 15)
	for field, wish := range map[string]shield.Wish{
		"customer":     {Until: &soon},
		"subscription": {Subscription: "sub_other", Until: &soon},
		"until":        {Customer: "cus_1", Until: &late},
	} {
		var wrong *input.FieldError
		if _, err := decide(shield.KindPromise, wish); !errors.As(err, &wrong) || wrong.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := decide(shield.KindPromise, shield.Wish{Customer: "cus_1", Until: &soon}); err != nil {
		t.Error(err)
	}
	var wrong *input.FieldError
	if _, err := decide(shield.KindPromise, shield.Wish{Customer: "cus_1", Until: &soon}); !errors.As(err, &wrong) {
		t.Errorf("a third promise within a year: %v", err)
	}
}

// The purge takes the amounts, and what was owed stays owed. What ended long ago is forgotten.
func TestPurgeIsNoPayment(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.policy(always)
	b.tell(b.owing("1", 0))
	if _, err := db.New(b.pool).ShieldPurgeAmounts(t.Context(), db.ShieldPurgeAmountsParams{MerchantID: b.merchant, Subscriptions: []string{"sub_1"}}); err != nil {
		t.Fatal(err)
	}
	if n := b.Count("SELECT count(*) FROM shield_states WHERE facts::text LIKE '%\"amount\"%'"); n != 0 {
		t.Error("the amount is still there")
	}
	b.later(4 * 24 * time.Hour)
	b.run(shield.KindSweep)
	b.want("sub_1", "grace payment_failed")
	ended := paying("2")
	ended.Service, ended.EndedAt = shield.Ended, b.now().Add(-29*24*time.Hour)
	b.tell(ended)
	b.want("sub_2", "blocked ended")
	for _, gone := range []int{0, 1} {
		if err := b.s.Forget(t.Context(), b.merchant); err != nil {
			t.Fatal(err)
		}
		if n := b.Count("SELECT count(*) FROM shield_states WHERE gone"); n != gone {
			t.Errorf("%d are gone, want %d", n, gone)
		}
		b.later(25 * time.Hour)
	}
}

// An announced payment gives back nothing that a person, an end or a pause has taken.
func TestWhatNoAnnouncementGivesBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.policy(always)
	b.tell(b.owing("1", 40))
	if _, _, err := b.s.Decide(t.Context(), b.merchant, shield.KindOverride, shield.Wish{Customer: "cus_1", Level: shield.Blocked}); err != nil {
		t.Fatal(err)
	}
	b.want("sub_1", "blocked override")
	paused, ended := b.owing("2", 40), b.owing("3", 40)
	paused.Service = shield.Suspended
	ended.Service, ended.EndedAt = shield.Ended, b.now()
	b.tell(paused, ended)
	for _, subscription := range []string{"sub_1", "sub_2", "sub_3"} {
		if err := db.InTx(t.Context(), b.pool, func(tx pgx.Tx) error { return b.s.Paid(t.Context(), tx, b.merchant, subscription) }); err != nil {
			t.Fatal(err)
		}
		if n := b.Count("SELECT count(*) FROM shield_states WHERE subscription = $1 AND provisional_until IS NOT NULL", subscription); n != 0 {
			t.Errorf("%s is raised", subscription)
		}
	}
	b.want("sub_1", "blocked override")
}

// What had ended long before it became known is not kept; what is known hears of its end however
// late, and goes once everybody has heard of that.
func TestWhatEndedLongAgo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.policy(always)
	b.tell(b.owing("1", 0))
	b.later(90 * 24 * time.Hour)
	long := func(name string) shield.Facts {
		f := paying(name)
		f.Service, f.EndedAt = shield.Ended, b.now().Add(-60*24*time.Hour)
		return f
	}
	forgotten := long("1") // Stripe does not say whose it was
	forgotten.Customer = ""
	b.tell(forgotten, long("2"))
	if all := b.Text("SELECT string_agg(subscription || ' ' || customer, ', ') FROM shield_states"); all != "sub_1 cus_1" {
		t.Errorf("%s are kept", all)
	}
	b.want("sub_1", "blocked ended")
	b.later(3 * 24 * time.Hour)
	for _, want := range []int{1, 1, 0} { // gone, still to be heard of, and over
		if err := b.s.Forget(t.Context(), b.merchant); err != nil {
			t.Fatal(err)
		}
		if n := b.Count("SELECT count(*) FROM shield_states"); n != want {
			t.Errorf("%d rows, want %d", n, want)
		}
		b.later(25 * time.Hour)
	}
}
