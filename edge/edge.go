// Package edge is a sidecar: it answers who may keep access beside the merchant's app, from a copy
// that a server's stream of changes keeps up. While the server is away it goes on answering.
package edge

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"
	"github.com/tmaxmax/go-sse"

	"phantom/shield"
	"phantom/verdict"
)

// Config is what an edge needs.
type Config struct {
	Upstream string // a server's or another edge's URL
	Key      string // of scope shield: the app asks with it, too
	Log      *slog.Logger
}

// Edge follows an upstream.
type Edge struct {
	config   Config
	upstream *url.URL
	client   *http.Client
	table    *verdict.Table
	merchant uuid.UUID // zero: nothing is known yet
}

// New returns an edge that [Edge.Run] runs. Its error says what is wrong with the configuration.
func New(config Config) (*Edge, error) {
	upstream, err := url.Parse(config.Upstream)
	switch {
	case err != nil || upstream.Scheme != "http" && upstream.Scheme != "https" || upstream.Host == "" || upstream.RawQuery != "" ||
		strings.Trim(upstream.Path, "/") != "" || upstream.User != nil:
		return nil, errors.New("the upstream must be a URL such as https://phantom.example")
	case !strings.HasPrefix(config.Key, "phs_"):
		return nil, errors.New("the key must be one of scope shield, phs_…: phantom apikey create --scope shield makes one")
	}
	return &Edge{
		config: config, upstream: upstream, table: verdict.NewTable(),
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:       http.ProxyFromEnvironment,
				DialContext: (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 10 * time.Second}).DialContext, TLSHandshakeTimeout: 5 * time.Second,
				ResponseHeaderTimeout: 10 * time.Second, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 1,
			},
			// The key is for this host alone.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Insecure says whether the key travels in the clear to another machine.
func (e *Edge) Insecure() bool {
	ip := net.ParseIP(e.upstream.Hostname())
	return e.upstream.Scheme == "http" && e.upstream.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback())
}

// silence is for how long a stream may say nothing: a server says each second that it lives.
const silence = 5 * time.Second

// errRefused says that the upstream does not take the key.
var errRefused = errors.New("the upstream does not take the key: it is unknown, revoked or expired there")

// Run follows the upstream until ctx ends.
func (e *Edge) Run(ctx context.Context) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 100*time.Millisecond, 5*time.Second
	lost, refused := false, false
	for ctx.Err() == nil {
		err := e.follow(ctx, func() {
			wait.Reset()
			if lost || refused {
				lost, refused = false, false
				e.config.Log.Info("[SERVER] the upstream is followed again")
			}
		})
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errRefused):
			if !refused {
				refused = true
				e.table.SetKeys(uuid.Nil, nil) // revoked there is revoked here
				e.config.Log.Error("[SECURITY] nobody is answered any more", "cause", err)
			}
		case !lost:
			lost = true
			e.config.Log.Warn("[SERVER] the upstream cannot be followed: what is known is answered until then", "cause", err)
		}
		timer := time.NewTimer(wait.NextBackOff())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// follow follows one stream to its end.
func (e *Edge) follow(ctx context.Context, followed func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	quiet := time.AfterFunc(15*time.Second, cancel) // for the first event
	defer quiet.Stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, e.upstream.JoinPath("/api/shield/changes").String(), nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+e.config.Key)
	r.Header.Set("Accept", "text/event-stream")
	if e.merchant != uuid.Nil {
		r.Header.Set("Last-Event-ID", e.table.Epoch()+"."+strconv.FormatInt(e.table.Revision(e.merchant), 10))
	}
	response, err := e.client.Do(r)
	if err != nil {
		var detail *url.Error
		if errors.As(err, &detail) { // its text quotes the address
			err = detail.Err
		}
		return err
	}
	defer func() { _ = response.Body.Close() }()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return errRefused
	case http.StatusConflict:
		e.table.Describe(shield.Tenant{ID: e.merchant, Disconnected: true}) // here as there
		return errors.New("the merchant has disconnected")
	default:
		return fmt.Errorf("the upstream answers %d", response.StatusCode)
	}
	stream := &stream{edge: e, followed: followed}
	for event, err := range sse.Read(response.Body, &sse.ReadConfig{MaxEventSize: 8 << 20}) {
		if err != nil {
			return err
		}
		quiet.Reset(silence)
		if err := stream.take(event); err != nil {
			return err
		}
	}
	return errors.New("the upstream has ended the stream")
}

// stream is one stream from the upstream.
type stream struct {
	edge     *Edge
	followed func()
	tenant   shield.Tenant
	epoch    string
	whole    bool
	loading  []shield.Row
	loaded   bool
}

func (s *stream) take(event sse.Event) error {
	switch event.Type {
	case "tenant":
		return s.begin(event.Data)
	case "rows":
		var rows []shield.Row
		if err := json.Unmarshal([]byte(event.Data), &rows); err != nil {
			return fmt.Errorf("the upstream's rows cannot be read: %w", err)
		}
		if !s.loaded {
			s.loading = append(s.loading, rows...)
			return nil
		}
		_, number, _ := strings.Cut(event.LastEventID, ".")
		revision, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return errors.New("the upstream's revision cannot be read")
		}
		s.edge.table.Apply(s.tenant.ID, revision, rows)
		return nil
	case "loaded":
		return s.load()
	case "alive":
		var alive struct {
			Age int64 `json:"age_ms"`
		}
		if err := json.Unmarshal([]byte(event.Data), &alive); err != nil {
			return fmt.Errorf("the upstream's age cannot be read: %w", err)
		}
		s.edge.table.SyncedAgo(time.Duration(alive.Age) * time.Millisecond)
	}
	return nil // of a newer server
}

func (s *stream) begin(data string) error {
	// An older server leaves out what it does not know.
	news := verdict.TenantNews{Policy: shield.Default()}
	if err := json.Unmarshal([]byte(data), &news); err != nil {
		return fmt.Errorf("the upstream's merchant cannot be read: %w", err)
	}
	id, err := uuid.Parse(news.ID)
	if err != nil {
		return fmt.Errorf("the upstream's merchant cannot be read: %w", err)
	}
	s.tenant = shield.Tenant{
		ID: id, Account: news.Account, Livemode: news.Livemode, Policy: news.Policy, Version: news.Version, Revision: news.Revision,
	}
	s.epoch, s.whole = news.Epoch, news.Whole
	return nil
}

func (s *stream) load() error {
	if s.tenant.ID == uuid.Nil {
		return errors.New("the upstream has not said who the merchant is")
	}
	e := s.edge
	if s.whole {
		if err := e.table.Load(s.epoch, []shield.Tenant{s.tenant}, true, func(add func(uuid.UUID, shield.Row)) error {
			for _, row := range s.loading {
				add(s.tenant.ID, row)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	e.table.Describe(s.tenant)
	s.loading, s.loaded, e.merchant = nil, true, s.tenant.ID
	hash := sha256.Sum256([]byte(e.config.Key))
	e.table.SetKeys(uuid.Nil, []shield.TenantKey{{Merchant: s.tenant.ID, ID: s.tenant.ID, Hash: hash[:]}})
	s.followed()
	return nil
}

// Serve answers on listener until ctx ends.
func (e *Edge) Serve(ctx context.Context, listener net.Listener) error {
	draining := ctx.Done()
	server := &http.Server{
		Handler: verdict.New(verdict.Config{Table: e.table, PublicURL: "http://" + listener.Addr().String(), Draining: func() bool {
			select {
			case <-draining:
				return true
			default:
				return false
			}
		}}),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 120 * time.Second,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(e.config.Log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return server.Shutdown(stopping)
}
