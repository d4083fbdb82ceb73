package web_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

var routes = []string{"/", "/api/auth/stripe", "/api/auth/callback", "/healthz", "/readyz", "/api/openapi.json"}

func TestUnknownAddresses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, path := range []string{
		"/x", "/API/AUTH/STRIPE", "/api", "/api/", "/api/auth", "/api/auth/", "/api/auth/stripe/", "/api/auth/callback/", "/healthz/", "/readyz/",
		"/favicon.ico", "/robots.txt", "/.git/config", "/.env", "/metrics", "/debug/pprof/",
		"//", "//x", "//evil.example", "//api/auth/stripe", "/api//auth/stripe", "/api/auth//stripe", "/./", "/.", "/..", "/../",
		"/api/auth/../auth/stripe", "/api/auth/./stripe", "/api/auth/stripe/.", "/api/auth/stripe/..", "/../api/auth/stripe", "/x/../healthz",
		"/%2e/", "/%2e%2e/healthz", "/api/auth/%2e%2e/auth/stripe", "/api%2fauth%2fstripe", "/api/auth%2fstripe", "/api/auth/stripe%2f",
		"/%2fevil.example", "/%5cevil.example", "/\\evil.example", "/healthz%00", "/healthz%0d%0aX-Evil:1", "/healthz;x=1", "/healthz%20", "/%68ealthz/",
		"/ｈealthz", "/" + strings.Repeat("a/", 1000), "http://evil.example", "http://evil.example//x", "*",
	} {
		for _, method := range []string{"GET", "POST", "HEAD", "OPTIONS", "DELETE"} {
			all := b.raw(fmt.Sprintf("%s %s HTTP/1.1\r\nHost: phantom\r\nConnection: close\r\n\r\n", method, path))
			if len(all) != 1 {
				t.Fatalf("%s %s: %d answers", method, path, len(all))
			}
			got := all[0]
			b.checkHeaders(got)
			if got.header.Get("Location") != "" {
				t.Errorf("%s %s: sent on to %q", method, path, got.header.Get("Location"))
			}
			if method == "HEAD" {
				if got.status != http.StatusNotFound || got.body != "" {
					t.Errorf("HEAD %s: %d %q", path, got.status, got.body)
				}
				continue
			}
			got.wantError(t, http.StatusNotFound, "not_found")
		}
	}
	if all := b.lines(); len(all) != 0 {
		t.Errorf("unknown addresses were logged: %+v", all)
	}
}

func TestMethods(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.browser()
	for _, path := range routes {
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "get", "FOO"} {
			got := c.do(method, path)
			got.wantError(t, http.StatusMethodNotAllowed, "method_not_allowed")
			if allow := strings.Split(got.header.Get("Allow"), ", "); !slices.Contains(allow, "GET") {
				t.Errorf("%s %s: Allow %q", method, path, allow)
			}
		}
		all := b.raw("CONNECT " + path + " HTTP/1.1\r\nHost: phantom\r\nConnection: close\r\n\r\n")
		if len(all) != 1 || all[0].status != http.StatusMethodNotAllowed && all[0].status != http.StatusNotFound {
			t.Errorf("CONNECT %s: %+v", path, all)
		}
		got := c.do(http.MethodHead, path)
		if got.body != "" {
			t.Errorf("HEAD %s has a body", path)
		}
		if strings.HasPrefix(path, "/api/auth/") {
			// a GET there changes something, so HEAD is no harmless GET
			if got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != "GET" {
				t.Errorf("HEAD %s: %d, Allow %q", path, got.status, got.header.Get("Allow"))
			}
		} else if got.status != http.StatusOK {
			t.Errorf("HEAD %s: %d", path, got.status)
		}
	}
	if n := b.states(); n != 0 {
		t.Errorf("%d states were made", n)
	}
}

func TestOptionsStar(t *testing.T) {
	t.Parallel()
	b := setup(t)
	all := b.raw("OPTIONS * HTTP/1.1\r\nHost: phantom\r\nConnection: close\r\n\r\n")
	if len(all) != 1 {
		t.Fatalf("%d answers", len(all))
	}
	all[0].wantError(t, http.StatusNotFound, "not_found")
	b.checkHeaders(all[0])
}

func TestHealth(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, path := range []string{"/healthz", "/readyz"} {
		if got := b.browser().get(path); got.status != http.StatusOK || got.body != `{"status":"ok"}` {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
}

// What is no HTTP at all, or too much of it, net/http turns away itself, in its own words.
func TestMalformedRequests(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const get = "GET /healthz HTTP/1.1\r\nHost: phantom\r\nConnection: close\r\n"
	for _, test := range []struct {
		name, text string
		status     int
	}{
		{"headers of 64 kB", get + "X-Big: " + strings.Repeat("zqxz", 16<<10) + "\r\n\r\n", 431},
		{"a thousand headers", get + strings.Repeat("X-Many: zqxzqxzqxzqxzqxzqxzqxzqx\r\n", 1000) + "\r\n", 431},
		{"an address of 64 kB", "GET /" + strings.Repeat("zqxz", 16<<10) + " HTTP/1.1\r\nHost: phantom\r\n\r\n", 431},
		{"no host", "GET /zqx HTTP/1.1\r\n\r\n", 400},
		{"two hosts", "GET / HTTP/1.1\r\nHost: a.zqx\r\nHost: b.zqx\r\n\r\n", 400},
		{"a broken header", get + "zqx zqx: 1\r\n\r\n", 400},
		{"a zero byte in a header", get + "X-A: zqx\x00\r\n\r\n", 400},
		{"two lengths", get + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nzq", 400},
		{"an unknown coding", get + "Transfer-Encoding: zqx\r\n\r\n", 501},
		{"HTTP/9", "GET / HTTP/9.9\r\nHost: zqx\r\n\r\n", 505},
		{"a bad escape", "GET /%zqx HTTP/1.1\r\nHost: phantom\r\n\r\n", 400},
	} {
		all := b.raw(test.text)
		if len(all) != 1 || all[0].status != test.status || all[0].header.Get("Location") != "" || strings.Contains(all[0].body, "zqx") {
			t.Errorf("%s: got %+v, want one %d", test.name, all, test.status)
		}
	}
}
