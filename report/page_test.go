package report

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// canaries are what an attacker might be called.
var canaries = []string{
	`<script>alert(1)</script>`,
	`"><img src=x onerror=alert(1)>`,
	`'><svg/onload=alert(1)>`,
	`</title></style></script><script src=//evil.example></script>`,
	`<a href="javascript:alert(1)">x</a>`,
	`{{.Account}}<iframe src=https://evil.example>`,
	`--><!--<base href=//evil.example>`,
	"\u202e<b>\x01&lt;script&gt;",
}

// elements are all that the page may consist of, and attributes all that they may carry.
var (
	elements   = strings.Fields("html head meta title style body header main section p h1 h2 strong dl div dt dd code br figure figcaption svg desc g path text table caption thead tbody tr th td span ul li")
	attributes = strings.Fields("lang charset http-equiv content name class aria-label aria-labelledby role id scope viewbox transform d x y fill fill-opacity stroke stroke-opacity stroke-width font-size font-weight")
)

// The page needs nothing besides itself and runs nothing, no matter what customers are called.
func TestPageStandsAlone(t *testing.T) {
	t.Parallel()
	b := setup(t, false)
	for i, canary := range canaries {
		b.add(canary, canary, canary, "usd", "never", canary, canary, int64(1000+i), i%2 == 0, 40*24*time.Hour)
	}
	failure := canaries[1]
	b.finish("failed", fmt.Sprintf(`{"currencies":{"eur":{"at_risk":5}},"fees_risked":{%q:10},"wasted_attempts":1}`, canaries[0]), &failure)
	page := b.html()
	tokens := html.NewTokenizer(strings.NewReader(page))
	var texts strings.Builder
	for tokens.Next() != html.ErrorToken {
		token := tokens.Token()
		if token.Type == html.TextToken {
			texts.WriteString(token.Data)
		}
		if token.Type == html.CommentToken {
			t.Errorf("comment %q", token.Data)
		}
		if token.Type != html.StartTagToken && token.Type != html.SelfClosingTagToken {
			continue
		}
		if !slices.Contains(elements, token.Data) {
			t.Errorf("element %q", token.Data)
		}
		for _, a := range token.Attr {
			if !slices.Contains(attributes, a.Key) {
				t.Errorf("attribute %s of %s", a.Key, token.Data)
			}
		}
	}
	for _, canary := range canaries[:7] { // the last one's control character is no HTML
		if n := strings.Count(texts.String(), canary); n < 4 { // customer, email, code, rule
			t.Errorf("%q is told %d times, want 4", canary, n)
		}
	}
}

// What is no customer's holds no address of anything outside, however it is written.
func TestPageNamesNoAddress(t *testing.T) {
	t.Parallel()
	b := setup(t, true)
	b.add("cus_1", "sub_1", "somebody@example.com", "usd", "timed", "insufficient_funds", failedRule, 1234567, false, 40*24*time.Hour)
	b.finish("succeeded", `{"currencies":{"usd":{"at_risk":250}},"wasted_attempts":1,"fees_risked":{"usd":10}}`, nil)
	page := b.html()
	for _, pattern := range []string{`(?i)https?:`, `//`, `(?i)url\(`, `(?i)@import`, `(?i)<script`, `(?i)\son\w+=`, `(?i)javascript:`, `(?i)data:`, `(?i)\s(href|src|style)=`, `ZgotmplZ`, `NaN`, `Inf\b`} {
		if found := regexp.MustCompile(pattern).FindAllString(page, 3); found != nil {
			t.Errorf("the page holds %q", found)
		}
	}
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[atom.Atom]int)
	ids := make(map[string]bool)
	for node := range root.Descendants() {
		count[node.DataAtom]++
		for _, a := range node.Attr {
			if a.Key == "id" && ids[a.Val] {
				t.Errorf("two elements are called %q", a.Val)
			} else if a.Key == "id" {
				ids[a.Val] = true
			}
		}
		for _, a := range node.Attr {
			if a.Key == "aria-labelledby" {
				for name := range strings.FieldsSeq(a.Val) {
					if !ids[name] && !strings.Contains(page, `id="`+name+`"`) {
						t.Errorf("nothing is called %q", name)
					}
				}
			}
		}
		if node.DataAtom == atom.Style {
			hash := sha256.Sum256([]byte(node.FirstChild.Data))
			wantText(t, page, "style-src &#39;sha256-"+strings.ReplaceAll(base64.StdEncoding.EncodeToString(hash[:]), "+", "&#43;"))
		}
	}
	if count[atom.Svg] != 3 || count[atom.Table] != 4 || count[atom.Caption] != 4 || count[atom.H1] != 1 || count[atom.Style] != 1 {
		t.Errorf("%d charts, %d tables, %d captions, %d h1, %d styles", count[atom.Svg], count[atom.Table], count[atom.Caption], count[atom.H1], count[atom.Style])
	}
	wantText(t, page, `<html lang="en">`, `<meta name="referrer" content="no-referrer">`, "default-src &#39;none&#39;", `role="img"`, "<title id=", "@media print",
		">Not enough money just then</text>", "somebody@example.com")
}

// A drawing of which the library writes more than is known does not reach the page.
func TestUnknownDrawingsAreRefused(t *testing.T) {
	t.Parallel()
	for _, drawing := range []string{
		`<svg><script>alert(1)</script></svg>`, `<svg onload="alert(1)"></svg>`, `<svg><image href="x"/></svg>`, `<svg><path style="fill:red;background:url(x)"/></svg>`,
		`<svg><text>`, `<svg><a href="x"/></svg>`,
	} {
		if got, err := inline(strings.NewReader(drawing), "id", "title", "description"); err == nil {
			t.Errorf("%s became %s", drawing, got)
		}
	}
	got, err := inline(strings.NewReader(`<svg width="3pt" viewBox="0 0 1 1"><text x="1" style="fill:#000;font-family:Times">a&lt;b</text></svg>`), `"i`, "<t>", "<d>")
	want := `<svg viewBox="0 0 1 1" role="img" aria-labelledby="&#34;i-title &#34;i-desc"><title id="&#34;i-title">&lt;t&gt;</title><desc id="&#34;i-desc">&lt;d&gt;</desc><text x="1" fill="#000">a&lt;b</text></svg>`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}
