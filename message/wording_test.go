package message

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"phantom/money"
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

// Amounts of an SMS have no letter that GSM 03.38 lacks, but in Japanese, of which it has none.
// Days are written as people write them.
func TestAmountsAndDays(t *testing.T) {
	t.Parallel()
	for _, language := range Languages {
		for _, currency := range []string{"usd", "eur", "gbp", "jpy", "cad", "aud", "nzd", "hkd", "mxn", "brl", "inr", "krw", "sek", "pln", "chf", "nok"} {
			amount := inGSM.Replace(money.Local(1_234_500, currency, language, ""))
			if strange := strings.Trim(amount, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 .,$€£¥"); strange != "" && language != "ja" {
				t.Errorf("%s %s: %q has %q", language, currency, amount, strange)
			}
		}
	}
	first, third := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 12, 3, 0, 0, 0, 0, time.UTC)
	for language, want := range map[string][2]string{
		"en": {"1 December", "3 December"}, "de": {"1. Dezember", "3. Dezember"}, "fr": {"1er décembre", "3 décembre"}, "it": {"1º dicembre", "3 dicembre"},
		"pt-BR": {"1º de dezembro", "3 de dezembro"}, "es": {"1 de diciembre", "3 de diciembre"}, "ja": {"12月1日", "12月3日"},
	} {
		if got := [2]string{wordsOf(language).date(first), wordsOf(language).date(third)}; got != want {
			t.Errorf("%s: %q, want %q", language, got, want)
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
