package sandbox

import (
	"encoding/json"
	"strings"
)

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

// expand writes an object with ids replaced by objects along dotted paths, four levels deep at
// most, as expand[] asks. bad names a path that cannot be expanded.
func (a *account) expand(v any, paths []string) (out json.RawMessage, bad string) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err.Error()
	}
	for _, p := range paths {
		segments := strings.Split(p, ".")
		if len(segments) > 4 {
			return nil, p
		}
		expanded, ok := a.expandIn(b, segments)
		if !ok {
			return nil, p
		}
		b = expanded
	}
	return b, ""
}

// expandIn expands one path in the JSON of an object, or of every object in a list.
func (a *account) expandIn(b []byte, path []string) ([]byte, bool) {
	if len(path) == 0 {
		return b, true
	}
	start, end := valueOf(b, path[0])
	if start < 0 {
		return nil, false
	}
	value := b[start:end]
	var inner []byte
	switch value[0] {
	case 'n': // null stays null
		return b, true
	case '"':
		o := a.byID(string(value[1 : len(value)-1]))
		if o == nil {
			return nil, false
		}
		full, err := json.Marshal(o)
		if err != nil {
			return nil, false
		}
		var ok bool
		if inner, ok = a.expandIn(full, path[1:]); !ok {
			return nil, false
		}
	case '{': // expanded already, or never an id
		if len(path) == 1 {
			at, _ := valueOf(value, "id")
			return b, at >= 0
		}
		var ok bool
		if inner, ok = a.expandIn(value, path[1:]); !ok {
			return nil, false
		}
	default:
		return nil, false
	}
	out := make([]byte, 0, len(b)+len(inner))
	return append(append(append(out, b[:start]...), inner...), b[end:]...), true
}

// byID finds a living object of any kind that can be expanded.
func (a *account) byID(id string) object {
	prefix, _, _ := strings.Cut(id, "_")
	if t := a.tables[expandable[prefix]]; t != nil {
		return t.byID[id]
	}
	return nil
}

// valueOf finds the value of a field at the top of an object's compact JSON, as json.Marshal writes
// it; -1 if it has none.
func valueOf(b []byte, field string) (start, end int) {
	depth, key := 0, ""
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
			if depth == 0 && start > 0 {
				return start, i
			}
		case ',':
			if depth == 1 && start > 0 {
				return start, i
			}
		case ':':
			if depth == 1 && key == field && start == 0 {
				start = i + 1
			}
		case '"':
			from := i + 1
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if depth == 1 {
				key = string(b[from:i])
			}
		}
	}
	return -1, -1
}
