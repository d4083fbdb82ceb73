package connect

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stripe/stripe-go/v76"

	"phantom/db"
	"phantom/db/dbtest"
	"phantom/internal/stage"
	"phantom/sandbox"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

// bench is a Service on a database of its own, with the sandbox as Stripe.
type bench struct {
	t     *testing.T
	s     *Service
	pool  *pgxpool.Pool
	world *sandbox.Sandbox
	url   string // of the sandbox
	log   *bytes.Buffer
}

func setup(t *testing.T) *bench {
	t.Helper()
	world, url := stage.Stripe(t, sandbox.Config{Customers: 1})
	b := &bench{t: t, pool: dbtest.Pool(t), world: world, url: url, log: &bytes.Buffer{}}
	if err := db.VerifyKeyring(t.Context(), b.pool, dbtest.Ring(t)); err != nil {
		// as at boot: it makes the key's sentinel
		t.Fatal(err)
	}
	b.s = New(Config{
		SecretKey: sandbox.SecretKey, ClientID: sandbox.ClientID, APIBase: url, ConnectBase: url,
		RedirectURI: stage.RedirectURI, Log: slog.New(slog.NewTextHandler(b.log, nil)),
	}, b.pool)
	return b
}

// approve begins a handshake and lets the sandbox's first merchant agree.
func (b *bench) approve() Callback {
	b.t.Helper()
	page, browser, err := b.s.Begin(b.t.Context(), "")
	if err != nil {
		b.t.Fatal(err)
	}
	state, code := stage.Agree(b.t, page, "")
	return Callback{State: state, Code: code, Browser: browser}
}

// exchanges counts the calls of the token endpoint.
func (b *bench) exchanges() int {
	n := 0
	for _, r := range b.world.Requests() {
		if r.Path == "/oauth/token" {
			n++
		}
	}
	return n
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var known *Error
	if !errors.As(err, &known) || known.Code != code || known.Message == "" || known.Cause == nil {
		t.Fatalf("error %v, want code %s", err, code)
	}
	if text := err.Error(); !strings.HasPrefix(text, code+": ") {
		t.Errorf("error reads %q", text)
	}
}

func TestCompleteReturnsTheAccount(t *testing.T) {
	t.Parallel()
	b := setup(t)
	account, err := b.s.Complete(t.Context(), b.approve())
	if err != nil || account != b.world.Accounts()[0] {
		t.Fatalf("account %q, %v", account, err)
	}
	merchant, err := db.New(b.pool).MerchantGetByStripeUserID(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := merchant.AccessToken.Reveal(accessTokenContext(account)); err != nil {
		t.Error(err)
	}
	if b.log.Len() != 0 {
		t.Errorf("log %s", b.log)
	}
}

// The browser may leave at any moment after the state is consumed; the code is spent all the same,
// so the work goes on.
func TestCompleteOutlivesTheBrowser(t *testing.T) {
	t.Parallel()
	b := setup(t)
	callback := b.approve()
	ctx, leave := context.WithCancel(t.Context())
	b.world.Fail(sandbox.Fault{Path: "/oauth/token", Hold: leave})
	b.world.Fail(sandbox.Fault{Path: "/v1/account", Delay: time.Millisecond})
	account, err := b.s.Complete(ctx, callback)
	if err != nil {
		t.Fatal(err)
	}
	merchant, err := db.New(b.pool).MerchantGetByStripeUserID(t.Context(), account)
	if err != nil || merchant.Country == nil {
		t.Errorf("merchant %+v, %v", merchant, err)
	}
}

// What the outcome of an unanswered exchange was cannot be known: the code is given up, not sent
// again.
func TestExchangeTimesOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	callback := b.approve()
	b.world.Fail(sandbox.Fault{Path: "/oauth/token", Times: 9, Delay: time.Hour, After: true})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := b.s.exchange(ctx, callback.Code)
	wantCode(t, err, CodeStripeUnavailable)
	if !strings.Contains(err.Error(), "stripe did not answer in time") {
		t.Error(err)
	}
	if n := b.exchanges(); n != 1 {
		t.Errorf("the code was sent %d times", n)
	}
}

// A body that stops half-way is a time-out, too.
func TestExchangeTimesOutInTheBody(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"access_token":"sk_test_half`)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	s := New(Config{SecretKey: "sk_test_x", ConnectBase: server.URL}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := s.exchange(ctx, "ac_1")
	wantCode(t, err, CodeStripeUnavailable)
	if strings.Contains(err.Error(), "half") || calls.Load() != 1 {
		t.Errorf("%v after %d calls", err, calls.Load())
	}
}

// What goes out: one form with the code and the platform's key, without an idempotency key, on a
// connection of its own.
func TestExchangeRequest(t *testing.T) {
	t.Parallel()
	var requests []*http.Request
	var conns atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		requests = append(requests, r)
		_, _ = io.WriteString(w, `{"access_token":"sk_test_1","stripe_user_id":"acct_1","scope":"read_write","livemode":false}`)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	s := New(Config{SecretKey: "sk_test_x", ClientID: "ca_x", ConnectBase: server.URL}, nil)
	for range 3 {
		if _, err := s.exchange(t.Context(), "ac_1"); err != nil {
			t.Fatal(err)
		}
	}
	if len(requests) != 3 || conns.Load() != 3 {
		t.Fatalf("%d requests on %d connections, want 3 and 3", len(requests), conns.Load())
	}
	want := url.Values{"grant_type": {"authorization_code"}, "code": {"ac_1"}, "client_secret": {"sk_test_x"}}
	for _, r := range requests {
		if r.Method != http.MethodPost || r.URL.String() != "/oauth/token" || r.PostForm.Encode() != want.Encode() {
			t.Errorf("%s %s %v", r.Method, r.URL, r.PostForm)
		}
		for _, name := range []string{"Idempotency-Key", "Stripe-Account", "X-Stripe-Client-Telemetry", "Cookie", "Referer"} {
			if r.Header.Get(name) != "" {
				t.Errorf("header %s: %q", name, r.Header.Get(name))
			}
		}
	}
}

// An answer without an end does not fill the memory.
func TestAnswersAreCapped(t *testing.T) {
	t.Parallel()
	next := roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{Body: io.NopCloser(endless{})}, nil
	})
	response, err := capped{next, maxAnswer}.RoundTrip(httptest.NewRequest(http.MethodGet, "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, response.Body); n != maxAnswer || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	failing := roundTrip(func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF })
	if _, err := (capped{failing, maxAnswer}).RoundTrip(nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestAuthorizePage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ base, want string }{
		{"", "https://connect.stripe.com/oauth/authorize?"},
		{"http://127.0.0.1:12111", "http://127.0.0.1:12111/oauth/authorize?"},
		{"https://proxy.example/stripe/", "https://proxy.example/stripe/oauth/authorize?"},
	} {
		s := New(Config{ClientID: "ca_1&scope=x", RedirectURI: "https://p.example/api/auth/callback", ConnectBase: test.base}, nil)
		page := s.authorizeURL("the state")
		query, err := url.ParseQuery(strings.TrimPrefix(page, test.want))
		want := url.Values{
			"client_id": {"ca_1&scope=x"}, "redirect_uri": {"https://p.example/api/auth/callback"},
			"response_type": {"code"}, "scope": {"read_write"}, "state": {"the state"},
		}
		if err != nil || !strings.HasPrefix(page, test.want) || query.Encode() != want.Encode() {
			t.Errorf("base %q: %s", test.base, page)
		}
	}
}

func TestBegin(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secrets := map[string]bool{}
	kept := newSecret()
	for _, browser := range []string{"", "x", kept, kept, kept + "=", strings.Repeat("A", 44), strings.Repeat("A", 42)} {
		page, cookie, err := b.s.Begin(t.Context(), browser)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := url.Parse(page)
		if err != nil {
			t.Fatal(err)
		}
		state := parsed.Query().Get("state")
		if !isSecret(state) || !isSecret(cookie) || secrets[state] || (browser == kept) != (cookie == browser) || state == cookie {
			t.Errorf("browser %q: state %q, cookie %q", browser, state, cookie)
		}
		secrets[state] = true
		var row struct{ browser, want []byte }
		if err := b.pool.QueryRow(t.Context(), "SELECT browser_hash, sha256($2) FROM oauth_states WHERE state_hash = sha256($1)",
			[]byte(state), []byte(cookie)).Scan(&row.browser, &row.want); err != nil || !bytes.Equal(row.browser, row.want) {
			t.Errorf("browser %q: the row is not bound to the cookie: %v", browser, err)
		}
	}
	var minutes float64
	if err := b.pool.QueryRow(t.Context(), "SELECT max(extract(epoch FROM expires_at - created_at)) / 60 FROM oauth_states").Scan(&minutes); err != nil ||
		minutes < 9.999 || minutes > 10.001 || StateLifetime != 10*time.Minute {
		t.Errorf("a state lives %v minutes, %v", minutes, err)
	}
}

// Expired states go when others come.
func TestExpiredStatesAreSwept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 3 {
		if _, _, err := b.s.Begin(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.pool.Exec(t.Context(), "UPDATE oauth_states SET created_at = created_at - interval '1 hour', expires_at = expires_at - interval '1 hour'"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.s.Begin(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := b.pool.QueryRow(t.Context(), "SELECT count(*) FROM oauth_states").Scan(&n); err != nil || n != 1 {
		t.Errorf("%d states, %v", n, err)
	}
}

func TestNewSecret(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	var ones [256]int
	const n = 2000
	for range n {
		secret := newSecret()
		if !isSecret(secret) || seen[secret] || url.QueryEscape(secret) != secret {
			t.Fatalf("secret %q", secret)
		}
		seen[secret] = true
		raw, _ := base64.RawURLEncoding.DecodeString(secret)
		for bit := range ones {
			ones[bit] += int(raw[bit/8] >> (bit % 8) & 1)
		}
	}
	for bit, count := range ones { // 1,000 ± 22 each; ten deviations never happen
		if count < n/2-224 || count > n/2+224 {
			t.Errorf("bit %d is set in %d of %d secrets", bit, count, n)
		}
	}
}

func TestIsSecret(t *testing.T) {
	t.Parallel()
	good := strings.Repeat("A", 43)
	for text, want := range map[string]bool{
		good: true, newSecret(): true, strings.Repeat("_", 42) + "8": true, strings.Repeat("-", 42) + "4": true,
		"": false, "A": false, good[:42]: false, good + "A": false, good + "=": false, good + "\n": false, "\n" + good[1:]: false,
		good[:20] + "\n" + good[:23]: false, good[:20] + "\r\n" + good[:23]: false,
		// the last character has two bits too many: a second name for the same bytes
		good[:42] + "B": false,
		good[:42] + "+": false, good[:42] + "/": false, good[:42] + " ": false, good[:42] + "\x00": false, good[:40] + "é": false,
		strings.Repeat("A", 44): false, strings.Repeat("A", 64): false, strings.Repeat("A", 1<<20): false,
	} {
		if got := isSecret(text); got != want {
			t.Errorf("isSecret(%.60q) = %t", text, got)
		}
	}
	if got, want := hash("x"), sha256.Sum256([]byte("x")); !bytes.Equal(got, want[:]) {
		t.Errorf("hash %x", got)
	}
}

// scrub may say what kind of error it was. It never quotes.
func TestScrub(t *testing.T) {
	t.Parallel()
	const secret = "sk_live_scrubZq7"
	long := strings.Repeat("r", 1000)
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"Stripe's own", &stripe.Error{HTTPStatusCode: 429, RequestID: "req_1", Msg: secret, Code: secret, OAuthError: secret, OAuthErrorDescription: secret, Type: secret},
			`stripe answered 429 (request "req_1")`},
		{"wrapped", fmt.Errorf("%s: %w", secret, &stripe.Error{HTTPStatusCode: 500, Msg: secret}), `stripe answered 500 (request "")`},
		{"a request id of 1 kB", &stripe.Error{HTTPStatusCode: 500, RequestID: long}, `stripe answered 500 (request "` + long[:64] + `")`},
		{"a request id with a line break", &stripe.Error{HTTPStatusCode: 500, RequestID: "req\n1"}, `stripe answered 500 (request "req\n1")`},
		{"deadline", fmt.Errorf("%s: %w", secret, context.DeadlineExceeded), "stripe did not answer in time"},
		{"time-out of the client", &url.Error{Op: "Post", URL: "https://x/?" + secret, Err: os.ErrDeadlineExceeded}, "stripe did not answer in time"},
		{"refused", &url.Error{Op: "Post", URL: "https://x/?" + secret, Err: errors.New(secret)}, "stripe cannot be reached, or closed the connection"},
		{"network", &net.OpError{Op: "read", Err: errors.New(secret)}, "stripe cannot be reached, or closed the connection"},
		{"a body that is quoted", errors.New("Couldn't deserialize JSON (body sample: '" + secret + "')"), "stripe's answer cannot be read"},
		{"an end", io.ErrUnexpectedEOF, "stripe's answer cannot be read"},
	} {
		got := scrub(test.err)
		if got.Error() != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
		if errors.Unwrap(got) != nil || strings.Contains(fmt.Sprintf("%+v %#v", got, got), secret) {
			t.Errorf("%s: the cause is still there", test.name)
		}
	}
}

// Category's table, at the edges of its ranges.
func TestCategory(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"": "other", "0": "other", "abc": "other", "abcd": "other", "742": "other", "07372": "other", "73720": "other", "-372": "other",
		"+372": "other", " 737": "other", "7372 ": "other", "7_72": "other", "0x1f": "other", "1e3 ": "other", "７３７２": "other", "7.72": "other",
		"0000": "other", "0742": "other", "9999": "other", "0763": "other", "1520": "other", "9311": "other",
		"7371": "other", "7372": "software", "7379": "software", "7380": "other", "5734": "software", "5733": "retail", "5817": "software",
		"4815": "other", "4816": "software", "4817": "other", "5045": "software", "5044": "retail", "5046": "retail",
		"2741": "media", "2740": "other", "4899": "media", "4900": "other", "5192": "media", "5735": "media", "5736": "retail",
		"5815": "media", "5816": "media", "5818": "media", "5968": "media", "5994": "media", "7828": "other", "7829": "media", "7841": "media",
		"7842": "other", "7921": "other", "7922": "media", "7999": "media",
		"8210": "other", "8211": "education", "8299": "education", "8300": "other", "8350": "other", "8351": "education", "8352": "other",
		"4119": "health", "5047": "health", "5122": "health", "5912": "health", "5974": "retail", "5975": "health", "5977": "health",
		"5978": "retail", "7296": "other", "7297": "health", "7298": "health", "7299": "other", "8010": "other", "8011": "health",
		"8099": "health", "8100": "other",
		"5810": "retail", "5811": "food", "5814": "food", "5410": "retail", "5411": "food", "5499": "food", "5500": "retail",
		"2999": "other", "3000": "travel", "3999": "travel", "4000": "other", "4110": "other", "4111": "travel", "4112": "travel", "4113": "other",
		"4120": "other", "4121": "travel", "4131": "travel", "4132": "other", "4411": "travel", "4510": "other", "4511": "travel",
		"4582": "travel", "4583": "other", "4722": "travel", "4723": "travel", "4724": "other", "7010": "other", "7011": "travel",
		"7033": "travel", "7034": "other", "7511": "other", "7512": "travel", "7519": "travel", "7520": "other",
		"6009": "other", "6010": "finance", "6051": "finance", "6052": "other", "6211": "finance", "6300": "finance", "6513": "finance",
		"6531": "other", "6532": "finance", "6540": "finance", "6541": "other",
		"8397": "other", "8398": "nonprofit", "8399": "other", "8640": "other", "8641": "nonprofit", "8699": "nonprofit", "8700": "other",
		"7276": "professional_services", "7277": "other", "7310": "other", "7311": "professional_services", "7361": "professional_services",
		"7362": "other", "7391": "other", "7392": "professional_services", "7399": "professional_services", "7400": "other",
		"8111": "professional_services", "8910": "other", "8911": "professional_services", "8999": "professional_services", "9000": "other",
		"4999": "other", "5000": "retail", "5999": "retail", "6000": "other",
	} {
		if got := Category(code); got != want {
			t.Errorf("Category(%q) = %q, want %q", code, got, want)
		}
	}
}

// No matter what Category answers, the database takes it.
func TestCategoriesAreTheDatabases(t *testing.T) {
	t.Parallel()
	b := setup(t)
	account, err := b.s.Complete(t.Context(), b.approve())
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"other"}
	for i, r := range categories {
		if r.first > r.last || r.first < 1000 || r.last > 9999 {
			t.Errorf("range %d to %d", r.first, r.last)
		}
		for _, before := range categories[:i] {
			if before.first <= r.first && r.last <= before.last {
				t.Errorf("%d to %d is never reached", r.first, r.last)
			}
		}
		if !slices.Contains(names, r.category) {
			names = append(names, r.category)
		}
	}
	for _, name := range names {
		if _, err := b.pool.Exec(t.Context(), "UPDATE merchants SET business_category = $1 WHERE stripe_user_id = $2", name, account); err != nil {
			t.Error(err)
		}
	}
	if _, err := b.pool.Exec(t.Context(), "UPDATE merchants SET business_category = 'no such'"); err == nil {
		t.Error("the database takes any category")
	}
}

func TestTimezone(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"UTC": true, "Europe/Berlin": true, "America/Argentina/Buenos_Aires": true, "Asia/Kolkata": true, "Etc/GMT+12": true,
		"": false, "Local": false, "../../etc/passwd": false, "/etc/passwd": false, "..": false, "Europe/../Europe/Berlin": false,
		"Europe\\Berlin": false, "Europe/Berlin\x00": false, "Europe": false, "Mars/Olympus": false, strings.Repeat("a", 65): false,
	} {
		if got := timezone(name); (got != nil) != want || got != nil && *got != name {
			t.Errorf("timezone(%.70q) = %v", name, got)
		}
	}
}

func TestModeOfTheKey(t *testing.T) {
	t.Parallel()
	for key, live := range map[string]bool{
		"sk_live_1": true, "rk_live_1": true, "sk_test_1": false, "rk_test_1": false, "sk_test_sk_live_1": false, "SK_LIVE_1": false, "": false,
	} {
		if got := New(Config{SecretKey: key}, nil).live; got != live {
			t.Errorf("%q is live: %t", key, got)
		}
	}
}
