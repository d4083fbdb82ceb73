package recovery

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/billing"
	"phantom/gate"
	"phantom/playbook"
	"phantom/sandbox"
)

// setupStep is a world with one hunt whose window is over and whose final step, the subscription's
// cancelation, is due.
func setupStep(t *testing.T) *bench {
	t.Helper()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.audit()
	b.hunted(func(p *playbook.Playbook) { p.MaxAttempts, p.FinalStep, p.WindowDays = 0, playbook.FinalCancel, 1 })
	b.Exec("UPDATE hunts SET began_at = began_at - interval '2 days'")
	b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE kind = 'hunt'")
	for _, do := range []string{"begin", "end"} {
		if err := b.queue().RunOne(t.Context(), b.merchant, b.text2id("SELECT id::text FROM scheduled_tasks WHERE params ->> 'do' = '"+do+"'")); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b *bench) canceled() (n int) {
	for _, e := range b.world.Ledger(b.account) {
		if e.Method == http.MethodDelete && strings.HasPrefix(e.Path, "/v1/subscriptions/") && e.Status == http.StatusOK {
			n++
		}
	}
	return n
}

// A final step whose first request was lost on its way is looked at again before it leaves once
// more: who has paid since, or disputes, keeps their subscription.
func TestFinalStepIsLookedAtBeforeItLeavesAgain(t *testing.T) {
	t.Parallel()
	for _, do := range []string{"pay_out_of_band", "dispute", ""} {
		b := setupStep(t)
		c := sandbox.Change{Account: b.account, Do: do}
		if do == "pay_out_of_band" {
			c.ID = b.Text("SELECT stripe_invoice_id FROM ghost_targets")
		}
		b.world.Fail(sandbox.Fault{Method: http.MethodDelete, Path: "/v1/subscriptions/", Drop: true, Hold: func() {
			if _, err := b.world.Change(c); err != nil && do != "" {
				t.Error(err)
			}
		}})
		id := b.planned(gate.KindCancel)
		b.during(func() {
			b.await("it is looked at again", func() bool {
				return b.Count("SELECT count(*) FROM scheduled_tasks WHERE id = $1 AND (fence > 1 AND status = 'pending' AND run_at > phantom_now() OR finished_at IS NOT NULL)", id) == 1
			})
		})
		if n := b.canceled(); (n == 0) != (do != "") {
			t.Errorf("after %q the subscription was canceled %d times", do, n)
		}
	}
}

// A final step waits for Smart Retries, and leaves those alone who dispute a charge.
func TestFinalStepWaitsAndSpares(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1})
	b.audit()
	b.hunted(func(p *playbook.Playbook) { p.MaxAttempts, p.FinalStep, p.WindowDays = 0, playbook.FinalCancel, 1 })
	if _, err := b.world.Change(sandbox.Change{Account: b.account, Do: "dispute"}); err != nil {
		t.Fatal(err)
	}
	b.Exec("UPDATE hunts SET began_at = began_at - interval '2 days'")
	b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE kind = 'hunt' AND params ->> 'do' = 'end'")
	b.during(func() {
		b.await("all that is due is done", func() bool {
			return b.Count("SELECT count(*) FROM scheduled_tasks WHERE status = 'running' OR status = 'pending' AND run_at <= phantom_now()") == 0
		})
	})
	waiting := b.Count("SELECT count(*) FROM attempts WHERE action = $1 AND result IS NULL AND reason LIKE '%Smart Retries tries first'", gate.KindCancel)
	if waiting == 0 || b.canceled() == 0 {
		t.Errorf("%d wait for Smart Retries, %d subscriptions were canceled", waiting, b.canceled())
	}
	for _, e := range b.world.Ledger(b.account) {
		var o struct {
			Next *int64 `json:"next_payment_attempt"`
		}
		reader, err := b.connect.Reader(t.Context(), b.merchant)
		if err != nil {
			t.Fatal(err)
		}
		invoice := b.Text("SELECT stripe_invoice_id FROM ghost_targets WHERE stripe_subscription_id = $1", e.Object)
		if err := billing.GetJSON(t.Context(), reader, "/v1/invoices/"+invoice, nil, &o); err != nil {
			t.Fatal(err)
		}
		if o.Next != nil && time.Unix(*o.Next, 0).After(time.Now()) {
			t.Errorf("%s was canceled before Smart Retries had ended", e.Object)
		}
	}
}

// A hunt says of its final step what became of it.
func TestRefusedFinalStepIsToldAsThat(t *testing.T) {
	t.Parallel()
	b := setupStep(t)
	b.world.Fail(sandbox.Fault{Method: http.MethodDelete, Path: "/v1/subscriptions/", Status: http.StatusBadRequest})
	_ = b.queue().RunOne(t.Context(), b.merchant, b.planned(gate.KindCancel))
	if why := b.Text("SELECT state || ': ' || ended_reason FROM hunts"); why != "exhausted: the window is over; its final step was not taken: Stripe refused the request" {
		t.Errorf("the hunt is %s", why)
	}
}

// A final step that is due while a bank debit begins is taken later, if the debit bounces: the hunt
// does not stay as it is for ever.
func TestFinalStepComesBackAfterADebit(t *testing.T) {
	t.Parallel()
	b := setupStep(t)
	b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() + interval '1 hour' WHERE kind = $1", gate.KindCancel)
	b.Exec("UPDATE ghost_targets SET status = 'closed', closed_reason = 'payment_under_way', closed_at = phantom_now()")
	if err := b.s.GhostsChanged(t.Context(), b.pool, b.merchant, []uuid.UUID{b.text2id("SELECT id::text FROM ghost_targets")}); err != nil {
		t.Fatal(err)
	}
	if n := b.Count("SELECT count(*) FROM scheduled_tasks WHERE params ->> 'do' = 'end' AND status = 'pending'"); n != 1 {
		t.Errorf("%d ends are planned", n)
	}
	b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE params ->> 'do' = 'end' AND status = 'pending'")
	b.during(func() {
		b.await("the hunt waits for the bank", func() bool {
			return b.Count("SELECT count(*) FROM scheduled_tasks WHERE params ->> 'do' = 'end' AND status = 'pending' AND run_at > phantom_now() + interval '20 hours'") == 1
		})
	})
	if state := b.Text("SELECT state FROM hunts"); state != "active" || b.canceled() != 0 {
		t.Errorf("the hunt is %s, %d subscriptions were canceled", state, b.canceled())
	}
	// it has bounced
	b.Exec("UPDATE ghost_targets SET status = 'open', closed_reason = NULL, closed_at = NULL")
	b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE params ->> 'do' = 'end' AND status = 'pending'")
	b.during(func() {
		b.await("the final step is planned again", func() bool {
			return b.Count("SELECT count(*) FROM attempts WHERE action = $1", gate.KindCancel) == 2
		})
	})
}

// A charge that has waited until its hunt's window was over is not sent.
func TestNoChargeBehindTheWindow(t *testing.T) {
	t.Parallel()
	b, id := setupCharge(t)
	b.Exec("UPDATE hunts SET began_at = began_at - interval '60 days'")
	_ = b.queue().RunOne(t.Context(), b.merchant, id)
	if n := len(b.world.Ledger(b.account)); n != 0 {
		t.Errorf("%d charges were executed", n)
	}
	if result := b.Text("SELECT coalesce(result, 'none') FROM attempts WHERE task_id = $1", id); result != "not_sent" {
		t.Errorf("its result is %s", result)
	}
}

// One card of several customers is charged once a day, and all its attempts count against its
// budget, also where several charges are due at one moment.
func TestOneCardOfSeveralCustomers(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 8})
	b.audit()
	for _, subscription := range strings.Fields(b.Text("SELECT string_agg(stripe_subscription_id, ' ') FROM ghost_targets")) {
		for _, c := range []sandbox.Change{{Do: "new_card", Status: "declines"}, {Do: "same_card"}} {
			c.Account, c.ID = b.account, subscription
			if _, err := b.world.Change(c); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.hunted(nil)
	b.during(func() {
		b.await("one is charged and the others wait", func() bool {
			return b.Count("SELECT count(*) FROM scheduled_tasks WHERE status = 'running' OR status = 'pending' AND run_at <= phantom_now()") == 0 &&
				b.Count("SELECT count(*) FROM attempts WHERE result IS NOT NULL") > 0
		})
	})
	if n := len(b.world.Ledger(b.account)); n != 1 {
		t.Errorf("%d charges with one card on one day", n)
	}
}

// Anyone who stops a hunt while a charge waits for its row is heard, though they write nothing into
// that row.
func TestMarkHearsAStopThatItWaitedFor(t *testing.T) {
	t.Parallel()
	b, id := setupCharge(t)
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	for _, statement := range []string{"SELECT 1 FROM hunts FOR NO KEY UPDATE", "INSERT INTO halts (scope) VALUES ('00000000-0000-0000-0000-000000000000')"} {
		if _, err := tx.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- b.queue().RunOne(t.Context(), b.merchant, id) }()
	b.await("the charge waits", func() bool {
		return b.blocked()
	})
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.await("it is put off", func() bool {
		return b.Count("SELECT count(*) FROM scheduled_tasks WHERE id = $1 AND status = 'pending' AND first_sent_at IS NULL AND run_at > phantom_now()", id) == 1
	})
	if n := len(b.world.Ledger(b.account)); n != 0 {
		t.Errorf("%d charges left after the halt", n)
	}
}

// What other customers have tried with a card uses up its budget, which is 15, no matter who saw
// it: the customer's own attempt is counted once. The attempts of others that were paid or blocked
// count for nothing.
func TestOthersUseUpTheCardsBudget(t *testing.T) {
	t.Parallel()
	for others, want := range map[int]string{13: "sent", 14: "put off: " + gate.CardBudgetSpent.Words()} {
		b, id := setupCharge(t)
		b.Exec(`INSERT INTO card_attempts (merchant_id, charge, card, at, reached)
			SELECT g.merchant_id, sha256(n::text::bytea), g.card, phantom_now() - n * interval '36 hours', true FROM ghost_targets g, generate_series(1, $1) n`, others)
		b.Exec(`INSERT INTO card_attempts (merchant_id, charge, card, at, reached)
			SELECT g.merchant_id, sha256((100 + n)::text::bytea), g.card, phantom_now() - n * interval '36 hours', false FROM ghost_targets g, generate_series(1, 9) n`)
		b.during(func() {
			b.await("it is sent, or not", func() bool {
				return b.Count("SELECT count(*) FROM scheduled_tasks WHERE id = $1 AND (finished_at IS NOT NULL OR fence > 0 AND status = 'pending' AND run_at > phantom_now())", id) == 1
			})
		})
		got := b.Text("SELECT CASE WHEN sent_at IS NOT NULL THEN 'sent' WHEN result = 'not_sent' THEN 'not sent' ELSE reason END FROM attempts WHERE task_id = $1", id)
		if got != want || (len(b.world.Ledger(b.account)) == 1) != (want == "sent") {
			t.Errorf("beside %d attempts of others: %s, want %s", others, got, want)
		}
	}
}

// Who pays keeps their subscription, though an older invoice is open: the newest one is paid. A
// playbook may say otherwise by a field of its own.
func TestFinalStepSparesWhoPays(t *testing.T) {
	t.Parallel()
	for final, kind := range gate.FinalKinds {
		for _, anyway := range []bool{false, true} {
			if final == playbook.FinalUncollectible {
				continue // it touches no subscription
			}
			t.Run(fmt.Sprint(final, " anyway: ", anyway), func(t *testing.T) {
				t.Parallel()
				b := setup(t, sandbox.Config{Merchants: 1})
				b.audit()
				b.Exec("UPDATE ghost_targets SET status = 'closed', closed_reason = 'no_access', closed_at = phantom_now() WHERE NOT hidden")
				b.hunted(func(p *playbook.Playbook) {
					p.MaxAttempts, p.FinalStep, p.WindowDays, p.FinalStepIfPaying = 0, final, 1, anyway
				})
				hidden := b.Count("SELECT count(*) FROM hunts")
				if hidden == 0 {
					t.Fatal("nobody hides a debt behind a paid invoice")
				}
				b.Exec("UPDATE hunts SET began_at = began_at - interval '2 days'")
				b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE kind = 'hunt' AND params ->> 'do' = 'end'")
				b.during(b.calm)
				taken := 0
				for _, e := range b.world.Ledger(b.account) {
					if strings.HasPrefix(e.Path, "/v1/subscriptions/") {
						taken++
					}
				}
				if anyway != (taken > 0) {
					t.Errorf("%d of %d hidden ghosts were met by %s", taken, hidden, kind)
				}
				if n := b.Count("SELECT count(*) FROM attempts WHERE action = $1 AND result = 'not_sent' AND code = $2", kind, gate.Paying); (n > 0) == anyway {
					t.Errorf("%d were spared because they pay", n)
				}
			})
		}
	}
}

// A final step on a customer who is left alone meanwhile is not taken, and the hunt ends: nothing
// would ever let it leave.
func TestFinalStepOnWhoIsLeftAlone(t *testing.T) {
	t.Parallel()
	for _, set := range []string{"kind = 'written_off'", "ignored = true", "resubscribed = true", "leaving = true"} {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			b := setupStep(t)
			b.Exec("UPDATE ghost_targets SET " + set)
			if status := b.try(b.planned(gate.KindCancel)); status != "canceled" || b.left() != 0 {
				t.Errorf("it is %s, and %d requests have left", status, b.left())
			}
			if state := b.Text("SELECT state FROM hunts"); state != "exhausted" {
				t.Errorf("the hunt is %s", state)
			}
		})
	}
}
