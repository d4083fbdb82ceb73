package web_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"phantom/message"
)

// A person in a browser sees one button in their language, and a program gets JSON.
func TestUnsubscribePage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := b.caller("acct_1")
	person, raw := m.unsubscribing()
	token := base64.RawURLEncoding.EncodeToString(raw)
	c := b.browser()
	const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	send := func(method, path, accept, language string) answer {
		t.Helper()
		got, err := c.send(t.Context(), method, path, strings.NewReader(""), "Accept", accept, "Accept-Language", language, "Content-Type", "application/x-www-form-urlencoded")
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	forms := func(page string) (all []string) {
		tokens := html.NewTokenizer(strings.NewReader(page))
		for kind := tokens.Next(); kind != html.ErrorToken; kind = tokens.Next() {
			one := tokens.Token()
			if kind == html.StartTagToken && (one.Data == "form" || one.Data == "button" || one.Data == "script" || one.Data == "a" || one.Data == "img") {
				all = append(all, one.String())
			}
		}
		return all
	}

	ask := send("GET", "/u/"+token, browser, "fr;q=0.3, de-AT, en;q=0.9")
	if ask.status != 200 || !strings.HasPrefix(ask.header.Get("Content-Type"), "text/html") || !strings.Contains(ask.body, `lang="de"`) ||
		strings.Join(forms(ask.body), " ") != `<form method="post"> <button>` || b.suppressed("email", person) {
		t.Errorf("%d %s", ask.status, ask.body)
	}
	for _, accept := range []string{"", "*/*", "application/json", "text/html;q=0", "text/plain"} {
		if got := send("GET", "/u/"+token, accept, "de"); got.status != 200 || !strings.Contains(got.body, `"status":"ready"`) {
			t.Errorf("%q: %d %s", accept, got.status, got.body)
		}
	}
	if got := send("GET", "/u/x", browser, "es"); got.status != 404 || !strings.Contains(got.body, message.Page("es").Gone) || len(forms(got.body)) != 0 {
		t.Errorf("a broken link: %d %s", got.status, got.body)
	}
	if got := send("POST", "/u/"+token, browser, "zh"); got.status != 200 || !strings.Contains(got.body, message.Page("en").Done) || len(forms(got.body)) != 0 || !b.suppressed("email", person) {
		t.Errorf("%d %s", got.status, got.body)
	}
	for _, language := range message.Languages {
		if got := send("GET", "/u/"+token, browser, language); !strings.Contains(got.body, `lang="`+language+`"`) || len(forms(got.body)) != 2 {
			t.Errorf("%s: %s", language, got.body)
		}
	}
}
