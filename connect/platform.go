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

// Platform asks Stripe whose the platform's key is. It is for an operator who wants to know whether
// Stripe can be reached.
func (s *Service) Platform(ctx context.Context) (p Platform, err error) {
	var account struct {
		ID string `json:"id"`
	}
	started := time.Now()
	status, date, err := s.platformGet(ctx, "/v1/account", &account)
	p.Took = time.Since(started)
	p.Now, p.Date = started.Add(p.Took/2), date
	switch {
	case err != nil || status == http.StatusForbidden:
		return p, err
	case !accountShape.MatchString(account.ID):
		return p, errUnreadable
	}
	p.Account = account.ID
	return p, nil
}

// Endpoint is a webhook endpoint of the platform's.
type Endpoint struct {
	URL         string   `json:"url"`
	Status      string   `json:"status"`         // enabled or disabled
	Application string   `json:"application"`    // ca_… where it hears of connected accounts
	Events      []string `json:"enabled_events"` // types, or "*"
}

// Endpoints are the platform's webhook endpoints, a hundred at most. ok is false where a restricted
// key may not read them.
func (s *Service) Endpoints(ctx context.Context) (list []Endpoint, ok bool, err error) {
	var page struct {
		Data []Endpoint `json:"data"`
	}
	status, _, err := s.platformGet(ctx, "/v1/webhook_endpoints?limit=100", &page)
	return page.Data, err == nil && status == http.StatusOK, err
}

var errUnreadable = errors.New("stripe's answer cannot be read")

// platformGet reads something with the platform's own key. What it may not read is no error.
func (s *Service) platformGet(ctx context.Context, path string, into any) (status int, date time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, stripeTimeout)
	defer cancel()
	request, err := s.builder.NewRequest(http.MethodGet, path, s.config.SecretKey, "application/x-www-form-urlencoded", &stripe.Params{Context: ctx})
	if err != nil {
		return 0, date, scrub(err)
	}
	response, err := s.reads.Do(request)
	if err != nil {
		return 0, date, scrub(err)
	}
	defer func() { _ = response.Body.Close() }()
	date, _ = http.ParseTime(response.Header.Get("Date"))
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return response.StatusCode, date, ErrPlatformKey
	case http.StatusForbidden:
		return response.StatusCode, date, nil
	default:
		return response.StatusCode, date, fmt.Errorf("stripe answered %d (request %.64q)", response.StatusCode, response.Header.Get("Request-Id"))
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(into); err != nil {
		return response.StatusCode, date, errUnreadable
	}
	return response.StatusCode, date, nil
}
