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
	if err := b.s.Forget(ctx, m.StripeUserID); err != nil {
		t.Fatal(err)
	}
	if err := b.s.Forget(ctx, m.StripeUserID); !errors.Is(err, ErrUnknownAccount) {
		t.Errorf("forgotten twice: %v", err)
	}
	o, err := b.s.ConnectOwn(ctx, own)
	if err != nil || o.Account != m.StripeUserID || o.MerchantID != m.ID || o.Before {
		t.Errorf("%+v, %v", o, err)
	}
	if account, err := b.s.HasOwn(ctx, own); account != m.StripeUserID || err != nil {
		t.Errorf("it is not known again: %q %v", account, err)
	}
	if account, err := b.s.HasOwn(ctx, OwnKey{Key: own.Key + "x"}); account != "" || err != nil {
		t.Errorf("another key is taken for it: %q %v", account, err)
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
	if !slices.Equal(missing, []string{"Invoices rak_invoices_read", "Disputes rak_disputes_read"}) {
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
