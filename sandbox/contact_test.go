package sandbox

import (
	"testing"
)

func TestContacts(t *testing.T) {
	t.Parallel()
	for merchant := range profiles {
		b := setup(t, func(c *Config) { c.Merchants = len(profiles) })
		token := b.connect(merchant)
		type shown struct {
			Email, Phone     *string
			PreferredLocales []string `json:"preferred_locales"`
			Address          struct{ Country *string }
		}
		phones := map[string]bool{}
		mute, unreachable, silent, nowhere := 0, 0, 0, 0
		rows := all[shown](b, "customers", token)
		for _, c := range rows {
			if c.Email == nil {
				mute++
			}
			if c.PreferredLocales == nil {
				t.Fatal("preferred_locales is null, not an array")
			}
			if len(c.PreferredLocales) == 0 {
				silent++
			}
			if c.Address.Country == nil {
				nowhere++
			}
			if c.Phone == nil {
				unreachable++
				continue
			}
			if !e164.MatchString(*c.Phone) || phones[*c.Phone] {
				t.Errorf("phone %s", *c.Phone)
			}
			phones[*c.Phone] = true
		}
		for what, n := range map[string]int{"email": mute, "phone": unreachable, "language": silent, "country": nowhere} {
			if n == 0 || n > len(rows)/2 {
				t.Errorf("%s: %d of %d have no %s", b.s.accounts[b.s.ids[merchant]].Country, n, len(rows), what)
			}
		}
	}
}

// Every finalised invoice has a page to pay it on, drafts have none, and what waits for a retry
// says when.
func TestInvoicesCanBeFound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	type shown struct {
		Status string
		Hosted *string `json:"hosted_invoice_url"`
		Next   *int64  `json:"next_payment_attempt"`
	}
	waiting := 0
	for _, inv := range all[shown](b, "invoices", token) {
		if (inv.Hosted == nil) != (inv.Status == "draft") {
			t.Errorf("%+v", inv)
		}
		if inv.Next != nil && inv.Status == "open" {
			waiting++
			if *inv.Next <= birth.Unix() {
				t.Errorf("the next attempt lies behind: %+v", inv)
			}
		}
	}
	if waiting == 0 {
		t.Error("nothing waits for a retry")
	}
}
