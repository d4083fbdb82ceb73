package connect

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/go-faster/jx"
	"github.com/google/uuid"

	"phantom/db"
	"phantom/sandbox"
	"phantom/task"
)

const (
	ofProxy  = "<html><body>Access denied by the firewall</body></html>"
	ofPortal = `{"error":"access_denied"}`
	ofStripe = `{"error":{"type":"invalid_request_error","message":"no"}}`
)

func (b *bench) reader(m db.Merchant) *Reader {
	b.t.Helper()
	r, err := b.s.Reader(b.t.Context(), m.ID)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *bench) requests(path string) (n int) {
	for _, r := range b.world.Requests() {
		if r.Path == path {
			n++
		}
	}
	return n
}

func get(r *Reader, t *testing.T) error {
	t.Helper()
	return r.Get(t.Context(), "/v1/charges", nil, func(d *jx.Decoder) error { return d.Skip() })
}

// denials are answers to a request and to the question about the account that may follow. revoked
// and forbidden are what they mean; all else passes.
var denials = map[string]struct {
	status             int
	body               string
	accountStatus      int // 0: the account is fine
	accountBody        string
	revoked, forbidden bool
	executed           bool // what a mutation did is not known
	asked              int  // about the account
}{
	"the token is refused":                  {401, ofStripe, 401, ofStripe, true, false, false, 1},
	"the account is forbidden":              {403, ofStripe, 403, ofStripe, true, false, false, 1},
	"one refusal and then no more":          {401, ofStripe, 0, "", false, false, false, 1},
	"one endpoint is forbidden":             {403, ofStripe, 0, "", false, true, false, 1},
	"a page of a proxy":                     {403, ofProxy, 403, ofProxy, false, false, true, 0},
	"a page of a proxy under 401":           {401, ofProxy, 401, ofProxy, false, false, true, 0},
	"JSON of a portal":                      {401, ofPortal, 401, ofPortal, false, false, true, 0},
	"an empty body":                         {403, " ", 403, " ", false, false, true, 0},
	"an outage instead of a second refusal": {401, ofStripe, 503, ofStripe, false, false, false, 1},
	"a proxy instead of a second refusal":   {401, ofStripe, 403, ofProxy, false, false, false, 1},
	"a page instead of the account":         {403, ofStripe, 200, ofProxy, false, false, false, 1},
	"a wish to slow down instead":           {401, ofStripe, 429, ofStripe, false, false, false, 1},
}

// A merchant counts as gone only when Stripe itself has refused their token twice, and is asked no
// more than that.
func TestADenialIsProved(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := b.connected()
	for name, test := range denials {
		b.s.config.Patience = 300 * time.Millisecond // one repetition at least
		before := b.requests("/v1/account")
		b.world.Mend()
		b.world.Fail(sandbox.Fault{Path: "/v1/charges", Status: test.status, Body: test.body, Times: -1})
		if test.accountStatus != 0 {
			b.world.Fail(sandbox.Fault{Path: "/v1/account", Status: test.accountStatus, Body: test.accountBody, Times: -1})
		}
		err := get(b.reader(m), t)
		var read *ReadError
		if !errors.As(err, &read) || errors.Is(err, ErrRevoked) != test.revoked || errors.Is(err, ErrRefused) != test.forbidden {
			t.Errorf("%s: %v", name, err)
		}
		if asked := b.requests("/v1/account") - before; asked != test.asked {
			t.Errorf("%s: asked %d times about the account, want %d", name, asked, test.asked)
		}
	}
	b.world.Mend()
	b.world.Fail(sandbox.Fault{Path: "/v1/charges", Status: 401, Body: ofStripe})
	b.s.config.Patience = 10 * time.Second
	if err := get(b.reader(m), t); err != nil {
		t.Errorf("one refusal ends a read: %v", err)
	}
}

// The same for what changes something: where Stripe itself has refused, nothing was executed; a
// page on the way says nothing about that.
func TestADenialOfAMutationIsProved(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := b.connected()
	for name, test := range denials {
		before := b.requests("/v1/account")
		b.world.Mend()
		b.world.Fail(sandbox.Fault{Method: http.MethodPost, Path: "/v1/invoices", Status: test.status, Body: test.body, Times: -1})
		if test.accountStatus != 0 {
			b.world.Fail(sandbox.Fault{Path: "/v1/account", Status: test.accountStatus, Body: test.accountBody, Times: -1})
		}
		now := time.Now()
		held := &task.Task{
			MerchantID: m.ID, ID: uuid.Must(uuid.NewV7()), FirstSentAt: &now,
			Params: []byte(`{"request":{"method":"POST","path":"/v1/invoices/in_1/pay","body":"off_session=true"}}`),
		}
		_, err := b.reader(m).Mutate(t.Context(), held, now.Add(5*time.Second))
		var read *ReadError
		var unknown *UnknownError
		if errors.As(err, &unknown) != test.executed || errors.As(err, &read) == test.executed || errors.Is(err, ErrRevoked) != test.revoked ||
			errors.Is(err, ErrRefused) != test.forbidden {
			t.Errorf("%s: %v", name, err)
		}
		if asked := b.requests("/v1/account") - before; asked != test.asked {
			t.Errorf("%s: asked %d times about the account, want %d", name, asked, test.asked)
		}
	}
}
