package web_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// Nobody finds out through PHANTOM which of many stolen credentials work.
func TestTriesOfCredentials(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.stripe.secret(resendKey, twilioToken)
	c, other := b.caller("acct_1"), b.caller("acct_2")
	stolen := func(i int) (path, body string) {
		if i%2 == 0 {
			return "/api/channels/resend", fmt.Sprintf(`{"api_key":"re_stolen%05d","from":"a@example.com"}`, i)
		}
		return "/api/channels/twilio", fmt.Sprintf(`{"account_sid":"%s","auth_token":"%032d","from":"+14155550100"}`, twilioSID, i)
	}
	// What a provider does not answer, and what it takes, is no try.
	b.mail.answer(503, "")
	for range 7 {
		c.call("PUT", "/api/channels/resend", goodResend).wantError(t, 502, "provider_unavailable")
	}
	b.mail.answer(0, "")
	for range 7 {
		if got := c.call("PUT", "/api/channels/twilio", goodTwilio); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	// Twelve at once, three at a time: five are tried.
	var group sync.WaitGroup
	answers := make([]answer, 12)
	turns := make(chan struct{}, 3)
	for i := range answers {
		turns <- struct{}{}
		group.Go(func() {
			defer func() { <-turns }()
			path, body := stolen(i)
			answers[i] = c.call("PUT", path, body)
		})
	}
	group.Wait()
	tried := 0
	for _, got := range answers {
		if got.status == 400 {
			tried++
			continue
		}
		got.wantError(t, 429, "too_many_requests")
		if wait := got.wait(t); wait < 3500 || wait > 3600 {
			t.Errorf("it is to wait %d s", wait)
		}
	}
	if tried != 5 {
		t.Errorf("%d were tried", tried)
	}
	// Right ones neither: the answer would tell.
	c.call("PUT", "/api/channels/resend", goodResend).wantError(t, 429, "too_many_requests")
	if got := other.call("PUT", "/api/channels/resend", goodResend); got.status != 200 {
		t.Errorf("another merchant's: %d %s", got.status, got.body)
	}
	if _, err := b.pool.Exec(t.Context(), "UPDATE credential_tries SET tried_at = tried_at - interval '1 hour'"); err != nil {
		t.Fatal(err)
	}
	if got := c.call("PUT", "/api/channels/resend", goodResend); got.status != 200 {
		t.Errorf("an hour later: %d %s", got.status, got.body)
	}
	var left int
	if err := b.pool.QueryRow(t.Context(), "SELECT count(*) FROM credential_tries").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d rows are left, %v", left, err)
	}
	if text := b.log.String(); strings.Contains(text, "re_stolen") {
		t.Error("the log holds a key")
	}
}
