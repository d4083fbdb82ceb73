package decline

import (
	"strings"
	"testing"
)

// The codes of docs/rules.md, by class.
var listedCodes = map[Class]string{
	"never": `incorrect_number lost_card pickup_card stolen_card revocation_of_authorization revocation_of_all_authorizations
		stop_payment_order invalid_account fraudulent merchant_blacklist restricted_card security_violation transaction_not_allowed
		highest_risk_level do_not_try_again`,
	"customer": `authentication_required expired_card incorrect_cvc invalid_cvc invalid_expiry_month invalid_expiry_year incorrect_zip
		card_not_supported currency_not_supported new_account_information_available call_issuer pin_try_exceeded`,
	"timed": "insufficient_funds card_velocity_exceeded withdrawal_count_limit_exceeded",
	"low":   "do_not_honor generic_decline no_action_taken",
	"soon":  "processing_error issuer_not_available reenter_transaction try_again_later",
}

func TestClassifyListedCodes(t *testing.T) {
	t.Parallel()
	check := func(networkAdvice, advice, decline, networkDecline, brand string, wantClass Class, wantCode string) {
		t.Helper()
		class, code := Classify(networkAdvice, advice, decline, networkDecline, brand)
		if class != wantClass || code != wantCode {
			t.Errorf("Classify(%q, %q, %q, %q, %q) = %s by %q, want %s by %q",
				networkAdvice, advice, decline, networkDecline, brand, class, code, wantClass, wantCode)
		}
	}
	count := 0
	for class, codes := range listedCodes {
		for _, code := range strings.Fields(codes) {
			count++
			check("", "", code, "", "visa", class, code)
			check("", "", code, "", "", class, code)
			// What comes before decides, what comes after does not.
			check("", "do_not_try_again", code, "", "", "never", "do_not_try_again")
			check("", "confirm_card_data", code, "", "", "customer", "confirm_card_data")
			check("03", "confirm_card_data", code, "", "mastercard", "never", "03")
			check("03", "", code, "", "visa", class, code)
			check("", "", code, "41", "visa", class, code)
			// "Try again later" does not say when: a code that does is heard.
			switch class {
			case "timed", "low", "soon":
				check("", "try_again_later", code, "", "", class, code)
			default:
				check("", "try_again_later", code, "", "", "soon", "try_again_later")
			}
		}
	}
	if count != len(declineCodes) {
		t.Errorf("%d codes are listed and %d known", count, len(declineCodes))
	}
	for _, code := range strings.Fields("04 07 12 14 15 41 43 46 57 R0 R1 R3") {
		check("", "", "", code, "visa", "never", code)
		check("", "", "", code, "mastercard", "customer", code)
		check("", "", "", code, "", "customer", code)
	}
	for _, code := range strings.Fields("03 21 40 41") {
		check(code, "", "insufficient_funds", "51", "mastercard", "never", code)
		check(code, "", "", "", "visa", "customer", code)
	}
	for _, code := range strings.Fields("24 25 26 27 28 29 30") {
		check(code, "try_again_later", "do_not_honor", "05", "mastercard", "timed", code)
		check(code, "", "", "", "amex", "customer", code)
	}
}

func TestClassifyOrder(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		networkAdvice, advice, decline, networkDecline, brand string
		class                                                 Class
		code                                                  string
	}{
		{class: "unknown"},
		{brand: "visa", class: "unknown"},
		{advice: "try_again_later", class: "soon", code: "try_again_later"},
		{advice: "try_again_later", decline: "brand_new_code", class: "soon", code: "try_again_later"},
		// An advice that decides nothing falls through.
		{networkAdvice: "01", advice: "confirm_card_data", brand: "mastercard", class: "customer", code: "confirm_card_data"},
		{networkAdvice: "02", decline: "insufficient_funds", brand: "mastercard", class: "timed", code: "insufficient_funds"},
		{advice: "brand_new_advice", decline: "lost_card", class: "never", code: "lost_card"},
		{decline: "brand_new_code", networkDecline: "41", brand: "visa", class: "never", code: "41"},
		// A code that is not known: the customer must act.
		{decline: "brand_new_code", networkDecline: "05", brand: "visa", class: "customer", code: "brand_new_code"},
		{networkDecline: "51", brand: "visa", class: "customer", code: "51"},
		{advice: "brand_new_advice", class: "customer", code: "brand_new_advice"},
		{networkAdvice: "01", brand: "mastercard", class: "customer", code: "01"},
		{decline: "Lost_Card", class: "customer", code: "Lost_Card"},
	} {
		class, code := Classify(test.networkAdvice, test.advice, test.decline, test.networkDecline, test.brand)
		if class != test.class || code != test.code {
			t.Errorf("%+v: %s by %q", test, class, code)
		}
	}
}
