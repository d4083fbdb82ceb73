package report

// ages are how long ago the first payment failed, in the order of the query's buckets.
var ages = []string{"Up to 7 days", "8 to 30 days", "31 to 90 days", "91 days to 1 year", "Over 1 year"}

// classes are the decline classes in a merchant's words, and what to do about each. Package ghost says what the codes mean.
var classes = []struct{ code, name, advice string }{
	{"customer", "The customer must act",
		"The card has expired, a detail is wrong, or the bank wants to hear from its customer. Write to the customer with a link to update the card; another try alone will not help."},
	{"timed", "Not enough money just then",
		"The card is good and the account was empty or over its limit. Try again when there is likely to be money, such as after payday."},
	{"low", "Refused without a reason",
		"The bank gives no reason. One or two more tries, days apart, may work; then ask for another card."},
	{"never", "Refused for good",
		"The card is lost, stolen, closed or blocked. Do not charge it again: each try fails and may cost a fee. Ask for another card."},
	{"soon", "Technical trouble",
		"The bank or the network could not answer. Try again within hours."},
	{"unknown", "No card was refused",
		"Mostly invoices that were sent and never paid. Send a reminder, then call."},
}

// closedReasons put package ghost's reasons into words.
var closedReasons = map[string]string{
	"paid":              "paid",
	"refunded":          "refunded",
	"voided":            "invoice voided",
	"written_off":       "written off",
	"canceled":          "subscription ended",
	"suspended":         "access suspended",
	"free_service":      "granted free service",
	"disputed":          "in dispute",
	"payment_under_way": "payment under way",
	"not_found":         "no longer at Stripe",
	"no_access":         "no access, your app says",
	"access_proven":     "being looked at again",
}
