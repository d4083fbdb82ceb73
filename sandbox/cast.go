package sandbox

import (
	"slices"
	"time"
)

// cast says how many of 120 customers live each story. Together they show every row of "who is a
// ghost" and every way of being none. tell only plans: the contracts play the plan when the clock
// passes.
var cast = []struct {
	name string
	n    int
	tell func(*author)
}{
	{"healthy so far", 7, func(w *author) { w.subscribe(w.mortal(w.card(liquid))) }},
	{"healthy, by the year", 3, func(w *author) {
		w.start = w.ago(380, 545)
		w.yearly(w.subscribe(w.card(liquid)))
	}},
	{"ghost by the year", 1, func(w *author) {
		w.start = w.ago(370, 390)
		c := w.subscribe(w.card(liquid))
		w.yearly(c)
		w.dead(c.card, w.renewal(c, 1)-day, doNotHonor)
	}},
	{"payday", 18, func(w *author) { w.subscribe(w.mortal(w.card(payday))) }},
	{"moody bank", 7, func(w *author) { w.subscribe(w.card(moody)) }},
	{"unstable bank", 4, func(w *author) { w.subscribe(w.card(unstable)) }},
	{"ghost: card is dead", 11, func(w *author) { w.debtor(1+w.r.IntN(3), keepPastDue) }},
	{"ghost: new card, but the subscription has its own old one", 1, func(w *author) {
		c := w.debtor(1, keepPastDue)
		c.sub.DefaultPaymentMethod = text(c.card.pm.ID)
		w.customer.InvoiceSettings.DefaultPaymentMethod = text(w.card(liquid).pm.ID)
	}},
	{"hidden ghost: older invoice open", 4, func(w *author) { w.hidden(keepPastDue) }},
	{"hidden ghost: older invoice uncollectible", 3, func(w *author) { w.hidden(writeOff) }},
	{"unpaid", 3, func(w *author) { w.debtor(2+w.r.IntN(2), markUnpaid) }},
	{"canceled with debt", 4, func(w *author) { w.debtor(3, cancelNow) }},
	{"canceled with debt, but a second subscription is fine", 2, func(w *author) {
		w.debtor(3, cancelNow)
		w.start = w.ago(60, 90)
		w.subscribe(w.card(liquid))
	}},
	{"left without debt", 7, func(w *author) {
		c := w.subscribe(w.card(liquid))
		c.at(w.renewal(c, 2)-day, func(int64) { c.sub.CancelAtPeriodEnd = true })
	}},
	{"trialing", 2, func(w *author) {
		w.start = w.ago(2, 10)
		w.subscribe(w.card(liquid)).trial = 14
	}},
	{"trialing with earlier debt", 2, func(w *author) {
		c := w.debtor(2, keepPastDue)
		c.at(w.epoch-day, func(t int64) { // the merchant gives another chance
			end := w.epoch + 13*day
			c.sub.TrialStart, c.sub.TrialEnd, c.bill = stamp(t), stamp(end), end
			c.sub.CurrentPeriodStart, c.sub.CurrentPeriodEnd = t, end
			c.setStatus("trialing", t)
			c.freeInvoice(t, "subscription_update")
		})
	}},
	{"collection paused: void", 1, func(w *author) { w.paused("void") }},
	{"collection paused: drafts", 1, func(w *author) { w.paused("keep_as_draft") }},
	{"collection paused: uncollectible", 1, func(w *author) { w.paused("mark_uncollectible") }},
	{"paused after a trial without a card", 1, func(w *author) {
		w.start = w.ago(40, 90)
		w.subscribe(nil).trial = 14
	}},
	{"incomplete", 1, func(w *author) {
		w.start = w.ago(0, 0) - int64(1+w.r.IntN(6))*hour
		w.subscribe(w.dead(w.card(liquid), 1, doNotHonor))
	}},
	{"incomplete_expired", 2, func(w *author) {
		w.start = w.ago(5, 200)
		w.subscribe(w.dead(w.card(liquid), 1, doNotHonor))
	}},
	{"pays by invoice", 2, func(w *author) { w.byInvoice(5 + w.r.IntN(8)) }},
	{"pays by invoice, but not lately", 1, func(w *author) { w.byInvoice(0) }},
	{"bank debit under way", 2, func(w *author) {
		w.start = w.epoch - int64(1+w.r.IntN(3))*day - 3*hour
		w.start = time.Unix(w.start, 0).UTC().AddDate(0, -3, 0).Unix()
		w.subscribe(w.card(bankDebit))
	}},
	{"bank asks for authentication", 2, func(w *author) {
		c := w.subscribe(w.card(liquid))
		w.dead(c.card, w.renewal(c, 1)-day, authRequired)
	}},
	{"paid out of band", 1, func(w *author) {
		c := w.debtor(2, keepPastDue)
		c.at(w.renewal(c, 2)+3*day, func(t int64) {
			for _, inv := range c.open {
				if inv.Status == "open" {
					inv.PaidOutOfBand = true
					c.markPaid(inv, t)
				}
			}
			c.card.dies = 0
		})
	}},
	{"blocked by risk rules", 1, func(w *author) {
		c := w.subscribe(w.card(liquid))
		w.dead(c.card, w.renewal(c, 1)-day, highestRisk)
	}},
	{"disputed", 3, func(w *author) {
		c := w.subscribe(w.card(liquid))
		status := []string{"needs_response", "under_review", "lost", "won"}[w.i%4]
		c.at(w.renewal(c, 1)+2*day, func(t int64) {
			if d := c.dispute(t, status); d != nil && status == "lost" {
				d.Amount /= 2 // only a part was contested
			}
		})
	}},
	{"disputed and in debt", 1, func(w *author) {
		c := w.debtor(1, keepPastDue)
		c.at(w.renewal(c, 1)-2*day, func(t int64) { c.dispute(t, "needs_response") })
	}},
	{"refunded", 1, func(w *author) {
		c := w.subscribe(w.card(liquid))
		c.at(w.renewal(c, 2)+3*day, func(t int64) {
			if ch := c.lastPaid(); ch != nil {
				ch.AmountRefunded, ch.Refunded = ch.Amount, true
				c.acc.emit(t, "charge.refunded", ch, nil)
			}
		})
	}},
	{"in debt twice, in two currencies", 1, func(w *author) {
		k := w.card(liquid)
		c, abroad := w.subscribe(k), w.subscribe(k)
		w.monthly(c)
		abroad.setPrice(w.acc.foreign)
		w.dead(k, w.renewal(c, 1)-day, insufficientFunds)
	}},
	{"in debt on one subscription, fine on another", 1, func(w *author) {
		w.debtor(1, keepPastDue)
		w.start = w.ago(60, 90)
		w.subscribe(w.card(liquid))
	}},
	{"partly paid", 1, func(w *author) { w.partly("") }},
	{"partly paid, and that part is disputed", 1, func(w *author) { w.partly("needs_response") }},
	{"in the hour before the first attempt", 1, func(w *author) {
		w.start = time.Unix(w.epoch, 0).UTC().AddDate(-1, 0, 0).Unix()
		w.monthly(w.subscribe(w.card(liquid)))
	}},
	{"finalised by hand and never charged", 1, func(w *author) {
		c := w.subscribe(w.card(liquid))
		c.at(w.renewal(c, 1)+hour/2, func(t int64) {
			for _, inv := range c.open {
				if inv.Status == "draft" {
					c.finalizeQuietly(inv, t)
					inv.AutoAdvance, inv.NextPaymentAttempt, inv.step = false, 0, 0
				}
			}
		})
	}},
	{"declined with a code that nobody knows", 1, func(w *author) {
		c := w.debtor(1, keepPastDue)
		c.card.end = unknownDecline
	}},
	{"test clock", 1, func(w *author) {
		w.customer.TestClock = text(w.acc.id("clock_1", 23, w.customer.ID))
		w.debtor(1, keepPastDue)
	}},
	{"hidden ghost: the newest is void, an older one was given up", 1, func(w *author) {
		c := w.hidden(writeOff)
		c.at(w.renewal(c, 1)+hour/2, func(t int64) { // the merchant waives a month
			for _, inv := range slices.Clone(c.open) {
				if inv.Status == "draft" {
					c.finalizeQuietly(inv, t)
					c.void(inv, t)
				}
			}
		})
	}},
	{"pays by invoice, but not lately, and stays active", 1,
		func(w *author) { w.byInvoice(0).mild = true }},
	{"hidden ghost: a sent invoice was given up, and those since are paid", 1, func(w *author) {
		c := w.byInvoice(6)
		w.monthly(c)
		from := w.renewal(c, 3)
		c.at(from-day, func(int64) { c.late = 0 })
		c.at(from+(14+10)*day, func(t int64) {
			for _, inv := range slices.Clone(c.open) {
				c.writeOff(inv, t)
			}
			c.late = 6
		})
	}},
	{"a sent invoice was given up, and nothing is paid since", 1, func(w *author) {
		c := w.byInvoice(6)
		w.monthly(c)
		from := w.renewal(c, 2)
		c.at(from-day, func(int64) { c.late = 0 })
		c.at(from+(14+10)*day, func(t int64) {
			for _, inv := range slices.Clone(c.open) {
				c.writeOff(inv, t)
			}
		})
	}},
	{"the newest was given up after its retries", 1, func(w *author) {
		w.start = w.monthsAgo(4, 16+w.r.IntN(8))
		w.debtor(1, writeOff)
	}},
	{"a bank debit came back as a lost dispute", 1, func(w *author) {
		c := w.subscribe(w.card(bankDebit))
		c.at(w.renewal(c, 1)-3*day, func(t int64) {
			ch := c.lastPaid()
			if ch == nil {
				return
			}
			d := c.acc.dispute(ch, t, "needs_response")
			d.Reason, d.Status = "debit_not_authorized", "lost" // nobody can contest one
			c.acc.emit(t, "charge.dispute.closed", d, map[string]any{"status": "needs_response"})
		})
	}},
	{"a second payment intent, the failures lie on the first", 1, func(w *author) {
		c := w.debtor(2, keepPastDue)
		c.at(w.renewal(c, 2)+20*day, c.replaceIntents)
	}},
	{"a second payment intent, and a part paid through the first is disputed", 1, func(w *author) {
		c := w.partly("under_review")
		c.at(w.renewal(c, 2)+20*day, c.replaceIntents)
	}},
	{"asked three times for one upgrade", 1, func(w *author) { w.upgrade(false) }},
	{"asked three times for one upgrade, and paid once", 1, func(w *author) { w.upgrade(true) }},
	{"in debt, and subscribed anew to the same product", 1, func(w *author) {
		c := w.debtor(2, keepPastDue)
		w.monthly(c)
		c.sub.DefaultPaymentMethod = text(c.card.pm.ID)
		w.start = w.ago(10, 20)
		w.monthly(w.subscribe(w.card(liquid)))
	}},
	{"partly paid, and that part is in a dispute of a kind that nobody knows", 1,
		func(w *author) { w.partly("needs_arbitration") }},
}

// monthsAgo is a moment so many months and days before the epoch, on the 28th of a month at the
// latest.
func (w *author) monthsAgo(months, days int) int64 {
	t := time.Unix(w.epoch-int64(days)*day, 0).UTC()
	if t.Day() > 28 {
		t = t.AddDate(0, 0, -3)
	}
	return t.AddDate(0, -months, 0).Unix()
}
