package app

import (
	"maps"
	"strings"
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
		{"the sandbox's own key", map[string]string{"STRIPE_API_BASE": own, "STRIPE_SECRET_KEY": "", "STRIPE_CLIENT_ID": "", "STRIPE_MERCHANT_KEY": sandbox.OwnKey("acct_1", false)}, own + "/resend", own + "/twilio"},
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

// A key of a merchant's own takes the place of a platform, in one mode with all that is there.
func TestMerchantKeys(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		set  map[string]string
		need Needs
		says string // "" is no error
		live bool
		box  bool // the built-in sandbox answers for Stripe
	}{
		"alone":                         {set: map[string]string{"STRIPE_MERCHANT_KEY": "rk_test_1"}},
		"live":                          {set: map[string]string{"STRIPE_MERCHANT_KEY": "rk_live_1", "PUBLIC_URL": "https://phantom.example"}, live: true},
		"live over plain http":          {set: map[string]string{"STRIPE_MERCHANT_KEY": "rk_live_1"}, says: "PUBLIC_URL must begin with https://"},
		"live at a plain stand-in":      {set: map[string]string{"STRIPE_MERCHANT_KEY": "rk_live_1", "PUBLIC_URL": "https://phantom.example", "STRIPE_API_BASE": "http://127.0.0.1:1", "STRIPE_CONNECT_BASE": "http://127.0.0.1:1"}, says: "a live key is never sent"},
		"live in dev mode":              {set: map[string]string{"STRIPE_MERCHANT_KEY": "sk_live_1", "PHANTOM_DEV": "1"}, says: "dev mode never runs with a live key"},
		"a command's, live in dev mode": {set: map[string]string{"PHANTOM_DEV": "1"}, need: Needs{MerchantKey: "sk_live_1"}, says: "dev mode never runs with a live key"},
		"test beside a live platform":   {set: map[string]string{"STRIPE_MERCHANT_KEY": "rk_test_1", "STRIPE_SECRET_KEY": "sk_live_1", "STRIPE_CLIENT_ID": "ca_1", "PUBLIC_URL": "https://phantom.example"}, says: "different modes"},
		"half a platform":               {set: map[string]string{"STRIPE_MERCHANT_KEY": "rk_test_1", "STRIPE_SECRET_KEY": "sk_test_1"}, says: "only one of STRIPE_SECRET_KEY and STRIPE_CLIENT_ID"},
		"malformed":                     {set: map[string]string{"STRIPE_MERCHANT_KEY": "pk_test_canary"}, says: "STRIPE_MERCHANT_KEY is malformed"},
		"none":                          {set: map[string]string{}, says: "STRIPE_SECRET_KEY, STRIPE_CLIENT_ID are not set"},
		"a platform's key in no file":   {set: map[string]string{"STRIPE_MERCHANT_KEY": "rk_test_1", "STRIPE_SECRET_KEY_FILE": "/nowhere"}, says: "STRIPE_SECRET_KEY_FILE"},
		"at a desk":                     {set: map[string]string{"STRIPE_MERCHANT_KEY": "rk_test_1", "PHANTOM_DEV": "1"}},
		"a command's at a desk":         {set: map[string]string{"PHANTOM_DEV": "1"}, need: Needs{MerchantKey: "rk_test_1"}},
		"the sandbox's at a desk":       {set: map[string]string{"PHANTOM_DEV": "1"}, need: Needs{MerchantKey: sandbox.OwnKey("acct_1", true)}, box: true},
		"a log of each request":         {set: map[string]string{"STRIPE_MERCHANT_KEY": "rk_test_1", "ACCESS_LOG": "yes"}, says: "ACCESS_LOG is malformed"},
	} {
		set := map[string]string{"DATABASE_URL": "postgres://localhost/x", "ENCRYPTION_KEY": dbtest.Key}
		maps.Copy(set, c.set)
		c.need.Database, c.need.Key, c.need.Stripe = true, true, true
		got, err := Load(func(name string) string { return set[name] }, c.need)
		switch {
		case c.says != "":
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%s: %v, want %s", name, err, c.says)
			}
		case err != nil || got.Live() != c.live || got.Sandbox != c.box:
			t.Errorf("%s: %v, or another mode, or another Stripe", name, err)
		}
	}
}

// NO_COLOR takes the colors away by any value; an access log is wished for by 1.
func TestLogVariables(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{"": false, "1": true, "0": true} {
		c := &Config{}
		if err := c.loadLog(environment{getenv: func(name string) string { return map[string]string{"NO_COLOR": value, "ACCESS_LOG": "1"}[name] }}); err != nil || c.noColor != want || !c.AccessLog {
			t.Errorf("NO_COLOR=%q: %t, access log %t, %v", value, c.noColor, c.AccessLog, err)
		}
	}
}
