package connect

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/stripe/stripe-go/v76"
)

// The ways a handshake, and later a merchant's request, can fail. They are part of the HTTP API.
const (
	CodeAccessDenied        = "access_denied"
	CodeInvalidState        = "invalid_state"
	CodeInvalidGrant        = "invalid_grant"
	CodeInvalidRequest      = "invalid_request"
	CodeLivemodeMismatch    = "livemode_mismatch"
	CodeStripeUnavailable   = "stripe_unavailable"
	CodeDatabaseUnavailable = "database_unavailable"
	CodeUnauthorized        = "unauthorized"
	CodeDisconnected        = "merchant_disconnected"
	CodeInsufficientScope   = "insufficient_scope"
	CodeTooManyStates       = "overloaded"
	CodeNotListed           = "account_not_listed"
	CodeNoPlatform          = "connect_not_configured"
)

// Error is a failure with a code and a message for the user, and apart from them the cause for the
// operator. None of its parts holds a token, a code or a state.
type Error struct {
	Code    string
	Message string
	Cause   error
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Code, e.Cause) }
func (e *Error) Unwrap() error { return e.Cause }

// ErrDisconnected is what a request on behalf of a merchant who has left gets.
var ErrDisconnected = &Error{CodeDisconnected, "The account is not connected any more. Connect it again at /api/auth/stripe.", ErrRevoked}

func invalidState(cause string) *Error {
	return &Error{CodeInvalidState, "This link is not valid or has been used. Start again from the first page.", errors.New(cause)}
}

func stripeUnavailable(cause error) *Error {
	return &Error{CodeStripeUnavailable, "Stripe could not complete the connection. Start again from the first page.", cause}
}

// scrub describes an error of stripe-go by its kind and status alone: its text may quote the
// answer's body, tokens included.
func scrub(err error) error {
	var stripeErr *stripe.Error
	var netErr net.Error
	switch {
	case errors.As(err, &stripeErr):
		return fmt.Errorf("stripe answered %d (request %.64q)", stripeErr.HTTPStatusCode, stripeErr.RequestID)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return errors.New("stripe did not answer in time")
	case errors.As(err, &netErr):
		return errors.New("stripe cannot be reached, or closed the connection")
	default:
		return errors.New("stripe's answer cannot be read")
	}
}
