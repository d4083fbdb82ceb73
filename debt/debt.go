// Package debt names what is known of a debt: its kind, the rule that found it, and why its ghost
// has closed. Package ghost writes these words, recovery and the reports read them. The package
// imports nothing of ours.
package debt

// Kind says whose loss a debt is. Kinds are part of the HTTP API and stored in ghost_targets.kind.
type Kind string

// The kinds of debts.
const (
	Owed        Kind = "owed"
	WrittenOff  Kind = "written_off"  // the merchant has given it up
	ChargedBack Kind = "charged_back" // it was paid, and a dispute has taken the money back
)

// Kinds are all of them.
var Kinds = []Kind{Owed, WrittenOff, ChargedBack}

// Rule is the code of the rule that makes a customer a ghost, as ghost_targets.rule holds it.
type Rule string

// The rules. docs/rules.md has them as a table.
const (
	PaymentFailed       Rule = "payment_failed"
	OlderUnpaid         Rule = "older_unpaid"
	SentOverdue         Rule = "sent_overdue"
	UnpaidBeforeTrial   Rule = "unpaid_before_trial"
	AccessProven        Rule = "access_proven"
	MarkedUncollectible Rule = "marked_uncollectible"
	DisputeLost         Rule = "dispute_lost"
)

// words say the rules in a merchant's words.
var words = map[Rule]string{
	PaymentFailed:       "A payment for this subscription failed, the invoice is still open, and the subscription goes on.",
	OlderUnpaid:         "The latest invoice is paid, so the subscription looks healthy, but an older one never was.",
	SentOverdue:         "The invoice was sent to the customer and is more than 7 days past its due date. No card is charged for it.",
	UnpaidBeforeTrial:   "The customer is on a trial while an earlier invoice is unpaid.",
	AccessProven:        "The subscription has ended or is suspended, but your app says that the customer still has access.",
	MarkedUncollectible: "The payment failed and the invoice was marked uncollectible, but the subscription goes on.",
	DisputeLost:         "The invoice was paid, and a dispute has taken the money back.",
}

// Words say the rule to a merchant. A rule of a newer version is its code.
func (r Rule) Words() string {
	if text, ok := words[r]; ok {
		return text
	}
	return string(r)
}

// IsSent says whether a rule is about invoices that were sent to the customer: no card is charged
// for them, and Smart Retries has nothing to do with them.
func (r Rule) IsSent() bool {
	// By its words: a server of before codes may have written them.
	return r.Words() == SentOverdue.Words()
}

// Closing is why a ghost has closed. Closings are part of the HTTP API and stored in
// ghost_targets.closed_reason.
type Closing string

// The closings.
const (
	Paid            Closing = "paid"
	Refunded        Closing = "refunded"
	Voided          Closing = "voided"
	GivenUp         Closing = "written_off"
	Ended           Closing = "canceled" // the subscription
	Suspended       Closing = "suspended"
	FreeService     Closing = "free_service"
	Disputed        Closing = "disputed"
	PaymentUnderWay Closing = "payment_under_way" // a bank still moves the money
	NotFound        Closing = "not_found"
	NoAccess        Closing = "no_access"     // the merchant's app says so
	LookedAtAgain   Closing = "access_proven" // the app has taken no_access back
)

// Unpaid are the closings without a payment. A hunt that was stopped by one of these has ended
// because its ghost did. A closing that is missing here keeps a debt from being hunted anew, which
// is the safer mistake.
var Unpaid = []Closing{
	Refunded, Voided, GivenUp, Ended, Suspended, FreeService, Disputed, NotFound, NoAccess,
}
