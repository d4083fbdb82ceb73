// Package web is PHANTOM's HTTP face: one route table, its handlers, and the middleware around
// them. All answers but the first page's are JSON.
package web

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/semaphore"

	"phantom/connect"
	"phantom/db"
	"phantom/ghost"
	"phantom/input"
	"phantom/message"
	"phantom/oracle"
	"phantom/outbound"
	"phantom/rarely"
	"phantom/recovery"
	"phantom/shield"
	"phantom/task"
	"phantom/trail"
	"phantom/verdict"
)

// Config is what the handlers need.
type Config struct {
	Connect *connect.Service
	Ghost   *ghost.Service
	OpenAPI func() []byte               // docs/openapi.json
	Ping    func(context.Context) error // asks the database

	// how long what a request asks of the database may take; 0 is 10 seconds
	DatabaseTimeout time.Duration

	Requests int64 // of the merchant API that are answered at a time; 9
	Secure   bool  // PUBLIC_URL is https
	Log      *slog.Logger

	// Tasks lists a merchant's tasks, as [task.List] does.
	Tasks    func(ctx context.Context, merchantID uuid.UUID, filter task.Filter) (task.Page, error)
	Recovery *recovery.Service
	Messages *message.Service
	Shield   *shield.Service
	Oracle   *oracle.Service
	Outbound *outbound.Service
	// Verdicts answers what apps ask about access; nil: nobody does.
	Verdicts http.Handler
	// Trail lists what has been changed for a merchant, as [trail.List] does.
	Trail func(ctx context.Context, merchantID uuid.UUID, filter trail.Filter) (trail.Page, error)

	WebhookSecrets []string // any of them signs; none: events get 503

	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed

	AccessLog bool // each request has a line in the log, but those that ask about access
}

// Server answers requests until it is drained.
type Server struct {
	config   Config
	draining atomic.Bool
	lost     atomic.Bool  // the database did not answer the last time it was asked
	forged   atomic.Bool  // the last event's signature was refused
	strange  atomic.Bool  // the last incoming SMS's signature was refused
	refused  rarely.Lines // handshakes
	readOnly rarely.Lines // readiness amid a database that takes no writes

	unverified unverified // bodies that anybody may send
	inFlight   inFlight
	api        *semaphore.Weighted // requests with a key

	begins, exchanges *rates
	exchanging        *semaphore.Weighted // codes at Stripe
}

// New returns a Server; [Server.Serve] runs it.
func New(config Config) *Server {
	config.DatabaseTimeout = cmp.Or(config.DatabaseTimeout, 10*time.Second)
	return &Server{
		config: config, unverified: newUnverified(), api: semaphore.NewWeighted(cmp.Or(config.Requests, 9)),
		begins: newRates(beginsAMinute), exchanges: newRates(exchangesAMinute),
		exchanging: semaphore.NewWeighted(exchangesAtOnce),
	}
}

// Handler is the route table inside its middleware.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.index)
	mux.HandleFunc("GET /api/auth/stripe", s.authorize)
	mux.HandleFunc("GET /api/auth/callback", s.callback)
	mux.HandleFunc("POST /api/audits", s.authenticated(s.startAudit))
	mux.HandleFunc("GET /api/audits/{id}", s.authenticated(s.getAudit))
	mux.HandleFunc("GET /api/ghosts", s.authenticated(s.listGhosts))
	mux.HandleFunc("GET /api/ghosts/{id}", s.authenticated(s.getGhost))
	mux.HandleFunc("POST /api/ghosts/{id}/access", s.authenticated(s.setAccess))
	mux.HandleFunc("GET /api/playbook", s.authenticated(s.getPlaybook))
	mux.HandleFunc("PUT /api/playbook", s.authenticated(s.setPlaybook))
	mux.HandleFunc("POST /api/hunts", s.authenticated(s.startHunts))
	mux.HandleFunc("GET /api/hunts", s.authenticated(s.listHunts))
	mux.HandleFunc("GET /api/hunts/starts/{id}", s.authenticated(s.getStart))
	mux.HandleFunc("GET /api/hunts/{id}", s.authenticated(s.getHunt))
	// A mux of its own: one takes no fixed word beside /api/hunts/starts/{id}.
	huntmux := http.NewServeMux()
	huntmux.HandleFunc("GET /api/hunts/{id}/advice", s.authenticated(s.getAdvice))
	huntmux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { notFound(w) })
	mux.Handle("GET /api/hunts/{id}/{of}", huntmux)
	mux.HandleFunc("DELETE /api/hunts/{id}", s.evenDisconnected(s.stopHunt))
	mux.HandleFunc("POST /api/halt", s.evenDisconnected(s.halt))
	mux.HandleFunc("DELETE /api/halt", s.authenticated(s.unhalt))
	mux.HandleFunc("GET /api/summary", s.authenticated(s.summary))
	mux.HandleFunc("GET /api/oracle", s.authenticated(s.getOracle))
	mux.HandleFunc("GET /api/oracle/billing-dates", s.authenticated(s.listBillingDates))
	mux.HandleFunc("GET /api/oracle/heatmap", s.authenticated(s.oracleHeatmap))
	mux.HandleFunc("GET /api/tasks", s.authenticated(s.listTasks))
	mux.HandleFunc("GET /api/audit-log", s.authenticated(s.listTrail))
	mux.HandleFunc("GET /api/channels", s.authenticated(s.listChannels))
	mux.HandleFunc("PUT /api/channels/resend", s.authenticated(s.setResend))
	mux.HandleFunc("DELETE /api/channels/resend", s.evenDisconnected(s.deleteChannel(message.Resend)))
	mux.HandleFunc("POST /api/channels/resend/test", s.authenticated(s.testChannel(message.Resend)))
	mux.HandleFunc("PUT /api/channels/twilio", s.authenticated(s.setTwilio))
	mux.HandleFunc("DELETE /api/channels/twilio", s.evenDisconnected(s.deleteChannel(message.Twilio)))
	mux.HandleFunc("POST /api/channels/twilio/test", s.authenticated(s.testChannel(message.Twilio)))
	mux.HandleFunc("GET /api/templates", s.authenticated(s.listTemplates))
	mux.HandleFunc("PUT /api/templates/{channel}/{name}", s.authenticated(s.setTemplate))
	mux.HandleFunc("DELETE /api/templates/{channel}/{name}", s.authenticated(s.deleteTemplate))
	mux.HandleFunc("POST /api/templates/{channel}/{name}/preview", s.authenticated(s.previewTemplate))
	mux.HandleFunc("GET /api/shield/policy", s.authenticated(s.getPolicy))
	mux.HandleFunc("PUT /api/shield/policy", s.authenticated(s.setPolicy))
	mux.HandleFunc("POST /api/shield/preview", s.authenticated(s.previewPolicy))
	mux.HandleFunc("POST /api/shield/simulate", s.authenticated(s.simulatePolicy))
	mux.HandleFunc("GET /api/shield/overrides", s.authenticated(s.listDecisions(shield.KindOverride)))
	mux.HandleFunc("POST /api/shield/overrides", s.authenticated(s.decide(shield.KindOverride)))
	mux.HandleFunc("DELETE /api/shield/overrides/{id}", s.authenticated(s.takeBack(shield.KindOverride)))
	mux.HandleFunc("GET /api/shield/promises", s.authenticated(s.listDecisions(shield.KindPromise)))
	mux.HandleFunc("POST /api/shield/promises", s.authenticated(s.decide(shield.KindPromise)))
	mux.HandleFunc("DELETE /api/shield/promises/{id}", s.authenticated(s.takeBack(shield.KindPromise)))
	mux.HandleFunc("GET /api/shield/exemptions", s.authenticated(s.listDecisions(shield.KindExemption)))
	mux.HandleFunc("POST /api/shield/exemptions", s.authenticated(s.decide(shield.KindExemption)))
	mux.HandleFunc("DELETE /api/shield/exemptions/{id}", s.authenticated(s.takeBack(shield.KindExemption)))
	mux.HandleFunc("GET /api/shield/transitions", s.authenticated(s.listTransitions))
	mux.HandleFunc("GET /api/shield/holds", s.authenticated(s.listHolds))
	mux.HandleFunc("POST /api/shield/holds/{id}/release", s.authenticated(s.closeHold(s.config.Shield.Release)))
	mux.HandleFunc("POST /api/shield/holds/{id}/discard", s.authenticated(s.closeHold(s.config.Shield.Discard)))
	mux.HandleFunc("GET /api/endpoints", s.authenticated(s.listEndpoints))
	mux.HandleFunc("POST /api/endpoints", s.authenticated(s.createEndpoint))
	mux.HandleFunc("DELETE /api/endpoints/{id}", s.authenticated(s.deleteEndpoint))
	mux.HandleFunc("POST /api/endpoints/{id}/test", s.authenticated(s.testEndpoint))
	mux.HandleFunc("GET /api/endpoints/{id}/deliveries", s.authenticated(s.listDeliveries))
	mux.HandleFunc("GET /api/openapi.json", s.openAPI)
	mux.HandleFunc("POST /api/webhooks/stripe", s.webhook)
	mux.HandleFunc("POST /api/webhooks/stripe/{merchant_id}", s.ownWebhook)
	mux.HandleFunc("POST /api/webhooks/twilio/{merchant_id}", s.incomingSMS)
	mux.HandleFunc("GET /u/{token}", s.showUnsubscribe)
	mux.HandleFunc("POST /u/{token}", s.unsubscribe)
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	return s.beside(spareAnswered(s.identified(s.recoverPanics(s.closeWhenDraining(s.securityHeaders(capBody(routed(mux))))))))
}

// beside has what apps ask about access answered on a way of its own, which costs microseconds.
func (s *Server) beside(next http.Handler) http.Handler {
	if s.config.Verdicts == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if verdict.Serves(r.URL.Path) {
			noteAsked(r)
			s.config.Verdicts.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Draining says whether the server is about to stop.
func (s *Server) Draining() bool { return s.draining.Load() }

// index is the only HTML there is.
func (s *Server) index(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte("<!doctype html>\n<title>PHANTOM</title>\n<a href=\"/api/auth/stripe\">Connect Stripe</a>\n"))
}

func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	if address, now := s.clientAddress(r), time.Now(); !s.begins.take(address, now) {
		s.tellRefused(codeTooMany, errors.New("one address has begun too many"))
		s.begins.refuse(w, address, now, "Too many connections were begun from this address. Wait a moment, then start again.")
		return
	}
	var browser string
	if cookie, err := r.Cookie(s.cookieName()); err == nil {
		browser = cookie.Value
	}
	location, browser, err := s.config.Connect.Begin(r.Context(), browser)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.databaseAnswered()
	// One cookie for all tabs of the browser: each tab's state is a row of its own, bound to this
	// secret.
	http.SetCookie(w, &http.Cookie{
		Name: s.cookieName(), Value: browser, Path: "/", MaxAge: int(connect.StateLifetime / time.Second),
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: s.config.Secure,
	})
	w.Header().Set("Location", location)
	writeJSON(w, http.StatusFound, map[string]string{"status": "redirect"})
}

func (s *Server) callback(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	callback := connect.Callback{State: query.Get("state"), Code: query.Get("code"), Error: query.Get("error")}
	if cookie, err := r.Cookie(s.cookieName()); err == nil {
		callback.Browser = cookie.Value
	}
	for _, values := range query { // RFC 6749, section 3.1
		callback.Twice = callback.Twice || len(values) > 1
	}
	address := s.clientAddress(r)
	if now := time.Now(); !s.exchanges.has(address, now) {
		s.tellRefused(codeTooMany, errors.New("one address has sent too many codes"))
		s.exchanges.refuse(w, address, now, "Too many connections were made from this address. Wait a moment, then load this page again.")
		return
	}
	waiting, cancel := context.WithTimeout(r.Context(), placeTime)
	defer cancel()
	if s.exchanging.Acquire(waiting, 1) != nil { // the state stays: the page may be loaded again
		writeOverloaded(w)
		return
	}
	defer s.exchanging.Release(1)
	// Only what goes to Stripe counts: a state of nobody's takes nothing from those who share the
	// address, and neither does a database that is gone.
	callback.Exchanging = func() { s.exchanges.count(address, time.Now()) }
	account, err := s.config.Connect.Complete(r.Context(), callback)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.databaseAnswered()
	s.config.Log.Info("[STRIPE] merchant connected", "account", account)
	writeJSON(w, http.StatusOK, struct {
		Status  string `json:"status"`
		Message string `json:"message"`
	}{"success", "Merchant Authorized"})
}

// cookieName takes the __Host- prefix where browsers accept it: then no other host or subdomain can
// plant the cookie.
func (s *Server) cookieName() string {
	if s.config.Secure {
		return "__Host-phantom_browser"
	}
	return "phantom_browser"
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	if s.draining.Load() {
		writeError(w, http.StatusServiceUnavailable, "draining", "The server is shutting down.")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if err := s.config.Ping(ctx); db.ReadOnly(err) { // it answers, so it is not lost
		if _, is := s.readOnly.Say("readyz", time.Now()); is {
			s.config.Log.Warn("[DATABASE] it takes no writes: /readyz is 503 until it does")
		}
		writeError(w, http.StatusServiceUnavailable, connect.CodeDatabaseUnavailable, "The database takes no writes.")
		return
	} else if err != nil {
		s.fail(w, r, &connect.Error{Code: connect.CodeDatabaseUnavailable, Message: "The database is not available.", Cause: err})
		return
	}
	s.databaseAnswered()
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// statuses maps every code of package connect to its HTTP status.
var statuses = map[string]int{
	connect.CodeAccessDenied:        http.StatusForbidden,
	connect.CodeInvalidState:        http.StatusBadRequest,
	connect.CodeInvalidGrant:        http.StatusBadRequest,
	connect.CodeInvalidRequest:      http.StatusBadRequest,
	connect.CodeLivemodeMismatch:    http.StatusBadRequest,
	connect.CodeStripeUnavailable:   http.StatusBadGateway,
	connect.CodeDatabaseUnavailable: http.StatusServiceUnavailable,
	connect.CodeUnauthorized:        http.StatusUnauthorized,
	connect.CodeDisconnected:        http.StatusConflict,
	connect.CodeInsufficientScope:   http.StatusForbidden,
	connect.CodeTooManyStates:       http.StatusServiceUnavailable,
	connect.CodeNotListed:           http.StatusForbidden,
	connect.CodeNoPlatform:          http.StatusServiceUnavailable,
}

// fail answers an error with its code. What has no code is a fault of ours: 500, without internals,
// and its cause in the log. What a client did wrong is not logged: anybody could fill the log with
// it.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var known *connect.Error
	var wrong *paramError
	var field *input.FieldError
	var tooLarge *http.MaxBytesError
	var tries *message.TooManyTriesError
	switch {
	case errors.As(err, &known):
		s.failKnown(w, r, known)
	case errors.As(err, &wrong):
		writeJSON(w, http.StatusBadRequest, errorBody{"error", connect.CodeInvalidRequest, "The " + wrong.Error() + ".", wrong.field})
	case errors.As(err, &field):
		writeJSON(w, http.StatusBadRequest, errorBody{"error", connect.CodeInvalidRequest, "The " + field.Error() + ".", field.Field})
	case errors.Is(err, ghost.ErrNotFound), errors.Is(err, recovery.ErrNotFound), errors.Is(err, message.ErrNotFound), errors.Is(err, shield.ErrNotFound),
		errors.Is(err, outbound.ErrNotFound):
		notFound(w)
	case errors.Is(err, shield.ErrNotSeen):
		writeError(w, http.StatusConflict, "preview_required", "Nobody has seen what this policy would do. Send it to POST /api/shield/preview, "+
			"look at who would be lowered, and send it again with the token as Shield-Confirm, which is for this policy and for an hour; "+
			"or let it run in mode dry_run for 7 days.")
	case errors.Is(err, message.ErrTooManyTests):
		w.Header().Set("Retry-After", "3600")
		writeError(w, http.StatusTooManyRequests, codeTooMany, "The test messages of these 24 hours are used up.")
	case errors.As(err, &tries):
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(tries.Wait.Seconds()))))
		writeError(w, http.StatusTooManyRequests, codeTooMany, "The provider has refused too many credentials within an hour.")
	case errors.Is(err, message.ErrProvider):
		writeError(w, http.StatusBadGateway, "provider_unavailable", "The provider gave no clear answer. Try again in a moment.")
	case errors.As(err, &tooLarge):
		requestTooLarge(w)
	case errors.Is(err, errMediaType):
		writeError(w, http.StatusUnsupportedMediaType, "unsupported_media_type", "Send the body as Content-Type: application/json.")
	case db.Unavailable(err):
		s.failKnown(w, r, &connect.Error{Code: connect.CodeDatabaseUnavailable, Message: "The database is not available. Try again in a moment.", Cause: err})
	default:
		s.config.Log.Error("[SERVER] request failed", "method", r.Method, "path", logged(r), "request_id", w.Header().Get(requestIDHeader), "cause", db.Describe(err))
		writeError(w, http.StatusInternalServerError, "internal", "Something went wrong on our side.")
	}
}

func (s *Server) failKnown(w http.ResponseWriter, r *http.Request, known *connect.Error) {
	switch known.Code {
	case connect.CodeDatabaseUnavailable:
		s.databaseLost(r, known.Cause)
	case connect.CodeUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	case connect.CodeInsufficientScope: // RFC 6750, section 3.1
		w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope"`)
	case connect.CodeDisconnected: // the merchant's own doing
	case connect.CodeTooManyStates:
		w.Header().Set("Retry-After", "60")
		s.tellRefused(known.Code, known.Cause)
	default:
		s.tellRefused(known.Code, known.Cause)
	}
	writeError(w, statuses[known.Code], known.Code, known.Message)
}

// codeTooMany is the code of every 429.
const codeTooMany = "too_many_requests"

// tellRefused logs that a handshake was refused: the first of a kind, and then one a minute.
func (s *Server) tellRefused(code string, cause error) {
	unlogged, is := s.refused.Say(code, time.Now())
	if !is {
		return
	}
	log := s.config.Log
	if unlogged > 0 {
		log = log.With("unlogged_before", unlogged)
	}
	log.Warn("[STRIPE] handshake refused", "code", code, "cause", cause)
}

// databaseLost and databaseAnswered log the change and not each request in between. A client that
// left is no lost database.
func (s *Server) databaseLost(r *http.Request, cause error) {
	if r.Context().Err() == nil && !s.lost.Swap(true) {
		s.config.Log.Error("[DATABASE] PostgreSQL does not answer: requests get 503 until it does", "cause", db.Describe(cause))
	}
}

func (s *Server) databaseAnswered() {
	if s.lost.Load() && s.lost.Swap(false) {
		s.config.Log.Info("[DATABASE] PostgreSQL answers again")
	}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // our own fixed shapes always marshal
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

// errorBody is every error. Field is the part of the request that an invalid_request is about.
type errorBody struct {
	Status  string `json:"status"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Field   string `json:"field,omitempty"`
}

// writeError answers with a code. Who may ask again is told when: in five seconds, unless the
// caller knows better.
func writeError(w http.ResponseWriter, status int, code, message string) {
	if (status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests) && w.Header().Get("Retry-After") == "" {
		w.Header().Set("Retry-After", "5")
	}
	writeJSON(w, status, errorBody{Status: "error", Code: code, Message: message})
}

func notFound(w http.ResponseWriter) {
	writeError(w, http.StatusNotFound, "not_found", "There is nothing at this address.")
}

func requestTooLarge(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	writeError(w, http.StatusRequestEntityTooLarge, "request_too_large", "The request's body is too large.")
}
