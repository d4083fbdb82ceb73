package web_test

import (
	"strings"
	"testing"

	"phantom/sandbox"
)

// Every test of this package ends by searching its logs and answers for what passed through. This
// one makes sure that the search would find something.
func TestSecretsAreLookedFor(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.browser()
	page := c.begin()
	back := c.decide(page)
	c.arrive(back).wantSuccess(t)
	c.arrive(back).wantError(t, 400, "invalid_state")
	b.world.Fail(sandbox.Fault{Path: "/oauth/token", Status: 400, Body: `{"error":"invalid_request","error_description":"` + canary + `"}`})
	c.handshake().wantError(t, 502, "stripe_unavailable")

	kinds := map[string]int{}
	for secret := range b.stripe.secrets {
		switch {
		case secret == sandbox.SecretKey:
			kinds["platform key"]++
		case strings.HasPrefix(secret, "sk_test_"):
			kinds["access token"]++
		case strings.HasPrefix(secret, "rt_"):
			kinds["refresh token"]++
		case strings.HasPrefix(secret, "ac_"):
			kinds["code"]++
		case secret == page.Query().Get("state"):
			kinds["state"]++
		case c.client.Jar.Cookies(page)[0].Value == secret:
			kinds["cookie"]++
		}
		for _, text := range []string{"x" + secret + "x", "OK" + secret} {
			if found := b.stripe.leaks(text); len(found) == 0 {
				t.Errorf("%.8s… would not be found", secret)
			}
		}
	}
	for _, kind := range []string{"platform key", "access token", "refresh token", "code", "state", "cookie"} {
		if kinds[kind] == 0 {
			t.Errorf("no %s is looked for", kind)
		}
	}
	for name, text := range map[string]string{"JSON log": b.log.String(), "text log": b.plain.String(), "answers": b.ends.String()} {
		if strings.Count(text, "\n") < 3 {
			t.Errorf("the %s hold too little: %q", name, text)
		}
	}
	if len(b.stripe.leaks(b.log.String()+b.plain.String()+b.ends.String())) != 0 {
		t.Error("a secret is shown")
	}
}
