package recovery

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"phantom/connect"
	"phantom/db"
	"phantom/db/dbtest"
	"phantom/internal/stage"
	"phantom/message"
	"phantom/playbook"
	"phantom/state"
	"phantom/task"
	"phantom/vault"
)

// Secrets and data of persons that stand in the tests: they may be in no log and in no column that
// is not sealed.
const (
	resendKey   = "re_canary7Zq3vT7w"
	twilioSID   = "AC0123456789abcdef0123456789abcdef"
	twilioToken = "canaryToken7Zq3vT7wcanaryToken7Z"
	address     = "ada.canary7zq@example.com"
	number      = "+14155550123"
)

// office is a Service on a database of its own, with stand-ins for Stripe, Resend and Twilio, and a
// merchant whose channels are set up.
type office struct {
	stage.Database
	t        *testing.T
	s        *Service
	pool     *pgxpool.Pool
	queries  *db.Queries
	world    *world
	url      string
	merchant uuid.UUID
	log      *stage.Log
}

func setupPost(t *testing.T) *office {
	t.Helper()
	w := newWorld()
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	pool := dbtest.Pool(t)
	p := &office{Database: stage.On(t, pool), t: t, pool: pool, world: w, url: server.URL, log: &stage.Log{}}
	p.queries = db.New(p.pool)
	p.s = postService(p.pool, p.url, p.log)
	p.merchant = p.newMerchant("acct_1")
	t.Cleanup(func() {
		for _, secret := range []string{resendKey, twilioToken, address, number, "canary"} {
			if strings.Contains(p.log.String(), secret) {
				t.Errorf("the log holds %s", secret)
			}
		}
	})
	return p
}

// postService is what a process wires together whose Stripe, Resend and Twilio are the stand-ins at
// url.
func postService(pool *pgxpool.Pool, url string, text io.Writer) *Service {
	return postServiceWith(pool, url, text, nil)
}

// postServiceWith changes what its messages know of the world.
func postServiceWith(pool *pgxpool.Pool, url string, text io.Writer, change func(*message.Config)) *Service {
	log := slog.New(slog.NewTextHandler(text, nil))
	account := connect.New(connect.Config{SecretKey: "sk_test_x", ClientID: "ca_x", APIBase: url, ConnectBase: url, Patience: time.Millisecond, DatabaseTimeout: time.Minute, Log: log}, pool)
	config := message.Config{
		ResendBase: url + "/resend", TwilioBase: url + "/twilio", PublicURL: "https://phantom.example", Dev: true, Log: log,
	}
	if change != nil {
		change(&config)
	}
	messages := message.New(pool, account, config)
	return New(pool, account, messages, nil, Config{Log: log})
}

// at has the office go by another wall clock from now on.
func (p *office) at(now func() time.Time) {
	p.s = postServiceWith(p.pool, p.url, p.log, func(c *message.Config) { c.Now = now })
}

func (p *office) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *office) newMerchant(account string) uuid.UUID {
	p.t.Helper()
	id := stage.Merchant(p.t, p.pool, account)
	_, err := p.s.messages.SetResend(p.t.Context(), id, resendKey, "Example Billing <billing@example.com>")
	p.must(err)
	_, err = p.s.messages.SetTwilio(p.t.Context(), id, twilioSID, twilioToken, "+14155559999")
	p.must(err)
	chosen := playbook.Default()
	chosen.Mode, chosen.QuietHours = state.ModeRecover, playbook.QuietHours{From: "00:00", To: "00:00", Zone: "customer"}
	chosen.Auto = false // chosen by hand
	body, err := json.Marshal(chosen)
	p.must(err)
	p.Exec("INSERT INTO playbooks (merchant_id, version, body) VALUES ($1, 1, $2)", id, body)
	return id
}

// person is who a message is for.
type person struct{ customer, email string }

// plan makes a ghost, its hunt, a message and its task, as the planner does, and returns the task's
// id.
func (p *office) plan(who person, channel, template string) (id, hunt uuid.UUID) {
	p.t.Helper()
	ghost := uuid.Must(uuid.NewV7())
	hunt, id = uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	var email *vault.EncryptedToken
	if who.email != "" {
		token := vault.NewToken("ghost_targets.email:"+ghost.String(), who.email)
		email = &token
	}
	hash, err := p.s.connect.Hasher(p.t.Context(), p.merchant)
	p.must(err)
	p.Exec(`INSERT INTO ghost_targets (merchant_id, id, stripe_customer_id, stripe_subscription_id, stripe_invoice_id, email, amount, currency, decline_class, rule)
		VALUES ($1, $2, $3, $4, $5, $6, 4900, 'usd', 'timed', 'an open invoice')`,
		p.merchant, ghost, who.customer, "sub_"+ghost.String(), "in_"+ghost.String(), email)
	p.Exec(`INSERT INTO hunts (merchant_id, id, ghost_id, customer, playbook_version, mode, held_out, livemode, decline_class, currency, amount)
		VALUES ($1, $2, $3, $4, 1, 'recover', false, false, 'timed', 'usd', 4900)`, p.merchant, hunt, ghost, hash("customer", who.customer))
	p.Exec(`INSERT INTO messages (merchant_id, id, hunt_id, step, channel, template, planned_for) VALUES ($1, $2, $3, 0, $4, $5, phantom_now())`,
		p.merchant, id, hunt, channel, template)
	_, err = task.Enqueue(p.t.Context(), p.pool, task.New{
		MerchantID: p.merchant, ID: id, Kind: channel, UniqueKey: "message:" + hunt.String(),
		Params: map[string]any{"hunt": hunt, "ghost": ghost, "step": 0, "template": template},
	})
	p.must(err)
	return id, hunt
}

// try runs a task once, now, no matter what it was put off to, and says what became of it.
func (p *office) try(id uuid.UUID) state.Task {
	p.t.Helper()
	return p.tryWith(p.t.Context(), p.s, id)
}

func (p *office) tryWith(ctx context.Context, s *Service, id uuid.UUID) state.Task {
	p.t.Helper()
	t := p.claim(id)
	err := s.Handlers()[t.Kind](ctx, t)
	return p.settle(t, err)
}

// claim takes a task as a worker does.
func (p *office) claim(id uuid.UUID) *task.Task {
	p.t.Helper()
	p.Exec("UPDATE scheduled_tasks SET run_at = phantom_now(), status = 'pending', lease_until = NULL WHERE id = $1 AND status IN ('pending', 'running')", id)
	row, err := p.queries.TaskClaimOne(p.t.Context(), db.TaskClaimOneParams{LeaseSeconds: 60, MerchantID: p.merchant, ID: id})
	p.must(err)
	return &task.Task{
		MerchantID: row.MerchantID, ID: row.ID, Kind: row.Kind, Params: row.Params, SealedParams: row.SealedParams, Attempt: row.Attempts,
		Fence: row.Fence, FirstSentAt: row.FirstSentAt,
	}
}

// settle writes a verdict down, roughly as the queue does. A task that ended by itself is left
// alone.
func (p *office) settle(t *task.Task, err error) state.Task {
	p.t.Helper()
	status := "pending"
	if err != nil {
		switch text := err.Error(); {
		case text == "task is to be pending":
		case strings.Contains(fmt.Sprintf("%T", err), "verdict"):
			status = "verdict"
			if strings.Contains(text, "check") {
				status = "needs_review"
			}
			p.Exec("UPDATE scheduled_tasks SET last_error = $2 WHERE id = $1", t.ID, text)
		default:
			p.Exec("UPDATE scheduled_tasks SET last_error = $2 WHERE id = $1", t.ID, text)
		}
		p.Exec("UPDATE scheduled_tasks SET status = $2, lease_until = NULL WHERE id = $1 AND fence = $3 AND status = 'running'", t.ID, strings.Replace(status, "verdict", "pending", 1), t.Fence)
	}
	row := p.row(t.ID)
	return row.Status
}

func (p *office) row(id uuid.UUID) db.ScheduledTask {
	p.t.Helper()
	row, err := p.queries.TaskGet(p.t.Context(), db.TaskGetParams{MerchantID: p.merchant, ID: id})
	p.must(err)
	return row
}

func (p *office) loaded(id uuid.UUID) db.MessageLoadRow {
	p.t.Helper()
	row, err := p.queries.MessageLoad(p.t.Context(), db.MessageLoadParams{MerchantID: p.merchant, ID: id})
	p.must(err)
	return row
}

// state is how a message stands, and why.
func (p *office) state(id uuid.UUID) (is state.Message, why string) {
	p.t.Helper()
	p.must(p.pool.QueryRow(p.t.Context(), "SELECT state, coalesce(why, '') FROM messages WHERE id = $1", id).Scan(&is, &why))
	return is, why
}

// stand makes PHANTOM's clock stand at a moment.
func (p *office) stand(at string) {
	p.t.Helper()
	p.Exec("CREATE OR REPLACE FUNCTION phantom_now() RETURNS timestamptz LANGUAGE sql STABLE AS $$SELECT timestamptz '" + at + "'$$")
}

// fault is what goes wrong with one request.
type fault int

const (
	none       fault = iota
	dropBefore       // the connection breaks and nothing was taken
	dropAfter        // it was taken, and the answer is lost
	cutAfter         // it was taken, and the answer breaks off
	fail500          // 500 before
	fail500After
	fail409
	fail429
)

// world stands in for Stripe, Resend and Twilio.
type world struct {
	mutex    sync.Mutex
	invoices map[string]string // by id: JSON in place of the default
	charge   string            // of every invoice: JSON in place of the default
	phones   map[string]string // by customer
	disputed map[string]bool   // by customer
	pending  map[string]string // by customer: the invoice that their bank is paying
	emails   map[string]taking // by idempotency key: what Resend has taken
	bodies   map[string]string // the first bytes under a key
	changed  int               // requests with the key of another's bytes
	texts    []smsTaken
	requests int // to send
	faults   func(n int) fault
	status   int // of every send, if not 0
	answer   string
	wait     chan struct{} // if not nil, a send takes its message and waits here before it answers
	arrived  chan struct{}
	reading  func()       // if not nil, called whenever an invoice is read
	down     string       // a path of Stripe's that fails
	reads    atomic.Int64 // of Stripe's objects
}

// counting returns how often Stripe was asked since.
func (w *world) counting() func() int64 {
	before := w.reads.Load()
	return func() int64 { return w.reads.Load() - before }
}

type taking struct{ id, body string }

type smsTaken struct {
	sid, to, from, body string
	at                  time.Time
}

func newWorld() *world {
	return &world{invoices: map[string]string{}, phones: map[string]string{}, disputed: map[string]bool{}, pending: map[string]string{}, emails: map[string]taking{}, bodies: map[string]string{}}
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mutex.Lock()
	down := w.down != "" && strings.HasPrefix(r.URL.Path, w.down)
	w.mutex.Unlock()
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		w.reads.Add(1)
	}
	switch path := r.URL.Path; {
	case down:
		rw.WriteHeader(http.StatusServiceUnavailable)
	case strings.HasPrefix(path, "/v1/invoices/"):
		id := strings.TrimPrefix(path, "/v1/invoices/")
		w.mutex.Lock()
		text, reading, charge := w.invoices[id], w.reading, w.charge
		w.mutex.Unlock()
		if charge == "" {
			charge = `{"payment_method_details":{"type":"card","card":{"brand":"visa","last4":"4242"}}}`
		}
		if reading != nil {
			reading()
		}
		if text == "" {
			text = `"status":"open","amount_remaining":4900`
		}
		fmt.Fprintf(rw, `{"id":%q,"object":"invoice","currency":"usd","paid":false,"number":"A1-7","customer_name":"Ada Canary","account_name":"Example Software","charge":%s,"hosted_invoice_url":"http://127.0.0.1/i/acct_1/%s?s=ap",%s}`, id, charge, id, text)
	case strings.HasPrefix(path, "/v1/customers/"):
		id := strings.TrimPrefix(path, "/v1/customers/")
		w.mutex.Lock()
		phone, ok := w.phones[id]
		w.mutex.Unlock()
		if !ok {
			phone = number
		}
		fmt.Fprintf(rw, `{"id":%q,"object":"customer","phone":%q,"address":{"country":"US"}}`, id, phone)
	case path == "/v1/charges":
		w.mutex.Lock()
		disputed, pending := w.disputed[r.URL.Query().Get("customer")], w.pending[r.URL.Query().Get("customer")]
		w.mutex.Unlock()
		if pending != "" {
			fmt.Fprintf(rw, `{"data":[{"status":"pending","invoice":%q}]}`, pending)
			return
		}
		if disputed {
			fmt.Fprint(rw, `{"data":[{"status":"succeeded","disputed":true,"dispute":{"status":"needs_response"}}]}`)
			return
		}
		fmt.Fprint(rw, `{"data":[]}`)
	case path == "/resend/domains":
		fmt.Fprint(rw, `{"data":[]}`)
	case path == "/resend/emails":
		w.email(rw, r)
	case strings.HasSuffix(path, "/Messages.json") && r.Method == http.MethodPost:
		w.sms(rw, r)
	case strings.HasSuffix(path, "/Messages.json"):
		w.list(rw, r)
	case strings.HasPrefix(path, "/twilio/2010-04-01/Accounts/"):
		fmt.Fprintf(rw, `{"sid":%q,"status":"active"}`, twilioSID)
	default:
		http.NotFound(rw, r)
	}
}

// set changes the world between the requests, or reads it: a request whose answer was lost may
// still be in its handler.
func (w *world) set(change func()) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	change()
}

// took is what has happened so far: the requests to send, and the emails and SMS that were taken.
func (w *world) took() (requests, emails, texts int) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.requests, len(w.emails), len(w.texts)
}

// begin counts a send and says what goes wrong with it.
func (w *world) begin() fault {
	w.requests++
	if w.faults == nil {
		return none
	}
	return w.faults(w.requests)
}

func (w *world) email(rw http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	f, key := w.begin(), r.Header.Get("Idempotency-Key")
	if r.Header.Get("Authorization") != "Bearer "+resendKey || key == "" {
		rw.WriteHeader(http.StatusForbidden)
		fmt.Fprint(rw, `{"statusCode":403,"name":"invalid_api_key","message":"API key is invalid"}`)
		return
	}
	if first, ok := w.bodies[key]; ok && first != string(text) {
		w.changed++
		rw.WriteHeader(http.StatusConflict)
		fmt.Fprint(rw, `{"statusCode":409,"name":"invalid_idempotent_request","message":"changed"}`)
		return
	}
	w.bodies[key] = string(text)
	if w.refuses(rw, f, `{"statusCode":409,"name":"concurrent_idempotent_requests","message":"wait"}`) {
		return
	}
	took, ok := w.emails[key]
	if !ok {
		took = taking{uuid.NewString(), string(text)}
		w.emails[key] = took
	}
	w.respond(rw, f, 200, fmt.Sprintf(`{"id":%q}`, took.id))
}

func (w *world) sms(rw http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		return
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	f := w.begin()
	if w.refuses(rw, f, `{"code":20409,"status":409}`) {
		return
	}
	took := smsTaken{fmt.Sprintf("SM%032d", len(w.texts)), r.Form.Get("To"), r.Form.Get("From"), r.Form.Get("Body"), time.Now()}
	w.texts = append(w.texts, took)
	w.respond(rw, f, 201, fmt.Sprintf(`{"sid":%q,"status":"queued"}`, took.sid))
}

func (w *world) list(rw http.ResponseWriter, r *http.Request) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	var all []string
	for _, took := range w.texts {
		if took.to == r.URL.Query().Get("To") {
			all = append(all, fmt.Sprintf(`{"sid":%q,"to":%q,"body":%q,"date_created":%q,"date_sent":null}`, took.sid, took.to, took.body, took.at.UTC().Format(time.RFC1123Z)))
		}
	}
	fmt.Fprintf(rw, `{"messages":[%s]}`, strings.Join(all, ","))
}

// refuses plays the faults before which nothing is taken.
func (w *world) refuses(rw http.ResponseWriter, f fault, conflict string) bool {
	switch {
	case w.status != 0:
		rw.WriteHeader(w.status)
		fmt.Fprint(rw, w.answer)
	case f == dropBefore:
		panic(http.ErrAbortHandler)
	case f == fail500:
		rw.WriteHeader(http.StatusInternalServerError)
	case f == fail409:
		rw.WriteHeader(http.StatusConflict)
		fmt.Fprint(rw, conflict)
	case f == fail429:
		rw.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(rw, `{"statusCode":429,"name":"rate_limit_exceeded","message":"slow"}`)
	default:
		return false
	}
	return true
}

// respond plays the faults after which something was taken.
func (w *world) respond(rw http.ResponseWriter, f fault, status int, text string) {
	if wait := w.wait; wait != nil {
		w.arrived <- struct{}{}
		w.mutex.Unlock()
		<-wait
		w.mutex.Lock()
	}
	switch f {
	case dropAfter:
		panic(http.ErrAbortHandler)
	case fail500After:
		rw.WriteHeader(http.StatusInternalServerError)
	case cutAfter:
		rw.Header().Set("Content-Length", fmt.Sprint(len(text)+10))
		rw.WriteHeader(status)
		fmt.Fprint(rw, text[:len(text)/2])
	default:
		rw.WriteHeader(status)
		fmt.Fprint(rw, text)
	}
}

// linksTo says whether a page has a link to an address.
func linksTo(page, address string) bool {
	return strings.Contains(html.UnescapeString(page), `href="`+address+`"`)
}
