package connect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/stripe/stripe-go/v76"
)

// ErrForbidden says that Stripe accepts the merchant's token, and does not let it do this. It is an
// [ErrRefused].
var ErrForbidden = fmt.Errorf("%w: the merchant's token may not do this", ErrRefused)

// isStripes says whether a body is an error of Stripe's own. Proxies and firewalls answer with 401
// and 403, too.
func isStripes(body []byte) bool {
	var answer struct {
		Error struct {
			Type string `json:"type"`
		} `json:"error"`
	}
	return json.Unmarshal(body, &answer) == nil && strings.HasSuffix(answer.Error.Type, "_error")
}

func isDenied(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

// denied says what a 401 or 403 means whose error is Stripe's own: [ErrRevoked] only if the account
// itself is refused as well, or everything of the merchant would stand still for one object's sake.
func (r *Reader) denied(ctx context.Context, status int, said error) error {
	err := r.prove(ctx)
	var read *ReadError
	switch {
	case errors.Is(err, ErrRevoked):
		return &ReadError{Err: fmt.Errorf("%w (%w)", ErrRevoked, said)}
	case errors.As(err, &read):
		return &ReadError{Err: fmt.Errorf("%w, and then %w", said, err), SlowDown: read.SlowDown}
	case err != nil:
		return err
	case status == http.StatusForbidden:
		return &ReadError{Err: fmt.Errorf("%w (%w)", ErrForbidden, said)}
	}
	return &ReadError{Err: said} // Stripe contradicts itself
}

// prove asks Stripe once whether it accepts the merchant's token. It returns nil if it does, and a
// [*ReadError] if it does not, which is [ErrRevoked], or if there is no clear answer. It never
// calls [Reader.Get] or denied.
func (r *Reader) prove(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(Urgent(ctx), 2*stripeTimeout) // the pace and one request
	defer cancel()
	err := r.fetch(waiting, "/v1/account", func(response *http.Response, body []byte) error {
		var account struct {
			ID string `json:"id"`
		}
		said, code := answered(response), stripeCode(r, response, body)
		_ = json.Unmarshal(body, &account) // what is missing stays ""
		switch status := response.StatusCode; {
		case status == http.StatusOK && account.ID == r.Merchant.StripeUserID:
			r.service.accepted(ctx, r.Merchant)
			return nil
		case isDenied(status) && isStripes(body):
			return &ReadError{Err: fmt.Errorf("%w (%w)", ErrRevoked, said)}
		case status == http.StatusTooManyRequests && code != stripe.ErrorCodeLockTimeout:
			return r.slowDown(ctx, response, said)
		default:
			return &ReadError{Err: said}
		}
	})
	if err != nil && waiting.Err() != nil && ctx.Err() == nil {
		return &ReadError{Err: errors.New("stripe could not be asked about the token in time")}
	}
	return err
}

// answered names an answer, without a word of it.
func answered(response *http.Response) error {
	id := response.Header.Get("Request-Id")
	return fmt.Errorf("stripe answered %d (request %.64q)", response.StatusCode, id)
}

// stripeCode is the code of an error of Stripe's, or "".
func stripeCode(r *Reader, response *http.Response, body []byte) stripe.ErrorCode {
	var refused *stripe.Error
	if errors.As(r.service.builder.ResponseToError(response, body), &refused) {
		return refused.Code
	}
	return ""
}
