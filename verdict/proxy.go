package verdict

import (
	"net/http"

	"phantom/shield"
)

// proxied answers a proxy: nginx's auth_request, Traefik's ForwardAuth, Envoy's ext_authz. Only 200
// and 403 are about the visitor. What is wrong with the proxy's own request is a 5xx, a bad key
// too: nginx hands a 401 to the visitor, and makes a 500 of most others.
func (h *Handler) proxied(w http.ResponseWriter, r *http.Request) {
	entry, v, refused := h.enter(r)
	if refused != nil {
		if refused.status < 500 {
			refused = &refusal{http.StatusInternalServerError, refused.code, refused.message}
		}
		refused.write(w)
		return
	}
	customers, features := r.Header["Shield-Customer"], r.Header["Shield-Feature"]
	feature := ""
	if len(features) == 1 {
		feature = features[0]
	}
	switch {
	case len(customers) != 1 || !shield.IsID(customers[0]):
		fail(w, http.StatusInternalServerError, "invalid_request", "The proxy must send one header Shield-Customer with an id such as cus_….")
		return
	case len(features) > 1 || feature != "" && !shield.IsFeature(feature):
		fail(w, http.StatusInternalServerError, "invalid_request", "The header Shield-Feature must be one word in lower-case letters, digits and _ . -")
		return
	}
	header := w.Header()
	a, v := h.levelOf(v, customers[0], h.mark(header, v))
	a.access = v.Policy.Allows(a.level, feature)
	h.count(byProxy, entry, v, customers[0], a)
	header["Shield-Level"] = levelNames[a.level]
	if a.reason != "" {
		header["Shield-Reason"] = reasonNames[a.reason]
	}
	header["Shield-Revision"] = v.revisionHeader
	if !a.access {
		fail(w, http.StatusForbidden, "access_denied", "Your access is limited at the moment. Please look at your billing page, or contact us.")
		return
	}
	send(w, jsonType, allowed)
}

var allowed = []byte(`{"status":"ok"}`)
