package message

import (
	"encoding/json"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"phantom/decline"
)

func TestLanguageOf(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		locales []string
		country string
		want    string
	}{
		{nil, "", "en"}, {nil, "DE", "de"}, {nil, "CH", "en"}, {nil, "BR", "pt-BR"}, {nil, "MX", "es"}, {nil, "JP", "ja"}, {nil, "XX", "en"},
		{[]string{"de-AT"}, "US", "de"}, {[]string{"pt"}, "DE", "pt-BR"}, {[]string{"pt-PT"}, "", "pt-BR"}, {[]string{"PT_br"}, "", "pt-BR"},
		{[]string{"ko", "fr-CA"}, "DE", "fr"}, {[]string{"ko"}, "DE", "en"}, {[]string{""}, "DE", "en"}, {[]string{"en-GB"}, "DE", "en"}, {[]string{"nlx"}, "", "en"},
	} {
		if got := languageOf(test.locales, test.country); got != test.want {
			t.Errorf("%v in %q read %s, want %s", test.locales, test.country, got, test.want)
		}
	}
}

var fieldShape = regexp.MustCompile(`\.[A-Z][A-Za-z]+`)

// Every language has all words, and says with them what English does. A method is named in English
// alone: others would have to bend the words around it.
func TestLanguagesAreWhole(t *testing.T) {
	t.Parallel()
	flat := func(language string) map[string]string {
		text, err := fs.ReadFile(ours, "templates/"+language+".json")
		if err != nil {
			t.Fatal(err)
		}
		var all map[string]any
		if err := json.Unmarshal(text, &all); err != nil {
			t.Fatal(err)
		}
		delete(all, "months")
		delete(all, "first_day")
		into := map[string]string{}
		var walk func(path string, value any)
		walk = func(path string, value any) {
			switch v := value.(type) {
			case string:
				into[path] = v
			case map[string]any:
				for name, inner := range v {
					walk(path+"/"+name, inner)
				}
			default:
				t.Errorf("%s has a %T at %s", language, value, path)
			}
		}
		walk("", all)
		return into
	}
	english := flat(English)
	for _, language := range Languages[1:] {
		theirs := flat(language)
		for path, text := range english {
			fields := func(text string) []string {
				found := fieldShape.FindAllString(text, -1)
				slices.Sort(found)
				return slices.DeleteFunc(slices.Compact(found), func(f string) bool { return f == ".Method" })
			}
			if got, want := fields(theirs[path]), fields(text); theirs[path] == "" || !slices.Equal(got, want) {
				t.Errorf("%s says at %s %q, with %v, want %v", language, path, theirs[path], got, want)
			}
		}
		for _, class := range decline.Classes {
			if theirs["/reasons/"+string(class)] == "" || strings.HasSuffix(theirs["/reasons/"+string(class)], ".") {
				t.Errorf("%s has no reason of class %s, or one with a full stop", language, class)
			}
		}
		if unknown := slices.DeleteFunc(slices.Collect(maps.Keys(theirs)), func(path string) bool {
			return english[path] != "" || strings.HasPrefix(path, "/reasons/")
		}); len(unknown) > 0 {
			t.Errorf("%s has words for nothing: %v", language, unknown)
		}
		if w := wordsOf(language); slices.Contains(w.Months[:], "") {
			t.Errorf("%s has the months %v", language, w.Months)
		}
	}
}
