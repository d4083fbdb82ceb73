package ghost

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"phantom/connect"
	"phantom/db/dbtest"
	"phantom/sandbox"
	"phantom/state"
)

// drafts puts drafts into the list of invoices: one at the end of each page, or a page of them
// before each page. Where they are deleted, each is gone when the next page is asked for.
type drafts struct {
	next             http.Handler
	deleted, ofPages bool
	stop             func() // called with the so-many-th page, if there is one
	stopAt           int

	mutex  sync.Mutex
	behind map[string]string // draft: the object before it, "" for none
	served map[string]bool   // requests that have got their page of drafts
	pages  int
	lost   int
}

func (f *drafts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if r.URL.Path != "/v1/invoices" || !query.Has("limit") || query.Has("status") || query.Has("subscription") {
		f.next.ServeHTTP(w, r)
		return
	}
	f.mutex.Lock()
	defer f.mutex.Unlock()
	cursor := query.Get("starting_after")
	before, isDraft := f.behind[cursor]
	if isDraft && f.deleted {
		f.lost++
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"error":{"code":"resource_missing","message":"No such invoice: '%s'","param":"starting_after","type":"invalid_request_error"}}`, cursor)
		return
	}
	request := r.URL.RequestURI()
	if isDraft {
		query.Set("starting_after", before)
		cursor = before
		r.URL.RawQuery = query.Encode()
		r.RequestURI = r.URL.RequestURI()
	}
	answer := httptest.NewRecorder()
	f.next.ServeHTTP(answer, r)
	var page struct {
		Object string            `json:"object"`
		URL    string            `json:"url"`
		More   bool              `json:"has_more"`
		Data   []json.RawMessage `json:"data"`
	}
	if answer.Code != http.StatusOK || json.Unmarshal(answer.Body.Bytes(), &page) != nil {
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
		return
	}
	if f.pages++; f.pages == f.stopAt {
		f.stop()
	}
	draft := func(beside json.RawMessage, before string) json.RawMessage {
		var o struct{ Created int64 }
		_ = json.Unmarshal(beside, &o)
		id := fmt.Sprintf("in_draft%d", len(f.behind))
		f.behind[id] = before
		return fmt.Appendf(nil, `{"id":%q,"object":"invoice","status":"draft","created":%d,"subscription":"sub_1","amount_remaining":5,"currency":"usd"}`, id, o.Created)
	}
	switch {
	case f.ofPages && len(page.Data) > 0 && !f.served[request]:
		f.served[request] = true
		first := page.Data[0]
		page.Data, page.More = []json.RawMessage{draft(first, cursor), draft(first, cursor)}, true
	case !f.ofPages && page.More:
		last := page.Data[len(page.Data)-1]
		var o struct{ ID string }
		_ = json.Unmarshal(last, &o)
		page.Data = append(page.Data, draft(last, o.ID))
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(page)
}

// Drafts come and go while an audit reads, and one of them may be where the next page begins. Every
// other invoice is read once, no matter who stops in between.
func TestAuditsSurviveDeletedCursors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		drafts *drafts
	}{
		{"they stay", &drafts{}},
		{"they are deleted", &drafts{deleted: true}},
		{"pages of them are deleted", &drafts{deleted: true, ofPages: true}},
		{"they are deleted, and the audit is stopped", &drafts{deleted: true, stopAt: 8}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Charges: 2000})
			undisturbed := b.audit()
			want := fmt.Sprint(b.versionless())
			fake := test.drafts
			fake.next, fake.behind, fake.served = b.world, make(map[string]string), make(map[string]bool)
			server := httptest.NewServer(fake)
			defer server.Close()
			b.connect = connect.New(connect.Config{
				SecretKey: sandbox.SecretKey, ClientID: sandbox.ClientID, APIBase: server.URL, ConnectBase: server.URL, Log: b.s.log,
			}, b.pool)
			b.s = New(b.pool, b.connect, b.s.log)
			dbtest.Exec(t, b.pool, "DELETE FROM ghost_targets")
			id, err := b.s.StartAudit(t.Context(), b.merchant, nil)
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			if fake.stop = stop; fake.stopAt > 0 {
				if err := b.queue().RunOne(ctx, b.merchant, id); err == nil {
					t.Fatal("the audit was not stopped")
				}
			}
			if err := b.queue().RunOne(t.Context(), b.merchant, id); err != nil {
				t.Fatalf("%v\n%s", err, b.log)
			}
			row := b.auditRow(id)
			if row.State != state.AuditSucceeded {
				t.Fatalf("the audit %s: %v", row.State, text0(row.Error))
			}
			if len(fake.behind) < 10 || fake.deleted && fake.lost < 5 {
				t.Errorf("%d drafts, %d lost: this proves nothing", len(fake.behind), fake.lost)
			}
			b.assertTruth()
			if got := fmt.Sprint(b.versionless()); got != want {
				t.Error("the ghosts are others than without drafts")
			}
			objects := undisturbed.Objects
			if !fake.deleted {
				// a draft is made for each answer, and an audit that is stopped reads some again
				objects = row.Objects
				if extra := row.Objects - undisturbed.Objects; extra < 5 || extra > int64(len(fake.behind)) {
					t.Errorf("%d objects more for %d drafts", extra, len(fake.behind))
				}
			}
			if row.Objects != objects {
				t.Errorf("%d objects, without drafts %d", row.Objects, objects)
			}
			if strings.Contains(b.log.String(), "could not be read") {
				t.Errorf("a window could not be read\n%s", b.log)
			}
		})
	}
}
