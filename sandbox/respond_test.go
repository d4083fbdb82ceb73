package sandbox

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// written sends each customer of the first merchant who has an address so many emails, all at once,
// and says who has paid two days later.
func written(t *testing.T, emails int, change ...func(*Config)) (b *bench, stuck map[string]bool, paid []string) {
	t.Helper()
	b = setup(t, append([]func(*Config){func(c *Config) { c.OpenInvoices, c.Merchants, c.Respond = 300, 1, true }}, change...)...)
	token := b.connect(0)
	b.find(0, payable)
	a, now := b.s.accounts[b.s.ids[0]], birth.Unix()
	stuck = map[string]bool{}
	b.s.mu.Lock()
	for _, c := range a.contracts {
		if c.stuck(now) && c.cust.Email != "" {
			stuck[c.open[0].ID] = true
		}
	}
	b.s.mu.Unlock()
	for _, c := range all[struct{ Email, Name string }](b, "customers", token) {
		for range emails {
			if c.Email == "" {
				continue
			}
			body := fmt.Sprintf(`{"from":"us@example.com","to":"%s <%s>","subject":"s","text":"t"}`, c.Name, strings.ToUpper(c.Email))
			if r, err := b.email(resendTestKey, body); err != nil || r.status != 200 {
				t.Fatal(err, r)
			}
		}
	}
	if err := b.s.AdvanceClock(48 * time.Hour); err != nil {
		t.Fatal(err)
	}
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	for _, o := range a.tables["invoices"].rows {
		if inv := o.(*invoice); inv.BillingReason == "subscription_cycle" && inv.Status == "paid" {
			paid = append(paid, inv.ID)
			if after := int64(inv.Transitions.PaidAt) - now; after < hour || after > 48*hour {
				t.Errorf("paid %d s after the email", after)
			}
		}
	}
	return b, stuck, paid
}

func TestRespond(t *testing.T) {
	t.Parallel()
	b, stuck, paid := written(t, 1)
	if n := len(paid) * 100 / len(stuck); len(stuck) < 40 || n < 20 || n > 50 {
		t.Errorf("%d of %d have paid", len(paid), len(stuck))
	}
	for _, id := range paid {
		if !stuck[id] {
			t.Errorf("%s was paid, but not by somebody who had to act", id)
		}
	}
	_, _, again := written(t, 1)
	if !slices.Equal(paid, again) {
		t.Errorf("not the same: %v %v", paid, again)
	}
	// It is the customers' own doing: a new card, and no request of ours behind the events.
	a := b.s.accounts[b.s.ids[0]]
	inv := a.tables["invoices"].byID[paid[0]].(*invoice)
	if len(inv.of.cust.wallet) != 2 || inv.of.card != inv.of.cust.wallet[1] || inv.of.sub.Status != "active" {
		t.Errorf("wallet %d, subscription %s", len(inv.of.cust.wallet), inv.of.sub.Status)
	}
	seen := map[string]bool{}
	for _, o := range a.tables["events"].rows {
		if e := o.(*event); e.Created > birth.Unix() {
			seen[e.Type] = true
			if e.Request.IdempotencyKey != "" {
				t.Errorf("%s names a key", e.Type)
			}
		}
	}
	for _, typ := range []string{"payment_method.attached", "customer.updated", "charge.succeeded", "invoice.paid", "customer.subscription.updated"} {
		if !seen[typ] {
			t.Errorf("%s was not told", typ)
		}
	}
}

func TestRespondMoreToMore(t *testing.T) {
	t.Parallel()
	_, stuck, once := written(t, 1)
	_, _, thrice := written(t, 3)
	if len(thrice) <= len(once) || len(thrice) >= len(stuck)*3/4 {
		t.Errorf("%d after one email, %d after three, of %d", len(once), len(thrice), len(stuck))
	}
	if _, _, none := written(t, 1, func(c *Config) { c.Respond = false }); len(none) != 0 {
		t.Errorf("%d without being asked", len(none))
	}
}

// Stripe's own emails after failed charges bring customers round too. Without them only those come
// whose story it is.
func TestStripeWrites(t *testing.T) {
	t.Parallel()
	paid := map[bool]int{}
	for _, emails := range []bool{true, false} {
		b := setup(t, func(c *Config) { c.Customers, c.Merchants, c.Respond, c.StripeEmails = 300, 1, true, emails })
		b.connect(0)
		id := b.s.ids[0]
		if retries, n := b.s.Own(id); n != 0 || retries != 0 {
			t.Errorf("%d retries, %d emails of the generated past", retries, n)
		}
		if err := b.s.AdvanceClock(60 * 24 * time.Hour); err != nil {
			t.Fatal(err)
		}
		if retries, n := b.s.Own(id); emails != (n > 50) || retries < 50 {
			t.Errorf("with Stripe's emails %v it wrote %d, and charged %d times again", emails, n, retries)
		}
		a := b.s.accounts[id]
		b.s.mu.Lock()
		for _, k := range a.contracts {
			for _, card := range k.cust.wallet {
				if card.pm.Created > birth.Unix() {
					paid[emails]++
				}
			}
		}
		b.s.mu.Unlock()
	}
	if paid[true] < paid[false]+10 {
		t.Errorf("%d new cards with emails, %d without", paid[true], paid[false])
	}
}

// An SMS is read as an email is.
func TestRespondToSMS(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.OpenInvoices, c.Merchants, c.Respond = 300, 1, true })
	token := b.connect(0)
	b.find(0, payable)
	for _, c := range all[struct{ Phone string }](b, "customers", token) {
		if c.Phone == "" {
			continue
		}
		if r := b.sms(c.Phone, ourNumber, "You owe us something."); r.status != 201 {
			t.Fatal(r.status, r.body)
		}
	}
	if err := b.s.AdvanceClock(48 * time.Hour); err != nil {
		t.Fatal(err)
	}
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	paid := 0
	for _, o := range b.s.accounts[b.s.ids[0]].tables["invoices"].rows {
		if inv := o.(*invoice); inv.BillingReason == "subscription_cycle" && inv.Status == "paid" {
			paid++
		}
	}
	if paid < 10 {
		t.Errorf("%d have paid", paid)
	}
}
