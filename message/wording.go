package message

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"phantom/decline"
	"phantom/money"
)

// fields are what a template may say. All of them are one line.
type fields struct {
	CustomerName   string // may be empty
	Company        string
	Amount         string // "$49.00", "49,00 €"
	InvoiceNumber  string // may be empty
	PayURL         string
	UnsubscribeURL string // of an email
	DeclineReason  string // to follow "because"
	// what was charged: "card", "bank account" or, where it is another or not known, "payment
	// method"
	Method   string
	CardHint string // "Visa ending in 4242"; may be empty, and is where it was no card

	Tried       bool   // a payment was tried; not so of an invoice that was sent to be paid
	SameMethod  bool   // what was charged may work the next time
	NextAttempt string // "3 December": when it is charged again; may be empty
	AccessEnds  string // "3 December": when access ends if nothing is paid; may be empty
}

// What a customer is told that they pay with.
const (
	byCard    = "card"
	byBank    = "bank account"
	byAnother = "payment method"
)

// methodNamed is what a type of payment methods of Stripe's is called. A wallet that holds a card
// is a card to Stripe.
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

// reasons say in plain words, to the customer, what a decline class means for what they pay with.
// They name no fault of theirs, and are not longer than those of cards were at first: a merchant's
// template has room for those.
var reasons = map[string]map[decline.Class]string{
	byCard: {
		decline.Never:    "your bank does not accept this card any more",
		decline.Customer: "your bank needs you to confirm or update your card details",
		decline.Timed:    "the card's limit or balance did not allow it at that moment",
		decline.Low:      "your bank did not approve it",
		decline.Soon:     "of a temporary problem between the banks",
		decline.Unknown:  "it could not be completed",
	},
	byBank: {
		decline.Never:    "your bank no longer allows debits from this account",
		decline.Customer: "your bank needs you to confirm or update your details",
		decline.Timed:    "the account's balance did not allow it at that moment",
		decline.Low:      "your bank did not approve it",
		decline.Soon:     "of a temporary problem between the banks",
		decline.Unknown:  "it could not be completed",
	},
	byAnother: {
		decline.Never:    "this payment method cannot be used any more",
		decline.Customer: "you need to confirm or update your payment method",
		decline.Timed:    "your limit or balance did not allow it at that moment",
		decline.Low:      "it was not approved",
		decline.Soon:     "of a temporary problem with the payment",
		decline.Unknown:  "it could not be completed",
	},
}

// inGSM writes the symbols of package money with the letters of GSM 03.38. One letter that is not
// among these halves what fits into a segment of an SMS.
var inGSM = strings.NewReplacer("zł", "zl", "₹", "INR ", "₩", "KRW ")

// reasonOf is what a customer is told of a decline class.
func (w *words) reasonOf(method string, class decline.Class) string {
	of := w.Reason
	if of == nil {
		of = reasons[method]
	}
	return cmp.Or(of[class], of[decline.Unknown])
}

// cardHint is how customers know their card, "" where something else was charged.
func (w *words) cardHint(i *invoice) string {
	brand, last4 := i.card()
	if brand == "" {
		return ""
	}
	return fmt.Sprintf(w.Card, brand, last4)
}

// samples are one customer of each class, with everything known about them and with next to
// nothing, one of each other method, and one who was sent an invoice.
func samples(language string) []fields {
	const page = "https://invoice.stripe.com/i/acct_1PhantomSample000/test_YWNjdF8xUGhhbnRvbVNhbXBsZTAwMCxfUGhhbnRvbVNhbXBsZUludm9pY2VOdW1iZXIsMTIzNDU2Nzg50200Sample0?s=ap"
	w := wordsOf(language)
	soon := time.Date(2026, 12, 3, 12, 0, 0, 0, time.UTC)
	var all []fields
	for _, class := range decline.Classes {
		full := fields{
			CustomerName: "Ada Lovelace", Company: "Example Software", Amount: money.Local(4900, "usd", language, ""), InvoiceNumber: "A1B2C3D4-0007", PayURL: page,
			UnsubscribeURL: "https://phantom.example.com/u/sample", DeclineReason: w.reasonOf(byCard, class), Method: w.Method[byCard],
			CardHint: w.cardHint(&invoice{methodType: "card", cardBrand: "visa", cardLast4: "4242"}), Tried: true, SameMethod: class != decline.Never,
			AccessEnds: w.date(soon.AddDate(0, 0, 7)),
		}
		if full.SameMethod {
			full.NextAttempt = w.date(soon)
		}
		all = append(all, full)
		for _, method := range []string{byCard, byBank, byAnother} {
			bare := full
			bare.CustomerName, bare.InvoiceNumber, bare.CardHint, bare.NextAttempt, bare.AccessEnds = "", "", "", "", ""
			bare.Method, bare.DeclineReason = w.Method[method], w.reasonOf(method, class)
			all = append(all, bare)
		}
	}
	sent := all[len(all)-1]
	sent.Tried = false
	return append(all, sent)
}
