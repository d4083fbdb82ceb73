package report

import (
	"phantom/debt"
	"phantom/decline"
)

// ages are how long ago the first payment failed, in the order of the query's buckets.
var ages = []string{"Up to 7 days", "8 to 30 days", "31 to 90 days", "91 days to 1 year", "Over 1 year"}

// classes are the decline classes in a merchant's words, and what to do about each. Package ghost
// says what the codes mean.
var classes = []struct {
	code         decline.Class
	name, advice string
}{
	{decline.Customer, "The customer must act",
		"The card has expired, a detail is wrong, or the bank wants to hear from its customer. Write to the customer with a link to update the card; another try alone will not help."},
	{decline.Timed, "Not enough money just then",
		"The card is good and the account was empty or over its limit. Try again when there is likely to be money, such as after payday."},
	{decline.Low, "Refused without a reason",
		"The bank gives no reason. One or two more tries, days apart, may work; then ask for another card."},
	{decline.Never, "Refused for good",
		"The card is lost, stolen, closed or blocked. Do not charge it again: each try fails and may cost a fee. Ask for another card."},
	{decline.Soon, "Technical trouble",
		"The bank or the network could not answer. Try again within hours."},
	{decline.Unknown, "No card was refused",
		"Mostly invoices that were sent and never paid. Send a reminder, then call."},
}

// closedReasons put the closings into words.
var closedReasons = map[debt.Closing]string{
	debt.Paid:            "paid",
	debt.Refunded:        "refunded",
	debt.Voided:          "invoice voided",
	debt.GivenUp:         "written off",
	debt.Ended:           "subscription ended",
	debt.Suspended:       "access suspended",
	debt.FreeService:     "granted free service",
	debt.Disputed:        "in dispute",
	debt.PaymentUnderWay: "payment under way",
	debt.NotFound:        "no longer at Stripe",
	debt.NoAccess:        "no access, your app says",
	debt.LookedAtAgain:   "being looked at again",
}
