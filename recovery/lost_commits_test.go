package recovery

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"phantom/billing"
	"phantom/connect"
	"phantom/gate"
	"phantom/ghost"
	"phantom/message"
	"phantom/playbook"
	"phantom/sandbox"
	"phantom/task"
)

// A take-over whose commits are lost (backup, failover) bears our own mark at Stripe; it is ours,
// and given back.
func TestLostTakeOverIsGivenBack(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.movable()
	b.audit()
	b.post("/v1/invoices/"+b.Text("SELECT stripe_invoice_id FROM ghost_targets"), url.Values{"auto_advance": {"true"}})
	b.hunted(func(p *playbook.Playbook) { p.TakeOver = true })
	b.try(b.ids("SELECT id FROM scheduled_tasks WHERE params ->> 'do' = 'begin'")[0])
	id := b.planned(gate.KindHold)
	b.try(id)
	t.Log(b.executed())
	if got := b.Text("SELECT result || coalesce(' ' || code, '') FROM attempts WHERE task_id = $1", id); got != "done" {
		t.Fatalf("it is %s", got)
	}
	b.Exec("DELETE FROM scheduled_tasks WHERE kind = 'invoice_pay'")
	b.Exec("DELETE FROM attempts WHERE task_id <> $1", id)
	b.Exec("UPDATE attempts SET result = NULL, sent_at = NULL, code = NULL")
	b.Exec("UPDATE scheduled_tasks SET status = 'pending', attempts = 0, first_sent_at = NULL, finished_at = NULL, outcome = NULL, run_at = phantom_now() WHERE id = $1", id)
	b.try(id)
	t.Log(b.Text("SELECT result || coalesce(' ' || code, '') FROM attempts WHERE task_id = $1", id))
	if err := b.s.Stop(t.Context(), b.merchant, b.text2id("SELECT id::text FROM hunts")); err != nil {
		t.Fatal(err)
	}
	if n := b.Count("SELECT count(*) FROM scheduled_tasks WHERE kind = 'invoice_release'"); n != 1 {
		t.Errorf("our own take-over is booked as another's, and %d releases are planned", n)
	}
}

// A charge of ours that paid, whose commits are lost, is booked as ours though the subscription is
// read before its task runs.
func TestLostPaymentIsOurs(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.movable()
	b.audit()
	b.hunted(nil)
	b.try(b.ids("SELECT id FROM scheduled_tasks WHERE params ->> 'do' = 'begin'")[0])
	id := b.planned(gate.KindPay)
	b.turnCard("new_card", "")
	b.try(id)
	if got := b.Text("SELECT result FROM attempts WHERE task_id = $1", id); got != "paid" {
		t.Fatalf("it is %s", got)
	}
	b.forget(id)
	b.refresh() // a webhook, or the audit after a restore
	b.during(func() {
		b.await("it is counted", func() bool { return b.Count("SELECT count(*) FROM recoveries") == 1 })
		b.calm()
	})
	got := b.Text("SELECT a.result || ' ' || r.cause || ' ' || h.charges FROM attempts a, recoveries r, hunts h WHERE a.task_id = $1", id)
	if got != "paid charge 1" {
		t.Errorf("an executed charge that has paid is booked as %q", got)
	}
}

// What the merchant has paused themselves after our pause was gone is not lifted.
func TestMerchantsLaterPauseIsNotLifted(t *testing.T) {
	t.Parallel()
	b := paused(t, true)
	subscription := b.Text("SELECT stripe_subscription_id FROM ghost_targets")
	b.post("/v1/subscriptions/"+subscription, url.Values{"pause_collection": {""}, "metadata[phantom_task]": {""}})
	b.post("/v1/subscriptions/"+subscription, url.Values{"pause_collection[behavior]": {"void"}})
	n := b.executed()
	b.turn(sandbox.Change{Do: "pay"})
	b.refresh()
	b.during(func() {
		b.await("what was paid is counted", func() bool { return b.Count("SELECT count(*) FROM recoveries") == 1 })
		b.calm()
	})
	for _, e := range b.world.Ledger(b.account)[n:] {
		if strings.HasPrefix(e.Path, "/v1/subscriptions/") && strings.HasPrefix(e.Key, "task_") {
			t.Errorf("%s %s with %s: the merchant's own pause is lifted", e.Method, e.Path, e.Key)
		}
	}
}

// A limit that a merchant lowers as a brake, and raises again, ends nothing for good.
func TestBrakeOfLimitsIsLifted(t *testing.T) {
	t.Parallel()
	for name, brake := range map[string]func(*playbook.Playbook){
		"max_attempts 0": func(p *playbook.Playbook) { p.MaxAttempts = 0 },
		"card_budget 0":  func(p *playbook.Playbook) { p.CardBudget = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, ids := setupCharges(t, 1, nil)
			b.recoverWith(brake)
			t.Log(b.try(ids[0]))
			b.recoverWith(nil)
			b.refresh()
			b.during(b.calm)
			if n := b.Count("SELECT count(*) FROM hunts WHERE state = 'active' AND charges_over IS NOT NULL"); n != 0 {
				t.Errorf("the hunt's charges are over for good: %s", b.Text("SELECT charges_over FROM hunts"))
			}
		})
	}
	t.Run("daily_cap", func(t *testing.T) { // planned while the cap is low
		t.Parallel()
		b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
		b.movable()
		b.audit()
		b.hunted(nil)
		b.recoverWith(func(p *playbook.Playbook) {
			p.DailyCap = map[string]int64{b.Text("SELECT currency FROM ghost_targets"): 1}
		})
		b.try(b.ids("SELECT id FROM scheduled_tasks WHERE params ->> 'do' = 'begin'")[0])
		b.recoverWith(nil)
		b.refresh()
		if n := b.Count("SELECT count(*) FROM hunts WHERE state = 'active' AND charges_over IS NOT NULL"); n != 0 {
			t.Errorf("the hunt's charges are over for good: %s", b.Text("SELECT charges_over FROM hunts"))
		}
	})
}

// More workers than a fraction of the account's pace never look in time, and nothing leaves at all.
func TestPaceStarvesFreshness(t *testing.T) {
	const charges = 60
	t.Parallel()
	for _, workers := range []int{48} {
		t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) {
			b, _ := setupCharges(t, charges, nil)
			log := slog.New(slog.NewTextHandler(b.log, nil))
			account := connect.New(connect.Config{
				SecretKey: sandbox.SecretKey, ClientID: sandbox.ClientID, APIBase: b.url, ConnectBase: b.url,
				// app/config.go's default in test mode
				RedirectURI: "http://localhost:8080/api/auth/callback", Log: log, RateLimit: 20,
			}, b.pool)
			s := New(b.pool, account, message.New(b.pool, account, message.Config{Log: log}), atOnce{}, Config{Log: log, Refresh: ghost.RefreshIn})
			before := b.executed()
			due := b.Count("SELECT count(*) FROM scheduled_tasks WHERE kind = 'invoice_pay' AND status = 'pending'")
			b.Exec("UPDATE scheduled_tasks SET run_at = phantom_now() WHERE kind = 'invoice_pay' AND status = 'pending'")
			queue, err := task.NewQueue(b.pool, task.Config{ListenURL: b.pool.Config().ConnString(), Handlers: map[string]task.Handler{gate.KindPay: s.HandleMutation}, Log: log, Workers: workers, Poll: 100 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			reads := len(b.world.Requests())
			go func() {
				for ctx.Err() == nil && b.executed()-before < due {
					time.Sleep(50 * time.Millisecond)
				}
				cancel()
			}()
			queue.Run(ctx)
			t.Logf("%d of %d left, %d reads", b.executed()-before, due, len(b.world.Requests())-reads)
			if n := b.executed() - before; n < due/2 {
				t.Errorf("%d of %d due charges left in a minute, after %d requests; 60 s at 20/s are worth %d charges", n, due, len(b.world.Requests())-reads, 60*20/3)
			}
		})
	}
}

// What the first hunt of a ghost gives back late is not what its second one has taken over.
func TestReleaseOfFirstHuntUndoesSecond(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.movable()
	b.audit()
	b.post("/v1/invoices/"+b.Text("SELECT stripe_invoice_id FROM ghost_targets"), url.Values{"auto_advance": {"true"}})
	b.hunted(func(p *playbook.Playbook) { p.TakeOver = true })
	b.try(b.ids("SELECT id FROM scheduled_tasks WHERE params ->> 'do' = 'begin'")[0])
	b.try(b.planned(gate.KindHold))
	if err := b.s.Stop(t.Context(), b.merchant, b.text2id("SELECT id::text FROM hunts")); err != nil {
		t.Fatal(err)
	}
	t.Log(b.Text("SELECT string_agg(action || ' ' || coalesce(result, '-') || ' ' || coalesce(code, ''), ', ' ORDER BY task_id) FROM attempts"))
	release := b.planned(gate.KindRelease) // put off: Stripe is slow, or a halt
	if _, err := b.startAll(); err != nil {
		t.Fatal(err)
	}
	b.try(b.ids("SELECT id FROM scheduled_tasks WHERE params ->> 'do' = 'begin' AND status = 'pending'")[0])
	b.try(b.planned(gate.KindHold))
	b.try(release)
	reader, err := b.connect.Reader(t.Context(), b.merchant)
	if err != nil {
		t.Fatal(err)
	}
	o, err := billing.ReadInvoice(t.Context(), reader, b.Text("SELECT stripe_invoice_id FROM ghost_targets"))
	if err != nil {
		t.Fatal(err)
	}
	if o.AutoAdvance {
		t.Errorf("the active hunt holds the invoice (%s), and Smart Retries has it back", b.Text("SELECT string_agg(action || ' ' || coalesce(result, '-'), ', ' ORDER BY task_id) FROM attempts"))
	}
}

// Another's charge of before a long wait, whose event Stripe has dropped, does not leave every
// charge to a person.
func TestLongWaitEndsInReview(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.movable()
	b.audit()
	b.hunted(func(p *playbook.Playbook) { p.WindowDays = 60 })
	b.try(b.ids("SELECT id FROM scheduled_tasks WHERE params ->> 'do' = 'begin'")[0])
	id := b.planned(gate.KindPay)
	b.turnCard("new_card", "declines")
	b.declined("/v1/invoices/" + b.Text("SELECT stripe_invoice_id FROM ghost_targets") + "/pay")
	if _, err := b.s.Halt(t.Context(), b.merchant); err != nil {
		t.Fatal(err)
	}
	b.try(id)
	b.advance(32 * 24 * time.Hour)
	b.hideEvents() // Stripe keeps them for 30 days
	if _, err := b.s.Unhalt(t.Context(), b.merchant); err != nil {
		t.Fatal(err)
	}
	if status := b.try(id); status == "needs_review" {
		t.Errorf("a person is asked: %s", b.Text("SELECT last_error FROM scheduled_tasks WHERE id = $1", id))
	}
}

// What was taken over before the upgrade, without a mark, is given back.
func TestTakeOverOfTheOldVersionIsGivenBack(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.movable()
	b.audit()
	b.post("/v1/invoices/"+b.Text("SELECT stripe_invoice_id FROM ghost_targets"), url.Values{"auto_advance": {"true"}})
	b.hunted(func(p *playbook.Playbook) { p.TakeOver = true })
	b.try(b.ids("SELECT id FROM scheduled_tasks WHERE params ->> 'do' = 'begin'")[0])
	id := b.planned(gate.KindHold)
	// as it was frozen once
	b.Exec(`UPDATE scheduled_tasks SET params = jsonb_set(params, '{request,body}', '"auto_advance=false"') WHERE id = $1`, id)
	b.Exec("UPDATE attempts SET marked = false WHERE task_id = $1", id)
	t.Log(b.try(id), b.executed(), b.Text("SELECT coalesce(last_error, '') FROM scheduled_tasks WHERE id = $1", id))
	if err := b.s.Stop(t.Context(), b.merchant, b.text2id("SELECT id::text FROM hunts")); err != nil {
		t.Fatal(err)
	}
	b.during(b.calm)
	reader, err := b.connect.Reader(t.Context(), b.merchant)
	if err != nil {
		t.Fatal(err)
	}
	o, err := billing.ReadInvoice(t.Context(), reader, b.Text("SELECT stripe_invoice_id FROM ghost_targets"))
	if err != nil {
		t.Fatal(err)
	}
	if !o.AutoAdvance {
		t.Errorf("nobody collects %s any more: %s", o.ID, b.Text("SELECT string_agg(action || ' ' || coalesce(result, '-') || ' ' || coalesce(code, ''), ', ' ORDER BY task_id) FROM attempts"))
	}
}

// A decline of the old card says nothing of the new one that Stripe will charge.
func TestNewCardOfANewHuntIsCharged(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.movable()
	b.audit()
	b.Exec("UPDATE ghost_targets SET decline_class = 'customer', decline_code = 'expired_card'")
	b.turnCard("new_card", "")
	b.hunted(nil)
	b.try(b.ids("SELECT id FROM scheduled_tasks WHERE params ->> 'do' = 'begin'")[0])
	if n := b.Count("SELECT count(*) FROM scheduled_tasks WHERE kind = 'invoice_pay'"); n != 1 {
		t.Errorf("no charge of the new card is planned: %s", b.Text("SELECT charges_over FROM hunts"))
	}
}

// A request of unknown outcome that the cap forbids to repeat is not asked about every minute for
// 20 hours.
func TestForbiddenRepeatSpins(t *testing.T) {
	t.Parallel()
	b, ids := setupCharges(t, 2, nil)
	b.lose(ids[0])
	b.Exec("UPDATE attempts SET result = 'paid', sent_at = phantom_now() - interval '1 hour', currency = (SELECT currency FROM attempts WHERE task_id = $2) WHERE task_id = $1", ids[1], ids[0])
	b.sentAgo(ids[0], 10*time.Hour)
	most := int64(b.Count("SELECT amount FROM attempts WHERE task_id = $1", ids[0]))
	b.recoverWith(func(p *playbook.Playbook) {
		p.DailyCap = map[string]int64{b.Text("SELECT currency FROM attempts WHERE task_id = $1", ids[0]): most}
	})
	if status := b.try(ids[0]); status != "failed" {
		// nothing was executed, and after ten hours that is sure
		t.Errorf("10 hours old it is %s, and asked about again in %.0f seconds", status, b.hoursOff(ids[0])*3600)
	}
}

// declined is a try of the merchant's own at an invoice.
func (b *bench) declined(path string) {
	b.t.Helper()
	merchant, err := b.queries.MerchantGet(b.t.Context(), b.merchant)
	if err != nil {
		b.t.Fatal(err)
	}
	token, err := merchant.AccessToken.Reveal("merchants.access_token:" + b.account)
	if err != nil {
		b.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.url+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	response.Body.Close()
	b.t.Log(response.Status)
}
