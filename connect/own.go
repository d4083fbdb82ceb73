package connect

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stripe/stripe-go/v76"

	"phantom/db"
	"phantom/vault"
)

// OwnKey connects a merchant by a secret or restricted key of their own account, where there is no
// Connect platform.
type OwnKey struct {
	Key           string // sk_… or rk_…
	WebhookSecret string // whsec_… of the endpoint for this account alone; "" keeps what is there
	ReadOnly      bool   // the key may change nothing: audits, levels of access, no charges
	ReadWrite     bool   // it may again, where one before it only read
}

// Permission is what a key must be able to read.
type Permission struct {
	Resource string // as the page of a restricted key at Stripe calls it
	Granted  bool
	Named    string // what Stripe calls that which is missing, rak_…; "" where it does not say
}

var (
	secretKeyShape = regexp.MustCompile(`^[sr]k_(live|test)_[A-Za-z0-9_]+$`)
	whsecShape     = regexp.MustCompile(`^whsec_[A-Za-z0-9+/=_-]+$`)
	rakShape       = regexp.MustCompile(`\brak_[a-z_]{1,60}\b`)
)

// IsSecretKey tells a secret or restricted key of Stripe's from other texts.
func IsSecretKey(text string) bool { return secretKeyShape.MatchString(text) }

// IsLive tells a live key from a test key.
func IsLive(key string) bool {
	return strings.HasPrefix(key, "sk_live_") || strings.HasPrefix(key, "rk_live_")
}

// IsWebhookSecret tells a signing secret of an endpoint from other texts.
func IsWebhookSecret(text string) bool { return whsecShape.MatchString(text) }

// What can be wrong with a key of a merchant's own.
var (
	ErrOwnKeyRefused     = errors.New("stripe does not accept the key")
	ErrOwnKeyIncomplete  = errors.New("the key lacks permissions")
	ErrConnectedOtherway = errors.New("the account is connected through a Connect platform")
	ErrOwnKeyMode        = errors.New("the key is of the other mode (live or test) than this server or the account here")
)

// needed is what audits, refreshes and messages read. Writing is not tried: a request that changes
// something goes through a task and no other way.
var needed = []struct{ resource, path string }{
	{"Account", "/v1/account"},
	{"Customers", "/v1/customers?limit=1"},
	{"Subscriptions", "/v1/subscriptions?limit=1"},
	{"Invoices", "/v1/invoices?limit=1"},
	{"Charges", "/v1/charges?limit=1"},
	{"Disputes", "/v1/disputes?limit=1"},
	{"PaymentIntents", "/v1/payment_intents?limit=1"},
	{"PaymentMethods", "/v1/invoices?limit=1&expand[]=data.default_payment_method&expand[]=data.customer.invoice_settings.default_payment_method"},
	{"Events", "/v1/events?limit=1"},
}

// Own is an account that is connected by a key of its own.
type Own struct {
	Account    string
	MerchantID uuid.UUID
	Livemode   bool
	Before     bool         // it was connected already
	ReadOnly   bool         // the key changes nothing
	Checked    []Permission // all that were looked at
}

// Known is what is known of the accounts that are, or were, connected by a key of their own.
type Known struct {
	Account string // that is connected with this very key, or ""
	Secret  bool   // of which the endpoint's secret is known
	Any     bool   // there is or was one
}

// KnowsOwn says whether a key is one that an account is connected with. It asks nothing of Stripe.
func (s *Service) KnowsOwn(ctx context.Context, key string) (k Known, err error) {
	rows, err := s.queries.MerchantListOwn(ctx)
	if err != nil {
		return k, err
	}
	k.Any = len(rows) > 0
	for _, row := range rows {
		if row.AccessToken == nil {
			continue
		}
		token, err := row.AccessToken.Reveal(accessTokenContext(row.Account))
		if err == nil && subtle.ConstantTimeCompare([]byte(token), []byte(key)) == 1 {
			return Known{row.Account, row.WebhookSecret != nil, true}, nil
		}
	}
	return k, nil
}

// ConnectOwn connects the account whose key this is, or gives it a new key. It fails with
// [ErrOwnKeyRefused], [ErrOwnKeyIncomplete] (then Checked says what is missing),
// [ErrConnectedOtherway] or [ErrOwnKeyMode]. Nothing is stored then. What only reads goes on so
// until the operator says otherwise.
func (s *Service) ConnectOwn(ctx context.Context, own OwnKey) (o Own, err error) {
	o.Livemode = IsLive(own.Key)
	// Before it is sent anywhere: a live key belongs neither into a test server nor onto a plain
	// connection.
	if s.config.SecretKey != "" && o.Livemode != s.live || o.Livemode && s.config.APIBase != "" && !strings.HasPrefix(s.config.APIBase, "https://") {
		return o, ErrOwnKeyMode
	}
	for _, n := range needed {
		var account struct {
			ID string `json:"id"`
		}
		granted, named, err := s.mayRead(ctx, own.Key, n.path, &account)
		if err != nil {
			return o, err
		}
		if n.resource == "Account" && granted {
			if !accountShape.MatchString(account.ID) {
				return o, errUnreadable
			}
			o.Account = account.ID
		}
		o.Checked = append(o.Checked, Permission{n.resource, granted, named})
	}
	for _, p := range o.Checked {
		if !p.Granted {
			return o, ErrOwnKeyIncomplete
		}
	}
	before, err := s.queries.MerchantToken(ctx, o.Account)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
	case err != nil:
		return o, databaseError("look for the account", err)
	case before.Connected && before.OwnKey && before.Livemode != o.Livemode:
		return o, ErrOwnKeyMode
	default:
		o.Before = before.Connected
	}
	o.ReadOnly = own.ReadOnly || before.OwnKey && before.Scope == string(stripe.OAuthScopeTypeReadOnly) && !own.ReadWrite
	id, err := uuid.NewV7()
	if err != nil {
		return o, fmt.Errorf("make id: %w", err)
	}
	access := vault.NewToken(accessTokenContext(o.Account), own.Key)
	row := db.MerchantCreateParams{
		ID: id, StripeUserID: o.Account, AccessToken: &access, Scope: string(stripe.OAuthScopeTypeReadWrite), Livemode: o.Livemode, OwnKey: true,
	}
	if o.ReadOnly {
		row.Scope = string(stripe.OAuthScopeTypeReadOnly)
	}
	if own.WebhookSecret != "" {
		secret := vault.NewToken(webhookSecretContext(o.Account), own.WebhookSecret)
		row.WebhookSecret = &secret
	}
	if o.MerchantID, err = s.keep(ctx, row); err != nil {
		return o, err
	}
	if err := s.updateFacts(ctx, o.MerchantID, o.Account, own.Key); err != nil {
		s.config.Log.Warn("[STRIPE] account facts not read", "account", o.Account, "cause", db.Describe(err))
	}
	return o, nil
}

func webhookSecretContext(account string) string { return "merchants.webhook_secret:" + account }

// mayRead tries a key. named is what Stripe calls the permission that it lacks.
func (s *Service) mayRead(ctx context.Context, key, path string, into any) (granted bool, named string, err error) {
	a, err := s.ask(ctx, key, path)
	switch {
	case err != nil:
		return false, "", err
	case a.status == http.StatusUnauthorized:
		return false, "", ErrOwnKeyRefused
	case a.status == http.StatusForbidden:
		return false, rakShape.FindString(string(a.body)), nil
	case a.status != http.StatusOK:
		return false, "", a.said
	}
	return true, "", a.decode(into)
}

// OwnEndpoint is an account that is connected by a key of its own, and what signs the events of its
// endpoint. It fails with [ErrUnknownAccount] for all others.
func (s *Service) OwnEndpoint(ctx context.Context, merchantID uuid.UUID) (account, secret string, err error) {
	row, err := s.queries.MerchantOwnEndpoint(ctx, merchantID)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", "", ErrUnknownAccount
	}
	if err != nil {
		return "", "", databaseError("read the endpoint's secret", err)
	}
	secret, err = row.WebhookSecret.Reveal(webhookSecretContext(row.Account))
	return row.Account, secret, err
}
