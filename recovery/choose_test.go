package recovery

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"phantom/billing"
	"phantom/gate"
	"phantom/playbook"
	"phantom/sandbox"
	"phantom/state"
)

// tell changes an object at the sandbox as its merchant would.
func (b *bench) tell(path string, form url.Values) {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+sandbox.SecretKey)
	request.Header.Set("Stripe-Account", b.account)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		b.t.Fatalf("%s: %s", path, response.Status)
	}
}

// A look reads what the merchant has written at Stripe since: nothing is charged, and the charge
// waits for it to pass.
func TestLookReadsWhoIsLeftAlone(t *testing.T) {
	t.Parallel()
	ignore := url.Values{"metadata[phantom]": {"ignore"}}
	for name, test := range map[string]struct {
		path string
		form url.Values
		want gate.Code
	}{
		"the customer":     {"/v1/customers/", ignore, gate.Ignored},
		"the subscription": {"/v1/subscriptions/", ignore, gate.Ignored},
		"a leaving one":    {"/v1/subscriptions/", url.Values{"cancel_at_period_end": {"true"}}, gate.Leaving},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, ids := setupCharges(t, 1, nil)
			column := "stripe_subscription_id"
			if strings.Contains(test.path, "customers") {
				column = "stripe_customer_id"
			}
			b.tell(test.path+b.Text("SELECT "+column+" FROM ghost_targets"), test.form)
			executed := b.executed()
			if status := b.try(ids[0]); status != "pending" || b.executed() != executed {
				t.Fatalf("it is %s, and %d requests were executed", status, b.executed()-executed)
			}
			if got := b.Text("SELECT code FROM attempts"); got != string(test.want) {
				t.Errorf("it waits for %q, want %q", got, test.want)
			}
			if hours := b.hoursOff(ids[0]); hours < 23 || hours > 72 {
				t.Errorf("it is put off for %.1f hours", hours)
			}
			reader, err := b.connect.Reader(t.Context(), b.merchant)
			if err != nil {
				t.Fatal(err)
			}
			o, err := billing.ReadInvoice(t.Context(), reader, b.Text("SELECT stripe_invoice_id FROM ghost_targets"))
			if err != nil {
				t.Fatal(err)
			}
			chosen := playbook.Default()
			if r := gate.MayTouch(chosen, o.Customer.Metadata, o.Subscription, playbook.Email, b.now()); r.Yes() != (test.want != gate.Ignored) {
				t.Errorf("a message: %+v", r)
			}
			chosen.WhenLeaving = playbook.LeavingStop
			if r := gate.MayTouch(chosen, o.Customer.Metadata, o.Subscription, playbook.Email, b.now()); r.Yes() {
				t.Error("a message leaves")
			}
		})
	}
}

// A message to a customer who is left alone waits, and is not given up: what is written on a
// customer may be taken back.
func TestMessagesWaitForWhoIsLeftAlone(t *testing.T) {
	t.Parallel()
	for column, set := range map[string]string{
		"ignored": "ignored = true", "resubscribed": "resubscribed = true", "leaving": "leaving = true",
	} {
		t.Run(column, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
			b.movable()
			b.audit()
			b.correspond()
			b.hunted(func(p *playbook.Playbook) {
				p.Steps, p.WhenLeaving = playbook.Default().Steps, playbook.LeavingStop
			})
			b.try(b.ids("SELECT id FROM scheduled_tasks WHERE params ->> 'do' = 'begin'")[0])
			b.Exec("UPDATE ghost_targets SET " + set)
			id := b.planned(playbook.Email)
			if status := b.try(id); status != "pending" {
				t.Fatalf("it is %s", status)
			}
			if hours := b.hoursOff(id); hours < 23 || hours > 25 {
				t.Errorf("it waits for %.1f hours", hours)
			}
			if got := b.Text("SELECT state FROM messages"); got != string(state.MessagePlanned) {
				t.Errorf("the message is %s", got)
			}
		})
	}
}

// What was written off is charged where the playbook hunts it, and only there.
func TestWrittenOffIsChargedWhereItIsHunted(t *testing.T) {
	t.Parallel()
	for _, hunted := range []bool{true, false} {
		b, ids := setupCharges(t, 1, func(_ *bench, p *playbook.Playbook) { p.WrittenOff = hunted })
		b.turn(sandbox.Change{Do: "mark_uncollectible"})
		b.Exec("UPDATE ghost_targets SET kind = 'written_off'")
		status, executed := b.try(ids[0]), b.executed()
		if (executed == 1) != hunted || (status == "pending") == hunted {
			t.Errorf("hunted %v: it is %s after %d charges", hunted, status, executed)
		}
	}
}

// A hunt plans no charge of an invoice that is too old, unless its ghost was named.
func TestPlanningSkipsOldInvoices(t *testing.T) {
	t.Parallel()
	for _, byHand := range []bool{false, true} {
		b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
		b.movable()
		b.audit()
		b.Exec(`UPDATE ghost_targets SET invoices = jsonb_build_array(
			jsonb_build_object('id', 'in_old', 'amount', 100, 'created', extract(epoch FROM phantom_now())::bigint - 200 * 86400),
			jsonb_build_object('id', stripe_invoice_id, 'amount', amount, 'created', extract(epoch FROM phantom_now())::bigint - 86400))`)
		young := b.Text("SELECT stripe_invoice_id FROM ghost_targets")
		b.recoverWith(nil)
		ghosts := b.ids("SELECT id FROM ghost_targets WHERE status = 'open'")
		want := "in_old"
		if !byHand {
			ghosts, want = nil, young
		}
		if started, err := b.start(ghosts); err != nil || started.Hunts != 1 {
			t.Fatalf("%+v, %v", started, err)
		}
		b.try(b.ids("SELECT id FROM scheduled_tasks WHERE params ->> 'do' = 'begin'")[0])
		if got := b.Text("SELECT params ->> 'object' FROM scheduled_tasks WHERE kind = $1", gate.KindPay); got != want {
			t.Errorf("by hand %v: a charge of %s is planned, want %s", byHand, got, want)
		}
		if n := b.Count("SELECT count(*) FROM hunts WHERE by_hand = $1", byHand); n != 1 {
			t.Errorf("by hand %v is not kept", byHand)
		}
		told := b.Count("SELECT count(*) FROM hunt_notes WHERE note LIKE '%older than 120 days: 1'")
		if (told == 1) == byHand {
			t.Errorf("by hand %v: it is told %d times", byHand, told)
		}
	}
}

// No hunt begins for who is left alone, neither by all nor by name; an old debt is hunted by name.
func TestWhoIsHunted(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	b.audit()
	old := `invoices = jsonb_build_array(jsonb_build_object('id', stripe_invoice_id, 'amount', amount, 'created', 1))`
	for _, test := range []struct {
		name, set    string
		change       func(*playbook.Playbook)
		byAll, named bool
	}{
		{"as it is", "hidden = hidden", nil, true, true},
		{"charged back", "kind = 'charged_back'", func(p *playbook.Playbook) { p.WrittenOff = true }, false, false},
		{"written off", "kind = 'written_off'", nil, false, false},
		{"written off, and hunted", "kind = 'written_off'", func(p *playbook.Playbook) { p.WrittenOff = true }, true, true},
		{"ignored", "ignored = true", nil, false, false},
		{"leaving", "leaving = true", nil, true, true},
		{"leaving, and stopped", "leaving = true", func(p *playbook.Playbook) { p.WhenLeaving = playbook.LeavingStop }, false, false},
		{"subscribed anew", "resubscribed = true", nil, false, false},
		{"subscribed anew, and hunted", "resubscribed = true", func(p *playbook.Playbook) { p.Resubscribed = true }, true, true},
		{"excluded", "products = '{prod_1}'", func(p *playbook.Playbook) { p.Exclude.Products = []string{"prod_1"} }, false, false},
		{"old", old, nil, false, true},
		{"old, and hunted", old, func(p *playbook.Playbook) { p.MaxDebtAgeDays = 3650; p.Mode = state.ModeRecover }, false, true},
	} {
		b.Exec("CREATE TABLE before AS SELECT * FROM ghost_targets")
		b.Exec("UPDATE ghost_targets SET " + test.set)
		b.recoverWith(test.change)
		for _, byName := range []bool{false, true} {
			var ids []uuid.UUID
			want := test.byAll
			if byName {
				ids = b.ids("SELECT id FROM ghost_targets WHERE status = 'open'")
				want = test.named
			}
			started, err := b.start(ids)
			if err != nil || (started.Hunts == 1) != want || started.Hunts+started.Skipped != 1 {
				t.Errorf("%s, by name %v: %+v, %v", test.name, byName, started, err)
			}
			b.Exec("DELETE FROM hunt_notes")
			b.Exec("DELETE FROM hunts")
			b.Exec("DELETE FROM scheduled_tasks WHERE kind = 'hunt'")
		}
		b.Exec(`UPDATE ghost_targets g SET kind = o.kind, ignored = o.ignored, leaving = o.leaving, resubscribed = o.resubscribed,
			products = o.products, invoices = o.invoices FROM before o WHERE o.id = g.id`)
		b.Exec("DROP TABLE before")
	}
}
