package recovery

import (
	"crypto/sha256"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/gate"
	"phantom/playbook"
	"phantom/sandbox"
)

// hashed stands for the keyed hash of something.
func hashed(what string) []byte {
	h := sha256.Sum256([]byte(what))
	return h[:]
}

// attempt is a row of attempts, of a charge that was sent an hour ago where nothing else is said.
type attempt struct {
	merchant               uuid.UUID
	card, customer, charge []byte
	action, result         string // result "" is none yet
	ago                    time.Duration
	amount                 int64
	currency               string
}

func (b *bench) attempt(a attempt) (id uuid.UUID) {
	b.t.Helper()
	id = newID()
	if a.merchant == uuid.Nil {
		a.merchant = b.merchant
	}
	if a.customer == nil {
		a.customer = hashed("somebody")
	}
	if a.action == "" {
		a.action = gate.KindPay
	}
	if a.ago == 0 {
		a.ago = time.Hour
	}
	if a.currency == "" {
		a.currency = "usd"
	}
	b.Exec(`INSERT INTO attempts (merchant_id, object, action, number, task_id, hunt_id, customer,
			currency, amount, reason, probability, planned_for, sent_at, result, card, charge)
		VALUES ($1, $2, $3, 1, $4, $4, $5, $6, $7, 'x', 1, phantom_now(),
			phantom_now() - $8 * interval '1 microsecond', nullif($9, ''), $10, $11)`,
		a.merchant, hashed(id.String()), a.action, id, a.customer, a.currency, a.amount,
		a.ago.Microseconds(), a.result, a.card, a.charge)
	return id
}

// another is a merchant beside the bench's own.
func (b *bench) another() uuid.UUID {
	b.t.Helper()
	id := newID()
	b.Exec(`INSERT INTO merchants (id, stripe_user_id, scope, livemode, disconnected_at)
		VALUES ($1, 'acct_another', 'read_write', false, now())`, id)
	return id
}

// What the ledger counts of a card: what has reached the network within 30 days, and charges of
// ours that are out, whose charge is not in the ledger yet, or that were sent before cards were
// stored. Each case stands alone beside a charge that is asked about.
func TestTheLedgerOfACard(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	other := b.another()
	card, customer := hashed("card"), hashed("customer")
	entered := func(merchant uuid.UUID, charge string, card []byte, ago time.Duration, reached bool) {
		b.Exec(`INSERT INTO card_attempts (merchant_id, charge, card, at, reached)
			VALUES ($1, $2, $3, phantom_now() - $4 * interval '1 microsecond', $5)`,
			merchant, hashed(charge), card, ago.Microseconds(), reached)
	}
	var own uuid.UUID // the charge that is asked about
	const month = 30 * 24 * time.Hour
	known := hashed("known")
	for name, c := range map[string]struct {
		do          func()
		counts, out bool
	}{
		"entered": {func() { entered(b.merchant, "a", card, 29*24*time.Hour, true) },
			true, false},
		"entered long ago": {func() {
			entered(b.merchant, "a", card, month, true)
		}, false, false},
		"entered, and a block": {func() {
			entered(b.merchant, "a", card, 1, false)
		}, false, false},
		"another card": {func() {
			entered(b.merchant, "a", hashed("x"), 1, true)
		}, false, false},
		"another merchant": {func() { entered(other, "a", card, 1, true) }, false, false},
		"out":              {func() { b.attempt(attempt{card: card}) }, true, true},
		"out for 29 days": {func() {
			b.attempt(attempt{card: card, ago: 29 * 24 * time.Hour})
		}, true, true},
		"out since long ago": {func() {
			b.attempt(attempt{card: card, ago: month})
		}, false, false},
		"out, itself": {func() { own = b.attempt(attempt{card: card}) }, false, false},
		"out, another card": {func() {
			b.attempt(attempt{card: hashed("x"), customer: customer})
		}, false, false},
		"out, another merchant": {func() {
			b.attempt(attempt{merchant: other, card: card})
		}, false, false},
		"out, of before cards": {func() { b.attempt(attempt{customer: customer}) }, true, true},
		"out, another customer's of before cards": {func() {
			b.attempt(attempt{})
		}, false, false},
		"a take-over": {func() {
			b.attempt(attempt{card: card, action: gate.KindHold})
		}, false, false},
		"declined": {func() {
			b.attempt(attempt{card: card, result: "declined"})
		}, true, false},
		"processing": {func() {
			b.attempt(attempt{card: card, result: "processing"})
		}, true, false},
		"given up": {func() {
			b.attempt(attempt{card: card, result: "unknown"})
		}, true, false},
		"paid": {func() { b.attempt(attempt{card: card, result: "paid"}) }, false, false},
		"absent": {func() {
			b.attempt(attempt{card: card, result: "absent"})
		}, false, false},
		"refused": {func() {
			b.attempt(attempt{card: card, result: "refused"})
		}, false, false},
		"declined, and the charge not entered": {func() {
			b.attempt(attempt{card: card, result: "declined", charge: known})
		}, true, false},
		"declined, and entered as a block": {func() {
			b.attempt(attempt{card: card, result: "declined", charge: known})
			entered(b.merchant, "known", card, 1, false)
		}, false, false},
		"declined, and entered": {func() {
			b.attempt(attempt{card: card, result: "declined", charge: known})
			entered(b.merchant, "known", card, 1, true)
		}, true, false},
		"declined, and entered by another": {func() {
			b.attempt(attempt{card: card, result: "declined", charge: known})
			entered(other, "known", card, 1, true)
		}, true, false},
	} {
		own = newID()
		b.Exec("DELETE FROM attempts")
		b.Exec("DELETE FROM card_attempts")
		c.do()
		rows, err := b.queries.CardAttemptList(t.Context(), db.CardAttemptListParams{
			MerchantID: b.merchant, Card: card, Customer: customer, TaskID: own,
		})
		if err != nil {
			t.Fatal(err)
		}
		counted := len(rows) == 1
		if counted != c.counts || len(rows) > 1 || counted && rows[0].Out != c.out {
			t.Errorf("%s: %+v", name, rows)
		}
	}
}

// What a merchant's charges of a day have asked for, by currency: all that was sent and is not
// known to have been executed by nobody.
func TestTheSumOfADay(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	other := b.another()
	b.attempt(attempt{amount: 1})
	b.attempt(attempt{amount: 2, result: "paid"})
	b.attempt(attempt{amount: 4, result: "declined", ago: 23 * time.Hour})
	b.attempt(attempt{amount: 8, result: "unknown"})
	b.attempt(attempt{amount: 16, result: "absent"})
	b.attempt(attempt{amount: 32, result: "not_sent"})
	b.attempt(attempt{amount: 64, ago: 24 * time.Hour})
	b.attempt(attempt{amount: 128, currency: "eur"})
	b.attempt(attempt{amount: 256, action: gate.KindHold})
	b.attempt(attempt{amount: 512, merchant: other})
	own := b.attempt(attempt{amount: 1024})
	sum, err := b.queries.AttemptSumSent(t.Context(), db.AttemptSumSentParams{
		MerchantID: b.merchant, Currency: "usd", TaskID: own,
	})
	if err != nil || sum != 1+2+4+8 {
		t.Errorf("%b, %v", sum, err)
	}
}

// A failed charge is in the ledger once, no matter who has seen it first and however often it is
// seen.
func TestAChargeIsEnteredOnce(t *testing.T) {
	t.Parallel()
	b, ids := setupCharges(t, 1, nil)
	b.turn(sandbox.Change{Do: "new_card", Status: "declines", ID: b.subscription()})
	blocks := b.Count("SELECT count(*) FROM card_attempts WHERE NOT reached")
	b.try(ids[0]) // its look sees what the audit has seen
	b.later(25 * time.Hour)
	b.try(b.planned(gate.KindPay)) // and this one what the first has made
	if n := b.Count("SELECT count(*) FROM card_attempts WHERE NOT reached"); n != blocks {
		t.Errorf("%d blocks became %d", blocks, n)
	}
	const both = "SELECT count(*) FROM card_attempts c JOIN attempts a USING (merchant_id, charge)"
	if n := b.Count(both); n != 1 || b.left() != 2 {
		t.Errorf("%d of ours are entered, and %d requests left", n, b.left())
	}
	if n := b.Count("SELECT count(*) FROM attempts a JOIN card_attempts c USING (charge)" +
		" WHERE a.card IS DISTINCT FROM c.card"); n != 0 {
		t.Errorf("%d are entered with another card", n)
	}
}

func (b *bench) subscription() string {
	b.t.Helper()
	return b.Text("SELECT stripe_subscription_id FROM ghost_targets")
}

// What was looked at before a charge was put off is not looked at again. What is made later is,
// though it be before the moment that it was put off to: a backup may be put back at any time.
func TestWhatIsPutOffIsLookedForAgain(t *testing.T) {
	t.Parallel()
	b, ids := setupCharges(t, 1, nil)
	b.recoverWith(func(p *playbook.Playbook) { p.DailyCap = everyCurrency(1) })
	const clear = "SELECT clear_until::text FROM attempts WHERE task_id = $1"
	before := b.Text(clear, ids[0])
	if status := b.try(ids[0]); status != "pending" || b.left() != 0 {
		t.Fatalf("over the cap it is %s, and %d requests left", status, b.left())
	}
	if after := b.Text(clear, ids[0]); after <= before {
		t.Errorf("what was looked at is not clear: %s, and before %s", after, before)
	}
	b.recoverWith(nil) // no cap any more, and the charge is made at once
	if status := b.try(ids[0]); status == "pending" || b.executed() != 1 {
		t.Fatalf("it is %s", status)
	}
	result := b.Text("SELECT result FROM attempts WHERE task_id = $1", ids[0])
	b.forget(ids[0])
	b.world.ForgetKeys()
	b.try(ids[0])
	if got := b.Text("SELECT coalesce(result, 'none') FROM attempts WHERE task_id = $1",
		ids[0]); got != result || b.executed() != 1 {
		t.Errorf("it is %s, and was %s; %d charges were executed", got, result, b.executed())
	}
}

// Stripe's clock may be behind the database's: what it says was made a minute before its attempt is
// still asked for its key.
func TestClocksMayDiffer(t *testing.T) {
	t.Parallel()
	b, ids := setupCharges(t, 1, nil)
	b.try(ids[0])
	result := b.Text("SELECT result FROM attempts WHERE task_id = $1", ids[0])
	b.forget(ids[0])
	b.world.ForgetKeys()
	b.Exec("UPDATE attempts SET clear_until = clear_until + interval '1 minute'")
	b.try(ids[0])
	if got := b.Text("SELECT coalesce(result, 'none') FROM attempts"); got != result ||
		b.executed() != 1 {
		t.Errorf("it is %s, and was %s; %d charges were executed", got, result, b.executed())
	}
}

// Before a first sending, too, a charge of which nobody knows who made it is waited for, and where
// its event cannot be found among too many a person decides.
func TestAForgottenChargeIsWaitedFor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ body, status string }{
		"no event":        {emptyList, "pending"},
		"too many events": {manyEvents, "needs_review"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, ids := setupCharges(t, 1, nil)
			b.turn(sandbox.Change{Do: "new_card", Status: "declines", ID: b.subscription()})
			b.try(ids[0])
			b.forget(ids[0])
			// Nothing but the charge itself may speak against another one.
			b.turn(sandbox.Change{Do: "new_card", ID: b.subscription()})
			b.world.ForgetKeys()
			b.world.Fail(sandbox.Fault{
				Method: http.MethodGet, Path: "/v1/events", Times: -1, Status: 200, Body: c.body,
			})
			if status := b.try(ids[0]); status != c.status || b.executed() != 1 {
				t.Errorf("it is %s after %d executions", status, b.executed())
			}
			if n := b.Count("SELECT count(*) FROM attempts WHERE result IS NOT NULL"); n != 0 {
				t.Error("it is said what became of it")
			}
		})
	}
}

// manyEvents is a page of others' events that has no end.
const manyEvents = `{"object":"list","has_more":true,"data":[{"id":"evt_1","object":"event",
	"type":"charge.failed","data":{"object":{"id":"ch_1"}},"request":{"idempotency_key":"another"}}]}`

// Anyone who halts the merchant while a charge waits for the cap is heard.
func TestAChargeWaitsForTheCap(t *testing.T) {
	t.Parallel()
	b, ids := setupCharges(t, 1, capped)
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if err := db.New(tx).AttemptLockMerchant(t.Context(), b.merchant); err != nil {
		t.Fatal(err)
	}
	tried, wait := b.begin(ids[0])
	b.await("the charge waits, or is through", func() bool { return b.blocked() || tried() })
	if _, err := tx.Exec(t.Context(), "INSERT INTO halts (scope) VALUES ($1)",
		b.merchant); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status := wait(); status != "pending" || b.left() != 0 {
		t.Errorf("it is %s, and %d requests left", status, b.left())
	}
}

// A take-over whose answer comes when its hunt has ended is given back.
func TestATakeOverOfAnEndedHuntIsGivenBack(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1})
	b.audit()
	b.hunted(func(p *playbook.Playbook) { p.TakeOver = true })
	for _, id := range b.ids("SELECT id FROM scheduled_tasks WHERE params ->> 'do' = 'begin'") {
		b.try(id)
	}
	id := b.planned(gate.KindHold)
	hunt := uuid.MustParse(b.Text("SELECT params ->> 'hunt' FROM scheduled_tasks WHERE id = $1", id))
	b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/invoices/", After: true,
		Hold: func() {
			if err := b.s.Stop(t.Context(), b.merchant, hunt); err != nil {
				t.Error(err)
			}
		}})
	if status := b.try(id); status != "succeeded" {
		t.Fatalf("it is %s", status)
	}
	b.try(b.planned(gate.KindRelease))
	for invoice, on := range b.collected() {
		if !on {
			t.Errorf("%s is taken over for ever", invoice)
		}
	}
	if n := len(b.toggles()); n != 1 || !strings.HasPrefix(b.Text("SELECT state FROM hunts"+
		" WHERE id = $1", hunt), "stopped") {
		t.Errorf("%d invoices were touched", n)
	}
}
