package recovery

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/decline"
	"phantom/figures"
	"phantom/gate"
	"phantom/internal/stage"
	"phantom/message"
	"phantom/playbook"
	"phantom/sandbox"
	"phantom/state"
)

// ledger writes hunts and what became of them straight into the tables.
type ledger struct {
	stage.Database
	t        *testing.T
	pool     *pgxpool.Pool
	merchant uuid.UUID
	s        *Service
}

func newLedger(t *testing.T, pool *pgxpool.Pool, account string) *ledger {
	t.Helper()
	merchant := stage.Merchant(t, pool, account, stage.Live)
	l := &ledger{stage.On(t, pool), t, pool, merchant, New(pool, nil, message.New(pool, nil, message.Config{}), nil, Config{})}
	l.playbook(1, 10)
	return l
}

func (l *ledger) playbook(version, holdout int) {
	l.t.Helper()
	p := playbook.Default()
	p.Mode, p.HoldoutPercent = state.ModeRecover, holdout
	p.Auto = false
	body, err := json.Marshal(p)
	if err != nil {
		l.t.Fatal(err)
	}
	l.Exec("INSERT INTO playbooks (merchant_id, version, body) VALUES ($1, $2, $3)", l.merchant, version, body)
}

// hunted is a hunt; what is left out is a young active one of 100 USD cents that recovers with the
// first playbook.
type hunted struct {
	customer, currency, class string
	mode                      state.Mode
	state                     state.Hunt
	heldOut, test             bool
	amount                    int64
	age, took                 time.Duration
	paid                      time.Duration // after the beginning; 0: not
	playbook                  int
}

func (l *ledger) hunt(h hunted) uuid.UUID {
	l.t.Helper()
	for field, standard := range map[*string]string{&h.customer: uuid.NewString(), &h.currency: "usd", &h.class: "low"} {
		if *field == "" {
			*field = standard
		}
	}
	h.mode, h.state = cmp.Or(h.mode, state.ModeRecover), cmp.Or(h.state, state.HuntActive)
	id, ghost, customer := newID(), newID(), sha256.Sum256([]byte(h.customer))
	l.Exec(`INSERT INTO ghost_targets (merchant_id, id, stripe_customer_id, stripe_subscription_id, stripe_invoice_id, amount, currency, decline_class, rule)
		VALUES ($1, $2, $3, $4, 'in_1', $5, $6, $7, 'a rule')`, l.merchant, ghost, h.customer, "sub_"+id.String(), max(h.amount, 100), h.currency, h.class)
	l.Exec(`INSERT INTO hunts (merchant_id, id, ghost_id, customer, playbook_version, mode, held_out, state, ended_reason, livemode, decline_class, currency,
		amount, invoices, began_at, ended_at, paid_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, CASE WHEN $8 = 'active' THEN NULL ELSE 'x' END, $9, $10, $11, 1, '{in_1}',
		phantom_now() - $12::interval, CASE WHEN $8 = 'active' THEN NULL ELSE phantom_now() - $12::interval + $13::interval END,
		CASE WHEN $14::interval > '0' THEN phantom_now() - $12::interval + $14::interval END)`,
		l.merchant, id, ghost, customer[:], max(h.playbook, 1), h.mode, h.heldOut, h.state, !h.test, h.class, h.currency, h.age, h.took, h.paid)
	return id
}

func (l *ledger) paid(hunt uuid.UUID, currency, cause string, amount int64) {
	l.t.Helper()
	invoice := sha256.Sum256([]byte(uuid.NewString()))
	l.Exec(`INSERT INTO recoveries (merchant_id, invoice, hunt_id, currency, amount, cause, recovered_at) VALUES ($1, $2, $3, $4, $5, $6, phantom_now())`,
		l.merchant, invoice[:], hunt, currency, amount, cause)
}

func (l *ledger) charged(hunt uuid.UUID, action, result string, sent bool) {
	l.t.Helper()
	object := sha256.Sum256([]byte(uuid.NewString()))
	l.Exec(`INSERT INTO attempts (merchant_id, object, action, number, task_id, hunt_id, customer, currency, amount, reason, probability, planned_for, sent_at, result)
		VALUES ($1, $2, $3, 1, $4, $5, $2, 'usd', 1, 'x', 1, phantom_now(), CASE WHEN $7 THEN phantom_now() END, nullif($6, ''))`,
		l.merchant, object[:], action, newID(), hunt, result, sent)
}

func (l *ledger) wrote(hunt uuid.UUID, step int, channel, as string, sent bool) {
	l.t.Helper()
	l.Exec(`INSERT INTO messages (merchant_id, id, hunt_id, step, channel, template, state, planned_for, sent_at)
		VALUES ($1, $2, $3, $4, $5, 'x', $6, phantom_now(), CASE WHEN $7 THEN phantom_now() END)`, l.merchant, newID(), hunt, step, channel, as, sent)
}

func (l *ledger) figures() figures.Figures {
	l.t.Helper()
	f, err := l.s.Figures(l.t.Context(), l.merchant)
	if err != nil {
		l.t.Fatal(err)
	}
	return f
}

// Each amount stands where it belongs and nowhere else; another merchant's, the other mode's and
// watched ones stand apart.
func TestFigures(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	l, neighbour := newLedger(t, pool, "acct_1"), newLedger(t, pool, "acct_2")
	if f := l.figures(); f.Any() || f.Uplift.Verdict != figures.VerdictNotEnough || f.Currencies == nil || f.Watched.Currencies == nil {
		t.Errorf("of nothing: %+v", f)
	}
	l.hunt(hunted{amount: 1000, class: "timed"})
	l.hunt(hunted{amount: 400, heldOut: true})
	l.hunt(hunted{amount: 70, currency: "jpy", class: "never"}) // at least 100
	charged := l.hunt(hunted{state: state.HuntRecovered, class: "timed", amount: 9999})
	l.paid(charged, "usd", "charge", 500)
	l.paid(charged, "usd", "charge", 51)
	l.charged(charged, gate.KindPay, "paid", true)
	l.charged(charged, gate.KindPay, "declined", true)
	l.charged(charged, gate.KindPay, "", true)          // under way
	l.charged(charged, gate.KindPay, "", false)         // planned
	l.charged(charged, gate.KindPay, "not_sent", false) // called off
	l.charged(charged, gate.KindPay, "absent", true)    // never arrived
	l.charged(charged, gate.KindHold, "done", true)     // no charge
	written := l.hunt(hunted{state: state.HuntRecovered})
	l.paid(written, "usd", "email", 20)
	l.paid(written, "eur", "sms", 3)
	for i, as := range []string{"sent", "unclear", "planned", "skipped", "failed"} {
		l.wrote(written, i, "email", as, as == "sent" || as == "unclear" || as == "failed")
	}
	l.wrote(written, 9, "sms", "sent", true)
	l.paid(l.hunt(hunted{state: state.HuntRecovered, heldOut: true}), "usd", "anyway", 800)
	l.hunt(hunted{state: state.HuntExhausted})
	l.hunt(hunted{state: state.HuntStopped})
	watched := l.hunt(hunted{mode: state.ModeObserve, state: state.HuntRecovered, heldOut: true})
	l.paid(watched, "usd", "anyway", 77)
	l.hunt(hunted{mode: state.ModeObserve, amount: 123})
	other := l.hunt(hunted{test: true, amount: 5000})
	l.paid(other, "usd", "charge", 6000)
	l.charged(other, gate.KindPay, "paid", true)
	l.wrote(other, 1, "sms", "sent", true)
	theirs := neighbour.hunt(hunted{amount: 7000})
	neighbour.paid(theirs, "usd", "charge", 8000)
	neighbour.charged(theirs, gate.KindPay, "paid", true)
	neighbour.wrote(theirs, 1, "email", "sent", true)

	got := l.figures()
	want := figures.Figures{
		Currencies: map[string]figures.Recovered{
			"usd": {
				AtRisk: 1400, AfterAction: 571, Anyway: 800, ByCause: figures.ByCause{Charge: 551, Email: 20, Anyway: 800}, Invoices: figures.ByCause{Charge: 2, Email: 1, Anyway: 1},
				ByClass: map[decline.Class]figures.ClassPart{"timed": {AtRisk: 1000, AfterAction: 551}, "low": {AtRisk: 400, AfterAction: 20, Anyway: 800}},
			},
			"jpy": {AtRisk: 100, ByClass: map[decline.Class]figures.ClassPart{"never": {AtRisk: 100}}},
			"eur": {AfterAction: 3, ByCause: figures.ByCause{SMS: 3}, Invoices: figures.ByCause{SMS: 1}, ByClass: map[decline.Class]figures.ClassPart{"low": {AfterAction: 3}}},
		},
		Costs:   figures.Costs{Charges: 3, Emails: 2, SMS: 1},
		Hunts:   figures.HuntCounts{Active: 3, Recovered: 3, Exhausted: 1, Stopped: 1, HeldOut: 2},
		Uplift:  figures.Uplift{Waiting: 8, Verdict: figures.VerdictNotEnough},
		Watched: figures.Watched{Hunts: 2, Currencies: map[string]figures.WatchedAmounts{"usd": {AtRisk: 123, Paid: 77}}},
	}
	if !reflect.DeepEqual(got, want) || !got.Any() {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	l.Exec("UPDATE merchants SET livemode = false WHERE id = $1", l.merchant)
	if f := l.figures(); f.Hunts.All() != 1 || f.Currencies["usd"].ByCause.Charge != 6000 || f.Costs != (figures.Costs{Charges: 1, SMS: 1}) || f.Watched.Hunts != 0 {
		t.Errorf("of the other mode: %+v", f)
	}
}

// A customer counts once, by their first hunt that was to recover, a day after its window is over,
// no matter what was sent and how it ended. What decides is when the money came, the same for both
// arms.
func TestArms(t *testing.T) {
	t.Parallel()
	l := newLedger(t, dbtest.Pool(t), "acct_1")
	l.playbook(2, 0)
	const window = 30 * oneADay
	over := window + oneADay
	both := func(h hunted) { // the same to both arms
		h.heldOut = false
		l.hunt(h)
		h.heldOut = true
		l.hunt(h)
	}
	both(hunted{age: over, state: state.HuntRecovered, took: 3 * oneADay, paid: 3 * oneADay})
	// nobody had told us
	both(hunted{age: over, state: state.HuntExhausted, took: window, paid: window - time.Hour})
	both(hunted{age: over, state: state.HuntRecovered, took: window + time.Hour, paid: oneADay})
	// stopped, and paid all the same
	both(hunted{age: over, state: state.HuntStopped, took: 3 * oneADay, paid: 20 * oneADay})
	// goes on for a newer invoice
	both(hunted{age: over, paid: 20 * oneADay})
	want := figures.Arm{Customers: 5, Recovered: 5}
	both(hunted{age: over, state: state.HuntExhausted, took: window})
	both(hunted{age: over, state: state.HuntStopped, took: 3 * oneADay})
	// its last charge is still waited for
	both(hunted{age: over})
	// by a credit note
	both(hunted{age: over, state: state.HuntRecovered, took: 2 * oneADay})
	// too late
	both(hunted{age: over, state: state.HuntRecovered, took: window + time.Hour, paid: window + time.Second})
	// the same
	both(hunted{age: over + oneADay, state: state.HuntExhausted, took: window, paid: window + oneADay})
	want.Customers += 6
	// within a window that goes on
	both(hunted{age: window - oneADay, state: state.HuntRecovered, took: 3 * oneADay, paid: 3 * oneADay})
	// what was paid is still being read
	both(hunted{age: over - time.Minute, state: state.HuntRecovered, took: oneADay, paid: oneADay})
	both(hunted{age: window - oneADay})
	both(hunted{age: over, state: state.HuntRecovered, took: oneADay, paid: oneADay, test: true})
	both(hunted{age: over, state: state.HuntRecovered, took: oneADay, paid: oneADay, mode: state.ModeObserve})
	// nobody could be held out
	l.hunt(hunted{age: over, state: state.HuntRecovered, took: oneADay, paid: oneADay, playbook: 2})
	check := func(treated, heldOut figures.Arm, waiting int64) {
		t.Helper()
		if u := l.figures().Uplift; u.Treated != treated || u.HeldOut != heldOut || u.Waiting != waiting {
			t.Errorf("got %+v, want %v, %v and %d waiting", u, treated, heldOut, waiting)
		}
	}
	check(want, want, 6)
	for _, customer := range []string{"cus_1", "cus_2"} { // the first decides
		l.hunt(hunted{customer: customer, age: over + oneADay, state: state.HuntExhausted, took: window, heldOut: customer == "cus_2"})
		l.hunt(hunted{customer: customer, age: over, state: state.HuntRecovered, took: oneADay, paid: oneADay, heldOut: true})
		l.hunt(hunted{customer: customer, age: 2 * over, state: state.HuntRecovered, took: oneADay, paid: oneADay, mode: state.ModeObserve})
		l.hunt(hunted{customer: customer, age: oneADay})
	}
	want.Customers++
	check(want, want, 6)
	l.hunt(hunted{customer: "cus_3", age: over + oneADay, state: state.HuntRecovered, took: oneADay, paid: oneADay, playbook: 2})
	l.hunt(hunted{customer: "cus_3", age: over, state: state.HuntRecovered, took: oneADay, paid: oneADay})
	check(want, want, 6)
}

// The comparison of a merchant with enough customers.
func TestUpliftOfAMerchant(t *testing.T) {
	t.Parallel()
	l := newLedger(t, dbtest.Pool(t), "acct_1")
	for i := range 150 {
		h := hunted{heldOut: i < 80, state: state.HuntExhausted, took: 30 * oneADay, age: 60 * oneADay}
		if h.heldOut && i < 48 || i >= 80 && i < 80+56 {
			h.state, h.paid = state.HuntRecovered, 30*oneADay
		}
		l.hunt(h)
	}
	u := l.figures().Uplift
	if u.Verdict != figures.VerdictMore || math.Abs(*u.Difference-0.2) > 1e-9 || math.Abs(*u.Low-0.0524) > 0.0001 || math.Abs(*u.High-0.3339) > 0.0001 {
		t.Errorf("got %+v", u)
	}
}

// The figures of a hunted world are those of its tables, and one read is of one moment.
func TestFiguresOfAWorld(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 24})
	b.audit()
	b.recoverWith(func(p *playbook.Playbook) { p.HoldoutPercent = 20 })
	if _, err := b.startAll(); err != nil {
		t.Fatal(err)
	}
	b.work()
	b.await("every first charge is done and counted", func() bool {
		return b.Count("SELECT count(*) FROM hunts WHERE state = 'active' AND NOT held_out AND charges = 0 AND charges_over IS NULL") == 0 &&
			b.Count("SELECT count(*) FROM scheduled_tasks WHERE status = 'running' OR status = 'pending' AND run_at <= phantom_now()") == 0
	})
	f, err := b.s.Figures(t.Context(), b.merchant)
	if err != nil {
		t.Fatal(err)
	}
	for currency, c := range f.Currencies {
		owed := b.Count(`SELECT coalesce(sum(amount), 0) FROM ghost_targets
			WHERE (status = 'open' OR closed_reason = 'payment_under_way') AND currency = $1`, currency)
		paid := b.Count("SELECT coalesce(sum(amount), 0) FROM recoveries WHERE cause = 'charge' AND currency = $1", currency)
		var parts figures.ClassPart
		for _, part := range c.ByClass {
			parts = figures.ClassPart{AtRisk: parts.AtRisk + part.AtRisk, AfterAction: parts.AfterAction + part.AfterAction, Anyway: parts.Anyway + part.Anyway}
		}
		if c.AtRisk != int64(owed) || c.AfterAction != int64(paid) || parts != (figures.ClassPart{AtRisk: c.AtRisk, AfterAction: c.AfterAction, Anyway: c.Anyway}) {
			t.Errorf("%s: %+v, want %d at risk and %d recovered", currency, c, owed, paid)
		}
	}
	if sent := b.Count("SELECT sum(charges) FROM hunts"); f.Costs.Charges != int64(sent) || sent == 0 {
		t.Errorf("%d charges, want %d", f.Costs.Charges, sent)
	}
	if held := b.Count("SELECT count(*) FROM hunts WHERE held_out"); f.Hunts.HeldOut != int64(held) || f.Hunts.Recovered == 0 || f.Uplift.Verdict != figures.VerdictNotEnough {
		t.Errorf("%d are held out: %+v, %+v", held, f.Hunts, f.Uplift)
	}
	ctx := context.WithoutCancel(t.Context())
	if err := pgx.BeginTxFunc(ctx, b.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		before, err := figures.Read(ctx, db.New(tx), b.merchant)
		if err != nil {
			return err
		}
		b.Exec("UPDATE hunts SET state = 'stopped', ended_reason = 'x', ended_at = phantom_now() WHERE state = 'active'")
		after, err := figures.Read(ctx, db.New(tx), b.merchant)
		if err == nil && (!reflect.DeepEqual(before, after) || !reflect.DeepEqual(before, f)) {
			err = fmt.Errorf("%+v became %+v", before, after)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}
