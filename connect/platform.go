package connect

import (
	"context"
	"encoding/json"
	"errors"
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
	a, err := s.ask(ctx, s.config.SecretKey, path)
	switch {
	case err != nil:
		return 0, date, err
	case a.status == http.StatusUnauthorized:
		return a.status, a.date, ErrPlatformKey
	case a.status == http.StatusForbidden:
		return a.status, a.date, nil
	case a.status != http.StatusOK:
		return a.status, a.date, a.said
	}
	return a.status, a.date, a.decode(into)
}

// reply is what Stripe says to a key that is no merchant's yet.
type reply struct {
	status int
	date   time.Time // of Stripe's clock; zero if it did not say
	body   []byte
	said   error // the answer, for where it is none that was hoped for
}

// decode reads the body. Its error quotes nothing of it.
func (r reply) decode(into any) error {
	if json.Unmarshal(r.body, into) != nil {
		return errUnreadable
	}
	return nil
}

// ask reads something with a key, once and at nobody's pace.
func (s *Service) ask(ctx context.Context, key, path string) (r reply, err error) {
	ctx, cancel := context.WithTimeout(ctx, stripeTimeout)
	defer cancel()
	request, err := s.builder.NewRequest(http.MethodGet, path, key, "application/x-www-form-urlencoded", &stripe.Params{Context: ctx})
	if err != nil {
		return r, scrub(err)
	}
	response, err := s.reads.Do(request)
	if err != nil {
		return r, scrub(err)
	}
	defer func() { _ = response.Body.Close() }()
	r.status, r.said = response.StatusCode, answered(response)
	r.date, _ = http.ParseTime(response.Header.Get("Date"))
	if r.body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer)); err != nil {
		return r, scrub(err)
	}
	return r, nil
}
