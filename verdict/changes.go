package verdict

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"phantom/shield"
)

// The stream of changes is for sidecars: server-sent events. It begins with what a merchant is
// (event: tenant). Where the revision after which it was asked for is not the present one, all rows
// follow (event: rows). Then it says at which revision it begins (event: loaded). Then come changes
// (event: rows), and each second how long ago the source was heard of (event: alive). The id of
// loaded and of a change is its revision; other events have none.

// TenantNews is what a sidecar is told of the merchant.
type TenantNews struct {
	ID       string        `json:"id"`
	Account  string        `json:"account"`
	Livemode bool          `json:"livemode"`
	Epoch    string        `json:"epoch"`
	Revision int64         `json:"revision"`
	Version  int32         `json:"policy_version"`
	Policy   shield.Policy `json:"policy"`
	Whole    bool          `json:"whole"` // all rows follow, and replace what is known
}

const (
	streamPart = 200             // rows of one event
	aliveEvery = time.Second     // package edge leaves a stream that says nothing for five
	streamTime = 5 * time.Second // for one event to leave
)

// changes streams a merchant's rows until the client leaves or has to begin anew.
func (h *Handler) changes(w http.ResponseWriter, r *http.Request) {
	if !onlyGet(w, r) {
		return
	}
	entry, v, refused := h.enter(r)
	if refused != nil {
		refused.write(w)
		return
	}
	after, ok := afterOf(r)
	if !ok {
		failField(w, "after", "must be a Shield-Revision of an earlier answer")
		return
	}
	header := w.Header()
	header["Content-Type"] = []string{"text/event-stream"}
	if r.Method == http.MethodHead { // which no stream follows
		return
	}
	// First watch, then read: a change in between is told twice, which does no harm.
	watching := h.table.hub.watch(v.ID)
	defer h.table.hub.leave(v.ID, watching)
	v = entry.view.Load()
	w.WriteHeader(http.StatusOK)
	out := &stream{w: w, control: http.NewResponseController(w)}
	_ = out.control.SetReadDeadline(time.Time{}) // nothing more is read, and the stream has no end
	if out.begin(h, v, after) != nil {
		return
	}
	h.goOn(r, out, watching, entry, v.Revision)
}

// mayGoOn says whether a stream may: its key still opens this merchant, who is still connected.
func (h *Handler) mayGoOn(r *http.Request, entry *tenant) bool {
	v, key := entry.view.Load(), h.table.keyOf(r.Header["Authorization"])
	return key != nil && key.Merchant == v.ID && !v.Disconnected
}

// goOn streams what changes behind a revision.
func (h *Handler) goOn(r *http.Request, out *stream, watching *watch, entry *tenant, from int64) {
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-r.Context().Done():
			return
		case <-watching.over:
			return
		case c := <-watching.news:
			// What is told behind a new beginning is not a whole.
			if watching.isOver() || !h.mayGoOn(r, entry) {
				return
			}
			if c.revision <= from { // it was read
				continue
			}
			err = out.rows(token(h.table.Epoch(), c.revision), c.rows)
		case <-tick.C:
			if h.config.Draining() || !h.mayGoOn(r, entry) {
				return
			}
			err = out.event("alive", "", []byte(`{"age_ms":`+strconv.FormatInt(h.table.Age().Milliseconds(), 10)+`}`))
		}
		if err != nil {
			return
		}
	}
}

// afterOf is the revision that a client knows.
func afterOf(r *http.Request) (after string, ok bool) {
	after = r.Header.Get("Last-Event-ID")
	if query := r.URL.RawQuery; query != "" {
		given, is := strings.CutPrefix(query, "after=")
		if !is {
			return "", false
		}
		if after == "" {
			after = given
		}
	}
	if after == "" {
		return "", true
	}
	epoch, number, _ := strings.Cut(after, ".")
	_, err := strconv.ParseUint(number, 10, 63)
	return after, len(epoch) == 8 && err == nil
}

// stream writes events.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	buffer  []byte
}

// event writes one event. Each has its own time to leave: a stream has no end.
func (s *stream) event(name, id string, data []byte) error {
	s.buffer = append(append(s.buffer[:0], "event: "...), name...)
	if id != "" {
		s.buffer = append(append(s.buffer, "\nid: "...), id...)
	}
	s.buffer = append(append(append(s.buffer, "\ndata: "...), data...), "\n\n"...)
	_ = s.control.SetWriteDeadline(time.Now().Add(streamTime))
	if _, err := s.w.Write(s.buffer); err != nil {
		return err
	}
	return s.control.Flush()
}

var errReplaced = errors.New("the merchant's rows were read anew meanwhile")

func (s *stream) rows(id string, rows []shield.Row) error {
	if rows == nil {
		rows = []shield.Row{}
	}
	text, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	return s.event("rows", id, text)
}

// begin says what the merchant is, and everything where the client does not know it.
func (s *stream) begin(h *Handler, v *view, after string) error {
	news := TenantNews{
		ID: v.ID.String(), Account: v.Account, Livemode: v.Livemode, Epoch: h.table.Epoch(), Revision: v.Revision, Version: v.Version, Policy: v.Policy,
		Whole: after != v.revision,
	}
	text, err := json.Marshal(news)
	if err != nil {
		return err
	}
	if err := s.event("tenant", "", text); err != nil {
		return err
	}
	if news.Whole {
		var part []shield.Row
		for row := range h.table.rowsOf(v) {
			if part = append(part, row); len(part) == streamPart {
				if err := s.rows("", part); err != nil {
					return err
				}
				part = part[:0]
			}
		}
		if err := s.rows("", part); err != nil {
			return err
		}
	}
	if h.table.replaced(v) != nil { // the rows went while they were read
		return errReplaced
	}
	return s.event("loaded", v.revision, []byte(`{}`))
}
