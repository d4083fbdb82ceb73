//go:build failpoints

package recovery

import (
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"phantom/gate"
)

type simAttempt struct {
	object, action, result string
	number                 int
	sent                   *time.Time
}

// checkEnd holds I4 to I7 once everything is quiet.
func (s *sim) checkEnd() {
	s.checkTasks()
	for _, m := range s.merchant {
		attempts := s.attempts(m)
		s.checkOutcomes(m, attempts)
		s.checkMoney(m, attempts)
		s.checkGivenBack(m)
	}
}

func (s *sim) attempts(m *simMerchant) map[string]simAttempt {
	rows, err := s.database.pool.Query(s.ctx,
		`SELECT 'task_' || a.task_id, coalesce(t.params ->> 'object', ''), a.action, a.number,
		coalesce(a.result, ''), a.sent_at
		FROM attempts a LEFT JOIN scheduled_tasks t ON t.merchant_id = a.merchant_id AND t.id = a.task_id
			WHERE a.merchant_id = $1`, m.id)
	s.must(err)
	defer rows.Close()
	all := map[string]simAttempt{}
	for rows.Next() {
		var key string
		var a simAttempt
		s.must(rows.Scan(&key, &a.object, &a.action, &a.number, &a.result, &a.sent))
		all[key] = a
	}
	s.must(rows.Err())
	return all
}

// checkTasks holds I5: what waits has a moment, and no hunt is forgotten.
func (s *sim) checkTasks() {
	for _, t := range s.tasks("pending", "running", "parked", "needs_review") {
		switch {
		case t.status == "parked":
			s.breach("I5 parked", "%s is parked though the merchant is here: %.60s", t, t.reason)
		case t.status == "running":
			s.breach("I5", "%s runs for ever", t)
		case t.status == "needs_review":
			s.breach("I5", "%s is still left to a person: %.60s", t, t.reason)
		case t.runAt.After(s.now.Add(60 * 24 * time.Hour)):
			s.breach("I5", "%s waits until %s", t, t.runAt.Sub(simEpoch))
		case Mutates(t.kind):
			s.breach("I5", "%s waits at the end, for %s: %s", t, t.runAt.Sub(s.now), s.why(t))
		}
	}
	rows, err := s.database.pool.Query(s.ctx,
		`SELECT g.stripe_invoice_id, h.began_at, g.status || ' ' || coalesce(g.closed_reason, ''),
		EXISTS (SELECT FROM scheduled_tasks t WHERE t.merchant_id = h.merchant_id AND t.status =
			'pending' AND t.params ->> 'hunt' = h.id::text) FROM hunts h JOIN ghost_targets g ON
			g.merchant_id = h.merchant_id AND g.id = h.ghost_id
		WHERE h.state = 'active' ORDER BY 1`)
	s.must(err)
	defer rows.Close()
	for rows.Next() {
		var invoice, status string
		var began time.Time
		var waits bool
		s.must(rows.Scan(&invoice, &began, &status, &waits))
		if waits {
			s.count("a hunt waits at the end, its ghost being " + status)
			continue
		}
		s.breach("I5 active", "the hunt of %s is active, %s after it began; its ghost is %s", invoice,
			s.now.Sub(began).Truncate(time.Hour), status)
	}
	s.must(rows.Err())
}

// why says what a task waits for.
func (s *sim) why(t simTask) (reason string) {
	s.must(s.database.pool.QueryRow(s.ctx,
		"SELECT coalesce(max(reason), '') FROM attempts WHERE task_id = $1", t.id).Scan(&reason))
	return reason
}

// checkParked holds I5 where a worker has ended: no refusal of one object sets a task aside while
// Stripe has never refused an account.
func (s *sim) checkParked(w *simWorker) {
	if s.weather.refusals && !s.denied &&
		s.tell("SELECT count(*) FROM scheduled_tasks WHERE status = 'parked'") > 0 {
		s.breach("I5 parked", "%s was set aside, and no account was refused", w.label)
		s.denied = true
	}
}

// checkOutcomes holds I4: every execution is booked once, as what it was.
func (s *sim) checkOutcomes(m *simMerchant, attempts map[string]simAttempt) {
	byTime := map[string]trueCharge{}
	charges, _ := s.charges(m)
	for _, c := range charges {
		byTime[c.Invoice+time.Unix(c.Created, 0).UTC().String()] = c
	}
	executed := map[string]bool{}
	for _, e := range s.payments(m) {
		a, known := attempts[e.Key]
		if e.Status == http.StatusPaymentRequired || e.Status < 300 {
			executed[e.Key] = true
		}
		if !known {
			if !s.lost[e.Key] {
				s.breach("I4", "a charge of %s has no attempt", e.Object)
			}
			continue
		}
		c := byTime[e.Object+time.Unix(e.Clock.Unix(), 0).UTC().String()]
		right := false
		switch {
		// canceled by a database that knew nothing of it, and asked nobody
		case a.result == "not_sent" && s.unseen(e.Key):
			s.count("executed, and canceled unseen after the database was put back")
			right = true
		case a.result == "unknown": // a person has given it up, having looked at it
			right = true
		case e.Status == http.StatusPaymentRequired:
			right = a.result == "declined"
		case e.Status < 300 && c.Status == "succeeded":
			right = a.result == "paid" || a.result == "processing"
		case e.Status < 300 && c.Status == "failed":
			right = a.result == "processing" || a.result == "declined"
		case e.Status < 300:
			right = a.result == "processing"
		default: // refused: nothing was done
			right = a.result == "refused" || a.result == "absent" || a.result == "not_sent" ||
				executed[e.Key]
		}
		if !right {
			s.breach("I4 "+a.result,
				"attempt %d at %s is booked as %q, and was answered %d, the charge is %q", a.number, e.Object,
				a.result, e.Status, c.Status)
		}
	}
	for key, a := range attempts {
		if a.action == gate.KindPay && !executed[key] && (a.result == "paid" || a.result == "processing" ||
			a.result == "declined") {
			s.breach("I4 invented", "attempt %d at %s is booked as %s, and was never executed", a.number,
				a.object, a.result)
		}
		if a.result == "" && len(s.broken) == 0 {
			s.breach("I4 open", "%s, attempt %d at %s, has no result", a.action, a.number, a.object)
		}
	}
}

// unseen says that a database that was put back knows nothing of an execution, and that no worker
// has found out at Stripe since: the gate had the task wait, or its event was late, until it was
// canceled.
func (s *sim) unseen(key string) bool { return s.unsent[key] && !s.passed[key] }

// checkMoney holds I6: what was paid of the hunted invoices is what the product counts, and is said
// to come of what it came of.
func (s *sim) checkMoney(m *simMerchant, attempts map[string]simAttempt) {
	rows, err := s.database.pool.Query(s.ctx,
		`SELECT h.owed, h.began_at, h.state, h.began_at + (p.body ->> 'window_days')::int * interval '1
		day' FROM hunts h
		JOIN playbooks p ON p.merchant_id = h.merchant_id AND p.version = h.playbook_version WHERE
			h.merchant_id = $1 AND h.mode = 'recover' ORDER BY h.began_at`, m.id)
	s.must(err)
	defer rows.Close()
	reader, err := s.connect.Reader(s.ctx, m.id)
	s.must(err)
	type hunted struct {
		owed        int64
		began, Ends time.Time
		state       string
	}
	// an invoice may be hunted again, and was paid for one of them
	invoices := map[string][]hunted{}
	for rows.Next() {
		var text []byte
		var h hunted
		s.must(rows.Scan(&text, &h.began, &h.state, &h.Ends))
		owed := map[string]int64{}
		s.must(json.Unmarshal(text, &owed))
		for id, amount := range owed {
			h.owed = amount
			invoices[id] = append(invoices[id], h)
		}
	}
	s.must(rows.Err())
	ours := s.ourCharges(m)
	for _, id := range m.invoices {
		hunts := invoices[id]
		var invoice trueInvoice
		if len(hunts) == 0 || !s.ask(m, "/v1/invoices/"+id, nil, &invoice) {
			s.breach("I6", "no hunt knows of %s", id)
			continue
		}
		h, want := hunts[0], int64(0)
		for _, o := range hunts { // the last that had begun
			if invoice.Status == "paid" && !invoice.closedAt().Before(o.began.Truncate(time.Second)) {
				h, want = o, min(o.owed, invoice.AmountPaid)
			}
		}
		var got int64
		var cause string
		s.must(s.database.pool.QueryRow(s.ctx,
			`SELECT coalesce(sum(amount), 0), coalesce(min(cause), '') FROM recoveries WHERE merchant_id =
			$1 AND invoice = $2`,
			m.id, reader.Hash("invoice", id)).Scan(&got, &cause))
		late := invoice.closedAt().After(h.Ends.Add(-time.Minute))
		if got != want && !(late && got == 0) {
			s.breach("I6", "%s brought %d, and %d is counted; the hunt is %s", id, want, got, h.state)
		}
		key := ""
		if c := s.chargeOf(m, invoice.Charge); c.Status == "succeeded" && !invoice.OutOfBand {
			key = ours[c.ID]
		}
		if got > 0 && (cause == "charge") != (key != "") && !(s.lost[key] && key != "") {
			a := attempts[key]
			if key == "" || a.result != "unknown" && !s.unseen(key) {
				s.breach("I4 cause", "%s was paid by our charge: %t, and is counted as %s", id, key != "",
					cause)
			}
		}
	}
}

func (s *sim) chargeOf(m *simMerchant, id string) (c trueCharge) {
	if id != "" {
		s.ask(m, "/v1/charges/"+id, url.Values{"expand[]": {"dispute"}}, &c)
	}
	return c
}

// checkGivenBack holds I7: what was taken over from Smart Retries and not paid is theirs again once
// its hunt has ended. Or its history says that a person has canceled that. What keeps a hunt from
// its end is a matter of I5.
func (s *sim) checkGivenBack(m *simMerchant) {
	held := map[string]bool{}
	for i, e := range s.world.Ledger(m.account) {
		if i < s.turnedOn[e.Object] { // somebody has given it back since
			continue
		}
		if e.Metadata != nil && e.Method == http.MethodPost && e.Path == "/v1/invoices/"+e.Object &&
			e.Status == http.StatusOK && len(e.Key) > 5 {
			held[e.Object] = !held[e.Object]
		}
	}
	for id, ours := range held {
		var invoice trueInvoice
		waits := s.tell("SELECT count(*) FROM hunts WHERE state = 'active' AND merchant_id = $1 AND "+
			"$2 = ANY (invoices)", m.id, id) > 0
		waits = waits || s.tell("SELECT count(*) FROM hunts h JOIN hunt_notes n ON n.merchant_id = h.merchant_id AND n.hunt_id = h.id "+
			"WHERE h.merchant_id = $1 AND $2 = ANY (h.invoices) AND n.note = $3", m.id, id, leftToPeople(gate.KindRelease, id)) > 0
		if ours && !waits && s.ask(m, "/v1/invoices/"+id, nil, &invoice) && invoice.Status == "open" &&
			!invoice.AutoAdvance {
			s.breach("I7 back", "%s was taken over and is not given back", id)
		}
	}
}
