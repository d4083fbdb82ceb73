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

// ConnectOwn connects the account whose key is STRIPE_MERCHANT_KEY, where that is set and it has
// not been connected with it before.
func (a *App) ConnectOwn(ctx context.Context, s Services) error {
	if a.StripeMerchantKey == "" {
		return nil
	}
	own := connect.OwnKey{Key: a.StripeMerchantKey}
	if a.StripeClientID == "" && len(a.WebhookSecrets) > 0 {
		own.WebhookSecret = a.WebhookSecrets[0]
	}
	if account, err := s.Connect.HasOwn(ctx, own); err != nil {
		return fmt.Errorf("[DATABASE] %s", db.Describe(err))
	} else if account != "" {
		a.Log.Info("[STRIPE] the account of STRIPE_MERCHANT_KEY is connected", "account", account)
		return nil
	}
	o, err := s.Connect.ConnectOwn(trail.By(ctx, trail.Operator("serve")), own)
	if err != nil {
		return OwnKeyAdvice("[STRIPE] STRIPE_MERCHANT_KEY", o, err)
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
	}
	return fmt.Errorf("%s: %s", who, db.Describe(err))
}
