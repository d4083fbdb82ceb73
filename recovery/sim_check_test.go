//go:build failpoints

package recovery

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/gate"
	"phantom/sandbox"
	"phantom/state"
)

// tooLate is how long after what forbids a request was to be seen that request may leave. Stripe
// tells its times in whole seconds.
const tooLate = 6 * time.Second

func parsedID(id string) uuid.UUID { return uuid.MustParse(id) }

// trueInvoice is an invoice as the sandbox tells it.
type trueInvoice struct {
	ID, Status, Customer, Currency, Subscription string
	Charge                                       string
	OutOfBand                                    bool  `json:"paid_out_of_band"`
	AutoAdvance                                  bool  `json:"auto_advance"`
	AmountRemaining                              int64 `json:"amount_remaining"`
	AmountPaid                                   int64 `json:"amount_paid"`
	Created                                      int64
	Transitions                                  struct {
		Paid    int64 `json:"paid_at"`
		Void    int64 `json:"voided_at"`
		Written int64 `json:"marked_uncollectible_at"`
	} `json:"status_transitions"`
}

func (i trueInvoice) closedAt() time.Time {
	return time.Unix(max(i.Transitions.Paid, i.Transitions.Void, i.Transitions.Written), 0)
}

const simLeavingQuery = `
SELECT t.kind, t.merchant_id, t.params ->> 'object', t.params ->> 'customer', t.first_sent_at,
    a.amount, a.currency, h.state <> 'active' AND h.ended_at < $2,
    coalesce(m.disconnected_at < $2, false),
    EXISTS (SELECT FROM halts x WHERE x.halted_at < $2
        AND x.scope IN (m.id, '00000000-0000-0000-0000-000000000000')),
    CASE WHEN p.created_at < $2 THEN p.body ->> 'mode' ELSE 'recover' END,
    CASE WHEN p.created_at < $2
        THEN coalesce((p.body -> 'daily_cap' ->> a.currency)::bigint, -1) ELSE -1 END,
    (q.body ->> 'card_budget')::int,
    (SELECT coalesce(sum(o.amount), 0) FROM attempts o
        WHERE o.merchant_id = a.merchant_id AND o.currency = a.currency
            AND o.action = 'invoice_pay' AND o.sent_at > phantom_now() - interval '24 hours'
            AND o.task_id <> a.task_id AND coalesce(o.result, '') NOT IN ('not_sent', 'absent')
            AND o.task_id <> ALL ($3)) -- a restored database did not know of these
FROM scheduled_tasks t
JOIN attempts a ON a.merchant_id = t.merchant_id AND a.task_id = t.id
JOIN hunts h ON h.merchant_id = a.merchant_id AND h.id = a.hunt_id
JOIN merchants m ON m.id = t.merchant_id
JOIN playbooks q ON q.merchant_id = h.merchant_id AND q.version = h.playbook_version
JOIN LATERAL (SELECT body, created_at FROM playbooks n WHERE n.merchant_id = m.id
    ORDER BY n.version DESC LIMIT 1) p ON true
WHERE t.id = $1`

// forgotten are the tasks that had been sent when a database was put back that knew nothing of it.
func (s *sim) forgotten() (tasks []uuid.UUID) {
	tasks = []uuid.UUID{}
	for key, is := range s.unsent {
		if is {
			tasks = append(tasks, parsedID(strings.TrimPrefix(key, "task_")))
		}
	}
	return tasks
}

// leaving is a request of ours at the moment at which it leaves.
type leaving struct {
	kind, object, customer      string
	merchant                    uuid.UUID
	firstSent                   *time.Time
	amount, dailyCap, asked     int64
	currency, mode              string
	ended, disconnected, halted bool
	budget                      int
	m                           *simMerchant
	key                         string
}

// checkLeaving holds I2 and I3 at the moment at which a request leaves.
func (s *sim) checkLeaving(request *http.Request) {
	key := request.Header.Get("Idempotency-Key")
	l := leaving{key: key}
	err := s.database.pool.QueryRow(s.ctx, simLeavingQuery,
		parsedID(strings.TrimPrefix(key, "task_")), s.now.Add(-tooLate+time.Second), s.forgotten()).Scan(
		&l.kind, &l.merchant, &l.object, &l.customer, &l.firstSent, &l.amount, &l.currency, &l.ended,
		&l.disconnected, &l.halted, &l.mode, &l.dailyCap,
		&l.budget, &l.asked)
	if errors.Is(err, pgx.ErrNoRows) {
		s.breach("I2", "%s left without a task", request.URL.Path)
		return
	}
	s.must(err)
	for _, m := range s.merchant {
		if m.id == l.merchant {
			l.m = m
		}
	}
	if l.firstSent == nil || l.firstSent.After(s.now) {
		s.breach("I2", "%s left before it was marked", request.URL.Path)
	}
	if l.kind != gate.KindPay && l.kind != gate.KindHold && !gate.IsFinal(l.kind) {
		return // what lifts a pause or gives an invoice back may come after the end
	}
	switch {
	case l.ended:
		s.breach("I2 stopped", "%s of %s left after its hunt had ended", l.kind, l.object)
	case l.disconnected:
		s.breach("I2 disconnected", "%s of %s left after the merchant had gone", l.kind, l.object)
	case l.halted:
		s.breach("I2 halted", "%s of %s left in spite of a halt", l.kind, l.object)
	case l.mode != string(state.ModeRecover):
		s.breach("I2 mode", "%s of %s left though the playbook is %s", l.kind, l.object, l.mode)
	}
	if l.kind != gate.KindPay {
		s.checkFinal(l)
		return
	}
	if l.dailyCap >= 0 && l.asked+l.amount > l.dailyCap {
		s.breach("I2 cap", "%s left with %d asked for before, over the cap of %d", l.object, l.asked,
			l.dailyCap)
	}
	var invoice trueInvoice
	if !s.ask(l.m, "/v1/invoices/"+l.object, nil, &invoice) { // nobody is let in
		return
	}
	if invoice.Status != "open" && invoice.closedAt().Before(s.now.Add(-tooLate)) {
		s.breach("I2 "+invoice.Status, "%s left %s after the invoice was %s", l.object,
			s.now.Sub(invoice.closedAt()).Truncate(time.Second), invoice.Status)
	}
	if invoice.Status == "open" {
		s.checkBudgets(l, invoice)
	}
}

// checkBudgets holds a charge that leaves against the true history of its customer and card.
func (s *sim) checkBudgets(l leaving, invoice trueInvoice) {
	if s.now.Sub(l.m.renewed) < tooLate { // it may have been looked at before
		return
	}
	all, _ := s.charges(l.m)
	card, brand := s.cardOf(l)
	ours := s.ourCharges(l.m)
	// declined attempts on the card; those that Stripe has made for other customers since the audit
	month, day, theirs := 0, 0, 0
	for _, c := range all {
		at := time.Unix(c.Created, 0)
		if at.After(s.now.Add(-tooLate)) || ours[c.ID] == l.key {
			continue
		}
		if c.Customer == l.customer && c.contested() &&
			time.Unix(c.Dispute.Created, 0).Before(s.now.Add(-tooLate)) {
			s.breach("I2 dispute", "%s left though the customer disputes a charge", l.object)
		}
		same := card != "" && c.Method.Card.Fingerprint == card
		if c.blocked() || s.unsent[ours[c.ID]] && c.Customer != l.customer {
			continue
		}
		refused := c.Status == "failed" || c.Status == "pending" // a payment is no attempt too many
		switch since := s.now.Sub(at); {
		case !same || !refused || l.m.debits[l.object]:
		case c.Customer == l.customer && since < oneADay-15*time.Second:
			s.breach("I3 day", "%s left %s after a charge of %s", l.object, since.Truncate(time.Second),
				c.Invoice)
		// a key may have left again some minutes after it was marked
		case ours[c.ID] != "" && since < oneADay-10*time.Minute:
			s.breach("I3 day of a card", "%s left %s after a charge of %s", l.object,
				since.Truncate(time.Second), c.Invoice)
		}
		if !same || l.m.debits[l.object] || c.Status != "failed" || at.Before(s.now.AddDate(0, 0,
			-gate.BudgetDays)) {
			continue
		}
		month++
		if c.Customer != l.customer && ours[c.ID] == "" && at.After(s.began) {
			theirs++
		}
		if at.After(s.now.Add(-oneADay)) {
			day++
		}
	}
	switch {
	case month >= l.budget && month-theirs < l.budget: // only an audit tells of strangers' attempts
		s.count("budget passed by what Stripe has tried for strangers since the audit")
	case month >= l.budget:
		s.breach("I3 budget",
			"%s left with %d declined attempts on the card within 30 days, of %d allowed", l.object, month,
			l.budget)
	case brand == "visa" && month >= 15:
		s.breach("I3 network", "%s left with %d declined attempts on a Visa card", l.object, month)
	case brand == "mastercard" && (month >= 35 || day >= 10):
		s.breach("I3 network", "%s left with %d declined attempts on a Mastercard, %d of today",
			l.object, month, day)
	}
}

// trueMethods are where the card that pays may stand, in Stripe's order.
type trueMethods struct {
	Own          trueMethod `json:"default_payment_method"`
	Subscription struct {
		Own trueMethod `json:"default_payment_method"`
	} `json:"subscription"`
	Customer struct {
		Settings struct {
			Own trueMethod `json:"default_payment_method"`
		} `json:"invoice_settings"`
	} `json:"customer"`
}

type trueMethod struct {
	ID   string
	Card struct{ Fingerprint, Brand string }
}

// cardOf is the card that a charge which leaves is made with.
func (s *sim) cardOf(l leaving) (fingerprint, brand string) {
	var where trueMethods
	s.ask(l.m, "/v1/invoices/"+l.object, url.Values{"expand[]": {
		"default_payment_method", "subscription.default_payment_method",
		"customer.invoice_settings.default_payment_method",
	}}, &where)
	for _, m := range []trueMethod{where.Own, where.Subscription.Own, where.Customer.Settings.Own} {
		if m.ID != "" {
			return cmp.Or(l.m.cards[m.Card.Fingerprint], m.Card.Fingerprint), m.Card.Brand
		}
	}
	return "", ""
}

// ourCharges are the charges that our requests have made, with their keys.
func (s *sim) ourCharges(m *simMerchant) map[string]string {
	keys := map[string]string{}
	at := map[string]map[int64]string{}
	for _, e := range s.payments(m) {
		if at[e.Object] == nil {
			at[e.Object] = map[int64]string{}
		}
		if e.Status < 300 || e.Status == http.StatusPaymentRequired {
			at[e.Object][e.Clock.Unix()] = e.Key
		}
	}
	charges, _ := s.charges(m)
	for _, c := range charges {
		if key := at[c.Invoice][c.Created]; key != "" {
			keys[c.ID] = key
		}
	}
	return keys
}

// payments are the executions of our charges, oldest first.
func (s *sim) payments(m *simMerchant) (list []sandbox.Execution) {
	for _, e := range s.world.Ledger(m.account) {
		if strings.HasSuffix(e.Path, "/pay") && strings.HasPrefix(e.Key, "task_") {
			list = append(list, e)
		}
	}
	return list
}

// checkExecutions holds I1.
func (s *sim) checkExecutions() {
	for _, m := range s.merchant {
		ledger := s.payments(m)
		s.executed = len(ledger)
		for _, e := range ledger {
			if e.Repeated && e.Status != http.StatusBadRequest {
				s.breach("I1", "a key charged %s twice, answered %d", e.Object, e.Status)
			}
		}
		charges, connected := s.charges(m)
		if !connected { // Stripe shows nobody their cards
			s.count("cards not shown")
			continue
		}
		cards := map[string]string{} // of each charge, by its invoice and its time
		for _, c := range charges {
			cards[fmt.Sprint(c.Invoice, c.Created)] = c.Method.Card.Fingerprint
		}
		card := func(e sandbox.Execution) string {
			return cards[fmt.Sprint(e.Object, e.Clock.Unix())]
		}
		for i, e := range ledger { // a planned attempt has a day of its own, and each card
			if e.Status == http.StatusBadRequest {
				continue
			}
			for _, o := range ledger[:i] {
				if o.Object == e.Object && o.Status != http.StatusBadRequest &&
					e.Clock.Sub(o.Clock) < oneADay-15*time.Second && card(e) == card(o) {
					s.breach("I1", "%s was charged twice within %s with the card %q, answered %d and %d", e.Object,
						e.Clock.Sub(o.Clock).Truncate(time.Second), card(e), o.Status, e.Status)
				}
			}
		}
	}
}

// checkFinal holds I7 for a final step that leaves: it spares who has paid the newest invoice.
func (s *sim) checkFinal(l leaving) {
	if l.kind != gate.KindPause && l.kind != gate.KindCancel {
		return
	}
	var sub struct {
		Latest   string `json:"latest_invoice"`
		Customer string
	}
	var newest trueInvoice
	if s.ask(l.m, "/v1/subscriptions/"+l.object, nil, &sub) && s.ask(l.m,
		"/v1/invoices/"+url.PathEscape(sub.Latest), nil, &newest) &&
		newest.Status == "paid" && newest.closedAt().Before(s.now.Add(-tooLate)) {
		s.breach("I7 final", "%s of %s left though the newest invoice %s is paid", l.kind, l.object,
			newest.ID)
	}
}
