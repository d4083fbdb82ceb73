package ghost

import (
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"phantom/db"
)

// epoch is older than every object of Stripe's.
var epoch = time.Date(2011, 1, 1, 0, 0, 0, 0, time.UTC)

// rounds are the lists of an audit. The payment intents of what is still open come last, so that
// they are as fresh as can be.
var rounds = [][]string{{"subscriptions", "invoices", "charges", "disputes"}, {openInvoices}}

const openInvoices = "open_invoices"

// window is a span of created times of one list, from <= created < to, that one reader reads newest
// first.
type window struct {
	id       uuid.UUID
	list     string
	from, to time.Time
	cursor   *string // the last object that is stored
}

// windows hands a round's windows to its readers.
type windows struct {
	mutex   sync.Mutex
	changed *sync.Cond
	open    []window
	busy    int // readers at a window
	idle    int // readers waiting for one
	stopped bool
}

// newWindows takes the open windows of some lists.
func newWindows(rows []db.AuditWindow, lists []string) *windows {
	w := &windows{}
	w.changed = sync.NewCond(&w.mutex)
	for _, row := range rows {
		if row.State == "open" && slices.Contains(lists, row.List) {
			w.open = append(w.open, window{id: row.ID, list: row.List, from: row.FromAt, to: row.ToAt, cursor: row.Cursor})
		}
	}
	return w
}

// next waits for a window to read. There will be none any more when ok is false.
func (w *windows) next() (next window, ok bool) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	for len(w.open) == 0 && w.busy > 0 && !w.stopped {
		w.idle++
		w.changed.Wait()
		w.idle--
	}
	if len(w.open) == 0 || w.stopped {
		return window{}, false
	}
	next, w.open = w.open[0], w.open[1:]
	w.busy++
	return next, true
}

// done says that a reader has left its window.
func (w *windows) done() {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.busy--
	w.changed.Broadcast()
}

// add offers a window that a reader gives away.
func (w *windows) add(given window) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.open = append(w.open, given)
	w.changed.Signal()
}

// stop lets the readers end after what they are reading.
func (w *windows) stop() {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.stopped = true
	w.changed.Broadcast()
}

// hungry reports whether a reader waits and nothing is there for it.
func (w *windows) hungry() bool {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.idle > len(w.open)
}
