package web

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// acceptTail is how long a draining listener goes on taking connections that clients have already
// made.
const acceptTail = 100 * time.Millisecond

// Listen opens the port on a host's address, or on all addresses if host is empty, for
// [Server.Serve].
func Listen(ctx context.Context, host string, port int) (*net.TCPListener, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false) // Go's default; such a socket takes no filter
	listener, err := config.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	return listener.(*net.TCPListener), nil
}

// drainableListener can stop without losing a connection. Closing a listener resets every
// connection that waits to be accepted, and to its client that is a lost request. Instead drain
// turns new ones away first, then hands out the waiting ones, and only then Accept fails.
type drainableListener struct {
	*net.TCPListener
	draining atomic.Bool
}

var errDrained = errors.New("listener is drained")

func (l *drainableListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.TCPListener.Accept()
		if err == nil || !l.draining.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
			return conn, err
		}
		// On a busy machine the tail may be over before anybody has looked: Go does not ask the
		// system then.
		if !connectionsWait(l.TCPListener) {
			return nil, errDrained
		}
		if err := l.SetDeadline(time.Now().Add(acceptTail)); err != nil {
			return nil, err
		}
	}
}

func (l *drainableListener) drain() error {
	// Where the system cannot turn new connections away, those that arrive within the tail are
	// still served.
	err := refuseConnections(l.TCPListener)
	l.draining.Store(true)
	return errors.Join(err, l.SetDeadline(time.Now().Add(acceptTail)))
}

// busyConns counts the connections that have sent, or may yet send, a request that nobody has
// answered. http.Server.Shutdown drops a request that it reads after it was called, so it is called
// when there are none.
type busyConns struct{ count atomic.Int64 }

// track is an http.Server's ConnState hook. It is called twice for each request, and takes no lock.
func (b *busyConns) track(conn net.Conn, state http.ConnState) {
	c, ours := conn.(*boundedConn)
	if !ours {
		return
	}
	switch state {
	case http.StateNew, http.StateActive:
		if !c.busy.Swap(true) {
			b.count.Add(1)
		}
	case http.StateIdle, http.StateHijacked, http.StateClosed:
		if c.busy.Swap(false) {
			b.count.Add(-1)
		}
	}
}

func (b *busyConns) none() bool { return b.count.Load() == 0 }

// wait returns when there are none or ctx has ended.
func (b *busyConns) wait(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !b.none() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
