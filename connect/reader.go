package connect

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/go-faster/jx"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stripe/stripe-go/v76"

	"phantom/db"
	"phantom/task"
	"phantom/vault"
)

var (
	// ErrRevoked says that Stripe does not accept the merchant's token any more: the merchant has
	// to connect again. Stripe has said so twice, the second time of the account itself.
	ErrRevoked = errors.New("stripe does not accept the merchant's token: the merchant must connect again")
	// ErrNotFound says that Stripe does not know the object.
	ErrNotFound = errors.New("stripe does not know the object")
	// ErrRefused says that Stripe does not take the request as it is, and will not later.
	ErrRefused = errors.New("stripe does not take the request")
)

// ReadError is a failure of Stripe's. It quotes nothing of its answer.
type ReadError struct {
	Err      error
	SlowDown bool // Stripe asked for fewer requests: no failed try
}

func (e *ReadError) Error() string { return e.Err.Error() }
func (e *ReadError) Unwrap() error { return e.Err }

// Reader reads one merchant's Stripe account with their own token, at the account's pace. What
// changes something there is [Reader.Mutate] alone, which takes a task. It is safe for concurrent
// use.
type Reader struct {
	Merchant db.Merchant

	service *Service
	salt    []byte
	pace    *pace
	turn    atomic.Bool // that a read need not wait for any more: see [Reader.Reserve]
}

// Reader returns the reader of a merchant's account. It fails with [ErrUnknownAccount], or with
// [ErrRevoked] if they are disconnected.
func (s *Service) Reader(ctx context.Context, merchantID uuid.UUID) (*Reader, error) {
	merchant, err := s.queries.MerchantGet(ctx, merchantID)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrUnknownAccount
	}
	if err != nil {
		return nil, fmt.Errorf("read merchant: %w", err)
	}
	if merchant.AccessToken == nil {
		return nil, ErrRevoked
	}
	salt, err := salt(ctx, s.queries, merchant)
	if err != nil {
		return nil, err
	}
	return &Reader{Merchant: merchant, service: s, salt: salt, pace: s.paceOf(merchantID)}, nil
}

// Hasher returns the function behind [Reader.Hash], for a merchant who may be disconnected.
func (s *Service) Hasher(ctx context.Context, merchantID uuid.UUID) (func(subject, value string) []byte, error) {
	return HasherIn(ctx, s.pool, merchantID)
}

// HasherIn is [Service.Hasher] in the caller's transaction.
func HasherIn(ctx context.Context, tx db.DBTX, merchantID uuid.UUID) (func(subject, value string) []byte, error) {
	queries := db.New(tx)
	merchant, err := queries.MerchantGet(ctx, merchantID)
	if err != nil {
		return nil, fmt.Errorf("read merchant: %w", err)
	}
	return HasherOf(ctx, tx, merchant)
}

// HasherOf is [HasherIn] for a merchant's row that is at hand.
func HasherOf(ctx context.Context, tx db.DBTX, merchant db.Merchant) (func(subject, value string) []byte, error) {
	salt, err := salt(ctx, db.New(tx), merchant)
	if err != nil {
		return nil, err
	}
	return (&Reader{salt: salt}).Hash, nil
}

// Hash is a keyed hash under the merchant's salt, 32 bytes: it tells equal values of a subject
// ("customer", "card" …) apart from others without saying what they are, and is worth nothing
// without the salt.
func (r *Reader) Hash(subject, value string) []byte {
	mac := hmac.New(sha256.New, r.salt)
	_, _ = io.WriteString(mac, subject)
	_, _ = mac.Write([]byte{0})
	_, _ = io.WriteString(mac, value)
	return mac.Sum(nil)
}

// salt opens the merchant's salt, or makes it when it is first asked for.
func salt(ctx context.Context, queries *db.Queries, merchant db.Merchant) ([]byte, error) {
	place := "merchants.hash_salt:" + merchant.StripeUserID
	sealed := merchant.HashSalt
	if sealed == nil {
		var raw [32]byte
		_, _ = rand.Read(raw[:]) // never fails since Go 1.24
		fresh := vault.NewToken(place, base64.RawURLEncoding.EncodeToString(raw[:]))
		var err error
		if sealed, err = queries.MerchantGetHashSalt(ctx, db.MerchantGetHashSaltParams{ID: merchant.ID, HashSalt: &fresh}); err != nil {
			return nil, fmt.Errorf("make salt: %w", err)
		}
	}
	text, err := sealed.Reveal(place)
	if err != nil {
		return nil, err
	}
	return base64.RawURLEncoding.DecodeString(text)
}

// CheckAccount asks Stripe whose the token is, and reads the account's facts anew while at it: the
// handshake may not have come to them yet. A token that was put into another merchant's row is
// refused.
func (r *Reader) CheckAccount(ctx context.Context) error {
	var id string
	err := r.Get(ctx, "/v1/account", nil, func(d *jx.Decoder) error {
		return d.ObjBytes(func(d *jx.Decoder, key []byte) (err error) {
			if string(key) != "id" {
				return d.Skip()
			}
			id, err = d.Str()
			return err
		})
	})
	if err == nil && id != r.Merchant.StripeUserID {
		task.Log(ctx, r.service.config.Log).Error("[SECURITY] a stored token answers for another account", "account", r.Merchant.StripeUserID)
		return errOtherAccount
	}
	if err == nil {
		err = r.updateFacts(ctx)
	}
	return err
}

// updateFacts fails only where the database does: without facts there are defaults.
func (r *Reader) updateFacts(ctx context.Context) error {
	token, err := r.Merchant.AccessToken.Reveal(accessTokenContext(r.Merchant.StripeUserID))
	if err != nil {
		return err
	}
	if err := r.wait(ctx); err != nil {
		return err
	}
	if err := r.service.updateFacts(ctx, r.Merchant.ID, r.Merchant.StripeUserID, token); err != nil {
		task.Log(ctx, r.service.config.Log).Warn("[STRIPE] account facts are not known yet", "account", r.Merchant.StripeUserID, "cause", err)
	}
	merchant, err := r.service.queries.MerchantGet(ctx, r.Merchant.ID)
	if err != nil {
		return fmt.Errorf("read merchant: %w", err)
	}
	r.Merchant.BusinessCategory, r.Merchant.Country = merchant.BusinessCategory, merchant.Country
	r.Merchant.DefaultCurrency, r.Merchant.Timezone = merchant.DefaultCurrency, merchant.Timezone
	return nil
}

// Get reads path and hands the answer to decode, which must not keep the decoder's bytes. Decode
// may be called again after an answer that broke off, so it must start anew each time. Stripe's
// failures are repeated with backoff and its wish to slow down is obeyed by all processes. Where
// Stripe is to blame it fails with a [*ReadError], which may be [ErrRevoked], [ErrNotFound] or
// [ErrRefused].
func (r *Reader) Get(ctx context.Context, path string, query url.Values, decode func(*jx.Decoder) error) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	delays := backoff.NewExponentialBackOff()
	delays.InitialInterval, delays.MaxInterval = 200*time.Millisecond, 10*time.Second
	proved := false
	_, err := backoff.Retry(ctx, func() (struct{}, error) { return struct{}{}, r.get(ctx, path, decode, &proved) },
		backoff.WithBackOff(delays), backoff.WithMaxElapsedTime(cmp.Or(r.service.config.Patience, 90*time.Second)))
	return err
}

// get is one try of [Reader.Get]. proved says that an earlier one has asked about the token
// already.
func (r *Reader) get(ctx context.Context, path string, decode func(*jx.Decoder) error, proved *bool) error {
	err := r.fetch(ctx, path, func(response *http.Response, body []byte) error {
		if response.StatusCode != http.StatusOK {
			return r.refusal(ctx, response, body, proved)
		}
		decoder := jx.GetDecoder()
		defer jx.PutDecoder(decoder)
		decoder.ResetBytes(body)
		if err := decode(decoder); err != nil {
			return &ReadError{Err: errors.New("stripe's answer cannot be read")}
		}
		r.service.accepted(ctx, r.Merchant)
		return nil
	})
	var read *ReadError
	if err != nil && !errors.As(err, &read) { // no fault of Stripe's
		return backoff.Permanent(err)
	}
	return err
}

// wait waits for the account's pace, where no turn was reserved.
func (r *Reader) wait(ctx context.Context) error {
	if r.turn.Swap(false) {
		return ctx.Err()
	}
	return r.pace.wait(ctx)
}

// fetch sends one request at the account's pace and hands what comes back to read, which must not
// keep the body.
func (r *Reader) fetch(ctx context.Context, path string, read func(response *http.Response, body []byte) error) error {
	if err := r.wait(ctx); err != nil {
		return err
	}
	token, err := r.Merchant.AccessToken.Reveal(accessTokenContext(r.Merchant.StripeUserID))
	if err != nil {
		return err
	}
	sending, cancel := context.WithTimeout(ctx, stripeTimeout)
	defer cancel()
	params := &stripe.Params{Context: sending}
	request, err := r.service.builder.NewRequest(http.MethodGet, path, token, "application/x-www-form-urlencoded", params)
	if err != nil {
		return scrub(err)
	}
	// Not the backend's own Call, which decodes whole objects, nor its CallStreaming, which panics
	// when the connection fails.
	response, err := r.service.reads.Do(request)
	if err != nil {
		return &ReadError{Err: scrub(err)}
	}
	defer func() { _ = response.Body.Close() }()
	body := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(body)
	body.Reset()
	if _, err := body.ReadFrom(response.Body); err != nil {
		return &ReadError{Err: scrub(err)}
	}
	return read(response, body.Bytes())
}

// refusal says what a status that is not 200 means.
func (r *Reader) refusal(ctx context.Context, response *http.Response, body []byte, proved *bool) error {
	said := answered(response)
	code := stripeCode(r, response, body)
	switch status := response.StatusCode; {
	case isDenied(status) && (*proved || !isStripes(body)):
		// somebody on the way, or a second look that told nothing
		return &ReadError{Err: said}
	case isDenied(status):
		*proved = true
		err := r.denied(ctx, status, said)
		if errors.Is(err, ErrRevoked) || errors.Is(err, ErrRefused) {
			return backoff.Permanent(err)
		}
		return err
	case status == http.StatusNotFound, code == stripe.ErrorCodeResourceMissing:
		return backoff.Permanent(&ReadError{Err: fmt.Errorf("%w (%w)", ErrNotFound, said)})
	case status == http.StatusTooManyRequests && code == stripe.ErrorCodeLockTimeout:
		return &ReadError{Err: said} // somebody else works on the object: no matter of pace
	case status == http.StatusTooManyRequests:
		return r.slowDown(ctx, response, said)
	case status >= 500, status == http.StatusConflict, status == http.StatusRequestTimeout:
		return &ReadError{Err: said}
	default:
		return backoff.Permanent(&ReadError{Err: fmt.Errorf("%w (%w)", ErrRefused, said)})
	}
}

// slowDown does as Stripe asks.
func (r *Reader) slowDown(ctx context.Context, response *http.Response, said error) error {
	seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
	pause := time.Duration(min(max(seconds, 0), 60)) * time.Second
	if err := r.pace.slow(context.WithoutCancel(ctx), pause); err != nil {
		return err
	}
	return &ReadError{Err: said, SlowDown: true}
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}
