package web

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
)

// maxBody caps every request's body but an event's, a playbook's and a policy's, which may list
// thousands of ids.
const (
	maxBody     = 64 << 10
	maxPlaybook = 512 << 10
)

// routed serves what the mux knows and answers in JSON what it does not: 404, or 405 with Allow. A
// path that the mux would clean by a redirect is unknown, and HEAD is allowed only where a GET
// changes nothing.
func routed(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "" || path.Clean(r.URL.Path) != r.URL.Path {
			notFound(w)
			return
		}
		handler, pattern := mux.Handler(r)
		switch {
		case pattern == "":
			refuse(w, r, handler)
		case r.Method == http.MethodHead && changesState(r):
			methodNotAllowed(w, http.MethodGet)
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

// changesState reports a route of the handshake, whose GET makes or uses up a state.
func changesState(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/api/auth/") }

// refuse asks the mux's own error handler which error it is.
func refuse(w http.ResponseWriter, r *http.Request, handler http.Handler) {
	answer := &discarded{header: make(http.Header)}
	handler.ServeHTTP(answer, r)
	if answer.status == http.StatusMethodNotAllowed {
		allow := answer.header.Get("Allow")
		if changesState(r) {
			allow = http.MethodGet
		}
		methodNotAllowed(w, allow)
		return
	}
	notFound(w)
}

func methodNotAllowed(w http.ResponseWriter, allow string) {
	w.Header().Set("Allow", allow)
	writeError(w, http.StatusMethodNotAllowed, "method_not_allowed", "This address does not take that method.")
}

// discarded keeps an answer's status and header.
type discarded struct {
	header http.Header
	status int
}

func (d *discarded) Header() http.Header            { return d.header }
func (d *discarded) WriteHeader(status int)         { d.status = status }
func (d *discarded) Write(text []byte) (int, error) { return len(text), nil }

// closeWhenDraining tells clients that keep a connection to take the next one elsewhere.
func (s *Server) closeWhenDraining(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) securityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.setHeaders(w.Header())
		next.ServeHTTP(w, r)
	})
}

func (s *Server) setHeaders(header http.Header) {
	if s.config.Secure {
		header.Set("Strict-Transport-Security", "max-age=31536000")
	}
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Referrer-Policy", "no-referrer") // the callback's address holds a code
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
}

func capBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limit := int64(maxBody)
		switch path := r.URL.Path; {
		case path == WebhookPath, strings.HasPrefix(path, WebhookPath+"/"):
			limit = maxEvent
		case slices.Contains([]string{"/api/playbook", "/api/shield/policy", "/api/shield/preview", "/api/shield/simulate"}, path):
			limit = maxPlaybook
		}
		if r.ContentLength > limit {
			requestTooLarge(w)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		next.ServeHTTP(w, r)
	})
}

// logged is a request's path as a log may show it: anyone who has the token of an address to
// unsubscribe can use it.
func logged(r *http.Request) string {
	if strings.HasPrefix(r.URL.Path, "/u/") {
		return "/u/{token}"
	}
	return r.URL.Path
}

// recoverPanics answers 500 and logs where it happened. The panic's own text is logged only if it
// comes from the runtime: another one may quote a secret.
func (s *Server) recoverPanics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(cause)
			}
			text := fmt.Sprintf("%T", cause)
			if fault, ok := cause.(runtime.Error); ok {
				text = fault.Error()
			}
			s.config.Log.Error("[SERVER] panic", "method", r.Method, "path", logged(r), "request_id", w.Header().Get(requestIDHeader), "cause", text, "stack", string(debug.Stack()))
			writeError(w, http.StatusInternalServerError, "internal", "Something went wrong on our side.")
		}()
		next.ServeHTTP(w, r)
	})
}
