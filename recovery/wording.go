package recovery

import "slices"

// fields are what a template may say. All of them are one line.
type fields struct {
	CustomerName   string // may be empty
	Company        string
	Amount         string // "USD 49.00"
	InvoiceNumber  string // may be empty
	PayURL         string
	UnsubscribeURL string // of an email
	DeclineReason  string // to follow "because"
	Method         string // what was charged: "card", "bank account" or, where it is another or not known, "payment method"
	CardHint       string // "Visa ending in 4242"; may be empty, and is where it was no card
}

// What a customer is told that they pay with.
const (
	byCard    = "card"
	byBank    = "bank account"
	byAnother = "payment method"
)

// methodNamed is what a type of payment methods of Stripe's is called. A wallet that holds a card is a card to Stripe.
// https://docs.stripe.com/api/charges/object#charge_object-payment_method_details-type
func methodNamed(stripeType string) string {
	switch {
	case stripeType == "card" || stripeType == "card_present":
		return byCard
	case slices.Contains([]string{"sepa_debit", "us_bank_account", "ach_debit", "bacs_debit", "au_becs_debit", "acss_debit", "nz_bank_account"}, stripeType):
		return byBank
	}
	return byAnother
}

// reasons say in plain words, to the customer, what a decline class means for what they pay with. They name no fault of theirs, and are
// not longer than those of cards were at first: a merchant's template has room for those.
var reasons = map[string]map[string]string{
	byCard: {
		"never":    "your bank does not accept this card any more",
		"customer": "your bank needs you to confirm or update your card details",
		"timed":    "the card's limit or balance did not allow it at that moment",
		"low":      "your bank did not approve it",
		"soon":     "of a temporary problem between the banks",
		"unknown":  "it could not be completed",
	},
	byBank: {
		"never":    "your bank no longer allows debits from this account",
		"customer": "your bank needs you to confirm or update your details",
		"timed":    "the account's balance did not allow it at that moment",
		"low":      "your bank did not approve it",
		"soon":     "of a temporary problem between the banks",
		"unknown":  "it could not be completed",
	},
	byAnother: {
		"never":    "this payment method cannot be used any more",
		"customer": "you need to confirm or update your payment method",
		"timed":    "your limit or balance did not allow it at that moment",
		"low":      "it was not approved",
		"soon":     "of a temporary problem with the payment",
		"unknown":  "it could not be completed",
	},
}

// reasonOf is what a customer is told of a decline class.
func reasonOf(method, class string) string {
	if reason := reasons[method][class]; reason != "" {
		return reason
	}
	return reasons[method]["unknown"]
}

// samples are one customer of each class, with everything known about them and with next to nothing, and one of each other method.
func samples() []fields {
	const page = "https://invoice.stripe.com/i/acct_1PhantomSample000/test_YWNjdF8xUGhhbnRvbVNhbXBsZTAwMCxfUGhhbnRvbVNhbXBsZUludm9pY2VOdW1iZXIsMTIzNDU2Nzg50200Sample0?s=ap"
	var all []fields
	for _, class := range []string{"timed", "never", "customer", "low", "soon", "unknown"} {
		full := fields{
			CustomerName: "Ada Lovelace", Company: "Example Software", Amount: "USD 49.00", InvoiceNumber: "A1B2C3D4-0007", PayURL: page,
			UnsubscribeURL: "https://phantom.example.com/u/sample", DeclineReason: reasonOf(byCard, class), Method: byCard, CardHint: "Visa ending in 4242",
		}
		all = append(all, full)
		for _, method := range []string{byCard, byBank, byAnother} {
			bare := full
			bare.CustomerName, bare.InvoiceNumber, bare.CardHint, bare.Method, bare.DeclineReason = "", "", "", method, reasonOf(method, class)
			all = append(all, bare)
		}
	}
	return all
}
