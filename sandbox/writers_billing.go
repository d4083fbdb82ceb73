package sandbox

import "strconv"

func subWriters(customer func(*history, int) int) map[string]writer {
	priced := func(of func(*price) string) writer {
		return words(func(h *history, n int) string { return of(h.subs[n].price) })
	}
	return map[string]writer{
		"id":                   itself("subscriptions"),
		"item":                 itself("items"),
		"created":              number(func(h *history, n int) int64 { return h.subs[n].created }),
		"ended_at":             moment(func(h *history, n int) int64 { return h.subs[n].ended }),
		"status":               words(func(h *history, n int) string { return h.subs[n].status }),
		"collection_method":    words(func(h *history, n int) string { return h.subs[n].method }),
		"customer":             link("customer", "customers", customer),
		"price":                priced(func(p *price) string { return p.ID }),
		"currency":             priced(func(p *price) string { return p.Currency }),
		"nickname":             priced(func(p *price) string { return p.Nickname }),
		"product":              priced(func(p *price) string { return p.Product }),
		"unit_amount_decimal":  priced(func(p *price) string { return p.UnitAmountDecimal }),
		"unit_amount":          number(func(h *history, n int) int64 { return h.subs[n].price.UnitAmount }),
		"price_created":        number(func(h *history, n int) int64 { return h.subs[n].price.Created }),
		"current_period_start": number(func(h *history, n int) int64 { start, _ := h.period(n); return start }),
		"current_period_end":   number(func(h *history, n int) int64 { _, end := h.period(n); return end }),
		"trial_start": moment(func(h *history, n int) int64 {
			if h.subs[n].trialEnd == 0 {
				return 0
			}
			return h.subs[n].trialEnd - 14*day
		}),
		"trial_end": moment(func(h *history, n int) int64 { return h.subs[n].trialEnd }),
		"days_until_due": moment(func(h *history, n int) int64 {
			if h.subs[n].method == "send_invoice" {
				return 14
			}
			return 0
		}),
		"default_payment_method": link("default_payment_method", "payment_methods", func(_ *history, n int) int {
			if mix(uint32(n))%2 == 0 {
				return -1
			}
			return n
		}),
		"latest_invoice": link("latest_invoice", "invoices", func(h *history, n int) int {
			all := h.invoicesOf.of(uint32(n))
			return int(all[len(all)-1])
		}),
		"items_url": func(dst []byte, h *history, n int, _ expansions) []byte {
			return append(h.ids["subscriptions"].append(append(dst, `"/v1/subscription_items?subscription=`...), n), '"')
		},
		"pause_collection": func(dst []byte, h *history, n int, _ expansions) []byte {
			if h.subs[n].pause == "" {
				return append(dst, "null"...)
			}
			return append(append(append(dst, `{"behavior":"`...), h.subs[n].pause...), `","resumes_at":null}`...)
		},
	}
}

func (h *history) period(sub int) (start, end int64) {
	s := &h.subs[sub]
	if s.trialEnd != 0 {
		return s.trialEnd - 14*day, s.trialEnd
	}
	return month(s.created, s.periods-1), month(s.created, s.periods)
}

func invoiceWriters(sub, customer func(*history, int) int) map[string]writer {
	closed := func(status string) writer {
		return moment(func(h *history, n int) int64 {
			if h.invoices[n].status != status {
				return 0
			}
			return h.invoices[n].closed
		})
	}
	page := func(tail string) writer {
		return func(dst []byte, h *history, n int, _ expansions) []byte {
			if h.invoices[n].status == "draft" {
				return append(dst, "null"...)
			}
			dst = append(append(dst, `"https://invoice.stripe.example.com/i/`...), h.acc.ID...)
			return append(append(h.ids["invoices"].append(append(dst, "/test_"...), n), tail...), '"')
		}
	}
	return map[string]writer{
		"id":                      itself("invoices"),
		"line":                    itself("lines"),
		"line_invoice":            itself("invoices"),
		"created":                 number(func(h *history, n int) int64 { return h.invoices[n].created }),
		"account_name":            words(func(h *history, _ int) string { return h.acc.profile.Name }),
		"amount_due":              number(func(h *history, n int) int64 { return h.invoices[n].amount }),
		"amount_paid":             number(func(h *history, n int) int64 { return h.invoices[n].amount - h.invoices[n].remaining }),
		"amount_remaining":        number(func(h *history, n int) int64 { return h.invoices[n].remaining }),
		"attempt_count":           number(func(h *history, n int) int64 { return int64(h.invoices[n].attempts) }),
		"attempted":               flag(func(h *history, n int) bool { return h.invoices[n].attempted }),
		"auto_advance":            flag(func(h *history, n int) bool { return h.invoices[n].next != 0 }),
		"billing_reason":          words(func(h *history, n int) string { return h.invoices[n].reason }),
		"collection_method":       words(func(h *history, n int) string { return h.subs[h.invoices[n].sub].method }),
		"due_date":                moment(func(h *history, n int) int64 { return h.invoices[n].due }),
		"finalized_at":            moment(func(h *history, n int) int64 { return h.finalized(&h.invoices[n]) }),
		"marked_uncollectible_at": closed("uncollectible"),
		"paid_at":                 closed("paid"),
		"voided_at":               closed("void"),
		"hosted_invoice_url":      page(""),
		"invoice_pdf":             page("/pdf"),
		"line_end":                number(func(h *history, n int) int64 { return month(h.invoices[n].created, 1) }),
		"line_description":        words(func(h *history, n int) string { return "1 × " + h.subs[h.invoices[n].sub].price.Nickname }),
		"next_payment_attempt":    moment(func(h *history, n int) int64 { return h.invoices[n].next }),
		"paid":                    flag(func(h *history, n int) bool { return h.invoices[n].status == "paid" }),
		"paid_out_of_band":        flag(func(h *history, n int) bool { return h.invoices[n].outOfBand }),
		"status":                  words(func(h *history, n int) string { return h.invoices[n].status }),
		"customer":                link("customer", "customers", customer),
		"subscription":            link("subscription", "subscriptions", sub),
		"charge":                  link("charge", "charges", func(h *history, n int) int { return h.lastCharge(n) }),
		"line_subscription": func(dst []byte, h *history, n int, _ expansions) []byte {
			return h.quoteID(dst, "subscriptions", int(h.invoices[n].sub))
		},
		"payment_intent": link("payment_intent", "payment_intents", func(h *history, n int) int {
			if h.invoices[n].intent == "" {
				return -1
			}
			return n
		}),
		"period_start": number(func(h *history, n int) int64 {
			v := &h.invoices[n]
			return max(h.subs[v.sub].created, v.created-30*day)
		}),
		"ending_balance": func(dst []byte, h *history, n int, _ expansions) []byte {
			if h.invoices[n].status == "draft" {
				return append(dst, "null"...)
			}
			return append(dst, '0')
		},
		"lines_url": func(dst []byte, h *history, n int, _ expansions) []byte {
			return append(h.ids["invoices"].append(append(dst, `"/v1/invoices/`...), n), `/lines"`...)
		},
		"number": func(dst []byte, h *history, n int, _ expansions) []byte {
			v := &h.invoices[n]
			dst = append(append(dst, '"'), h.prefix(h.subs[v.sub].customer)...)
			dst = strconv.AppendInt(append(dst, '-'), int64(10000+int(v.number)), 10)
			return append(dst, '"')
		},
	}
}

func chargeWriters(invoice, customer func(*history, int) int) map[string]writer {
	declined := func(of func(decline) string) writer {
		return words(func(h *history, n int) string {
			d := h.charges[n].decline
			if d == 0 {
				return ""
			}
			return of(oldDeclines[d-1])
		})
	}
	return map[string]writer{
		"id":       itself("charges"),
		"created":  number(func(h *history, n int) int64 { return h.charges[n].created }),
		"amount":   number(func(h *history, n int) int64 { return h.charges[n].amount }),
		"captured": flag(func(h *history, n int) bool { return h.charges[n].decline == 0 }),
		"paid":     flag(func(h *history, n int) bool { return h.succeeded(n) }),
		"disputed": flag(func(h *history, n int) bool { _, is := h.disputeOf[uint32(n)]; return is }),
		"amount_captured": number(func(h *history, n int) int64 {
			if h.charges[n].decline != 0 {
				return 0
			}
			return h.charges[n].amount
		}),
		"failure_code":    declined(decline.errorCode),
		"failure_message": declined(decline.message),
		"descriptor":      words(func(h *history, _ int) string { return h.acc.profile.Name }),
		"description": words(func(h *history, n int) string {
			if h.invoices[h.charges[n].invoice].reason == "subscription_create" {
				return "Subscription creation"
			}
			return "Subscription update"
		}),
		"status": words(func(h *history, n int) string {
			switch {
			case h.charges[n].pending:
				return "pending"
			case h.charges[n].decline != 0:
				return "failed"
			}
			return "succeeded"
		}),
		"customer":       link("customer", "customers", customer),
		"invoice":        link("invoice", "invoices", invoice),
		"payment_intent": link("payment_intent", "payment_intents", invoice),
		"dispute": link("dispute", "disputes", func(h *history, n int) int {
			if d, is := h.disputeOf[uint32(n)]; is {
				return int(d)
			}
			return -1
		}),
		"balance_transaction": link("", "balance_transactions", func(h *history, n int) int {
			if !h.succeeded(n) {
				return -1
			}
			return n
		}),
		"payment_method": func(dst []byte, h *history, n int, _ expansions) []byte {
			return h.quoteID(dst, "payment_methods", int(subOfCharge(h, n)))
		},
		"payment_method_details": func(dst []byte, h *history, n int, _ expansions) []byte {
			sub := subOfCharge(h, n)
			typ := h.cardType(sub)
			dst = append(append(append(dst, `{"`...), typ...), `":`...)
			dst = append(h.card(dst, sub, true), `,"type":"`...)
			return append(append(dst, typ...), `"}`...)
		},
		"receipt_url": func(dst []byte, h *history, n int, _ expansions) []byte {
			if !h.succeeded(n) {
				return append(dst, "null"...)
			}
			dst = append(append(dst, `"https://pay.stripe.example.com/receipts/invoices/`...), h.acc.ID...)
			return append(h.ids["charges"].append(append(dst, '/'), n), '"')
		},
		"outcome": func(dst []byte, h *history, n int, _ expansions) []byte {
			c := &h.charges[n]
			if c.pending || h.subs[subOfCharge(h, n)].sepa {
				return append(dst, `{"network_status":"approved_by_network","reason":null,"risk_level":"not_assessed","seller_message":"Payment complete.","type":"authorized"}`...)
			}
			brand := map[string]int{"mastercard": 1, "amex": 2}[oldBrands[h.subs[subOfCharge(h, n)].brand]]
			return append(dst, outcomes[c.decline][brand]...)
		},
	}
}

func intentWriters(customer, sub func(*history, int) int) map[string]writer {
	return map[string]writer{
		"id":              itself("payment_intents"),
		"created":         number(func(h *history, n int) int64 { return h.invoices[n].created + hour }),
		"amount":          number(func(h *history, n int) int64 { return h.invoices[n].amount }),
		"amount_received": number(func(h *history, n int) int64 { return h.received(n) }),
		"status":          words(func(h *history, n int) string { return h.invoices[n].intent }),
		"description":     words(func(*history, int) string { return "Subscription update" }),
		"customer":        link("customer", "customers", customer),
		"invoice":         link("invoice", "invoices", func(_ *history, n int) int { return n }),
		"latest_charge":   link("latest_charge", "charges", func(h *history, n int) int { return h.lastCharge(n) }),
		"payment_method":  link("payment_method", "payment_methods", sub),
		"client_secret": func(dst []byte, h *history, n int, _ expansions) []byte {
			return append(h.ids["payment_intents"].append(append(dst, '"'), n), `_secret_sandbox"`...)
		},
		"payment_method_types": func(dst []byte, h *history, n int, _ expansions) []byte {
			return append(append(append(dst, `["`...), h.cardType(h.invoices[n].sub)...), `"]`...)
		},
		"last_payment_error": func(dst []byte, h *history, n int, _ expansions) []byte {
			c := h.lastCharge(n)
			if c < 0 || h.charges[c].decline == 0 {
				return append(dst, "null"...)
			}
			d := oldDeclines[h.charges[c].decline-1]
			dst = append(h.quoteID(append(dst, `{"charge":`...), "charges", c), `,"code":"`...)
			dst = append(append(append(dst, d.errorCode()...), `","decline_code":"`...), d.reason...)
			return append(append(append(dst, `","message":"`...), d.message()...), `","type":"card_error"}`...)
		},
	}
}

// received is what charges have brought in, which for an invoice paid elsewhere is nothing.
func (h *history) received(invoice int) (sum int64) {
	for _, c := range h.chargesOf.of(uint32(invoice)) {
		if h.succeeded(int(c)) {
			sum += h.charges[c].amount
		}
	}
	return sum
}
