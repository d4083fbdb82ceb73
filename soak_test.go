package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/connect"
	"phantom/db"
	"phantom/db/dbtest"
	"phantom/ghost"
	"phantom/internal/stage"
	"phantom/message"
	"phantom/oracle"
	"phantom/playbook"
	"phantom/recovery"
	"phantom/sandbox"
	"phantom/state"
	"phantom/task"
)

// leaseEnv makes this test's binary the program itself, with leases so short.
const leaseEnv = "PHANTOM_TEST_LEASE"

// soakSecret signs the events.
const soakSecret = "whsec_soak"

// soak is a merchant with charges that will fall due, on a PostgreSQL of the test's own that
// listens on a network, and a sandbox whose books say what was executed.
type soak struct {
	t        *testing.T
	long     bool
	lease    time.Duration
	server   *dbtest.Private
	pool     *pgxpool.Pool // over the socket: nothing cuts it
	world    *sandbox.Sandbox
	account  string
	merchant uuid.UUID
	env      map[string]string
	charges  int

	mutex sync.Mutex
	heard map[string]time.Time // when Stripe has last answered whom
}

// later is an advisor that plans all charges for the same hours. The test says when they are due.
type later struct{}

func (later) Next(_ context.Context, q oracle.Question) (oracle.Moment, error) {
	return oracle.Moment{At: q.NotBefore.Add(time.Hour), Reason: "in an hour", Probability: 1}, nil
}

// soakAlone leaves a soak out where other tests run: a machine that is busy with them keeps no
// time. make test runs the short forms after all others.
func soakAlone(t *testing.T) {
	t.Helper()
	if os.Getenv("PHANTOM_SOAK") == "" && os.Getenv("PHANTOM_LONG") == "" {
		t.Skip("a soak runs alone: set PHANTOM_SOAK=1, as make test does")
	}
}

// newSoak connects the merchant, audits and begins a hunt for each of so many debts. No charge is
// due yet.
func newSoak(t *testing.T, server *dbtest.Private, debts int) *soak {
	t.Helper()
	s := &soak{t: t, server: server, long: os.Getenv("PHANTOM_LONG") != "", lease: 8 * time.Second, heard: map[string]time.Time{}}
	if s.long {
		s.lease = time.Minute
	}
	s.pool = dbtest.Open(t, server.URL(), dbtest.Ring(t))
	var err error
	if s.world, err = sandbox.New(sandbox.Config{Merchants: 1, OpenInvoices: debts, Now: dbtest.Now}); err != nil {
		t.Fatal(err)
	}
	stripe := httptest.NewServer(s.world)
	t.Cleanup(stripe.Close)
	s.env = map[string]string{
		"ENCRYPTION_KEY": dbtest.Key, "STRIPE_SECRET_KEY": sandbox.SecretKey, "STRIPE_CLIENT_ID": sandbox.ClientID,
		"STRIPE_WEBHOOK_SECRET": soakSecret, "STRIPE_RATE_LIMIT": "0", "WORKERS": "4",
		"STRIPE_API_BASE": stripe.URL, "STRIPE_CONNECT_BASE": stripe.URL,
	}
	log := slog.New(slog.DiscardHandler)
	account := connect.New(connect.Config{
		SecretKey: sandbox.SecretKey, ClientID: sandbox.ClientID, APIBase: stripe.URL, ConnectBase: stripe.URL,
		RedirectURI: "http://localhost:8080/api/auth/callback", Log: log,
	}, s.pool)
	ghosts := ghost.New(s.pool, account, log)
	hunts := recovery.New(s.pool, account, message.New(s.pool, account, message.Config{Log: log}), later{}, recovery.Config{Log: log, Refresh: ghost.RefreshIn})
	ghosts.Hunts = hunts
	s.connectMerchant(account)
	handlers := ghosts.Handlers()
	maps.Copy(handlers, hunts.Handlers())
	maps.Copy(handlers, account.Handlers())
	queue, err := task.NewQueue(s.pool, task.Config{ListenURL: server.URL(), Handlers: handlers, Log: log, Poll: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	audit, err := ghosts.StartAudit(t.Context(), s.merchant, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := queue.RunOne(t.Context(), s.merchant, audit); err != nil {
		t.Fatal(err)
	}
	chosen := playbook.Default()
	chosen.Mode, chosen.HoldoutPercent, chosen.Steps, chosen.Auto = state.ModeRecover, 0, []playbook.Step{}, false
	if _, err := hunts.SetPlaybook(t.Context(), s.merchant, chosen); err != nil {
		t.Fatal(err)
	}
	if _, err := hunts.StartAll(t.Context(), s.merchant); err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var ended sync.WaitGroup
	ended.Go(func() { queue.Run(running) })
	s.await(5*time.Minute, "all charges are planned", func() bool {
		return s.count("SELECT count(*) FROM scheduled_tasks WHERE status = 'running' OR status = 'pending' AND run_at < phantom_now() + interval '1 minute'") == 0
	})
	stop()
	ended.Wait()
	if s.charges = s.count("SELECT count(*) FROM scheduled_tasks WHERE kind = 'invoice_pay' AND status = 'pending'"); s.charges < debts*9/10 {
		t.Fatalf("%d charges are planned for %d debts", s.charges, debts)
	}
	return s
}

// connectMerchant goes through the handshake, as a browser would.
func (s *soak) connectMerchant(account *connect.Service) {
	s.t.Helper()
	page, browser, err := account.Begin(s.t.Context(), "")
	if err != nil {
		s.t.Fatal(err)
	}
	state, code := stage.Agree(s.t, page, "")
	s.account, err = account.Complete(s.t.Context(), connect.Callback{State: state, Code: code, Browser: browser})
	if err != nil {
		s.t.Fatal(err)
	}
	row, err := db.New(s.pool).MerchantGetByStripeUserID(s.t.Context(), s.account)
	if err != nil {
		s.t.Fatal(err)
	}
	s.merchant = row.ID
}

// over spreads the charges evenly over a time that begins now, in bursts of one each half second:
// so every process gets some of them.
func (s *soak) over(d time.Duration) {
	s.t.Helper()
	_, err := s.pool.Exec(s.t.Context(), `UPDATE scheduled_tasks t SET run_at = phantom_now() + make_interval(secs => n.place)
		FROM (SELECT id, floor(2 * $1::float8 * (row_number() OVER (ORDER BY id) - 1) / count(*) OVER ()) / 2 AS place
			FROM scheduled_tasks WHERE kind = 'invoice_pay' AND status = 'pending') AS n
		WHERE t.id = n.id`, d.Seconds())
	if err != nil {
		s.t.Fatal(err)
	}
}

// stripeFor is the sandbox under an address of one host's own, so that it is known when it was last
// answered.
func (s *soak) stripeFor(host, address string) string {
	s.t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		s.t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.world.ServeHTTP(w, r)
		s.mutex.Lock()
		s.heard[host] = time.Now()
		s.mutex.Unlock()
	})}
	go func() { _ = server.Serve(listener) }()
	s.t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String()
}

func (s *soak) lastHeard(host string) time.Time {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.heard[host]
}

// program starts the real binary, or this test's own with a shorter lease.
func (s *soak) program(env map[string]string, args []string, adjust ...func(*exec.Cmd)) *process {
	s.t.Helper()
	if !s.long {
		env = with(env, leaseEnv, s.lease.String())
		own, err := os.Executable()
		if err != nil {
			s.t.Fatal(err)
		}
		adjust = append([]func(*exec.Cmd){func(c *exec.Cmd) { c.Path, c.Args[0] = own, own }}, adjust...)
	}
	return start(s.t, env, args, adjust...)
}

// count asks again where the database cannot be asked for now.
func (s *soak) count(query string, args ...any) (n int) {
	s.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := s.pool.QueryRow(s.t.Context(), query, args...).Scan(&n)
		if err == nil {
			return n
		}
		if !db.Unavailable(err) || time.Now().After(deadline) {
			s.t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (s *soak) exec(query string, args ...any) {
	s.t.Helper()
	if _, err := s.pool.Exec(s.t.Context(), query, args...); err != nil {
		s.t.Fatal(err)
	}
}

// await waits until something is so, and says whether it has come to be.
func (s *soak) await(patience time.Duration, what string, so func() bool) bool {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Errorf("it is not so within %s: %s", patience, what)
			return false
		}
	}
	return true
}

// drained waits until nothing is due and nothing runs.
func (s *soak) drained(patience time.Duration) {
	s.t.Helper()
	const left = "SELECT count(*) FROM scheduled_tasks WHERE status = 'running' OR status = 'pending' AND (first_sent_at IS NOT NULL OR run_at < phantom_now() + interval '1 minute')"
	if !s.await(patience, "all that is due is done", func() bool { return s.count(left) == 0 }) {
		s.logRows(`SELECT kind, status, attempts, fence, run_at - phantom_now(), lease_until - clock_timestamp(), first_sent_at IS NOT NULL, coalesce(last_error, '')
			FROM scheduled_tasks WHERE status IN ('running', 'needs_review') OR status = 'pending' AND (first_sent_at IS NOT NULL OR run_at < phantom_now() + interval '1 minute') LIMIT 20`)
	}
}

// logRows shows what a failure is understood by.
func (s *soak) logRows(query string) {
	rows, err := s.pool.Query(s.t.Context(), query)
	if err != nil {
		s.t.Log(err)
		return
	}
	defer rows.Close()
	for rows.Next() {
		values, _ := rows.Values()
		s.t.Log(values...)
	}
}

// books holds the sandbox's books against what was planned: each charge was executed once.
func (s *soak) books() (executed int) {
	s.t.Helper()
	times, repeated := map[string]int{}, 0
	for _, e := range s.world.Ledger(s.account) {
		if e.Method != http.MethodPost || !strings.HasSuffix(e.Path, "/pay") {
			continue
		}
		executed++
		times[e.Object]++
		if e.Repeated {
			repeated++
		}
	}
	twice := 0
	for _, n := range times {
		if n > 1 {
			twice++
		}
	}
	if lost := s.charges - len(times); twice > 0 || repeated > 0 || lost > 0 || len(s.world.PaidTwice()) > 0 {
		s.t.Errorf("%d invoices were charged twice, %d keys executed twice, %d charges lost", twice, repeated, lost)
	}
	review := s.count("SELECT count(*) FROM scheduled_tasks WHERE status = 'needs_review'")
	if review > 0 {
		s.t.Errorf("%d tasks are left to a person", review)
		s.logRows("SELECT kind, attempts, coalesce(last_error, '') FROM scheduled_tasks WHERE status = 'needs_review' LIMIT 10")
	}
	if n := s.count("SELECT count(*) FROM attempts WHERE result IS NULL AND sent_at IS NOT NULL"); n > 0 {
		s.t.Errorf("of %d charges that were sent nobody knows what became", n)
	}
	return executed
}

// posts sends events without a pause, each of them again until it is acknowledged, as Stripe does.
type posts struct {
	s        *soak
	base     string
	stop     chan struct{}
	ended    sync.WaitGroup
	mutex    sync.Mutex
	acked    []string
	tries    []try
	slowest  time.Duration
	statuses map[int]int
}

// try is one post's answer, 0 for none.
type try struct {
	at     time.Time
	status int
}

// post begins to send events about subscriptions that exist, in so many lines at a time.
func (s *soak) post(base string, lines int) *posts {
	s.t.Helper()
	var subscriptions []string
	if err := s.pool.QueryRow(s.t.Context(), "SELECT array_agg(stripe_subscription_id) FROM ghost_targets").Scan(&subscriptions); err != nil {
		s.t.Fatal(err)
	}
	p := &posts{s: s, base: base, stop: make(chan struct{}), statuses: map[int]int{}}
	for line := range lines {
		p.ended.Go(func() {
			client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for n := line; ; n += lines {
				id := fmt.Sprintf("evt_soak%d", n)
				for !p.try(client, id, subscriptions[n%len(subscriptions)]) {
					if p.wait(100 * time.Millisecond) {
						// it was never acknowledged, so nothing is owed to it
						return
					}
				}
				if p.wait(50 * time.Millisecond) {
					return
				}
			}
		})
	}
	s.t.Cleanup(p.end)
	return p
}

// wait says whether it is over.
func (p *posts) wait(d time.Duration) bool {
	select {
	case <-p.stop:
		return true
	case <-time.After(d):
		return false
	}
}

func (p *posts) try(client *http.Client, id, subscription string) (acknowledged bool) {
	body, err := json.Marshal(map[string]any{
		"id": id, "type": "customer.subscription.updated", "account": p.s.account, "created": time.Now().Unix(), "livemode": false,
		"data": map[string]any{"object": map[string]any{"id": subscription}},
	})
	if err != nil {
		return false
	}
	request, err := http.NewRequest(http.MethodPost, p.base+"/api/webhooks/stripe", bytes.NewReader(body))
	if err != nil {
		return false
	}
	request.Header.Set("Stripe-Signature", sandbox.Sign(body, soakSecret, time.Now()))
	began, status := time.Now(), 0
	if response, err := client.Do(request); err == nil {
		status = response.StatusCode
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.tries = append(p.tries, try{time.Now(), status})
	p.statuses[status]++
	p.slowest = max(p.slowest, time.Since(began))
	if status == http.StatusOK {
		p.acked = append(p.acked, id)
	}
	return status == http.StatusOK
}

// down is what those who post have seen since a moment: from the first refusal to the last one, and
// what else than 200 and 503 was answered.
func (p *posts) down(since time.Time) (refused time.Duration, n int, others map[int]int) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	var first, last time.Time
	others = map[int]int{}
	for _, t := range p.tries {
		if t.at.Before(since) || t.status == http.StatusOK {
			continue
		}
		if n++; first.IsZero() {
			first = t.at
		}
		last = t.at
		if t.status != http.StatusServiceUnavailable {
			others[t.status]++
		}
	}
	return last.Sub(first), n, others
}

// lastAcked is when an event was last acknowledged.
func (p *posts) lastAcked() (at time.Time) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for _, t := range slices.Backward(p.tries) {
		if t.status == http.StatusOK {
			return t.at
		}
	}
	return at
}

// end stops posting. It may be called again.
func (p *posts) end() {
	p.mutex.Lock()
	select {
	case <-p.stop:
	default:
		close(p.stop)
	}
	p.mutex.Unlock()
	p.ended.Wait()
}

// kept holds the events against what was acknowledged: each is there, once, and its task is done.
func (p *posts) kept() {
	s := p.s
	s.t.Helper()
	p.end()
	if lost := s.count("SELECT count(*) FROM unnest($1::text[]) AS e (id) WHERE NOT EXISTS (SELECT FROM webhook_events w WHERE w.id = e.id)", p.acked); lost > 0 {
		s.t.Errorf("%d of %d acknowledged events are lost", lost, len(p.acked))
	}
	if twice := s.count("SELECT count(*) FROM (SELECT FROM scheduled_tasks WHERE kind = 'webhook' GROUP BY params ->> 'event' HAVING count(*) > 1) AS twice"); twice > 0 {
		s.t.Errorf("%d events have led to two tasks", twice)
	}
}

// onNetwork is the URL of a server under an address.
func onNetwork(server *dbtest.Private, address, name string) string {
	made, err := url.Parse(server.URL())
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("postgres://%s@%s%s?sslmode=disable&application_name=%s", made.User, address, made.Path, name)
}

// trust lets the server be reached over the network, and from a standby.
func trust(t *testing.T, server *dbtest.Private) {
	t.Helper()
	file, err := os.OpenFile(server.Data()+"/pg_hba.conf", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteString("\nhost all all 127.0.0.0/8 trust\nhost all all 10.0.0.0/8 trust\n")
	if err != nil || file.Close() != nil {
		t.Fatal(err)
	}
	pool := dbtest.Open(t, server.URL(), dbtest.Ring(t))
	defer pool.Close()
	if _, err := pool.Exec(t.Context(), "SELECT pg_reload_conf()"); err != nil {
		t.Fatal(err)
	}
}
