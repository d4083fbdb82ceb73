package web

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// maxConnections is how many connections are kept. One costs some 20 kB while its header comes in.
const maxConnections = 4096

// boundedListener keeps so many connections at most. Where one more comes, it takes the place of
// the one that has asked nothing for longest: thousands of connections that send half a header, or
// nothing, keep nobody out.
type boundedListener struct {
	net.Listener
	most  int
	plain map[string][]byte // what goes out in place of net/http's own answers

	mutex  sync.Mutex
	open   int
	silent list.List // of *boundedConn: no request of theirs is being answered; the longest first
}

type boundedConn struct {
	net.Conn
	listener *boundedListener
	place    *list.Element // among the silent ones
	closed   bool
	busy     atomic.Bool // see busyConns
	asked    atomic.Bool // on the way that takes no lock, since somebody has looked
}

type boundedKey struct{}

func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &boundedConn{Conn: conn, listener: l}
		if oldest, fits := l.add(c); oldest != nil {
			_ = oldest.Close()
		} else if !fits { // all of them are being answered
			_ = conn.Close()
			continue
		}
		return c, nil
	}
}

// add makes room for a connection, and returns the one that has to go.
func (l *boundedListener) add(c *boundedConn) (oldest *boundedConn, fits bool) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.open >= l.most {
		if oldest = l.longestSilent(); oldest == nil {
			return nil, false
		}
		oldest.leave()
	}
	l.open++
	c.place = l.silent.PushBack(c)
	return oldest, true
}

// longestSilent is the connection that has asked nothing for longest, or nil. One that has asked
// for verdicts since it was passed over last is passed over once more.
func (l *boundedListener) longestSilent() *boundedConn {
	for range 2 * l.silent.Len() {
		front := l.silent.Front()
		c := front.Value.(*boundedConn)
		if !c.asked.Swap(false) {
			return c
		}
		l.silent.MoveToBack(front)
	}
	return nil
}

// noteAsked says that a connection is in use, without the lock that [spareAnswered] takes.
func noteAsked(r *http.Request) {
	if c, ok := r.Context().Value(boundedKey{}).(*boundedConn); ok && !c.asked.Load() {
		c.asked.Store(true)
	}
}

// leave takes a connection off the count, once. The mutex is held.
func (c *boundedConn) leave() {
	if c.closed {
		return
	}
	c.closed = true
	c.listener.open--
	if c.place != nil {
		c.listener.silent.Remove(c.place)
		c.place = nil
	}
}

func (c *boundedConn) Close() error {
	c.listener.mutex.Lock()
	c.leave()
	c.listener.mutex.Unlock()
	return c.Conn.Close()
}

// CloseWrite lets the server end its side first, so that a refusal arrives although the client
// still sends.
func (c *boundedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// withConn is an http.Server's ConnContext hook.
func withConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, boundedKey{}, conn)
}

// spareAnswered has no connection taken away whose request is being answered.
func spareAnswered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(boundedKey{}).(*boundedConn); ok {
			c.answering(true)
			defer c.answering(false)
		}
		next.ServeHTTP(w, r)
	})
}

func (c *boundedConn) answering(now bool) {
	l := c.listener
	l.mutex.Lock()
	defer l.mutex.Unlock()
	switch {
	case c.closed:
	case now && c.place != nil:
		l.silent.Remove(c.place)
		c.place = nil
	case !now && c.place == nil:
		c.place = l.silent.PushBack(c)
	}
}
