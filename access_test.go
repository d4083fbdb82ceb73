package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/db/dbtest"
)

// shielded is a merchant with ghosts whose policy is enforced, at two servers over one database.
type shielded struct {
	t            *testing.T
	env          map[string]string
	first        *process
	at, other    string // addresses of the servers: the first hears Stripe's events
	write, read  string // keys
	pool         *pgxpool.Pool
	account      string
	client       *http.Client
	sandbox, key string
}

func newShielded(t *testing.T) *shielded {
	t.Helper()
	url := dbtest.EmptyURL(t)
	env := production(t, url)
	env["STRIPE_WEBHOOK_SECRET"], env["STRIPE_RATE_LIMIT"] = "whsec_canary7Zq3vT", "0"
	s := &shielded{t: t, env: env, client: &http.Client{Timeout: 30 * time.Second}, sandbox: env["STRIPE_API_BASE"], key: env["STRIPE_SECRET_KEY"]}
	s.first, s.at = ready(t, env)
	handshake(t, s.at)
	s.first.awaitLine(t, "[WORKER] audit ends")
	_, s.other = ready(t, with(env, "PORT", freePort(t)))
	s.pool = dbtest.Open(t, url, dbtest.Ring(t))
	if err := s.pool.QueryRow(t.Context(), "SELECT stripe_user_id FROM merchants").Scan(&s.account); err != nil {
		t.Fatal(err)
	}
	s.write = strings.TrimSpace(s.run("apikey", "create", "--merchant", s.account))
	s.read = strings.TrimSpace(s.run("apikey", "create", "--merchant", s.account, "--scope", "shield"))
	// All that is owed is told, and nobody is kept out.
	policy := `{"mode":"enforce","ladder":{"steps":[{"level":"notice","after_days":0}],"min_amount":{}},
		"hours":{"days":[1,2,3,4,5,6,7],"from":"00:00","to":"24:00"}}`
	preview := s.call(http.MethodPost, s.at+"/api/shield/preview", policy, http.StatusOK)
	token, _ := preview["token"].(string)
	s.call(http.MethodPut, s.at+"/api/shield/policy", policy, http.StatusOK, "Shield-Confirm", token)
	return s
}

func (s *shielded) run(args ...string) string {
	s.t.Helper()
	p := start(s.t, s.env, args)
	if code := p.wait(s.t); code != 0 {
		s.t.Fatalf("phantom %v: exit code %d\n%s%s", args, code, p.stdout, p.stderr)
	}
	return p.stdout.String()
}

// call asks with the key that may write, or at the sandbox with its own.
func (s *shielded) call(method, address, body string, want int, headers ...string) (answer map[string]any) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.write)
	if strings.HasPrefix(address, s.sandbox) {
		r.Header.Set("Authorization", "Bearer "+s.key)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != want || json.Unmarshal(text, &answer) != nil {
		s.t.Fatalf("%s %s: %d %s, %v", method, address, response.StatusCode, text, err)
	}
	return answer
}

// level asks a server for a customer's, as an app does.
func (s *shielded) level(base, customer string) string {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, base+"/api/shield/customers/"+customer, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.read)
	response, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	var v struct{ Level string }
	if err := json.NewDecoder(response.Body).Decode(&v); err != nil || response.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %d, %v", customer, response.StatusCode, err)
	}
	return v.Level
}

// await waits until a server says that a customer has a level, and returns how long that took.
func (s *shielded) await(base, customer, level string) time.Duration {
	s.t.Helper()
	began := time.Now()
	for s.level(base, customer) != level {
		if time.Since(began) > time.Minute {
			s.t.Fatalf("%s has %s, want %s", customer, s.level(base, customer), level)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return time.Since(began)
}

// Customers who pay are let in at once, at a server that did not hear Stripe's event, though each
// request to Stripe takes 150 ms. The figures are in docs/benchmarks.md.
func TestAccessAfterAPayment(t *testing.T) {
	t.Parallel()
	s := newShielded(t)
	listen(t, s.env, "/api/webhooks/stripe")
	rows, err := s.pool.Query(t.Context(), `SELECT min(stripe_invoice_id), stripe_customer_id FROM ghost_targets
		WHERE status = 'open' AND kind = 'owed' GROUP BY stripe_customer_id HAVING count(*) = 1 ORDER BY 1 LIMIT 100`)
	if err != nil {
		t.Fatal(err)
	}
	type debtor struct{ invoice, customer string }
	var debtors []debtor
	for rows.Next() {
		var d debtor
		if err := rows.Scan(&d.invoice, &d.customer); err != nil {
			t.Fatal(err)
		}
		debtors = append(debtors, d)
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	// Who has another subscription that is paid has its level.
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		noticed := slices.DeleteFunc(slices.Clone(debtors), func(d debtor) bool { return s.level(s.other, d.customer) != "notice" })
		if len(noticed) >= 20 {
			debtors = noticed
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d debtors are told", len(noticed), len(debtors))
		}
	}
	s.call(http.MethodPost, s.sandbox+"/sandbox/faults", `{"path":"/v1/","delay":150,"times":-1}`, http.StatusOK)
	var took []time.Duration
	var invoices []string
	for _, d := range debtors {
		invoices = append(invoices, d.invoice)
		began := time.Now()
		s.call(http.MethodPost, s.sandbox+"/sandbox/changes", fmt.Sprintf(`{"account":%q,"do":"pay","id":%q}`, s.account, d.invoice), http.StatusOK)
		s.await(s.other, d.customer, "full")
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("%d payments: p50 %s, p90 %s, p99 %s", len(took), took[len(took)/2], took[len(took)*9/10], took[len(took)-1])
	// The reading that follows says the same of those who owe nothing else.
	deadline := time.Now().Add(time.Minute)
	for n := -1; n != 0; time.Sleep(50 * time.Millisecond) {
		if err := s.pool.QueryRow(t.Context(), "SELECT count(*) FROM ghost_targets WHERE status = 'open' AND stripe_invoice_id = ANY($1)",
			invoices).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d ghosts are open still", n)
		}
	}
	full := 0
	for _, d := range debtors {
		var owesMore bool // by another invoice
		if err := s.pool.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM ghost_targets WHERE status = 'open' AND stripe_customer_id = $1)",
			d.customer).Scan(&owesMore); err != nil {
			t.Fatal(err)
		}
		if owesMore {
			s.await(s.other, d.customer, "notice")
			continue
		}
		full++
		if level := s.level(s.other, d.customer); level != "full" {
			t.Errorf("%s has %s after all was read", d.customer, level)
		}
	}
	if full < 10 {
		t.Errorf("%d of %d owe nothing more", full, len(debtors))
	}
}

// What a server has committed when it is killed is seen at another one, told or not.
func TestAccessAfterAKill(t *testing.T) {
	t.Parallel()
	s := newShielded(t)
	var customers []string
	if err := s.pool.QueryRow(t.Context(), "SELECT array_agg(DISTINCT customer) FROM shield_states").Scan(&customers); err != nil || len(customers) < 100 {
		t.Fatalf("%d customers, %v", len(customers), err)
	}
	for round := range 3 {
		var writers sync.WaitGroup
		var answered atomic.Int64
		for w := range 4 {
			writers.Go(func() {
				for i := w; ; i = (i + 4) % len(customers) { // until the server is gone
					body := fmt.Sprintf(`{"customer":%q,"level":%q}`, customers[i], []string{"blocked", "limited", "full"}[rand.N(3)])
					r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.at+"/api/shield/overrides", bytes.NewReader([]byte(body)))
					if err != nil {
						t.Error(err)
						return
					}
					r.Header.Set("Authorization", "Bearer "+s.write)
					r.Header.Set("Content-Type", "application/json")
					response, err := s.client.Do(r)
					if err != nil {
						return
					}
					_ = response.Body.Close()
					answered.Add(1)
				}
			})
		}
		for deadline := time.Now().Add(time.Minute); answered.Load() < 20 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(rand.N(50 * time.Millisecond))
		s.first.signal(t, syscall.SIGKILL)
		writers.Wait()
		_ = s.first.wait(t)
		rows, err := s.pool.Query(t.Context(), `SELECT DISTINCT ON (customer) customer, level FROM shield_decisions
			WHERE kind = 'override' AND ended_at IS NULL ORDER BY customer, id DESC`)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for rows.Next() {
			var customer, level string
			if err := rows.Scan(&customer, &level); err != nil {
				t.Fatal(err)
			}
			n++
			if took := s.await(s.other, customer, level); took > 10*time.Second {
				t.Errorf("%s is seen after %s", customer, took)
			}
		}
		if rows.Err() != nil || n < 10 {
			t.Errorf("%d overrides, %v", n, rows.Err())
		}
		t.Logf("round %d: %d overrides are seen", round, n)
		s.first, s.at = ready(t, with(s.env, "PORT", freePort(t)))
	}
}
