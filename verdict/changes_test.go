package verdict

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"phantom/internal/stage"
	"phantom/shield"
)

// The stream tells everything, and then what changes.
func TestChanges(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	server := httptest.NewServer(s.h)
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/api/shield/changes", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+ownKey)
	response, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	until := func(want string) string {
		t.Helper()
		text := ""
		buffer := make([]byte, 4096)
		for !strings.Contains(text, want) {
			n, err := response.Body.Read(buffer)
			text += string(buffer[:n])
			if err != nil && !errors.Is(err, io.EOF) || n == 0 {
				t.Fatalf("%v\n%s", err, text)
			}
		}
		return text
	}
	text := until("event: loaded")
	for _, want := range []string{`"account":"acct_own"`, `"whole":true`, `"s":"sub_blocked"`, "id: 0a1b2c3d.42"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing in\n%s", want, text)
		}
	}
	if strings.Contains(text, "foreign") {
		t.Errorf("another merchant's rows:\n%s", text)
	}
	s.table.Apply(s.own.ID, 43, []shield.Row{{Subscription: "sub_blocked", Customer: "cus_blocked", Level: shield.Full}})
	if text := until("id: 0a1b2c3d.43"); !strings.Contains(text, "event: rows") {
		t.Error(text)
	}
	until("event: alive")
}

// A stream ends when its key is revoked, and when its merchant disconnects.
func TestStreamsEndWithTheirKey(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(s *stand){
		"the key is revoked": func(s *stand) { s.table.SetKeys(s.own.ID, nil) },
		"the merchant has disconnected": func(s *stand) {
			gone := s.own
			gone.Disconnected = true
			s.table.Describe(gone)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStand(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/shield/changes", nil)
			r.Header.Set("Authorization", "Bearer "+ownKey)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				s.h.ServeHTTP(httptest.NewRecorder(), r)
			}()
			stage.Await(t, "the stream has begun", nil, func() bool {
				s.table.hub.mutex.Lock()
				defer s.table.hub.mutex.Unlock()
				return len(s.table.hub.watches[s.own.ID]) > 0
			})
			end(s)
			select {
			case <-ended:
			case <-time.After(20 * time.Second):
				cancel()
				<-ended
				t.Error("the stream goes on")
			}
		})
	}
}
