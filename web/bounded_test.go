package web

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// serveBounded serves on so many connections at most. dial makes one and sends text.
func serveBounded(t *testing.T, most int, handler http.HandlerFunc) (listener *boundedListener, dial func(text string) net.Conn) {
	t.Helper()
	inner, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	listener = &boundedListener{Listener: inner, most: most}
	server := &http.Server{
		ConnContext: withConn, ReadHeaderTimeout: time.Minute, Handler: spareAnswered(handler),
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-ended })
	return listener, func(text string) net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		return conn
	}
}

// More connections than there may be, with half a header on each, keep nobody out, and end no
// request that is being answered.
func TestHalfHeadersKeepNobodyOut(t *testing.T) {
	t.Parallel()
	const most = 20
	entered, release := make(chan struct{}), make(chan struct{})
	listener, dial := serveBounded(t, most, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			entered <- struct{}{}
			<-release
		}
		w.WriteHeader(http.StatusNoContent)
	})
	status := func(conn net.Conn) int {
		t.Helper()
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode
	}
	slow := dial("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered
	kept := dial("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if got := status(kept); got != http.StatusNoContent {
		t.Fatalf("status %d", got)
	}
	var halves []net.Conn
	for range 3 * most {
		halves = append(halves, dial("GET / HTTP/1.1\r\nHost: "))
		if got := status(dial("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")); got != http.StatusNoContent {
			t.Fatalf("status %d", got)
		}
	}
	listener.mutex.Lock()
	open, silent := listener.open, listener.silent.Len()
	listener.mutex.Unlock()
	if open > most || silent != open-1 {
		t.Errorf("%d connections of %d, %d of them silent", open, most, silent)
	}
	_ = halves[0].SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := halves[0].Read(make([]byte, 1)); err == nil {
		t.Error("the oldest half header has an answer")
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the oldest half header keeps its connection")
	}
	close(release)
	if got := status(slow); got != http.StatusNoContent {
		t.Errorf("what was being answered: %d", got)
	}
	// It counts as silent from now on.
	for range most {
		dial("GET / HTTP/1.1\r\nHost: ")
	}
	_ = slow.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := slow.Read(make([]byte, 1)); err == nil {
		t.Error("an answer to nothing")
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("what was answered keeps its connection for ever")
	}
}

// Where all that is open is being answered, one more is refused.
func TestNoAnswerIsCutOffForOneMore(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = inner.Close() }()
	listener := &boundedListener{Listener: inner, most: 1}
	accepted := make(chan *boundedConn, 9)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- conn.(*boundedConn)
		}
	}()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	dial()
	first := <-accepted
	first.answering(true)
	refused := dial()
	_ = refused.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := refused.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("one more is taken")
	}
	_ = first.Close()
	_ = first.Close() // as the server may, twice
	first.answering(false)
	dial()
	if second := <-accepted; second == first || listener.open != 1 {
		t.Errorf("%d are open", listener.open)
	}
}

// Bodies that are announced and do not come keep nobody out either, though their requests are with
// their handlers.
func TestSlowBodiesKeepNobodyOut(t *testing.T) {
	t.Parallel()
	const most = 20
	s := &Server{unverified: newUnverified()}
	reading := make(chan struct{}, 100)
	_, ask := serveBounded(t, most, func(w http.ResponseWriter, r *http.Request) {
		reading <- struct{}{}
		_, done, err := s.readUnverified(r)
		defer done()
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	for range 3 * most {
		ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
		select {
		case <-reading:
		case <-time.After(20 * time.Second):
			t.Fatal("one more is kept out")
		}
	}
	good := ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
	_ = good.SetReadDeadline(time.Now().Add(20 * time.Second))
	response, err := http.ReadResponse(bufio.NewReader(good), nil)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("%v %v", response, err)
	}
}
