package connect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/stripe/stripe-go/v76"
)

// ErrPlatformKey says that Stripe does not accept the platform's own key.
var ErrPlatformKey = errors.New("stripe does not accept the platform's key")

// Platform is what Stripe answers to the platform's own key.
type Platform struct {
	Account string        // acct_…; "" for a restricted key that may not read it
	Date    time.Time     // Stripe's clock, in whole seconds; zero if it did not say
	Now     time.Time     // this machine's, at the middle of the request
	Took    time.Duration // the whole request
}

// Platform asks Stripe whose the platform's key is. It is for an operator who wants to know whether Stripe can be reached.
func (s *Service) Platform(ctx context.Context) (Platform, error) {
	ctx, cancel := context.WithTimeout(ctx, stripeTimeout)
	defer cancel()
	request, err := s.builder.NewRequest(http.MethodGet, "/v1/account", s.config.SecretKey, "application/x-www-form-urlencoded", &stripe.Params{Context: ctx})
	if err != nil {
		return Platform{}, scrub(err)
	}
	started := time.Now()
	response, err := s.reads.Do(request)
	if err != nil {
		return Platform{}, scrub(err)
	}
	defer func() { _ = response.Body.Close() }()
	p := Platform{Took: time.Since(started)}
	p.Now = started.Add(p.Took / 2)
	p.Date, _ = http.ParseTime(response.Header.Get("Date"))
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return p, ErrPlatformKey
	case http.StatusForbidden:
		return p, nil
	default:
		return p, fmt.Errorf("stripe answered %d (request %.64q)", response.StatusCode, response.Header.Get("Request-Id"))
	}
	var account struct {
		ID string `json:"id"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&account); err != nil || !accountShape.MatchString(account.ID) {
		return p, errors.New("stripe's answer cannot be read")
	}
	p.Account = account.ID
	return p, nil
}
