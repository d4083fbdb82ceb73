package web

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"regexp"
	"time"
)

// requestIDShape is what is taken over from a proxy or a client. Anything else could drive a
// terminal that shows the log.
var requestIDShape = regexp.MustCompile(`^[A-Za-z0-9._-]{8,128}$`)

const requestIDHeader = "X-Request-Id"

// identified gives each answer an id, by which the lines of the log about it are found, and leaves
// a line of each request where the operator wants one. A query is never in it: it may hold a code.
func (s *Server) identified(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(requestIDHeader)
		if !requestIDShape.MatchString(id) {
			var raw [16]byte
			_, _ = rand.Read(raw[:]) // never fails since Go 1.24
			id = hex.EncodeToString(raw[:])
		}
		w.Header().Set(requestIDHeader, id)
		if !s.config.AccessLog {
			next.ServeHTTP(w, r)
			return
		}
		began, counted := time.Now(), &counting{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			s.config.Log.Info("[SERVER] request", "method", r.Method, "path", logged(r), "status", counted.status,
				"bytes", counted.bytes, "took", time.Since(began).Round(time.Microsecond).String(), "request_id", id)
		}()
		next.ServeHTTP(counted, r)
	})
}

// counting notes what is answered.
type counting struct {
	http.ResponseWriter
	status int
	bytes  int
}

func (c *counting) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *counting) Write(text []byte) (int, error) {
	n, err := c.ResponseWriter.Write(text)
	c.bytes += n
	return n, err
}

// Unwrap lets [http.ResponseController] reach the connection.
func (c *counting) Unwrap() http.ResponseWriter { return c.ResponseWriter }
