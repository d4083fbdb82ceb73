package verdict

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"phantom/shield"
)

// Config is what a handler needs beside its table.
type Config struct {
	Table     *Table
	PublicURL string // whence it is reached, without a slash at its end
	Secure    bool   // that is https
	Draining  func() bool

	// Catch has everything of a merchant's known that was committed before it was called. nil:
	// there is nobody to ask, and who has seen more than is known gets a 503.
	Catch func(ctx context.Context, merchant uuid.UUID) error
	// Signer signs verdicts and lists; nil: nobody does here.
	Signer *Signer
}

// Handler answers who may keep access. It is safe for any number of requests.
type Handler struct {
	config Config
	table  *Table
	seen   seen
	asked  [4]atomic.Int64 // answers by protocol
	denied atomic.Int64
}

// The protocols, for [Handler.Counts].
const (
	byPath = iota
	byProxy
	byAuthZEN
	byOFREP
)

// New returns a handler.
func New(config Config) *Handler {
	if config.Draining == nil {
		config.Draining = func() bool { return false }
	}
	return &Handler{config: config, table: config.Table}
}

const (
	customersPath     = "/api/shield/customers/"
	subscriptionsPath = "/api/shield/subscriptions/"
	authPath          = "/api/shield/auth"
	listPath          = "/api/shield/list"
	changesPath       = "/api/shield/changes"
	authZENPath       = "/access/v1/evaluation"
	authZENsPath      = "/access/v1/evaluations"
	authZENAbout      = "/.well-known/authzen-configuration"
	jwksPath          = "/.well-known/jwks.json"
	flagsPath         = "/ofrep/v1/evaluate/flags"
	readyPath         = "/readyz/shield"
)

// Serves says whether a path is one of the handler's.
func Serves(path string) bool {
	switch path {
	case authPath, listPath, changesPath, authZENPath, authZENsPath, authZENAbout, jwksPath, flagsPath, readyPath:
		return true
	}
	return strings.HasPrefix(path, customersPath) || strings.HasPrefix(path, subscriptionsPath) || strings.HasPrefix(path, authPath+"/") ||
		strings.HasPrefix(path, flagsPath+"/")
}

// Headers that all answers share. They are never changed.
var (
	jsonType   = []string{"application/json"}
	noStore    = []string{"no-store"}
	transport  = []string{"max-age=31536000"}
	closing    = []string{"close"}
	isStale    = []string{"stale"}
	isExpired  = []string{"expired"}
	oneSecond  = []string{"1"}
	levelNames = func() map[shield.Level][]string {
		names := map[shield.Level][]string{}
		for _, level := range shield.Levels {
			names[level] = []string{string(level)}
		}
		return names
	}()
	reasonNames = func() map[shield.Reason][]string {
		names := map[shield.Reason][]string{}
		for _, reason := range reasons {
			names[reason] = []string{string(reason)}
		}
		return names
	}()
)

// ServeHTTP is the route table.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	// Each header costs a third of a microsecond, and no browser asks here.
	header["Cache-Control"] = noStore
	if h.config.Secure {
		header["Strict-Transport-Security"] = transport
	}
	if h.config.Draining() {
		header["Connection"] = closing
	}
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, customersPath):
		h.customer(w, r, path[len(customersPath):])
	case path == authPath || strings.HasPrefix(path, authPath+"/"):
		h.proxied(w, r)
	case path == authZENPath:
		h.evaluate(w, r)
	case path == authZENsPath:
		h.evaluateMany(w, r)
	case path == flagsPath:
		h.flags(w, r)
	case strings.HasPrefix(path, flagsPath+"/"):
		h.flag(w, r, path[len(flagsPath)+1:])
	case strings.HasPrefix(path, subscriptionsPath):
		h.subscription(w, r, path[len(subscriptionsPath):])
	case path == listPath:
		h.list(w, r)
	case path == changesPath:
		h.changes(w, r)
	case path == authZENAbout:
		h.about(w, r)
	case path == jwksPath:
		h.jwks(w, r)
	case path == readyPath:
		h.ready(w, r)
	default:
		fail(w, http.StatusNotFound, "not_found", "There is nothing at this address.")
	}
}

// fail answers with a code, as all of PHANTOM's API does.
func fail(w http.ResponseWriter, status int, code, message string) {
	header := w.Header()
	header["Content-Type"] = jsonType
	if status == http.StatusServiceUnavailable {
		header["Retry-After"] = oneSecond
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(`{"status":"error","code":"` + code + `","message":"` + message + `"}`))
}

func failField(w http.ResponseWriter, field, rule string) {
	w.Header()["Content-Type"] = jsonType
	w.WriteHeader(http.StatusBadRequest)
	_, _ = w.Write([]byte(`{"status":"error","code":"invalid_request","message":"The ` + field + " " + rule + `.","field":"` + field + `"}`))
}

// refusal is why nobody is answered.
type refusal struct {
	status        int
	code, message string
}

var (
	unauthorized = &refusal{http.StatusUnauthorized, "unauthorized", "The API key is missing, unknown, revoked or expired. Send it as Authorization: Bearer phs_…"}
	stillLoading = &refusal{http.StatusServiceUnavailable, "shield_loading", "The levels are being read. Try again in a moment."}
	disconnected = &refusal{http.StatusConflict, "merchant_disconnected", "The merchant has disconnected their Stripe account. Connect it again."}
	notFresh     = &refusal{http.StatusServiceUnavailable, "not_fresh_enough", "This revision is not known here yet. Ask again in a moment, or without Shield-At-Least."}
	noRevision   = &refusal{http.StatusBadRequest, "invalid_request", "The header Shield-At-Least must be a Shield-Revision of an earlier answer."}
)

func (f *refusal) write(w http.ResponseWriter) {
	if f.status == http.StatusUnauthorized {
		w.Header()["Www-Authenticate"] = bearerOnly
	}
	fail(w, f.status, f.code, f.message)
}

var bearerOnly = []string{"Bearer"}

// enter says whose key a request bears, and what is known of them.
func (h *Handler) enter(r *http.Request) (*tenant, *view, *refusal) {
	key := h.table.keyOf(r.Header["Authorization"])
	if key == nil {
		if !h.table.Loaded() {
			return nil, nil, stillLoading
		}
		return nil, nil, unauthorized
	}
	entry := h.table.tenantOf(key.Merchant)
	if entry == nil {
		return nil, nil, stillLoading
	}
	v := entry.view.Load()
	if v.Disconnected {
		return nil, nil, disconnected
	}
	if least := r.Header["Shield-At-Least"]; least != nil {
		if f := h.atLeast(r.Context(), entry, least); f != nil {
			return nil, nil, f
		}
		v = entry.view.Load()
	}
	return entry, v, nil
}

const (
	waitForNews   = 250 * time.Millisecond
	askAtMost     = 2 * time.Second
	staleAfter    = 5 * time.Second
	lookForNews   = time.Millisecond
	mostPermitted = 64 << 10 // of a body
)

// atLeast waits until a revision is known, and asks the database when that takes long.
func (h *Handler) atLeast(ctx context.Context, entry *tenant, values []string) *refusal {
	if len(values) != 1 {
		return noRevision
	}
	epoch, number, _ := strings.Cut(values[0], ".")
	want, err := strconv.ParseInt(number, 10, 64)
	if err != nil || len(epoch) != 8 || want < 0 {
		return noRevision
	}
	isKnown := func() bool { return h.table.Epoch() == epoch && entry.view.Load().Revision >= want }
	for end := time.Now().Add(waitForNews); !isKnown(); time.Sleep(lookForNews) {
		if time.Now().After(end) || ctx.Err() != nil {
			break
		}
	}
	if isKnown() {
		return nil
	}
	if h.config.Catch != nil && h.table.Epoch() == epoch { // of another one the database knows no more
		asking, cancel := context.WithTimeout(ctx, askAtMost)
		defer cancel()
		if h.config.Catch(asking, entry.view.Load().ID) == nil && isKnown() {
			return nil
		}
	}
	return notFresh
}

// mark says how old an answer is, and whether it is older than the policy allows.
func (h *Handler) mark(header http.Header, v *view) (expired bool) {
	age := h.table.Age()
	if age <= staleAfter {
		return false
	}
	header["Age"] = []string{strconv.Itoa(int(age / time.Second))}
	if expired = age > time.Duration(v.Policy.Fail.MaxStale); expired {
		header["Shield-Freshness"] = isExpired
	} else {
		header["Shield-Freshness"] = isStale
	}
	return expired
}

// buffers are where answers are written before they leave.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 1<<10); return &b }}

// send answers 200 with a body.
func send(w http.ResponseWriter, contentType []string, body []byte) {
	header := w.Header()
	header["Content-Type"] = contentType
	if len(body) > 2000 { // shorter ones net/http measures itself
		header["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	_, _ = w.Write(body)
}

// onlyGet refuses other methods.
func onlyGet(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header()["Allow"] = getOrHead
	fail(w, http.StatusMethodNotAllowed, "method_not_allowed", "This address does not take that method.")
	return false
}

func onlyPost(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodPost {
		return true
	}
	w.Header()["Allow"] = postAlone
	fail(w, http.StatusMethodNotAllowed, "method_not_allowed", "This address does not take that method.")
	return false
}

var (
	getOrHead = []string{"GET, HEAD"}
	postAlone = []string{"POST"}
)

// featureOf reads ?feature=, which is all that a query may hold.
func featureOf(query string) (feature string, ok bool) {
	if query == "" {
		return "", true
	}
	feature, ok = strings.CutPrefix(query, "feature=")
	return feature, ok && shield.IsFeature(feature)
}

// asks is who asks, and about which feature, if any. Where it is not ok, it was answered.
func (h *Handler) asks(w http.ResponseWriter, r *http.Request, field, id string) (entry *tenant, v *view, feature string, ok bool) {
	if !onlyGet(w, r) {
		return nil, nil, "", false
	}
	entry, v, refused := h.enter(r)
	if refused != nil {
		refused.write(w)
		return nil, nil, "", false
	}
	if !shield.IsID(id) {
		failField(w, field, "must be an id such as "+field[:3]+"_…")
		return nil, nil, "", false
	}
	if feature, ok = featureOf(r.URL.RawQuery); !ok {
		failField(w, "query", onlyFeature)
	}
	return entry, v, feature, ok
}

const onlyFeature = "takes only feature, in lower-case letters, digits and _ . -"

func (h *Handler) customer(w http.ResponseWriter, r *http.Request, id string) {
	id, signed := strings.CutSuffix(id, "/verdict")
	if strings.Contains(id, "/") {
		fail(w, http.StatusNotFound, "not_found", "There is nothing at this address.")
		return
	}
	entry, v, feature, ok := h.asks(w, r, "customer", id)
	if !ok {
		return
	}
	if signed && feature != "" {
		failField(w, "query", "takes nothing here")
		return
	}
	expired := h.mark(w.Header(), v)
	if signed {
		h.signVerdict(w, entry, v, id, expired)
		return
	}
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	var a answer
	*b, a = h.lookUp((*b)[:0], v, id, feature, expired)
	h.count(byPath, entry, v, id, a)
	send(w, jsonType, *b)
}

// lookUp writes a customer's verdict.
func (h *Handler) lookUp(dst []byte, v *view, customer, feature string, expired bool) ([]byte, answer) {
	s, v, record := h.table.held(v, customer)
	defer s.mutex.RUnlock()
	return v.appendVerdict(dst, record, customer, feature, h.table.products.list(), expired)
}

// levelOf is what a customer has, and the view by which that is so.
func (h *Handler) levelOf(v *view, customer string, expired bool) (answer, *view) {
	s, v, record := h.table.held(v, customer)
	defer s.mutex.RUnlock()
	return v.answerOf(record, expired), v
}

func (h *Handler) subscription(w http.ResponseWriter, r *http.Request, id string) {
	entry, v, feature, ok := h.asks(w, r, "subscription", id)
	if !ok {
		return
	}
	expired := h.mark(w.Header(), v)
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	var a answer
	var customer string
	*b, a, customer = h.lookUpSubscription((*b)[:0], v, id, feature, expired)
	h.count(byPath, entry, v, customer, a)
	send(w, jsonType, *b)
}

func (h *Handler) lookUpSubscription(dst []byte, v *view, id, feature string, expired bool) ([]byte, answer, string) {
	for {
		if at, is := h.table.ownerOf(v.slot, id); is {
			s := &h.table.records[at.shard]
			s.mutex.RLock()
			if record := s.findOwner(at.print, v.slot, id); record != nil {
				defer s.mutex.RUnlock()
				dst, a := v.appendSubscription(dst, record, id, feature, h.table.products.list(), expired)
				return dst, a, customerOf(record)
			}
			s.mutex.RUnlock() // it went meanwhile
		}
		next := h.table.replaced(v)
		if next == nil {
			dst, a := v.appendSubscription(dst, nil, id, feature, nil, expired)
			return dst, a, ""
		}
		v = next
	}
}

// count notes what was answered.
func (h *Handler) count(protocol int, entry *tenant, v *view, customer string, a answer) {
	h.asked[protocol].Add(1)
	switch {
	case !a.known:
		entry.unknown.Add(1)
	case a.access && a.inDebt:
		h.seen.note(v.ID, customer)
	}
	if !a.access {
		h.denied.Add(1)
	}
}

// Counts are the answers by protocol, and how many of them denied access.
func (h *Handler) Counts() (byProtocol map[string]int64, denied int64) {
	return map[string]int64{
		"path": h.asked[byPath].Load(), "auth": h.asked[byProxy].Load(), "authzen": h.asked[byAuthZEN].Load(), "ofrep": h.asked[byOFREP].Load(),
	}, h.denied.Load()
}

// Unknown is how often a merchant's app has asked about customers of whom nothing is known, by
// account. A typo in a header looks like this.
func (t *Table) Unknown() map[string]int64 {
	all := map[string]int64{}
	for _, entry := range *t.known.Load() {
		if n := entry.unknown.Load(); n > 0 {
			all[entry.view.Load().Account] = n
		}
	}
	return all
}

func (h *Handler) ready(w http.ResponseWriter, r *http.Request) {
	if !onlyGet(w, r) {
		return
	}
	if !h.table.Loaded() {
		stillLoading.write(w)
		return
	}
	send(w, jsonType, []byte(`{"status":"ok","age_seconds":`+strconv.Itoa(int(h.table.Age()/time.Second))+`}`))
}

// seen are the customers who owe and were let in: their access is proven. Each is noted once until
// somebody takes them.
type seen struct {
	mutex sync.RWMutex
	of    map[SeenCustomer]bool
}

// SeenCustomer is a customer who was let in.
type SeenCustomer struct {
	Merchant uuid.UUID
	Customer string
}

// mostSeen bounds what is kept when nobody takes it.
const mostSeen = 100_000

func (s *seen) note(merchant uuid.UUID, customer string) {
	c := SeenCustomer{merchant, customer}
	s.mutex.RLock()
	known := s.of[c]
	s.mutex.RUnlock()
	if known {
		return
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.of == nil {
		s.of = map[SeenCustomer]bool{}
	}
	if len(s.of) < mostSeen {
		s.of[c] = true
	}
}

// Seen takes the customers who owe and were let in since it was called last.
func (h *Handler) Seen() (all []SeenCustomer) {
	h.seen.mutex.Lock()
	defer h.seen.mutex.Unlock()
	for c := range h.seen.of {
		all = append(all, c)
	}
	h.seen.of = nil
	return all
}
