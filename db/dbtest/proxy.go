package dbtest

import (
	"io"
	"net"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Proxy returns a URL that leads to the database at direct through a wire, and what cuts and heals
// it.
func Proxy(t testing.TB, direct string) (through string, cut, heal func()) {
	t.Helper()
	config, err := pgx.ParseConfig(direct)
	if err != nil {
		t.Fatal(err)
	}
	network, address := pgconn.NetworkAddress(config.Host, config.Port)
	wire := NewWire(t, func() (net.Conn, error) { return net.Dial(network, address) })
	made, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	query := made.Query()
	query.Set("host", "localhost")
	query.Set("port", strconv.Itoa(wire.listener.Addr().(*net.TCPAddr).Port))
	made.Host, made.RawQuery = "", query.Encode()
	return made.String(), func() { wire.Cut(true, true) }, wire.Heal
}

// Wire is a way to a server that can be cut, in either direction or both. What goes into a cut
// direction is lost, on connections that were open for good, and no side learns it, as where a host
// is lost. Those that are made before it heals stay silent.
type Wire struct {
	listener net.Listener
	age      atomic.Int64 // of the connections that pass; odd while it is cut
	to, from atomic.Bool  // what the latest cut has taken
	open     sync.Map
}

// NewWire opens a wire over which dial leads to the server.
func NewWire(t testing.TB, dial func() (net.Conn, error)) *Wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &Wire{listener: listener}
	t.Cleanup(func() {
		_ = listener.Close()
		w.open.Range(func(conn, _ any) bool {
			_ = conn.(net.Conn).Close()
			return true
		})
	})
	go w.serve(dial)
	return w
}

// Address is where it begins.
func (w *Wire) Address() string { return w.listener.Addr().String() }

// Cut cuts it until it heals: what goes to the server, what comes from there, or both.
func (w *Wire) Cut(to, from bool) {
	w.to.Store(to)
	w.from.Store(from)
	w.age.Add(1)
}

// Heal lets what is new pass again.
func (w *Wire) Heal() { w.age.Add(1) }

func (w *Wire) serve(dial func() (net.Conn, error)) {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		born := w.age.Load()
		w.open.Store(client, true)
		if born%2 == 1 {
			continue
		}
		server, err := dial()
		if err != nil {
			_ = client.Close()
			continue
		}
		w.open.Store(server, true)
		pass := func(to, from net.Conn, cut *atomic.Bool) {
			end := &lossy{to: to, wire: w, born: born, cut: cut}
			_, _ = io.Copy(end, from)
			if !end.loses() { // an end passes too
				_ = to.Close()
			}
		}
		go pass(server, client, &w.to)
		go pass(client, server, &w.from)
	}
}

// lossy passes bytes on until its direction is cut, and drops what comes later.
type lossy struct {
	to   io.Writer
	wire *Wire
	born int64
	cut  *atomic.Bool
	lost bool
}

func (l *lossy) Write(p []byte) (int, error) {
	if l.loses() {
		return len(p), nil
	}
	return l.to.Write(p)
}

// loses says whether its direction has been cut since its connection was made.
func (l *lossy) loses() bool {
	l.lost = l.lost || l.wire.age.Load() != l.born && l.cut.Load()
	return l.lost
}
