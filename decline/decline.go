// Package decline says what a refused charge means for the next attempt. It imports nothing of ours, so that all stages read alike.
package decline

// Classify says what a failed charge means for the next attempt, and which code decided it. The codes are those of a charge's
// outcome, "" where Stripe gives none, and are read in this order: networkAdvice, advice, decline, networkDecline. Network codes mean
// something only with their card's brand. The classes:
//
//	never     no further attempt on this card
//	customer  the customer must act first; also every code that is not known
//	timed     a retry works when there is money again
//	low       a retry may work, with low odds
//	soon      a retry works within hours
//	unknown   no code at all
func Classify(networkAdvice, advice, decline, networkDecline, brand string) (class, code string) {
	if brand == "mastercard" {
		if class, ok := mastercardAdvice[networkAdvice]; ok {
			return class, networkAdvice
		}
	}
	byDecline, declineKnown := declineCodes[decline]
	if class, ok := adviceCodes[advice]; ok && (advice != "try_again_later" || !saysWhen(byDecline)) {
		return class, advice
	}
	if declineKnown {
		return byDecline, decline
	}
	if brand == "visa" && visaNever[networkDecline] {
		return "never", networkDecline
	}
	for _, code := range []string{decline, networkDecline, advice, networkAdvice} {
		if code != "" {
			return "customer", code
		}
	}
	return "unknown", ""
}

// saysWhen reports a class that says more about a retry than the advice try_again_later, which accompanies a lack of funds as it does
// a time-out: that a retry may work. Read as "within hours" it would hide what timed and low are for.
func saysWhen(class string) bool { return class == "timed" || class == "low" || class == "soon" }

// Stripe's advice_code. https://docs.stripe.com/declines/card
var adviceCodes = map[string]string{
	"confirm_card_data": "customer",
	"do_not_try_again":  "never",
	"try_again_later":   "soon",
}

// Stripe's decline_code. https://docs.stripe.com/declines/codes
var declineCodes = map[string]string{
	"do_not_try_again":                 "never",
	"fraudulent":                       "never",
	"highest_risk_level":               "never",
	"incorrect_number":                 "never",
	"invalid_account":                  "never",
	"lost_card":                        "never",
	"merchant_blacklist":               "never",
	"pickup_card":                      "never",
	"restricted_card":                  "never",
	"revocation_of_all_authorizations": "never",
	"revocation_of_authorization":      "never",
	"security_violation":               "never",
	"stolen_card":                      "never",
	"stop_payment_order":               "never",
	"transaction_not_allowed":          "never",

	"authentication_required":           "customer",
	"call_issuer":                       "customer",
	"card_not_supported":                "customer",
	"currency_not_supported":            "customer",
	"expired_card":                      "customer",
	"incorrect_cvc":                     "customer",
	"incorrect_zip":                     "customer",
	"invalid_cvc":                       "customer",
	"invalid_expiry_month":              "customer",
	"invalid_expiry_year":               "customer",
	"new_account_information_available": "customer",
	"pin_try_exceeded":                  "customer",

	"card_velocity_exceeded":          "timed",
	"insufficient_funds":              "timed",
	"withdrawal_count_limit_exceeded": "timed",

	"do_not_honor":    "low",
	"generic_decline": "low",
	"no_action_taken": "low",

	"issuer_not_available": "soon",
	"processing_error":     "soon",
	"reenter_transaction":  "soon",
	"try_again_later":      "soon",
}

// Mastercard's merchant advice codes, as Stripe's network_advice_code. From 24 on they name a wait: 1 h, 24 h, 2, 4, 6, 8 and 10 days.
var mastercardAdvice = map[string]string{
	"03": "never", "21": "never", "40": "never", "41": "never",
	"24": "timed", "25": "timed", "26": "timed", "27": "timed", "28": "timed", "29": "timed", "30": "timed",
}

// Visa's response codes after which it forbids another attempt, as Stripe's network_decline_code.
var visaNever = map[string]bool{
	"04": true, "07": true, "12": true, "14": true, "15": true, "41": true, "43": true, "46": true, "57": true,
	"R0": true, "R1": true, "R3": true,
}
