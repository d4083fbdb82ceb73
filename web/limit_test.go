package web

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What is in flight has 25 seconds, no more.
func TestDrainingIsLimited(t *testing.T) {
	t.Parallel()
	if os.Getenv("PHANTOM_LONG") != "1" && os.Getenv("CI") != "true" {
		t.Skip("takes 25 s: PHANTOM_LONG=1 runs it")
	}
	entered, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	var log bytes.Buffer
	s := New(Config{
		// a fault: it does not heed its context
		Ping: func(context.Context) error { close(entered); <-release; return nil },
		Log:  slog.New(slog.NewTextHandler(&log, nil)),
	})
	listener, err := Listen(t.Context(), "127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, listener) }()
	conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(listener.Addr().(*net.TCPAddr).Port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /readyz HTTP/1.1\r\nHost: phantom\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-entered
	start := time.Now()
	stop()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if took := time.Since(start); took < drainTime || took > drainTime+15*time.Second {
		t.Errorf("it took %s", took)
	}
	if text, err := io.ReadAll(conn); err == nil && len(text) > 0 {
		t.Errorf("an answer: %q", text)
	}
	if strings.Count(log.String(), "still in flight are cut off") != 1 {
		t.Errorf("log %s", &log)
	}
}
