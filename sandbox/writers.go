package sandbox

import (
	"slices"
	"strconv"
	"strings"
)

// mix is a number that looks random and depends on n alone.
func mix(n uint32) uint64 {
	x := uint64(n)*0x9e3779b97f4a7c15 + 0x632be59bd9b4e019
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

var lowerFirst, lowerLast = lower(firstNames), lower(lastNames)

func lower(all []string) []string {
	out := slices.Clone(all)
	for i := range out {
		out[i] = strings.ToLower(out[i])
	}
	return out
}

func (h *history) email(dst []byte, customer uint32) []byte {
	x := mix(customer)
	dst = append(dst, lowerFirst[x%uint64(len(firstNames))]...)
	dst = append(append(dst, '.'), lowerLast[x>>16%uint64(len(lastNames))]...)
	dst = strconv.AppendInt(append(dst, ".h"...), int64(customer), 10)
	return append(dst, "@example.com"...)
}

func (h *history) place(customer uint32) place {
	return h.acc.profile.Places[mix(customer)>>32%uint64(len(h.acc.profile.Places))]
}

func (h *history) lastCharge(invoice int) int {
	all := h.chargesOf.of(uint32(invoice))
	if len(all) == 0 {
		return -1
	}
	return int(all[len(all)-1])
}

func (h *history) finalized(v *oldInvoice) int64 {
	switch {
	case v.status == "draft":
		return 0
	case !v.attempted && v.closed != 0: // made while collection was paused
		return v.closed
	}
	return v.created + hour
}

func (h *history) succeeded(charge int) bool {
	c := &h.charges[charge]
	return c.decline == 0 && !c.pending
}

func (h *history) card(dst []byte, sub uint32, onCharge bool) []byte {
	s := &h.subs[sub]
	x := mix(sub)
	if s.sepa {
		dst = append(dst, `{"bank_code":"37040044","branch_code":null,"country":"DE","fingerprint":`...)
		dst = h.quoteID(dst, "fingerprints", int(sub))
		return append(dst, `,"last4":"3000","mandate":null}`...)
	}
	brand := oldBrands[s.brand]
	dst = append(append(append(dst, `{"brand":"`...), brand...), `","checks":{"address_line1_check":null,"address_postal_code_check":"pass","cvc_check":"pass"},"country":"`...)
	dst = append(append(dst, h.acc.profile.Country...), `","exp_month":`...)
	dst = strconv.AppendInt(dst, int64(1+x%12), 10)
	dst = strconv.AppendInt(append(dst, `,"exp_year":`...), int64(2027+x%5), 10)
	dst = h.quoteID(append(dst, `,"fingerprint":`...), "fingerprints", int(sub))
	dst = append(dst, `,"funding":"`...)
	dst = append(dst, []string{"credit", "debit", "debit", "prepaid"}[x>>8%4]...)
	dst = append(dst, `","last4":"`...)
	dst = append(dst, strconv.Itoa(10000 + int(x>>12%10000))[1:]...)
	if onCharge {
		dst = append(append(dst, `","mandate":null,"network":"`...), brand...)
		dst = append(dst, `","installments":null,"three_d_secure":null,"wallet":null,"multicapture":{"status":"unavailable"},"extended_authorization":{"status":"disabled"},"incremental_authorization":{"status":"unavailable"},"overcapture":{"maximum_amount_capturable":0,"status":"unavailable"},"network_token":{"used":false},"amount_authorized":0}`...)
		return dst
	}
	return append(dst, `","generated_from":null,"networks":{"available":["visa"],"preferred":null},"three_d_secure_usage":{"supported":true},"wallet":null}`...)
}

func (h *history) cardType(sub uint32) string {
	if h.subs[sub].sepa {
		return "sepa_debit"
	}
	return "card"
}

func subOfCharge(h *history, n int) uint32 { return h.invoices[h.charges[n].invoice].sub }

// writers write the fields of shapes, by kind.
var writers = func() map[string]map[string]writer {
	customers := map[string]writer{
		"id":             itself("customers"),
		"created":        number(func(h *history, n int) int64 { return h.customers[n].created }),
		"city":           words(func(h *history, n int) string { return h.place(uint32(n)).city }),
		"postal_code":    words(func(h *history, n int) string { return h.place(uint32(n)).postalCode }),
		"country":        words(func(h *history, _ int) string { return h.acc.profile.Country }),
		"currency":       words(func(h *history, _ int) string { return h.acc.profile.Currency }),
		"delinquent":     flag(func(h *history, n int) bool { return h.subs[h.subsOf.of(uint32(n))[0]].status == "past_due" }),
		"invoice_prefix": words(func(h *history, n int) string { return h.prefix(uint32(n)) }),
		"test_clock":     words(func(h *history, n int) string { return h.clock(uint32(n)) }),
		"email": func(dst []byte, h *history, n int, _ expansions) []byte {
			return append(h.email(append(dst, '"'), uint32(n)), '"')
		},
		"default_payment_method": defaultMethod,
		"name": words(func(_ *history, n int) string {
			x := mix(uint32(n))
			return firstNames[x%uint64(len(firstNames))] + " " + lastNames[x>>16%uint64(len(lastNames))]
		}),
	}
	customerOfSub := func(h *history, n int) int { return int(h.subs[n].customer) }
	subs := merge(join(customers, customerOfSub, "test_clock"), subWriters(customerOfSub))
	subOfInvoice := func(h *history, n int) int { return int(h.invoices[n].sub) }
	customerOfInvoice := func(h *history, n int) int { return int(h.subs[h.invoices[n].sub].customer) }
	person := []string{"city", "postal_code", "country", "email", "name", "test_clock", "invoice_prefix"}
	invoices := merge(
		join(subs, subOfInvoice, "price", "price_created", "currency", "unit_amount", "unit_amount_decimal", "nickname", "product", "item"),
		join(customers, customerOfInvoice, person...), invoiceWriters(subOfInvoice, customerOfInvoice))
	customerOfCharge := func(h *history, n int) int { return int(h.subs[subOfCharge(h, n)].customer) }
	invoiceOfCharge := func(h *history, n int) int { return int(h.charges[n].invoice) }
	charges := merge(join(invoices, invoiceOfCharge, "currency"), join(customers, customerOfCharge, person...),
		chargeWriters(invoiceOfCharge, customerOfCharge))
	chargeOfDispute := func(h *history, n int) int { return int(h.disputes[n].charge) }
	return map[string]map[string]writer{
		"customers": customers, "subscriptions": subs, "invoices": invoices, "charges": charges,
		"payment_methods": merge(join(customers, customerOfSub, person...), map[string]writer{
			"id":       itself("payment_methods"),
			"created":  number(func(h *history, n int) int64 { return h.subs[n].created - 30 }),
			"customer": link("customer", "customers", customerOfSub),
			"type":     words(func(h *history, n int) string { return h.cardType(uint32(n)) }),
			"card":     func(dst []byte, h *history, n int, _ expansions) []byte { return h.card(dst, uint32(n), false) },
		}),
		"payment_intents": merge(join(invoices, func(_ *history, n int) int { return n }, "currency"), intentWriters(customerOfInvoice, subOfInvoice)),
		"disputes": merge(join(charges, chargeOfDispute, "currency", "amount", "payment_intent"), map[string]writer{
			"id":      itself("disputes"),
			"created": number(func(h *history, n int) int64 { return h.disputes[n].created }),
			"status":  words(func(h *history, n int) string { return h.disputes[n].status }),
			"charge":  link("charge", "charges", chargeOfDispute),
		}),
	}
}()

func defaultMethod(dst []byte, h *history, n int, wanted expansions) []byte {
	return link("default_payment_method", "payment_methods", func(h *history, n int) int { return int(h.subsOf.of(uint32(n))[0]) })(
		dst, h, n, wanted["invoice_settings"])
}

func (h *history) prefix(customer uint32) string {
	id := h.ids["customers"].name(int(customer))
	return strings.ToUpper(id[len(id)-8:])
}

func (h *history) clock(customer uint32) string {
	if !h.customers[customer].clock {
		return ""
	}
	return "clock_1" + h.prefix(customer)
}
