package sandbox

// story is what became of one subscription of a history. Weights are of a thousand; those of ghosts
// add up to 4 in a hundred.
type story struct {
	weight      int
	least, most int // age in days
	tell        func(w *scribe, s uint32, n int)
}

var stories = []story{
	// first, so that the smallest history has a ghost
	{11, 100, 1000, func(w *scribe, s uint32, n int) {
		lag := min(1+w.r.IntN(3), n)
		w.paid(s, 0, n-lag)
		w.owing(s, n-lag, n)
		w.subs[s].status = "past_due"
	}},
	{763, 1, 1090, func(w *scribe, s uint32, n int) { w.paid(s, 0, n) }},
	{50, 1, 1090, func(w *scribe, s uint32, n int) { // pays, but seldom at once
		for k := range n {
			w.retried(s, k, 1+w.r.IntN(4))
		}
	}},
	{9, 130, 1000, func(w *scribe, s uint32, n int) { // hidden: an older one open
		w.paid(s, 0, n-3)
		w.owing(s, n-3, n-2)
		w.paid(s, n-2, n)
	}},
	{6, 130, 1000, func(w *scribe, s uint32, n int) { // hidden: an older one given up
		w.paid(s, 0, n-3)
		w.writtenOff(s, n-3)
		w.paid(s, n-2, n)
	}},
	{2, 130, 1000, func(w *scribe, s uint32, n int) { // another chance after a debt
		w.paid(s, 0, n-2)
		w.owing(s, n-2, n)
		w.subs[s].status, w.subs[s].trialEnd = "trialing", w.epoch+13*day
		w.free(s, w.epoch-day, "subscription_update")
	}},
	{2, 1, 10, func(w *scribe, s uint32, _ int) {
		w.subs[s].status, w.subs[s].trialEnd = "trialing", w.subs[s].created+14*day
		w.free(s, w.subs[s].created, "subscription_create")
	}},
	{4, 100, 1000, func(w *scribe, s uint32, n int) { // pays by invoice, but not lately
		w.subs[s].method, w.subs[s].status = "send_invoice", "past_due"
		w.sent(s, 0, n, n-2)
	}},
	{12, 20, 1000, func(w *scribe, s uint32, n int) {
		w.subs[s].method = "send_invoice"
		w.sent(s, 0, n, n)
	}},
	{2, 130, 1000, func(w *scribe, s uint32, n int) { // one was given up, and the next has failed
		w.paid(s, 0, n-2)
		w.writtenOff(s, n-2)
		w.owing(s, n-1, n)
		w.subs[s].status = "past_due"
	}},
	{1, 130, 1000, func(w *scribe, s uint32, n int) {
		// hidden: an older one given up, the newest void
		w.paid(s, 0, n-3)
		w.writtenOff(s, n-3)
		w.paid(s, n-2, n-1)
		v := w.bill(s, n-1, "void")
		w.invoices[v].closed = w.invoices[v].created + hour
	}},
	// pays by invoice, but not lately, and stays active
	{2, 100, 1000, func(w *scribe, s uint32, n int) {
		w.subs[s].method = "send_invoice"
		w.sent(s, 0, n, n-2)
	}},
	{1, 130, 1000, func(w *scribe, s uint32, n int) { // hidden: one that was sent was given up
		w.subs[s].method = "send_invoice"
		w.sent(s, 0, n-2, n-3)
		v := &w.invoices[len(w.invoices)-1]
		v.status, v.closed = "uncollectible", v.due+10*day
		w.sent(s, n-2, n, n)
	}},
	{1, 130, 1000, func(w *scribe, s uint32, n int) { // left it in debt, and has come back
		w.paid(s, 0, n-2)
		w.owing(s, n-2, n)
		w.subs[s].status = "past_due"
		other := w.subscribe(month(w.subs[s].created, n-1), w.subs[s].customer)
		w.subs[other].price = w.subs[s].price
		w.paid(other, 0, 1)
	}},
	{10, 130, 1000, func(w *scribe, s uint32, n int) {
		w.paid(s, 0, n-2)
		w.owing(s, n-2, n)
		w.subs[s].status = "unpaid"
	}},
	{20, 130, 1000, func(w *scribe, s uint32, n int) { // left in debt
		n = max(2, n-2-w.r.IntN(n))
		w.paid(s, 0, n-1)
		w.owing(s, n-1, n)
		w.end(s, n, month(w.subs[s].created, n-1)+15*day)
	}},
	{60, 70, 1090, func(w *scribe, s uint32, n int) { // left without one
		n = max(1, n-1-w.r.IntN(n))
		w.paid(s, 0, n)
		w.end(s, n, month(w.subs[s].created, n))
	}},
	{3, 130, 1000, func(w *scribe, s uint32, n int) { w.paused(s, n, "void") }},
	{2, 130, 1000, func(w *scribe, s uint32, n int) { w.paused(s, n, "keep_as_draft") }},
	{3, 130, 1000, func(w *scribe, s uint32, n int) { w.paused(s, n, "mark_uncollectible") }},
	{2, 40, 90, func(w *scribe, s uint32, _ int) { // a trial that ended without a card
		w.free(s, w.subs[s].created, "subscription_create")
		w.subs[s].status, w.subs[s].trialEnd = "paused", w.subs[s].created+14*day
	}},
	{10, 2, 1000, func(w *scribe, s uint32, _ int) {
		v := w.bill(s, 0, "void")
		w.fail(v, w.invoices[v].created+hour, w.ending())
		w.invoices[v].closed = w.invoices[v].created + 23*hour
		w.subs[s].status, w.subs[s].ended = "incomplete_expired", w.invoices[v].closed
	}},
	{1, 0, 0, func(w *scribe, s uint32, _ int) {
		v := w.bill(s, 0, "open")
		w.fail(v, w.invoices[v].created+hour, w.ending())
		w.subs[s].status = "incomplete"
	}},
	{4, 92, 93, func(w *scribe, s uint32, n int) { // a bank debit under way
		w.subs[s].sepa = true
		w.paid(s, 0, n-1)
		v := w.bill(s, n-1, "open")
		w.debit(v, max(w.epoch-day, w.invoices[v].created+hour))
	}},
	{4, 40, 1000, func(w *scribe, s uint32, n int) { // the bank wants to see the customer
		w.paid(s, 0, n-1)
		v := w.bill(s, n-1, "open")
		w.fail(v, w.invoices[v].created+hour, declineNumber(authRequired))
		w.invoices[v].intent, w.subs[s].status = "requires_action", "past_due"
	}},
	{3, 100, 1000, func(w *scribe, s uint32, n int) { // paid by a transfer to somewhere else
		w.paid(s, 0, n-2)
		w.owing(s, n-2, n-1)
		v := &w.invoices[len(w.invoices)-1]
		v.status, v.outOfBand, v.remaining, v.next, v.intent = "paid", true, 0, 0, "canceled"
		v.closed = v.created + 20*day
		w.paid(s, n-1, n)
	}},
	{6, 70, 1000, func(w *scribe, s uint32, n int) {
		w.paid(s, 0, n)
		w.dispute([]string{"needs_response", "under_review", "won", "lost", "warning_closed"}[w.r.IntN(5)])
	}},
	{3, 70, 1000, func(w *scribe, s uint32, n int) { // a part has come in
		w.paid(s, 0, n-1)
		w.partly(s, n-1)
	}},
	{1, 70, 1000, func(w *scribe, s uint32, n int) { // and is disputed
		w.paid(s, 0, n-1)
		w.partly(s, n-1)
		w.dispute("warning_under_review")
	}},
	{1, 100, 1000, func(w *scribe, s uint32, n int) {
		w.customers[w.subs[s].customer].clock = true
		w.paid(s, 0, n-1)
		w.owing(s, n-1, n)
		w.subs[s].status = "past_due"
	}},
	{1, 100, 1000, func(w *scribe, s uint32, n int) { // in debt twice, in two currencies
		w.paid(s, 0, n-1)
		w.owing(s, n-1, n)
		w.subs[s].status = "past_due"
		start := w.subs[s].created
		other := w.subscribe(start, w.subs[s].customer)
		w.subs[other].price, w.subs[other].status = w.acc.foreign, "past_due"
		w.paid(other, 0, n-1)
		w.owing(other, n-1, n)
	}},
}

// next tells the story of one more customer.
func (w *scribe) next() {
	if len(w.plan) == 0 {
		for i, st := range stories {
			for range st.weight {
				w.plan = append(w.plan, i)
			}
		}
		w.r.Shuffle(len(w.plan), func(i, j int) { w.plan[i], w.plan[j] = w.plan[j], w.plan[i] })
		if w.told == 0 { // one of each to begin with, a ghost first
			for i := range stories {
				w.plan = append(w.plan, len(stories)-1-i)
			}
		}
	}
	st := stories[w.plan[len(w.plan)-1]]
	w.plan = w.plan[:len(w.plan)-1]
	w.told++
	start := w.begin(st)
	customer := uint32(len(w.customers))
	if customer > 0 && w.r.IntN(25) == 0 && !w.customers[customer-1].clock && st.weight > 1 {
		customer-- // a second subscription of the customer before
		w.customers[customer].created = min(w.customers[customer].created, start-90)
	} else {
		w.customers = append(w.customers, oldCustomer{created: start - 90})
	}
	s := w.subscribe(start, customer)
	n := started(start, w.epoch)
	w.subs[s].periods = n
	st.tell(w, s, n)
}

// begin is when a subscription of this story started: on the 28th at the latest, and so that no
// period began in the last two hours, unless it is healthy, so that every story has a full last
// period.
func (w *scribe) begin(st story) int64 {
	if st.most == 0 {
		return w.epoch - int64(2+w.r.IntN(18))*hour
	}
	st.most = min(st.most, max(w.most, st.least+30))
	for {
		at := w.epoch - int64(st.least)*day - int64(w.r.IntN((st.most-st.least)*day))
		last := month(at, max(started(at, w.epoch)-1, 0))
		if dayOfMonth(at) <= 28 && (last < w.epoch-2*hour || st.weight > 700) {
			return at
		}
		if st.most-st.least <= 1 { // too narrow to try again
			st.least, st.most = st.least-3, st.most+3
		}
	}
}

func (w *scribe) subscribe(start int64, customer uint32) uint32 {
	w.subs = append(w.subs, oldSub{created: start, customer: customer, status: "active", method: "charge_automatically",
		price: w.acc.prices[2*w.r.IntN(len(w.acc.prices)/2)], brand: uint8(w.r.IntN(len(oldBrands))), periods: started(start, w.epoch)})
	return uint32(len(w.subs) - 1)
}

func (w *scribe) end(s uint32, periods int, at int64) {
	w.subs[s].status, w.subs[s].ended, w.subs[s].periods = "canceled", min(at, w.epoch), periods
}
