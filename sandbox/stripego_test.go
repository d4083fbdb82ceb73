package sandbox

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"
)

// The real client, pointed here: OAuth, a walk, a payment, a decline.
func TestStripeGoClient(t *testing.T) {
	t.Parallel()
	b := setup(t)
	backend := func(kind stripe.SupportedBackend) stripe.Backend {
		return stripe.GetBackendWithConfig(kind, &stripe.BackendConfig{
			URL: stripe.String(b.url), HTTPClient: b.http, MaxNetworkRetries: stripe.Int64(0),
			EnableTelemetry: stripe.Bool(false), LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull},
		})
	}
	backends := &stripe.Backends{API: backend(stripe.APIBackend), Connect: backend(stripe.ConnectBackend), Uploads: backend(stripe.UploadsBackend)}
	platform := client.New(SecretKey, backends)

	token, err := platform.OAuth.New(&stripe.OAuthTokenParams{GrantType: stripe.String("authorization_code"),
		Code: stripe.String(b.authorize().Get("code")), ClientSecret: stripe.String(SecretKey)})
	if err != nil || token.StripeUserID != b.s.Accounts()[0] || token.Livemode || token.Scope != "read_write" {
		t.Fatalf("%+v %v", token, err)
	}
	_, err = platform.OAuth.New(&stripe.OAuthTokenParams{GrantType: stripe.String("authorization_code"),
		Code: stripe.String("ac_unknown"), ClientSecret: stripe.String(SecretKey)})
	var fail *stripe.Error
	if !errors.As(err, &fail) || fail.OAuthError != "invalid_grant" {
		t.Errorf("unknown code: %v", err)
	}

	sc := client.New(token.AccessToken, backends)
	me, err := sc.Accounts.Get()
	if err != nil || me.ID != token.StripeUserID || me.Country != "DE" {
		t.Errorf("%+v %v", me, err)
	}
	params := &stripe.InvoiceListParams{Status: stripe.String("open")}
	params.Limit = stripe.Int64(5)
	params.AddExpand("data.customer")
	params.AddExpand("data.subscription")
	params.AddExpand("data.payment_intent")
	params.CreatedRange = &stripe.RangeQueryParams{GreaterThan: 1}
	var open []*stripe.Invoice
	for it := sc.Invoices.List(params); ; {
		if !it.Next() {
			if it.Err() != nil {
				t.Fatal(it.Err())
			}
			break
		}
		inv := it.Invoice()
		if inv.Customer.Name == "" || inv.Subscription.Status == "" || inv.PaymentIntent.Status == "" {
			t.Fatalf("not expanded: %+v", inv)
		}
		open = append(open, inv)
	}
	if len(open) < 20 {
		t.Errorf("%d open invoices", len(open))
	}

	bad := b.find(0, doomed)
	pay := &stripe.InvoicePayParams{OffSession: stripe.Bool(true)}
	pay.IdempotencyKey = stripe.String("task_1")
	_, err = sc.Invoices.Pay(bad.ID, pay)
	if !errors.As(err, &fail) || fail.HTTPStatusCode != http.StatusPaymentRequired || fail.Type != stripe.ErrorTypeCard ||
		fail.DeclineCode == "" || fail.ChargeID == "" || fail.PaymentIntent.ID == "" || fail.RequestID == "" {
		t.Errorf("decline: %v", err)
	}
	good := b.find(0, payable)
	b.sure(good)
	for i := range 2 {
		pay := &stripe.InvoicePayParams{}
		pay.IdempotencyKey = stripe.String("task_2")
		inv, err := sc.Invoices.Pay(good.ID, pay)
		if err != nil || !inv.Paid || (inv.LastResponse.Header.Get("Idempotent-Replayed") == "true") != (i == 1) {
			t.Errorf("pay %d: %v", i, err)
		}
	}
	_, err = sc.Customers.Get("cus_unknown", &stripe.CustomerParams{})
	if !errors.As(err, &fail) || fail.Code != stripe.ErrorCodeResourceMissing || fail.HTTPStatusCode != http.StatusNotFound {
		t.Errorf("unknown customer: %v", err)
	}
	if _, err := platform.OAuth.Del(&stripe.DeauthorizeParams{ClientID: stripe.String(ClientID), StripeUserID: stripe.String(me.ID)}); err != nil {
		t.Errorf("deauthorize: %v", err)
	}
	if _, err := sc.Accounts.Get(); !errors.As(err, &fail) || fail.HTTPStatusCode != http.StatusUnauthorized || strings.Contains(err.Error(), token.AccessToken) {
		t.Errorf("after deauthorization: %v", err)
	}
}
