package outbound

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/input"
	"phantom/internal/stage"
	"phantom/task"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

// app is a merchant's app that hears.
type app struct {
	mutex   sync.Mutex
	status  int
	headers []http.Header
	bodies  []string
	server  *httptest.Server
}

func newApp(t *testing.T) *app {
	t.Helper()
	a := &app{status: http.StatusNoContent}
	a.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		a.mutex.Lock()
		defer a.mutex.Unlock()
		a.headers, a.bodies = append(a.headers, r.Header), append(a.bodies, string(body))
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(a.status)
	}))
	t.Cleanup(a.server.Close)
	return a
}

type bench struct {
	stage.Database
	t        *testing.T
	pool     *pgxpool.Pool
	s        *Service
	merchant uuid.UUID
	public   ed25519.PublicKey
}

func setup(t *testing.T) *bench {
	t.Helper()
	pool := dbtest.Pool(t)
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{
		Database: stage.On(t, pool), t: t, pool: pool, merchant: stage.Merchant(t, pool, "acct_1"), public: public,
		s: New(pool, Config{Log: (&stage.Log{}).Logger(), Dev: true, Sign: func(context.Context) (ed25519.PrivateKey, error) { return private, nil }}),
	}
}

func (b *bench) emit(kind string, data any) {
	b.t.Helper()
	if err := db.InTx(b.t.Context(), b.pool, func(tx pgx.Tx) error { return b.s.Emit(b.t.Context(), tx, b.merchant, kind, data) }); err != nil {
		b.t.Fatal(err)
	}
}

// deliver runs the one delivery that waits, and returns for how long it waits then.
func (b *bench) deliver() time.Duration {
	b.t.Helper()
	id, err := uuid.Parse(b.Text("SELECT id::text FROM event_deliveries WHERE state = 'pending'"))
	if err != nil {
		b.t.Fatal(err)
	}
	err = b.s.HandleDeliver(b.t.Context(), &task.Task{MerchantID: b.merchant, ID: id})
	wait, snoozed := task.Snoozed(err)
	if err != nil && !snoozed {
		b.t.Fatal(err)
	}
	return wait
}

// An event arrives once at each endpoint that wants it, signed so that the library that others
// wrote opens it.
func TestEventsArrive(t *testing.T) {
	t.Parallel()
	b, a := setup(t), newApp(t)
	endpoint, err := b.s.Create(t.Context(), b.merchant, a.server.URL+"/hooks", []string{"access.changed"})
	if err != nil {
		t.Fatal(err)
	}
	b.emit("ghost.opened", struct{}{})
	b.emit("access.changed", map[string]string{"customer": "cus_1", "to": "limited"})
	if n := b.Count("SELECT count(*) FROM scheduled_tasks WHERE kind = 'event_deliver'"); n != 1 {
		t.Fatalf("%d deliveries are planned", n)
	}
	b.deliver()
	hook, err := standardwebhooks.NewWebhook(strings.TrimPrefix(endpoint.SigningToken, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	body, header := a.bodies[0], a.headers[0]
	if err := hook.Verify([]byte(body), header); err != nil {
		t.Errorf("the library refuses it: %v", err)
	}
	if err := hook.Verify([]byte(body+" "), header); err == nil {
		t.Error("the library takes another body")
	}
	_, v1a, _ := strings.Cut(header.Get("webhook-signature"), "v1a,")
	signature, err := base64.StdEncoding.DecodeString(v1a)
	if err != nil || !ed25519.Verify(b.public, []byte(header.Get("webhook-id")+"."+header.Get("webhook-timestamp")+"."+body), signature) {
		t.Errorf("v1a: %v", err)
	}
	if !strings.Contains(body, `"account": "acct_1"`) || !strings.Contains(body, `"type": "access.changed"`) || !strings.Contains(body, `"customer": "cus_1"`) {
		t.Error(body)
	}
	list, _, err := b.s.Deliveries(t.Context(), b.merchant, endpoint.ID, uuid.Nil, 10)
	if err != nil || len(list) != 1 || list[0].State != "delivered" || *list[0].Status != 204 || "msg_"+list[0].ID.String() != header.Get("webhook-id") {
		t.Errorf("%+v, %v", list, err)
	}
	if n := b.Count("SELECT count(*) FROM event_deliveries WHERE body IS NOT NULL"); n != 0 {
		t.Error("what has arrived is kept")
	}
	if err := b.s.HandleDeliver(t.Context(), &task.Task{MerchantID: b.merchant, ID: list[0].ID}); err != nil || len(a.bodies) != 1 {
		t.Errorf("sent %d times, %v", len(a.bodies), err)
	}
}

// What cannot be signed does not leave half signed: it is tried again, and a key that was rotated
// meanwhile signs it.
func TestEventsThatCannotBeSigned(t *testing.T) {
	t.Parallel()
	b, a := setup(t), newApp(t)
	if _, err := b.s.Create(t.Context(), b.merchant, a.server.URL, nil); err != nil {
		t.Fatal(err)
	}
	b.emit("ghost.opened", struct{}{})
	sign := b.s.config.Sign
	b.s.config.Sign = func(context.Context) (ed25519.PrivateKey, error) { return nil, errors.New("it does not open") }
	if wait := b.deliver(); wait != waits[0] || len(a.bodies) != 0 {
		t.Errorf("it waits %s, and %d requests have come", wait, len(a.bodies))
	}
	b.s.config.Sign = sign
	b.deliver()
	if len(a.headers) != 1 || !strings.Contains(a.headers[0].Get("webhook-signature"), "v1a,") {
		t.Errorf("%d requests have come: %v", len(a.headers), a.headers)
	}
}

// What does not arrive is tried for three days, with the same id, and then given up.
func TestEventsThatDoNotArrive(t *testing.T) {
	t.Parallel()
	b, a := setup(t), newApp(t)
	endpoint, err := b.s.Create(t.Context(), b.merchant, a.server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.emit("ghost.opened", struct{}{})
	var all time.Duration
	for i, status := range []int{500, 302, 404, 429, 503, 500, 500, 500, 500, 500} {
		a.status = status
		wait := b.deliver()
		if wait != waits[i] {
			t.Errorf("after try %d it waits %s, want %s", i+1, wait, waits[i])
		}
		all += wait
	}
	if all < 72*time.Hour || all > 4*24*time.Hour {
		t.Errorf("it is tried for %s", all)
	}
	a.status = http.StatusInternalServerError
	b.deliver()
	list, _, err := b.s.Deliveries(t.Context(), b.merchant, endpoint.ID, uuid.Nil, 10)
	if err != nil || list[0].State != "failed" || list[0].Attempts != 11 || *list[0].Why != "it has answered 500" {
		t.Errorf("%+v, %v", list, err)
	}
	if len(a.headers) != 11 {
		t.Errorf("%d requests have come: it went where a redirect led, or tried too often", len(a.headers))
	}
	for _, header := range a.headers[1:] {
		if header.Get("webhook-id") != a.headers[0].Get("webhook-id") {
			t.Error("another id for the same event")
		}
	}
	b.emit("ghost.opened", struct{}{})
	a.status = http.StatusGone
	b.deliver()
	if all, err := b.s.List(t.Context(), b.merchant); err != nil || all[0].DisabledAt == nil || all[0].SigningToken != "" {
		t.Errorf("after 410: %+v, %v", all, err)
	}
	b.emit("ghost.opened", struct{}{})
	if n := b.Count("SELECT count(*) FROM event_deliveries WHERE state = 'pending'"); n != 0 {
		t.Error("a disabled endpoint is told")
	}
}

// No address leads to this machine, a private network or the cloud's own, by any name.
func TestPrivateAddressesAreRefused(t *testing.T) {
	t.Parallel()
	b, a := setup(t), newApp(t)
	strict := New(b.pool, Config{Log: (&stage.Log{}).Logger()})
	for _, address := range []string{
		"http://app.example/", "https://user:secret@app.example/", "ftp://app.example", "https://", "", "app.example", "https://app.example/#x",
		"https://app.example/" + strings.Repeat("x", 2000),
	} {
		var wrong *input.FieldError
		if _, err := strict.Create(t.Context(), b.merchant, address, nil); !errors.As(err, &wrong) || wrong.Field != "url" {
			t.Errorf("%.60s: %v", address, err)
		}
	}
	for _, host := range []string{
		strings.TrimPrefix(a.server.URL, "http://"), "127.0.0.1", "localhost", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
		"[::1]", "[fd00::1]", "[fe80::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "198.18.0.1", "224.0.0.1",
	} {
		b.Exec("DELETE FROM event_deliveries")
		endpoint, err := strict.Create(t.Context(), b.merchant, "https://"+host+"/", nil)
		if err != nil {
			t.Fatalf("%s: %v", host, err)
		}
		if _, err := strict.Test(t.Context(), b.merchant, endpoint.ID); err != nil {
			t.Fatal(err)
		}
		id := uuid.MustParse(b.Text("SELECT id::text FROM event_deliveries WHERE endpoint_id = $1", endpoint.ID))
		if _, snoozed := task.Snoozed(strict.HandleDeliver(t.Context(), &task.Task{MerchantID: b.merchant, ID: id})); !snoozed {
			t.Errorf("%s: it is not tried again", host)
		}
		if why := b.Text("SELECT why FROM event_deliveries WHERE id = $1", id); !strings.Contains(why, "private network") {
			t.Errorf("%s: %s", host, why)
		}
		if err := strict.Delete(t.Context(), b.merchant, endpoint.ID); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.bodies) != 0 {
		t.Errorf("%d requests have come through", len(a.bodies))
	}
}

// A merchant's endpoints are their own, and few.
func TestEndpointsOfAMerchant(t *testing.T) {
	t.Parallel()
	b, a := setup(t), newApp(t)
	var wrong *input.FieldError
	for _, types := range [][]string{{"x"}, {"ghost.opened", "ghost.opened"}, {""}} {
		if _, err := b.s.Create(t.Context(), b.merchant, a.server.URL, types); !errors.As(err, &wrong) || wrong.Field != "types" {
			t.Errorf("%v: %v", types, err)
		}
	}
	var last Endpoint
	for range mostEndpoints {
		var err error
		if last, err = b.s.Create(t.Context(), b.merchant, a.server.URL, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.s.Create(t.Context(), b.merchant, a.server.URL, nil); !errors.As(err, &wrong) {
		t.Errorf("one too many: %v", err)
	}
	other := stage.Merchant(t, b.pool, "acct_2")
	for name, do := range map[string]func() error{
		"delete":     func() error { return b.s.Delete(t.Context(), other, last.ID) },
		"test":       func() error { _, err := b.s.Test(t.Context(), other, last.ID); return err },
		"deliveries": func() error { _, _, err := b.s.Deliveries(t.Context(), other, last.ID, uuid.Nil, 10); return err },
	} {
		if err := do(); !errors.Is(err, ErrNotFound) {
			t.Errorf("another merchant: %s: %v", name, err)
		}
	}
	if err := b.s.Delete(t.Context(), b.merchant, last.ID); err != nil {
		t.Error(err)
	}
}

// Who has disconnected is told nothing, and what waited for them meanwhile is given up.
func TestDisconnectedMerchantsAreToldNothing(t *testing.T) {
	t.Parallel()
	b, a := setup(t), newApp(t)
	if _, err := b.s.Create(t.Context(), b.merchant, a.server.URL, nil); err != nil {
		t.Fatal(err)
	}
	b.emit("ghost.opened", struct{}{})
	b.Exec("UPDATE merchants SET disconnected_at = now(), access_token = NULL, refresh_token = NULL")
	b.deliver()
	if why := b.Text("SELECT why FROM event_deliveries"); len(a.bodies) != 0 || !strings.Contains(why, "disconnected") {
		t.Errorf("%d requests, %s", len(a.bodies), why)
	}
	b.emit("ghost.opened", struct{}{})
	b.emit("ghost.closed", struct{}{})
	b.Exec("UPDATE event_deliveries SET created_at = now() - interval '5 days' WHERE type = 'ghost.closed'")
	if err := b.s.Forget(t.Context(), b.merchant); err != nil {
		t.Fatal(err)
	}
	if waiting := b.Text("SELECT string_agg(type, ' ') FROM event_deliveries WHERE body IS NOT NULL"); waiting != "ghost.opened" {
		t.Errorf("%q wait", waiting)
	}
}

// Endpoints that do not answer hold few hands, and one merchant's half of them.
func TestSlowEndpointsHoldFewHands(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hold := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hold }))
	defer slow.Close()
	if _, err := b.s.Create(t.Context(), b.merchant, slow.URL, nil); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for range 3 {
		b.emit("ghost.opened", struct{}{})
	}
	if err := b.pool.QueryRow(t.Context(), "SELECT array_agg(id::text) FROM event_deliveries").Scan(&ids); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 3)
	for _, id := range ids {
		go func() {
			ended <- b.s.HandleDeliver(t.Context(), &task.Task{MerchantID: b.merchant, ID: uuid.MustParse(id)})
		}()
	}
	if wait, snoozed := task.Snoozed(<-ended); !snoozed || wait != 2*time.Second {
		t.Errorf("the third waits %s, %v", wait, snoozed)
	}
	close(hold)
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	s := newSlots(4)
	one, other, third := uuid.New(), uuid.New(), uuid.New()
	for i, want := range []struct {
		of  uuid.UUID
		got bool
	}{{one, true}, {one, true}, {one, false}, {other, true}, {other, true}, {third, false}} {
		if s.take(want.of) != want.got {
			t.Errorf("slot %d is shared wrongly", i)
		}
	}
	s.give(one)
	if !s.take(third) || s.take(one) {
		t.Error("what was given back is not shared")
	}
}
