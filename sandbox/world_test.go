package sandbox

import (
	"encoding/json"
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v76"
)

// dump is everything a merchant's lists show, as JSON.
func (b *bench) dump(n int) string {
	b.t.Helper()
	token := b.connect(n)
	var out strings.Builder
	for _, name := range lists {
		p := url.Values{"limit": {"100"}}
		if name == "subscriptions" {
			p.Set("status", "all")
		}
		for {
			r := b.get("/v1/"+name, token, p)
			out.WriteString(r.body)
			var e envelope
			if err := json.Unmarshal([]byte(r.body), &e); err != nil {
				b.t.Fatal(err)
			}
			if !e.HasMore {
				break
			}
			p.Set("starting_after", e.Data[len(e.Data)-1].ID)
		}
	}
	return out.String()
}

func TestSameSeedSameWorld(t *testing.T) {
	t.Parallel()
	one := setup(t)
	world := one.dump(1)
	if again := setup(t).dump(1); again != world {
		t.Error("the same seed gave another world")
	}
	if other := setup(t, func(c *Config) { c.Seed = 2 }).dump(1); other == world || len(other) < len(world)/2 {
		t.Error("another seed gave the same world, or none")
	}
	// A merchant's world does not depend on what was asked of others before.
	late := setup(t)
	late.dump(0)
	if late.dump(1) != world {
		t.Error("the order of loading changed the world")
	}
}

// However often the clock was looked at, the same future comes.
func TestTimeInStepsOrAtOnce(t *testing.T) {
	t.Parallel()
	steps, leap := setup(t), setup(t)
	steps.find(0, payable)
	leap.find(0, payable)
	for range 60 * 4 {
		steps.clock.add(6 * time.Hour)
		steps.find(0, payable)
	}
	leap.clock.add(60 * 24 * time.Hour)
	rows := func(b *bench) map[string]string {
		b.find(0, payable)
		out := map[string]string{}
		for _, name := range []string{"invoices", "charges", "subscriptions"} {
			for id, o := range b.s.accounts[b.s.ids[0]].tables[name].byID {
				out[id] = string(ok(o).body)
			}
		}
		return out
	}
	a, z := rows(steps), rows(leap)
	if len(a) != len(z) {
		t.Fatalf("%d and %d objects", len(a), len(z))
	}
	for id, body := range a {
		if z[id] != body {
			t.Fatalf("%s differs:\n%s\n%s", id, body, z[id])
		}
	}
}

func TestNewIsSmall(t *testing.T) { //nolint:paralleltest // it measures memory
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s, err := New(Config{})
	runtime.GC()
	runtime.ReadMemStats(&after)
	if err != nil || int64(after.HeapAlloc)-int64(before.HeapAlloc) > 10<<20 {
		t.Errorf("%d bytes, %v", int64(after.HeapAlloc)-int64(before.HeapAlloc), err)
	}
	runtime.KeepAlive(s)
	for _, bad := range []Config{{Merchants: -1}, {Customers: -1}, {Merchants: 1 << 20}} {
		if _, err := New(bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// Each merchant shows every row of "who is a ghost", for several seeds.
func TestEveryKindIsThere(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		s, err := New(Config{Seed: seed + 1, Merchants: 6, Now: func() time.Time { return birth.AddDate(0, 0, int(seed)*11) }})
		if err != nil {
			t.Fatal(err)
		}
		currencies := map[string]bool{}
		for _, id := range s.Accounts() {
			a := s.accounts[id]
			now := s.cfg.Now().Unix()
			a.advance(now)
			currencies[a.DefaultCurrency] = true
			seen, debts := map[string]int{}, map[string][]string{}
			for _, o := range a.tables["subscriptions"].rows {
				sub := o.(*subscription)
				seen["subscription "+sub.Status]++
				if sub.PauseCollection != nil {
					seen["pause "+sub.PauseCollection.Behavior]++
				}
				seen["every "+sub.Items.Data[0].Price.Recurring.Interval]++
			}
			for _, o := range a.tables["invoices"].rows {
				inv := o.(*invoice)
				latest := string(inv.of.sub.LatestInvoice) == inv.ID
				owed := inv.AmountRemaining > 0 && inv.Attempted && inv.CollectionMethod == "charge_automatically"
				if owed && inv.Status != "paid" {
					seen[fmt.Sprintf("%s with %s, latest %v", inv.of.sub.Status, inv.Status, latest)]++
				}
				switch {
				case inv.Status == "open" && inv.CollectionMethod == "send_invoice" && int64(inv.DueDate) < now:
					seen["overdue"]++
				case inv.Status == "open" && inv.NextPaymentAttempt != 0:
					seen["retries run"]++
				case inv.PaidOutOfBand:
					seen["out of band"]++
				}
				if inv.AmountDue != inv.AmountPaid+inv.AmountRemaining || inv.Paid != (inv.Status == "paid") ||
					inv.Paid && inv.AmountRemaining != 0 || inv.Created > now || inv.Status == "open" && inv.NextPaymentAttempt != 0 && int64(inv.NextPaymentAttempt) <= now {
					t.Errorf("seed %d: inconsistent %s", seed, ok(inv).body)
				}
				if inv.AmountPaid > 0 && inv.AmountRemaining > 0 {
					seen["partly paid"]++
				}
				if inv.Status == "draft" && !inv.Attempted && inv.AmountRemaining > 0 && inv.NextPaymentAttempt != 0 {
					seen["before its first attempt"]++
				}
				if inv.Status == "open" && inv.CollectionMethod == "charge_automatically" && inv.AttemptCount == 0 {
					seen["open and never charged"]++
				}
				if inv.Total == 0 && inv.Paid {
					seen["free invoice"]++
				}
				if owed && inv.Status == "open" {
					debts[inv.Customer] = append(debts[inv.Customer], inv.Currency)
				}
				if pi := a.intent(inv); pi != nil && pi.Status == "requires_action" {
					seen["requires_action"]++
				}
			}
			for _, o := range a.tables["charges"].rows {
				ch := o.(*charge)
				seen["charge "+ch.Status]++
				seen[ch.Outcome.NetworkStatus]++
				if ch.Outcome.AdviceCode != "" {
					seen["advice "+string(ch.Outcome.AdviceCode)]++
				}
				if ch.Outcome.NetworkAdviceCode != "" {
					seen["network advice"]++
				}
				if ch.Outcome.Reason == text(unknownDecline.reason) {
					seen["unknown decline"]++
				}
				if inv := a.tables["invoices"].byID[string(ch.Invoice)].(*invoice); ch.Disputed && inv.AmountRemaining > 0 {
					seen["disputed while open"]++
				}
				if ch.Outcome.Reason == text(blockedAgain.reason) {
					seen["blocked after a hard decline"]++
				}
				if ch.Refunded {
					seen["refund"]++
				}
			}
			for _, all := range debts {
				if slices.Sort(all); len(slices.Compact(all)) > 1 {
					seen["debts in two currencies"]++
				}
			}
			disputes := map[string]string{} // by invoice
			for _, o := range a.tables["disputes"].rows {
				d := o.(*dispute)
				ch := a.tables["charges"].byID[d.Charge].(*charge)
				disputes[string(ch.Invoice)] = d.Status
				if inv := a.tables["invoices"].byID[string(ch.Invoice)].(*invoice); inv.Paid &&
					d.Status == "lost" && ch.PaymentMethodDetails.Type == "sepa_debit" {
					seen["bank debit charged back"]++
				} else if slices.Contains(inv.former, string(ch.PaymentIntent)) && undecided(d.Status) {
					seen["part through an old intent in dispute"]++
				}
				if d.Status == "needs_arbitration" {
					seen["unknown dispute"]++
				}
			}
			for _, c := range a.contracts {
				copies, paid := map[string]int{}, false
				for i, inv := range c.all {
					last := i == len(c.all)-1
					if inv.BillingReason == "subscription_update" && inv.Total > 0 && inv.Attempted {
						copies[inv.Status]++
						paid = paid || inv.Paid
					}
					switch {
					case len(inv.former) > 0 && inv.AmountPaid == 0 && inv.Status == "open" &&
						a.tables["charges"].byID[string(inv.Charge)].(*charge).PaymentIntent == text(inv.former[0]):
						seen["failures on an old intent"]++
					case last && inv.Status == "void" && i > 1 && c.all[i-1].Paid && c.sub.Status == "active" &&
						c.sub.PauseCollection == nil && slices.ContainsFunc(c.all,
						func(v *invoice) bool { return v.Status == "uncollectible" }):
						seen["void newest over a debt"]++
					case inv.Status == "uncollectible" && inv.CollectionMethod == "send_invoice":
						seen["sent and given up"]++
					case last && inv.Status == "uncollectible" && inv.AttemptCount > 0 && c.sub.Status == "active":
						seen["newest given up"]++
					}
				}
				if copies["open"] == 3 {
					seen["asked three times"]++
				}
				if paid && copies["open"] == 2 {
					seen["asked three times and paid"]++
				}
			}
			for _, g := range a.livingGhosts(now) {
				seen[g.Why]++
				if g.Resubscribed {
					seen["subscribed anew"]++
				}
				for _, id := range g.Invoices {
					if status, is := disputes[id]; is && undecided(status) {
						t.Errorf("seed %d: %s is in dispute and owed", seed+1, id)
					}
				}
			}
			owners := map[string]int{}
			for _, o := range a.tables["subscriptions"].rows {
				if owners[o.(*subscription).Customer]++; owners[o.(*subscription).Customer] == 2 {
					seen["two subscriptions"]++
				}
			}
			for _, kind := range []string{
				"open and never charged", "partly paid", "before its first attempt", "free invoice", "unknown decline", "disputed while open",
				"blocked after a hard decline", "debts in two currencies", "two subscriptions",
				"subscription active", "subscription past_due", "subscription unpaid", "subscription canceled", "subscription trialing",
				"subscription paused", "subscription incomplete", "subscription incomplete_expired", "pause void", "pause keep_as_draft",
				"pause mark_uncollectible", "every month", "every year", "past_due with open, latest true", "active with open, latest false",
				"active with uncollectible, latest false", "unpaid with open, latest false", "canceled with open, latest true",
				"trialing with open, latest false", "overdue", "retries run", "out of band", "requires_action", "charge succeeded",
				"charge failed", "charge pending", "not_sent_to_network", "declined_by_network", "advice try_again_later",
				"advice do_not_try_again", "network advice", "refund",
				"bank debit charged back", "part through an old intent in dispute", "unknown dispute",
				"failures on an old intent",
				"void newest over a debt", "sent and given up", "newest given up", "asked three times",
				"asked three times and paid",
				"subscribed anew", WhyFailed, WhyHidden, WhyOverdue, WhySent, WhyTrialing, WhyWrittenOff,
				WhyChargedBack,
			} {
				if seen[kind] == 0 {
					t.Errorf("seed %d, %s: no %q", seed+1, a.profile.Name, kind)
				}
			}
			if len(a.tables["disputes"].rows) == 0 {
				t.Errorf("seed %d: no dispute", seed)
			}
		}
		if !currencies["jpy"] || !currencies["kwd"] { // without decimals, and with three
			t.Errorf("seed %d: currencies %v", seed, currencies)
		}
	}
}

// Single merchants may have more customers than others.
func TestCustomersOf(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Customers, c.CustomersOf = 20, map[int]int{1: 40} })
	for n, want := range []int{20, 40, 20} {
		b.find(n, payable)
		if got := len(b.s.accounts[b.s.ids[n]].tables["customers"].rows); got != want {
			t.Errorf("merchant %d has %d customers instead of %d", n, got, want)
		}
	}
	for _, wrong := range []map[int]int{{3: 1}, {-1: 1}, {0: 0}} {
		if _, err := New(Config{CustomersOf: wrong}); err == nil {
			t.Errorf("%v is taken", wrong)
		}
	}
}

// stripe-go reads every object: types, and the fields on which detection rests.
func TestStripeGoReadsEverything(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(1)
	for _, inv := range all[stripe.Invoice](b, "invoices", token) {
		if inv.ID == "" || inv.Customer.ID == "" || inv.Subscription.ID == "" || inv.Currency != "jpy" && inv.Currency != "usd" || inv.StatusTransitions == nil ||
			len(inv.Lines.Data) == 0 || inv.Lines.Data[0].Price.Recurring.Interval == "" {
			t.Fatalf("invoice %+v", inv)
		}
		if inv.Status == stripe.InvoiceStatusPaid && (inv.StatusTransitions.PaidAt == 0 || inv.AmountDue > 0 && inv.PaymentIntent.ID == "") {
			t.Fatalf("paid invoice %+v", inv)
		}
	}
	for _, ch := range all[stripe.Charge](b, "charges", token) {
		if ch.Invoice.ID == "" || ch.Outcome.NetworkStatus == "" || ch.BillingDetails.Name == "" || ch.PaymentIntent.ID == "" {
			t.Fatalf("charge %+v", ch)
		}
		if card := ch.PaymentMethodDetails.Card; card != nil && (card.Fingerprint == "" || card.Last4 == "" || card.Network == "") {
			t.Fatalf("card %+v", card)
		}
		if ch.Status == stripe.ChargeStatusFailed && (ch.FailureCode == "" || ch.Outcome.Reason == "") {
			t.Fatalf("failed charge %+v", ch)
		}
	}
	for _, sub := range all[stripe.Subscription](b, "subscriptions", token) {
		if sub.Items.Data[0].Price.UnitAmount == 0 || sub.CurrentPeriodEnd <= sub.CurrentPeriodStart || sub.LatestInvoice.ID == "" {
			t.Fatalf("subscription %+v", sub)
		}
	}
	for _, cu := range all[stripe.Customer](b, "customers", token) {
		if cu.Email != "" && !strings.HasSuffix(cu.Email, "@example.com") || cu.Currency != "jpy" {
			t.Fatalf("customer %+v", cu)
		}
	}
	for _, d := range all[stripe.Dispute](b, "disputes", token) {
		if d.Charge.ID == "" || d.Status == "" || d.Amount == 0 {
			t.Fatalf("dispute %+v", d)
		}
	}
	for _, e := range all[stripe.Event](b, "events", token) {
		if e.Type == "" || len(e.Data.Raw) == 0 || e.APIVersion != APIVersion || e.Request == nil {
			t.Fatalf("event %+v", e)
		}
	}
	for _, pi := range all[stripe.PaymentIntent](b, "payment_intents", token) {
		if pi.Status == "" || pi.Invoice.ID == "" {
			t.Fatalf("intent %+v", pi)
		}
	}
	var me stripe.Account
	r := b.get("/v1/account", token, nil)
	if err := me.UnmarshalJSON([]byte(r.body)); err != nil || me.Country != "JP" || me.DefaultCurrency != "jpy" ||
		me.BusinessProfile.MCC == "" || me.Settings.Dashboard.Timezone != "Asia/Tokyo" || me.Type != "standard" || !me.ChargesEnabled {
		t.Errorf("account %s %v", r.body, err)
	}
}

// all reads a whole list into stripe-go's type.
func all[T any](b *bench, name, token string) (rows []*T) {
	b.t.Helper()
	p := url.Values{"limit": {"100"}}
	if name == "subscriptions" {
		p.Set("status", "all")
	}
	for {
		r := b.get("/v1/"+name, token, p)
		var page struct {
			HasMore bool `json:"has_more"`
			Data    []json.RawMessage
		}
		if err := json.Unmarshal([]byte(r.body), &page); err != nil {
			b.t.Fatal(err)
		}
		for _, raw := range page.Data {
			row := new(T)
			if err := json.Unmarshal(raw, row); err != nil {
				b.t.Fatalf("%s: %v in %s", name, err, raw)
			}
			rows = append(rows, row)
		}
		if !page.HasMore {
			return rows
		}
		var last struct{ ID string }
		json.Unmarshal(page.Data[len(page.Data)-1], &last)
		p.Set("starting_after", last.ID)
	}
}
