// Package decline says what a refused charge means for the next attempt. It imports nothing of
// ours, so that all stages read alike.
package decline

import "time"

// Class says what a failed charge means for the next attempt. Classes are part of the HTTP API and
// stored in columns named decline_class.
type Class string

// The classes.
const (
	Never    Class = "never"    // no further attempt on this card
	Customer Class = "customer" // the customer must act first; also every code that is not known
	Timed    Class = "timed"    // a retry works when there is money again
	Low      Class = "low"      // a retry may work, with low odds
	Soon     Class = "soon"     // a retry works within hours
	Unknown  Class = "unknown"  // no code at all
)

// NetworkDays is over how many days the card networks count the attempts on a card.
const NetworkDays = 30

// Classes are all of them.
var Classes = []Class{Never, Customer, Timed, Low, Soon, Unknown}

// Soft are those after which a retry may work with the same card.
var Soft = []Class{Timed, Low, Soon, Unknown}

// Words say what a class means for a customer's card.
func (c Class) Words() string {
	switch c {
	case Never:
		return "the bank allows no further attempt on this card"
	case Customer:
		return "the customer must act first"
	case Timed:
		return "there was not enough money"
	case Low:
		return "the bank gave no reason"
	case Soon:
		return "the bank could not answer at that moment"
	case Unknown:
	}
	return "no reason was given"
}

// IsHard says whether no retry helps after a decline of a class, with the same card.
func (c Class) IsHard() bool { return c == Never || c == Customer }

// Classify says what a failed charge means for the next attempt, and which code decided it. The
// codes are those of a charge's outcome, "" where Stripe gives none, and are read in this order:
// networkAdvice, advice, decline, networkDecline. Network codes mean something only with their
// card's brand.
func Classify(networkAdvice, advice, decline, networkDecline, brand string) (class Class, code string) {
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
		return Never, networkDecline
	}
	for _, code := range []string{decline, networkDecline, advice, networkAdvice} {
		if code != "" {
			return Customer, code
		}
	}
	return Unknown, ""
}

// saysWhen reports a class that says more about a retry than the advice try_again_later, which
// accompanies a lack of funds as it does a time-out: that a retry may work. Read as "within hours"
// it would hide what timed and low are for.
func saysWhen(class Class) bool { return class == Timed || class == Low || class == Soon }

// Stripe's advice_code. https://docs.stripe.com/declines/card
var adviceCodes = map[string]Class{
	"confirm_card_data": Customer,
	"do_not_try_again":  Never,
	"try_again_later":   Soon,
}

// Stripe's decline_code. https://docs.stripe.com/declines/codes
var declineCodes = map[string]Class{
	"do_not_try_again":                 Never,
	"fraudulent":                       Never,
	"highest_risk_level":               Never,
	"incorrect_number":                 Never,
	"invalid_account":                  Never,
	"lost_card":                        Never,
	"merchant_blacklist":               Never,
	"pickup_card":                      Never,
	"restricted_card":                  Never,
	"revocation_of_all_authorizations": Never,
	"revocation_of_authorization":      Never,
	"security_violation":               Never,
	"stolen_card":                      Never,
	"stop_payment_order":               Never,
	"transaction_not_allowed":          Never,

	"authentication_required":           Customer,
	"call_issuer":                       Customer,
	"card_not_supported":                Customer,
	"currency_not_supported":            Customer,
	"expired_card":                      Customer,
	"incorrect_cvc":                     Customer,
	"incorrect_zip":                     Customer,
	"invalid_cvc":                       Customer,
	"invalid_expiry_month":              Customer,
	"invalid_expiry_year":               Customer,
	"new_account_information_available": Customer,
	"pin_try_exceeded":                  Customer,

	"card_velocity_exceeded":          Timed,
	"insufficient_funds":              Timed,
	"withdrawal_count_limit_exceeded": Timed,

	"do_not_honor":    Low,
	"generic_decline": Low,
	"no_action_taken": Low,

	"issuer_not_available": Soon,
	"processing_error":     Soon,
	"reenter_transaction":  Soon,
	"try_again_later":      Soon,
}

// Mastercard's merchant advice codes, as Stripe's network_advice_code. From 24 on they name a wait:
// 1 h, 24 h, 2, 4, 6, 8 and 10 days.
var mastercardAdvice = map[string]Class{
	"03": Never, "21": Never, "40": Never, "41": Never,
	"24": Timed, "25": Timed, "26": Timed, "27": Timed, "28": Timed, "29": Timed, "30": Timed,
}

// Visa's response codes after which it forbids another attempt, as Stripe's network_decline_code.
var visaNever = map[string]bool{
	"04": true, "07": true, "12": true, "14": true, "15": true, "41": true, "43": true, "46": true, "57": true,
	"R0": true, "R1": true, "R3": true,
}

// NetworkWait is what Mastercard's advice codes ask for.
var NetworkWait = map[string]time.Duration{
	"24": time.Hour, "25": 24 * time.Hour, "26": 48 * time.Hour, "27": 96 * time.Hour, "28": 144 * time.Hour, "29": 192 * time.Hour,
	"30": 240 * time.Hour,
}
