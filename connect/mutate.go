package connect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"time"

	"github.com/stripe/stripe-go/v76"

	"phantom/task"
)

// Mutation is a request that changes something in a merchant's account. A task's params hold it,
// frozen, under "request".
type Mutation struct {
	Method string `json:"method"` // POST or DELETE
	Path   string `json:"path"`   // /v1/…
	Body   string `json:"body"`   // form-encoded, sent byte by byte
}

// Answer is Stripe's final word on a mutation: it was executed, or refused for good.
type Answer struct {
	Status   int
	Body     []byte
	Replayed bool // Stripe had executed it before, and said the same then
}

// UnknownError says that a mutation may or may not have been executed. Stored means that Stripe
// keeps this failure under the key, so that sending it again tells nothing new.
type UnknownError struct {
	Err    error
	Stored bool
}

func (e *UnknownError) Error() string { return "outcome unknown: " + e.Err.Error() }
func (e *UnknownError) Unwrap() error { return e.Err }

var (
	// ErrKeyReused says that Stripe knows the task's key from another request. Nothing may be sent
	// under it any more.
	ErrKeyReused = errors.New("stripe knows this task's key from another request")
	// ErrTooLate says that the process stood still between marking a task as sent and sending it.
	// Nothing was sent.
	ErrTooLate = errors.New("the request did not leave in time and was not sent")

	errUnmarked = errors.New("the task is not marked as sent, so nothing is sent")
)

// mutationPath is what may be changed at all.
var mutationPath = regexp.MustCompile(`^/v1/(invoices/[A-Za-z0-9_]{1,255}(/pay|/mark_uncollectible)?|subscriptions(/[A-Za-z0-9_]{1,255})?)$`)

// Reserve waits until the account's pace allows one request, and keeps that turn for the next read.
// Who must act on what they read while it is fresh waits before they read.
func (r *Reader) Reserve(ctx context.Context) error {
	if r.turn.Load() {
		return ctx.Err()
	}
	if err := r.pace.wait(ctx); err != nil {
		return err
	}
	r.turn.Store(true)
	return nil
}

// Turn waits until the account's pace allows one request more. It comes before a task is marked as
// sent: what is marked leaves at once.
func (r *Reader) Turn(ctx context.Context) error { return r.pace.wait(ctx) }

// Mutate sends the request that the task holds, once, under the key task_<id>. It is the one door
// to Stripe for mutations, and it takes a task whose first sending is committed: code without one
// cannot change anything. by is the wall-clock time at which it is too late, and the caller has
// waited for its [Reader.Turn].
//
// An [Answer] is final. Else the error is an [*UnknownError], or it was not executed:
// [ErrKeyReused], [ErrTooLate], or a [*ReadError], which is [ErrRevoked], [ErrForbidden], a wish to
// slow down, or a refusal that a second look has not explained.
func (r *Reader) Mutate(ctx context.Context, t *task.Task, by time.Time) (Answer, error) {
	if t.FirstSentAt == nil {
		return Answer{}, errUnmarked
	}
	var frozen struct{ Request Mutation }
	if err := json.Unmarshal(t.Params, &frozen); err != nil {
		return Answer{}, errors.New("the task's params hold no request")
	}
	m := frozen.Request
	if (m.Method != http.MethodPost && m.Method != http.MethodDelete) || !mutationPath.MatchString(m.Path) {
		return Answer{}, errors.New("the task's request is none that may be sent")
	}
	// By its operator's word the key only reads.
	if r.Merchant.Scope == string(stripe.OAuthScopeTypeReadOnly) {
		return Answer{}, &ReadError{Err: fmt.Errorf("%w: it only reads", ErrForbidden)}
	}
	token, err := r.Merchant.AccessToken.Reveal(accessTokenContext(r.Merchant.StripeUserID))
	if err != nil {
		return Answer{}, err
	}
	sending, cancel := context.WithTimeout(ctx, stripeTimeout)
	defer cancel()
	request, err := r.service.builder.NewRequest(m.Method, m.Path, token, "application/x-www-form-urlencoded", &stripe.Params{
		Context: sending, IdempotencyKey: stripe.String("task_" + t.ID.String()),
	})
	if err != nil {
		return Answer{}, scrub(err)
	}
	// Never http.NoBody, which net/http would send again by itself.
	request.Body, request.ContentLength = readCloser{bytes.NewReader([]byte(m.Body))}, int64(len(m.Body))
	sabotage(request)
	// By the wall clock, which goes on while a machine sleeps: a key must not leave a day late.
	if r.service.config.Now().Round(0).After(by) {
		return Answer{}, ErrTooLate
	}
	response, err := r.service.mutations.Do(request)
	if err != nil {
		return Answer{}, &UnknownError{Err: scrub(err)}
	}
	defer func() { _ = response.Body.Close() }()
	var body bytes.Buffer
	if _, err := body.ReadFrom(response.Body); err != nil {
		return Answer{}, &UnknownError{Err: scrub(err)}
	}
	return r.answer(ctx, response, body.Bytes())
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

// answer tells what is final from what is not.
func (r *Reader) answer(ctx context.Context, response *http.Response, body []byte) (Answer, error) {
	replayed := response.Header.Get("Idempotent-Replayed") == "true"
	said := answered(response)
	var refused *stripe.Error
	errors.As(r.service.builder.ResponseToError(response, body), &refused)
	switch status := response.StatusCode; {
	case isDenied(status) && !isStripes(body):
		// somebody on the way says nothing of what Stripe has done
		return Answer{}, &UnknownError{Err: said}
	case isDenied(status) && !replayed: // before Stripe looks at keys: nothing was executed
		return Answer{}, r.denied(ctx, status, said)
	case status == http.StatusTooManyRequests && (refused == nil || refused.Code != stripe.ErrorCodeLockTimeout):
		if err := r.pace.slow(context.WithoutCancel(ctx), 0); err != nil {
			return Answer{}, err
		}
		return Answer{}, &ReadError{Err: said, SlowDown: true}
	case status >= 500, status == http.StatusConflict, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status < 200,
		status >= 300 && status < 400:
		return Answer{}, &UnknownError{Err: said, Stored: replayed}
	case !json.Valid(body):
		return Answer{}, &UnknownError{Err: fmt.Errorf("%w, and it broke off", said), Stored: false}
	case refused != nil && refused.Type == stripe.ErrorTypeIdempotency:
		return Answer{}, fmt.Errorf("%w (%w)", ErrKeyReused, said)
	default:
		r.service.accepted(ctx, r.Merchant)
		return Answer{Status: status, Body: body, Replayed: replayed}, nil
	}
}
