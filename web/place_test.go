package web

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/uuid"
)

// A body that does not come and an answer that nobody reads hold none of the API's places.
func TestPlacesAreForStatementsAlone(t *testing.T) {
	t.Parallel()
	s := New(Config{Requests: 1})
	request := func() *http.Request { return httptest.NewRequest(http.MethodPost, "/api/hunts", nil) }
	slow := request()
	body := &waiting{began: make(chan struct{}), end: make(chan struct{})}
	slow.Body = struct {
		*waiting
		closer
	}{body, closer{}}
	ended := make(chan error, 2)
	go func() {
		ended <- s.limited(t.Context(), httptest.NewRecorder(), slow, uuid.UUID{1}, func(http.ResponseWriter) error { return nil })
	}()
	<-body.began
	reader := &slowReader{ResponseRecorder: httptest.NewRecorder(), writing: make(chan struct{}), end: make(chan struct{})}
	go func() {
		ended <- s.limited(t.Context(), reader, request(), uuid.UUID{2}, func(w http.ResponseWriter) error {
			writeJSON(w, http.StatusOK, "read me")
			return nil
		})
	}()
	<-reader.writing
	answered := false
	got := httptest.NewRecorder()
	if err := s.limited(t.Context(), got, request(), uuid.UUID{3}, func(w http.ResponseWriter) error {
		answered = true
		writeJSON(w, http.StatusAccepted, "done")
		return nil
	}); err != nil || !answered || got.Code != http.StatusAccepted || got.Body.String() != "\"done\"\n" && got.Body.String() != "\"done\"" {
		t.Errorf("another one: %v, answered %t, %d %s", err, answered, got.Code, got.Body)
	}
	close(body.end)
	close(reader.end)
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

type closer struct{}

func (closer) Close() error { return nil }

// slowReader is a client who does not read its answer until the end.
type slowReader struct {
	*httptest.ResponseRecorder
	writing, end chan struct{}
}

func (r *slowReader) Write(text []byte) (int, error) {
	close(r.writing)
	<-r.end
	return r.ResponseRecorder.Write(text)
}
