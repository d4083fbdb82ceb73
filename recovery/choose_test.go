package recovery

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/sandbox"
)

// What a playbook leaves alone is left alone, and nothing else is: by what the list of ghosts says
// and by what Stripe says, for charges and for messages.
func TestGateChooses(t *testing.T) {
	t.Parallel()
	now := time.Now()
	daysAgo := func(days int) int64 { return now.Add(-time.Duration(days) * oneADay).Unix() }
	debt := func(h *huntFacts, days ...int) {
		list := []invoiceOf{}
		for i, age := range days {
			list = append(list, invoiceOf{fmt.Sprint("in_", i+1), 4900, daysAgo(age)})
		}
		h.ghost.Invoices, _ = json.Marshal(list)
		h.ghost.StripeInvoiceID = "in_1"
	}
	leaving := func(say string) func(*object, *huntFacts) {
		return func(_ *object, h *huntFacts) { h.ghost.Leaving, h.playbook.WhenLeaving = true, say }
	}
	leavingAtStripe := func(say string) func(*object, *huntFacts) {
		return func(o *object, h *huntFacts) { o.Subscription.Leaving, h.playbook.WhenLeaving = true, say }
	}
	kind := func(kind string, hunted bool) func(*object, *huntFacts) {
		return func(o *object, h *huntFacts) {
			h.ghost.Kind, h.playbook.WrittenOff, o.Status = kind, hunted, "uncollectible"
		}
	}
	for name, c := range map[string]struct {
		change              func(*object, *huntFacts)
		charge, mail, final code
	}{
		"nothing forbids it": {func(_ *object, h *huntFacts) { debt(h, 119) }, "", "", ""},
		"an age that is not known": {func(_ *object, h *huntFacts) {
			h.ghost.Invoices = []byte(`[{"id":"in_1","amount":4900}]`)
		}, "", "", ""},
		"too old":                 {func(_ *object, h *huntFacts) { debt(h, 121) }, codeTooOld, codeTooOld, ""},
		"too old, with a younger": {func(_ *object, h *huntFacts) { debt(h, 121, 5) }, codeTooOld, "", ""},
		"young, with an older":    {func(_ *object, h *huntFacts) { debt(h, 5, 121) }, "", "", ""},
		"too old at Stripe":       {func(o *object, _ *huntFacts) { o.Created = daysAgo(121) }, codeTooOld, "", ""},
		"young at Stripe":         {func(o *object, _ *huntFacts) { o.Created = daysAgo(119) }, "", "", ""},
		"old, and named": {func(o *object, h *huntFacts) {
			debt(h, 400)
			o.Created, h.hunt.ByHand = daysAgo(400), true
		}, "", "", ""},
		"leaves, and is only written to":           {leaving(LeavingMessage), codeLeaving, "", codeLeaving},
		"leaves, and is stopped":                   {leaving(LeavingStop), codeLeaving, codeLeaving, codeLeaving},
		"leaves, and is hunted":                    {leaving(LeavingHunt), "", "", ""},
		"leaves at Stripe, and is only written to": {leavingAtStripe(LeavingMessage), codeLeaving, "", codeLeaving},
		"leaves at Stripe, and is stopped":         {leavingAtStripe(LeavingStop), codeLeaving, "", codeLeaving},
		"leaves at Stripe, and is hunted":          {leavingAtStripe(LeavingHunt), "", "", ""},
		"an excluded customer": {func(_ *object, h *huntFacts) {
			h.ghost.StripeCustomerID, h.playbook.Exclude.Customers = "cus_1", []string{"cus_0", "cus_1"}
		}, codeExcluded, codeExcluded, codeExcluded},
		"an excluded product": {func(_ *object, h *huntFacts) {
			h.ghost.Products, h.playbook.Exclude.Products = []string{"prod_1", "prod_2"}, []string{"prod_2"}
		}, codeExcluded, codeExcluded, codeExcluded},
		"an excluded price": {func(_ *object, h *huntFacts) {
			h.ghost.Prices, h.playbook.Exclude.Prices = []string{"price_1"}, []string{"price_1"}
		}, codeExcluded, codeExcluded, codeExcluded},
		"others are excluded": {func(_ *object, h *huntFacts) {
			h.ghost.StripeCustomerID, h.ghost.Products, h.ghost.Prices = "cus_1", []string{"prod_1"}, []string{"price_1"}
			h.playbook.Exclude = Exclude{[]string{"cus_2"}, []string{"prod_2"}, []string{"price_2"}}
		}, "", "", ""},
		"ignored": {func(_ *object, h *huntFacts) { h.ghost.Ignored = true }, codeIgnored, codeIgnored, codeIgnored},
		"a customer who is ignored at Stripe": {func(o *object, _ *huntFacts) {
			o.Customer.Metadata = map[string]string{"phantom": "ignore"}
		}, codeIgnored, "", codeIgnored},
		"a subscription that is ignored at Stripe": {func(o *object, _ *huntFacts) {
			o.Subscription.Metadata = map[string]string{"phantom": "ignore"}
		}, codeIgnored, "", codeIgnored},
		"other metadata": {func(o *object, _ *huntFacts) {
			o.Subscription.Metadata = map[string]string{"phantom": "owed", "ignore": "phantom"}
		}, "", "", ""},
		"subscribed anew": {func(_ *object, h *huntFacts) { h.ghost.Resubscribed = true }, codeResubscribed, codeResubscribed, codeResubscribed},
		"subscribed anew, and hunted": {func(_ *object, h *huntFacts) {
			h.ghost.Resubscribed, h.playbook.Resubscribed = true, true
		}, "", "", ""},
		"written off":                               {kind(kindWrittenOff, false), codeKindOff, codeKindOff, codeKindOff},
		"written off, and hunted":                   {kind(kindWrittenOff, true), "", "", ""},
		"uncollectible, and of no kind":             {kind("owed", true), codeWrittenOff, "", ""},
		"charged back, with all that can be hunted": {kind(kindChargedBack, true), codeKindOff, codeKindOff, codeKindOff},
	} {
		for sent, want := range map[string]code{KindPay: c.charge, KindHold: c.charge, Email: c.mail, KindCancel: c.final, KindUncollectible: c.final} {
			o, h, p := owing()
			c.change(&o, &h)
			f := facts{hunt: h, stripe: &stripeFacts{object: o, invoice: o}, ledger: &ledgerFacts{}}
			if Writes(sent) {
				f.stripe, f.ledger, f.person = nil, nil, &personFacts{channel: sent, zones: []*time.Location{time.UTC}}
				f.hunt.playbook.QuietHours = QuietHours{From: "00:00", To: "00:00", Zone: "UTC"}
			}
			r := mayLeave(sent, p, f, now)
			if r.code != want {
				t.Errorf("%s, %s: %q, want %q", name, sent, r.code, want)
			} else if r.code.effect() == waits && !r.yes() && !r.until.Equal(now.Add(oneADay)) {
				t.Errorf("%s, %s: %q until %s", name, sent, r.code, r.until)
			}
		}
		for _, back := range []string{KindRelease, KindResume} { // PHANTOM's own is taken back all the same
			o, h, p := owing()
			c.change(&o, &h)
			o.Status, o.AutoAdvance = "open", false
			f := facts{hunt: h, stripe: &stripeFacts{object: o, taken: true}, ledger: &ledgerFacts{}}
			if r := mayLeave(back, p, f, now); !r.yes() {
				t.Errorf("%s, %s: %q", name, back, r.code)
			}
		}
	}
}

// The hunt's plan and the newest playbook's choice: who is excluded later is left alone at once.
func TestTheNewestChoiceHolds(t *testing.T) {
	t.Parallel()
	plan, newest := DefaultPlaybook(), DefaultPlaybook()
	newest.MaxDebtAgeDays, newest.WhenLeaving, newest.WrittenOff, newest.Resubscribed = 7, LeavingStop, true, true
	newest.Exclude.Products = []string{"prod_1"}
	for _, p := range []Playbook{plan.under(newest), plan.loosest(newest)} {
		if p.MaxDebtAgeDays != 7 || p.WhenLeaving != LeavingStop || !p.WrittenOff || !p.Resubscribed ||
			!reflect.DeepEqual(p.Exclude, newest.Exclude) {
			t.Errorf("%+v", p)
		}
	}
}

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
		want code
	}{
		"the customer":     {"/v1/customers/", ignore, codeIgnored},
		"the subscription": {"/v1/subscriptions/", ignore, codeIgnored},
		"a leaving one":    {"/v1/subscriptions/", url.Values{"cancel_at_period_end": {"true"}}, codeLeaving},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, ids := setupCharges(t, 1, nil)
			column := "stripe_subscription_id"
			if strings.Contains(test.path, "customers") {
				column = "stripe_customer_id"
			}
			b.tell(test.path+b.text("SELECT "+column+" FROM ghost_targets"), test.form)
			executed := b.executed()
			if status := b.try(ids[0]); status != "pending" || b.executed() != executed {
				t.Fatalf("it is %s, and %d requests were executed", status, b.executed()-executed)
			}
			if got := b.text("SELECT code FROM attempts"); got != string(test.want) {
				t.Errorf("it waits for %q, want %q", got, test.want)
			}
			if hours := b.hoursOff(ids[0]); hours < 23 || hours > 72 {
				t.Errorf("it is put off for %.1f hours", hours)
			}
			reader, err := b.connect.Reader(t.Context(), b.merchant)
			if err != nil {
				t.Fatal(err)
			}
			bill, err := readBill(t.Context(), reader, b.text("SELECT stripe_invoice_id FROM ghost_targets"))
			if err != nil {
				t.Fatal(err)
			}
			m := &message{playbook: DefaultPlaybook()}
			m.Now, m.Channel, m.byHand = b.now(), Email, true
			if err := m.mayTouch(bill); (err != nil) != (test.want == codeIgnored) {
				t.Errorf("a message: %v", err)
			}
			m.playbook.WhenLeaving = LeavingStop
			if err := m.mayTouch(bill); err == nil {
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
			b.hunted(func(p *Playbook) {
				p.Steps, p.WhenLeaving = DefaultPlaybook().Steps, LeavingStop
			})
			b.try(b.ids("SELECT id FROM scheduled_tasks WHERE params ->> 'do' = 'begin'")[0])
			b.exec("UPDATE ghost_targets SET " + set)
			id := b.planned(Email)
			if status := b.try(id); status != "pending" {
				t.Fatalf("it is %s", status)
			}
			if hours := b.hoursOff(id); hours < 23 || hours > 25 {
				t.Errorf("it waits for %.1f hours", hours)
			}
			if state := b.text("SELECT state FROM messages"); state != messagePlanned {
				t.Errorf("the message is %s", state)
			}
		})
	}
}

// What was written off is charged where the playbook hunts it, and only there.
func TestWrittenOffIsChargedWhereItIsHunted(t *testing.T) {
	t.Parallel()
	for _, hunted := range []bool{true, false} {
		b, ids := setupCharges(t, 1, func(_ *bench, p *Playbook) { p.WrittenOff = hunted })
		b.turn(sandbox.Change{Do: "mark_uncollectible"})
		b.exec("UPDATE ghost_targets SET kind = 'written_off'")
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
		b.exec(`UPDATE ghost_targets SET invoices = jsonb_build_array(
			jsonb_build_object('id', 'in_old', 'amount', 100, 'created', extract(epoch FROM phantom_now())::bigint - 200 * 86400),
			jsonb_build_object('id', stripe_invoice_id, 'amount', amount, 'created', extract(epoch FROM phantom_now())::bigint - 86400))`)
		young := b.text("SELECT stripe_invoice_id FROM ghost_targets")
		b.recoverWith(nil)
		ghosts := b.ids("SELECT id FROM ghost_targets WHERE status = 'open'")
		want := "in_old"
		if !byHand {
			ghosts, want = nil, young
		}
		if started, err := b.s.Start(t.Context(), b.merchant, ghosts); err != nil || started.Hunts != 1 {
			t.Fatalf("%+v, %v", started, err)
		}
		b.try(b.ids("SELECT id FROM scheduled_tasks WHERE params ->> 'do' = 'begin'")[0])
		if got := b.text("SELECT params ->> 'object' FROM scheduled_tasks WHERE kind = $1", KindPay); got != want {
			t.Errorf("by hand %v: a charge of %s is planned, want %s", byHand, got, want)
		}
		if n := b.count("SELECT count(*) FROM hunts WHERE by_hand = $1", byHand); n != 1 {
			t.Errorf("by hand %v is not kept", byHand)
		}
		told := b.count("SELECT count(*) FROM hunt_notes WHERE note LIKE '%older than 120 days: 1'")
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
		change       func(*Playbook)
		byAll, named bool
	}{
		{"as it is", "hidden = hidden", nil, true, true},
		{"charged back", "kind = 'charged_back'", func(p *Playbook) { p.WrittenOff = true }, false, false},
		{"written off", "kind = 'written_off'", nil, false, false},
		{"written off, and hunted", "kind = 'written_off'", func(p *Playbook) { p.WrittenOff = true }, true, true},
		{"ignored", "ignored = true", nil, false, false},
		{"leaving", "leaving = true", nil, true, true},
		{"leaving, and stopped", "leaving = true", func(p *Playbook) { p.WhenLeaving = LeavingStop }, false, false},
		{"subscribed anew", "resubscribed = true", nil, false, false},
		{"subscribed anew, and hunted", "resubscribed = true", func(p *Playbook) { p.Resubscribed = true }, true, true},
		{"excluded", "products = '{prod_1}'", func(p *Playbook) { p.Exclude.Products = []string{"prod_1"} }, false, false},
		{"old", old, nil, false, true},
		{"old, and hunted", old, func(p *Playbook) { p.MaxDebtAgeDays = 3650; p.Mode = ModeRecover }, false, true},
	} {
		b.exec("CREATE TABLE before AS SELECT * FROM ghost_targets")
		b.exec("UPDATE ghost_targets SET " + test.set)
		b.recoverWith(test.change)
		for _, byName := range []bool{false, true} {
			var ids []uuid.UUID
			want := test.byAll
			if byName {
				ids = b.ids("SELECT id FROM ghost_targets WHERE status = 'open'")
				want = test.named
			}
			started, err := b.s.Start(t.Context(), b.merchant, ids)
			if err != nil || (started.Hunts == 1) != want || started.Hunts+started.Skipped != 1 {
				t.Errorf("%s, by name %v: %+v, %v", test.name, byName, started, err)
			}
			b.exec("DELETE FROM hunt_notes")
			b.exec("DELETE FROM hunts")
			b.exec("DELETE FROM scheduled_tasks WHERE kind = 'hunt'")
		}
		b.exec(`UPDATE ghost_targets g SET kind = o.kind, ignored = o.ignored, leaving = o.leaving, resubscribed = o.resubscribed,
			products = o.products, invoices = o.invoices FROM before o WHERE o.id = g.id`)
		b.exec("DROP TABLE before")
	}
}
