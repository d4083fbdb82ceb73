// Package sandbox is a stateful stand-in for Stripe: Connect's OAuth and the part of the v1 API
// that PHANTOM uses, in the shapes of API version 2023-10-16. Below /resend/ it stands in for
// Resend, below /twilio/ for Twilio.
//
// # The world
//
// A seed gives a few merchants with eighteen months of customers, subscriptions, invoices, charges
// and disputes. The world lives: when the clock moves, renewals fall due, Smart Retries run and
// bank debits settle. Whether a charge succeeds depends on the card, and for many cards on their
// bank's hours, or on when the customer is paid, on how fast their money runs down, and on the hour
// where they live: payer.go. Objects are real state: an invoice is paid once, and an
// Idempotency-Key executes once in 24 hours.
//
// Config.Charges gives the first merchant a long past besides, written in closed form. Nothing in
// it changes any more: its subscriptions are not renewed, its invoices cannot be paid and it has no
// events.
//
// Config.OpenInvoices makes another world: so many customers of each merchant with exactly one
// invoice each that failed for want of funds, that nobody else will retry (next_payment_attempt
// null, auto_advance false) and that can be paid now. When paid, every other one succeeds and the
// rest are declined, with codes of all classes.
//
// With Config.Respond customers answer emails and SMS: of those who owe and whose card only they
// can replace, 35 in a hundred take another card and pay within 48 hours of the sandbox's clock,
// fewer after each further message. With Config.StripeEmails besides, Stripe writes to them by
// itself after each charge that fails.
//
// Truth says who is a ghost, from the inside: what is owed, what the merchant has written off while
// the service goes on, and what was paid and charged back. Invoices that ask for the same thing
// several times are one debt. Faults spoil requests on demand, Change turns the world, and
// Config.Webhook sends its events, signed. A test of processes does the same over HTTP, below
// /sandbox/ with the platform's key:
//
//	GET  /sandbox/accounts                 the merchants' ids
//	GET  /sandbox/truth?account=acct_…     []Ghost
//	GET  /sandbox/requests                 []Request
//	GET  /sandbox/peak?account=acct_…      {"peak": most requests within one second}
//	GET  /sandbox/ledger?account=acct_…    []Execution, oldest first; without an account those of all
//	GET  /sandbox/executions               {"task_…": how often it was executed}
//	GET  /sandbox/emails                   []Email, those that /resend/ accepted
//	GET  /sandbox/sms                      []SMS, those that /twilio/ accepted and the replies
//	POST /sandbox/sms-reply                SMSReply; the answer is SMSReplied
//	POST /sandbox/forget-keys              all Idempotency-Keys are forgotten now
//	GET  /sandbox/clock                    {"now": RFC 3339}
//	POST /sandbox/clock                    {"advance_seconds": n} moves the clock on, and plays what
//	                                       falls due; answers as GET
//	POST /sandbox/faults                   Fault, with "delay" in milliseconds
//	DELETE /sandbox/faults                 disarms all
//	POST /sandbox/changes                  Change; the answer is {"id": …}
//	POST /sandbox/webhook                  Webhook, with "delay" in milliseconds
//
// # Limits
//
// Grants survive a restart in Config.StateFile, objects and idempotency keys do not: after a
// restart the world is what the seed and the clock say. Time passes when somebody asks: Advance
// plays what is due, so that its events are sent. What was added to the clock (AdvanceClock) is
// gone with the process too.
//
// Known from reading only, and so a guess here too: which headers and codes come with a 429, what
// exactly moves in later API versions, how a part of an invoice comes in, and that a code used
// twice takes its tokens with it; how an invoice comes by another payment intent, and that a
// subscription loses a card that is detached. In the shapes of 2025-03-31.basil are invoices in the
// events of Webhook.Basil, and reads of invoices, charges and payment intents whose Stripe-Version
// asks for it.
package sandbox
