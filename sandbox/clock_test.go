package sandbox

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestClockMovesOn(t *testing.T) {
	t.Parallel()
	m := newMailbox(t)
	b := setup(t, func(c *Config) { c.Webhook, c.Customers = Webhook{URL: m.url, Secret: whsec}, 40 })
	t.Cleanup(b.s.Close)
	token := b.connect(0)
	type now struct{ Now time.Time }
	if got := control[now](b, http.MethodGet, "/sandbox/clock", ""); !got.Now.Equal(birth) {
		t.Errorf("at first it is %v", got.Now)
	}
	b.s.Advance()
	m.take(b.s)
	before := b.count(0, "invoices")
	span := 45 * 24 * time.Hour // longer than events are kept: none of the first days may be lost
	got := control[now](b, http.MethodPost, "/sandbox/clock", fmt.Sprintf(`{"advance_seconds": %d}`, int(span.Seconds())))
	if !got.Now.Equal(birth.Add(span)) {
		t.Errorf("then it is %v", got.Now)
	}
	grown := b.count(0, "invoices") - before
	types, _ := m.take(b.s)
	created := 0
	for _, typ := range types {
		if typ == "invoice.created" {
			created++
		}
	}
	if grown == 0 || created != grown || !slices.Contains(types, "invoice.payment_failed") {
		t.Errorf("%d invoices more, %d told", grown, created)
	}
	b.clock.add(time.Hour) // what runs under it still runs
	if got := control[now](b, http.MethodGet, "/sandbox/clock", ""); !got.Now.Equal(birth.Add(span + time.Hour)) {
		t.Errorf("an hour later it is %v", got.Now)
	}
	if r := b.get("/v1/account", token, nil); r.status != http.StatusOK {
		t.Errorf("%d %s", r.status, r.body)
	}
	for _, wrong := range []string{`{"advance_seconds": -1}`, `{"advance_seconds": 9223372036854775807}`, `{"now": 3}`} {
		req, _ := http.NewRequest(http.MethodPost, b.url+"/sandbox/clock", strings.NewReader(wrong))
		req.Header.Set("Authorization", "Bearer "+SecretKey)
		r, err := b.roundTrip(req)
		if err != nil || r.status != http.StatusBadRequest {
			t.Errorf("%s: %d %v", wrong, r.status, err)
		}
	}
	for _, d := range []time.Duration{-time.Second, 11 * 365 * 24 * time.Hour} {
		if b.s.AdvanceClock(d) == nil {
			t.Errorf("%v was taken", d)
		}
	}
}
