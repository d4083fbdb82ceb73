package web_test

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// bodies are hostile to the one who parses JSON.
var bodies = []string{
	"", "{", "}", "[", "null", "true", "0", `""`, "{}", "[]", "{,}", `{"access"}`, `{"access":}`, `{"access":none}`, `{'access':'none'}`, "\xef\xbb\xbf{}", "\xff\xfe{\x00}\x00",
	strings.Repeat("[", 60000), strings.Repeat("{\"a\":", 12000), strings.Repeat("[", 9000) + strings.Repeat("]", 9000), `{"access":` + strings.Repeat("[", 30000) + strings.Repeat("]", 30000) + "}",
	`{"access":"` + strings.Repeat("A", 60000) + `"}`, `{"access":1e999999999}`, `{"access":` + strings.Repeat("9", 60000) + `}`, `{"access":-0}`, `{"access":"\ud800"}`, `{"access":"\u0000"}`,
	`{"access":"none\u0000"}`, `{"access":"\xff"}`, "{\"access\":\"none\xff\"}", `{"__proto__":{"access":"none"}}`, `{"access":{"$gt":""}}`, `{"access":["none"]}`, `{"merchant_id":"x","access":"x"}`,
	`{"access":"x","access":"y"}`, `{"id":"x"}`, "<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><a>&b;</a>", "--x\r\nContent-Disposition: form-data\r\n\r\n--x--",
	"access=none", "%7B%7D", strings.Repeat(" ", 60000), "\x1f\x8b\x08\x00", strings.Repeat("\x00", 1000), `{"` + strings.Repeat(`a":1,"`, 8000) + `b":1}`,
}

// 5,000 requests of a merchant who means no good: each is answered below 500, in time, as the
// document says, and without a word of another merchant's, of SQL or of a stack.
func TestHostileAPIRequests(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ghost, audit, hunt, victim := b.victim()
	before := b.rowsOf(victim)
	c := b.caller("acct_1")
	own := c.add(seed{}).String()
	sent, statuses := 0, map[int]int{}
	check := func(what string, got answer) {
		t.Helper()
		sent++
		statuses[got.status]++
		if got.status >= 500 {
			t.Errorf("%.120q: %d %.200s", what, got.status, got.body)
		}
		lower := strings.ToLower(fmt.Sprint(got.header, got.body))
		for _, word := range []string{mark, "select ", "sqlstate", "pgx", "goroutine", ".go:", "panic", "ghost_targets", "api_keys", "hunts h", "playbooks", "syntax error", "victim", victim.id.String()} {
			if strings.Contains(lower, word) {
				t.Errorf("%.120q: %q shows in %d %.300s", what, word, got.status, got.body)
			}
		}
	}
	started := time.Now()
	raw := func(method, target, header, body string) {
		t.Helper()
		text := method + " " + target + " HTTP/1.1\r\nHost: phantom\r\nConnection: close\r\n" + header
		if body != "" {
			text += fmt.Sprintf("Content-Length: %d\r\n", len(body))
		}
		for _, got := range b.raw(text + "\r\n" + body) {
			check(method+" "+target+" "+header+" "+body, got)
		}
	}
	key := "Authorization: Bearer " + c.key + "\r\n"
	access := "/api/ghosts/" + own + "/access"

	// Queries: each payload in each parameter, escaped and as it is.
	for _, payload := range hostile {
		for _, name := range []string{"cursor", "limit", "status", "min_amount", "currency", "decline_class", "kind", "state", "zqx"} {
			check(name+"="+payload, c.call("GET", "/api/ghosts?"+name+"="+url.QueryEscape(payload), ""))
			check(name+"="+payload, c.call("GET", "/api/tasks?"+name+"="+url.QueryEscape(payload), ""))
			check(name+"="+payload, c.call("GET", "/api/hunts?"+name+"="+url.QueryEscape(payload), ""))
			check(name+" twice", c.call("GET", "/api/ghosts?"+name+"=5&"+name+"="+url.QueryEscape(payload), ""))
		}
		check(payload, c.call("PUT", "/api/playbook?dry_run="+url.QueryEscape(payload), everybody))
		if strings.ContainsAny(payload, "\r\n") {
			continue // a line break in the request's line is another request
		}
		raw("GET", "/api/ghosts?"+payload, key, "")
		raw("GET", "/api/ghosts?cursor="+payload, key, "")
		raw("GET", "/api/summary?"+payload, key, "")
	}
	// Ids in paths.
	for _, payload := range append(hostile, ghost.String(), audit.String(), hunt.String(), victim.id.String(), "00000000-0000-0000-0000-000000000000") {
		for _, shape := range []string{"/api/ghosts/%s", "/api/audits/%s", "/api/hunts/%s"} {
			check(payload, c.call("GET", fmt.Sprintf(shape, url.PathEscape(payload)), ""))
		}
		check(payload, c.call("DELETE", "/api/hunts/"+url.PathEscape(payload), ""))
		check(payload, c.call("POST", "/api/ghosts/"+url.PathEscape(payload)+"/access", `{"access":"none"}`))
	}
	// Headers.
	for _, payload := range hostile {
		for _, name := range []string{"Authorization: Bearer ", "Authorization: ", "Authorization: Bearer phk_", "Content-Type: ", "Accept: ", "Content-Encoding: ", "X-Forwarded-For: ", "If-None-Match: ", "Range: ", "Expect: ", "Cookie: a="} {
			header := name + payload + "\r\n"
			if !strings.HasPrefix(name, "Authorization") {
				header += key
			}
			if name != "Expect: " {
				// net/http knows one expectation alone and answers the others itself
				raw("GET", "/api/ghosts", header, "")
				raw("GET", "/api/summary", header, "")
			}
			if strings.HasPrefix(name, "Content") {
				raw("POST", "/api/audits", header, "[]")
			}
		}
	}
	// Bodies: each on all routes that take one, under several types.
	for _, body := range append(bodies, hostile...) {
		for _, kind := range []string{"application/json", "application/json; charset=utf-16", "text/plain", "application/x-www-form-urlencoded"} {
			check(body, c.call("POST", access, body, "Content-Type", kind))
			check(body, c.call("POST", "/api/hunts", body, "Content-Type", kind))
			check(body, c.call("POST", "/api/hunts", strings.ReplaceAll(body, "access", "ghosts"), "Content-Type", kind))
			check(body, c.call("PUT", "/api/playbook?dry_run=true", body, "Content-Type", kind))
			check(body, c.call("PUT", "/api/playbook?dry_run=true", strings.ReplaceAll(body, "access", "min_amount"), "Content-Type", kind))
			if body == "" || body == "{}" {
				continue // these start an audit
			}
			check(body, c.call("POST", "/api/audits", body, "Content-Type", kind))
		}
		check(body, c.call("GET", "/api/summary", body))
	}
	// Cursors: every bit of a real one flipped, every length, every coding.
	id := uuid.MustParse(own)
	for bit := range len(id) * 8 {
		changed := id
		changed[bit/8] ^= 1 << (bit % 8)
		check("a bit of a hunt's", c.call("GET", "/api/hunts?cursor="+cursorOf(changed), ""))
		check("a bit", c.call("GET", "/api/ghosts?cursor="+cursorOf(changed), ""))
	}
	for length := range 100 {
		check("a length", c.call("GET", "/api/ghosts?cursor="+strings.Repeat("A", length), ""))
		check("bytes", c.call("GET", "/api/ghosts?cursor="+base64.RawURLEncoding.EncodeToString(make([]byte, length)), ""))
		check("numbers", c.call("GET", fmt.Sprintf("/api/ghosts?limit=%d&min_amount=%s", length*7-50, strings.Repeat("9", length)), ""))
	}
	took := time.Since(started)
	t.Logf("%d requests in %s: %v", sent, took, statuses)
	if sent < 5000 {
		t.Errorf("only %d requests", sent)
	}
	if took > 4*time.Minute {
		t.Errorf("it took %s", took)
	}
	if n := c.b.Count("SELECT count(*) FROM hunts WHERE merchant_id = $1", c.id); n != 0 {
		t.Errorf("hostile requests began %d hunts", n)
	}
	if after := b.rowsOf(victim); after != before {
		t.Error("another merchant's rows changed")
	}
	if got := c.call("GET", "/api/ghosts/"+own, ""); !strings.Contains(got.body, `"status":"open"`) {
		t.Errorf("a hostile request changed the ghost: %s", got.body)
	}
	for _, l := range b.lines() {
		t.Errorf("logged: %+v", l)
	}
}
