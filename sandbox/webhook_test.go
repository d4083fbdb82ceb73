package sandbox

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v76/webhook"
)

const whsec = "whsec_of_a_test"

// mailbox takes webhooks and verifies them by stripe-go.
type mailbox struct {
	t      *testing.T
	url    string
	mu     sync.Mutex
	events []taken
	refuse int // so many are answered with 500 first
}

type taken struct{ ID, Type, Account, Object string }

func newMailbox(t *testing.T) *mailbox {
	t.Helper()
	m := &mailbox{t: t}
	srv := httptest.NewServer(m)
	t.Cleanup(srv.Close)
	m.url = srv.URL
	return m
}

func (m *mailbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	e, err := webhook.ConstructEvent(body, r.Header.Get("Stripe-Signature"), whsec)
	if err != nil {
		m.t.Errorf("%v: %s", err, body)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse > 0 {
		m.refuse--
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	var o struct{ Object string }
	_ = json.Unmarshal(e.Data.Raw, &o)
	m.events = append(m.events, taken{e.ID, string(e.Type), e.Account, o.Object})
}

func (m *mailbox) take(s *Sandbox) (types []string, all []taken) {
	m.t.Helper()
	select {
	case <-s.Mailed():
	case <-time.After(30 * time.Second):
		m.t.Fatal("the post is still on its way")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	all, m.events = m.events, nil
	for _, e := range all {
		types = append(types, e.Type)
	}
	return types, all
}

func TestWebhooks(t *testing.T) {
	t.Parallel()
	m := newMailbox(t)
	b := setup(t, func(c *Config) { c.Webhook = Webhook{URL: m.url, Secret: whsec} })
	account := b.s.Accounts()[0]
	b.s.Truth(account) // the past is not told, nor anything to a platform that is not connected
	b.change(Change{Account: account, Do: "fail_renewal"})
	if types, _ := m.take(b.s); len(types) != 0 {
		t.Errorf("not connected: %v", types)
	}
	token := b.connect(0)
	inv := b.change(Change{Account: account, Do: "fail_renewal"})
	want := []string{"invoice.created", "invoice.finalized", "charge.failed", "payment_intent.payment_failed", "invoice.payment_failed", "customer.subscription.updated"}
	types, all := m.take(b.s)
	if !slices.Equal(types, want) || all[0].Account != account {
		t.Errorf("in order: %v", all)
	}
	if r := b.get("/v1/events/"+all[0].ID, token, nil); r.text("type") != "invoice.created" || r.field("account") != nil {
		t.Errorf("the same event by the API: %d %s", r.status, r.body)
	}
	// Doubled and shuffled: the same events, each three times, in another order.
	if err := b.s.SetWebhook(Webhook{URL: m.url, Secret: whsec, Copies: 3, Shuffle: true, Delay: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	b.change(Change{Account: account, Do: "pay", ID: inv})
	types, all = m.take(b.s)
	times := map[string]int{}
	for _, e := range all {
		times[e.ID]++
	}
	for id, n := range times {
		if n != 3 {
			t.Errorf("%s came %d times", id, n)
		}
	}
	if !slices.Contains(types, "invoice.paid") || len(times) < 4 || slices.IsSortedFunc(all, func(a, b taken) int { return slices.Index(types, a.Type) - slices.Index(types, b.Type) }) {
		t.Errorf("shuffled: %v", types)
	}
	// Those of another merchant alone.
	if err := b.s.SetWebhook(Webhook{URL: m.url, Secret: whsec, Accounts: b.s.Accounts()[1:2]}); err != nil {
		t.Fatal(err)
	}
	b.connect(1)
	b.s.Truth(b.s.Accounts()[1])
	b.change(Change{Account: account, Do: "fail_renewal"})
	b.change(Change{Account: b.s.Accounts()[1], Do: "fail_renewal"})
	if _, all = m.take(b.s); len(all) == 0 || slices.ContainsFunc(all, func(e taken) bool { return e.Account == account }) {
		t.Errorf("of the other merchant alone: %v", all)
	}
	// Refused at first, and tried again.
	m.mu.Lock()
	m.refuse = 2
	m.mu.Unlock()
	if err := b.s.SetWebhook(Webhook{URL: m.url, Secret: whsec}); err != nil {
		t.Fatal(err)
	}
	b.change(Change{Account: account, Do: "deauthorize"})
	if _, all = m.take(b.s); len(all) != 1 || all[0].Type != "account.application.deauthorized" || all[0].Account != account || all[0].Object != "application" {
		t.Errorf("deauthorized: %v", all)
	}
}

// An endpoint of a later API version gets invoices without the fields that moved, and all else
// alike.
func TestBasil(t *testing.T) {
	t.Parallel()
	b := setup(t)
	inv := b.find(0, payable)
	e := &event{APIVersion: APIVersion, Type: "invoice.paid", Data: eventData{Object: inv, PreviousAttributes: map[string]any{"status": "open"}}}
	e.head = head{ID: "evt_1", Object: "event", Created: 1}
	r := reply{body: string(basil(ok(e).body))}
	for _, gone := range []string{"payment_intent", "charge", "paid", "paid_out_of_band", "subscription"} {
		if o := r.field("data.object").(map[string]any); o["id"] != inv.ID || o[gone] != nil {
			t.Errorf("%s is still there: %s", gone, r.body)
		}
	}
	if r.text("api_version") != basilVersion || r.text("data.object.parent.subscription_details.subscription") != string(inv.Subscription) ||
		r.text("data.previous_attributes.status") != "open" || r.text("type") != "invoice.paid" {
		t.Error(r.body)
	}
}

// What falls due is sent when somebody lets the time pass, and Close ends the post.
func TestAdvanceAndClose(t *testing.T) {
	t.Parallel()
	m := newMailbox(t)
	b := setup(t, func(c *Config) { c.Webhook = Webhook{URL: m.url, Secret: whsec} })
	b.connect(0)
	b.s.Advance()
	if types, _ := m.take(b.s); len(types) != 0 {
		t.Errorf("the generated past: %d events", len(types))
	}
	b.clock.add(3 * 24 * time.Hour)
	b.s.Advance()
	if types, _ := m.take(b.s); !slices.Contains(types, "invoice.paid") {
		t.Errorf("three days: %v", types)
	}
	b.s.Close()
	b.s.Close()
	b.clock.add(3 * 24 * time.Hour)
	b.s.Advance()
	if types, _ := m.take(b.s); len(types) != 0 {
		t.Errorf("after Close: %v", types)
	}
}

func TestWebhookStaysAtHome(t *testing.T) {
	t.Parallel()
	for _, u := range []string{"http://example.com/", "http://10.0.0.1/", "https://localhost/", "http://localhost.example.com/", "ftp://127.0.0.1/", "http://127.0.0.1.nip.io/", ":"} {
		if _, err := New(Config{Webhook: Webhook{URL: u, Secret: whsec}}); err == nil {
			t.Errorf("%s was taken", u)
		}
	}
	if _, err := New(Config{Webhook: Webhook{URL: "http://127.0.0.1:1/"}}); err == nil {
		t.Error("no secret")
	}
	for _, u := range []string{"http://127.0.0.1:80/hook", "http://localhost/", "http://[::1]:9/"} {
		if _, err := New(Config{Webhook: Webhook{URL: u, Secret: whsec}}); err != nil {
			t.Error(err)
		}
	}
}

func TestSign(t *testing.T) {
	t.Parallel()
	payload, at := []byte(`{"id":"evt_1","object":"event","api_version":"2023-10-16"}`), time.Now()
	sig := Sign(payload, whsec, at)
	if _, err := webhook.ConstructEvent(payload, sig, whsec); err != nil {
		t.Error(err)
	}
	if _, err := webhook.ConstructEvent(payload, strings.Replace(sig, "v1=", "v1=0", 1), whsec); err == nil {
		t.Error("a spoilt signature was taken")
	}
	if Sign(payload, "other", at) == sig || Sign(payload, whsec, at.Add(time.Second)) == sig {
		t.Error("the signature does not depend on secret and time")
	}
}
