package web_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"phantom/sandbox"
)

// patience bounds what should happen at once.
const patience = 20 * time.Second

// eventually asks until the answer is yes.
func eventually(t *testing.T, what string, ask func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ask(); {
		if time.Now().After(end) {
			t.Fatal("never: ", what)
		}
	}
}

// wire is one connection to the server that stays open between requests.
type wire struct {
	b      *bench
	conn   net.Conn
	reader *bufio.Reader
}

func (b *bench) wire() *wire {
	b.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		b.t.Fatal(err)
	}
	return &wire{b, conn, bufio.NewReader(conn)}
}

func (w *wire) send(text string) {
	w.b.t.Helper()
	if _, err := io.WriteString(w.conn, text); err != nil {
		w.b.t.Fatal(err)
	}
}

func (w *wire) get(path string) answer {
	w.b.t.Helper()
	w.send("GET " + path + " HTTP/1.1\r\nHost: phantom\r\n\r\n")
	return w.answer()
}

func (w *wire) answer() answer {
	w.b.t.Helper()
	response, err := http.ReadResponse(w.reader, nil)
	if err != nil {
		w.b.t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		w.b.t.Fatal(err)
	}
	if response.Close {
		response.Header.Set("Connection", "close") // ReadResponse takes it away
	}
	return answer{response.StatusCode, response.Header, string(body)}
}

// ended reports whether the server closes the connection without another word.
func (w *wire) ended() bool {
	_, err := w.reader.ReadByte()
	return errors.Is(err, io.EOF) || err != nil && !errors.Is(err, net.ErrClosed) && !isTimeout(err)
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}

func TestDraining(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.browser()
	back := c.callback()
	entered, released := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(released) })
	t.Cleanup(release)
	b.world.Fail(sandbox.Fault{Path: "/oauth/token", Hold: func() { close(entered); <-released }})
	finished := make(chan answer, 1)
	go func() {
		got, err := c.try(t.Context(), http.MethodGet, back.RequestURI())
		if err != nil {
			t.Error(err)
		}
		finished <- got
	}()
	<-entered
	fresh, half, kept, idle := b.wire(), b.wire(), b.wire(), b.wire()
	half.send("GET /readyz HTTP/1.1\r\nHost: phan")
	// Connections are accepted in order, so the earlier ones are the server's too.
	for _, w := range []*wire{kept, idle} {
		if got := w.get("/readyz"); got.status != http.StatusOK {
			t.Fatalf("/readyz: %d", got.status)
		}
	}

	b.stop(errors.New("test signal"))
	var last answer
	eventually(t, "/readyz says that the server drains", func() bool {
		last = kept.get("/readyz")
		return last.status != http.StatusOK
	})
	last.wantError(t, http.StatusServiceUnavailable, "draining")
	b.checkHeaders(last)
	if last.header.Get("Connection") != "close" {
		t.Error("the client is not told to go elsewhere")
	}
	eventually(t, "new connections are refused", func() bool {
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(b.url, "http://"), 300*time.Millisecond)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	// What was connected before is answered, and told the truth.
	fresh.get("/readyz").wantError(t, http.StatusServiceUnavailable, "draining")
	half.send("tom\r\n\r\n")
	half.answer().wantError(t, http.StatusServiceUnavailable, "draining")
	select {
	case err := <-b.served:
		t.Fatalf("Serve returned %v with a handshake in flight", err)
	case got := <-finished:
		t.Fatalf("the handshake ended early: %+v", got)
	default:
	}

	release()
	(<-finished).wantSuccess(t)
	select {
	case err := <-b.served:
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("Serve does not return")
	}
	b.served <- nil
	if !idle.ended() {
		t.Error("an idle connection was left open")
	}
	if n := b.merchants(); n != 1 {
		t.Errorf("%d merchants", n)
	}
	if all := b.lines(); len(all) != 2 || !strings.HasPrefix(all[0].Msg, "[SERVER] stopping") || all[0].Cause != "test signal" {
		t.Errorf("log %+v", all)
	}
}

// Nothing in flight: idle connections hold up nothing.
func TestDrainingWithIdleConnections(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 20 {
		b.wire().get("/healthz")
	}
	start := time.Now()
	b.stop(nil)
	if err := <-b.served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	b.served <- nil
	if took := time.Since(start); took > 12*time.Second {
		t.Errorf("it took %s", took)
	}
}

// noDatabase is for tests of what needs none.
const noDatabase = "postgres://nobody@127.0.0.1:1/none"

// No request on a connection that was made is lost, whenever the end comes.
func TestDrainingUnderLoad(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("other systems cannot turn new connections away before the port is closed")
	}
	for range 5 {
		b := setup(t, func(o *options) { o.database = noDatabase })
		var lost, served atomic.Int32
		var clients sync.WaitGroup
		var stopping atomic.Bool
		warm := make(chan struct{}, 1)
		for range 32 {
			clients.Go(func() {
				for {
					if b.askOnce(&served, &lost) {
						select {
						case warm <- struct{}{}:
						default:
						}
					} else if stopping.Load() {
						// before that it is a busy machine that turns a client away
						return
					}
				}
			})
		}
		<-warm
		stopping.Store(true)
		b.stop(nil)
		clients.Wait()
		if lost.Load() != 0 || served.Load() == 0 {
			t.Errorf("%d requests lost, %d served", lost.Load(), served.Load())
		}
	}
}

// askOnce makes a connection for one request and reports whether there was one to make: a client
// turned away has lost nothing.
func (b *bench) askOnce(served, lost *atomic.Int32) bool {
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(b.url, "http://"), 300*time.Millisecond)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, err = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: phantom\r\nConnection: close\r\n\r\n")
	text, readErr := io.ReadAll(conn)
	if err != nil || readErr != nil || !strings.HasPrefix(string(text), "HTTP/1.1 200 ") {
		lost.Add(1)
	} else {
		served.Add(1)
	}
	return true
}
