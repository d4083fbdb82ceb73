package recovery

import (
	"strings"
	"testing"

	"phantom/playbook"
	"phantom/state"
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
		id, _ := p.plan(person{"cus_" + name, name + "@example.com"}, playbook.Email, "payment_failed")
		p.try(id)
		if got, why := p.state(id); got != state.MessageSent {
			t.Errorf("%s: %s %s", test.charge, got, why)
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
