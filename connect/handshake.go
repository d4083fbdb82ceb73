package connect

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/oauth"

	"phantom/db"
	"phantom/trail"
	"phantom/vault"
)

// StateLifetime is how long a handshake may take; the database's default of oauth_states.expires_at
// says the same.
const StateLifetime = 10 * time.Minute

// mostStates bounds the handshakes that are under way, of all addresses together. To count so many
// takes PostgreSQL some milliseconds, and only a flood makes them so many.
const mostStates = 20_000

// Begin starts a handshake for the browser with this secret, or for a new one if browser is not a
// secret of ours. It returns Stripe's authorize page and the secret to keep in the browser's
// cookie.
func (s *Service) Begin(ctx context.Context, browser string) (authorizeURL, cookie string, err error) {
	if s.config.ClientID == "" {
		return "", "", &Error{CodeNoPlatform, "This server has no Connect platform: its operator connects accounts.", errors.New("STRIPE_CLIENT_ID is not set")}
	}
	if !isSecret(browser) {
		browser = newSecret()
	}
	state := newSecret()
	// A client that leaves must not cost the pool a connection, which a cancelled statement does.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.databaseTimeout())
	defer cancel()
	added, err := s.queries.OAuthStateCreate(ctx, db.OAuthStateCreateParams{
		StateHash: hash(state), BrowserHash: hash(browser), Most: mostStates,
	})
	switch {
	case err != nil:
		return "", "", databaseError("store state", err)
	case added == 0:
		return "", "", &Error{CodeTooManyStates, "Too many connections are being made. Try again in a minute.",
			fmt.Errorf("%d handshakes are under way", mostStates)}
	}
	return s.authorizeURL(state), browser, nil
}

func (s *Service) authorizeURL(state string) string {
	text := oauth.Client{}.AuthorizeURL(&stripe.AuthorizeURLParams{
		ResponseType: stripe.String("code"),
		ClientID:     stripe.String(s.config.ClientID),
		Scope:        stripe.String(string(stripe.OAuthScopeTypeReadWrite)),
		State:        stripe.String(state),
		RedirectURI:  stripe.String(s.config.RedirectURI),
	})
	if s.config.ConnectBase != "" { // stripe-go knows only the one host
		text = strings.TrimSuffix(s.config.ConnectBase, "/") + strings.TrimPrefix(text, stripe.ConnectURL)
	}
	return text
}

// Callback is what the browser brings back from Stripe: the query's parameters and the cookie's
// secret.
type Callback struct {
	State, Code, Error, Browser string

	Twice bool // a parameter is given twice, which OAuth forbids: nobody can know which was meant

	Exchanging func() // if not nil, called before the code goes to Stripe
}

// Complete finishes a handshake: it consumes the state, exchanges the code and stores both tokens,
// sealed, in one statement. It returns the account's id. A failure is an [*Error] with one of the
// codes above.
//
// The work goes on even if the browser leaves: neither the state nor the code can be used again.
func (s *Service) Complete(ctx context.Context, callback Callback) (account string, err error) {
	ctx = context.WithoutCancel(ctx)
	if s.config.ClientID == "" {
		return "", &Error{CodeNoPlatform, "This server has no Connect platform: its operator connects accounts.", errors.New("STRIPE_CLIENT_ID is not set")}
	}
	if err := s.consumeState(ctx, callback.State, callback.Browser); err != nil {
		return "", err
	}
	switch {
	case callback.Twice:
		return "", &Error{CodeInvalidRequest, "A parameter is given twice. Start again from the first page.", errors.New("a parameter is given twice")}
	case callback.Error == "access_denied":
		return "", &Error{CodeAccessDenied, "The connection was denied at Stripe.", errors.New("denied by the user")}
	case callback.Error != "":
		return "", stripeUnavailable(errors.New("stripe sent the browser back with an error other than access_denied"))
	case callback.Code == "":
		return "", &Error{CodeInvalidRequest, "The authorization code is missing. Start again from the first page.", errors.New("code is missing")}
	case !codeShape.MatchString(callback.Code):
		return "", invalidGrant("code is malformed")
	}

	if callback.Exchanging != nil {
		callback.Exchanging()
	}
	token, err := s.exchange(ctx, callback.Code)
	if err != nil {
		return "", err
	}
	if len(s.config.Accounts) > 0 && !slices.Contains(s.config.Accounts, token.StripeUserID) {
		return "", s.turnAway(ctx, token.StripeUserID)
	}
	merchant, err := s.store(ctx, token)
	if err != nil {
		return "", err
	}
	if err := s.updateFacts(ctx, merchant, token.StripeUserID, token.AccessToken); errors.Is(err, errOtherAccount) {
		s.config.Log.Error("[SECURITY] a token answers for another account: disconnect this one", "account", token.StripeUserID)
	} else if err != nil {
		s.config.Log.Warn("[STRIPE] account facts not read", "account", token.StripeUserID, "cause", db.Describe(err))
	}
	return token.StripeUserID, nil
}

func (s *Service) consumeState(ctx context.Context, state, browser string) error {
	switch {
	case state == "":
		return invalidState("state is missing")
	case !isSecret(state):
		return invalidState("state is malformed")
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.databaseTimeout())
	defer cancel()
	row, err := s.queries.OAuthStateConsume(ctx, hash(state))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return invalidState("state is unknown, used before or long expired")
	case err != nil:
		return databaseError("consume state", err)
	case row.Expired:
		return invalidState("state has expired")
	case subtle.ConstantTimeCompare(row.BrowserHash, hash(browser)) != 1:
		return invalidState("state belongs to another browser")
	}
	return nil
}

var (
	codeShape    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)
	accountShape = regexp.MustCompile(`^acct_[A-Za-z0-9]{1,64}$`)
)

// IsAccount tells the id of a Stripe account, acct_…, from other texts.
func IsAccount(text string) bool { return accountShape.MatchString(text) }

func invalidGrant(cause string) *Error {
	return &Error{CodeInvalidGrant, "Stripe does not accept this authorization code. Start again from the first page.", errors.New(cause)}
}

// exchange turns the code into tokens, in one request that is never repeated: when its outcome is
// unknown, the code is lost and the user starts again.
func (s *Service) exchange(ctx context.Context, code string) (*stripe.OAuthToken, error) {
	ctx, cancel := context.WithTimeout(ctx, stripeTimeout)
	defer cancel()
	token, err := oauth.Client{B: s.oauth, Key: s.config.SecretKey}.New(&stripe.OAuthTokenParams{
		Params:       stripe.Params{Context: ctx},
		GrantType:    stripe.String("authorization_code"),
		Code:         stripe.String(code),
		ClientSecret: stripe.String(s.config.SecretKey),
	})
	if err != nil {
		var stripeErr *stripe.Error
		if errors.As(err, &stripeErr) && stripeErr.HTTPStatusCode < 500 && stripeErr.OAuthError == "invalid_grant" {
			return nil, invalidGrant("stripe answered invalid_grant")
		}
		return nil, stripeUnavailable(fmt.Errorf("exchange code: %w", scrub(err)))
	}
	switch {
	case token.LastResponse == nil || token.LastResponse.StatusCode != http.StatusOK:
		// stripe-go takes all below 400 for success
		return nil, stripeUnavailable(errors.New("exchange code: the answer's status is not 200"))
	case !accountShape.MatchString(token.StripeUserID), token.AccessToken == "", len(token.AccessToken) > 1024, len(token.RefreshToken) > 1024:
		return nil, stripeUnavailable(errors.New("exchange code: the answer lacks an account or a token"))
	case token.Scope != stripe.OAuthScopeTypeReadWrite:
		return nil, stripeUnavailable(errors.New("exchange code: the token's scope is not read_write"))
	case token.Livemode != s.live:
		return nil, &Error{CodeLivemodeMismatch, "The account was connected in the other mode (live or test) than this server works in.",
			fmt.Errorf("token has livemode %t, the platform's key %t", token.Livemode, s.live)}
	}
	return token, nil
}

// turnAway gives up the token of an account that may not connect: it is never stored, and Stripe
// takes it back.
func (s *Service) turnAway(ctx context.Context, account string) *Error {
	refused := &Error{CodeNotListed, "This account may not connect here. Ask the operator of this server to list it.",
		errors.New("the account is not among CONNECT_ACCOUNTS")}
	ctx, cancel := context.WithTimeout(ctx, stripeTimeout)
	defer cancel()
	_, err := oauth.Client{B: s.oauth, Key: s.config.SecretKey}.Del(&stripe.DeauthorizeParams{
		Params:       stripe.Params{Context: ctx},
		ClientID:     stripe.String(s.config.ClientID),
		StripeUserID: stripe.String(account),
	})
	if err != nil {
		s.config.Log.Error("[SECURITY] the token of an account that is not listed was not taken back: disconnect it at Stripe (Connect, Accounts)",
			"account", account, "cause", scrub(err))
	}
	return refused
}

func (s *Service) store(ctx context.Context, token *stripe.OAuthToken) (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("make id: %w", err)
	}
	access := vault.NewToken(accessTokenContext(token.StripeUserID), token.AccessToken)
	params := db.MerchantCreateParams{
		ID: id, StripeUserID: token.StripeUserID, AccessToken: &access, Scope: string(token.Scope), Livemode: token.Livemode,
	}
	if token.RefreshToken != "" {
		refresh := vault.NewToken("merchants.refresh_token:"+token.StripeUserID, token.RefreshToken)
		params.RefreshToken = &refresh
	}
	return s.keep(trail.By(ctx, trail.Merchant), params)
}

// keep stores a merchant's tokens.
func (s *Service) keep(ctx context.Context, params db.MerchantCreateParams) (uuid.UUID, error) {
	ctx, cancel := context.WithTimeout(ctx, s.config.storeTimeout())
	defer cancel()
	// The code is spent, and a connection may have died while Stripe was asked. The transaction may
	// be repeated: it says what the row is to be.
	id, err := backoff.Retry(ctx, func() (uuid.UUID, error) {
		id, err := s.reconnect(ctx, params)
		if err != nil && !db.Unavailable(err) {
			err = backoff.Permanent(err)
		}
		return id, err
	}, backoff.WithBackOff(backoff.NewConstantBackOff(100*time.Millisecond)))
	if err != nil {
		return uuid.Nil, databaseError("store tokens", err)
	}
	return id, nil
}

func accessTokenContext(account string) string { return "merchants.access_token:" + account }

// databaseError gives a database that cannot be asked its code; every other error stays what it is,
// a fault of ours.
func databaseError(doing string, err error) error {
	err = fmt.Errorf("%s: %w", doing, err)
	if !db.Unavailable(err) {
		return err
	}
	return &Error{CodeDatabaseUnavailable, "The database is not available. Try again in a moment.", err}
}

// newSecret returns 256 random bits in 43 characters that need no escaping in an URL or a cookie.
func newSecret() string {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

func isSecret(text string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return err == nil && len(raw) == 32 && len(text) == 43
}

func hash(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}
