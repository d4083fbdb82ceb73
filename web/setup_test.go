package web_test

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/lmittmann/tint"

	"phantom/connect"
	"phantom/db"
	"phantom/db/dbtest"
	"phantom/ghost"
	"phantom/internal/stage"
	"phantom/message"
	"phantom/oracle"
	"phantom/outbound"
	"phantom/recovery"
	"phantom/sandbox"
	"phantom/shield"
	"phantom/task"
	"phantom/trail"
	"phantom/web"
)

func TestMain(m *testing.M) {
	// most tests wait for a time-out or another process; the command line has the last word
	_ = flag.Set("test.parallel", "8")
	os.Exit(dbtest.Main(m))
}

// long runs what takes half a minute, and as many sockets as docs/threats.md names.
var long = os.Getenv("PHANTOM_LONG") == "1" || os.Getenv("CI") == "true"

// success is the handshake's answer, byte for byte.
const success = `{"status":"success","message":"Merchant Authorized"}`

// bench is a running server on a loopback socket, with a database of its own and the sandbox as
// Stripe. When its test ends it checks that no secret that passed through stands in the log or in
// an answer.
type bench struct {
	stage.Database
	t      *testing.T
	url    string
	pool   *pgxpool.Pool
	world  *sandbox.Sandbox
	stripe *stripeProxy
	ends   *stage.Log // answers to browsers
	log    *stage.Log // one JSON object a line
	plain  *stage.Log // the same for people, as main logs
	stop   context.CancelCauseFunc
	served chan error // what Serve returned

	service *connect.Service
	mail    *providers
	public  string // PUBLIC_URL
	hunts   *recovery.Service
	levels  *shield.Service
}

// options change what setup builds.
type options struct {
	secretKey string // "" is the sandbox's
	// "" is a fresh one; the cases of a table share one, which is quicker
	database string
	seed     uint64           // another world, with other accounts
	https    bool             // as behind a proxy that ends TLS: PUBLIC_URL is https
	token    http.HandlerFunc // takes the place of the token endpoint
	facts    http.HandlerFunc // takes the place of GET /v1/account
	accounts []string         // CONNECT_ACCOUNTS

	accessLog bool

	timeout time.Duration // of the database: [ownTimeouts], or a minute, which a busy machine may need
}

// ownTimeouts has each package's own timeout of the database.
const ownTimeouts time.Duration = -1

func setup(t *testing.T, change ...func(*options)) *bench {
	t.Helper()
	var o options
	for _, f := range change {
		f(&o)
	}
	if o.secretKey == "" {
		o.secretKey = sandbox.SecretKey
	}
	if o.timeout = cmp.Or(o.timeout, time.Minute); o.timeout == ownTimeouts {
		o.timeout = 0
	}
	if o.database == "" {
		o.database = dbtest.URL(t)
	}
	// no test here looks at them
	world, err := sandbox.New(sandbox.Config{Seed: o.seed, Customers: 1})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, world: world, ends: &stage.Log{}, log: &stage.Log{}, plain: &stage.Log{}, served: make(chan error, 1)}
	b.stripe = &stripeProxy{next: world, token: o.token, facts: o.facts, calls: map[string]int{}}
	b.stripe.secret(o.secretKey)
	stripe := httptest.NewServer(b.stripe)
	t.Cleanup(stripe.Close)
	b.stripe.url = stripe.URL

	ring := dbtest.Ring(t)
	b.pool, err = db.Open(t.Context(), o.database, ring)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.pool.Close)
	b.Database = stage.On(t, b.pool)
	if o.database != noDatabase {
		if err := db.VerifyKeyring(t.Context(), b.pool, ring); err != nil {
			// as at boot: it makes the key's sentinel
			t.Fatal(err)
		}
	}
	listener, err := web.Listen(t.Context(), "127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	b.url = "http://127.0.0.1:" + strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	public := b.url
	if o.https {
		public = "https://phantom.example"
	}
	level := &slog.HandlerOptions{Level: slog.LevelDebug}
	log := slog.New(slog.NewMultiHandler(
		slog.NewJSONHandler(b.log, level), tint.NewTextHandler(b.plain, &tint.Options{Level: slog.LevelDebug, NoColor: true})))
	b.service = connect.New(connect.Config{
		SecretKey: o.secretKey, ClientID: sandbox.ClientID, APIBase: stripe.URL, ConnectBase: stripe.URL,
		RedirectURI: public + "/api/auth/callback", Log: log, Accounts: o.accounts,
		DatabaseTimeout: o.timeout,
	}, b.pool)
	b.stripe.secret(webhookSecret)
	b.mail, b.public = newProviders(t), public
	ghosts := ghost.New(b.pool, b.service, log)
	ghosts.DatabaseTimeout = o.timeout
	messages := message.New(b.pool, b.service, message.Config{
		ResendBase: b.mail.url, TwilioBase: b.mail.url, PublicURL: public, Dev: true, Log: log,
	})
	b.hunts = recovery.New(b.pool, b.service, messages, nil, recovery.Config{Log: log, Refresh: ghost.RefreshIn, Look: oracle.New(b.pool).Look})
	ghosts.Hunts = b.hunts
	b.levels = shield.New(b.pool, shield.Config{Log: log, Refresh: ghost.RefreshIn, Hash: connect.HasherIn})
	ghosts.Shield = b.levels
	events := outbound.New(b.pool, outbound.Config{Log: log, Dev: true})
	server := web.New(web.Config{
		Shield:         b.levels,
		Oracle:         oracle.New(b.pool),
		Outbound:       events,
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Connect:        b.service, Ghost: ghosts, Recovery: b.hunts, Messages: messages, OpenAPI: func() []byte { return contract().text }, WebhookSecrets: []string{webhookSecret},
		Tasks: func(ctx context.Context, merchantID uuid.UUID, filter task.Filter) (task.Page, error) {
			return task.List(ctx, b.pool, merchantID, filter)
		},
		Trail: func(ctx context.Context, merchantID uuid.UUID, filter trail.Filter) (trail.Page, error) {
			return trail.List(ctx, b.pool, merchantID, filter)
		},
		Ping: func(ctx context.Context) error { return db.Writable(ctx, b.pool) }, Secure: o.https, AccessLog: o.accessLog, Log: log, DatabaseTimeout: o.timeout,
	})
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(t.Context()))
	b.stop = cancel
	go func() { b.served <- server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel(nil)
		if err := <-b.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		b.noSecretShown()
	})
	return b
}

// stripeProxy stands before the sandbox, counts its calls and learns the secrets it gives out.
type stripeProxy struct {
	next         http.Handler
	token, facts http.HandlerFunc
	url          string

	mutex   sync.Mutex
	calls   map[string]int // by path
	secrets map[string]bool
}

func (s *stripeProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mutex.Lock()
	s.calls[r.URL.Path]++
	s.mutex.Unlock()
	next := s.next
	switch {
	case r.URL.Path == "/oauth/token" && s.token != nil:
		next = s.token
	case r.URL.Path == "/v1/account" && s.facts != nil:
		next = s.facts
	}
	next.ServeHTTP(&learning{w, s}, r)
}

// learning reads the tokens out of the answers that pass.
type learning struct {
	http.ResponseWriter
	proxy *stripeProxy
}

func (l *learning) Unwrap() http.ResponseWriter { return l.ResponseWriter }

func (l *learning) Write(text []byte) (int, error) {
	var tokens struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if json.Unmarshal(text, &tokens) == nil {
		l.proxy.secret(tokens.Access, tokens.Refresh)
	}
	return l.ResponseWriter.Write(text)
}

// secret remembers what must be shown nowhere.
func (s *stripeProxy) secret(all ...string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.secrets == nil {
		s.secrets = map[string]bool{}
	}
	for _, one := range all {
		if one != "" {
			s.secrets[one] = true
		}
	}
}

func (s *stripeProxy) count(path string) int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.calls[path]
}

// canary stands in the answers that tests make up, where Stripe's would hold a secret or quote one.
const canary = "canary8Zq3vT7w"

func (b *bench) noSecretShown() {
	b.t.Helper()
	b.stripe.secret(canary)
	for name, text := range map[string]string{"JSON log": b.log.String(), "text log": b.plain.String(), "answers": b.ends.String()} {
		for _, secret := range b.stripe.leaks(text) {
			b.t.Errorf("the %s: a secret is shown (%.8s…)", name, secret)
		}
	}
}

// leaks returns the secrets that text holds, as they are or in hex or base64.
func (s *stripeProxy) leaks(text string) []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var found []string
	for secret := range s.secrets {
		coded := base64.StdEncoding.EncodeToString([]byte(secret))
		for _, form := range []string{secret, hex.EncodeToString([]byte(secret)), strings.TrimRight(coded, "=")[:len(coded)-4]} {
			if strings.Contains(text, form) {
				found = append(found, secret)
				break
			}
		}
	}
	return found
}

// line is one entry of the log.
type line struct {
	Level, Msg, Code, Cause, Account, Method, Path string
}

// lines returns what an operator sees: all entries but those for debugging.
func (b *bench) lines() []line {
	b.t.Helper()
	var all []line
	for text := range strings.Lines(b.log.String()) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			b.t.Errorf("log line %q: %v", text, err)
		}
		if l.Level != "DEBUG" {
			all = append(all, l)
		}
	}
	return all
}

// oneLine returns the only entry so far.
func (b *bench) oneLine() line {
	b.t.Helper()
	all := b.lines()
	if len(all) != 1 {
		b.t.Fatalf("%d log lines, want one: %+v", len(all), all)
	}
	return all[0]
}

func (b *bench) merchants() int {
	b.t.Helper()
	var n int
	if err := b.pool.QueryRow(b.t.Context(), "SELECT count(*) FROM merchants").Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

// connected reports whether the account has a row.
func (b *bench) connected(account string) bool {
	b.t.Helper()
	_, err := db.New(b.pool).MerchantGetByStripeUserID(b.t.Context(), account)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		b.t.Fatal(err)
	}
	return err == nil
}

// browser is a client with cookies of its own that follows no redirect.
type browser struct {
	b      *bench
	client *http.Client
	from   string // what a trusted proxy says is its address; "" for that proxy's own
}

func (b *bench) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	transport := &http.Transport{}
	b.t.Cleanup(transport.CloseIdleConnections)
	return &browser{b: b, client: &http.Client{
		Jar: jar, Transport: transport, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// elsewhere is the browser at another address than all before.
func (c *browser) elsewhere() {
	number := addresses.Add(1)
	c.from = fmt.Sprintf("198.18.%d.%d", byte(number>>8), byte(number))
}

var addresses atomic.Uint32

type answer struct {
	status int
	header http.Header
	body   string
}

func (c *browser) get(path string) answer { return c.do(http.MethodGet, path) }

// do sends a request and checks what holds for every answer. path may be a whole address. header
// holds name, value …
func (c *browser) do(method, path string, header ...string) answer {
	c.b.t.Helper()
	got, err := c.try(c.b.t.Context(), method, path, header...)
	if err != nil {
		c.b.t.Fatalf("%s %s: %v", method, path, err)
	}
	return got
}

func (c *browser) try(ctx context.Context, method, path string, header ...string) (answer, error) {
	return c.send(ctx, method, path, nil, header...)
}

func (c *browser) send(ctx context.Context, method, path string, text io.Reader, header ...string) (answer, error) {
	if strings.HasPrefix(path, "/") {
		path = c.b.url + path
	}
	request, err := http.NewRequestWithContext(ctx, method, path, text)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	if c.from != "" {
		request.Header.Set("X-Forwarded-For", c.from)
	}
	response, err := c.client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	got := answer{response.StatusCode, response.Header, string(body)}
	if request.URL.Host == strings.TrimPrefix(c.b.url, "http://") {
		_, _ = c.b.ends.Write(append(body, '\n'))
		c.b.checkHeaders(got)
		c.b.conforms(method, request.URL.RequestURI(), got)
		for _, cookie := range response.Cookies() {
			c.b.stripe.secret(cookie.Value)
		}
	}
	return got, err
}

// checkHeaders holds for every answer of ours.
func (b *bench) checkHeaders(got answer) {
	b.t.Helper()
	policy := "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
	if _, style, is := strings.Cut(got.body, "<style>"); is { // the page to unsubscribe on
		style, _, _ = strings.Cut(style, "</style>")
		sum := sha256.Sum256([]byte(style))
		policy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
	}
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
		"Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
		"Content-Security-Policy": policy,
	} {
		if values := got.header.Values(name); len(values) != 1 || values[0] != want {
			b.t.Errorf("answer %d: %s: %q, want %q", got.status, name, values, want)
		}
	}
	if kind := got.header.Get("Content-Type"); got.status == http.StatusNoContent && kind == "" {
		return
	} else if kind != "application/json" && kind != "text/html; charset=utf-8" {
		b.t.Errorf("answer %d: Content-Type %q", got.status, kind)
	}
	if got.header.Get("Server") != "" {
		b.t.Errorf("answer %d names the server", got.status)
	}
}

// raw sends bytes on a connection of their own and returns every answer to them. The bytes must ask
// for the connection's end.
func (b *bench) raw(text string) []answer {
	b.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		b.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		b.t.Fatal(err)
	}
	method, rest, _ := strings.Cut(text, " ")
	target, _, _ := strings.Cut(rest, " HTTP/1.1\r\n")
	var all []answer
	for reader := bufio.NewReader(conn); ; {
		if _, err := reader.Peek(1); err != nil {
			return all
		}
		response, err := http.ReadResponse(reader, &http.Request{Method: method})
		if err != nil {
			b.t.Fatalf("%.80q: %v", text, err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			b.t.Fatalf("%.80q: %v", text, err)
		}
		_, _ = b.ends.Write(append(body, '\n'))
		all = append(all, answer{response.StatusCode, response.Header, string(body)})
		// What net/http refuses by itself is at no address of the document.
		if !strings.Contains(string(body), `"code":"malformed_request"`) && !slices.Contains([]int{417, 431, 501, 505}, response.StatusCode) {
			b.conforms(method, target, all[len(all)-1])
		}
	}
}

// begin goes to the authorize page's address.
func (c *browser) begin() *url.URL {
	c.b.t.Helper()
	got := c.get("/api/auth/stripe")
	if got.status != http.StatusFound {
		c.b.t.Fatalf("/api/auth/stripe: %d %s", got.status, got.body)
	}
	page, err := url.Parse(got.header.Get("Location"))
	if err != nil {
		c.b.t.Fatal(err)
	}
	c.b.stripe.secret(page.Query().Get("state"))
	return page
}

// decide lets the merchant answer on Stripe's page and returns the address that Stripe sends the
// browser to. query holds further parameters of the sandbox's.
func (c *browser) decide(page *url.URL, query ...string) *url.URL {
	c.b.t.Helper()
	values := page.Query()
	for i := 0; i < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	decision := *page
	decision.RawQuery = values.Encode()
	got := c.do(http.MethodGet, decision.String())
	back, err := url.Parse(got.header.Get("Location"))
	if err != nil || got.status != http.StatusFound {
		c.b.t.Fatalf("authorize page: %d %s", got.status, got.body)
	}
	c.b.stripe.secret(back.Query().Get("code"))
	return back
}

// arrive follows Stripe's redirect, also where PUBLIC_URL is another than the test's own address.
func (c *browser) arrive(back *url.URL) answer {
	c.b.t.Helper()
	return c.get(back.RequestURI())
}

// callback returns the callback's address as the sandbox gives it to a merchant who agrees.
func (c *browser) callback(query ...string) *url.URL {
	c.b.t.Helper()
	return c.decide(c.begin(), query...)
}

// handshake runs from the link to the answer.
func (c *browser) handshake(query ...string) answer {
	c.b.t.Helper()
	return c.arrive(c.callback(query...))
}

// wantError checks status, code and the whole shape of an error.
func (a answer) wantError(t *testing.T, status int, code string) {
	t.Helper()
	if a.status != status {
		t.Errorf("status %d, want %d: %s", a.status, status, a.body)
	}
	if kind := a.header.Get("Content-Type"); kind != "application/json" {
		t.Errorf("Content-Type %q", kind)
	}
	decoder := json.NewDecoder(strings.NewReader(a.body))
	decoder.DisallowUnknownFields()
	var shape struct {
		Status, Code, Message, Field *string
	}
	if err := decoder.Decode(&shape); err != nil || shape.Status == nil || shape.Code == nil || shape.Message == nil {
		t.Fatalf("not an error's shape: %s", a.body)
	}
	if *shape.Status != "error" || *shape.Code != code || *shape.Message == "" || !strings.HasPrefix(a.body, `{"status":"error","code":"`) {
		t.Errorf("got %s, want code %s", a.body, code)
	}
}

func (a answer) wantSuccess(t *testing.T) {
	t.Helper()
	if a.status != http.StatusOK || a.body != success || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("got %d %s, want 200 %s", a.status, a.body, success)
	}
}
