package recovery

import (
	"net/http"
	"testing"
	"time"

	"phantom/billing"
	"phantom/gate"
	"phantom/playbook"
	"phantom/sandbox"
	"phantom/task"
)

// What may pass ends nothing: the charge waits, and the first news after it has passed lets it
// leave.
func TestPassingConditionsEndNothing(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		begin, end func(b *bench)
		Code       gate.Code
	}{
		"a pause that is lifted": {
			func(b *bench) { b.turn(sandbox.Change{Do: "pause_collection", ID: b.subscription()}) },
			func(b *bench) { b.turn(sandbox.Change{Do: "resume_collection", ID: b.subscription()}) },
			gate.Paused,
		},
		"a dispute that is won": {
			func(b *bench) { b.turn(sandbox.Change{Do: "dispute", ID: b.paidCharge()}) },
			func(b *bench) {
				b.turn(sandbox.Change{Do: "close_dispute", ID: b.disputed(), Status: "won"})
			},
			gate.InDispute,
		},
		"a dispute in a status that nobody knows": {
			func(b *bench) {
				b.turn(sandbox.Change{Do: "dispute", ID: b.paidCharge(), Status: "needs_arbitration"})
			},
			func(b *bench) {
				b.turn(sandbox.Change{Do: "close_dispute", ID: b.disputed(), Status: "warning_closed"})
			},
			gate.InDispute,
		},
		"a bank that wants to see the customer, and no longer does": {
			func(b *bench) { b.turn(sandbox.Change{Do: "require_action"}) },
			func(b *bench) { b.turn(sandbox.Change{Do: "action_gone"}) },
			gate.MustConfirm,
		},
		"a card that is gone, and another one": {
			func(b *bench) { b.turn(sandbox.Change{Do: "detach_card", ID: b.subscription()}) },
			func(b *bench) { b.turn(sandbox.Change{Do: "new_card", ID: b.subscription()}) },
			gate.NoMethod,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, ids := setupCharges(t, 1, nil)
			test.begin(b)
			if status := b.try(ids[0]); status != "pending" || b.left() != 0 {
				t.Fatalf("it is %s, and %d requests have left", status, b.left())
			}
			if got := b.Text("SELECT coalesce(code, '') FROM attempts"); got != string(test.Code) {
				t.Errorf("it waits for %q, and not for %q", got, test.Code)
			}
			if hours := b.hoursOff(ids[0]); hours < 24 {
				t.Errorf("it is looked at again in %.1f hours, without any news", hours)
			}
			if n := b.Count(`SELECT count(*) FROM hunts
				WHERE state = 'active' AND charges_over IS NOT NULL`); n != 1 {
				t.Error("the hunt does not say why nothing is charged")
			}
			test.end(b)
			b.refresh()
			if b.Count("SELECT count(*) FROM ghost_targets WHERE status = 'open'") != 1 {
				t.Fatal(b.Text("SELECT closed_reason FROM ghost_targets"))
			}
			id := b.planned(gate.KindPay)
			if hours := b.hoursOff(id); hours > 0 {
				t.Errorf("after the news it still waits %.1f hours", hours)
			}
			b.try(id)
			if b.executed() != 1 {
				t.Errorf("%d charges: %s", b.executed(), b.Text("SELECT string_agg(note, E'\n') FROM hunt_notes"))
			}
		})
	}
}

// paidCharge is a charge that the ghost's customer has paid.
func (b *bench) paidCharge() string {
	b.t.Helper()
	return b.charges(func(c billing.Charge) bool { return c.Status == "succeeded" })[0].ID
}

// disputed is the dispute about a charge of the ghost's customer.
func (b *bench) disputed() string {
	b.t.Helper()
	reader, err := b.connect.Reader(b.t.Context(), b.merchant)
	if err != nil {
		b.t.Fatal(err)
	}
	var page struct{ Data []struct{ ID string } }
	query := map[string][]string{"charge": {b.charges(func(c billing.Charge) bool { return c.Disputed })[0].ID}}
	if err := billing.GetJSON(b.t.Context(), reader, "/v1/disputes", query, &page); err != nil {
		b.t.Fatal(err)
	}
	return page.Data[0].ID
}

// charges are those of the ghost's customer that fit, the newest first.
func (b *bench) charges(fits func(billing.Charge) bool) (list []billing.Charge) {
	b.t.Helper()
	reader, err := b.connect.Reader(b.t.Context(), b.merchant)
	if err != nil {
		b.t.Fatal(err)
	}
	all, err := billing.ReadCharges(b.t.Context(), reader, b.Text("SELECT stripe_customer_id FROM ghost_targets"), b.now())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range all {
		if fits(c) {
			list = append(list, c)
		}
	}
	if len(list) == 0 {
		b.t.Fatal("no charge fits")
	}
	return list
}

// An open dispute counts, however many charges have come since: nobody is charged or written to
// meanwhile.
func TestDisputeBehindTheFirstPage(t *testing.T) {
	t.Parallel()
	b, ids := setupCharges(t, 1, nil)
	b.turn(sandbox.Change{Do: "dispute", ID: b.paidCharge()})
	b.turn(sandbox.Change{Do: "charges", ID: b.subscription(), Amount: 250})
	if status := b.try(ids[0]); status != "pending" || b.left() != 0 {
		t.Errorf("it is %s, and %d requests have left", status, b.left())
	}
	if got := b.Text("SELECT coalesce(code, '') FROM attempts"); got != string(gate.InDispute) {
		t.Errorf("it waits for %q", got)
	}
	if got := b.write(playbook.Email, "reminder"); got != "skipped: the customer disputes a charge" {
		t.Errorf("a message is %s", got)
	}
}

// A refusal ends nothing either: the next request is a new one, after an hour, and each further one
// later.
func TestRefusedChargesAreTriedAgain(t *testing.T) {
	t.Parallel()
	b, ids := setupCharges(t, 1, nil)
	b.turn(sandbox.Change{Do: "refuse", Amount: 2})
	var next []float64
	id := ids[0]
	for range 2 {
		if status := b.try(id); status != "failed" {
			t.Fatalf("it is %s", status)
		}
		b.refresh() // the news of our own request starts nothing
		id = b.planned(gate.KindPay)
		next = append(next, b.hoursOff(id))
	}
	if next[0] < 0.9 || next[0] > 1.1 || next[1] < 3.9 || next[1] > 4.1 {
		t.Errorf("the next requests come after %.1f hours", next)
	}
	if b.left() != 2 {
		t.Errorf("%d requests have left", b.left())
	}
	b.later(5 * time.Hour)
	b.try(id)
	if got := b.Text("SELECT result FROM attempts ORDER BY number DESC LIMIT 1"); got == "refused" || b.left() != 3 {
		t.Errorf("%s after %d requests: %s", got, b.left(), b.Text("SELECT string_agg(note, E'\n') FROM hunt_notes"))
	}
}

// A debit that is refused for good, a dead card, a customer who must act: another payment method is
// charged at once, and once.
func TestAnotherMethodIsCharged(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]string{
		"a dead card":             "stolen_card",
		"a customer who must act": "expired_card",
		"a lack of money":         "insufficient_funds",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, ids := setupCharges(t, 1, nil)
			b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/invoices/", Status: http.StatusPaymentRequired,
				Body: `{"error":{"type":"card_error","code":"card_declined","decline_code":"` + code + `","message":"x"}}`})
			if status := b.try(ids[0]); status != "failed" {
				t.Fatalf("it is %s", status)
			}
			hunt := b.ids("SELECT id FROM hunts")[0]
			// Without another method nothing is charged.
			if err := b.s.renew(t.Context(), b.merchant, hunt); err != nil {
				t.Fatal(err)
			}
			if hours := b.hoursOff(b.planned(gate.KindPay)); hours < 1 {
				t.Fatalf("the same card is charged again in %.1f hours", hours)
			}
			b.turn(sandbox.Change{Do: "new_card", ID: b.subscription()})
			for range 2 { // two events tell of it
				if err := b.s.renew(t.Context(), b.merchant, hunt); err != nil {
					t.Fatal(err)
				}
			}
			id := b.planned(gate.KindPay)
			if hours := b.hoursOff(id); hours > 0 {
				t.Errorf("the other card is charged in %.1f hours", hours)
			}
			b.try(id)
			if b.executed() != 1 {
				t.Errorf("%d charges: %s", b.executed(), b.Text("SELECT string_agg(note, E'\n') FROM hunt_notes"))
			}
			if err := b.s.renew(t.Context(), b.merchant, hunt); err != nil {
				t.Fatal(err)
			}
			if n := b.Count("SELECT count(*) FROM scheduled_tasks WHERE kind = $1 AND status = 'pending' AND run_at < phantom_now() + interval '1 hour'", gate.KindPay); n != 0 {
				t.Error("it is charged once more")
			}
		})
	}
}

// Another method of a ghost whose invoices may not be charged now leaves the plan as it was.
func TestAnotherMethodOfNothingToCharge(t *testing.T) {
	t.Parallel()
	b, _ := setupCharges(t, 1, nil)
	b.Exec(`UPDATE ghost_targets SET invoices = jsonb_build_array(
		jsonb_build_object('id', stripe_invoice_id, 'amount', amount, 'created', extract(epoch FROM phantom_now())::bigint - 200 * 86400),
		jsonb_build_object('id', 'in_young', 'amount', amount, 'created', extract(epoch FROM phantom_now())::bigint - 86400))`)
	b.turn(sandbox.Change{Do: "new_card", ID: b.subscription()})
	if err := b.s.renew(t.Context(), b.merchant, b.ids("SELECT id FROM hunts")[0]); err != nil {
		t.Fatal(err)
	}
	if got := b.Text("SELECT string_agg(params ->> 'object', ' ') FROM scheduled_tasks WHERE kind = $1 AND status = 'pending'", gate.KindPay); got != "in_young" {
		t.Errorf("charges of %s are planned", got)
	}
}

// While a charge is under way another method waits for what it brings.
func TestAnotherMethodWaitsForAChargeUnderWay(t *testing.T) {
	t.Parallel()
	b, ids := setupCharges(t, 1, nil)
	b.turn(sandbox.Change{Do: "new_card", ID: b.subscription()})
	b.Exec("UPDATE scheduled_tasks SET status = 'running', lease_until = now() + interval '1 hour' WHERE id = $1", ids[0])
	b.Exec(`UPDATE hunts SET invoices_over = ARRAY['\x01'::bytea]`)
	if err := b.s.renew(t.Context(), b.merchant, b.ids("SELECT id FROM hunts")[0]); err == nil {
		t.Error("it does not wait")
	}
	if status := b.status(ids[0]); status != "running" {
		t.Errorf("the charge under way is %s", status)
	}
	if n := b.Count("SELECT count(*) FROM attempts WHERE result IS NOT NULL"); n != 0 {
		t.Error("the attempt under way is told as canceled")
	}
	if n := b.Count("SELECT count(*) FROM hunts WHERE cardinality(invoices_over) = 1"); n != 1 {
		t.Error("invoices are judged again before it has ended")
	}
}

// write plans a message of the only hunt and tries to send it. It returns what became of it.
func (b *bench) write(channel, template string) string {
	b.t.Helper()
	if _, err := b.s.messages.SetResend(b.t.Context(), b.merchant, sandbox.ResendKey, "Billing <billing@example.com>"); err != nil {
		b.t.Fatal(err)
	}
	id, hunt := newID(), b.ids("SELECT id FROM hunts")[0]
	b.Exec("INSERT INTO messages (merchant_id, id, hunt_id, step, channel, template, planned_for) VALUES ($1, $2, $3, 0, $4, $5, phantom_now())",
		b.merchant, id, hunt, channel, template)
	if _, err := task.Enqueue(b.t.Context(), b.pool, task.New{
		MerchantID: b.merchant, ID: id, Kind: channel, UniqueKey: messageKey(hunt), Params: map[string]any{"hunt": hunt},
	}); err != nil {
		b.t.Fatal(err)
	}
	b.Exec(`UPDATE playbooks SET body = jsonb_set(body, '{quiet_hours}', '{"from":"00:00","to":"00:00","zone":"customer"}')`)
	b.try(id)
	return b.Text("SELECT state || coalesce(': ' || why, '') FROM messages")
}
