package message

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"phantom/playbook"
)

// No reason is longer than those that merchants wrote their templates for, and nothing but a card
// is called one.
func TestReasonsFitTheMethod(t *testing.T) {
	t.Parallel()
	for method, classes := range reasons {
		if len(classes) != len(reasons[byCard]) {
			t.Errorf("%s has %d reasons", method, len(classes))
		}
		for class, reason := range classes {
			if utf8.RuneCountInString(reason) > 59 || method != byCard && strings.Contains(reason, "card") {
				t.Errorf("%s, %s: %s", method, class, reason)
			}
		}
		if wordsOf(English).reasonOf(method, "new") != reasons[method]["unknown"] {
			t.Errorf("%s: an unknown class", method)
		}
	}
	for _, name := range ourNames {
		for _, channel := range []string{playbook.Email, playbook.SMS} {
			ours, _ := ourTemplate(channel, name, English)
			for _, customer := range samples(English) {
				got, err := ours.render(customer)
				if err != nil {
					t.Fatal(err)
				}
				if text := got.Subject + got.Text; customer.Method != byCard && strings.Contains(text, "card") {
					t.Errorf("%s %s of a %s: %s", channel, name, customer.Method, text)
				}
			}
		}
	}
}

// A hard decline does not offer the same card, and of an invoice that was sent nobody says that a
// card was tried.
func TestMessagesAreTrue(t *testing.T) {
	t.Parallel()
	for _, language := range Languages {
		ours, _ := ourTemplate(playbook.Email, "payment_failed", language)
		last, _ := ourTemplate(playbook.Email, "last_notice", language)
		all := samples(language)
		text := func(t Template, change func(*fields)) string {
			customer := all[len(all)-5] // of an unknown class, with everything known
			change(&customer)
			p, err := t.render(customer)
			if err != nil {
				panic(err)
			}
			return p.Text
		}
		whole := text(ours, func(*fields) {})
		for name, change := range map[string]func(*fields){
			"same method": func(f *fields) { f.SameMethod = false },
			"tried":       func(f *fields) { f.Tried = false },
			"next":        func(f *fields) { f.NextAttempt = "" },
		} {
			if text(ours, change) == whole {
				t.Errorf("%s: %s changes nothing", language, name)
			}
		}
		day := wordsOf(language).date(time.Date(2026, 12, 3, 0, 0, 0, 0, time.UTC))
		if !strings.Contains(whole, day) {
			t.Errorf("%s: the next attempt is not named: %s", language, whole)
		}
		if sent := text(ours, func(f *fields) { f.Tried, f.NextAttempt = false, "" }); strings.Contains(sent, wordsOf(language).reasonOf(byCard, "unknown")) || strings.Contains(sent, "4242") {
			t.Errorf("%s: an invoice that was sent: %s", language, sent)
		}
		if got := text(last, func(f *fields) { f.AccessEnds = day }); !strings.Contains(got, day) {
			t.Errorf("%s: the end of access is not named: %s", language, got)
		}
	}
}
