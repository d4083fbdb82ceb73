package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stripe/stripe-go/v76/webhook"

	"phantom/connect"
	"phantom/db"
	"phantom/db/dbtest"
	"phantom/vault"
)

// Floods against the real binary, each alone and measured on what another tenant sees meanwhile:
// bodies that look signed, half headers, summaries of one key, unsubscribing, callbacks. The short
// form shows that nothing breaks; make soak-floods has the figures.
func TestFloods(t *testing.T) {
	t.Parallel()
	long := os.Getenv("PHANTOM_LONG") != ""
	of := func(short, all int) int {
		if long {
			return all
		}
		return short
	}
	url := dbtest.URL(t)
	env := production(t, url)
	env["STRIPE_WEBHOOK_SECRET"] = floodSecret
	server, base := ready(t, env)
	handshake(t, base)
	f := &floods{t: t, base: base, pool: dbtest.Open(t, url, dbtest.Ring(t)), env: env, pid: server.command.Process.Pid, long: long}
	f.fill(of(2000, 1_000_000), of(1000, 300_000))

	f.measure("nothing", func() { time.Sleep(2 * time.Second) })
	header := fmt.Sprintf("t=%%d,v1=%s", strings.Repeat("ab", 32))
	large := strings.Repeat("x", 1<<20)
	for range of(1, 3) {
		f.measure("signed-looking bodies", func() {
			f.inParallel(of(60, 600), of(60, 600), func(int) {
				_, _ = f.ask(f.alone(), "POST", "/api/webhooks/stripe", large, "Stripe-Signature", fmt.Sprintf(header, time.Now().Unix()))
			})
		})
	}
	f.measure("half headers", func() {
		var open []net.Conn
		address := strings.TrimPrefix(base, "http://")
		for range of(300, 5000) {
			conn, err := net.DialTimeout("tcp", address, 5*time.Second)
			if err != nil {
				t.Error(err)
				break
			}
			_, _ = io.WriteString(conn, "GET /api/summary HTTP/1.1\r\nHost: phantom\r\nX-Half: "+strings.Repeat("x", 4000))
			open = append(open, conn)
		}
		time.Sleep(time.Second)
		for _, conn := range open {
			_ = conn.Close()
		}
	})
	f.measure("summaries of one key", func() {
		f.inParallel(of(100, 2000), 100, func(int) {
			_, _ = f.ask(f.alone(), "GET", "/api/summary", "", "Authorization", "Bearer "+f.greedy)
		})
	})
	f.measure("unsubscribing", func() {
		f.inParallel(of(60, 600), 60, func(i int) {
			if status, err := f.ask(f.alone(), "POST", "/u/"+f.tokens[i%len(f.tokens)], ""); err != nil || status != http.StatusOK {
				t.Errorf("unsubscribe: %d %v", status, err)
			}
		})
	})
	f.measure("callbacks", func() {
		f.inParallel(of(500, 20_000), 50, func(int) {
			_, _ = f.ask(http.DefaultClient, "GET", "/api/auth/callback?state=x&code=y", "")
		})
	})
	if n := strings.Count(server.stdout.String(), "handshake refused"); n == 0 || n > 5 {
		t.Errorf("%d lines of refused handshakes", n)
	}
}

const floodSecret = "whsec_floods"

type floods struct {
	t      *testing.T
	base   string
	pool   *pgxpool.Pool
	env    map[string]string
	pid    int
	long   bool
	greedy string   // a key
	other  string   // another one's
	of     string   // whose account
	tokens []string // to unsubscribe
}

// fill gives the merchant who has connected a crowd of ghosts and sent messages, and makes another
// one with a few.
func (f *floods) fill(ghosts, messages int) {
	f.t.Helper()
	ctx := f.t.Context()
	queries := db.New(f.pool)
	var crowd uuid.UUID
	var account string
	if err := f.pool.QueryRow(ctx, "SELECT id, stripe_user_id FROM merchants").Scan(&crowd, &account); err != nil {
		f.t.Fatal(err)
	}
	f.of = "acct_other"
	access := vault.NewToken("merchants.access_token:"+f.of, "sk_test_other")
	other, err := queries.MerchantCreate(ctx, db.MerchantCreateParams{ID: uuid.Must(uuid.NewV7()), StripeUserID: f.of, AccessToken: &access, Scope: "read_write"})
	if err != nil {
		f.t.Fatal(err)
	}
	for merchant, n := range map[uuid.UUID]int{crowd: ghosts, other: 100} {
		f.exec(`INSERT INTO ghost_targets (merchant_id, id, stripe_customer_id, stripe_subscription_id, stripe_invoice_id, amount, currency, rule)
			SELECT $1, gen_random_uuid(), 'cus_' || i, 'sub_' || i, 'in_' || i, i % 9000 + 1, (ARRAY['usd', 'eur'])[i % 2 + 1], 'unpaid'
			FROM generate_series(1, $2::integer) i`, merchant, n)
	}
	f.exec(`INSERT INTO messages (merchant_id, id, hunt_id, step, channel, template, person, persons, state, planned_for, sent_at)
		SELECT $1, gen_random_uuid(), gen_random_uuid(), 0, 'email', 'reminder', p, ARRAY[p], 'sent', now(), now()
		FROM (SELECT sha256(convert_to('person ' || i, 'UTF8')) AS p FROM generate_series(1, $2::integer) i) AS persons`, crowd, messages)
	f.exec("ANALYZE")
	hash, err := connect.New(connect.Config{}, f.pool).Hasher(ctx, crowd)
	if err != nil {
		f.t.Fatal(err)
	}
	for i := range 60 {
		var person []byte
		if err := f.pool.QueryRow(ctx, "SELECT sha256(convert_to('person ' || $1::integer, 'UTF8'))", i+1).Scan(&person); err != nil {
			f.t.Fatal(err)
		}
		token := append(append(crowd[:], person...), hash("unsubscribe", hex.EncodeToString(person))[:16]...)
		f.tokens = append(f.tokens, base64.RawURLEncoding.EncodeToString(token))
	}
	f.greedy, f.other = f.key(account), f.key(f.of)
}

func (f *floods) exec(statement string, args ...any) {
	f.t.Helper()
	if _, err := f.pool.Exec(f.t.Context(), statement, args...); err != nil {
		f.t.Fatal(err)
	}
}

func (f *floods) key(account string) string {
	f.t.Helper()
	p := start(f.t, f.env, []string{"apikey", "create", "--merchant", account})
	if code := p.wait(f.t); code != 0 {
		f.t.Fatalf("%s%s", p.stdout, p.stderr)
	}
	return strings.TrimSpace(p.stdout.String())
}

func (f *floods) inParallel(n, at int, do func(i int)) {
	next := make(chan int)
	var all sync.WaitGroup
	for range at {
		all.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
}

// alone is a client with a connection of its own.
func (f *floods) alone() *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
}

func (f *floods) ask(client *http.Client, method, path, body string, header ...string) (int, error) {
	request, err := http.NewRequestWithContext(context.WithoutCancel(f.t.Context()), method, f.base+path, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode, nil
}

// measure asks on behalf of the other tenant for as long as a flood lasts: its list, an event of
// Stripe's, whether the server is ready.
func (f *floods) measure(name string, flood func()) {
	f.t.Helper()
	over := make(chan struct{})
	var took []time.Duration
	statuses := map[int]int{}
	var observer sync.WaitGroup
	observer.Go(func() {
		client := f.alone()
		for i := 0; ; i++ {
			select {
			case <-over:
				return
			case <-time.After(20 * time.Millisecond):
			}
			began := time.Now()
			var status int
			var err error
			switch i % 3 {
			case 0:
				status, err = f.ask(client, "GET", "/api/ghosts?limit=20", "", "Authorization", "Bearer "+f.other)
			case 1:
				status, err = f.ask(client, "GET", "/readyz", "")
			case 2:
				body := fmt.Sprintf(`{"id":"evt_%d","type":"invoice.paid","account":%q,"created":1700000000,"livemode":false,"data":{"object":{"id":"in_1"}}}`,
					time.Now().UnixNano(), f.of)
				status, err = f.ask(client, "POST", "/api/webhooks/stripe", body, "Stripe-Signature",
					webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: []byte(body), Secret: floodSecret, Timestamp: time.Now()}).Header)
			}
			if err != nil {
				f.t.Errorf("%s: %v", name, err)
			}
			took = append(took, time.Since(began))
			statuses[status]++
		}
	})
	began := time.Now()
	flood()
	lasted := time.Since(began)
	close(over)
	observer.Wait()
	slices.Sort(took)
	memory := f.memory()
	f.t.Logf("%-22s %6.1f s; the other one: %4d requests, p50 %5s, p99 %5s, worst %5s, statuses %v; at most %d MB", name, lasted.Seconds(),
		len(took), took[len(took)/2].Round(time.Millisecond), took[len(took)*99/100].Round(time.Millisecond),
		took[len(took)-1].Round(time.Millisecond), statuses, memory>>20)
	if statuses[http.StatusOK] != len(took) {
		f.t.Errorf("%s: the other one gets %v", name, statuses)
	}
	if memory > 300<<20 {
		f.t.Errorf("%s: %d MB", name, memory>>20)
	}
	if p99 := took[len(took)*99/100]; f.long && p99 > time.Second {
		f.t.Errorf("%s: the other one waits for %s", name, p99)
	}
}

var peak = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// memory is the most that the server has held, in bytes; 0 where the system does not tell.
func (f *floods) memory() int {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(f.pid) + "/status")
	if found := peak.FindSubmatch(status); err == nil && found != nil {
		kilobytes, _ := strconv.Atoi(string(found[1]))
		return kilobytes << 10
	}
	return 0
}
