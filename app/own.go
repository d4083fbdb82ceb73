package app

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"phantom/connect"
	"phantom/db"
	"phantom/trail"
)

// ConnectOwn connects the account whose key is STRIPE_MERCHANT_KEY, where none has been connected
// by a key of its own yet. Later on the operator's commands count: a key that was replaced or
// forgotten does not come back with a restart.
func (a *App) ConnectOwn(ctx context.Context, s Services) error {
	if a.StripeMerchantKey == "" {
		return nil
	}
	own := connect.OwnKey{Key: a.StripeMerchantKey}
	if a.StripeClientID == "" && len(a.WebhookSecrets) > 0 {
		own.WebhookSecret = a.WebhookSecrets[0]
	}
	known, err := s.Connect.KnowsOwn(ctx, own.Key)
	switch {
	case err != nil:
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	case known.Account != "" && (known.Secret || own.WebhookSecret == ""):
		a.Log.Info("[STRIPE] the account of STRIPE_MERCHANT_KEY is connected", "account", known.Account)
		return nil
	case known.Account == "" && known.Any:
		a.Log.Warn("[STRIPE] no account is connected with STRIPE_MERCHANT_KEY, and one was connected by another key or is disconnected: " +
			"nothing is changed; phantom connect --key-file connects it")
		return nil
	}
	o, err := s.Connect.ConnectOwn(trail.By(ctx, trail.Operator("serve")), own)
	switch {
	case errors.Is(err, connect.ErrOwnKeyRefused), errors.Is(err, connect.ErrOwnKeyIncomplete), errors.Is(err, connect.ErrConnectedOtherway),
		errors.Is(err, connect.ErrOwnKeyMode):
		return OwnKeyAdvice("[STRIPE] STRIPE_MERCHANT_KEY", o, err)
	case err != nil:
		a.Log.Error("[STRIPE] the account of STRIPE_MERCHANT_KEY cannot be connected now: start again, or use phantom connect --key-file", "cause", db.Describe(err))
		return nil
	}
	a.Log.Info("[STRIPE] merchant connected", "account", o.Account, "next", "phantom apikey create --merchant "+o.Account,
		"webhooks", strings.TrimSuffix(a.PublicURL.String(), "/")+"/api/webhooks/stripe/"+o.MerchantID.String())
	return nil
}

// OwnKeyAdvice says what to do about a merchant's own key that was not taken.
func OwnKeyAdvice(who string, o connect.Own, err error) error {
	switch {
	case errors.Is(err, connect.ErrOwnKeyRefused):
		return fmt.Errorf("%s: Stripe does not accept the key: provide a current one (Developers, API keys)", who)
	case errors.Is(err, connect.ErrOwnKeyIncomplete):
		var missing []string
		for _, p := range o.Checked {
			if !p.Granted {
				missing = append(missing, p.Resource)
			}
		}
		return fmt.Errorf("%s: the key may not read %s: give it that right (docs/stripe-setup.md lists all), then try again", who, strings.Join(missing, ", "))
	case errors.Is(err, connect.ErrConnectedOtherway):
		return fmt.Errorf("%s: %s is connected through a Connect platform: phantom disconnect --merchant %[2]s first", who, o.Account)
	case errors.Is(err, connect.ErrOwnKeyMode):
		return fmt.Errorf("%s: the key is of the other mode (live or test) than this server or the connected account: "+
			"provide one of the same mode; a live key goes to https alone, and never into dev mode", who)
	}
	return fmt.Errorf("%s: %s", who, db.Describe(err))
}
