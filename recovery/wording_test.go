package recovery

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// A message names what was charged and not what was not, and gives a reason that can be true of it.
func TestMessagesNameTheMethod(t *testing.T) {
	t.Parallel()
	p := setupPost(t)
	for i, test := range []struct{ charge, says, reason string }{
		{`{"payment_method_details":{"type":"card","card":{"brand":"visa","last4":"4242"}}}`, "with your card (Visa ending in 4242)", "the card's limit or balance"},
		{`{"payment_method_details":{"type":"sepa_debit","sepa_debit":{"last4":"3000"}}}`, "with your bank account,", "the account's balance"},
		{`{"payment_method_details":{"us_bank_account":{"last4":"6789"},"type":"us_bank_account"}}`, "with your bank account,", "the account's balance"},
		{`{"payment_method_details":{"type":"ach_debit"}}`, "with your bank account,", "the account's balance"},
		{`{"payment_method_details":{"type":"bacs_debit"}}`, "with your bank account,", "the account's balance"},
		{`{"payment_method_details":{"type":"au_becs_debit"}}`, "with your bank account,", "the account's balance"},
		{`{"payment_method_details":{"type":"acss_debit"}}`, "with your bank account,", "the account's balance"},
		{`{"payment_method_details":{"type":"paypal","card":{"brand":"visa","last4":"4242"}}}`, "with your payment method,", "your limit or balance"},
		{`{"payment_method_details":{"type":"card","card":{"brand":"visa","last4":"4242","wallet":{"type":"apple_pay"}}}}`, "with your card (Visa", "the card's limit"},
		{`{"payment_method_details":{"type":7}}`, "with your payment method,", "your limit or balance"},
		{`{"payment_method_details":null}`, "with your payment method,", "your limit or balance"},
		{`null`, "with your payment method,", "your limit or balance"},
		{`"ch_1"`, "with your payment method,", "your limit or balance"},
	} {
		p.world.set(func() { p.world.charge = test.charge; clear(p.world.emails) })
		name := strings.Repeat("x", i+1)
		id, _ := p.plan(person{"cus_" + name, name + "@example.com"}, Email, "payment_failed")
		p.try(id)
		if state, why := p.state(id); state != messageSent {
			t.Errorf("%s: %s %s", test.charge, state, why)
		}
		p.world.set(func() {
			for _, mail := range p.world.emails {
				body := strings.ReplaceAll(mail.body, "\\u0026#39;", "'")
				if !strings.Contains(body, test.says) || !strings.Contains(body, test.reason) || !strings.Contains(test.says, "card") && strings.Contains(body, "your card") {
					t.Errorf("%s: %s", test.charge, body)
				}
			}
		})
	}
}

// No reason is longer than those that merchants wrote their templates for, and nothing but a card is called one.
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
		for _, channel := range []string{Email, SMS} {
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
