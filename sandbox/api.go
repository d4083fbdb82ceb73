package sandbox

import (
	"encoding/json"
	"net/http"
	"strings"
)

func (s *Sandbox) routes() {
	s.mux = http.NewServeMux()
	s.handle("/", s.noRoute)
	s.handle("GET /oauth/authorize", s.authorize)
	s.handle("POST /oauth/token", s.token)
	s.handle("POST /oauth/deauthorize", s.deauthorize)

	s.handle("GET /v1/account", s.read(s.ownAccount))
	s.handle("GET /v1/accounts/{id}", s.read(s.otherAccount))
	s.handle("GET /v1/webhook_endpoints", s.read(s.listWebhooks))
	for _, name := range []string{
		"customers", "subscriptions", "invoices", "charges", "disputes", "events", "payment_intents", "payment_methods",
	} {
		if name != "payment_methods" { // Stripe lists them by customer only
			s.handle("GET /v1/"+name, s.read(s.list(name)))
		}
		s.handle("GET /v1/"+name+"/{id}", s.read(s.single(name)))
	}
	s.handle("POST /v1/customers/{id}", s.write(s.updateCustomer))
	s.handle("POST /v1/subscriptions", s.write(s.createSubscription))
	s.handle("POST /v1/subscriptions/{id}", s.write(s.updateSubscription))
	s.handle("DELETE /v1/subscriptions/{id}", s.write(s.cancelSubscription))
	s.handle("POST /v1/invoices/{id}", s.write(s.updateInvoice))
	s.handle("POST /v1/invoices/{id}/pay", s.write(s.payInvoice))
	s.handle("POST /v1/invoices/{id}/void", s.write(s.voidInvoice))
	s.handle("POST /v1/invoices/{id}/mark_uncollectible", s.write(s.markUncollectible))

	s.handle("/resend/", s.resendNowhere)
	s.handle("POST /resend/emails", s.sendEmail)
	s.handle("GET /resend/domains", s.resendDomains)
	s.handle("GET /resend/api-keys", s.resendKeys)

	s.handle("/twilio/", s.twilioNowhere)
	s.handle("GET /twilio/2010-04-01/Accounts/{sid}", s.twilio(s.twilioAccount))
	s.handle("POST /twilio/2010-04-01/Accounts/{sid}/Messages.json", s.twilio(s.sendSMS))
	s.handle("GET /twilio/2010-04-01/Accounts/{sid}/Messages.json", s.twilio(s.listSMS))
	s.handle("GET /twilio/2010-04-01/Accounts/{sid}/Messages/{message}", s.twilio(s.oneSMS))
}

// read wraps a handler that changes nothing: credential, lock, and the world brought up to the
// clock.
func (s *Sandbox) read(h func(*request) answer) func(*request) answer {
	locked := func(q *request) answer {
		s.mu.Lock()
		defer s.mu.Unlock()
		if refused := s.authenticate(q); refused != nil {
			return *refused
		}
		q.acc.advance(q.now.Unix())
		return q.asBasil(h)
	}
	return func(q *request) answer {
		a := locked(q)
		if a.later == nil {
			return a
		}
		body, err := a.later()
		if err != nil {
			return apiError(http.StatusInternalServerError, "api_error", "", "", "encode answer: "+err.Error())
		}
		a.body, a.later = body, nil
		return a
	}
}

// authenticate finds the account a request speaks for. Callers hold the lock.
func (s *Sandbox) authenticate(q *request) *answer {
	key, asked := credential(q.Request), q.Header.Get("Stripe-Account")
	fail := func(status int, code, msg string) *answer {
		a := apiError(status, "invalid_request_error", code, "", msg)
		return &a
	}
	foreign := func() *answer {
		return fail(http.StatusForbidden, "account_invalid", "The provided key '"+masked(key)+"' does not have access to account '"+
			asked+"' (or that account does not exist). Application access may have been revoked.")
	}
	if key == "" {
		return fail(http.StatusUnauthorized, "", "You did not provide an API key. You need to provide your API key in the "+
			"Authorization header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').")
	}
	if key == s.cfg.SecretKey {
		q.scope = "read_write"
		if asked == "" {
			q.acc, q.isPlat = s.platform, true
			return nil
		}
		if s.accounts[asked] == nil || !s.grants.connected(asked) {
			return foreign()
		}
		q.acc = s.accounts[asked]
		return nil
	}
	t := s.grants.find(key, "access")
	if own, reads := s.ownKey(key); t == nil && own != nil {
		if asked != "" && asked != own.ID {
			return foreign()
		}
		q.acc, q.scope = own, "read_write"
		if reads {
			q.scope = "read_only"
		}
		return nil
	}
	switch {
	case t == nil:
		return fail(http.StatusUnauthorized, "", "Invalid API Key provided: "+masked(key))
	case t.Revoked || s.accounts[t.Account] == nil:
		return fail(http.StatusUnauthorized, "api_key_expired", "Expired API Key provided: "+masked(key))
	case asked != "" && asked != t.Account:
		return foreign()
	}
	q.acc, q.scope = s.accounts[t.Account], t.Scope
	return nil
}

// OwnKey is a secret key of an account itself, or a restricted one that changes nothing.
func OwnKey(account string, reads bool) string {
	kind := "sk_test_own"
	if reads {
		kind = "rk_test_own"
	}
	return kind + strings.TrimPrefix(account, "acct_")
}

// IsOwnKey tells keys of [OwnKey] from those of Stripe itself.
func IsOwnKey(key string) bool {
	return strings.HasPrefix(key, "sk_test_own") || strings.HasPrefix(key, "rk_test_own")
}

// ownKey is the account whose own key one is, or nil. Callers hold the lock.
func (s *Sandbox) ownKey(key string) (of *account, reads bool) {
	for id, a := range s.accounts {
		switch key {
		case OwnKey(id, false):
			return a, false
		case OwnKey(id, true):
			return a, true
		}
	}
	return nil, false
}

// masked shows of a key what Stripe shows: its beginning and last four characters.
func masked(key string) string {
	if len(key) < 16 {
		return strings.Repeat("*", len(key))
	}
	return key[:8] + strings.Repeat("*", len(key)-12) + key[len(key)-4:]
}

func (s *Sandbox) noRoute(q *request) answer {
	return apiError(http.StatusNotFound, "invalid_request_error", "", "",
		"Unrecognized request URL ("+q.Method+": "+q.URL.Path+").")
}

func (s *Sandbox) ownAccount(q *request) answer {
	if a := q.unknown("expand"); a != nil {
		return *a
	}
	return ok(q.acc.accountFacts)
}

func (s *Sandbox) otherAccount(q *request) answer {
	id := q.PathValue("id")
	if id == q.acc.ID {
		return ok(q.acc.accountFacts)
	}
	if !q.isPlat || s.accounts[id] == nil || !s.grants.connected(id) {
		return apiError(http.StatusForbidden, "invalid_request_error", "account_invalid", "", "The provided key '"+
			masked(credential(q.Request))+"' does not have access to account '"+id+
			"' (or that account does not exist). Application access may have been revoked.")
	}
	return ok(s.accounts[id].accountFacts)
}

func (s *Sandbox) single(name string) func(*request) answer {
	return func(q *request) answer {
		if a := q.unknown("expand"); a != nil {
			return *a
		}
		t := q.acc.tables[name]
		o, found := t.byID[q.PathValue("id")]
		if !found && t.shelf != nil {
			if n := t.shelf.find(q.PathValue("id")); n >= 0 {
				return q.showShelved(t.shelf, n)
			}
		}
		if !found {
			return missing(http.StatusNotFound, t.noun, q.PathValue("id"), "id")
		}
		return q.show(o)
	}
}

// show answers with one object, expanded as asked.
func (q *request) show(o any) answer {
	paths := q.expands()
	if len(paths) == 0 {
		return ok(o)
	}
	v, bad := q.acc.expand(o, paths)
	if bad != "" {
		return notExpandable(bad)
	}
	return ok(v)
}

func (q *request) showShelved(from *shelf, n int) answer {
	wanted, bad := from.expansions(q.expands())
	if bad != "" {
		return notExpandable(bad)
	}
	return answer{status: http.StatusOK, later: func() ([]byte, error) { return from.append(nil, n, wanted), nil }}
}

func ok(v any) answer {
	b, err := json.Marshal(v)
	if err != nil {
		return apiError(http.StatusInternalServerError, "api_error", "", "", "encode answer: "+err.Error())
	}
	return answer{status: http.StatusOK, body: b}
}

type errorBody struct {
	Error struct {
		Code    string `json:"code,omitempty"`
		DocURL  string `json:"doc_url,omitempty"`
		Message string `json:"message"`
		Param   string `json:"param,omitempty"`
		Type    string `json:"type"`
	} `json:"error"`
}

func docURL(code string) string {
	if code == "" {
		return ""
	}
	return "https://stripe.com/docs/error-codes/" + strings.ReplaceAll(code, "_", "-")
}

// apiError is an error in the shape of the v1 API.
func apiError(status int, typ, code, param, msg string) answer {
	var e errorBody
	e.Error.Type, e.Error.Code, e.Error.Param, e.Error.Message = typ, code, param, msg
	e.Error.DocURL = docURL(code)
	b, _ := json.Marshal(e) // strings only: cannot fail
	return answer{status: status, body: b}
}

func badParam(code, param, msg string) *answer {
	a := apiError(http.StatusBadRequest, "invalid_request_error", code, param, msg)
	return &a
}

// missing is the one answer for ids that do not exist and for ids of others.
func missing(status int, noun, id, param string) answer {
	return apiError(status, "invalid_request_error", "resource_missing", param, "No such "+noun+": '"+id+"'")
}

// unknown refuses parameters that the endpoint does not have, as Stripe does. allowed names the
// first segment: "created" covers created[gte].
func (q *request) unknown(allowed ...string) *answer {
next:
	for name := range q.form {
		base, _, _ := strings.Cut(name, "[")
		for _, a := range allowed {
			if a == base {
				continue next
			}
		}
		return badParam("parameter_unknown", name, "Received unknown parameter: "+name)
	}
	return nil
}
