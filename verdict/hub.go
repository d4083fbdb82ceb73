package verdict

import (
	"sync"

	"github.com/google/uuid"

	"phantom/shield"
)

// hub tells those who watch a merchant's rows what has changed.
type hub struct {
	mutex   sync.Mutex
	watches map[uuid.UUID]map[*watch]bool
}

// watch is one who watches. Who does not keep up is sent away, and comes back for everything.
type watch struct {
	news chan change
	over chan struct{} // closed when everything has to be read anew
	once sync.Once
}

// change is a revision with its rows.
type change struct {
	revision int64
	rows     []shield.Row
}

const mostBehind = 256 // revisions

func (h *hub) watch(merchant uuid.UUID) *watch {
	w := &watch{news: make(chan change, mostBehind), over: make(chan struct{})}
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.watches == nil {
		h.watches = map[uuid.UUID]map[*watch]bool{}
	}
	if h.watches[merchant] == nil {
		h.watches[merchant] = map[*watch]bool{}
	}
	h.watches[merchant][w] = true
	return w
}

func (h *hub) leave(merchant uuid.UUID, w *watch) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	delete(h.watches[merchant], w)
	if len(h.watches[merchant]) == 0 {
		delete(h.watches, merchant)
	}
}

func (h *hub) tell(merchant uuid.UUID, revision int64, rows []shield.Row) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	for w := range h.watches[merchant] {
		select {
		case w.news <- change{revision, rows}:
		default:
			w.end()
		}
	}
}

// restart has everybody read a merchant's rows anew.
func (h *hub) restart(merchant uuid.UUID) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	for w := range h.watches[merchant] {
		w.end()
	}
}

// isOver says whether everything has to be read anew.
func (w *watch) isOver() bool {
	select {
	case <-w.over:
		return true
	default:
		return false
	}
}

func (w *watch) end() { w.once.Do(func() { close(w.over) }) }
