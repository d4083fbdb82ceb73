package sandbox

import (
	"slices"
	"time"
)

// decline is one way in which a charge fails. Codes are those of Stripe's decline codes and of the
// card networks.
type decline struct {
	// never, customer, timed, low, hours; or blocked: Stripe did not send it to the network
	class   string
	code    string // error code; "" means card_declined
	reason  string // decline_code, outcome.reason
	advice  string // advice_code
	visa    string // network_decline_code of Visa and others
	masterc string // network_advice_code of Mastercard
}

var (
	insufficientFunds = decline{"timed", "", "insufficient_funds", "try_again_later", "51", "29"}
	expiredCard       = decline{"customer", "expired_card", "expired_card", "confirm_card_data", "54", "01"}
	doNotHonor        = decline{"low", "", "do_not_honor", "try_again_later", "05", "27"}
	authRequired      = decline{"customer", "authentication_required", "authentication_required", "", "1A", ""}
	highestRisk       = decline{class: "blocked", reason: "highest_risk_level", advice: "do_not_try_again"}
	// Stripe's own answer to a card whose bank has said "never again".
	blockedAgain = decline{class: "blocked", reason: "previously_declined_do_not_retry", advice: "do_not_try_again"}

	// A code that no list knows: there are new ones every year.
	unknownDecline = decline{"customer", "", "issuer_policy_17", "", "Z5", ""}

	// hard are the ends that a card can come to. The order matters to the seed, so add at the end.
	hard = []decline{
		insufficientFunds,
		expiredCard,
		doNotHonor,
		{"never", "", "lost_card", "do_not_try_again", "41", "03"},
		{"never", "", "stolen_card", "do_not_try_again", "43", "03"},
		{"customer", "", "new_account_information_available", "confirm_card_data", "54", "01"},
		{"never", "", "pickup_card", "do_not_try_again", "04", "03"},
		{"never", "", "revocation_of_authorization", "do_not_try_again", "R1", "40"},
		{"never", "", "revocation_of_all_authorizations", "do_not_try_again", "R3", "21"},
		{"never", "", "stop_payment_order", "do_not_try_again", "R0", "21"},
		{"never", "", "invalid_account", "do_not_try_again", "46", "03"},
		{"never", "incorrect_number", "incorrect_number", "do_not_try_again", "14", "03"},
		{"never", "", "restricted_card", "do_not_try_again", "57", "03"},
		{"never", "", "transaction_not_allowed", "do_not_try_again", "57", "03"},
		{"never", "", "fraudulent", "do_not_try_again", "12", "03"},
		{"never", "", "security_violation", "do_not_try_again", "07", "03"},
		{"customer", "", "card_not_supported", "", "58", ""},
		{"customer", "", "call_issuer", "", "01", ""},
		{"customer", "incorrect_cvc", "incorrect_cvc", "confirm_card_data", "N7", ""},
		{"customer", "", "pin_try_exceeded", "", "75", ""},
		highestRisk,
	}
	velocity = []decline{
		insufficientFunds, insufficientFunds, insufficientFunds,
		{"timed", "", "card_velocity_exceeded", "try_again_later", "65", "25"},
		{"timed", "", "withdrawal_count_limit_exceeded", "try_again_later", "61", "26"},
	}
	soft = []decline{
		doNotHonor,
		{"low", "", "generic_decline", "try_again_later", "05", "28"},
		{"low", "", "no_action_taken", "try_again_later", "21", "30"},
	}
	technical = []decline{
		{"hours", "processing_error", "processing_error", "try_again_later", "96", "24"},
		{"hours", "", "issuer_not_available", "try_again_later", "91", "24"},
		{"hours", "", "reenter_transaction", "try_again_later", "19", "24"},
		{"hours", "", "try_again_later", "try_again_later", "91", "24"},
	}
)

func (d decline) errorCode() string {
	if d.code == "" {
		return "card_declined"
	}
	return d.code
}

func (d decline) message() string {
	switch d.reason {
	case "insufficient_funds":
		return "Your card has insufficient funds."
	case "expired_card":
		return "Your card has expired."
	case "incorrect_number":
		return "Your card number is incorrect."
	case "incorrect_cvc":
		return "Your card's security code is incorrect."
	case "processing_error":
		return "An error occurred while processing your card. Try again in a little bit."
	case "authentication_required":
		return "Your card was declined. This transaction requires authentication."
	}
	return "Your card was declined."
}

// card is a payment method and its hidden nature.
type card struct {
	pm    *paymentMethod
	habit habit
	dies  int64 // from this time every charge fails with end; 0 = never
	end   decline
	never bool // a bank has said "never again": Stripe blocks what follows
}

type habit int

const (
	liquid    habit = iota // pays nearly always
	payday                 // empty but for the days after a payday
	moody                  // an issuer that says yes in hours and on days of its own
	unstable               // an issuer whose machines fail for some hours of each day
	bankDebit              // not a card: pending for days, then settled
)

// verdict decides one charge. It depends on the seed, the invoice, the number of the try and the
// customer's local time only, so that the same history gives the same world however the clock was
// moved. nil means success.
func (a *account) verdict(inv *invoice, k *card, t int64) *decline {
	if k.never {
		return &blockedAgain
	}
	if k.dies != 0 && t >= k.dies {
		end := k.end
		return &end
	}
	if inv.BillingReason == "subscription_create" {
		return nil // the customer has just typed the card in
	}
	r := stream(a.world.seed, "verdict", inv.ID, uint64(inv.tries))
	if r.Float64() < a.payer(inv.of.cust).chance(k.habit, time.Unix(t, 0)) {
		return nil
	}
	d := insufficientFunds
	switch k.habit {
	case liquid:
		all := append(slices.Clone(soft), technical...)
		d = all[r.IntN(len(all))]
	case payday:
		d = velocity[r.IntN(len(velocity))]
	case moody:
		d = soft[r.IntN(len(soft))]
	case unstable:
		d = technical[r.IntN(len(technical))]
	case bankDebit: // it bounces for a lack of money
	}
	return &d
}

func (d *decline) outcome(brand string) outcome {
	if d == nil {
		return outcome{NetworkStatus: "approved_by_network", RiskLevel: "normal", RiskScore: 24,
			SellerMessage: "Payment complete.", Type: "authorized"}
	}
	o := outcome{
		AdviceCode: text(d.advice), NetworkStatus: "declined_by_network", Reason: text(d.reason), RiskLevel: "normal",
		RiskScore: 31, SellerMessage: "The bank did not return any further details with this decline.", Type: "issuer_declined",
	}
	if d.class == "blocked" {
		o.NetworkStatus, o.Type, o.SellerMessage = "not_sent_to_network", "blocked", "Stripe blocked this payment."
		if d.reason == "highest_risk_level" {
			o.RiskLevel, o.RiskScore = "highest", 92
		}
		return o
	}
	if d.reason == "generic_decline" && brand == "amex" {
		o.AdviceCode = ""
	}
	if brand == "mastercard" {
		o.NetworkAdviceCode = text(d.masterc)
	}
	o.NetworkDeclineCode = text(d.visa)
	return o
}

func (d *decline) err(ch *charge) *cardError {
	return &cardError{
		Type: "card_error", Code: d.errorCode(), DeclineCode: d.reason, Message: d.message(), Charge: ch.ID,
		AdviceCode: string(ch.Outcome.AdviceCode), NetworkAdviceCode: string(ch.Outcome.NetworkAdviceCode),
		NetworkDeclineCode: string(ch.Outcome.NetworkDeclineCode), DocURL: docURL(d.errorCode()),
	}
}
