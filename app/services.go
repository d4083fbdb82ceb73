package app

import (
	"context"
	"crypto/ed25519"
	"net/http"

	"github.com/google/uuid"

	"phantom/connect"
	"phantom/db"
	"phantom/docs"
	"phantom/ghost"
	"phantom/message"
	"phantom/oracle"
	"phantom/outbound"
	"phantom/purge"
	"phantom/recovery"
	"phantom/shield"
	"phantom/task"
	"phantom/trail"
	"phantom/web"
)

// Services are the domain packages, wired.
type Services struct {
	Connect  *connect.Service
	Ghosts   *ghost.Service
	Hunts    *recovery.Service
	Messages *message.Service
	Purges   *purge.Service
	Shield   *shield.Service
	Outbound *outbound.Service
	Oracle   *oracle.Service
}

// NewServices wires the domain packages over the database. Where Stripe is not needed, they must
// not be asked for anything of Stripe.
func (a *App) NewServices() Services {
	public := ""
	if a.PublicURL != nil {
		public = a.PublicURL.String()
	}
	config := connect.Config{
		SecretKey: a.StripeSecretKey, ClientID: a.StripeClientID, APIBase: a.StripeAPIBase, ConnectBase: a.StripeConnectBase,
		RedirectURI: public + "/api/auth/callback", RateLimit: a.StripeRateLimit, Log: a.Log,
		Connected: ghost.Connected, Accounts: a.ConnectAccounts,
	}
	if a.Sandbox { // its merchants show what access would look like
		config.Connected = func(ctx context.Context, tx db.DBTX, merchantID uuid.UUID) error {
			if err := ghost.Connected(ctx, tx, merchantID); err != nil {
				return err
			}
			return shield.Rehearse(ctx, tx, merchantID)
		}
	}
	if a.metrics != nil {
		config.Observe, config.Waited = a.metrics.stripeAnswered, a.metrics.waited
	}
	account := connect.New(config, a.Pool)
	ghosts := ghost.New(a.Pool, account, a.Log)
	messages := message.New(a.Pool, account, message.Config{
		ResendBase: a.ResendBase, TwilioBase: a.TwilioBase, PublicURL: public, Dev: a.Dev, Sandbox: a.StripeAPIBase != "", Log: a.Log,
	})
	var levels *shield.Service
	// Beside each endpoint's secret: what signs verdicts.
	sign := func(ctx context.Context) (ed25519.PrivateKey, error) {
		keys, err := levels.SigningKeys(ctx)
		if err != nil || len(keys) == 0 {
			return nil, err
		}
		return keys[0].Private, nil
	}
	events := outbound.New(a.Pool, outbound.Config{Log: a.Log, Dev: a.Dev, Sign: sign, AtOnce: max(a.Workers/4, 1)})
	advisor := oracle.New(a.Pool)
	if a.metrics != nil {
		advisor.Asked = a.metrics.oracleAsked
	}
	hunts := recovery.New(a.Pool, account, messages, advisor, recovery.Config{Log: a.Log, Refresh: ghost.RefreshIn, Emit: events.Emit, Look: advisor.Look})
	purges := purge.New(a.Pool, account, a.Log)
	levels = shield.New(a.Pool, shield.Config{Log: a.Log, Refresh: ghost.RefreshIn, Hash: connect.HasherIn, Emit: events.Emit})
	ghosts.Hunts, purges.Hunts = hunts, hunts
	ghosts.Shield, ghosts.Emit = levels, events.Emit
	purges.Forget = []func(context.Context, uuid.UUID) error{levels.Forget, events.Forget}
	return Services{Connect: account, Ghosts: ghosts, Hunts: hunts, Messages: messages, Purges: purges, Shield: levels, Outbound: events, Oracle: advisor}
}

// NewServer wires the routes. verdicts, if not nil, answers what apps ask about access.
func (a *App) NewServer(s Services, verdicts http.Handler) *web.Server {
	return web.New(web.Config{
		Connect: s.Connect,
		Ghost:   s.Ghosts,
		OpenAPI: docs.OpenAPI,
		Ping:    func(ctx context.Context) error { return db.Writable(ctx, a.Pool) },
		Secure:  a.PublicURL.Scheme == "https",
		Log:     a.Log,

		Tasks: func(ctx context.Context, merchantID uuid.UUID, filter task.Filter) (task.Page, error) {
			return task.List(ctx, a.Pool, merchantID, filter)
		},
		Trail: func(ctx context.Context, merchantID uuid.UUID, filter trail.Filter) (trail.Page, error) {
			return trail.List(ctx, a.Pool, merchantID, filter)
		},
		Requests:       a.apiRequests(),
		Recovery:       s.Hunts,
		Messages:       s.Messages,
		Shield:         s.Shield,
		Oracle:         s.Oracle,
		Outbound:       s.Outbound,
		Verdicts:       verdicts,
		WebhookSecrets: a.platformSecrets(),
		TrustedProxies: a.TrustedProxies, AccessLog: a.AccessLog,
	})
}

// platformSecrets sign events of connected accounts. Without a platform STRIPE_WEBHOOK_SECRET is
// that of one merchant's own endpoint, which must not speak for others.
func (a *App) platformSecrets() []string {
	if a.StripeClientID == "" {
		return nil
	}
	return a.WebhookSecrets
}
