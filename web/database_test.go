package web_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"phantom/db/dbtest"
	"phantom/sandbox"
)

// gate is a TCP relay before PostgreSQL. Shut it refuses and drops connections, as a server that
// has stopped; stalled it takes them and nothing passes, as a network that has broken.
type gate struct {
	t       *testing.T
	address string // of the relay
	network string
	target  string

	mutex    sync.Mutex
	moving   *sync.Cond
	stalled  bool
	listener net.Listener
	conns    map[net.Conn]bool
	running  sync.WaitGroup
}

// newGate returns a relay to the server of databaseURL and the URL that leads through it.
func newGate(t *testing.T, databaseURL string) (*gate, string) {
	t.Helper()
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{t: t, address: "127.0.0.1:0", conns: map[net.Conn]bool{}}
	g.moving = sync.NewCond(&g.mutex)
	g.network, g.target = serverAddress(config)
	g.open()
	t.Cleanup(func() { g.shut(); g.running.Wait() })
	password := config.Password
	if password == "" {
		password = canary // the test server does not ask; a log must not tell
	}
	through := url.URL{Scheme: "postgres", User: url.UserPassword(config.User, password), Host: g.address, Path: "/" + config.Database, RawQuery: "sslmode=disable"}
	return g, through.String()
}

func serverAddress(config *pgx.ConnConfig) (network, address string) {
	port := strconv.Itoa(int(config.Port))
	if strings.HasPrefix(config.Host, "/") {
		return "unix", config.Host + "/.s.PGSQL." + port
	}
	return "tcp", net.JoinHostPort(config.Host, port)
}

func (g *gate) open() {
	g.t.Helper()
	listener, err := net.Listen("tcp", g.address)
	if err != nil {
		g.t.Fatal(err)
	}
	g.mutex.Lock()
	g.listener, g.address = listener, listener.Addr().String()
	g.mutex.Unlock()
	g.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			g.running.Go(func() { g.relay(conn) })
		}
	})
}

func (g *gate) relay(client net.Conn) {
	server, err := net.Dial(g.network, g.target)
	if err != nil {
		client.Close()
		return
	}
	g.mutex.Lock()
	g.conns[client], g.conns[server] = true, true
	g.mutex.Unlock()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		both.Go(func() {
			_, _ = io.Copy(gated{g, way[0]}, way[1])
			client.Close()
			server.Close()
		})
	}
	both.Wait()
	g.mutex.Lock()
	delete(g.conns, client)
	delete(g.conns, server)
	g.mutex.Unlock()
}

// gated holds back what passes while the gate is stalled.
type gated struct {
	gate *gate
	to   net.Conn
}

func (w gated) Write(text []byte) (int, error) {
	w.gate.mutex.Lock()
	for w.gate.stalled {
		w.gate.moving.Wait()
	}
	w.gate.mutex.Unlock()
	return w.to.Write(text)
}

func (g *gate) shut() {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.listener.Close()
	for conn := range g.conns {
		conn.Close()
	}
	g.stalled = false
	g.moving.Broadcast()
}

func (g *gate) stall(on bool) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.stalled = on
	g.moving.Broadcast()
}

// messages picks the entries that have the tag.
func (b *bench) messages(tag string) []string {
	var all []string
	for _, l := range b.lines() {
		if strings.HasPrefix(l.Msg, tag) {
			all = append(all, l.Level+" "+l.Msg)
		}
	}
	return all
}

const (
	lostLine = "ERROR [DATABASE] PostgreSQL does not answer: requests get 503 until it does"
	backLine = "INFO [DATABASE] PostgreSQL answers again"
)

// all three at once, since each may wait for seconds.
func (c *browser) askDatabase(back *url.URL) []answer {
	paths := []string{"/api/auth/stripe", back.RequestURI(), "/readyz"}
	answers := make([]answer, len(paths))
	var all sync.WaitGroup
	for i, path := range paths {
		all.Go(func() {
			var err error
			if answers[i], err = c.try(c.b.t.Context(), http.MethodGet, path); err != nil {
				c.b.t.Error(err)
			}
		})
	}
	all.Wait()
	return answers
}

func TestDatabaseGoneAndBack(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		gone     func(*gate)
		back     func(*gate)
		requests int
	}{
		{"refuses", (*gate).shut, (*gate).open, 20},
		{"is silent", func(g *gate) { g.stall(true) }, func(g *gate) { g.stall(false) }, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g, through := newGate(t, dbtest.URL(t))
			b := setup(t, func(o *options) { o.database, o.timeout = through, ownTimeouts })
			c := b.browser()
			back := c.callback()
			test.gone(g)
			for range test.requests {
				for _, got := range c.askDatabase(back) {
					got.wantError(t, http.StatusServiceUnavailable, "database_unavailable")
					if got.header.Get("Set-Cookie") != "" || got.header.Get("Location") != "" {
						t.Errorf("headers %v", got.header)
					}
				}
				if got := c.get("/healthz"); got.status != http.StatusOK {
					t.Errorf("/healthz: %d", got.status)
				}
			}
			if all := b.messages(""); len(all) != 1 || all[0] != lostLine {
				t.Errorf("log %q", all)
			}
			test.back(g)
			eventually(t, "/readyz is 200", func() bool { return c.get("/readyz").status == http.StatusOK })
			c.arrive(back).wantSuccess(t) // the state was not lost
			c.handshake().wantSuccess(t)
			if all := b.messages("[DATABASE]"); len(all) != 2 || all[1] != backLine {
				t.Errorf("log %q", all)
			}
			// A second loss is told again.
			test.gone(g)
			c.get("/readyz").wantError(t, http.StatusServiceUnavailable, "database_unavailable")
			if all := b.messages("[DATABASE]"); len(all) != 3 || all[2] != lostLine {
				t.Errorf("log %q", all)
			}
			g.stall(false) // or closing the pool would wait
		})
	}
}

// Each of these is the database away, however the driver says it.
func TestDatabaseUnavailable(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		gone func(t *testing.T, b *bench)
	}{
		{"pool closed", func(_ *testing.T, b *bench) { b.pool.Close() }},
		{"tables locked", func(t *testing.T, b *bench) {
			tx, err := b.pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
			if _, err := tx.Exec(t.Context(), "LOCK TABLE oauth_states"); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(o *options) { o.timeout = ownTimeouts })
			c := b.browser()
			back := c.callback()
			test.gone(t, b)
			for _, got := range c.askDatabase(back)[:2] {
				got.wantError(t, http.StatusServiceUnavailable, "database_unavailable")
			}
			if all := b.messages(""); len(all) != 1 && test.name == "pool closed" || all[0] != lostLine {
				t.Errorf("log %q", all)
			}
		})
	}
}

// The code is spent and the tokens cannot be stored: said plainly, and the code is not sent again.
func TestDatabaseGoneDuringTheExchange(t *testing.T) {
	t.Parallel()
	g, through := newGate(t, dbtest.URL(t))
	b := setup(t, func(o *options) { o.database, o.timeout = through, ownTimeouts })
	c := b.browser()
	back := c.callback()
	b.world.Fail(sandbox.Fault{Path: "/oauth/token", Hold: g.shut, After: true})
	c.arrive(back).wantError(t, http.StatusServiceUnavailable, "database_unavailable")
	if all := b.messages(""); len(all) != 1 || all[0] != lostLine {
		t.Errorf("log %q", all)
	}
	g.open()
	c.arrive(back).wantError(t, http.StatusBadRequest, "invalid_state")
	if n := b.stripe.count("/oauth/token"); n != 1 || b.merchants() != 0 {
		t.Errorf("the token endpoint was asked %d times, %d merchants", n, b.merchants())
	}
	c.handshake().wantSuccess(t)
}

// A database that comes back after what one statement may take is in time for the tokens of a spent
// code. The times are long, so that a busy machine does not matter.
func TestDatabaseBackAfterTheExchange(t *testing.T) {
	t.Parallel()
	g, through := newGate(t, dbtest.URL(t))
	const statement = 12 * time.Second
	b := setup(t, func(o *options) { o.database, o.timeout = through, statement })
	b.world.Fail(sandbox.Fault{Path: "/oauth/token", After: true, Hold: func() {
		g.shut()
		time.AfterFunc(statement*3/2, g.open)
	}})
	b.browser().handshake().wantSuccess(t)
	if n := b.merchants(); n != 1 {
		t.Errorf("%d merchants", n)
	}
}

// The tokens are stored and the facts cannot be.
func TestDatabaseGoneDuringTheFacts(t *testing.T) {
	t.Parallel()
	g, through := newGate(t, dbtest.URL(t))
	b := setup(t, func(o *options) { o.database, o.timeout = through, ownTimeouts })
	b.world.Fail(sandbox.Fault{Path: "/v1/account", Hold: g.shut, After: true})
	b.browser().handshake().wantSuccess(t)
	if all := b.messages("[STRIPE]"); len(all) != 2 || all[0] != "WARN [STRIPE] account facts not read" {
		t.Errorf("log %q", all)
	}
	g.open()
	if n := b.merchants(); n != 1 {
		t.Errorf("%d merchants", n)
	}
}

// The connections die while Stripe is asked, the database does not: the spent code's tokens are
// stored all the same.
func TestConnectionsLostDuringTheExchange(t *testing.T) {
	t.Parallel()
	b := setup(t)
	killer, err := pgx.Connect(t.Context(), b.pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = killer.Close(context.Background()) }()
	b.world.Fail(sandbox.Fault{Path: "/oauth/token", After: true, Hold: func() {
		if _, err := killer.Exec(context.Background(),
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"); err != nil {
			t.Error(err)
		}
	}})
	b.browser().handshake().wantSuccess(t)
}

// What a database does not answer in time is given up: a read of the API and an event of Stripe's
// wait for nobody's lock.
func TestALockIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *options) { o.timeout = 500 * time.Millisecond })
	c := b.caller("acct_1")
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), "LOCK TABLE ghost_targets, webhook_events IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	c.call("GET", "/api/ghosts", "").wantError(t, http.StatusServiceUnavailable, "database_unavailable")
	b.send(event("acct_1", "evt_1", "invoice.paid", "in_1")).wantError(t, http.StatusServiceUnavailable, "database_unavailable")
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the list is there again", func() bool { return c.call("GET", "/api/ghosts", "").status == http.StatusOK })
}
