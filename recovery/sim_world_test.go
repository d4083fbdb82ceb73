//go:build failpoints

package recovery

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"phantom/connect"
	"phantom/db"
	"phantom/forecast"
	"phantom/ghost"
	"phantom/message"
	"phantom/oracle"
	"phantom/playbook"
	"phantom/sandbox"
	"phantom/task"
	"phantom/vault"
)

// sim is one simulated world: a database, a Stripe, a few workers and a clock, all moved by one
// seed. Only one goroutine of it runs at
// a time, but for the parallel reads of a refresh, whose answers do not depend on their order.
type sim struct {
	t        testing.TB
	ctx      context.Context
	database *simDatabase
	queries  *db.Queries
	seed     uint64
	r        *rand.Rand
	now      time.Time
	began    time.Time
	steps    int

	config  sandbox.Config
	world   *sandbox.Sandbox
	connect *connect.Service
	ghosts  *ghost.Service
	hunts   *Service
	queue   *task.Queue

	weather  weather
	merchant []*simMerchant

	workers []*simWorker
	running *simWorker // whose goroutine goes on now, nil while the scheduler does
	acts    []act
	live    []simTask // as they were read last
	stale   bool      // and are not any more
	tries   map[string]int
	planned int // acts so far, so that two of one moment keep their order

	mutex  sync.Mutex // guards what parallel reads share
	asked  map[string]int
	counts map[string]int
	trace  []string
	sum    uint64 // of all trace lines
	broken []violation
	// keys that were executed and are gone from the database that was put back
	lost map[string]bool
	// invoices that somebody has given to Smart Retries: how long the ledger was
	turnedOn map[string]int
	unsent   map[string]bool // and those that it does not know to have been sent
	passed   map[string]bool // whose charges a worker has looked through since
	backup   time.Duration   // a backup is to be made, and put back after so long
	denied   bool            // an account itself was refused, in truth or by what goes wrong
	draining bool
	flying   int // requests that left and have not arrived
	executed int
}

type simMerchant struct {
	account  string
	id       uuid.UUID
	playbook playbook.Playbook
	seen     map[string]bool // events that were looked at
	polled   time.Time
	cards    map[string]string // fingerprints that are shown as another's
	renewed  time.Time         // when a customer last changed their payment method

	subscriptions []string         // that are hunted
	ghosts        []uuid.UUID      // hunted
	hunted        map[string]bool  // their customers
	invoices      []string         // theirs
	debits        map[string]bool  // invoices that a bank account pays now
	alike         *sandbox.Sandbox // another world of the same seed, to try things out
}

type violation struct {
	rule, what string
	step       int
}

// simIgnored are rules that are known not to hold, so that a run can see past them.
var simIgnored = strings.Split(os.Getenv("PHANTOM_IGNORE"), ",")

// breach notes that an invariant does not hold. The first of each rule is enough.
func (s *sim) breach(rule, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	if slices.Contains(simIgnored, rule) {
		s.count("ignored: " + rule)
		return
	}
	s.say("BREACH %s %s", rule, what)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, v := range s.broken {
		if v.rule == rule {
			return
		}
	}
	s.broken = append(s.broken, violation{rule, what, s.steps})
}

// say writes a line of the trace. It must hold nothing that differs between two runs of one seed.
func (s *sim) say(format string, args ...any) {
	line := fmt.Sprintf("%5d %10s  %s", s.steps, s.now.Sub(simEpoch).Truncate(time.Millisecond),
		fmt.Sprintf(format, args...))
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %s", s.sum, line)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.sum = h.Sum64()
	s.trace = append(s.trace, line)
}

func (s *sim) count(what string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.counts[what]++
}

// dice are for one occurrence of something that has a name, so that they do not depend on what else
// is asked at the same time.
func (s *sim) dice(name string) *rand.Rand {
	s.mutex.Lock()
	s.asked[name]++
	n := s.asked[name]
	s.mutex.Unlock()
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d", name, n)
	return rand.New(rand.NewPCG(s.seed, h.Sum64()))
}

func (s *sim) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("seed %d, step %d: %v\n%s", s.seed, s.steps, err, strings.Join(s.tail(), "\n"))
	}
}

func (s *sim) tail() []string { return s.trace[max(0, len(s.trace)-60):] }

// move sets all clocks. Callers hold no transaction that would see two times.
func (s *sim) move(to time.Time) {
	_, err := s.database.pool.Exec(s.ctx, simMoveQuery, s.clocks(to)...)
	s.must(err)
}

const simMoveQuery = "SELECT setval('sim.clock', $1), setval('sim.luck', $2)"

func (s *sim) clocks(to time.Time) []any {
	if to.After(s.now) {
		s.now = to
	}
	return []any{s.now.UnixMicro(), rand.New(rand.NewPCG(s.seed, uint64(s.now.UnixNano()))).Int64N(1e9)}
}

// newSim makes the world of a seed: connected, audited and hunted.
func newSim(t testing.TB, database *simDatabase, seed uint64) *sim {
	t.Helper()
	s := &sim{
		t: t, ctx: context.Background(), database: database, queries: db.New(database.pool), seed: seed,
		r:     rand.New(rand.NewPCG(seed, 1)),
		asked: map[string]int{}, counts: map[string]int{}, lost: map[string]bool{}, turnedOn: map[string]int{},
		unsent: map[string]bool{}, passed: map[string]bool{}, tries: map[string]int{}, stale: true,
	}
	s.weather = newWeather(s.r)
	s.now = simEpoch.Add(time.Duration(s.r.IntN(7*24*60)) * time.Minute)
	s.must(database.run(s.ctx, database.reset))
	if database.emptied++; database.emptied%4 == 0 { // what is deleted is read past for ever
		s.must(database.run(s.ctx, "VACUUM"))
	}
	s.move(s.now)
	var err error
	merchants := 1
	if s.r.IntN(5) == 0 {
		merchants = 2
	}
	s.config = sandbox.Config{Merchants: merchants, OpenInvoices: 20, Seed: 1 + s.r.Uint64N(1<<40),
		Now: func() time.Time { return s.now }}
	s.world, err = sandbox.New(s.config)
	s.must(err)
	s.boot()
	for _, account := range s.world.Accounts()[:merchants] {
		s.merchant = append(s.merchant, &simMerchant{account: account, seen: map[string]bool{},
			cards: map[string]string{}, debits: map[string]bool{}, hunted: map[string]bool{}, polled: s.now})
	}
	for _, m := range s.merchant {
		s.begin(m)
	}
	s.began = s.now
	s.move(s.now.Add(time.Minute)) // what was set up is old by now
	return s
}

// boot makes the services of a process that begins: what one kept in memory is gone.
func (s *sim) boot() {
	log := slog.New(slog.DiscardHandler)
	clock := func() time.Time { return s.now }
	s.connect = connect.New(connect.Config{
		SecretKey: sandbox.SecretKey, ClientID: sandbox.ClientID, APIBase: "http://stripe.test",
		ConnectBase: "http://stripe.test",
		RedirectURI: "http://localhost:8080/api/auth/callback", Log: log, Now: clock,
		Transport: simStripe{s}, Patience: 1,
	}, s.database.pool)
	var advisor forecast.Advisor = atOnce{}
	if s.weather.heuristic {
		advisor = oracle.Heuristic{}
	}
	messages := message.New(s.database.pool, s.connect, message.Config{
		PublicURL: "http://localhost:8080", Log: log, Now: clock,
	})
	s.hunts = New(s.database.pool, s.connect, messages, advisor, Config{Log: log, Now: clock, Refresh: ghost.RefreshIn})
	s.ghosts = ghost.New(s.database.pool, s.connect, log)
	s.ghosts.Hunts = s.hunts
	handlers := s.ghosts.Handlers()
	maps.Copy(handlers, s.hunts.Handlers())
	for kind, handler := range s.connect.Handlers() {
		handlers[kind] = handler
	}
	var err error
	s.queue, err = task.NewQueue(s.database.pool, task.Config{Handlers: handlers, Log: log})
	s.must(err)
}

// begin connects a merchant, audits the account and hunts all ghosts.
func (s *sim) begin(m *simMerchant) {
	s.handshake(m)
	row, err := s.queries.MerchantGetByStripeUserID(s.ctx, m.account)
	s.must(err)
	m.id = row.ID
	// Moments are drawn by it.
	salt := vault.NewToken("merchants.hash_salt:"+m.account,
		base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%32d", s.seed)))
	_, err = s.queries.MerchantGetHashSalt(s.ctx, db.MerchantGetHashSaltParams{ID: m.id,
		HashSalt: &salt})
	s.must(err)
	chosen := s.choose(m)
	s.share(m, chosen)
	id, err := s.ghosts.StartAudit(s.ctx, m.id, nil)
	s.must(err)
	s.must(s.queue.Step(s.ctx, m.id, id))
	m.playbook = s.weather.playbook
	_, err = s.hunts.SetPlaybook(s.ctx, m.id, m.playbook)
	s.must(err)
	s.turnOnRetries(m, chosen)
	for _, g := range chosen {
		var id uuid.UUID
		s.must(s.database.pool.QueryRow(s.ctx,
			"SELECT id FROM ghost_targets WHERE merchant_id = $1 AND stripe_subscription_id = $2", m.id,
			g.Subscription).Scan(&id))
		m.hunted[g.Customer] = true
		m.ghosts, m.invoices = append(m.ghosts, id), append(m.invoices, g.Invoices...)
		m.subscriptions = append(m.subscriptions, g.Subscription)
	}
	started, err := s.hunts.Start(s.ctx, m.id, m.ghosts)
	s.must(err)
	s.say("%s: %d hunts of %d ghosts, %+v", m.account, started.Hunts, len(m.ghosts), m.playbook)
}

// authorize is what a browser does for the merchant.
func (s *sim) authorize(m *simMerchant) (back *url.URL, browser string, err error) {
	page, browser, err := s.connect.Begin(s.ctx, "")
	s.must(err)
	request, err := http.NewRequest(http.MethodGet, page+"&sandbox_account="+m.account, nil)
	s.must(err)
	back, err = url.Parse(s.serve(request).Header.Get("Location"))
	return back, browser, err
}

// handshake connects a merchant as a browser would.
func (s *sim) handshake(m *simMerchant) {
	back, browser, err := s.authorize(m)
	s.must(err)
	account, err := s.connect.Complete(s.ctx, connect.Callback{
		State: back.Query().Get("state"), Code: back.Query().Get("code"), Browser: browser,
	})
	if err == nil && account != m.account {
		err = errors.New("another account came back")
	}
	s.must(err)
}

// choose picks the ghosts that are hunted, most of them with a card that refuses for a time.
func (s *sim) choose(m *simMerchant) (chosen []sandbox.Ghost) {
	var soft, other []sandbox.Ghost
	for _, g := range s.world.Truth(m.account) {
		if slices.Contains(simSoft, s.tryOut(m, g.Invoices[0])) {
			soft = append(soft, g)
		} else {
			other = append(other, g)
		}
	}
	for n := 2 + s.r.IntN(4); n > 0; n-- {
		from := &soft
		if s.r.IntN(5) < 2 || len(soft) == 0 {
			from = &other
		}
		i := s.r.IntN(len(*from))
		chosen = append(chosen, (*from)[i])
		*from = slices.Delete(*from, i, i+1)
	}
	return chosen
}

// simSoft are the refusals after which another attempt makes sense.
var simSoft = []string{
	"insufficient_funds", "do_not_honor", "processing_error", "card_velocity_exceeded",
	"generic_decline", "issuer_not_available", "highest_risk_level",
}

// tryOut pays an invoice in another world that is made alike, and says how its card refuses.
func (s *sim) tryOut(m *simMerchant, invoice string) string {
	if m.alike == nil {
		world, err := sandbox.New(s.config)
		s.must(err)
		m.alike = world
		here := s.world
		s.world = world
		back, _, err := s.authorize(m)
		s.must(err)
		form := url.Values{"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")},
			"client_secret": {sandbox.SecretKey}}
		s.send(m, "/oauth/token", form)
		s.world = here
	}
	here := s.world
	s.world = m.alike
	defer func() { s.world = here }()
	var answer struct {
		Error struct {
			DeclineCode string `json:"decline_code"`
		}
	}
	s.must(json.NewDecoder(s.send(m, "/v1/invoices/"+invoice+"/pay", nil).Body).Decode(&answer))
	return answer.Error.DeclineCode
}

// share lets customers pay with one card: where they do, all but the first one's fingerprint is
// shown as the first one's.
func (s *sim) share(m *simMerchant, chosen []sandbox.Ghost) {
	if s.weather.shared == 0 {
		return
	}
	s.count("card shared")
	first := ""
	all, _ := s.charges(m)
	group := slices.Clone(chosen[:min(s.weather.shared, len(chosen))])
	if s.r.IntN(3) == 0 { // and somebody whom nobody hunts, but Stripe
		for _, g := range s.world.Truth(m.account) {
			if !slices.ContainsFunc(chosen, func(c sandbox.Ghost) bool { return c.Customer == g.Customer }) {
				s.post(m, "/v1/invoices/"+g.Invoices[0], url.Values{"auto_advance": {"true"}})
				s.count("card shared with one who is not hunted")
				group = append(group, g)
				break
			}
		}
	}
	for _, g := range group {
		for _, c := range all {
			card := c.Method.Card.Fingerprint
			if c.Customer != g.Customer || card == "" {
				continue
			}
			if first == "" {
				first = card
			}
			m.cards[card] = first
			break
		}
	}
}

// turnOnRetries has Stripe try some of the invoices again by itself.
func (s *sim) turnOnRetries(m *simMerchant, chosen []sandbox.Ghost) {
	for _, g := range chosen {
		for _, invoice := range g.Invoices {
			if s.r.Float64() < s.weather.retries {
				s.count("Smart Retries on")
				s.post(m, "/v1/invoices/"+invoice, url.Values{"auto_advance": {"true"}})
			}
		}
	}
}
