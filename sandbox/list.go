package sandbox

import (
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// filters names the parameters by which a list can be narrowed, beside created and the cursors.
var filters = map[string][]string{
	"customers":       {"email"},
	"subscriptions":   {"customer", "status", "collection_method", "price"},
	"invoices":        {"customer", "subscription", "status", "collection_method"},
	"charges":         {"customer", "payment_intent"},
	"disputes":        {"charge", "payment_intent"},
	"events":          {"type", "types"},
	"payment_intents": {"customer"},
}

// refs are the filters whose value must be an id of this account.
var refs = map[string]string{
	"customer": "customers", "subscription": "subscriptions", "charge": "charges", "payment_intent": "payment_intents",
}

var statuses = map[string][]string{
	"subscriptions": {"active", "all", "canceled", "ended", "incomplete", "incomplete_expired", "past_due", "paused", "trialing", "unpaid"},
	"invoices":      {"draft", "open", "paid", "uncollectible", "void"},
}

// list answers newest first. What it shows is gathered under the lock; it is written down after the
// lock is gone, so that readers of long lists do not wait for each other.
func (s *Sandbox) list(name string) func(*request) answer {
	return func(q *request) answer {
		t := q.acc.tables[name]
		if a := q.unknown(append([]string{"limit", "starting_after", "ending_before", "created", "expand"}, filters[name]...)...); a != nil {
			return *a
		}
		f, refused := q.filter(name)
		if refused != nil {
			return *refused
		}
		limit := 10
		if v := q.form.Get("limit"); q.form.Has("limit") {
			n, err := strconv.Atoi(v)
			switch {
			case err != nil:
				return *badParam("parameter_invalid_integer", "limit", "Invalid integer: "+v)
			case n < 1:
				return *badParam("parameter_invalid_integer", "limit", "This value must be greater than or equal to 1.")
			case n > 100:
				return *badParam("parameter_invalid_integer", "limit", "This value must be less than or equal to 100.")
			}
			limit = n
		}
		rows, more, refused := q.page(t, f, limit)
		if refused != nil {
			return *refused
		}
		return q.showList(t, name, rows, more)
	}
}

// showList answers with a page, its rows expanded as asked.
func (q *request) showList(t *table, name string, rows []row, more bool) answer {
	var paths []string
	for _, p := range q.expands() {
		below, isBelow := strings.CutPrefix(p, "data.")
		if !isBelow {
			return notExpandable(p)
		}
		paths = append(paths, below)
	}
	var wanted expansions
	if t.shelf != nil {
		var bad string
		if wanted, bad = t.shelf.expansions(paths); bad != "" {
			return notExpandable("data." + bad)
		}
	}
	shown := make([]any, len(rows)) // an object as it is now, or its JSON
	for i, r := range rows {
		switch {
		case r.live == nil:
		case len(paths) == 0:
			shown[i] = snapshot(r.live)
		default:
			var bad string
			if shown[i], bad = q.acc.expand(r.live, paths); bad != "" {
				return notExpandable("data." + bad)
			}
		}
	}
	return answer{status: http.StatusOK, later: func() ([]byte, error) {
		out := make([]byte, 0, 256+len(rows)*(4+2*len(wanted))<<10) // an invoice has 4 KB
		out = append(out, `{"object":"list","url":"/v1/`+name+`","has_more":`...)
		out = append(strconv.AppendBool(out, more), `,"data":[`...)
		for i, r := range rows {
			if i > 0 {
				out = append(out, ',')
			}
			if r.live == nil {
				out = t.shelf.append(out, r.n, wanted)
				continue
			}
			if b, isJSON := shown[i].(json.RawMessage); isJSON {
				out = append(out, b...)
				continue
			}
			b, err := json.Marshal(shown[i])
			if err != nil {
				return nil, err
			}
			out = append(out, b...)
		}
		return append(out, "]}"...), nil
	}}
}

func notExpandable(path string) answer {
	return apiError(http.StatusBadRequest, "invalid_request_error", "", "expand", "This property cannot be expanded ("+path+").")
}

// filter is what a list is narrowed to: a span of created, both ends included, and conditions on
// fields.
type filter struct {
	from, to int64
	fields   []condition
}

// condition holds a row's field against what was asked. value is set where one value alone will do.
type condition struct {
	field, value string
	holds        func(string) bool
	onShelf      bool // a shelf has picked its rows by it
}

func equals(field, value string) condition {
	return condition{field: field, value: value, holds: func(got string) bool { return got == value }}
}

func (f filter) keeps(o object) bool {
	for _, c := range f.fields {
		if !c.holds(attr(o, c.field)) {
			return false
		}
	}
	return true
}

func (f filter) keepsShelved(s *shelf, n int) bool {
	for _, c := range f.fields {
		if !c.onShelf && !c.holds(s.attr(n, c.field)) {
			return false
		}
	}
	// an invoice without one leaves a gap
	return s.kind != "payment_intents" || s.h.invoices[n].intent != ""
}

// filter reads created and the list's own filters.
func (q *request) filter(name string) (filter, *answer) {
	out, refused := q.createdSpan()
	if refused != nil {
		return out, refused
	}
	add := func(field string, holds func(string) bool) {
		out.fields = append(out.fields, condition{field: field, holds: holds})
	}
	for _, f := range filters[name] {
		want := q.form.Get(f)
		switch {
		case f == "types":
			if types := q.array(f); len(types) > 0 {
				add("type", func(got string) bool { return slices.Contains(types, got) })
			}
		case want == "":
			if name == "subscriptions" && f == "status" {
				add(f, func(got string) bool { return got != "canceled" })
			}
		case f == "status":
			if !slices.Contains(statuses[name], want) {
				return out, badParam("", "status", "Invalid status: must be one of "+strings.Join(statuses[name], ", "))
			}
			switch want {
			case "all":
			case "ended":
				add(f, func(got string) bool { return got == "canceled" || got == "incomplete_expired" })
			default:
				add(f, func(got string) bool { return got == want })
			}
		case f == "type" && strings.HasSuffix(want, "*"):
			add(f, func(got string) bool { return strings.HasPrefix(got, strings.TrimSuffix(want, "*")) })
		default:
			if other := refs[f]; other != "" && !q.acc.tables[other].has(want) {
				a := missing(http.StatusBadRequest, q.acc.tables[other].noun, want, f)
				return out, &a
			}
			out.fields = append(out.fields, equals(f, want))
		}
	}
	return out, nil
}

// createdSpan reads created=, created[gt]= and so on.
func (q *request) createdSpan() (filter, *answer) {
	f := filter{from: math.MinInt64, to: math.MaxInt64}
	for name := range q.form {
		base, op, _ := strings.Cut(name, "[")
		if base != "created" {
			continue
		}
		n, err := strconv.ParseInt(q.form.Get(name), 10, 64)
		if err != nil || n > math.MaxInt64-1 || n < math.MinInt64+1 {
			return f, badParam("parameter_invalid_integer", name, "Invalid integer: "+q.form.Get(name))
		}
		switch op {
		case "":
			f.from, f.to = max(f.from, n), min(f.to, n)
		case "gt]":
			f.from = max(f.from, n+1)
		case "gte]":
			f.from = max(f.from, n)
		case "lt]":
			f.to = min(f.to, n-1)
		case "lte]":
			f.to = min(f.to, n)
		default:
			return f, badParam("parameter_unknown", name, "Received unknown parameter: "+name)
		}
	}
	return f, nil
}

// array reads name[], name[0], name[1] …
func (q *request) array(name string) []string {
	var out []string
	for k, v := range q.form {
		if strings.HasPrefix(k, name+"[") {
			out = append(out, v...)
		}
	}
	slices.Sort(out)
	return out
}

func (q *request) expands() []string { return q.array("expand") }
