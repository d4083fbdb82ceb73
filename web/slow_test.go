package web_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The tests of this file measure the process, so they run alone.

// Sockets that send their headers for ever neither hinder others nor stay.
func TestSlowSockets(t *testing.T) { //nolint:paralleltest // it measures the process
	sockets := 300
	if long {
		sockets = 2000
	}
	b := setup(t, func(o *options) { o.database = noDatabase })
	alone := b.p99(t)
	slow := make([]*wire, sockets)
	for i := range slow {
		slow[i] = b.wire()
		slow[i].send("GET /healthz HTTP/1.1\r\nHost: phantom\r\nX-Slow: ")
	}
	start := time.Now()
	for _, w := range slow {
		w.send("a") // they seem alive
	}
	crowded := b.p99(t)
	t.Logf("p99 of /healthz: %s alone, %s beside %d slow sockets", alone, crowded, sockets)
	bar := 2 * time.Second // on a busy machine
	if long {
		bar = 250 * time.Millisecond
	}
	if crowded > max(20*alone, bar) {
		t.Errorf("p99 of /healthz: %s alone, %s beside %d slow sockets", alone, crowded, sockets)
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Logf("some slow sockets may have been closed by then: %s", took)
	}
	for _, w := range slow {
		if !w.ended() {
			t.Fatal("a slow socket was not closed")
		}
	}
	// The limit is 5 s for the headers; the machine may be busy.
	if took := time.Since(start); took > 9*time.Second {
		t.Errorf("the slow sockets were closed after %s", took)
	}
}

// p99 asks /healthz from eight clients at once and fails where one gets no answer.
func (b *bench) p99(t *testing.T) time.Duration {
	t.Helper()
	const clients, requests = 8, 50
	var mutex sync.Mutex
	var all []time.Duration
	var group sync.WaitGroup
	for range clients {
		c := b.browser()
		group.Go(func() {
			for range requests {
				start := time.Now()
				got, err := c.try(t.Context(), http.MethodGet, "/healthz")
				took := time.Since(start)
				if err != nil || got.status != http.StatusOK {
					t.Errorf("/healthz: %d %v", got.status, err)
					return
				}
				mutex.Lock()
				all = append(all, took)
				mutex.Unlock()
			}
		})
	}
	group.Wait()
	if len(all) == 0 {
		t.Fatal("no answers")
	}
	slices.Sort(all)
	return all[len(all)*99/100]
}

// A body of 1 GB is not read: the memory stays flat and the connection ends.
func TestHugeBodies(t *testing.T) { //nolint:paralleltest // it measures the process
	const huge = 1 << 30
	b := setup(t, func(o *options) { o.database = noDatabase })
	chunk := bytes.Repeat([]byte("z"), 64<<10)
	chunked := append(append([]byte("10000\r\n"), chunk...), "\r\n"...)
	for _, test := range []struct {
		name, head string
		block      []byte
		status     int
	}{
		{"with a length", "POST /api/auth/callback HTTP/1.1\r\nHost: phantom\r\nContent-Length: 1073741824\r\n\r\n", chunk, 413},
		{"with a length, to an open route", "GET /healthz HTTP/1.1\r\nHost: phantom\r\nContent-Length: 1073741824\r\n\r\n", chunk, 413},
		{"with a length, to nowhere", "POST /x HTTP/1.1\r\nHost: phantom\r\nContent-Length: 1073741824\r\n\r\n", chunk, 413},
		{"in chunks", "POST /api/auth/callback HTTP/1.1\r\nHost: phantom\r\nTransfer-Encoding: chunked\r\n\r\n", chunked, 405},
		{"in chunks, to an open route", "GET /healthz HTTP/1.1\r\nHost: phantom\r\nTransfer-Encoding: chunked\r\n\r\n", chunked, 200},
		{"just over the cap", "POST /x HTTP/1.1\r\nHost: phantom\r\nContent-Length: 65537\r\n\r\n", chunk, 413},
		{"at the cap", "POST /x HTTP/1.1\r\nHost: phantom\r\nConnection: close\r\nContent-Length: 65536\r\n\r\n", chunk[:0], 404},
		{"length and chunks", "POST /x HTTP/1.1\r\nHost: phantom\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", chunked, 404},
		{"asked for by 100-continue", "POST /x HTTP/1.1\r\nHost: phantom\r\nExpect: 100-continue\r\nContent-Length: 1073741824\r\n\r\n", nil, 413},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := allocated()
			w := b.wire()
			w.send(test.head)
			sent := make(chan int)
			go func() {
				total := 0
				for len(test.block) > 0 && total < huge {
					n, err := w.conn.Write(test.block)
					if total += n; err != nil {
						break
					}
				}
				sent <- total
			}()
			got := w.answer()
			if got.status != test.status {
				t.Errorf("%d %s, want %d", got.status, got.body, test.status)
			}
			if test.status == 413 {
				got.wantError(t, 413, "request_too_large")
			}
			if !w.ended() {
				t.Error("the connection stays open")
			}
			if total := <-sent; total > 64<<20 {
				t.Errorf("%d bytes were taken", total)
			}
			if grown := allocated() - before; grown > 16<<20 {
				t.Errorf("%d bytes were allocated", grown)
			}
		})
	}
}

// allocated counts every byte since the start, so that nothing hides behind the collector.
func allocated() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.TotalAlloc
}

// A body that never comes ends at the read time-out, ten seconds after the request began.
func TestStarvedBody(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *options) { o.database = noDatabase })
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: phantom\r\nContent-Length: 1000\r\n\r\nhalf"); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(conn)
	if err != nil && !strings.Contains(err.Error(), "reset") || strings.Count(string(text), "HTTP/1.1 ") > 1 {
		t.Errorf("%q, %v", text, err)
	}
}
