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

// Proxy returns a URL that leads to the database at direct through a proxy, and what cuts and heals
// it. Nothing passes over the connections that were cut any more, in either direction and for good,
// and no side learns it, as where a host is lost. Those that are made before it heals stay silent.
func Proxy(t testing.TB, direct string) (through string, cut, heal func()) {
	t.Helper()
	config, err := pgx.ParseConfig(direct)
	if err != nil {
		t.Fatal(err)
	}
	network, address := pgconn.NetworkAddress(config.Host, config.Port)
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	var age atomic.Int64 // of the connections that pass; odd while none do
	var open sync.Map
	t.Cleanup(func() {
		_ = listener.Close()
		open.Range(func(conn, _ any) bool {
			_ = conn.(net.Conn).Close()
			return true
		})
	})
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			born := age.Load()
			if born%2 == 1 {
				open.Store(client, true)
				continue
			}
			server, err := net.Dial(network, address)
			if err != nil {
				_ = client.Close()
				continue
			}
			open.Store(client, true)
			open.Store(server, true)
			pass := func(to, from net.Conn) {
				_, _ = io.Copy(&lossy{to, &age, born}, from)
				if age.Load() == born { // an end passes too
					_ = to.Close()
				}
			}
			go pass(server, client)
			go pass(client, server)
		}
	}()
	made, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	query := made.Query()
	query.Set("host", "localhost")
	query.Set("port", strconv.Itoa(listener.Addr().(*net.TCPAddr).Port))
	made.Host, made.RawQuery = "", query.Encode()
	bump := func() { age.Add(1) }
	return made.String(), bump, bump
}

// lossy passes bytes on until its connection is cut, and drops what comes later.
type lossy struct {
	to   io.Writer
	age  *atomic.Int64
	born int64
}

func (l *lossy) Write(p []byte) (int, error) {
	if l.age.Load() != l.born {
		return len(p), nil
	}
	return l.to.Write(p)
}
