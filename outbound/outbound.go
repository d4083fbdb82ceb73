// Package outbound tells merchants' apps what has happened, by Standard Webhooks: signed requests
// to addresses that a merchant has named, each tried for three days.
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
package outbound

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"code.dny.dev/ssrf"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db"
	"phantom/input"
	"phantom/task"
	"phantom/trail"
	"phantom/vault"
)

// ErrNotFound says that the merchant has no such object.
var ErrNotFound = errors.New("not found")

// KindDeliver is the kind of the task that delivers one event to one endpoint. Its id is the
// delivery's.
const KindDeliver = "event_deliver"

// Types are all events that there are.
var Types = []string{
	"access.changed", "access.held", "access.released", "audit.finished", "ghost.closed", "ghost.opened", "hunt.ended", "hunt.recovered",
	"shield.stale",
}

// testType is the event of a test.
const testType = "endpoint.test"

// Config is what the service needs to know of the world.
type Config struct {
	Log *slog.Logger
	Dev bool // endpoints may be at this machine
	// Sign returns what signs beside each endpoint's own secret; nil: nothing does
	Sign func(ctx context.Context) (ed25519.PrivateKey, error)
	// how many deliveries are on their way at once in this process, half of them one merchant's;
	// 0 is 4
	AtOnce int
}

// Service delivers. It is safe for concurrent use.
type Service struct {
	pool    *pgxpool.Pool
	queries *db.Queries
	config  Config
	client  *http.Client
	slots   *slots
}

// New returns a Service over pool.
func New(pool *pgxpool.Pool, config Config) *Service {
	// Where a name leads is looked at when the connection is made, each time.
	options := []ssrf.Option{ssrf.WithPorts(80, 443, 8443)}
	if config.Dev {
		options = []ssrf.Option{ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(netip.MustParsePrefix("127.0.0.0/8")), ssrf.WithAllowedV6Prefixes(netip.MustParsePrefix("::1/128"))}
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second, Control: ssrf.New(options...).Safe}
	return &Service{
		pool: pool, queries: db.New(pool), config: config, slots: newSlots(cmp.Or(config.AtOnce, 4)),
		client: &http.Client{
			Timeout: 10 * time.Second,
			Transport: &http.Transport{
				DialContext: dialer.DialContext, TLSHandshakeTimeout: 5 * time.Second, ResponseHeaderTimeout: 10 * time.Second,
				DisableKeepAlives: true, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 16 << 10,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Handlers are the kinds of tasks that this package does.
func (s *Service) Handlers() map[string]task.Handler {
	return map[string]task.Handler{KindDeliver: s.HandleDeliver}
}

// Endpoint is where a merchant's app hears.
type Endpoint struct {
	ID           uuid.UUID  `json:"id"`
	URL          string     `json:"url"`
	Types        []string   `json:"types"` // none: all
	CreatedAt    time.Time  `json:"created_at"`
	DisabledAt   *time.Time `json:"disabled_at"`
	DisabledWhy  *string    `json:"disabled_why"`
	SigningToken string     `json:"secret,omitempty"` // whsec_…, shown this once
}

// mostEndpoints bounds what one event costs.
const mostEndpoints = 20

// Create adds an endpoint, and returns it with its secret. A fault of the input is a
// [*input.FieldError].
func (s *Service) Create(ctx context.Context, merchantID uuid.UUID, address string, types []string) (Endpoint, error) {
	if err := s.checkURL(address); err != nil {
		return Endpoint{}, err
	}
	for i, kind := range types {
		if !slices.Contains(Types, kind) || slices.Contains(types[:i], kind) {
			return Endpoint{}, input.Wrong("types", "must be some of "+strings.Join(Types, ", ")+", each once")
		}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Endpoint{}, fmt.Errorf("make id: %w", err)
	}
	var raw [24]byte
	_, _ = rand.Read(raw[:]) // never fails since Go 1.24
	e := Endpoint{ID: id, URL: address, Types: append([]string{}, types...), SigningToken: "whsec_" + base64.StdEncoding.EncodeToString(raw[:])}
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		if err := queries.MerchantLock(ctx, merchantID); err != nil {
			return err
		}
		e.CreatedAt, err = queries.EndpointCreate(ctx, db.EndpointCreateParams{
			MerchantID: merchantID, ID: id, Url: address, Types: e.Types, Secret: vault.NewToken(secretContext(id), e.SigningToken), Most: mostEndpoints,
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return input.Wrong("url", fmt.Sprintf("would be one too many: there may be %d endpoints", mostEndpoints))
		}
		if err != nil {
			return fmt.Errorf("store endpoint: %w", err)
		}
		return trail.Record(ctx, tx, trail.Change{Merchant: merchantID, Action: "endpoint.create", Object: id.String()})
	})
	e.CreatedAt = e.CreatedAt.UTC()
	return e, err
}

func secretContext(id uuid.UUID) string { return "event_endpoints.secret:" + id.String() }

// checkURL says what is wrong with an address. Where it leads is looked at when it is used.
func (s *Service) checkURL(address string) error {
	parsed, err := url.Parse(address)
	switch {
	case err != nil || len(address) > 2000 || parsed.Host == "" || parsed.User != nil || parsed.Fragment != "" ||
		parsed.Scheme != "https" && (!s.config.Dev || parsed.Scheme != "http"):
		return input.Wrong("url", "must be an address such as https://app.example/hooks, without a password in it")
	}
	return nil
}

// List returns a merchant's endpoints, the oldest first.
func (s *Service) List(ctx context.Context, merchantID uuid.UUID) ([]Endpoint, error) {
	rows, err := s.queries.EndpointList(ctx, merchantID)
	if err != nil {
		return nil, fmt.Errorf("list endpoints: %w", err)
	}
	all := make([]Endpoint, len(rows))
	for i, row := range rows {
		all[i] = Endpoint{ID: row.ID, URL: row.Url, Types: row.Types, CreatedAt: row.CreatedAt.UTC(), DisabledAt: utc(row.DisabledAt), DisabledWhy: row.DisabledWhy}
	}
	return all, nil
}

// Delete ends an endpoint, with what it has not heard yet.
func (s *Service) Delete(ctx context.Context, merchantID, id uuid.UUID) error {
	return db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		gone, err := db.New(tx).EndpointDelete(ctx, db.EndpointDeleteParams{MerchantID: merchantID, ID: id})
		if err != nil {
			return fmt.Errorf("delete endpoint: %w", err)
		}
		if gone == 0 {
			return ErrNotFound
		}
		return trail.Record(ctx, tx, trail.Change{Merchant: merchantID, Action: "endpoint.delete", Object: id.String()})
	})
}

// Test sends an endpoint an event of type endpoint.test, and returns the delivery's id.
func (s *Service) Test(ctx context.Context, merchantID, id uuid.UUID) (delivery uuid.UUID, err error) {
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		there, err := db.New(tx).EndpointExists(ctx, db.EndpointExistsParams{MerchantID: merchantID, ID: id})
		if err != nil {
			return fmt.Errorf("find endpoint: %w", err)
		}
		if !there {
			return ErrNotFound
		}
		body, err := bodyOf(ctx, tx, merchantID, testType, struct{}{})
		if err != nil {
			return err
		}
		if delivery, err = send(ctx, tx, merchantID, id, testType, body); err != nil {
			return err
		}
		return trail.Record(ctx, tx, trail.Change{Merchant: merchantID, Action: "endpoint.test", Object: id.String()})
	})
	return delivery, err
}

// Delivery is one event on its way to one endpoint.
type Delivery struct {
	ID         uuid.UUID  `json:"id"` // webhook-id is msg_ and this
	Type       string     `json:"type"`
	State      string     `json:"state"` // pending, delivered or failed
	Attempts   int32      `json:"attempts"`
	Status     *int32     `json:"status"` // of the last answer; null: there was none
	Why        *string    `json:"why"`
	CreatedAt  time.Time  `json:"created_at"`
	FinishedAt *time.Time `json:"finished_at"`
}

// Deliveries returns a page of an endpoint's, the newest first, and the id behind which the next
// page begins, which is zero on the last.
func (s *Service) Deliveries(ctx context.Context, merchantID, endpoint, before uuid.UUID, limit int) (all []Delivery, next uuid.UUID, err error) {
	there, err := s.queries.EndpointExists(ctx, db.EndpointExistsParams{MerchantID: merchantID, ID: endpoint})
	if err != nil {
		return nil, uuid.Nil, fmt.Errorf("find endpoint: %w", err)
	}
	if !there {
		return nil, uuid.Nil, ErrNotFound
	}
	rows, err := s.queries.DeliveryList(ctx, db.DeliveryListParams{MerchantID: merchantID, EndpointID: endpoint, BeforeID: cmp.Or(before, uuid.Max), Page: int32(limit) + 1})
	if err != nil {
		return nil, uuid.Nil, fmt.Errorf("list deliveries: %w", err)
	}
	if len(rows) > limit { // the one too many says that there is more
		rows = rows[:limit]
		next = rows[limit-1].ID
	}
	all = make([]Delivery, 0, len(rows))
	for _, row := range rows {
		all = append(all, Delivery{row.ID, row.Type, row.State, row.Attempts, row.Status, row.Why, row.CreatedAt.UTC(), utc(row.FinishedAt)})
	}
	return all, next, nil
}

// Emit tells all endpoints that want it of an event, in the transaction that makes it. data holds
// ids, levels and amounts, and nothing that names a person.
func (s *Service) Emit(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, kind string, data any) error {
	endpoints, err := db.New(tx).EndpointListFor(ctx, db.EndpointListForParams{MerchantID: merchantID, Type: kind})
	if err != nil {
		return fmt.Errorf("list endpoints: %w", err)
	}
	if len(endpoints) == 0 {
		return nil
	}
	body, err := bodyOf(ctx, tx, merchantID, kind, data)
	if err != nil {
		return err
	}
	for _, endpoint := range endpoints {
		if _, err := send(ctx, tx, merchantID, endpoint, kind, body); err != nil {
			return err
		}
	}
	return nil
}

// event is the body of a request.
type event struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Account   string    `json:"account"` // acct_…: v1a is by one key for all merchants
	Data      any       `json:"data"`
}

func bodyOf(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, kind string, data any) ([]byte, error) {
	of, err := db.New(tx).EventContext(ctx, merchantID)
	if err != nil {
		return nil, fmt.Errorf("read account: %w", err)
	}
	body, err := json.Marshal(event{kind, of.Now.UTC(), of.Account, data})
	if err != nil {
		return nil, fmt.Errorf("marshal event: %w", err)
	}
	return body, nil
}

// send has one event delivered to one endpoint.
func send(ctx context.Context, tx db.DBTX, merchantID, endpoint uuid.UUID, kind string, body []byte) (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("make id: %w", err)
	}
	if err := db.New(tx).DeliveryCreate(ctx, db.DeliveryCreateParams{MerchantID: merchantID, ID: id, EndpointID: endpoint, Type: kind, Body: body}); err != nil {
		return uuid.Nil, fmt.Errorf("store delivery: %w", err)
	}
	_, err = task.Enqueue(ctx, tx, task.New{MerchantID: merchantID, Kind: KindDeliver, ID: id})
	return id, err
}

// Forget gives up what has waited for too long, and drops deliveries that ended a month ago. It is
// for every day.
func (s *Service) Forget(ctx context.Context, merchantID uuid.UUID) error {
	if _, err := s.queries.DeliveryGiveUp(ctx, merchantID); err != nil {
		return fmt.Errorf("give deliveries up: %w", err)
	}
	if _, err := s.queries.DeliveryForget(ctx, merchantID); err != nil {
		return fmt.Errorf("forget deliveries: %w", err)
	}
	return nil
}

func utc(at *time.Time) *time.Time {
	if at == nil {
		return nil
	}
	moved := at.UTC()
	return &moved
}
