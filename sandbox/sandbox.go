package sandbox

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// SecretKey is the platform's secret key where Config names no other.
	SecretKey = "sk_test_phantom_sandbox"
	// ClientID is the platform's Connect client id where Config names no other.
	ClientID = "ca_phantom_sandbox"
	// ResendKey is one of the keys that /resend/ accepts. It has the shape of Resend's own, as the
	// next two have of Twilio's.
	ResendKey = "re_sandbox1_000000000000000000000000"
	// TwilioSID is one of the accounts that /twilio/ accepts, and the one that a phone writes to
	// before anybody has used another.
	TwilioSID = "AC00000000000000000000000000000000"
	// TwilioToken is an auth token of any account.
	TwilioToken = "twiliosandbox0000000000000000000"

	// APIVersion is the version whose shapes are served, also where Stripe-Version asks for
	// another; but reads of invoices, charges and payment intents are answered in the shapes of
	// 2025-03-31.basil to who asks for that.
	APIVersion = "2023-10-16"

	maxBody     = 64 << 10
	maxEmail    = 1 << 20
	maxRequests = 10_000
)

// Config says which world to make. The zero value is usable.
type Config struct {
	// the platform's, the only one that is accepted; "" means SecretKey
	SecretKey string
	ClientID  string // the platform's Connect client id; "" means ClientID
	Seed      uint64 // same seed and clock, same world; 0 means 1
	Merchants int    // merchants in the world; 0 means 3
	// customers of each merchant; 0 means 120, which shows every kind at least once
	Customers int
	// customers of single merchants, by their number from 0, where they have not as many as others
	CustomersOf map[int]int
	// the first merchant's history has about so many charges, up to 1,000,000; 0 means what its
	// customers have
	Charges int
	// in place of Customers each merchant has so many, each with one failed invoice that can be
	// paid now, up to 1,000,000; 0 means none
	OpenInvoices int
	// requests a second and account beyond which /v1/ answers 429, by the wall clock; 0 means no
	// limit
	RateLimit int
	// all merchants number their customers, subscriptions, invoices … alike, so that only the
	// account tells them apart
	SameIDs bool
	Webhook Webhook // where events go; without a URL they go nowhere
	// issued tokens (hashed) and revocations, kept over restarts, written atomically, 0600; ""
	// keeps them in memory
	StateFile string
	// authorize shows a page to choose the merchant or deny; false approves at once as the first
	// merchant
	Consent bool
	// customers answer emails and SMS: a third of those whose card is dead for good take another
	// and pay within 48 hours
	Respond bool
	// Stripe itself writes to customers whose charge fails; with Respond they read it as any email
	StripeEmails bool
	Now          func() time.Time // the clock; nil means time.Now
}

func (c *Config) setDefaults() error {
	c.SecretKey = cmp.Or(c.SecretKey, SecretKey)
	c.ClientID = cmp.Or(c.ClientID, ClientID)
	if c.Seed == 0 {
		c.Seed = 1
	}
	if c.Merchants == 0 {
		c.Merchants = 3
	}
	if c.Customers == 0 {
		c.Customers = 120
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Merchants < 0 || c.Merchants > 1000 {
		return errors.New("the number of merchants must lie between 1 and 1000")
	}
	if c.RateLimit < 0 {
		return errors.New("the rate limit must not be negative")
	}
	if err := c.Webhook.validate(); err != nil {
		return err
	}
	if c.Charges < 0 || c.Charges > 1_000_000 {
		return errors.New("the number of charges must lie between 0 and 1000000")
	}
	if c.Customers < 0 || c.Customers > 1_000_000 {
		return errors.New("the number of customers must lie between 1 and 1000000")
	}
	for i, n := range c.CustomersOf {
		if i < 0 || i >= c.Merchants || n < 1 || n > 1_000_000 {
			return errors.New("CustomersOf must name merchants that exist, with 1 to 1000000 customers each")
		}
	}
	if c.OpenInvoices < 0 || c.OpenInvoices > 1_000_000 {
		return errors.New("the number of open invoices must lie between 0 and 1000000")
	}
	return nil
}

// Sandbox is an http.Handler that serves the paths of both connect.stripe.com and api.stripe.com.
// It is safe for concurrent use.
type Sandbox struct {
	cfg   Config
	mux   *http.ServeMux
	ahead atomic.Int64 // what AdvanceClock has added to Config.Now, in nanoseconds

	// guards everything below; never held while sleeping or writing to the network
	mu       sync.Mutex
	epoch    int64 // Unix time at which the generated past ends
	ids      []string
	accounts map[string]*account
	platform *account
	grants   grants
	keys     map[idemKey]*idemEntry
	executed map[string]int
	ledger   []Execution
	emails   []Email
	texts    []SMS
	optedOut map[texting]bool
	tokens   map[string]string // the auth token that each of Twilio's accounts last used
	faults   []*Fault
	armed    uint64 // faults so far, so that each has its own luck
	traffic  map[string]*traffic
	post     post
	log      []Request
	logged   uint64
	requests uint64
}

// New makes a sandbox. Merchants' objects are generated when first asked for, those of
// Config.Charges at once. It fails if cfg is out of range or its StateFile is unreadable, damaged
// or of another seed.
func New(cfg Config) (*Sandbox, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, fmt.Errorf("sandbox config: %w", err)
	}
	s := &Sandbox{
		cfg:      cfg,
		accounts: map[string]*account{},
		grants:   grants{tokens: map[string]*token{}, codes: map[string]*code{}},
		keys:     map[idemKey]*idemEntry{},
		executed: map[string]int{},
		optedOut: map[texting]bool{},
		tokens:   map[string]string{},
		traffic:  map[string]*traffic{},
		epoch:    cfg.Now().Truncate(time.Hour).Unix(),
	}
	if err := s.loadState(); err != nil {
		return nil, fmt.Errorf("sandbox state file: %w", err)
	}
	w := world{seed: cfg.Seed, epoch: s.epoch, customers: cfg.Customers, sameIDs: cfg.SameIDs, open: cfg.OpenInvoices,
		emails: cfg.StripeEmails, respond: cfg.Respond}
	s.platform = w.newAccount("platform", profile{Name: "PHANTOM", Country: "US", Currency: "usd", Zone: "UTC", MCC: "7372"})
	s.platform.loaded = true
	s.platform.tell = s.mail
	s.post = post{hook: cfg.Webhook, client: newPostClient(), closed: make(chan struct{})}
	for i := range cfg.Merchants {
		a := w.newAccount(fmt.Sprintf("merchant %d", i), profiles[i%len(profiles)])
		if n, differs := cfg.CustomersOf[i]; differs {
			a.world.customers = n
		}
		if i == 0 && cfg.Charges > 0 {
			a.bulk = cfg.Charges
			// they have fifteen charges or so each, and the history at least half
			a.world.customers = max(1, min(cfg.Customers, cfg.Charges/40))
		}
		a.tell = s.mail
		s.accounts[a.ID] = a
		s.ids = append(s.ids, a.ID)
	}
	if cfg.Charges > 0 { // nobody's first request should wait for it
		s.accounts[s.ids[0]].advance(cfg.Now().Unix())
	}
	s.routes()
	return s, nil
}

// Accounts lists the merchants' ids (acct_…), in an order that depends on the seed alone.
func (s *Sandbox) Accounts() []string { return append([]string(nil), s.ids...) }

// Request is one line of the log: no query, no body, no credential.
type Request struct {
	At             time.Time `json:"at"` // by the sandbox's clock
	Method         string    `json:"method"`
	Path           string    `json:"path"`
	Account        string    `json:"account"` // acct_… once the credential was accepted
	IdempotencyKey string    `json:"idempotency_key"`
	// 0 while in flight, or if the connection was dropped
	Status   int  `json:"status"`
	Replayed bool `json:"replayed"` // answered from the idempotency store
}

// Requests returns the last 10,000 requests in the order of their arrival.
func (s *Sandbox) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logged <= maxRequests {
		return append([]Request(nil), s.log...)
	}
	at := s.logged % maxRequests
	return append(append([]Request(nil), s.log[at:]...), s.log[:at]...)
}

// request is what the handlers see of one HTTP request.
type request struct {
	*http.Request
	id     string
	seq    uint64
	now    time.Time
	form   url.Values // query of a GET, body of a POST
	raw    []byte     // the body as it came
	acc    *account
	isPlat bool // platform key without Stripe-Account
	scope  string
	key    string
	fault  *Fault
	held   bool   // the fault has had its Hold and Delay
	target object // what a mutation is about; nil until it is known

	limited bool // too many in one second
}

// answer is a whole response, so that it can be stored, replayed, replaced or cut.
type answer struct {
	status int
	header http.Header
	body   []byte
	// writes the body, to be called without the lock; nil if body is it
	later    func() ([]byte, error)
	replayed bool
}

// recorder lets handlers be plain functions on the standard ServeMux: its own redirects and errors
// land here too.
type recorder struct {
	q      *request
	header http.Header
	status int
	body   bytes.Buffer
	answer *answer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

// handle registers a handler that turns a request into an answer.
func (s *Sandbox) handle(pattern string, h func(*request) answer) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		rec := w.(*recorder)
		rec.q.Request = r
		a := h(rec.q)
		rec.answer = &a
	})
}

// ServeHTTP answers one request. A fault that drops the connection panics with
// http.ErrAbortHandler, as net/http asks.
func (s *Sandbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/sandbox/") {
		s.control(w, r)
		return
	}
	q := s.admit(r)
	if q.limited {
		s.finish(w, q, rateLimited())
		return
	}
	if f := q.fault; f != nil && !f.After {
		q.hold()
		if !f.Store && (f.Drop || f.Reset || f.Status != 0) {
			s.finish(w, q, f.answer(q, answer{status: f.Status}))
			return
		}
	}
	a := s.dispatch(q)
	if f := q.fault; f != nil {
		q.hold()
		if f.After && (f.Status != 0 || f.Body != "") && !f.Store {
			a = f.answer(q, a)
		}
		if f.Rows > 0 && q.acc != nil {
			s.addRows(q.acc, f.Rows)
		}
	}
	s.finish(w, q, a)
}

func (s *Sandbox) admit(r *http.Request) *request {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := &request{Request: r, now: s.now(), key: r.Header.Get("Idempotency-Key"), seq: s.logged}
	s.requests++
	q.id = newRequestID(s.cfg.Seed, s.requests)
	entry := Request{At: q.now, Method: r.Method, Path: r.URL.Path, IdempotencyKey: q.key}
	if len(s.log) < maxRequests {
		s.log = append(s.log, entry)
	} else {
		s.log[s.logged%maxRequests] = entry
	}
	s.logged++
	account := s.whose(r)
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		q.limited = s.count(account)
	}
	if !q.limited {
		q.fault = s.takeFault(r, account)
	}
	return q
}

func newRequestID(seed, n uint64) string {
	return "req_" + base62(stream(seed, "request", n), 14)
}

func (s *Sandbox) dispatch(q *request) answer {
	isJSON := strings.HasPrefix(q.URL.Path, "/resend/")
	limit := int64(maxBody)
	if isJSON {
		limit = maxEmail
	}
	body, err := readBody(q.Request, limit)
	if err != nil {
		return apiError(http.StatusRequestEntityTooLarge, "invalid_request_error", "", "", "The request body is too large or broken off.")
	}
	q.form, q.raw = q.URL.Query(), body
	if q.Method != http.MethodGet && !isJSON {
		q.form, err = url.ParseQuery(string(body))
		if err != nil {
			return apiError(http.StatusBadRequest, "invalid_request_error", "", "", "Invalid request: the body is not form-encoded.")
		}
		if q.Method == http.MethodDelete { // clients differ in where its parameters go
			for name, values := range q.URL.Query() {
				q.form[name] = append(q.form[name], values...)
			}
		}
	}
	rec := &recorder{q: q, header: http.Header{}, status: http.StatusOK}
	s.mux.ServeHTTP(rec, q.Request)
	if rec.answer != nil {
		return *rec.answer
	}
	return answer{status: rec.status, header: rec.header, body: rec.body.Bytes()}
}

func readBody(r *http.Request, limit int64) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	var buf bytes.Buffer
	_, err := buf.ReadFrom(http.MaxBytesReader(nil, r.Body, limit))
	return buf.Bytes(), err
}

// finish writes the answer, with what the fault wants done to it.
func (s *Sandbox) finish(w http.ResponseWriter, q *request, a answer) {
	f := q.fault
	drop := f != nil && (f.Drop || f.Reset)
	s.mu.Lock()
	if s.logged-q.seq <= maxRequests {
		entry := &s.log[q.seq%maxRequests]
		entry.Replayed = a.replayed
		if q.acc != nil {
			entry.Account = q.acc.ID
		}
		if !drop {
			entry.Status = a.status
		}
	}
	s.mu.Unlock()
	if drop {
		if f.Reset {
			reset(w)
		}
		panic(http.ErrAbortHandler)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if !strings.HasPrefix(q.URL.Path, "/resend/") && !strings.HasPrefix(q.URL.Path, "/twilio/") {
		h.Set("Stripe-Version", APIVersion)
	}
	for name, values := range a.header {
		h[name] = values
	}
	h.Set("Request-Id", q.id)
	if q.key != "" && q.Method != http.MethodGet {
		h.Set("Idempotency-Key", q.key)
	}
	if f != nil {
		for name, values := range f.Header {
			h[http.CanonicalHeaderKey(name)] = values
		}
	}
	h.Set("Content-Length", fmt.Sprint(len(a.body)))
	w.WriteHeader(a.status)
	if f != nil && f.Truncate {
		_, _ = w.Write(a.body[:len(a.body)/2])
		// otherwise the abort below would take these bytes with it
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(a.body) // an error means that the client has left: nobody to tell
}

// credential is the API key of a request: Bearer, or the user of Basic.
func credential(r *http.Request) string {
	kind, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case strings.EqualFold(kind, "Bearer"):
		return strings.TrimSpace(value)
	case strings.EqualFold(kind, "Basic"):
		raw, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return ""
		}
		user, _, _ := strings.Cut(string(raw), ":")
		return user
	}
	return ""
}

func u64(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }
