package sandbox

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"
)

func TestOpenInvoices(t *testing.T) {
	t.Parallel()
	const n = 60
	b := setup(t, func(c *Config) { c.OpenInvoices, c.Merchants = n, 2 })
	token := b.connect(0)
	if b.count(1, "customers") != 0 {
		t.Error("the second merchant was made before anybody asked")
	}
	type shown struct {
		ID, Status, Customer, Subscription string
		Attempted                          bool
		AutoAdvance                        bool   `json:"auto_advance"`
		Next                               *int64 `json:"next_payment_attempt"`
		Amount                             int64  `json:"amount_remaining"`
		Charge                             string
	}
	open := slices.DeleteFunc(all[shown](b, "invoices", token), func(inv *shown) bool { return inv.Status != "open" })
	owner := map[string]bool{}
	for _, inv := range open {
		owner[inv.Customer] = true
		if !inv.Attempted || inv.AutoAdvance || inv.Next != nil || inv.Amount <= 0 {
			t.Errorf("%+v", inv)
		}
		if ch := b.get("/v1/charges/"+inv.Charge, token, nil); ch.text("outcome.reason") != "insufficient_funds" {
			t.Errorf("the first failure: %s", ch.body)
		}
	}
	if len(open) != n || len(owner) != n || len(b.s.Truth(b.s.Accounts()[0])) != n {
		t.Fatalf("%d open invoices of %d customers, %d ghosts", len(open), len(owner), len(b.s.Truth(b.s.Accounts()[0])))
	}
	answers, codes := map[int]int{}, map[string]int{}
	for _, inv := range open {
		r := b.post("/v1/invoices/"+inv.ID+"/pay", token, nil, key("task_"+inv.ID)...)
		answers[r.status]++
		if r.status == http.StatusPaymentRequired {
			codes[r.text("error.decline_code")]++
		}
	}
	if answers[200] != n/2 || answers[402] != n/2 || len(codes) != len(lost) {
		t.Errorf("answers %v, declines %v", answers, codes)
	}
	if got := len(b.ids("/v1/customers", token)); got != n {
		t.Errorf("%d customers", got)
	}
	for _, wrong := range []int{-1, 1_000_001} {
		if _, err := New(Config{OpenInvoices: wrong}); err == nil {
			t.Errorf("%d open invoices were taken", wrong)
		}
	}
}

// What falls due by a mutation is played in time although the others are not asked.
func TestMutationBringsForward(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.connect(0)
	inv := b.find(0, func(v *invoice) bool { return payable(v) && v.step == 0 && v.AttemptCount < 8 })
	for _, on := range []string{"false", "true"} {
		if r := b.post("/v1/invoices/"+inv.ID, token, url.Values{"auto_advance": {on}}); r.status != http.StatusOK {
			t.Fatalf("%d %s", r.status, r.body)
		}
	}
	before := inv.AttemptCount
	b.clock.add(25 * time.Hour)
	if r := b.get("/v1/invoices/"+inv.ID, token, nil); int64(r.field("attempt_count").(float64)) <= before {
		t.Errorf("not tried again: %s", r.body)
	}
}
