package sandbox

import (
	"cmp"
	"math"
	"net/http"
	"slices"
)

// table holds one kind of object, oldest first. Rows of one second keep the order in which they
// were added, so a cursor stays where it is while others add rows.
type table struct {
	noun string // as in "No such customer"
	rows []object
	byID map[string]object

	messy bool // a row was added that is older than the one before it

	shelf *shelf // a long history that nobody changes, beside the living rows; nil if there is none
}

func newTable(noun string) *table { return &table{noun: noun, byID: map[string]object{}} }

// has says whether there is an object with this id.
func (t *table) has(id string) bool {
	return t.byID[id] != nil || t.shelf != nil && t.shelf.find(id) >= 0
}

func (t *table) add(o object) {
	if n := len(t.rows); n > 0 && t.rows[n-1].meta().Created > o.meta().Created {
		t.messy = true
	}
	t.rows = append(t.rows, o)
	t.byID[o.meta().ID] = o
}

func byCreated(a, b object) int {
	x, y := a.meta().Created, b.meta().Created
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// sort brings the rows in order. Nearly always they are: a mutation adds at the clock.
func (t *table) sort() {
	if t.messy {
		slices.SortStableFunc(t.rows, byCreated)
		t.messy = false
	}
}

// index is the place of a row, or -1.
func (t *table) index(id string) int {
	o, ok := t.byID[id]
	if !ok {
		return -1
	}
	i, _ := slices.BinarySearchFunc(t.rows, o, byCreated)
	for ; i < len(t.rows); i++ {
		if t.rows[i] == o {
			return i
		}
	}
	return -1
}

// row is one object of a table: a living one, or the n-th of its shelf.
type row struct {
	live object
	n    int
}

// spot is a place between rows: so many living rows and so many on the shelf are older.
type spot struct{ live, shelved int }

// spotAt is the place before the first row that was created at t or later.
func (t *table) spotAt(created int64) spot {
	at, _ := slices.BinarySearchFunc(t.rows, created, func(o object, c int64) int { return cmp.Compare(o.meta().Created, c) })
	if t.shelf == nil {
		return spot{live: at}
	}
	return spot{at, t.shelf.search(created)}
}

// spotOf is the place just before a row, and next the one just after it. Of one second, what is on
// the shelf is older.
func (t *table) spotOf(id string) (before, next spot, found bool) {
	if i := t.index(id); i >= 0 {
		before.live = i
		if t.shelf != nil {
			before.shelved = t.shelf.search(t.rows[i].meta().Created + 1)
		}
		return before, spot{i + 1, before.shelved}, true
	}
	if t.shelf == nil {
		return before, next, false
	}
	i := t.shelf.find(id)
	if i < 0 {
		return before, next, false
	}
	before = spot{t.spotAt(t.shelf.created(i)).live, i}
	return before, spot{before.live, i + 1}, true
}

// page walks from the cursor: to older rows, or with ending_before to newer ones. Two binary
// searches find the span of created, so a narrow window of a long table costs no more than its own
// rows.
func (q *request) page(t *table, f filter, limit int) (rows []row, more bool, refused *answer) {
	after, before := q.form.Get("starting_after"), q.form.Get("ending_before")
	if after != "" && before != "" {
		return nil, false, badParam("parameters_exclusive", "", "You may only specify one of these parameters: starting_after, ending_before.")
	}
	low, high := t.spotAt(f.from), t.spotAt(f.to+1)
	if f.to == math.MaxInt64 {
		high = spot{live: len(t.rows)}
		if t.shelf != nil {
			high.shelved = t.shelf.size()
		}
	}
	if id := after + before; id != "" {
		older, newer, found := t.spotOf(id)
		switch {
		case !found:
			a := missing(http.StatusBadRequest, t.noun, id, map[bool]string{true: "starting_after", false: "ending_before"}[after != ""])
			return nil, false, &a
		case after != "":
			high = spot{min(high.live, older.live), min(high.shelved, older.shelved)}
		default:
			low = spot{max(low.live, newer.live), max(low.shelved, newer.shelved)}
		}
	}
	w := walk{t: t, f: f, low: low, high: high}
	if t.shelf != nil {
		w.pick, w.picked = t.shelf.pick(f)
	}
	w.start(before != "")
	for {
		r, ok := w.next()
		if !ok {
			break
		}
		if len(rows) == limit {
			more = true
			break
		}
		rows = append(rows, r)
	}
	if before != "" {
		slices.Reverse(rows)
	}
	return rows, more, nil
}

// walk steps through both halves of a table at once, in order of creation.
type walk struct {
	t         *table
	f         filter
	low, high spot
	up        bool
	pick      []uint32 // where the filter leaves few rows of the shelf: exactly these, ascending
	picked    bool
}

func (w *walk) start(up bool) {
	w.up = up
	if w.picked { // from here on the walk counts places in pick, not on the shelf
		at := func(n int) int {
			i, _ := slices.BinarySearch(w.pick, uint32(n))
			return i
		}
		w.low.shelved, w.high.shelved = at(w.low.shelved), at(w.high.shelved)
	}
}

// next is the next row that the filter keeps.
func (w *walk) next() (row, bool) {
	for {
		live, shelved := w.low.live < w.high.live, w.low.shelved < w.high.shelved
		if !live && !shelved {
			return row{}, false
		}
		i, j := w.high.live-1, w.high.shelved-1
		if w.up {
			i, j = w.low.live, w.low.shelved
		}
		if shelved && w.picked {
			j = int(w.pick[j])
		}
		if live && shelved { // of one second, what is on the shelf is older
			shelfOlder := w.t.shelf.created(j) <= w.t.rows[i].meta().Created
			live = shelfOlder != w.up
		}
		switch {
		case live && w.up:
			w.low.live++
		case live:
			w.high.live--
		case w.up:
			w.low.shelved++
		default:
			w.high.shelved--
		}
		if live {
			if o := w.t.rows[i]; w.f.keeps(o) {
				return row{live: o}, true
			}
			continue
		}
		if w.f.keepsShelved(w.t.shelf, j) {
			return row{n: j}, true
		}
	}
}
