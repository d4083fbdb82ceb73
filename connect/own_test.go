package connect

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"phantom/sandbox"
	"phantom/trail"
)

// A key of an account that is connected through a platform changes nothing: one road does not turn
// into the other unasked.
func TestOwnKeyTakesOverNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := b.connected()
	ctx := trail.By(t.Context(), trail.Operator("connect"))
	own := OwnKey{Key: sandbox.OwnKey(m.StripeUserID, false)}
	if _, err := b.s.ConnectOwn(ctx, own); !errors.Is(err, ErrConnectedOtherway) {
		t.Errorf("%v, want ErrConnectedOtherway", err)
	}
	if _, _, err := b.s.OwnEndpoint(ctx, m.ID); !errors.Is(err, ErrUnknownAccount) {
		t.Errorf("a merchant of a platform has an endpoint of their own: %v", err)
	}
	if err := b.s.DisconnectNow(ctx, m.StripeUserID); err != nil {
		t.Fatal(err)
	}
	if err := b.s.DisconnectNow(ctx, m.StripeUserID); !errors.Is(err, ErrUnknownAccount) {
		t.Errorf("forgotten twice: %v", err)
	}
	o, err := b.s.ConnectOwn(ctx, own)
	if err != nil || o.Account != m.StripeUserID || o.MerchantID != m.ID || o.Before {
		t.Errorf("%+v, %v", o, err)
	}
	if k, err := b.s.KnowsOwn(ctx, own.Key); k != (Known{Account: m.StripeUserID, Any: true}) || err != nil {
		t.Errorf("it is not known again: %+v %v", k, err)
	}
	if k, err := b.s.KnowsOwn(ctx, own.Key+"x"); k != (Known{Any: true}) || err != nil {
		t.Errorf("another key is taken for it: %+v %v", k, err)
	}

	// What only reads goes on so, until somebody says otherwise.
	scope := func(own OwnKey) string {
		t.Helper()
		if _, err := b.s.ConnectOwn(ctx, own); err != nil {
			t.Fatal(err)
		}
		row, err := b.s.queries.MerchantToken(ctx, m.StripeUserID)
		if err != nil {
			t.Fatal(err)
		}
		return row.Scope
	}
	for i, test := range []struct {
		own  OwnKey
		want string
	}{
		{own, "read_write"}, {OwnKey{Key: own.Key, ReadOnly: true}, "read_only"}, {own, "read_only"}, {OwnKey{Key: own.Key, WebhookSecret: "whsec_x"}, "read_only"},
		{OwnKey{Key: own.Key, ReadWrite: true}, "read_write"},
	} {
		if got := scope(test.own); got != test.want {
			t.Errorf("%d: the key is %s, want %s", i, got, test.want)
		}
	}

	// A key that was forgotten does not come back by itself: its account is known to be gone.
	if err := b.s.DisconnectNow(ctx, m.StripeUserID); err != nil {
		t.Fatal(err)
	}
	if k, err := b.s.KnowsOwn(ctx, own.Key); k != (Known{Any: true}) || err != nil {
		t.Errorf("after it was forgotten: %+v %v", k, err)
	}
}

// A key of the other mode is refused before anybody sees it.
func TestOwnKeyOfTheOtherMode(t *testing.T) {
	t.Parallel()
	b := setup(t)
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(server.Close)
	for name, config := range map[string]Config{
		"a live key in a test server":  {SecretKey: "sk_test_x", APIBase: server.URL},
		"a live key over plain http":   {APIBase: server.URL},
		"a live key beside a live one": {SecretKey: "sk_live_x", APIBase: server.URL}, // plain http too
	} {
		config.Log = b.s.config.Log
		if _, err := New(config, b.pool).ConnectOwn(t.Context(), OwnKey{Key: "sk_live_canary"}); !errors.Is(err, ErrOwnKeyMode) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(Config{SecretKey: "sk_live_x", APIBase: server.URL, Log: b.s.config.Log}, b.pool).ConnectOwn(t.Context(), OwnKey{Key: "sk_test_canary"}); !errors.Is(err, ErrOwnKeyMode) {
		t.Errorf("a test key in a live server: %v", err)
	}
	if asked != 0 {
		t.Errorf("%d requests were sent with a key of the other mode", asked)
	}
}

// Each permission that a restricted key lacks is named, and nothing is stored without one.
func TestOwnKeyNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	lacks := map[string]bool{"/v1/disputes": true, "/v1/invoices": true}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodGet:
			t.Errorf("%s %s: a key is tried by reading alone", r.Method, r.URL)
		case lacks[r.URL.Path]:
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"error":{"type":"invalid_request_error","message":"The provided key 'rk_test_***' does not have the required permissions for this endpoint. Having the 'rak_` +
				strings.TrimPrefix(r.URL.Path, "/v1/") + `_read' permission would allow this request to continue."}}`))
		case r.URL.Path == "/v1/account":
			_, _ = w.Write([]byte(`{"id":"acct_1Own","object":"account"}`))
		default:
			_, _ = w.Write([]byte(`{"object":"list","data":[]}`))
		}
	}))
	t.Cleanup(server.Close)
	s := New(Config{APIBase: server.URL, ConnectBase: server.URL, Log: b.s.config.Log}, b.pool)
	o, err := s.ConnectOwn(t.Context(), OwnKey{Key: "rk_test_x"})
	if !errors.Is(err, ErrOwnKeyIncomplete) || len(o.Checked) != len(needed) {
		t.Fatalf("%+v, %v", o, err)
	}
	var missing []string
	for _, p := range o.Checked {
		if !p.Granted {
			missing = append(missing, p.Resource+" "+p.Named)
		}
	}
	if !slices.Equal(missing, []string{"Invoices rak_invoices_read", "Disputes rak_disputes_read", "PaymentMethods rak_invoices_read"}) {
		t.Errorf("missing: %q", missing)
	}
	var rows int
	if err := b.pool.QueryRow(t.Context(), "SELECT count(*) FROM merchants").Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d merchants are stored, %v", rows, err)
	}
	clear(lacks)
	if o, err = s.ConnectOwn(t.Context(), OwnKey{Key: "rk_test_x"}); err != nil || o.Account != "acct_1Own" || o.Livemode {
		t.Errorf("%+v, %v", o, err)
	}
}
