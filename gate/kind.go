package gate

import (
	"phantom/playbook"
)

// Kinds of the tasks that change something at Stripe.
const (
	KindPay           = "invoice_pay"
	KindHold          = "invoice_hold"    // auto_advance off: Smart Retries lets go
	KindRelease       = "invoice_release" // and on again
	KindUncollectible = "invoice_mark_uncollectible"
	KindPause         = "subscription_pause"
	KindResume        = "subscription_resume"
	KindCancel        = "subscription_cancel"
)

// Writes says whether tasks of a kind write to a customer.
func Writes(kind string) bool { return kind == playbook.Email || kind == playbook.SMS }

// OfInvoice says whether a kind changes an invoice; else it changes a subscription.
func OfInvoice(kind string) bool {
	return kind == KindPay || kind == KindHold || kind == KindRelease || kind == KindUncollectible
}

// IsFinal says whether a kind is a playbook's final step.
func IsFinal(kind string) bool {
	return kind == KindPause || kind == KindCancel || kind == KindUncollectible
}

// FinalKinds are the kinds of the final steps of a playbook.
var FinalKinds = map[string]string{
	playbook.FinalPause: KindPause, playbook.FinalCancel: KindCancel, playbook.FinalUncollectible: KindUncollectible,
}

// Request is what was planned. A message needs only its zero value.
type Request struct {
	Object   string // the invoice or the subscription
	Amount   int64  // minor units
	Currency string
}
