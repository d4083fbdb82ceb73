package sandbox

import (
	"bytes"
	"embed"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// shapes are the objects of a history as Stripe sends them, with all their fields, so that reading
// them costs what it costs in earnest. "@name" stands for a value of writers.
//
//go:embed shapes/*.json
var shapes embed.FS

// expansions is a tree of the fields to expand.
type expansions map[string]expansions

// writer appends the value of one field of the n-th row.
type writer func(dst []byte, h *history, n int, wanted expansions) []byte

// piece is some text of a shape and the field after it, nil at the end.
type piece struct {
	text  []byte
	write writer
}

// compiled is set in init, because the writers it holds use it.
var compiled map[string][]piece

func init() { compiled = compileShapes() }

// compileShapes cuts the shapes at their fields. A field that nobody writes is a mistake in this
// package: it panics at start.
func compileShapes() map[string][]piece {
	out := map[string][]piece{}
	for kind, fields := range writers {
		b, err := shapes.ReadFile("shapes/" + kind + ".json")
		if err != nil {
			panic(err)
		}
		rest := bytes.TrimSpace(b)
		for {
			text, after, found := bytes.Cut(rest, []byte(`"@`))
			if !found {
				out[kind] = append(out[kind], piece{text: text})
				break
			}
			name, behind, _ := bytes.Cut(after, []byte(`"`))
			if fields[string(name)] == nil {
				panic("sandbox shape " + kind + ": nobody writes " + string(name))
			}
			out[kind] = append(out[kind], piece{text, fields[string(name)]})
			rest = behind
		}
	}
	return out
}

// append writes the n-th row.
func (s *shelf) append(dst []byte, n int, wanted expansions) []byte {
	return s.h.append(dst, s.kind, n, wanted)
}

func (h *history) append(dst []byte, kind string, n int, wanted expansions) []byte {
	for _, p := range compiled[kind] {
		dst = append(dst, p.text...)
		if p.write != nil {
			dst = p.write(dst, h, n, wanted)
		}
	}
	return dst
}

// links says which fields of a kind can be expanded into which.
var links = map[string]map[string]string{
	"customers":        {"invoice_settings": "invoice_settings", "default_source": "payment_methods"},
	"invoice_settings": {"default_payment_method": "payment_methods"},
	"subscriptions":    {"customer": "customers", "latest_invoice": "invoices", "default_payment_method": "payment_methods", "default_source": "payment_methods"},
	"invoices": {"customer": "customers", "subscription": "subscriptions", "payment_intent": "payment_intents", "charge": "charges",
		"default_payment_method": "payment_methods", "default_source": "payment_methods"},
	"charges":         {"customer": "customers", "invoice": "invoices", "payment_intent": "payment_intents", "dispute": "disputes"},
	"payment_intents": {"customer": "customers", "invoice": "invoices", "latest_charge": "charges", "payment_method": "payment_methods"},
	"payment_methods": {"customer": "customers"},
	"disputes":        {"charge": "charges", "payment_intent": "payment_intents"},
}

// expansions reads dotted paths, four levels deep at most. bad names one that cannot be expanded.
func (s *shelf) expansions(paths []string) (tree expansions, bad string) {
	for _, path := range paths {
		segments := strings.Split(path, ".")
		if len(segments) > 4 {
			return nil, path
		}
		if tree == nil {
			tree = expansions{}
		}
		kind, at := s.kind, tree
		for _, field := range segments {
			if kind = links[kind][field]; kind == "" {
				return nil, path
			}
			if at[field] == nil {
				at[field] = expansions{}
			}
			at = at[field]
		}
		if kind == "invoice_settings" {
			return nil, path
		}
	}
	return tree, ""
}

// link writes the id of another row, or that row in full where it is wanted. of returns -1 for
// null.
func link(field, kind string, of func(h *history, n int) int) writer {
	return func(dst []byte, h *history, n int, wanted expansions) []byte {
		to := of(h, n)
		if to < 0 {
			return append(dst, "null"...)
		}
		if below, ok := wanted[field]; ok {
			return h.append(dst, kind, to, below)
		}
		return h.quoteID(dst, kind, to)
	}
}

func (h *history) quoteID(dst []byte, kind string, n int) []byte {
	return append(h.ids[kind].append(append(dst, '"'), n), '"')
}

func itself(kind string) writer {
	return func(dst []byte, h *history, n int, _ expansions) []byte { return h.quoteID(dst, kind, n) }
}

func number(of func(h *history, n int) int64) writer {
	return func(dst []byte, h *history, n int, _ expansions) []byte { return strconv.AppendInt(dst, of(h, n), 10) }
}

// moment is null when zero.
func moment(of func(h *history, n int) int64) writer {
	return func(dst []byte, h *history, n int, _ expansions) []byte {
		t := of(h, n)
		if t == 0 {
			return append(dst, "null"...)
		}
		return strconv.AppendInt(dst, t, 10)
	}
}

func flag(of func(h *history, n int) bool) writer {
	return func(dst []byte, h *history, n int, _ expansions) []byte { return strconv.AppendBool(dst, of(h, n)) }
}

// words writes text that needs no escaping but perhaps UTF-8; "" is null.
func words(of func(h *history, n int) string) writer {
	return func(dst []byte, h *history, n int, _ expansions) []byte { return quote(dst, of(h, n)) }
}

func quote(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, "null"...)
	}
	return append(append(append(dst, '"'), s...), '"')
}

// join takes the writers of a row's owner over, which of names.
func join(fields map[string]writer, of func(h *history, n int) int, names ...string) map[string]writer {
	out := map[string]writer{}
	for name, w := range fields {
		if slices.Contains(names, name) {
			out[name] = func(dst []byte, h *history, n int, wanted expansions) []byte { return w(dst, h, of(h, n), wanted) }
		}
	}
	return out
}

func merge(all ...map[string]writer) map[string]writer {
	out := map[string]writer{}
	for _, m := range all {
		for name, w := range m {
			out[name] = w
		}
	}
	return out
}

// outcomes are the outcomes of charges: by decline, 0 for none, and brand.
var outcomes = func() (out [][3][]byte) {
	for i := range len(oldDeclines) + 1 {
		var d *decline
		if i > 0 {
			d = &oldDeclines[i-1]
		}
		var row [3][]byte
		for j, brand := range []string{"visa", "mastercard", "amex"} {
			row[j], _ = json.Marshal(d.outcome(brand)) // strings and numbers: cannot fail
		}
		out = append(out, row)
	}
	return out
}()
