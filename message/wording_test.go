package message

import (
	"strings"
	"testing"
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
		if reasonOf(method, "new") != reasons[method]["unknown"] {
			t.Errorf("%s: an unknown class", method)
		}
	}
	for _, name := range ourNames {
		for _, channel := range []string{playbook.Email, playbook.SMS} {
			ours, _ := ourTemplate(channel, name)
			for _, customer := range samples() {
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
