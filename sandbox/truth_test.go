package sandbox

import (
	"encoding/json"
	"net/url"
	"slices"
	"sort"
	"testing"
	"time"
)

// seen is the truth as a patient reader of the API finds it: lists, expanded intents, and nothing from inside.
func (b *bench) seen(account, token string) (ghosts []Ghost) {
	b.t.Helper()
	type invoice struct {
		ID, Currency, Status, Customer, Subscription string
		Method                                       string                       `json:"collection_method"`
		Remaining                                    int64                        `json:"amount_remaining"`
		Attempts                                     int64                        `json:"attempt_count"`
		Due                                          int64                        `json:"due_date"`
		OutOfBand                                    bool                         `json:"paid_out_of_band"`
		TestClock                                    string                       `json:"test_clock"`
		Intent                                       *struct{ ID, Status string } `json:"payment_intent"`
	}
	read := func(raw json.RawMessage, v any) {
		if err := json.Unmarshal(raw, v); err != nil {
			b.t.Fatal(err)
		}
	}
	undecided := map[string]bool{}
	for _, raw := range b.every("/v1/disputes", token, nil) {
		var d struct {
			Status string
			Intent string `json:"payment_intent"`
		}
		read(raw, &d)
		if d.Status != "won" && d.Status != "lost" && d.Status != "warning_closed" {
			undecided[d.Intent] = true
		}
	}
	invoices := map[string][]invoice{} // newest first
	for _, raw := range b.every("/v1/invoices", token, url.Values{"expand[]": {"data.payment_intent"}}) {
		var v invoice
		read(raw, &v)
		invoices[v.Subscription] = append(invoices[v.Subscription], v)
	}
	now := b.clock.Now().Add(-7 * 24 * time.Hour).Unix()
	for _, raw := range b.every("/v1/subscriptions", token, url.Values{"status": {"all"}}) {
		var sub struct {
			ID, Status, Customer string
			TestClock            string `json:"test_clock"`
		}
		read(raw, &sub)
		if sub.TestClock != "" {
			continue
		}
		owed := func(v invoice) bool {
			due := v.Attempts > 0 && (v.Intent == nil || v.Intent.Status != "processing" && v.Intent.Status != "requires_action")
			if v.Method != "charge_automatically" {
				due = v.Status == "open" && v.Due < now
			}
			return due && !(v.Intent != nil && undecided[v.Intent.ID]) && !v.OutOfBand && v.Remaining > 0
		}
		latest := slices.IndexFunc(invoices[sub.ID], func(v invoice) bool { return v.Status != "draft" && (v.Status != "open" || owed(v)) })
		hidden := sub.Status == "active" && latest >= 0 && invoices[sub.ID][latest].Status == "paid"
		found := map[string]*Ghost{}
		for _, v := range invoices[sub.ID] {
			if !owed(v) {
				continue
			}
			auto, is := v.Method == "charge_automatically", false
			switch sub.Status {
			case "active":
				is = hidden && (v.Status == "open" || v.Status == "uncollectible") || v.Status == "open" && auto
			case "past_due", "trialing":
				is = v.Status == "open"
			}
			if !is {
				continue
			}
			if found[v.Currency] == nil {
				found[v.Currency] = &Ghost{Account: account, Customer: sub.Customer, Subscription: sub.ID, Currency: v.Currency, Hidden: hidden}
			}
			g := found[v.Currency]
			g.Amount += v.Remaining
			g.Invoices = append(g.Invoices, v.ID)
		}
		for _, g := range found {
			slices.Reverse(g.Invoices)
			ghosts = append(ghosts, *g)
		}
	}
	sort.Slice(ghosts, func(i, j int) bool {
		return ghosts[i].Customer+ghosts[i].Subscription+ghosts[i].Currency < ghosts[j].Customer+ghosts[j].Subscription+ghosts[j].Currency
	})
	return ghosts
}

func (b *bench) sameTruth(n int, token string) (whys map[string]int) {
	b.t.Helper()
	id := b.s.Accounts()[n]
	truth, want := b.s.Truth(id), b.seen(id, token)
	whys = map[string]int{}
	for i := range truth {
		whys[truth[i].Why]++
		if truth[i].Hidden != (truth[i].Why == WhyHidden) {
			b.t.Errorf("hidden and why differ: %+v", truth[i])
		}
		truth[i].Why = ""
	}
	x, _ := json.Marshal(truth)
	y, _ := json.Marshal(want)
	if string(x) != string(y) {
		b.t.Errorf("truth %d, seen %d\n%.2000s\n%.2000s", len(truth), len(want), x, y)
	}
	return whys
}

// What the truth file says is what the API shows, in the living world, as it goes on, and in a history.
func TestTruthIsWhatTheAPIShows(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		b := setup(t, func(c *Config) { c.Seed = seed + 1 })
		for n := range 3 {
			token := b.connect(n)
			whys := b.sameTruth(n, token)
			if len(whys) != 4 {
				t.Errorf("seed %d, merchant %d: not every row of the table: %v", seed+1, n, whys)
			}
		}
		b.clock.add(40 * 24 * time.Hour)
		b.sameTruth(0, b.connect(0))
	}
	b, token := bulk(t, 8000)
	whys := b.sameTruth(0, token)
	if len(whys) != 4 {
		t.Errorf("history: not every row of the table: %v", whys)
	}
	t.Log(whys)
}

func TestTruthOfAStranger(t *testing.T) {
	t.Parallel()
	if got := setup(t).s.Truth("acct_unknown"); got != nil {
		t.Error(got)
	}
}
