package web_test

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/connect"
	"phantom/internal/stage"
	"phantom/vault"
)

// caller is a merchant with a key of the API.
type caller struct {
	*browser
	id      uuid.UUID // the merchant's
	account string
	key     string
}

// caller makes a connected merchant.
func (b *bench) caller(account string) *caller {
	b.t.Helper()
	id := stage.Merchant(b.t, b.pool, account)
	b.stripe.secret("sk_test_canary_" + account)
	key, _, err := b.service.CreateAPIKey(b.t.Context(), account, connect.NewAPIKey{Scope: connect.ScopeWrite})
	if err != nil {
		b.t.Fatal(err)
	}
	b.stripe.secret(key)
	return &caller{browser: b.browser(), id: id, account: account, key: key}
}

// call sends a request with the caller's key and, unless it is "", a JSON body. header holds name,
// value … and may replace both.
func (c *caller) call(method, path, body string, header ...string) answer {
	c.b.t.Helper()
	all := []string{"Authorization", "Bearer " + c.key}
	var text io.Reader
	if body != "" {
		text, all = strings.NewReader(body), append(all, "Content-Type", "application/json")
	}
	got, err := c.send(c.b.t.Context(), method, path, text, append(all, header...)...)
	if err != nil {
		c.b.t.Fatalf("%s %s: %v", method, path, err)
	}
	return got
}

// seed is a row of ghost_targets. What is left out has a value that will do.
type seed struct {
	id                                             uuid.UUID
	currency, class, status, reason, email, access string
	kind                                           string
	amount                                         int64
	hidden                                         bool
	failed, discovered                             time.Duration // ago; 0 failed is none
	customer, subscription, invoice, declineCode   string
}

// add stores a ghost of the caller's and returns its id.
func (c *caller) add(s seed) uuid.UUID {
	c.b.t.Helper()
	number := make([]byte, 8)
	_, _ = rand.Read(number)
	text := func(value *string, fallback string) {
		if *value == "" {
			*value = fallback
		}
	}
	if s.id == uuid.Nil {
		s.id = uuid.Must(uuid.NewV7())
	}
	text(&s.currency, "usd")
	text(&s.class, "unknown")
	text(&s.status, "open")
	text(&s.access, "presumed")
	text(&s.kind, "owed")
	text(&s.customer, "cus_"+hex.EncodeToString(number))
	text(&s.subscription, "sub_"+hex.EncodeToString(number))
	text(&s.invoice, "in_"+hex.EncodeToString(number))
	if s.amount == 0 {
		s.amount = 1000
	}
	var email *vault.EncryptedToken
	if s.email != "" {
		token := vault.NewToken("ghost_targets.email:"+s.id.String(), s.email)
		email = &token
	}
	_, err := c.b.pool.Exec(c.b.t.Context(), `
INSERT INTO ghost_targets (merchant_id, id, stripe_customer_id, stripe_subscription_id, stripe_invoice_id, email, amount, currency,
    access, decline_class, decline_code, attempt_count, first_failed_at, last_failed_at, rule, status, closed_reason, closed_at,
    hidden, discovered_at, kind)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, nullif($11::text, ''), 3,
    now() - $12::float8 * interval '1 second', now() - $12::float8 * interval '1 second', 'an open invoice', $13, nullif($14::text, ''),
    CASE WHEN $13 = 'closed' THEN now() END, $15, now() - $16::float8 * interval '1 second', $17)`,
		c.id, s.id, s.customer, s.subscription, s.invoice, email, s.amount, s.currency, s.access, s.class, s.declineCode,
		secondsOrNil(s.failed), s.status, s.reason, s.hidden, s.discovered.Seconds(), s.kind)
	if err != nil {
		c.b.t.Fatal(err)
	}
	return s.id
}

func secondsOrNil(d time.Duration) *float64 {
	if d == 0 {
		return nil
	}
	seconds := d.Seconds()
	return &seconds
}

// wantInvalid checks a 400 that names the field, in its own member and in the message.
func (a answer) wantInvalid(t *testing.T, field string) {
	t.Helper()
	a.wantError(t, 400, "invalid_request")
	if !strings.HasSuffix(a.body, fmt.Sprintf(`,"field":%q}`, field)) || !strings.Contains(a.body, `"message":"The `+field+` `) {
		t.Errorf("got %s, want the field %s named", a.body, field)
	}
}
