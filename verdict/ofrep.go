package verdict

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/go-faster/jx"

	"phantom/shield"
)

// OFREP is the OpenFeature Remote Evaluation Protocol, in its version 0.3. access and each feature
// that the policy names are boolean flags; the targeting key is the customer.
// https://openfeature.dev/docs/reference/other-technologies/ofrep

var bodies = sync.Pool{New: func() any { b := make([]byte, 0, 1<<10); return &b }}

// accessFlag is the flag of the product as a whole.
const accessFlag = "access"

// flagsOf are the flags that a policy has.
func flagsOf(p *shield.Policy) []string {
	all := append(slices.Clone(p.Features.Limited), p.Features.Blocked...)
	slices.Sort(all)
	return append([]string{accessFlag}, slices.Compact(all)...)
}

func (h *Handler) flag(w http.ResponseWriter, r *http.Request, key string) {
	if !onlyPost(w, r) {
		return
	}
	entry, v, refused := h.enter(r)
	if refused != nil {
		failFlags(w, refused)
		return
	}
	customer, ok := h.target(w, r, key)
	if !ok {
		return
	}
	if key != accessFlag && !slices.Contains(v.flags, key) {
		w.Header()["Content-Type"] = jsonType
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"key":"` + plain(key) + `","errorCode":"FLAG_NOT_FOUND","errorDetails":"The policy has no feature of this name."}`))
		return
	}
	a, v := h.levelOf(v, customer, h.mark(w.Header(), v))
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	*b, a = appendFlag((*b)[:0], v, key, a)
	h.count(byOFREP, entry, v, customer, a)
	send(w, jsonType, *b)
}

func (h *Handler) flags(w http.ResponseWriter, r *http.Request) {
	if !onlyPost(w, r) {
		return
	}
	entry, v, refused := h.enter(r)
	if refused != nil {
		failFlags(w, refused)
		return
	}
	customer, ok := h.target(w, r, "")
	if !ok {
		return
	}
	a, v := h.levelOf(v, customer, h.mark(w.Header(), v))
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	dst := append((*b)[:0], `{"flags":[`...)
	for i, key := range v.flags {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst, _ = appendFlag(dst, v, key, a)
	}
	*b = append(dst, `]}`...)
	h.count(byOFREP, entry, v, customer, a)
	sum := sha256.Sum256(*b)
	etag := `"` + hex.EncodeToString(sum[:8]) + `"`
	w.Header()["Etag"] = []string{etag}
	if matches(r.Header["If-None-Match"], etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	send(w, jsonType, *b)
}

// matches says whether a client has what an ETag names.
func matches(values []string, etag string) bool {
	for _, value := range values {
		for one := range strings.SplitSeq(value, ",") {
			if one = strings.TrimPrefix(strings.TrimSpace(one), "W/"); one == etag || one == "*" {
				return true
			}
		}
	}
	return false
}

// appendFlag writes one flag. Of a customer of whom nothing is known it has no value: the app's own
// default holds.
func appendFlag(dst []byte, v *view, key string, a answer) ([]byte, answer) {
	feature := key
	if key == accessFlag {
		feature = ""
	}
	a.access = v.Policy.Allows(a.level, feature)
	dst = append(append(dst, `{"key":"`...), key...)
	if !a.known {
		return append(dst, `","reason":"DEFAULT"}`...), a
	}
	dst = append(append(dst, `","reason":"TARGETING_MATCH","variant":"`...), a.level...)
	if a.access {
		dst = append(dst, `","value":true`...)
	} else {
		dst = append(dst, `","value":false`...)
	}
	dst = append(append(dst, `,"metadata":{"level":"`...), a.level...)
	if a.reason != "" {
		dst = append(append(dst, `","reason":"`...), a.reason...)
	}
	return append(dst, `"}}`...), a
}

// target reads the customer out of an evaluation's context. Key is the flag that was asked for, or
// "" of all.
func (h *Handler) target(w http.ResponseWriter, r *http.Request, key string) (customer string, ok bool) {
	refuse := func(code, details string) (string, bool) {
		w.Header()["Content-Type"] = jsonType
		w.WriteHeader(http.StatusBadRequest)
		text := `{"errorCode":"` + code + `","errorDetails":"` + details + `"}`
		if key != "" {
			text = `{"key":"` + plain(key) + `",` + text[1:]
		}
		_, _ = w.Write([]byte(text))
		return "", false
	}
	if !isJSON(r.Header["Content-Type"]) {
		return refuse("PARSE_ERROR", "Send the body as Content-Type: application/json.")
	}
	b := bodies.Get().(*[]byte)
	defer bodies.Put(b)
	var err error
	if *b, err = readAll((*b)[:0], r.Body); err != nil || len(*b) > mostPermitted {
		return refuse("PARSE_ERROR", "The body did not arrive whole, or is larger than 64 kB.")
	}
	d := jx.GetDecoder()
	defer jx.PutDecoder(d)
	d.ResetBytes(*b)
	given, shape := false, true
	if d.Next() != jx.Object {
		return refuse("PARSE_ERROR", "The body must be a JSON object.")
	}
	err = d.ObjBytes(func(d *jx.Decoder, name []byte) error {
		if string(name) != "context" {
			return d.Skip()
		}
		if d.Next() != jx.Object {
			shape = false
			return d.Skip()
		}
		return d.ObjBytes(func(d *jx.Decoder, name []byte) (err error) {
			if string(name) != "targetingKey" || d.Next() != jx.String {
				return d.Skip()
			}
			given = true
			customer, err = d.Str()
			return err
		})
	})
	switch {
	case err != nil || !errors.Is(d.Skip(), io.EOF):
		return refuse("PARSE_ERROR", "The body must be a JSON object.")
	case !shape:
		return refuse("INVALID_CONTEXT", "The context must be a JSON object.")
	case !given || customer == "":
		return refuse("TARGETING_KEY_MISSING", "The context needs a targetingKey: the customer's id at Stripe, such as cus_….")
	case !shield.IsID(customer):
		return refuse("INVALID_CONTEXT", "The targetingKey must be a customer's id at Stripe, such as cus_….")
	}
	return customer, true
}

// failFlags refuses as the protocol has it.
func failFlags(w http.ResponseWriter, f *refusal) {
	header := w.Header()
	header["Content-Type"] = jsonType
	switch f.status {
	case http.StatusUnauthorized:
		header["Www-Authenticate"] = bearerOnly
	case http.StatusServiceUnavailable:
		header["Retry-After"] = oneSecond
	}
	w.WriteHeader(f.status)
	_, _ = w.Write([]byte(`{"errorCode":"GENERAL","errorDetails":"` + f.message + `"}`))
}

// plain is a flag's key as it may be given back.
func plain(key string) string {
	if !shield.IsFeature(key) {
		return ""
	}
	return key
}
