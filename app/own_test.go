package app

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"phantom/connect"
	"phantom/db/dbtest"
	"phantom/internal/stage"
	"phantom/trail"
)

// The environment's key connects an account once. What an operator has done since is not undone by
// a restart: neither a disconnection, nor another key, nor a key that only reads.
func TestTheEnvironmentConnectsOnce(t *testing.T) {
	t.Parallel()
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Path == "/v1/account" {
			_, _ = w.Write([]byte(`{"id":"acct_1Own","object":"account"}`))
			return
		}
		_, _ = w.Write([]byte(`{"object":"list","data":[]}`))
	}))
	t.Cleanup(server.Close)
	pool, log := dbtest.Pool(t), &stage.Log{}
	database := stage.On(t, pool)
	service := connect.New(connect.Config{APIBase: server.URL, ConnectBase: server.URL, Log: log.Logger()}, pool)
	start := func(key string, secrets ...string) {
		t.Helper()
		c, err := Load(func(name string) string {
			return map[string]string{"DATABASE_URL": "postgres://localhost/x", "ENCRYPTION_KEY": dbtest.Key, "STRIPE_MERCHANT_KEY": key}[name]
		}, Needs{Database: true, Key: true, Stripe: true})
		if err != nil {
			t.Fatal(err)
		}
		c.WebhookSecrets = secrets
		if err := (&App{Config: c, Pool: pool, Log: log.Logger()}).ConnectOwn(t.Context(), Services{Connect: service}); err != nil {
			t.Fatal(err)
		}
	}
	stands := func(want string) {
		t.Helper()
		got := database.Text(`SELECT coalesce(string_agg(scope || CASE WHEN disconnected_at IS NULL THEN '' ELSE ' gone' END ||
			CASE WHEN webhook_secret IS DISTINCT FROM NULL THEN ' secret' ELSE '' END, ','), 'none') FROM merchants`)
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	quiet := func(do func()) {
		t.Helper()
		before := asked
		do()
		if asked != before {
			t.Errorf("Stripe was asked %d times", asked-before)
		}
	}
	operator := trail.By(t.Context(), trail.Operator("connect"))

	stands("none")
	start("rk_test_first")
	stands("read_write")
	quiet(func() { start("rk_test_first") })
	start("rk_test_first", "whsec_x") // the endpoint came later
	stands("read_write secret")
	quiet(func() { start("rk_test_first", "whsec_other") })

	if _, err := service.ConnectOwn(operator, connect.OwnKey{Key: "rk_test_second", ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	stands("read_only secret")
	quiet(func() { start("rk_test_first") })
	quiet(func() { start("rk_test_second", "whsec_x") })
	stands("read_only secret")
	if err := service.DisconnectNow(operator, "acct_1Own"); err != nil {
		t.Fatal(err)
	}
	quiet(func() { start("rk_test_second") })
	stands("read_only gone")
	if !strings.Contains(log.String(), "phantom connect --key-file connects it") {
		t.Errorf("the log does not say what to do: %s", log)
	}
}
