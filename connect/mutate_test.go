package connect

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-faster/jx"
	"github.com/google/uuid"

	"phantom/internal/stage"
	"phantom/sandbox"
	"phantom/task"
)

// debt is a merchant's account at the sandbox with one open invoice, whose charges the test sends.
type debt struct {
	*bench
	account, invoice string
	reader           *Reader
}

func setupDebt(t *testing.T) *debt {
	t.Helper()
	d := &debt{bench: setup(t)}
	d.world, d.url = stage.Stripe(t, sandbox.Config{Merchants: 1, OpenInvoices: 1})
	d.s = New(Config{
		SecretKey: sandbox.SecretKey, ClientID: sandbox.ClientID, APIBase: d.url, ConnectBase: d.url,
		RedirectURI: stage.RedirectURI, Log: slog.New(slog.DiscardHandler),
		RateLimit: 100,
	}, d.pool)
	merchant := d.connected()
	d.account = merchant.StripeUserID
	var err error
	if d.reader, err = d.s.Reader(t.Context(), merchant.ID); err != nil {
		t.Fatal(err)
	}
	var page struct{ Data []struct{ ID string } }
	open := map[string][]string{"status": {"open"}}
	if err := d.reader.Get(t.Context(), "/v1/invoices", open, func(decoder *jx.Decoder) error {
		raw, err := decoder.Raw()
		if err != nil {
			return err
		}
		return json.Unmarshal(raw, &page)
	}); err != nil || len(page.Data) != 1 {
		t.Fatal(page, err)
	}
	d.invoice = page.Data[0].ID
	return d
}

// charge is a task that charges the invoice and is marked as sent.
func (d *debt) charge() *task.Task {
	now := time.Now()
	return d.mutation(Mutation{http.MethodPost, "/v1/invoices/" + d.invoice + "/pay",
		"off_session=true"}, &now)
}

func (d *debt) mutation(m Mutation, sent *time.Time) *task.Task {
	d.t.Helper()
	params, err := json.Marshal(map[string]Mutation{"request": m})
	if err != nil {
		d.t.Fatal(err)
	}
	return &task.Task{ID: uuid.Must(uuid.NewV7()), MerchantID: d.reader.Merchant.ID, Params: params,
		FirstSentAt: sent}
}

// posts are the requests that may have changed something.
func (d *debt) posts() (list []sandbox.Request) {
	for _, r := range d.world.Requests() {
		if r.Method != http.MethodGet && strings.HasPrefix(r.Path, "/v1/") {
			list = append(list, r)
		}
	}
	return list
}

// slowed says whether the account's pace was lowered, and forgets it.
func (d *debt) slowed() bool {
	d.t.Helper()
	tag, err := d.pool.Exec(d.t.Context(),
		"UPDATE stripe_rates SET slowed_at = '-infinity' WHERE slowed_at > '-infinity'")
	if err != nil {
		d.t.Fatal(err)
	}
	return tag.RowsAffected() > 0
}

// What Stripe says of a mutation, and whether it is its final word. What is unknown is never taken
// for refused, nor the other way round, and each request leaves once, under its task's key.
func TestMutateTellsFinalFromUnknown(t *testing.T) {
	t.Parallel()
	const reused = `{"error":{"type":"idempotency_error","message":"Keys can only be used once"}}`
	padded := `{"status":"paid"}` + strings.Repeat(" ", 100) // half of it is JSON
	replayed := http.Header{"Idempotent-Replayed": {"true"}}
	elsewhere := http.Header{"Location": {"/v1/account"}}
	d := setupDebt(t)
	for _, c := range []struct {
		name  string
		fault sandbox.Fault
		want  string
	}{
		{"executed", sandbox.Fault{Delay: 1}, "final 200"},
		{"declined", sandbox.Fault{Status: 402, Body: `{"error":{"code":"card_declined"}}`}, "final 402"},
		{"refused", sandbox.Fault{Status: 400}, "final 400"},
		{"no such invoice", sandbox.Fault{Status: 404}, "final 404"},
		{"the key is another request's", sandbox.Fault{Status: 400, Body: reused}, "key reused"},
		{"the token is refused", sandbox.Fault{Status: 401}, "not sent"}, // and the account is not
		{"forbidden", sandbox.Fault{Status: 403}, "not sent"},
		{"too many requests", sandbox.Fault{Status: 429}, "slow down"},
		{"the object is locked", sandbox.Fault{Status: 429, Code: "lock_timeout"}, "unknown"},
		{"in flight", sandbox.Fault{Status: 409, Code: "idempotency_key_in_use"}, "unknown"},
		{"it took too long", sandbox.Fault{Status: 408}, "unknown"},
		{"it failed", sandbox.Fault{Status: 500}, "unknown"},
		{"it is down", sandbox.Fault{Status: 503, Body: "<html>"}, "unknown"},
		{"a redirection", sandbox.Fault{Status: 302, Header: elsewhere}, "unknown"},
		{"not JSON", sandbox.Fault{Status: 200, Body: "{", After: true}, "unknown"},
		{"it broke off", sandbox.Fault{Truncate: true, After: true}, "unknown"},
		{"it broke off late", sandbox.Fault{Truncate: true, After: true, Body: padded}, "unknown"},
		{"executed, and no answer", sandbox.Fault{Drop: true, After: true}, "unknown"},
		{"no answer", sandbox.Fault{Drop: true}, "unknown"},
		{"a reset", sandbox.Fault{Reset: true}, "unknown"},
		{"a stored failure", sandbox.Fault{Status: 500, Header: replayed}, "stored"},
	} {
		c.fault.Method, c.fault.Path = http.MethodPost, "/v1/invoices/"
		d.world.Fail(c.fault)
		charge, before := d.charge(), len(d.posts())
		answer, err := d.reader.Mutate(t.Context(), charge, time.Now().Add(time.Minute))
		if got := said(answer, err); got != c.want {
			t.Errorf("%s: %s (%v), want %s", c.name, got, err, c.want)
		}
		if slow := d.slowed(); slow != (c.want == "slow down") {
			t.Errorf("%s: the account's pace was lowered: %t", c.name, slow)
		}
		sent := d.posts()[before:]
		if len(sent) != 1 || sent[0].IdempotencyKey != "task_"+charge.ID.String() {
			t.Errorf("%s: it was sent as %+v", c.name, sent)
		}
	}
}

// said is what Mutate returned, in a word.
func said(a Answer, err error) string {
	var unknown *UnknownError
	var read *ReadError
	switch {
	case err == nil:
		return fmt.Sprintf("final %d", a.Status)
	case errors.As(err, &unknown) && unknown.Stored:
		return "stored"
	case errors.As(err, &unknown):
		return "unknown"
	case errors.Is(err, ErrKeyReused):
		return "key reused"
	case errors.Is(err, ErrTooLate):
		return "too late"
	case errors.Is(err, ErrRevoked):
		return "revoked"
	case errors.As(err, &read) && read.SlowDown:
		return "slow down"
	}
	return "not sent"
}

// What may not leave does not: it reaches no network.
func TestMutateSendsOnlyWhatItMay(t *testing.T) {
	t.Parallel()
	d := setupDebt(t)
	marked, soon := time.Now(), time.Now().Add(time.Minute)
	pay := Mutation{http.MethodPost, "/v1/invoices/" + d.invoice + "/pay", "off_session=true"}
	other := func(method, path string) *task.Task {
		return d.mutation(Mutation{method, path, ""},
			&marked)
	}
	for name, c := range map[string]struct {
		task *task.Task
		by   time.Time
		want string
	}{
		"not marked as sent": {d.mutation(pay, nil), soon, "not sent"},
		"not in time": {d.mutation(pay, &marked), time.Now().Add(-time.Millisecond),
			"too late"},
		"a read":                {other(http.MethodGet, pay.Path), soon, "not sent"},
		"a payment intent":      {other(http.MethodPost, "/v1/payment_intents"), soon, "not sent"},
		"a refund":              {other(http.MethodPost, "/v1/refunds"), soon, "not sent"},
		"an account":            {other(http.MethodPost, "/v1/accounts/acct_1"), soon, "not sent"},
		"a path behind a path":  {other(http.MethodPost, pay.Path+"/x"), soon, "not sent"},
		"a path before a path":  {other(http.MethodPost, "/x"+pay.Path), soon, "not sent"},
		"another way to an end": {other(http.MethodPost, "/v1/invoices/../refunds"), soon, "not sent"},
		"an invoice's voiding":  {other(http.MethodPost, "/v1/invoices/in_1/void"), soon, "not sent"},
		"a path with a query":   {other(http.MethodPost, pay.Path+"?x=1"), soon, "not sent"},
		"params without anything": {&task.Task{FirstSentAt: &marked, Params: []byte(`{}`)}, soon,
			"not sent"},
	} {
		answer, err := d.reader.Mutate(t.Context(), c.task, c.by)
		if got := said(answer, err); got != c.want {
			t.Errorf("%s: %s (%v), want %s", name, got, err, c.want)
		}
	}
	if posts := d.posts(); len(posts) != 0 {
		t.Errorf("sent: %+v", posts)
	}
}

// By its operator's word a key only reads: nothing leaves, even if Stripe would let it.
func TestMutateMindsAKeyThatOnlyReads(t *testing.T) {
	t.Parallel()
	d := setupDebt(t)
	d.reader.Merchant.Scope = "read_only"
	before := len(d.posts())
	if _, err := d.reader.Mutate(t.Context(), d.charge(), time.Now().Add(time.Minute)); !errors.Is(err, ErrForbidden) {
		t.Errorf("%v, want ErrForbidden", err)
	}
	if n := len(d.posts()) - before; n != 0 {
		t.Errorf("%d requests left", n)
	}
}

// A connection that was used before and closes under a mutation is no reason for net/http to send
// it again by itself: whether it was executed is not known.
func TestMutateIsNotRepeatedByTheTransport(t *testing.T) {
	t.Parallel()
	d := setupDebt(t)
	for name, fault := range map[string]sandbox.Fault{
		"closed": {Drop: true, After: true, Times: -1}, "reset": {Reset: true, After: true, Times: -1},
	} {
		d.world.Mend()
		if _, err := d.reader.Mutate(t.Context(), d.charge(), time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err) // leaves a connection behind that is used again
		}
		fault.Method = http.MethodPost
		d.world.Fail(fault)
		before := len(d.posts())
		charge := d.charge()
		answer, err := d.reader.Mutate(t.Context(), charge, time.Now().Add(time.Minute))
		if got := said(answer, err); got != "unknown" {
			t.Errorf("%s: %s", name, got)
		}
		if n := len(d.posts()) - before; n != 1 {
			t.Errorf("%s: it was sent %d times", name, n)
		}
	}
}

// The bytes that leave are the task's, wherever it stands on a connection.
func TestMutateSendsTheFrozenBytes(t *testing.T) {
	t.Parallel()
	d := setupDebt(t)
	marked := time.Now()
	frozen := Mutation{http.MethodPost, "/v1/invoices/" + d.invoice,
		"metadata[planned_attempt]=7&auto_advance=false"}
	charge := d.mutation(frozen, &marked)
	for range 2 {
		answer, err := d.reader.Mutate(t.Context(), charge, time.Now().Add(time.Minute))
		if got := said(answer, err); got != "final 200" {
			t.Fatal(got, err)
		}
	}
	ledger := d.world.Ledger(d.account)
	if len(ledger) != 1 || ledger[0].Metadata["planned_attempt"] != "7" ||
		ledger[0].Path != frozen.Path {
		t.Errorf("executed: %+v", ledger)
	}
}

// A read that meets a lock on the object is repeated, and the account's pace stays as it is.
func TestLockTimeoutIsNoMatterOfPace(t *testing.T) {
	t.Parallel()
	d := setupDebt(t)
	for code, want := range map[string]bool{"lock_timeout": false, "": true} {
		d.world.Fail(sandbox.Fault{Method: http.MethodGet, Path: "/v1/invoices", Status: 429, Code: code})
		err := d.reader.Get(t.Context(), "/v1/invoices", nil,
			func(decoder *jx.Decoder) error { return decoder.Skip() })
		if slow := d.slowed(); err != nil || slow != want {
			t.Errorf("429 %q: %v, and the pace was lowered: %t", code, err, slow)
		}
	}
}
