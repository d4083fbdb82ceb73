package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lmittmann/tint"
)

type customPanic struct{ Token string }

func (p customPanic) Error() string { return p.Token }

func TestPanics(t *testing.T) {
	t.Parallel()
	const secret = "panicSecret7Zq"
	var none *Server
	for _, test := range []struct {
		name  string
		cause func()
		want  string
	}{
		{"a string", func() { panic(secret) }, "string"},
		{"an error", func() { panic(errors.New(secret)) }, "*errors.errorString"},
		{"a wrapped error", func() { panic(fmt.Errorf("store: %w", customPanic{secret})) }, "*fmt.wrapError"},
		{"a value of one's own", func() { panic(customPanic{secret}) }, "web.customPanic"},
		{"a pointer", func() { panic(&customPanic{secret}) }, "*web.customPanic"},
		{"bytes", func() { panic([]byte(secret)) }, "[]uint8"},
		{"nil", func() { panic(nil) }, "panic called with nil argument"},
		{"a nil pointer", func() { _ = none.config }, "nil pointer dereference"},
		{"an index", func() { _ = []int{}[len(secret)] }, "index out of range [14] with length 0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var text, lines bytes.Buffer
			s := New(Config{Log: slog.New(slog.NewMultiHandler(
				slog.NewJSONHandler(&lines, nil), tint.NewTextHandler(&text, &tint.Options{NoColor: true})))})
			handler := s.recoverPanics(s.securityHeaders(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { test.cause() })))
			request := httptest.NewRequest(http.MethodGet, "/x%0a%1b[31m[SECURITY]%20forged?code="+secret, nil)
			got := httptest.NewRecorder()
			handler.ServeHTTP(got, request)
			if want := `{"status":"error","code":"internal","message":"Something went wrong on our side."}`; got.Code != 500 || got.Body.String() != want {
				t.Errorf("%d %s", got.Code, got.Body)
			}
			if got.Header().Get("Content-Type") != "application/json" || got.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("headers %v", got.Header())
			}
			for _, log := range []string{lines.String(), text.String()} {
				if strings.Count(log, "\n") != 1 || strings.Contains(log, secret) || strings.Contains(log, "\x1b") || !strings.Contains(log, "panic_test.go") {
					t.Errorf("log %s", log)
				}
			}
			var line struct{ Level, Msg, Cause, Method, Path, Stack string }
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				t.Fatal(err)
			}
			if line.Level != "ERROR" || line.Msg != "[SERVER] panic" || !strings.Contains(line.Cause, test.want) || line.Method != request.Method {
				t.Errorf("line %+v, want cause %q", line, test.want)
			}
		})
	}
}

// The token of an address to unsubscribe is a credential: it is in no log, however its request
// fails.
func TestTokensAreNotLogged(t *testing.T) {
	t.Parallel()
	const token = "canaryToken7Zq3vT7w"
	var log bytes.Buffer
	s := New(Config{Log: slog.New(slog.NewJSONHandler(&log, nil))})
	broken := s.recoverPanics(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("purple") }))
	for _, target := range []string{"/u/" + token, "/%75/" + token, "/u/" + token + "?x=" + token} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			broken.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, target, nil))
			s.fail(httptest.NewRecorder(), httptest.NewRequest(method, target, nil), errors.New("disk is purple"))
		}
	}
	if text := log.String(); strings.Contains(text, token) || strings.Count(text, `"path":"/u/{token}"`) != 12 {
		t.Error(text)
	}
}

// A handler that gives up its connection on purpose is no fault.
func TestAbortPasses(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := New(Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	defer func() {
		cause, _ := recover().(error)
		if !errors.Is(cause, http.ErrAbortHandler) || log.Len() != 0 {
			t.Errorf("cause %v, log %s", cause, &log)
		}
	}()
	s.recoverPanics(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })).
		ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	t.Error("the abort was swallowed")
}

// Every code of package connect has a status; what has no code is a 500 whose cause the operator
// sees and the user does not.
func TestFail(t *testing.T) {
	t.Parallel()
	for code, status := range statuses {
		if status < 400 || http.StatusText(status) == "" {
			t.Errorf("%s has status %d", code, status)
		}
	}
	var log bytes.Buffer
	s := New(Config{Log: slog.New(slog.NewJSONHandler(&log, nil))})
	got := httptest.NewRecorder()
	s.fail(got, httptest.NewRequest(http.MethodGet, "/api/auth/stripe?state=shown", nil), errors.New("disk is purple"))
	if got.Code != 500 || strings.Contains(got.Body.String(), "purple") || !strings.Contains(got.Body.String(), `"code":"internal"`) {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	if !strings.Contains(log.String(), "disk is purple") || strings.Contains(log.String(), "shown") {
		t.Errorf("log %s", &log)
	}
}
