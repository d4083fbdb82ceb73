package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/vault"
)

// throughTCP listens on a loopback port, passes everything on to the server at databaseURL, and
// returns the URL that leads through it. A URL over TCP is returned as it is.
func throughTCP(t *testing.T, databaseURL string) string {
	t.Helper()
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(config.Host, "/") {
		return databaseURL
	}
	socket := fmt.Sprintf("%s/.s.PGSQL.%d", config.Host, config.Port)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			inner, err := listener.Accept()
			if err != nil {
				return
			}
			outer, err := net.Dial("unix", socket)
			if err != nil {
				_ = inner.Close()
				continue
			}
			go pipe(inner, outer)
		}
	}()
	return (&url.URL{Scheme: "postgres", User: url.User(config.User), Host: listener.Addr().String(), Path: "/" + config.Database, RawQuery: "sslmode=disable"}).String()
}

// pipe copies both ways until either side ends.
func pipe(a, b net.Conn) {
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(a, b); _ = a.Close() })
	both.Go(func() { _, _ = io.Copy(b, a); _ = b.Close() })
	both.Wait()
}

// stuck stands in for a Stripe that takes a code and never answers.
type stuck struct {
	url   string
	asked chan struct{} // closed when the first code has arrived
}

func stuckServer(t *testing.T) *stuck {
	t.Helper()
	s := &stuck{asked: make(chan struct{})}
	var once sync.Once
	ended := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /oauth/authorize", approve)
	mux.HandleFunc("POST /oauth/token", func(http.ResponseWriter, *http.Request) {
		once.Do(func() { close(s.asked) })
		<-ended
	})
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		close(ended)
		server.Close()
	})
	s.url = server.URL
	return s
}

// approve sends the browser back with a code, as Stripe does when the merchant has said yes.
func approve(w http.ResponseWriter, r *http.Request) {
	back, _ := url.Parse(r.FormValue("redirect_uri"))
	back.RawQuery = url.Values{"code": {"ac_1"}, "state": {r.FormValue("state")}}.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

func accessContext(account string) string { return "merchants.access_token:" + account }

// seedMerchants inserts merchants acct_0 … whose tokens are "sk_test_"+account and "rt_"+account.
func seedMerchants(t *testing.T, pool *pgxpool.Pool, count int) {
	t.Helper()
	columns := []string{"id", "stripe_user_id", "access_token", "refresh_token", "scope", "livemode"}
	if _, err := pool.CopyFrom(t.Context(), pgx.Identifier{"merchants"}, columns, pgx.CopyFromSlice(count, func(i int) ([]any, error) {
		account := fmt.Sprintf("acct_%d", i)
		return []any{
			uuid.Must(uuid.NewV7()), account, vault.NewToken(accessContext(account), "sk_test_"+account),
			vault.NewToken("merchants.refresh_token:"+account, "rt_"+account), "read_write", false,
		}, nil
	})); err != nil {
		t.Fatal(err)
	}
}

// reconnectingStripe stands in for Stripe where known merchants connect again and again, each time
// with tokens that end in a number of their own. It remembers the last one for each account.
type reconnectingStripe struct {
	url    string
	mutex  sync.Mutex
	issued int
	latest map[string]string
}

// newReconnectingStripe knows the accounts acct_0 to acct_<count-1>. Two callbacks never name one
// account at the same time.
func newReconnectingStripe(t *testing.T, count int) *reconnectingStripe {
	t.Helper()
	s := &reconnectingStripe{latest: make(map[string]string)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /oauth/authorize", approve)
	mux.HandleFunc("POST /oauth/token", func(w http.ResponseWriter, _ *http.Request) {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		s.issued++
		account, suffix := fmt.Sprintf("acct_%d", s.issued*7919%count), fmt.Sprintf("_again%d", s.issued)
		s.latest[account] = suffix
		_ = json.NewEncoder(w).Encode(map[string]any{
			"access_token": "sk_test_" + account + suffix, "refresh_token": "rt_" + account + suffix,
			"stripe_user_id": account, "scope": "read_write", "token_type": "bearer", "livemode": false,
		})
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// last returns the ending of the tokens that account got last, and whether it connected again at
// all.
func (s *reconnectingStripe) last(account string) (suffix string, again bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	suffix, again = s.latest[account]
	return suffix, again
}

func ringOf(t *testing.T, text string) *vault.Keyring {
	t.Helper()
	key, err := vault.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := vault.NewKeyring(key)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}
