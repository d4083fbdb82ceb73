package web_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What net/http refuses by itself is answered in JSON too, with the headers of every answer.
func TestRequestsThatAreNoHTTP(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *options) { o.database = noDatabase })
	for _, test := range []struct {
		name, text string
		status     int
		code       string
	}{
		{"no HTTP", "hello\r\n\r\n", 400, "malformed_request"},
		{"no host", "GET / HTTP/1.1\r\n\r\n", 400, "malformed_request"},
		{"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "malformed_request"},
		{"a host that is none", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "malformed_request"},
		{"a header without a colon", "GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", 400, "malformed_request"},
		{"a header that is no token", "GET / HTTP/1.1\r\nHost: a\r\nb c: d\r\n\r\n", 400, "malformed_request"},
		{"a value with NUL", "GET / HTTP/1.1\r\nHost: a\r\nb: \x00\r\n\r\n", 400, "malformed_request"},
		{"a length that is none", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400, "malformed_request"},
		{"an address that is none", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed_request"},
		{"a header of 100 kB", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 100_000) + "\r\n\r\n", 431, "header_too_large"},
		{"an unknown encoding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "not_implemented"},
		{"HTTP/3.0", "GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505, "http_version_not_supported"},
		{"an expectation", "POST / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\nContent-Length: 1\r\n\r\nx", 417, "expectation_failed"},
		{"the second on a connection", "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nhello\r\n\r\n", 400, "malformed_request"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = io.WriteString(conn, test.text) }()
			reader := bufio.NewReader(conn)
			var last answer
			for {
				response, err := http.ReadResponse(reader, nil)
				if err != nil {
					break
				}
				body, err := io.ReadAll(response.Body)
				if err != nil {
					t.Fatal(err)
				}
				last = answer{response.StatusCode, response.Header, string(body)}
				if last.status != 200 && !response.Close {
					t.Error("the connection is said to stay open")
				}
			}
			last.wantError(t, test.status, test.code)
			b.checkHeaders(last)
		})
	}
}
