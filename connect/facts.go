package connect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"time"

	"github.com/google/uuid"
	"github.com/stripe/stripe-go/v76"

	"phantom/db"
)

var (
	countryShape  = regexp.MustCompile(`^[A-Z]{2}$`)
	currencyShape = regexp.MustCompile(`^[a-z]{3}$`)
)

// factsTimeout is short, because the browser waits and a shutdown must fit the whole handshake into
// its 25 seconds.
const factsTimeout = 5 * time.Second

var errOtherAccount = errors.New("the token answers for another account")

// updateFacts reads GET /v1/account with the merchant's own token and stores what it says. An
// answer for another account than the token was stored for is refused.
func (s *Service) updateFacts(ctx context.Context, id uuid.UUID, stripeUserID, token string) error {
	ctx, cancel := context.WithTimeout(ctx, factsTimeout)
	defer cancel()
	account := &stripe.Account{}
	// Not account.Get: it takes no parameters and so no context.
	if err := s.api.Call(http.MethodGet, "/v1/account", token, &stripe.AccountParams{Params: stripe.Params{Context: ctx}}, account); err != nil {
		return fmt.Errorf("get account: %w", scrub(err))
	}
	if account.LastResponse == nil || account.LastResponse.StatusCode != http.StatusOK {
		return errors.New("get account: the answer's status is not 200")
	}
	if !accountShape.MatchString(account.ID) {
		return errors.New("get account: the answer lacks an account")
	}
	if account.ID != stripeUserID {
		return errOtherAccount
	}
	facts := db.MerchantUpdateFactsParams{
		ID:              id,
		Country:         matching(countryShape, account.Country),
		DefaultCurrency: matching(currencyShape, string(account.DefaultCurrency)),
	}
	if account.BusinessProfile != nil {
		category := Category(account.BusinessProfile.MCC)
		facts.BusinessCategory = &category
	}
	if account.Settings != nil && account.Settings.Dashboard != nil {
		facts.Timezone = timezone(account.Settings.Dashboard.Timezone)
	}
	if _, err := s.queries.MerchantUpdateFacts(ctx, facts); err != nil {
		return fmt.Errorf("store facts: %w", err)
	}
	return nil
}

// matching returns nil, which is stored as NULL, for what has not the expected shape.
func matching(shape *regexp.Regexp, text string) *string {
	if !shape.MatchString(text) {
		return nil
	}
	return &text
}

func timezone(name string) *string {
	if name == "" || name == "Local" || len(name) > 64 {
		return nil
	}
	if _, err := time.LoadLocation(name); err != nil {
		return nil
	}
	return &name
}
