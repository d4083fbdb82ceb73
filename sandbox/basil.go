package sandbox

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// basilVersion is an API version under which an invoice has other fields: an endpoint keeps the
// version it was made with.
const basilVersion = "2025-03-31.basil"

// basil turns an event into the shape of that version. Only invoices differ: payment_intent,
// charge, paid and paid_out_of_band are gone, and the subscription lies in parent.
func basil(payload []byte) []byte {
	var e map[string]json.RawMessage
	var data struct {
		Object             map[string]any  `json:"object"`
		PreviousAttributes json.RawMessage `json:"previous_attributes,omitempty"`
	}
	if json.Unmarshal(payload, &e) != nil || json.Unmarshal(e["data"], &data) != nil {
		return payload // cannot happen: the payload is our own
	}
	e["api_version"] = json.RawMessage(`"` + basilVersion + `"`)
	if o := data.Object; o["object"] == "invoice" {
		basilInvoice(o)
		e["data"], _ = json.Marshal(data)
	}
	out, err := json.Marshal(e)
	if err != nil {
		return payload
	}
	return out
}

func basilInvoice(o map[string]any) {
	o["parent"] = map[string]any{"type": "subscription_details", "quote_details": nil,
		"subscription_details": map[string]any{"metadata": map[string]string{},
			"subscription": o["subscription"]}}
	for _, gone := range []string{"payment_intent", "charge", "paid", "paid_out_of_band",
		"subscription", "subscription_details"} {
		delete(o, gone)
	}
	lines, _ := o["lines"].(map[string]any)
	rows, _ := lines["data"].([]any)
	for _, row := range rows {
		if l, ok := row.(map[string]any); ok {
			basilLine(l)
		}
	}
}

// basilLine moves what a line is for into parent and its price, of which the id alone is left, into
// pricing.
func basilLine(l map[string]any) {
	details := map[string]any{"invoice_item": nil, "proration": l["proration"],
		"proration_details": map[string]any{"credited_items": nil},
		"subscription":      l["subscription"], "subscription_item": l["subscription_item"]}
	l["parent"] = map[string]any{"type": "subscription_item_details", "invoice_item_details": nil,
		"subscription_item_details": details}
	if p, ok := l["price"].(map[string]any); ok {
		l["pricing"] = map[string]any{"type": "price_details",
			"unit_amount_decimal": p["unit_amount_decimal"],
			"price_details":       map[string]any{"price": p["id"], "product": p["product"]}}
	}
	for _, gone := range []string{"price", "plan", "proration", "proration_details", "subscription",
		"subscription_item", "type",
		"tax_amounts", "tax_rates", "amount_excluding_tax", "unit_amount_excluding_tax"} {
		delete(l, gone)
	}
}

// basilPaths are the lists that are shown in the shape of that version to those who ask for it.
var basilPaths = []string{"/v1/invoices", "/v1/charges", "/v1/payment_intents"}

// asBasil serves a read in the shape of basilVersion, where that is asked for and known. Callers
// hold the lock, under which the answer is written down, because what it adds is read from the
// world.
func (q *request) asBasil(h func(*request) answer) answer {
	path := q.URL.Path
	if q.Header.Get("Stripe-Version") != basilVersion ||
		!slices.ContainsFunc(basilPaths, func(p string) bool {
			return path == p ||
				strings.HasPrefix(path, p+"/")
		}) {
		return h(q)
	}
	wanted, refused := q.basilExpansions(path)
	if refused != nil {
		return *refused
	}
	a := h(q)
	if a.later != nil {
		body, err := a.later()
		if err != nil {
			return a // the one that writes it down meets the error again
		}
		a.body, a.later = body, nil
	}
	if a.status != http.StatusOK {
		return a
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return a // cannot happen: the body is our own
	}
	q.basilAll(v, wanted)
	if b, err := json.Marshal(v); err == nil {
		a.body, a.header = b, http.Header{"Stripe-Version": {basilVersion}}
	}
	return a
}

// What of an invoice can be expanded in basil alone. A list of payments is left out unless it is
// asked for.
const (
	basilPayments = "payments"
	basilIntents  = "payments.data.payment.payment_intent"
	basilParent   = "parent.subscription_details.subscription"
)

// basilExpansions takes the paths that basil alone has out of the request, and refuses those that
// it no longer has.
func (q *request) basilExpansions(path string) (wanted map[string]bool, refused *answer) {
	wanted = map[string]bool{}
	for name, values := range q.form {
		if !strings.HasPrefix(name, "expand[") {
			continue
		}
		q.form[name] = slices.DeleteFunc(slices.Clone(values), func(p string) bool {
			below, isBelow := strings.CutPrefix(p, "data.")
			if isBelow != slices.Contains(basilPaths, path) {
				return false // refused as ever
			}
			head, _, _ := strings.Cut(below, ".")
			gone := head == "invoice"
			if strings.HasPrefix(path, "/v1/invoices") {
				if below == basilPayments || below == basilIntents || below == basilParent {
					if strings.Count(p, ".") < 4 { // four levels, "data" included
						wanted[below] = true
						return true
					}
				}
				gone = head == "payment_intent" || head == "charge" || head == "subscription"
			}
			if gone {
				a := notExpandable(p)
				refused = &a
			}
			return false
		})
	}
	return wanted, refused
}

// basilAll reshapes an object and all that is expanded in it.
func (q *request) basilAll(v any, wanted map[string]bool) {
	switch v := v.(type) {
	case []any:
		for _, each := range v {
			q.basilAll(each, wanted)
		}
	case map[string]any:
		for _, each := range v {
			q.basilAll(each, nil)
		}
		switch v["object"] {
		case "list":
			if rows, ok := v["data"].([]any); ok && wanted != nil {
				for _, row := range rows {
					q.basilOne(row, wanted)
				}
			}
		case "charge", "payment_intent":
			delete(v, "invoice")
		case "invoice":
			if v["parent"] == nil {
				basilInvoice(v)
			}
			q.basilOne(v, wanted)
		}
	}
}

// basilOne adds to an invoice what was asked for.
func (q *request) basilOne(row any, wanted map[string]bool) {
	v, ok := row.(map[string]any)
	if !ok || v["object"] != "invoice" {
		return
	}
	id, _ := v["id"].(string)
	if wanted[basilPayments] || wanted[basilIntents] {
		v["payments"] = q.acc.payments(id, v, wanted[basilIntents])
	}
	if parent, ok := v["parent"].(map[string]any); ok && wanted[basilParent] {
		details := parent["subscription_details"].(map[string]any)
		if sub, ok := details["subscription"].(string); ok {
			details["subscription"] = q.acc.whole("subscriptions", sub)
		}
	}
}

// payments lists the payments of an invoice, newest first. One whose payment intent was replaced is
// canceled.
func (a *account) payments(id string, v map[string]any, full bool) map[string]any {
	var intents []string
	if inv, ok := a.tables["invoices"].byID[id].(*invoice); ok {
		if inv.PaymentIntent != "" {
			intents = append(slices.Clone(inv.former), string(inv.PaymentIntent))
		}
	} else if sh := a.tables["invoices"].shelf; sh != nil {
		if n := sh.find(id); n >= 0 && sh.h.invoices[n].intent != "" {
			intents = []string{sh.h.ids["payment_intents"].name(n)}
		}
	}
	rows := []any{}
	for i, pi := range slices.Backward(intents) {
		o, ok := a.whole("payment_intents", pi).(map[string]any)
		if !ok {
			continue // cannot happen: the invoice names it
		}
		status := map[any]string{"canceled": "canceled", "succeeded": "paid"}[o["status"]]
		paid := any(nil)
		if status == "paid" {
			paid = o["amount_received"]
		}
		payment := map[string]any{"type": "payment_intent", "payment_intent": any(pi)}
		if full {
			delete(o, "invoice")
			payment["payment_intent"] = o
		}
		rows = append(rows, map[string]any{"id": a.id("inpay_1", 23, pi), "object": "invoice_payment",
			"amount_paid":      paid,
			"amount_requested": o["amount"], "created": o["created"], "currency": o["currency"],
			"invoice":    id,
			"is_default": i == len(intents)-1, "livemode": v["livemode"], "payment": payment,
			"status": orElse(status, "open")})
	}
	return map[string]any{"object": "list", "data": rows, "has_more": false,
		"url": "/v1/invoice_payments?invoice=" + id}
}

// whole is an object as the API shows it, living or of a history; nil if there is none.
func (a *account) whole(kind, id string) any {
	t := a.tables[kind]
	var b []byte
	if o := t.byID[id]; o != nil {
		b, _ = json.Marshal(o) // it has been shown by the API
	} else if t.shelf != nil {
		if n := t.shelf.find(id); n >= 0 {
			b = t.shelf.append(nil, n, nil)
		}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil
	}
	return v
}
