package sandbox

import (
	"encoding/json"
	"net/http"
	"strings"
)

// invoiceFor finds the invoice of a mutation and refuses unknown parameters.
func (q *request) invoiceFor(allowed ...string) (*invoice, *answer) {
	if a := q.unknown(append(allowed, "expand")...); a != nil {
		return nil, a
	}
	id := q.PathValue("id")
	inv, ok := q.acc.tables["invoices"].byID[id].(*invoice)
	if !ok && q.acc.tables["invoices"].has(id) {
		return nil, badParam("", "", "The sandbox cannot change what lies in a merchant's bulk history.")
	}
	if !ok {
		a := missing(http.StatusNotFound, "invoice", id, "invoice")
		return nil, &a
	}
	q.target = inv
	return inv, nil
}

// caused runs a change in the name of the request, so that its events can be traced to the
// Idempotency-Key. c is the contract whose next turn the change may bring forward, or nil.
func (q *request) caused(c *contract, change func() answer) answer {
	q.acc.cause = eventRequest{ID: text(q.id), IdempotencyKey: text(q.key)}
	defer func() { q.acc.cause = eventRequest{} }()
	a := change()
	if c != nil {
		q.acc.expect(c)
	}
	return a
}

func stateError(code, msg string) answer {
	return apiError(http.StatusBadRequest, "invalid_request_error", code, "", msg)
}

func (s *Sandbox) payInvoice(q *request) (func() answer, *answer) {
	inv, refused := q.invoiceFor("paid_out_of_band", "payment_method", "off_session", "forgive", "source", "mandate")
	if refused != nil {
		return nil, refused
	}
	outOfBand, refused := q.boolean("paid_out_of_band")
	if refused != nil {
		return nil, refused
	}
	for _, name := range []string{"off_session", "forgive"} {
		if _, refused := q.boolean(name); refused != nil {
			return nil, refused
		}
	}
	k := inv.of.card
	if pm := q.form.Get("payment_method"); pm != "" {
		if k = inv.of.cust.cardOf(pm); k == nil {
			// another customer's is as unknown as another merchant's
			a := missing(http.StatusBadRequest, "PaymentMethod", pm, "payment_method")
			return nil, &a
		}
	}
	return func() answer { return q.caused(inv.of, func() answer { return q.pay(inv, k, outOfBand) }) }, nil
}

func (q *request) pay(inv *invoice, k *card, outOfBand bool) answer {
	c, now := inv.of, q.now.Unix()
	switch inv.Status {
	case "paid":
		return stateError("", "Invoice is already paid") // Stripe gives no code here
	case "void":
		return stateError("", "You can only pay an open invoice. This invoice is void.")
	case "draft":
		return stateError("", "You can only pay an open invoice. This invoice is a draft.")
	}
	if outOfBand {
		inv.PaidOutOfBand = true
		c.markPaid(inv, now)
		return q.show(inv)
	}
	if inv.refuse > 0 {
		inv.refuse--
		return stateError("payment_intent_unexpected_state",
			"You cannot confirm this PaymentIntent because of its state.")
	}
	if q.acc.pending(inv) != nil {
		return stateError("payment_intent_unexpected_state", "The invoice's PaymentIntent has a status of processing: a payment is under way.")
	}
	if k == nil {
		return stateError("", "There is no default_payment_method set on this Customer or Invoice. Please set a default_payment_method.")
	}
	first := !inv.Attempted
	if first {
		// attempts by hand count only if they are the first: see Invoice.attempt_count
		inv.AttemptCount++
	}
	ch, d := c.attempt(inv, k, now)
	q.acc.emit(now, "invoice.updated", inv, nil)
	if d == nil {
		return q.show(inv)
	}
	var body struct {
		Error struct {
			*cardError
			PaymentIntent *intent `json:"payment_intent,omitempty"`
			PaymentMethod any     `json:"payment_method,omitempty"`
		} `json:"error"`
	}
	body.Error.cardError, body.Error.PaymentIntent, body.Error.PaymentMethod = d.err(ch), q.acc.intent(inv), k.pm
	b, err := json.Marshal(body)
	if err != nil {
		return apiError(http.StatusInternalServerError, "api_error", "", "", "encode decline: "+err.Error())
	}
	return answer{status: http.StatusPaymentRequired, body: b}
}

func (s *Sandbox) updateInvoice(q *request) (func() answer, *answer) {
	inv, refused := q.invoiceFor("auto_advance", "metadata", "description")
	if refused != nil {
		return nil, refused
	}
	auto, refused := q.boolean("auto_advance")
	if refused != nil {
		return nil, refused
	}
	meta, refused := q.metadata(inv.Metadata)
	if refused != nil {
		return nil, refused
	}
	return func() answer {
		return q.caused(inv.of, func() answer {
			if q.form.Has("auto_advance") && auto != inv.AutoAdvance {
				if inv.Status != "draft" && inv.Status != "open" {
					return stateError("invoice_not_editable", "This invoice is "+inv.Status+": auto_advance can no longer be changed.")
				}
				inv.setAutoAdvance(auto, q.now.Unix())
			}
			before := map[string]any{}
			if meta != nil {
				before["metadata"], inv.Metadata = inv.Metadata, meta(inv.Metadata)
			}
			q.acc.emit(q.now.Unix(), "invoice.updated", inv, before)
			return q.show(inv)
		})
	}, nil
}

// setAutoAdvance takes an invoice out of the retry calendar, or puts it back for the next day.
func (inv *invoice) setAutoAdvance(on bool, now int64) {
	inv.AutoAdvance = on
	if inv.of.acc.pending(inv) != nil {
		return // a debit under way still settles
	}
	if !on {
		inv.NextPaymentAttempt = 0
		if inv.CollectionMethod == "charge_automatically" {
			inv.step = 0
		}
		return
	}
	if inv.CollectionMethod == "charge_automatically" && inv.AttemptCount < 8 {
		inv.step = now + hour
		if inv.Status == "open" {
			inv.step = now + day
		}
		inv.NextPaymentAttempt = stamp(inv.step)
		if c := inv.of; !c.collects(inv) {
			c.open = append(c.open, inv)
		}
	}
}

func (c *contract) collects(inv *invoice) bool {
	for _, o := range c.open {
		if o == inv {
			return true
		}
	}
	return false
}

func (s *Sandbox) voidInvoice(q *request) (func() answer, *answer) {
	return s.closeInvoice(q, "void", func(inv *invoice, t int64) { inv.of.void(inv, t) })
}

func (s *Sandbox) markUncollectible(q *request) (func() answer, *answer) {
	return s.closeInvoice(q, "uncollectible", func(inv *invoice, t int64) { inv.of.writeOff(inv, t) })
}

func (s *Sandbox) closeInvoice(q *request, to string, do func(*invoice, int64)) (func() answer, *answer) {
	inv, refused := q.invoiceFor()
	if refused != nil {
		return nil, refused
	}
	return func() answer {
		return q.caused(inv.of, func() answer {
			if inv.Status != "open" && (to != "void" || inv.Status != "uncollectible") {
				return stateError("", "You can only pass in open invoices. This invoice isn't open: it is "+inv.Status+".")
			}
			if q.acc.pending(inv) != nil {
				return stateError("payment_intent_unexpected_state", "This invoice has a payment under way.")
			}
			do(inv, q.now.Unix())
			q.acc.emit(q.now.Unix(), "invoice.updated", inv, nil)
			return q.show(inv)
		})
	}, nil
}

func (s *Sandbox) updateCustomer(q *request) (func() answer, *answer) {
	if a := q.unknown("email", "name", "phone", "description", "metadata", "expand"); a != nil {
		return nil, a
	}
	id := q.PathValue("id")
	cu, ok := q.acc.tables["customers"].byID[id].(*customer)
	if !ok && q.acc.tables["customers"].has(id) {
		return nil, badParam("", "", "The sandbox cannot change what lies in a merchant's bulk history.")
	}
	if !ok {
		a := missing(http.StatusNotFound, "customer", id, "id")
		return nil, &a
	}
	q.target = cu
	email := q.form.Get("email")
	if email != "" && (!strings.Contains(email, "@") || strings.ContainsAny(email, " \r\n")) {
		return nil, badParam("email_invalid", "email", "Invalid email address: "+email)
	}
	meta, refused := q.metadata(cu.Metadata)
	if refused != nil {
		return nil, refused
	}
	return func() answer {
		return q.caused(nil, func() answer {
			before := map[string]any{}
			for name, field := range map[string]*text{"email": &cu.Email, "name": &cu.Name, "phone": &cu.Phone, "description": &cu.Description} {
				if q.form.Has(name) {
					before[name], *field = *field, text(q.form.Get(name))
				}
			}
			if meta != nil {
				before["metadata"], cu.Metadata = cu.Metadata, meta(cu.Metadata)
			}
			q.acc.emit(q.now.Unix(), "customer.updated", cu, before)
			return q.show(cu)
		})
	}, nil
}

func (q *request) boolean(name string) (bool, *answer) {
	switch v := q.form.Get(name); v {
	case "true":
		return true, nil
	case "", "false":
		return false, nil
	default:
		return false, badParam("", name, "Invalid boolean: "+v)
	}
}

// metadata reads metadata[key]=value: an empty value removes the key, an empty metadata removes
// all. It returns the merge, or nil if the request has none. Limits as Stripe's: 50 keys, 40 and
// 500 characters.
func (q *request) metadata(old dict) (func(dict) dict, *answer) {
	set, wipe := dict{}, false
	for name, values := range q.form {
		base, rest, nested := strings.Cut(name, "[")
		if base != "metadata" {
			continue
		}
		if !nested {
			if values[0] != "" {
				return nil, badParam("", "metadata", "Invalid hash")
			}
			wipe = true
			continue
		}
		key, ok := strings.CutSuffix(rest, "]")
		if !ok || key == "" || len(key) > 40 || len(values[0]) > 500 {
			return nil, badParam("", name, "Metadata keys may have 40 characters and values 500.")
		}
		set[key] = values[0]
	}
	if len(set) == 0 && !wipe {
		return nil, nil
	}
	if len(set)+len(old) > 50 {
		return nil, badParam("", "metadata", "Metadata may have 50 keys at most.")
	}
	return func(old dict) dict {
		out := dict{}
		if !wipe {
			for k, v := range old {
				out[k] = v
			}
		}
		for k, v := range set {
			out[k] = v
			if v == "" {
				delete(out, k)
			}
		}
		return out
	}, nil
}
