// Package connect knows who a merchant is. It runs the OAuth handshake with Stripe, keeps the
// tokens it gives (sealed, through package db) and reads the account's facts. It is the one place
// that reveals a merchant's token.
package connect

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stripe/stripe-go/v76"

	"phantom/db"
)

// Config is the platform's side of Stripe Connect.
type Config struct {
	SecretKey   string // the platform's sk_… or rk_…
	ClientID    string // ca_…
	APIBase     string // "" is api.stripe.com
	ConnectBase string // "" is connect.stripe.com
	RedirectURI string // PUBLIC_URL/api/auth/callback
	RateLimit   int    // reading requests a second and account; 0 = no limit
	// how long a read is repeated while Stripe fails or asks to slow down; 0 is 90 seconds
	Patience time.Duration
	// how long a statement may take while somebody waits for it; 0 is 4 seconds. Storing the tokens
	// of a spent code is tried for twice as long
	DatabaseTimeout time.Duration
	Accounts        []string // acct_… that may connect; none: any may
	Log             *slog.Logger

	Now func() time.Time // the wall clock; nil is time.Now. A simulation sets its own

	Transport http.RoundTripper // nil is the network. A simulation sets its own

	// Observe, if not nil, is called after each request to Stripe with the answer's status, 0 for
	// none, and how long it took until its header was there. Waited, if not nil, is called with how
	// long a request waited for the account's pace. Both must be quick.
	Observe func(status int, took time.Duration)
	Waited  func(took time.Duration)

	// Connected, if not nil, is called in the transaction that stores a merchant's tokens.
	Connected func(ctx context.Context, tx db.DBTX, merchantID uuid.UUID) error
}

// Service runs handshakes. It is safe for concurrent use.
type Service struct {
	config  Config
	pool    *pgxpool.Pool
	queries *db.Queries
	api     stripe.Backend
	oauth   stripe.Backend
	live    bool

	// Lists are read past the backends: they build the requests and understand the refusals, and a
	// client of our own sends.
	builder *stripe.BackendImplementation
	reads   *http.Client

	mutations *http.Client // one HTTP attempt each: whether there is another is the task's to say

	pacesMutex sync.Mutex
	paces      map[uuid.UUID]*pace

	memoryMutex sync.Mutex
	memories    map[uuid.UUID]memory
}

// databaseTimeout is how long a statement may take while somebody waits for it.
func (c Config) databaseTimeout() time.Duration { return cmp.Or(c.DatabaseTimeout, 4*time.Second) }

// storeTimeout bounds the storing of tokens, tries and all: their code is spent, so that they are
// worth a longer wait. By default it stays, with the exchange, below what a stop waits for.
func (c Config) storeTimeout() time.Duration { return 2 * c.databaseTimeout() }

// One HTTP attempt to Stripe takes this long at most. A handshake makes two.
const stripeTimeout = 10 * time.Second

// New returns a Service over pool.
func New(config Config, pool *pgxpool.Pool) *Service {
	if config.Now == nil {
		config.Now = time.Now
	}
	transport := func() http.RoundTripper {
		if config.Transport != nil {
			return config.Transport
		}
		return newTransport()
	}
	api := backend(stripe.APIBackend, config.APIBase, observed{capped{transport(), maxAnswer}, config.Observe})
	return &Service{
		config:  config,
		pool:    pool,
		queries: db.New(pool),
		api:     api,
		oauth:   backend(stripe.ConnectBackend, config.ConnectBase, observed{capped{sendOnce{transport()}, maxAnswer}, config.Observe}),
		builder: api.(*stripe.BackendImplementation),
		reads:   client(observed{capped{transport(), maxPage}, config.Observe}),

		mutations: client(observed{capped{noReplay{transport()}, maxAnswer}, config.Observe}),
		paces:     make(map[uuid.UUID]*pace),
		memories:  make(map[uuid.UUID]memory),
		live:      IsLive(config.SecretKey),
	}
}

// backend is one host of Stripe's. It never retries, because stripe-go would sleep without regard
// to the context and send a single-use code again; it sends no telemetry; and it logs nothing,
// because its log holds whole bodies.
func backend(kind stripe.SupportedBackend, base string, transport http.RoundTripper) stripe.Backend {
	config := &stripe.BackendConfig{
		HTTPClient:        client(transport),
		MaxNetworkRetries: stripe.Int64(0),
		EnableTelemetry:   stripe.Bool(false),
		LeveledLogger:     &stripe.LeveledLogger{Level: stripe.LevelNull},
	}
	if base != "" {
		config.URL = stripe.String(base)
	}
	return stripe.GetBackendWithConfig(kind, config)
}

func client(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     transport,
		Timeout:       stripeTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
