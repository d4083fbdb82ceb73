package web_test

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// mark stands in every hostile payload, so that an echo is found, no matter what became of the
// rest.
const mark = "zqxwvk"

// hostile are payloads as an attacker would type them.
var hostile = []string{
	"zqxwvk\r\nSet-Cookie: zqxwvk=1", "zqxwvk\r\nLocation: https://zqxwvk.example/", "zqxwvk\r\n\r\n<script>zqxwvk</script>", "zqxwvk\nX-Zqxwvk: 1", "zqxwvk\rX-Zqxwvk: 1",
	"zqxwvk%0d%0aSet-Cookie:%20zqxwvk=1", "zqxwvk%250d%250aSet-Cookie:zqxwvk=1", "zqxwvk\u010d\u010aSet-Cookie:zqxwvk", "zqxwvk\u0085X-Zqxwvk:1", "zqxwvk\u2028X-Zqxwvk:1",
	"//zqxwvk.example", "///zqxwvk.example", "////zqxwvk.example/%2e%2e", "/\\zqxwvk.example", "\\\\zqxwvk.example", "\\/\\/zqxwvk.example", "/\t/zqxwvk.example",
	"https://zqxwvk.example", "http://zqxwvk.example", "HTTPS://ZQXWVK.example/zqxwvk", "https:zqxwvk.example", "https:/zqxwvk.example", "https:///zqxwvk.example",
	"https://connect.stripe.com@zqxwvk.example", "https://connect.stripe.com.zqxwvk.example", "https://zqxwvk.example#connect.stripe.com",
	"https://zqxwvk.example\\@connect.stripe.com", "https://127.0.0.1.zqxwvk.example", "ftp://zqxwvk.example", "file:///zqxwvk", "//zqxwvk.example/..;/",
	"javascript:alert('zqxwvk')", "JaVaScRiPt:zqxwvk", "java\tscript:zqxwvk", "data:text/html,<script>zqxwvk</script>", "vbscript:zqxwvk", "view-source:zqxwvk",
	"zqxwvk\x00", "\x00zqxwvk", "zqxwvk%00.example", "zqxwvk\x7f", "zqxwvk\x1b[31m", "zqxwvk\xff\xfe", "zqxwvk\xc0\xaf", "zqxwvk\xed\xa0\x80", "\u202ezqxwvk", "ｚｑｘzqxwvk", "zqxwvk\u0000\u0001",
	"zqxwvk😀", strings.Repeat("zqxwvk", 1000), "zqxwvk" + strings.Repeat("A", 4000), "zqxwvk" + strings.Repeat("%", 500),
	"' OR 'zqxwvk'='zqxwvk", "zqxwvk'; DROP TABLE merchants; --", "zqxwvk\"; SELECT pg_sleep(10); --", "zqxwvk' UNION SELECT access_token FROM merchants --", "\\xzqxwvk", "$1zqxwvk",
	"{{.zqxwvk}}", "${zqxwvk}", "#{zqxwvk}", "<%= zqxwvk %>", "{{7*7}}zqxwvk", "${jndi:ldap://zqxwvk.example/a}", "%(zqxwvk)s", "%szqxwvk%n%x", "%!s(zqxwvk)",
	"<script>alert('zqxwvk')</script>", "\"><img src=x onerror=zqxwvk>", "</a><a href=//zqxwvk.example>", "&lt;zqxwvk&gt;", "`zqxwvk`", "$(zqxwvk)", "; zqxwvk", "| zqxwvk",
	"../../../zqxwvk", "..%2f..%2fzqxwvk", "/etc/zqxwvk", "zqxwvk=1&state=zqxwvk", "zqxwvk;state=zqxwvk", "zqxwvk#zqxwvk", "zqxwvk?zqxwvk", "zqxwvk&error=access_denied", "true,zqxwvk", "[\"zqxwvk\"]", "{\"zqxwvk\":1}",
}

// places are where a payload goes: the request's line and headers, with %s for the payload.
var places = []struct {
	name, query, header string
	// the payload is escaped as a browser would; else sent as it is where HTTP can carry it
	escaped    bool
	everywhere bool // on the routes that take no parameters, too
}{
	{"state", "state=%s", "", true, false}, {"state as typed", "state=%s", "", false, false}, {"state twice", "state=a&state=%s", "", true, false},
	{"state as an array", "state[]=%s", "", true, false}, {"code", "state=a&code=%s", "", true, false}, {"error", "state=a&error=%s", "", true, false},
	{"error_description", "error=access_denied&error_description=%s", "", true, false}, {"a name", "%s=1", "", true, false},
	{"redirect_uri", "redirect_uri=%s", "", true, false}, {"redirect", "redirect=%s", "", true, false}, {"next", "next=%s", "", true, false}, {"return_to", "return_to=%s", "", true, false},
	{"url", "url=%s", "", true, false}, {"client_id", "client_id=%s&scope=%[1]s&response_type=%[1]s", "", true, false}, {"sandbox_account", "sandbox_account=%s", "", true, false},
	{"the whole query", "%s", "", false, true},
	{"Host", "", "Host: %s", false, true}, {"X-Forwarded-Host", "", "X-Forwarded-Host: %s", false, true}, {"X-Forwarded-Proto", "", "X-Forwarded-Proto: %s", false, false},
	{"Forwarded", "", "Forwarded: host=%s", false, false}, {"X-Original-URL", "", "X-Original-URL: %s", false, false}, {"X-HTTP-Method-Override", "", "X-HTTP-Method-Override: %s", false, false},
	{"Referer", "", "Referer: %s", false, false}, {"Origin", "", "Origin: %s", false, false}, {"Cookie", "", "Cookie: phantom_browser=%s", false, false}, {"User-Agent", "", "User-Agent: %s", false, false},
}

var plainCookie = regexp.MustCompile(`^phantom_browser=[A-Za-z0-9_-]{43}; Path=/; Max-Age=600; HttpOnly; SameSite=Lax$`)

// No payload, wherever it stands, sends the browser off-site, sets a header, is echoed, or breaks
// anything.
func TestHostilePayloads(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sent := 0
	for _, payload := range hostile {
		for _, place := range places {
			typed := payload
			if place.escaped {
				typed = url.QueryEscape(payload)
			} else if strings.ContainsAny(payload, "\r\n") && place.header == "" {
				continue // a line break in the request's line is another request, not a payload
			}
			for _, path := range routes {
				if !strings.HasPrefix(path, "/api/auth/") && !place.everywhere {
					continue // a route that reads nothing of the request
				}
				host, header := "Host: phantom\r\n", ""
				switch {
				case place.name == "Host":
					host = fmt.Sprintf(place.header, typed) + "\r\n"
				case place.header != "":
					header = fmt.Sprintf(place.header, typed) + "\r\n"
				}
				target := path
				if place.query != "" {
					target += "?" + fmt.Sprintf(place.query, typed)
				}
				sent++
				for _, got := range b.raw("GET " + target + " HTTP/1.1\r\n" + host + "Connection: close\r\n" + header + "\r\n") {
					b.checkHostile(payload, place.name+" on "+path, got)
				}
			}
		}
	}
	if len(hostile) < 80 || sent < 5000 {
		t.Errorf("only %d payloads, %d requests", len(hostile), sent)
	}
	t.Logf("%d payloads in %d places: %d requests", len(hostile), len(places), sent)
	if b.merchants() != 0 || b.stripe.count("/oauth/token") != 0 {
		t.Error("a payload got through to Stripe")
	}
	for _, text := range []string{b.log.String(), b.plain.String()} {
		if strings.Contains(text, mark) {
			t.Error("a payload stands in the log")
		}
	}
}

func (b *bench) checkHostile(payload, place string, got answer) {
	b.t.Helper()
	fail := func(why string) {
		b.t.Errorf("%.60q as %s: %s: %d %v %.200q", payload, place, why, got.status, got.header, got.body)
	}
	if got.status >= 500 {
		fail("5xx")
	}
	if location := got.header.Get("Location"); location != "" {
		page, err := url.Parse(location)
		if err != nil || got.status != 302 || !strings.HasPrefix(location, b.stripe.url+"/oauth/authorize?") ||
			page.Query().Get("redirect_uri") != b.url+"/api/auth/callback" {
			fail("off-site")
		}
	}
	for _, cookie := range got.header.Values("Set-Cookie") {
		if !plainCookie.MatchString(cookie) {
			fail("cookie")
		}
	}
	if len(got.header.Values("Set-Cookie")) > 1 || len(got.header.Values("Location")) > 1 {
		fail("header twice")
	}
	if strings.Contains(strings.ToLower(fmt.Sprint(got.header, got.body)), mark) {
		fail("echo")
	}
}

// The same behind a good state: the code goes no further than its shape allows, and an error of the
// redirect's is no text of ours.
func TestHostilePayloadsBehindAGoodState(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.browser()
	for _, payload := range hostile {
		for _, name := range []string{"code", "error", "error_description"} {
			c.elsewhere()
			back := c.callback()
			query := back.Query()
			query.Set(name, payload)
			back.RawQuery = query.Encode()
			got := c.arrive(back)
			switch name {
			case "code":
				got.wantError(t, 400, "invalid_grant")
			case "error": // what Stripe would mean by it
				got.wantError(t, 502, "stripe_unavailable")
				got.status = 400
			default:
				got.wantSuccess(t)
			}
			b.checkHostile(payload, name, got)
		}
	}
	for _, text := range []string{b.log.String(), b.plain.String()} {
		if strings.Contains(text, mark) {
			t.Error("a payload stands in the log")
		}
	}
}
