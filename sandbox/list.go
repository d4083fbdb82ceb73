package sandbox

import (
	"encoding/json"
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

// list answers newest first.
func (s *Sandbox) list(name string) func(*request) answer {
	return func(q *request) answer {
		t := q.acc.tables[name]
		if a := q.unknown(append([]string{"limit", "starting_after", "ending_before", "created", "expand"}, filters[name]...)...); a != nil {
			return *a
		}
		keep, refused := q.filter(name)
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
		rows, more, refused := q.page(t, keep, limit)
		if refused != nil {
			return *refused
		}
		out := list[any]{Object: "list", URL: "/v1/" + name, HasMore: more, Data: make([]any, 0, len(rows))}
		for _, o := range rows {
			out.Data = append(out.Data, o)
		}
		return q.show(out)
	}
}

// page walks from the cursor: to older rows, or with ending_before to newer ones.
func (q *request) page(t *table, keep func(object) bool, limit int) (rows []object, more bool, refused *answer) {
	after, before := q.form.Get("starting_after"), q.form.Get("ending_before")
	if after != "" && before != "" {
		return nil, false, badParam("parameters_exclusive", "", "You may only specify one of these parameters: starting_after, ending_before.")
	}
	at, step := len(t.rows)-1, -1
	for param, id := range map[string]string{"starting_after": after, "ending_before": before} {
		if id == "" {
			continue
		}
		i := t.index(id)
		if i < 0 {
			a := missing(http.StatusBadRequest, t.noun, id, param)
			return nil, false, &a
		}
		if param == "ending_before" {
			step = 1
		}
		at = i + step
	}
	for ; at >= 0 && at < len(t.rows); at += step {
		if !keep(t.rows[at]) {
			continue
		}
		if len(rows) == limit {
			more = true
			break
		}
		rows = append(rows, t.rows[at])
	}
	if step > 0 {
		slices.Reverse(rows)
	}
	return rows, more, nil
}

// filter reads created and the list's own filters.
func (q *request) filter(name string) (func(object) bool, *answer) {
	created, refused := q.createdRange()
	if refused != nil {
		return nil, refused
	}
	var tests []func(object) bool
	for _, f := range filters[name] {
		want := q.form.Get(f)
		switch {
		case f == "types":
			if types := q.array(f); len(types) > 0 {
				tests = append(tests, func(o object) bool { return slices.Contains(types, attr(o, "type")) })
			}
		case want == "":
			if name == "subscriptions" && f == "status" {
				tests = append(tests, func(o object) bool { return attr(o, f) != "canceled" })
			}
		case f == "status":
			if !slices.Contains(statuses[name], want) {
				return nil, badParam("", "status", "Invalid status: must be one of "+strings.Join(statuses[name], ", "))
			}
			switch want {
			case "all":
			case "ended":
				tests = append(tests, func(o object) bool { return attr(o, f) == "canceled" || attr(o, f) == "incomplete_expired" })
			default:
				tests = append(tests, func(o object) bool { return attr(o, f) == want })
			}
		case f == "type" && strings.HasSuffix(want, "*"):
			tests = append(tests, func(o object) bool { return strings.HasPrefix(attr(o, f), strings.TrimSuffix(want, "*")) })
		default:
			if other := refs[f]; other != "" && q.acc.tables[other].byID[want] == nil {
				a := missing(http.StatusBadRequest, q.acc.tables[other].noun, want, f)
				return nil, &a
			}
			tests = append(tests, func(o object) bool { return attr(o, f) == want })
		}
	}
	return func(o object) bool {
		if !created(o.meta().Created) {
			return false
		}
		for _, test := range tests {
			if !test(o) {
				return false
			}
		}
		return true
	}, nil
}

func (q *request) createdRange() (func(int64) bool, *answer) {
	var tests []func(int64) bool
	for name := range q.form {
		base, op, _ := strings.Cut(name, "[")
		if base != "created" {
			continue
		}
		n, err := strconv.ParseInt(q.form.Get(name), 10, 64)
		if err != nil {
			return nil, badParam("parameter_invalid_integer", name, "Invalid integer: "+q.form.Get(name))
		}
		switch op {
		case "":
			tests = append(tests, func(t int64) bool { return t == n })
		case "gt]":
			tests = append(tests, func(t int64) bool { return t > n })
		case "gte]":
			tests = append(tests, func(t int64) bool { return t >= n })
		case "lt]":
			tests = append(tests, func(t int64) bool { return t < n })
		case "lte]":
			tests = append(tests, func(t int64) bool { return t <= n })
		default:
			return nil, badParam("parameter_unknown", name, "Received unknown parameter: "+name)
		}
	}
	return func(t int64) bool {
		for _, test := range tests {
			if !test(t) {
				return false
			}
		}
		return true
	}, nil
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

// attr is the value of a filterable field.
func attr(o object, name string) string {
	switch o := o.(type) {
	case *customer:
		return map[string]string{"email": string(o.Email)}[name]
	case *subscription:
		switch name {
		case "price":
			return o.Items.Data[0].Price.ID
		case "customer":
			return o.Customer
		case "status":
			return o.Status
		}
		return o.CollectionMethod
	case *invoice:
		switch name {
		case "customer":
			return o.Customer
		case "status":
			return o.Status
		case "subscription":
			return string(o.Subscription)
		}
		return o.CollectionMethod
	case *charge:
		if name == "customer" {
			return o.Customer
		}
		return string(o.PaymentIntent)
	case *dispute:
		if name == "charge" {
			return o.Charge
		}
		return string(o.PaymentIntent)
	case *intent:
		return o.Customer
	case *event:
		return o.Type
	}
	return ""
}

// expandable maps the prefix of an id to its list.
var expandable = map[string]string{
	"cus": "customers", "sub": "subscriptions", "in": "invoices", "ch": "charges", "pi": "payment_intents",
	"pm": "payment_methods", "dp": "disputes",
}

// expand replaces ids by objects along dotted paths, four levels deep at most, as expand[] asks. bad names a path that
// cannot be expanded.
func (a *account) expand(v any, paths []string) (out any, bad string) {
	root := generic(v)
	for _, p := range paths {
		segments := strings.Split(p, ".")
		depth := len(segments)
		if segments[0] == "data" {
			depth--
		}
		if depth > 4 || !a.expandAt(root, segments) {
			return nil, p
		}
	}
	return root, ""
}

func (a *account) expandAt(v any, path []string) bool {
	if len(path) == 0 {
		return true
	}
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if !a.expandAt(item, path) {
				return false
			}
		}
		return true
	case map[string]any:
		field, ok := v[path[0]]
		if !ok {
			return false
		}
		id, isString := field.(string)
		switch {
		case field == nil:
			return true
		case !isString && len(path) == 1: // expanded already, or never an id
			m, isMap := field.(map[string]any)
			return isMap && m["id"] != nil
		case !isString:
			return a.expandAt(field, path[1:])
		}
		prefix, _, _ := strings.Cut(id, "_")
		t := a.tables[expandable[prefix]]
		if t == nil || t.byID[id] == nil {
			return false
		}
		o := generic(t.byID[id])
		v[path[0]] = o
		return a.expandAt(o, path[1:])
	}
	return false
}

// generic turns an object into maps, numbers kept as written.
func generic(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	var out any
	if d.Decode(&out) != nil {
		return nil
	}
	return out
}
