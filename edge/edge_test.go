package edge

import (
	"context"
	"crypto/sha256"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/internal/stage"
	"phantom/shield"
	"phantom/verdict"
)

const key = "phs_of_the_edge"

// upstream is a server that can go away.
type upstream struct {
	table  *verdict.Table
	tenant shield.Tenant
	away   atomic.Bool
	server *httptest.Server
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	policy := shield.Default()
	policy.Mode = shield.Enforce
	u := &upstream{table: verdict.NewTable(), tenant: shield.Tenant{ID: uuid.New(), Account: "acct_1", Policy: policy, Version: 1, Revision: 1}}
	u.load(t, shield.Row{Subscription: "sub_1", Customer: "cus_1", Level: shield.Limited, Reason: shield.ByFailure})
	u.keys(key)
	handler := verdict.New(verdict.Config{Table: u.table, Draining: u.away.Load})
	u.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u.away.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		u.table.Synced()
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(u.server.Close)
	return u
}

func (u *upstream) load(t *testing.T, rows ...shield.Row) {
	t.Helper()
	if err := u.table.Load("0a1b2c3d", []shield.Tenant{u.tenant}, true, func(add func(uuid.UUID, shield.Row)) error {
		for _, row := range rows {
			add(u.tenant.ID, row)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	u.table.Synced()
}

func (u *upstream) keys(all ...string) {
	var keys []shield.TenantKey
	for _, key := range all {
		hash := sha256.Sum256([]byte(key))
		keys = append(keys, shield.TenantKey{Merchant: u.tenant.ID, ID: uuid.New(), Hash: hash[:]})
	}
	u.table.SetKeys(uuid.Nil, keys)
}

// runs starts an edge, and returns its address.
func runs(t *testing.T, u *upstream) (address string, e *Edge, log *stage.Log) {
	t.Helper()
	log = &stage.Log{}
	e, err := New(Config{Upstream: u.server.URL, Key: key, Log: log.Logger()})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is at once
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	followed, served := make(chan struct{}), make(chan struct{})
	go func() { defer close(followed); e.Run(ctx) }()
	go func() { defer close(served); _ = e.Serve(ctx, listener) }()
	t.Cleanup(func() { cancel(); <-followed; <-served })
	return "http://" + listener.Addr().String(), e, log
}

func ask(t *testing.T, address, key, customer string) (status int, header http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+"/api/shield/auth", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Shield-Customer", customer)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode, response.Header
}

// An edge says what its upstream says, goes on while that is away, and catches up.
func TestEdgeFollows(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	address, e, log := runs(t, u)
	has := func(customer, level string) func() bool {
		return func() bool {
			_, header := ask(t, address, key, customer)
			return header.Get("Shield-Level") == level
		}
	}
	stage.Await(t, "the copy is there", log, has("cus_1", "limited"))
	u.table.Apply(u.tenant.ID, 2, []shield.Row{{Subscription: "sub_1", Customer: "cus_1", Level: shield.Full, Reason: shield.ByPayment}})
	stage.Await(t, "the change is there", log, has("cus_1", "full"))
	if got := e.table.Revision(u.tenant.ID); got != 2 {
		t.Errorf("revision %d", got)
	}
	if status, _ := ask(t, address, "phs_of_another", "cus_1"); status != 500 {
		t.Errorf("another key: %d", status)
	}
	u.away.Store(true)
	u.table.Apply(u.tenant.ID, 3, []shield.Row{{Subscription: "sub_2", Customer: "cus_2", Level: shield.Blocked, Reason: shield.ByFailure}})
	u.server.CloseClientConnections()
	stage.Await(t, "it is said that the upstream is away", log, func() bool { return strings.Contains(log.String(), "cannot be followed") })
	if status, _ := ask(t, address, key, "cus_1"); status != 200 {
		t.Errorf("while the upstream is away: %d", status)
	}
	stage.Await(t, "answers tell their age", log, func() bool {
		_, header := ask(t, address, key, "cus_1")
		return header.Get("Shield-Freshness") == "stale" && header.Get("Age") != ""
	})
	u.away.Store(false)
	stage.Await(t, "it has caught up", log, has("cus_2", "blocked"))
	stage.Await(t, "answers are fresh again", log, func() bool {
		_, header := ask(t, address, key, "cus_1")
		return header.Get("Shield-Freshness") == ""
	})
}

// A key that is revoked at the server opens nothing at the edge.
func TestEdgeOfARevokedKey(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	address, _, log := runs(t, u)
	stage.Await(t, "the copy is there", log, func() bool { status, _ := ask(t, address, key, "cus_1"); return status == 403 })
	u.keys()
	stage.Await(t, "nobody is answered", log, func() bool { status, _ := ask(t, address, key, "cus_1"); return status == 500 })
	u.keys(key)
	stage.Await(t, "it is answered again", log, func() bool { status, _ := ask(t, address, key, "cus_1"); return status == 403 })
}

// A merchant who leaves is left at the edge, too: a payment there would never be heard of.
func TestEdgeOfAMerchantWhoLeaves(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	address, _, log := runs(t, u)
	stage.Await(t, "the copy is there", log, func() bool { status, _ := ask(t, address, key, "cus_1"); return status == 403 })
	gone := u.tenant
	gone.Disconnected = true
	u.table.Describe(gone)
	ended := false // an edge that goes on is seen in time
	for end := time.Now().Add(30 * time.Second); !ended && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		status, _ := ask(t, address, key, "cus_1")
		ended = status == http.StatusInternalServerError
	}
	if !ended {
		t.Fatalf("it goes on for a merchant who has left\n%s", log)
	}
	u.table.Describe(u.tenant)
	stage.Await(t, "it is answered again", log, func() bool { status, _ := ask(t, address, key, "cus_1"); return status == 403 })
}

func TestEdgeConfig(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		upstream, key string
		ok, insecure  bool
	}{
		{"https://phantom.example", key, true, false}, {"http://127.0.0.1:8080/", key, true, false}, {"http://localhost", key, true, false},
		{"http://phantom.internal:8080", key, true, true}, {"phantom.example", key, false, false}, {"ftp://phantom.example", key, false, false},
		{"https://phantom.example/path", key, false, false}, {"https://user:secret@phantom.example", key, false, false}, {"", key, false, false},
		{"https://phantom.example", "phk_write", false, false}, {"https://phantom.example", "", false, false},
	} {
		e, err := New(Config{Upstream: test.upstream, Key: test.key, Log: (&stage.Log{}).Logger()})
		if (err == nil) != test.ok || err == nil && e.Insecure() != test.insecure {
			t.Errorf("%+v: %v", test, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("it quotes the address: %v", err)
		}
	}
}

// An upstream that says nothing is left, however open its connection is.
func TestEdgeLeavesASilentUpstream(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	silent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte("event: alive\ndata: {\"age_ms\":0}\n\n"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(silent.Close)
	log := &stage.Log{}
	e, err := New(Config{Upstream: silent.URL, Key: key, Log: log.Logger()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go e.Run(ctx)
	stage.Await(t, "it asks again", log, func() bool { return asked.Load() > 1 })
}
