package app

import (
	"maps"
	"testing"

	"phantom/db/dbtest"
	"phantom/sandbox"
)

// Where messages go, by what is set.
func TestProviderBases(t *testing.T) {
	t.Parallel()
	const own, real = "http://127.0.0.1:12111", ""
	for _, c := range []struct {
		name           string
		set            map[string]string
		resend, twilio string
	}{
		{"dev mode beside a sandbox", map[string]string{"PHANTOM_DEV": "1", "STRIPE_API_BASE": own}, own + "/resend", own + "/twilio"},
		{"its key without dev mode", map[string]string{"STRIPE_API_BASE": own, "STRIPE_SECRET_KEY": sandbox.SecretKey}, own + "/resend", own + "/twilio"},
		{"another place for one", map[string]string{"PHANTOM_DEV": "1", "STRIPE_API_BASE": own, "RESEND_API_BASE": "http://127.0.0.1:9"}, "http://127.0.0.1:9", own + "/twilio"},
		{"another stand-in for Stripe, in production", map[string]string{"STRIPE_API_BASE": own, "STRIPE_SECRET_KEY": "sk_test_1"}, real, real},
		{"production", map[string]string{"STRIPE_SECRET_KEY": "sk_live_1", "PUBLIC_URL": "https://phantom.example.com"}, real, real},
	} {
		set := map[string]string{"DATABASE_URL": "postgres://localhost/x", "ENCRYPTION_KEY": dbtest.Key, "STRIPE_CLIENT_ID": "ca_1", "STRIPE_CONNECT_BASE": c.set["STRIPE_API_BASE"]}
		maps.Copy(set, c.set)
		got, err := Load(func(name string) string { return set[name] }, Needs{Database: true, Key: true, Stripe: true})
		if err != nil || got.ResendBase != c.resend || got.TwilioBase != c.twilio {
			t.Fatalf("%s: %v, or another place than %q and %q", c.name, err, c.resend, c.twilio)
		}
	}
}

// The pools follow WORKERS, unless somebody says otherwise. The queues have connections of their
// own.
func TestPoolFollowsTheWorkers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		set          map[string]string
		want, queues int
	}{
		{nil, 10 + 4 + 4 + 12, 4},
		{map[string]string{"WORKERS": "100"}, 100 + 4 + 4 + 12, 4},
		{map[string]string{"WORKERS": "0"}, 12, 0},
		{map[string]string{"DATABASE_POOL": "5"}, 4, 1},
		{map[string]string{"DATABASE_POOL": "1"}, 1, 1},
		{map[string]string{"DATABASE_POOL": "20", "WORKERS": "0"}, 20, 0},
		{map[string]string{"DATABASE_URL": "postgres://h1:5432,h2:5433/x?pool_max_conns=40"}, 36, 4},
	} {
		set := map[string]string{
			"DATABASE_URL": "postgres://localhost/x", "ENCRYPTION_KEY": dbtest.Key, "STRIPE_CLIENT_ID": "ca_1", "STRIPE_SECRET_KEY": "sk_test_1",
		}
		maps.Copy(set, c.set)
		got, err := Load(func(name string) string { return set[name] }, Needs{Database: true, Key: true, Stripe: true})
		if err != nil || got.Connections() != c.want || got.ConnectionsOfQueues() != c.queues {
			t.Fatalf("%v: %v, or other pools than of %d and %d", c.set, err, c.want, c.queues)
		}
	}
}
