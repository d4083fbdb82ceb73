package web

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
)

// net/http refuses some requests by itself, before any handler sees them, and its answers are plain
// text, each in one write of its own. Here they are told by their header, which no answer of ours
// has, and replaced by ours as they go out. docs/adr/0010 says why so.
var plainHeader = []byte("Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")

// refusals are those answers, by status.
var refusals = map[int]errorBody{
	http.StatusBadRequest:                  {Code: "malformed_request", Message: "This is no valid HTTP request."},
	http.StatusExpectationFailed:           {Code: "expectation_failed", Message: "The Expect header may ask for 100-continue alone."},
	http.StatusRequestHeaderFieldsTooLarge: {Code: "header_too_large", Message: "The request's header is too large."},
	http.StatusNotImplemented:              {Code: "not_implemented", Message: "This transfer encoding is not known here."},
	http.StatusHTTPVersionNotSupported:     {Code: "http_version_not_supported", Message: "This version of HTTP is not known here."},
}

// plainAnswers are ours in their place, byte for byte, by the status line's digits.
func (s *Server) plainAnswers() map[string][]byte {
	answers := make(map[string][]byte)
	for status, body := range refusals {
		body.Status = "error"
		text, err := json.Marshal(body)
		if err != nil {
			panic(err) // our own fixed shapes always marshal
		}
		response := http.Response{
			StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header), Close: true,
			Body: io.NopCloser(bytes.NewReader(text)), ContentLength: int64(len(text)),
		}
		s.setHeaders(response.Header)
		response.Header.Set("Content-Type", "application/json")
		var whole bytes.Buffer
		if err := response.Write(&whole); err != nil {
			panic(err) // a buffer takes all
		}
		answers[whole.String()[len("HTTP/1.1 "):len("HTTP/1.1 400")]] = whole.Bytes()
	}
	return answers
}

// Write is the connection's, but for what net/http says by itself.
func (c *boundedConn) Write(text []byte) (int, error) {
	if ours := c.listener.inPlaceOf(text); ours != nil {
		if _, err := c.Conn.Write(ours); err != nil {
			return 0, err
		}
		return len(text), nil
	}
	return c.Conn.Write(text)
}

// inPlaceOf is the answer that goes out instead of text, or nil.
func (l *boundedListener) inPlaceOf(text []byte) []byte {
	if !bytes.HasPrefix(text, []byte("HTTP/1.1 ")) {
		return nil
	}
	line, rest, _ := bytes.Cut(text, []byte("\r\n"))
	if len(line) < len("HTTP/1.1 400") {
		return nil
	}
	status := string(line[len("HTTP/1.1 "):len("HTTP/1.1 400")])
	if status != "417" && !bytes.HasPrefix(rest, plainHeader) {
		// 417 has no body, and is never ours
		return nil
	}
	return l.plain[status]
}
