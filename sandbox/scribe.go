package sandbox

import "time"

var oldBrands = []string{"visa", "visa", "visa", "mastercard", "mastercard", "amex"}

func dayOfMonth(t int64) int { return time.Unix(t, 0).UTC().Day() }

// bill writes the invoice of the k-th period.
func (w *scribe) bill(s uint32, k int, status string) uint32 {
	sub := &w.subs[s]
	v := oldInvoice{created: month(sub.created, k), sub: s, number: uint16(k + 1), status: status, reason: "subscription_cycle",
		amount: sub.price.UnitAmount, remaining: sub.price.UnitAmount, intent: "requires_payment_method"}
	if k == 0 {
		v.reason = "subscription_create"
	}
	switch status {
	case "draft":
		v.intent = ""
	case "void":
		v.intent = "canceled"
	}
	w.invoices = append(w.invoices, v)
	return uint32(len(w.invoices) - 1)
}

// free writes the invoice over nothing that opens a trial.
func (w *scribe) free(s uint32, at int64, reason string) {
	w.invoices = append(w.invoices, oldInvoice{created: at, sub: s, number: uint16(w.subs[s].periods + 1), status: "paid", reason: reason,
		attempted: true, closed: at + hour})
}

// paid writes the invoices of the periods from..to-1. One in 25 fails at first.
func (w *scribe) paid(s uint32, from, to int) {
	for k := from; k < to; k++ {
		if w.r.IntN(25) == 0 {
			w.retried(s, k, 1+w.r.IntN(3))
			continue
		}
		w.retried(s, k, 0)
	}
}

// retried writes an invoice that was paid after so many failures, or at once if that many do not
// fit into the past. In its first hour it is a draft.
func (w *scribe) retried(s uint32, k, failures int) {
	v := w.bill(s, k, "paid")
	inv := &w.invoices[v]
	if inv.created+hour > w.epoch {
		inv.status, inv.intent, inv.next = "draft", "", inv.created+hour
		return
	}
	at := inv.created + hour
	if at+int64(failures)*3*day+day > w.epoch {
		failures = 0
	}
	for range failures {
		w.fail(v, at, w.passing())
		at += w.pause()
	}
	inv = &w.invoices[v]
	inv.attempts++
	w.succeed(v, at, inv.amount)
}

func (w *scribe) succeed(v uint32, at, amount int64) {
	inv := &w.invoices[v]
	inv.attempted = true
	w.charges = append(w.charges, oldCharge{created: at, amount: amount, invoice: v})
	if inv.remaining -= amount; inv.remaining == 0 {
		inv.status, inv.closed, inv.next, inv.intent = "paid", at, 0, "succeeded"
	}
}

func (w *scribe) fail(v uint32, at int64, with uint8) {
	inv := &w.invoices[v]
	inv.attempted = true
	inv.attempts++
	w.charges = append(w.charges, oldCharge{created: at, amount: inv.remaining, invoice: v, decline: with})
}

// debit writes a bank debit that has not arrived.
func (w *scribe) debit(v uint32, at int64) {
	inv := &w.invoices[v]
	inv.attempted, inv.intent = true, "processing"
	inv.attempts++
	w.charges = append(w.charges, oldCharge{created: at, amount: inv.amount, invoice: v, pending: true})
}

// pause is the time between two automatic attempts.
func (w *scribe) pause() int64 { return day + int64(w.r.IntN(2*day)) }

// passing is a decline that a later attempt may overcome.
func (w *scribe) passing() uint8 {
	return uint8(len(hard) + 1 + w.r.IntN(len(velocity)+len(soft)+len(technical)))
}

// ending is one that none will: half of them no money, now and then a code that nobody knows.
func (w *scribe) ending() uint8 {
	switch w.r.IntN(12) {
	case 0, 1, 2, 3, 4:
		return declineNumber(insufficientFunds)
	case 5:
		return declineNumber(unknownDecline)
	}
	return uint8(1 + w.r.IntN(len(hard)))
}

// owing writes debts: eight attempts within two weeks, as far as they fit into the past. After
// "never again" Stripe keeps the calendar and seldom knocks; what it then says is its own block.
func (w *scribe) owing(s uint32, from, to int) {
	with := w.ending()
	for k := from; k < to; k++ {
		v := w.bill(s, k, "open")
		w.collect(v, with)
	}
}

func (w *scribe) collect(v uint32, with uint8) {
	at, first := w.invoices[v].created+hour, w.invoices[v].created+hour
	for {
		never := oldDeclines[with-1].class == "never"
		w.fail(v, at, with)
		for {
			at += w.pause()
			if w.invoices[v].attempts >= 8 || at >= first+14*day {
				return
			}
			if at > w.epoch {
				w.invoices[v].next = at
				return
			}
			if !never || w.r.IntN(10) < 3 {
				break
			}
			w.invoices[v].attempts++
		}
		if never {
			with = declineNumber(blockedAgain)
		}
	}
}

func (w *scribe) writtenOff(s uint32, k int) {
	w.owing(s, k, k+1)
	v := &w.invoices[len(w.invoices)-1]
	v.status, v.closed, v.next = "uncollectible", v.created+15*day, 0
}

// sent writes invoices that go by mail; those from unpaid on are not paid, nor is what the customer
// has a few days more for.
func (w *scribe) sent(s uint32, from, to, unpaid int) {
	for k := from; k < to; k++ {
		v := w.bill(s, k, "open")
		inv := &w.invoices[v]
		inv.due = inv.created + hour + 14*day
		at := inv.created + int64(2+w.r.IntN(10))*day
		switch {
		case inv.created+hour > w.epoch:
			inv.status, inv.intent, inv.due = "draft", "", 0
		case k < unpaid && at <= w.epoch:
			w.succeed(v, at, inv.amount)
		}
	}
}

// paused writes the last two invoices as made while collection was paused. One in three has a debt
// from before.
func (w *scribe) paused(s uint32, n int, behavior string) {
	w.subs[s].pause = behavior
	w.paid(s, 0, n-3)
	if w.r.IntN(3) == 0 {
		w.owing(s, n-3, n-2)
	} else {
		w.paid(s, n-3, n-2)
	}
	for k := n - 2; k < n; k++ {
		status := map[string]string{"void": "void", "keep_as_draft": "draft", "mark_uncollectible": "uncollectible"}[behavior]
		v := w.bill(s, k, status)
		if status != "draft" {
			w.invoices[v].closed = w.invoices[v].created
		}
	}
}

// partly writes a debt of which a part was paid after two failures.
func (w *scribe) partly(s uint32, k int) {
	v := w.bill(s, k, "open")
	w.subs[s].status = "past_due"
	at := w.invoices[v].created + hour
	w.fail(v, at, declineNumber(insufficientFunds))
	w.succeed(v, min(at+day, w.epoch), w.invoices[v].amount/3)
}

// dispute disputes the charge that was written last and succeeded.
func (w *scribe) dispute(status string) {
	for c := len(w.charges) - 1; c >= 0; c-- {
		if w.charges[c].decline == 0 {
			at := min(w.charges[c].created+day, w.epoch)
			w.disputes = append(w.disputes, oldDispute{created: at, charge: uint32(c), status: status})
			return
		}
	}
}
