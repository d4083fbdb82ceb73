package recovery

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/gate"
	"phantom/sandbox"
)

// forget puts a charge and its task back to what they were before the charge was sent, as a
// failover does that loses commits: the hunt, the ghost and what was planned next, too.
func (b *bench) forget(id uuid.UUID) {
	b.t.Helper()
	b.Exec("DELETE FROM scheduled_tasks WHERE kind IN ('invoice_pay', 'refresh') AND id <> $1", id)
	b.Exec("DELETE FROM attempts WHERE task_id <> $1", id)
	b.Exec("DELETE FROM card_attempts WHERE at >= (SELECT sent_at FROM attempts WHERE task_id = $1) - interval '5 seconds'", id)
	b.Exec("UPDATE hunts SET state = 'active', ended_reason = NULL, ended_at = NULL, charges_over = NULL, invoices_over = '{}', charges = 0, paid_at = NULL")
	b.Exec("UPDATE ghost_targets SET status = 'open', closed_reason = NULL, closed_at = NULL")
	b.Exec("UPDATE attempts SET result = NULL, decline_class = NULL, decline_code = NULL, charge = NULL, card = NULL, sent_at = NULL, code = NULL")
	b.Exec("UPDATE scheduled_tasks SET status = 'pending', attempts = 0, first_sent_at = NULL, finished_at = NULL, outcome = NULL, lease_until = NULL, run_at = phantom_now() WHERE id = $1", id)
	b.Exec("SELECT pg_notify('phantom_task', '')")
}

// What was executed and whose commits are lost is found before the next send, no matter what has
// moved its task's time meanwhile: a look that failed, a wait, a deploy that gave it back.
// Executions are counted, and Stripe has forgotten the key.
func TestLostCommitsExecuteNothingTwice(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(*bench, uuid.UUID){
		"nothing": func(*bench, uuid.UUID) {},
		"an unreadable look": func(b *bench, _ uuid.UUID) {
			b.world.Fail(sandbox.Fault{Method: http.MethodGet, Path: "/v1/charges", Status: http.StatusNotImplemented, Times: 1})
		},
		"a day's wait": func(b *bench, id uuid.UUID) {
			b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() + interval '1 day' WHERE id = $1", id)
			b.advance(24*time.Hour + time.Minute)
		},
		"a lost minute": func(b *bench, id uuid.UUID) {
			b.advance(time.Minute)
			b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE id = $1", id)
		},
		"a restart": func(b *bench, id uuid.UUID) {
			b.Exec("UPDATE scheduled_tasks SET fence = fence + 1, run_at = phantom_now() + interval '1 second' WHERE id = $1", id)
			b.advance(2 * time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
			b.movable()
			b.audit()
			b.hunted(nil)
			if err := b.queue().RunOne(t.Context(), b.merchant, b.text2id("SELECT id::text FROM scheduled_tasks WHERE params ->> 'do' = 'begin'")); err != nil {
				t.Fatal(err)
			}
			id := b.planned(gate.KindPay)
			_ = b.queue().RunOne(t.Context(), b.merchant, id)
			result := b.Text("SELECT result FROM attempts WHERE task_id = $1", id)
			b.forget(id)
			b.world.ForgetKeys()
			meanwhile(b, id)
			b.during(func() {
				b.await("it is settled", func() bool {
					b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE id = $1 AND status = 'pending'", id)
					return b.Count("SELECT count(*) FROM attempts WHERE task_id = $1 AND result IS NOT NULL", id) == 1
				})
			})
			if n := b.world.Executions("task_" + id.String()); n != 1 {
				t.Errorf("it was executed %d times", n)
			}
			if got := b.Text("SELECT result FROM attempts WHERE task_id = $1", id); got != result {
				t.Errorf("it is booked as %s, and was %s", got, result)
			}
		})
	}
}

// hideEvents makes Stripe tell of no event.
func (b *bench) hideEvents() {
	b.world.Fail(sandbox.Fault{Method: http.MethodGet, Path: "/v1/events", Times: -1, Status: http.StatusOK, Body: `{"object":"list","data":[],"has_more":false}`})
}

// unknown says whether a request of a task was sent and its outcome is not known.
func (b *bench) unknown(id uuid.UUID) func() bool {
	return func() bool {
		b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE id = $1 AND status = 'pending' AND first_sent_at IS NULL", id)
		return b.Count("SELECT count(*) FROM scheduled_tasks WHERE id = $1 AND status = 'pending' AND first_sent_at IS NOT NULL AND run_at > phantom_now()", id) == 1
	}
}

// Beside a charge of which no event tells yet, a request whose answer was lost is neither absent
// nor sent again, no matter what else speaks for that: the hunt stopped, the debt changed, the key
// too old. Once the event comes it is booked as what it was; until then it counts.
func TestLateEventsMakeNothingAbsent(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(*bench){
		"the hunt is stopped": func(b *bench) {
			if err := b.s.Stop(t.Context(), b.merchant, b.text2id("SELECT id::text FROM hunts")); err != nil {
				t.Error(err)
			}
		},
		"the invoice is given up": func(b *bench) {
			if _, err := b.world.Change(sandbox.Change{Account: b.account, Do: "mark_uncollectible", ID: b.Text("SELECT stripe_invoice_id FROM ghost_targets")}); err != nil {
				t.Log(err) // it is paid already
			}
		},
		"the key is too old": func(b *bench) {
			b.Exec("UPDATE scheduled_tasks SET first_sent_at = first_sent_at - interval '21 hours' WHERE kind = 'invoice_pay'")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, id := setupCharge(t)
			b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/invoices/", Drop: true, After: true})
			b.hideEvents()
			b.during(func() { b.await("its answer is lost", b.unknown(id)) })
			meanwhile(b)
			b.world.ForgetKeys()
			b.Exec("UPDATE scheduled_tasks SET first_sent_at = first_sent_at - interval '11 minutes', run_at = phantom_now() WHERE id = $1", id)
			b.during(func() {
				b.await("it is looked at", func() bool {
					return b.Count("SELECT count(*) FROM scheduled_tasks WHERE id = $1 AND (fence > 1 AND status = 'pending' AND run_at > phantom_now() OR finished_at IS NOT NULL)", id) == 1
				})
			})
			if n := b.Count("SELECT count(*) FROM attempts WHERE task_id = $1 AND result IS NULL AND sent_at IS NOT NULL", id); n != 1 {
				t.Fatalf("it is booked as %s before its event", b.Text("SELECT result FROM attempts WHERE task_id = $1", id))
			}
			if n := b.Count("SELECT count(*) FROM attempts WHERE action = 'invoice_pay'"); n != 1 {
				t.Errorf("%d charges are planned beside it", n)
			}
			b.world.Mend()
			b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE id = $1", id)
			b.during(func() {
				b.await("its event tells", func() bool {
					return b.Count("SELECT count(*) FROM attempts WHERE task_id = $1 AND result IN ('paid', 'declined')", id) == 1
				})
			})
			if n := b.world.Executions("task_" + id.String()); n != 1 {
				t.Errorf("it was executed %d times", n)
			}
		})
	}
}

// An event that never comes leaves the charge to a person, who is told where to look.
func TestEventThatNeverComesIsForAPerson(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.movable()
	b.audit()
	b.hunted(nil)
	if err := b.queue().RunOne(t.Context(), b.merchant, b.text2id("SELECT id::text FROM scheduled_tasks WHERE params ->> 'do' = 'begin'")); err != nil {
		t.Fatal(err)
	}
	id := b.planned(gate.KindPay)
	b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/invoices/", Drop: true, After: true})
	b.hideEvents()
	b.during(func() { b.await("its answer is lost", b.unknown(id)) })
	b.advance(eventPatience)
	if status := b.try(id); status != "needs_review" {
		t.Errorf("it is %s", status)
	}
	if n := len(b.world.Ledger(b.account)); n != 1 {
		t.Errorf("%d charges were executed", n)
	}
}

// Money that our own charge brought is counted as ours though its event comes late: it is not
// guessed before.
func TestLatePaymentIsOurs(t *testing.T) {
	t.Parallel()
	b, id := setupCharge(t)
	b.turnCard("new_card", "")
	b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/invoices/", Drop: true, After: true})
	b.hideEvents()
	b.during(func() { b.await("its answer is lost", b.unknown(id)) })
	b.refresh()
	b.during(func() {
		b.await("it is to be counted, and is not", func() bool {
			return b.Count("SELECT count(*) FROM scheduled_tasks WHERE params ->> 'do' = 'account' AND fence > 0 AND status = 'pending' AND run_at > phantom_now()")+
				b.Count("SELECT count(*) FROM recoveries") > 0
		})
		if n := b.Count("SELECT count(*) FROM recoveries"); n != 0 {
			t.Errorf("%s is guessed", b.Text("SELECT cause FROM recoveries"))
		}
		b.world.Mend()
		b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE status = 'pending' AND kind IN ('invoice_pay', 'hunt')")
		b.await("it is counted", func() bool { return b.Count("SELECT count(*) FROM recoveries") == 1 })
	})
	if cause := b.Text("SELECT cause FROM recoveries"); cause != "charge" {
		t.Errorf("it is counted as %s", cause)
	}
}

// turnCard gives the only ghost's subscription a turn.
func (b *bench) turnCard(do, status string) {
	b.t.Helper()
	if _, err := b.world.Change(sandbox.Change{Account: b.account, Do: do, Status: status, ID: b.Text("SELECT stripe_subscription_id FROM ghost_targets")}); err != nil {
		b.t.Fatal(err)
	}
}

// What is read slowly is read again: an invoice that is written off after it was read, and before
// the request would leave, is not charged.
func TestSlowLooksAreRepeated(t *testing.T) {
	t.Parallel()
	b, id := setupCharge(t)
	var ahead atomic.Int64
	b.s.config.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	invoice := b.Text("SELECT stripe_invoice_id FROM ghost_targets")
	slow := func(path string) {
		b.world.Fail(sandbox.Fault{Method: http.MethodGet, Path: path, After: true, Hold: func() {
			ahead.Add(int64(gate.Freshness))
			if _, err := b.world.Change(sandbox.Change{Account: b.account, Do: "mark_uncollectible", ID: invoice}); err != nil {
				t.Log(err)
			}
		}})
	}
	slow("/v1/invoices/") // the last thing that is read
	b.try(id)
	if n := len(b.world.Ledger(b.account)); n != 0 {
		t.Errorf("%d requests left after the invoice was written off", n)
	}
	if got := b.Text("SELECT coalesce(code, '') FROM attempts WHERE task_id = $1", id); got != string(gate.WrittenOff) {
		t.Errorf("the attempt ended as %q", got)
	}
}
