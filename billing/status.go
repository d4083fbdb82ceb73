package billing

// Statuses of an invoice, as Stripe has them.
// https://docs.stripe.com/api/invoices/object#invoice_object-status
const (
	InvoiceDraft         = "draft"
	InvoiceOpen          = "open"
	InvoicePaid          = "paid"
	InvoiceUncollectible = "uncollectible"
	InvoiceVoid          = "void"
)

// Statuses of a charge, as Stripe has them.
// https://docs.stripe.com/api/charges/object#charge_object-status
const (
	ChargeSucceeded = "succeeded"
	ChargePending   = "pending"
	ChargeFailed    = "failed"
)

// ChargeBlocked is our word for a failed charge that never reached the card's network.
const ChargeBlocked = "blocked"
