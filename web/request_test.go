package web_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// Every answer has an id, ours or that of a proxy, and with it each request has one line, in which
// stands no query and no token.
func TestRequestsAreIdentified(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *options) { o.accessLog = true })
	c := b.browser()
	made := regexp.MustCompile(`^[0-9a-f]{32}$`)
	for _, test := range []struct{ sent, want string }{
		{"", ""}, {"proxy-id-12345678", "proxy-id-12345678"}, {"short", ""}, {"with a space in it", ""}, {strings.Repeat("x", 129), ""}, {"\x1b[31mred-red-red", ""},
	} {
		var header []string
		if test.sent != "" && !strings.Contains(test.sent, "\x1b") {
			header = []string{"X-Request-Id", test.sent}
		}
		got := c.do(http.MethodGet, "/healthz", header...).header.Get("X-Request-Id")
		if test.want != "" && got != test.want || test.want == "" && !made.MatchString(got) {
			t.Errorf("%q becomes %q", test.sent, got)
		}
	}
	c.do(http.MethodGet, "/u/secretToken7Zq3?code=secretCode7Zq3")
	var last map[string]any
	for text := range strings.Lines(b.log.String()) {
		if strings.Contains(text, "[SERVER] request") {
			last = map[string]any{}
			if err := json.Unmarshal([]byte(text), &last); err != nil {
				t.Fatal(err)
			}
		}
	}
	if last["path"] != "/u/{token}" || last["status"] != float64(404) || last["method"] != "GET" || last["request_id"] == "" || last["bytes"] == float64(0) {
		t.Errorf("the line: %v", last)
	}
	if text := b.log.String(); strings.Contains(text, "7Zq3") {
		t.Errorf("the log holds a token or a code: %s", text)
	}
}
