package message

import (
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/language"

	"phantom/decline"
)

// Languages are those in which PHANTOM writes, by their tags (BCP 47). English is first: it is what
// others get.
var Languages = []string{"en", "de", "fr", "es", "it", "pt-BR", "nl", "sv", "pl", "ja"}

// English is the language of those whose own is not known.
const English = "en"

var matcher = func() language.Matcher {
	tags := make([]language.Tag, len(Languages))
	for i, name := range Languages {
		tags[i] = language.MustParse(name)
	}
	return language.NewMatcher(tags)
}()

// LanguageOf is the one of [Languages] that suits somebody best who reads these, the best first; ""
// where none does. Each kind of Portuguese is Brazil's.
func LanguageOf(locales ...language.Tag) string {
	_, place, confidence := matcher.Match(locales...)
	if confidence == language.No {
		return ""
	}
	return Languages[place]
}

// languageOf is what a customer reads: what they have told Stripe that they prefer, else what is
// spoken in their country. Countries of several languages are not guessed at.
func languageOf(locales []string, country string) string {
	if len(locales) > 0 {
		var tags []language.Tag
		for _, locale := range locales {
			if tag, err := language.Parse(locale); err == nil {
				tags = append(tags, tag)
			}
		}
		return cmp.Or(LanguageOf(tags...), English)
	}
	return cmp.Or(spokenIn[country], English)
}

var spokenIn = func() map[string]string {
	by := map[string]string{}
	for name, countries := range map[string]string{
		"de": "DE AT LI", "fr": "FR MC", "it": "IT SM VA", "pt-BR": "BR PT AO MZ CV", "nl": "NL SR", "sv": "SE", "pl": "PL", "ja": "JP",
		"es": "ES MX AR CO CL PE EC UY BO VE CR PA DO GT HN SV NI CU GQ",
	} {
		for _, country := range strings.Fields(countries) {
			by[country] = name
		}
	}
	return by
}()

// words are what a language has for messages. Fields of templates stand in them as they are.
type words struct {
	Hello  string                `json:"hello"`
	Why    string                `json:"why"`  // somebody gets it
	Stop   string                `json:"stop"` // the link to unsubscribe
	Emails map[string]emailWords `json:"emails"`
	SMS    map[string]string     `json:"sms"`
	Method map[string]string     `json:"methods"`
	// of a payment by any method; English has [reasons]
	Reason map[decline.Class]string `json:"reasons"`
	Card   string                   `json:"card_hint"` // the brand, and the last four digits
	Date   string                   `json:"date"`      // the day, and the month's name
	Months [12]string               `json:"months"`
	First  string                   `json:"first_day"` // of a month, where it is no plain 1
	Page   PageWords                `json:"page"`
}

type emailWords struct {
	Title     string `json:"title"` // and subject
	Preheader string `json:"preheader"`
	First     string `json:"first"`
	Second    string `json:"second"`
	Button    string `json:"button"`
	Note      string `json:"note"`
}

// PageWords are those of the page on which somebody unsubscribes.
type PageWords struct {
	Title  string `json:"title"`
	Ask    string `json:"ask"`
	Button string `json:"button"`
	Done   string `json:"done"`
	Gone   string `json:"gone"`  // the link is no link of ours
	Later  string `json:"later"` // it cannot be done now
}

// Page is what the page says in a language of [Languages].
func Page(name string) PageWords { return wordsOf(name).Page }

//go:embed templates
var ours embed.FS

// dictionary has all languages.
var dictionary = func() map[string]*words {
	all := map[string]*words{}
	for _, name := range Languages {
		text, err := fs.ReadFile(ours, "templates/"+name+".json")
		w := &words{}
		if err == nil {
			err = json.Unmarshal(text, w)
		}
		if err != nil {
			panic(err) // a test reads them all
		}
		all[name] = w
	}
	return all
}()

func wordsOf(name string) *words {
	if w := dictionary[name]; w != nil {
		return w
	}
	return dictionary[English]
}

// date is a day of this year or the next, as people write it.
func (w *words) date(at time.Time) string {
	day := strconv.Itoa(at.Day())
	if at.Day() == 1 {
		day = cmp.Or(w.First, day)
	}
	return fmt.Sprintf(w.Date, day, w.Months[at.Month()-1])
}

// cutLanguage parts the name of a translation, "reminder.de", from its language: "" where there is
// none.
func cutLanguage(template string) (base, name string) {
	base, name, _ = strings.Cut(template, ".")
	return base, name
}

func isLanguage(name string) bool { return slices.Contains(Languages, name) }
