package main

import (
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

	"phantom/db"
	"phantom/vault"
)

// throughTCP listens on a loopback port, passes everything on to the server at databaseURL, and returns the URL that leads
// through it. A URL over TCP is returned as it is.
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
	mux.HandleFunc("GET /oauth/authorize", func(w http.ResponseWriter, r *http.Request) {
		back, _ := url.Parse(r.FormValue("redirect_uri"))
		back.RawQuery = url.Values{"code": {"ac_1"}, "state": {r.FormValue("state")}}.Encode()
		http.Redirect(w, r, back.String(), http.StatusFound)
	})
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

func accessContext(account string) string { return "merchants.access_token:" + account }

// seedMerchants inserts merchants acct_0 … whose tokens are "sk_"+account and "rt_"+account.
func seedMerchants(t *testing.T, pool *pgxpool.Pool, count int) {
	t.Helper()
	columns := []string{"id", "stripe_user_id", "access_token", "refresh_token", "scope", "livemode"}
	if _, err := pool.CopyFrom(t.Context(), pgx.Identifier{"merchants"}, columns, pgx.CopyFromSlice(count, func(i int) ([]any, error) {
		account := fmt.Sprintf("acct_%d", i)
		return []any{
			uuid.Must(uuid.NewV7()), account, vault.NewToken(accessContext(account), "sk_"+account),
			vault.NewToken("merchants.refresh_token:"+account, "rt_"+account), "read_write", false,
		}, nil
	})); err != nil {
		t.Fatal(err)
	}
}

// countReadable opens both tokens of every seeded merchant and of those that came by a handshake.
func countReadable(t *testing.T, rows pgx.Rows) int {
	t.Helper()
	merchants, err := pgx.CollectRows(rows, pgx.RowToStructByPos[db.Merchant])
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range merchants {
		access, err := m.AccessToken.Reveal(accessContext(m.StripeUserID))
		if err != nil {
			t.Fatal(err)
		}
		refresh, err := m.RefreshToken.Reveal("merchants.refresh_token:" + m.StripeUserID)
		if err != nil {
			t.Fatal(err)
		}
		seeded := access == "sk_"+m.StripeUserID && refresh == "rt_"+m.StripeUserID
		connected := strings.HasPrefix(access, "sk_test_") && strings.HasPrefix(refresh, "rt_")
		if !seeded && !connected {
			t.Errorf("%s came back changed", m.StripeUserID)
		}
	}
	return len(merchants)
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
