package recovery

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/gate"
	"phantom/playbook"
	"phantom/sandbox"
	"phantom/state"
)

// A charge whose request got lost on its way leaves again under its key only where nothing speaks
// against it. Each case has something speak against it, and says how the charge stands then.
func TestALostChargeLeavesAgainOnlyWhereItMay(t *testing.T) {
	t.Parallel()
	turn := func(do string) func(*bench, uuid.UUID) {
		return func(b *bench, _ uuid.UUID) {
			c := sandbox.Change{Account: b.account, Do: do}
			if do != "dispute" {
				c.ID = b.Text("SELECT stripe_invoice_id FROM ghost_targets")
			}
			if _, err := b.world.Change(c); err != nil {
				b.t.Error(err)
			}
		}
	}
	old := func(age time.Duration, more ...func(*bench, uuid.UUID)) func(*bench, uuid.UUID) {
		return func(b *bench, id uuid.UUID) {
			b.sentAgo(id, age)
			for _, do := range more {
				do(b, id)
			}
		}
	}
	halt := func(b *bench, _ uuid.UUID) { b.Exec("INSERT INTO halts (scope) VALUES ($1)", b.merchant) }
	off := func(b *bench, _ uuid.UUID) { b.recoverWith(func(p *playbook.Playbook) { p.Mode = state.ModeOff }) }
	tries := func(n int) func(*bench, uuid.UUID) {
		return func(b *bench,
			id uuid.UUID) {
			b.Exec("UPDATE scheduled_tasks SET attempts = $2 WHERE id = $1", id, n)
		}
	}
	for name, c := range map[string]struct {
		do     func(*bench, uuid.UUID)
		again  bool
		status string
		result string
	}{
		"nothing does":               {tries(0), true, "succeeded", "paid"},
		"nothing does after 6 tries": {tries(5), true, "succeeded", "paid"},
		"seven tries":                {tries(6), false, "pending", ""},
		"nineteen hours":             {old(19 * time.Hour), true, "succeeded", "paid"},
		"twenty hours":               {old(20*time.Hour + time.Minute), false, "failed", "absent"},
		"twenty-nine days":           {old(29*24*time.Hour + time.Minute), false, "needs_review", ""},
		"a halt":                     {old(time.Hour, halt), false, "pending", ""},
		"switched off":               {old(time.Hour, off), false, "pending", ""},
		"a fresh dispute":            {turn("dispute"), false, "pending", ""},
		"a dispute":                  {old(time.Hour, turn("dispute")), false, "failed", "absent"},
		"a dispute after too many":   {old(time.Hour, tries(6), turn("dispute")), false, "failed", "absent"},
		"others' payment":            {turn("pay_out_of_band"), false, "pending", ""},
		"others' old payment": {old(time.Hour, turn("pay_out_of_band")), false, "failed",
			"absent"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, ids := setupCharges(t, 1, nil)
			b.lose(ids[0])
			c.do(b, ids[0])
			const first = "SELECT first_sent_at::text FROM scheduled_tasks WHERE id = $1"
			sent := b.Text(first, ids[0])
			status := b.try(ids[0])
			if now := b.Text(first, ids[0]); now != sent {
				t.Errorf("it was first sent at %s, and that became %s", sent, now)
			}
			if again := b.left() == 2; again != c.again || b.left() > 2 {
				t.Errorf("it left %d times, and is %s", b.left(), status)
			}
			result := b.Text("SELECT coalesce(result, '') FROM attempts WHERE task_id = $1", ids[0])
			if status != c.status || result != c.result {
				t.Errorf("it is %s, %s; want %s, %s", status, result, c.status, c.result)
			}
		})
	}
}

const emptyList = `{"object":"list","data":[],"has_more":false}`

// unheard has Stripe's events be late.
func (b *bench) unheard() {
	b.world.Fail(sandbox.Fault{
		Method: http.MethodGet, Path: "/v1/events", Times: -1, Status: 200,
		Body: emptyList,
	})
}

// A debit whose answer was lost is waited for, however long the bank takes: absent it is not. Where
// Stripe does not list its charge yet the invoice tells of it.
func TestADebitUnderWayIsNotAbsent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path, body string
		age        time.Duration
	}{
		"no event tells": {"/v1/events", emptyList, 21 * time.Hour},
		"not listed":     {"/v1/charges", emptyList, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, ids := setupCharges(t, 1, nil)
			b.turn(sandbox.Change{Do: "to_debit"})
			b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/invoices/", Drop: true,
				After: true})
			b.try(ids[0])
			b.world.Fail(sandbox.Fault{Method: http.MethodGet, Path: c.path, Times: -1, Status: 200,
				Body: c.body})
			b.sentAgo(ids[0], c.age)
			if status := b.try(ids[0]); status != "pending" || b.left() != 1 {
				t.Errorf("it is %s after %d requests", status, b.left())
			}
		})
	}
}

// A key that becomes too old while the charge is looked at is not sent, and its task is not taken
// for done.
func TestAKeyAgesWhileItIsLookedAt(t *testing.T) {
	t.Parallel()
	b, ids := setupCharges(t, 1, nil)
	b.lose(ids[0])
	b.meanwhile(func() { b.sentAgo(ids[0], 20*time.Hour+time.Minute) })
	if status := b.try(ids[0]); b.left() != 1 || status != "pending" {
		t.Errorf("it left %d times, and is %s", b.left(), status)
	}
	if status := b.try(ids[0]); b.left() != 1 || status != "failed" {
		t.Errorf("at the next look it has left %d times, and is %s", b.left(), status)
	}
}

// What Stripe says of the key itself.
func TestWhatTheKeyIsKnownFor(t *testing.T) {
	t.Parallel()
	const reused = `{"error":{"type":"idempotency_error","message":"Keys can only be used once"}}`
	t.Run("another request", func(t *testing.T) {
		t.Parallel()
		b, ids := setupCharges(t, 1, nil)
		b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/invoices/", Status: 400,
			Body: reused})
		if status := b.try(ids[0]); status != "needs_review" || b.left() != 1 {
			t.Errorf("it is %s after %d requests", status, b.left())
		}
		if n := b.Count("SELECT count(*) FROM attempts WHERE result IS NULL"); n != 1 {
			t.Errorf("%d attempts are open: another charge may follow", n)
		}
	})
	t.Run("a stored failure", func(t *testing.T) {
		t.Parallel()
		b, ids := setupCharges(t, 1, nil)
		b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/invoices/", Status: 500,
			Store: true})
		b.try(ids[0])
		b.Exec("UPDATE scheduled_tasks SET attempts = 0")
		status := b.try(ids[0])
		if hours := b.hoursOff(ids[0]); status != "pending" || b.left() != 2 || hours < 19 || hours > 20 {
			t.Errorf("it is %s for %.1f hours after %d requests", status, hours, b.left())
		}
	})
}

// The outcome of a charge is written down once: what a second look would say changes nothing.
func TestAnOutcomeStands(t *testing.T) {
	t.Parallel()
	b, ids := setupCharges(t, 1, nil)
	if status := b.try(ids[0]); status != "succeeded" {
		t.Fatalf("it is %s", status)
	}
	n, err := b.queries.AttemptFinish(t.Context(), db.AttemptFinishParams{
		MerchantID: b.merchant, TaskID: ids[0], Result: "absent",
	})
	if result := b.Text("SELECT result FROM attempts WHERE task_id = $1", ids[0]); result != "paid" ||
		n != 0 || err != nil {
		t.Errorf("it is %s; %d, %v", result, n, err)
	}
}

// A final step is looked at before it leaves: who has paid, or disputes, keeps their subscription.
func TestAFinalStepIsLookedAt(t *testing.T) {
	t.Parallel()
	for do, canceled := range map[string]int{"pay_out_of_band": 0, "dispute": 0, "": 1} {
		t.Run("after "+do, func(t *testing.T) {
			t.Parallel()
			b := setupStep(t)
			c := sandbox.Change{Account: b.account, Do: do}
			if do == "pay_out_of_band" {
				c.ID = b.Text("SELECT stripe_invoice_id FROM ghost_targets")
			}
			if do != "" {
				if _, err := b.world.Change(c); err != nil {
					t.Fatal(err)
				}
			}
			status := b.try(b.planned(gate.KindCancel))
			if n := b.canceled(); n != canceled || b.left() != canceled {
				t.Errorf("the subscription was canceled %d times; its task is %s", n, status)
			}
		})
	}
}

// Where an account has had more events around a charge than are searched, the charge may be ours:
// it does not leave again, and a person decides.
func TestTooManyEventsAreForAPerson(t *testing.T) {
	t.Parallel()
	b, ids := setupCharges(t, 1, nil)
	b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/invoices/", Drop: true,
		After: true})
	b.world.Fail(sandbox.Fault{Method: http.MethodGet, Path: "/v1/events", Times: -1, Status: 200,
		Body: `{"object":"list","has_more":true,"data":[{"id":"evt_1","object":"event","type":"charge.failed",
			"data":{"object":{"id":"ch_1"}},"request":{"idempotency_key":"another"}}]}`})
	b.try(ids[0])
	if status := b.try(ids[0]); status != "needs_review" || b.left() != 1 {
		t.Errorf("it is %s after %d requests", status, b.left())
	}
}

// A charge whose answer was lost and whose event is late does not leave again, no matter what
// became of it: Stripe might have forgotten its key. The customers meet every class of decline, and
// a block that no budget counts.
func TestNothingLeavesAgainBesideAnUnheardCharge(t *testing.T) {
	t.Parallel()
	const charges = 12
	b, ids := setupCharges(t, charges, nil)
	b.world.Fail(sandbox.Fault{
		Method: http.MethodPost, Path: "/v1/invoices/", Times: charges, Drop: true, After: true,
	})
	b.unheard()
	for _, id := range ids {
		b.try(id)
	}
	if b.executed() != charges || b.left() != charges {
		t.Fatalf("%d charges were executed, by %d requests", b.executed(), b.left())
	}
	b.world.ForgetKeys()
	for _, id := range ids {
		if status := b.try(id); status != "pending" || b.left() != charges {
			t.Fatalf("one is %s after %d requests", status, b.left())
		}
	}
}

// A charge that is late and was never sent, as far as the database knows, may have been executed
// before a backup was put back: that is found out, and told as what it was.
func TestALateChargeMayHaveBeenExecuted(t *testing.T) {
	t.Parallel()
	b, ids := setupCharges(t, 1, nil)
	if status := b.try(ids[0]); status != "succeeded" {
		t.Fatalf("it is %s", status)
	}
	b.world.ForgetKeys()
	b.Exec("UPDATE attempts SET result = NULL, sent_at = NULL")
	b.Exec(`UPDATE scheduled_tasks SET status = 'pending', first_sent_at = NULL, finished_at = NULL,
		outcome = NULL, run_at = phantom_now() - interval '2 days' WHERE id = $1`, ids[0])
	b.try(ids[0])
	if result := b.Text("SELECT result FROM attempts"); result != "paid" || b.left() != 1 {
		t.Errorf("it is said to be %s, after %d requests", result, b.left())
	}
}
