package recovery

import (
	"cmp"
	"container/heap"
	"context"
	"strings"
	"time"

	"github.com/google/uuid"

	"phantom/db"
)

// What a dry run lists, besides the channels of messages.
const (
	actionCharge   = "charge"
	actionTakeOver = "take_over"
)

// simulation thinks hunts through as they would go if every charge were declined for the same reason as before: by [outlook], which is
// what plans a real one, and by what is checked before a charge is sent, as far as it is known without asking Stripe.
type simulation struct {
	advisor Advisor
	queue   queue
	number  int
	last    map[string]time.Time // of the attempts on a card
	cards   map[string]int       // attempts on a card within 30 days
	asked   map[string][]asked   // by currency, the oldest first
	letters *correspondence
}

type asked struct {
	at     time.Time
	amount int64
}

// imagined is a hunt in a simulation.
type imagined struct {
	outlook
	standing
	ghost    db.GhostTarget
	customer string
	card     string      // that is charged, as far as is known: the one that failed last
	email    string      // the person behind his address, "" for none
	later    []invoiceOf // the invoices whose turn comes when this one's charges are over
	before   int         // attempts on it that came before the hunt
	step     int
	stopped  bool // its final step is taken

	oldest  invoiceOf // that is hunted: what messages are about
	segment string    // of the playbook, "" for none
}

// imagine is a hunt of a ghost that begins, or began, as l says.
func imagine(g db.GhostTarget, customer string, l outlook, now time.Time, byHand bool) (*imagined, error) {
	address, err := ghostEmail(g.ID, g.Email)
	if err != nil {
		return nil, err
	}
	h := &imagined{outlook: l, ghost: g, customer: customer, later: l.playbook.chosen(g, byHand, now)}
	h.currency = g.Currency
	if h.card = string(g.Card); h.card == "" {
		h.card = customer
	}
	h.lastFailed, h.class = l.began.Add(-oneADay), g.DeclineClass
	if g.LastFailedAt != nil {
		h.lastFailed = *g.LastFailedAt
	}
	if g.DeclineCode != nil {
		h.code = *g.DeclineCode
	}
	if address != "" {
		h.email = string(hasher(l.hash).email(address))
	}
	if len(h.later) > 0 {
		h.oldest = h.later[0]
	}
	h.turn()
	if h.lastFailed.After(now.AddDate(0, 0, -budgetDays)) {
		h.before = max(int(g.AttemptCount)-len(h.later), 0) // each of its other invoices has failed once at least
	}
	return h, nil
}

// isSent says whether a ghost's invoices were sent to the customer: no card is charged for them, and Smart Retries has nothing to do with
// them. The rule is that of ghost.Judge.
func isSent(g db.GhostTarget) bool {
	return strings.HasPrefix(g.Rule, "The invoice was sent to the customer")
}

// turn goes on with the next invoice. It reports false where there is none.
func (h *imagined) turn() bool {
	if len(h.later) == 0 {
		return false
	}
	h.invoice, h.amount, h.later = h.later[0].ID, h.later[0].Amount, h.later[1:]
	h.sent, h.asked, h.held, h.before = 0, nil, false, 1
	return true
}

func newSimulation(advisor Advisor) *simulation {
	return &simulation{advisor: advisor, last: map[string]time.Time{}, cards: map[string]int{}, asked: map[string][]asked{}, letters: newCorrespondence()}
}

// happening is something that is planned for a time.
type happening struct {
	Planned
	number int // keeps what is planned for one time in the order in which it was planned
	hunt   *imagined
	kind   string
}

// queue is a heap of what is to come.
type queue []*happening

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return cmp.Or(q[i].At.Compare(q[j].At), cmp.Compare(q[i].number, q[j].number)) < 0
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(*happening)) } //nolint:forcetypeassert // nothing else is pushed
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}

func (s *simulation) plan(h *imagined, kind string, p Planned) {
	p.Ghost, p.Invoice, p.Currency, p.Segment = h.ghost.ID, cmp.Or(p.Invoice, h.invoice), h.ghost.Currency, h.segment
	s.number++
	heap.Push(&s.queue, &happening{Planned: p, number: s.number, hunt: h, kind: kind})
}

// begin plans a hunt's first message, its first charge and its end, as [Service.planNext] and [Service.begin] do.
func (s *simulation) begin(ctx context.Context, h *imagined) error {
	if h.oldest.ID == "" || h.playbook.spares(h.ghost) != "" { // the gate would let nothing leave
		return nil
	}
	s.cards[h.card] = max(s.cards[h.card], int(h.ghost.CardAttempts))
	s.message(h, h.began)
	if err := s.charge(ctx, h, h.began); err != nil {
		return err
	}
	if kind := finalKinds[h.playbook.FinalStep]; kind != "" && !h.playbook.onlyMessages(h.ghost.Leaving) {
		s.plan(h, kind, Planned{At: h.end, Action: h.playbook.FinalStep, Amount: h.ghost.Amount, Reason: "the playbook's final step"})
	}
	return nil
}

func (s *simulation) message(h *imagined, now time.Time) {
	step, at, ok := h.nextMessage(h.step, now)
	if !ok {
		return
	}
	reason := "a step of the playbook"
	if at.After(later(h.began.AddDate(0, 0, step.AfterDays), now)) {
		reason += ", when the quiet hours are over"
	}
	invoice := h.oldest // whichever is being charged
	s.plan(h, step.Channel, Planned{At: at, Action: step.Channel, Template: step.Template, Invoice: invoice.ID, Amount: invoice.Amount, Reason: reason})
}

func (s *simulation) charge(ctx context.Context, h *imagined, now time.Time) error {
	if isSent(h.ghost) || h.playbook.onlyMessages(h.ghost.Leaving) {
		return nil
	}
	next, err := h.nextCharge(ctx, s.advisor, h.standing, now)
	for err == nil && next.over != "" {
		if !h.turn() {
			return nil
		}
		next, err = h.nextCharge(ctx, s.advisor, h.standing, now)
	}
	if err != nil {
		return err
	}
	p := Planned{At: next.moment.At, Action: actionTakeOver, Amount: h.amount, Reason: next.moment.Reason}
	if next.kind == KindPay {
		p.Action, p.Probability = actionCharge, &next.moment.Probability
	}
	s.plan(h, next.kind, p)
	return nil
}

// run lets happen what is planned before a time, and hands each thing to done in its order.
func (s *simulation) run(ctx context.Context, until time.Time, done func(Planned)) error {
	for s.queue.Len() > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		next := heap.Pop(&s.queue).(*happening) //nolint:forcetypeassert // nothing else is pushed
		if !next.At.Before(until) {
			return nil
		}
		final := next.Action == next.hunt.playbook.FinalStep
		if next.hunt.stopped || !final && !next.At.Before(next.hunt.end) {
			continue
		}
		if err := s.happen(ctx, next, done); err != nil {
			return err
		}
	}
	return nil
}

func (s *simulation) happen(ctx context.Context, next *happening, done func(Planned)) error {
	h, at := next.hunt, next.At
	switch next.kind {
	case KindPay:
		wait, over := s.checks(next)
		if over {
			if !h.turn() {
				return nil
			}
			return s.charge(ctx, h, at)
		}
		if wait.After(at) {
			next.At = wait
			heap.Push(&s.queue, next)
			return nil
		}
		done(next.Planned)
		s.last[h.card] = at
		s.cards[h.card]++
		s.asked[next.Currency] = append(s.asked[next.Currency], asked{at, next.Amount})
		h.sent, h.lastFailed, h.asked = h.sent+1, at, append([]time.Time{at}, h.asked...)
		return s.charge(ctx, h, at)
	case KindHold:
		if _, over := s.checks(next); over {
			if !h.turn() {
				return nil
			}
			return s.charge(ctx, h, at)
		}
		done(next.Planned)
		h.held = true
		return s.charge(ctx, h, at)
	case KindPause, KindCancel:
		done(next.Planned)
		h.stopped = true
	case KindUncollectible:
		for _, invoice := range invoicesOf(h.ghost) {
			next.Invoice, next.Amount = invoice.ID, invoice.Amount
			done(next.Planned)
		}
		h.stopped = true
	default:
		s.write(next, done)
	}
	return nil
}

// write does with a message what [Service.beginMessage] and [Service.freeze] do.
func (s *simulation) write(next *happening, done func(Planned)) {
	h, at := next.hunt, next.At
	if quiet := h.quietUntil(next.kind, at); quiet.After(at) {
		next.At = quiet
		heap.Push(&s.queue, next)
		return
	}
	if free := s.letters.allowed(h, next.kind, at); free.After(at) {
		next.At, next.Reason = free, "a step of the playbook, when the limits on messages to one person allow it"
		heap.Push(&s.queue, next)
		return
	}
	switch {
	case !s.letters.skips(h, next.kind):
		done(next.Planned)
		s.letters.wrote(h, next.kind, at)
	case s.letters.unwanted(h):
		h.stopped = true
		return
	}
	h.step++
	s.message(h, at)
}

// checks are those of [mayLeave] that need no answer of Stripe's.
func (s *simulation) checks(next *happening) (wait time.Time, over bool) {
	h, at := next.hunt, next.At
	if h.before+h.sent >= h.playbook.MaxAttempts {
		return wait, true
	}
	if free := s.last[h.card].Add(oneADay); free.After(at) {
		return free, false
	}
	if s.cards[h.card] >= h.playbook.CardBudget {
		return at.Add(oneADay), false
	}
	most, capped := h.playbook.DailyCap[next.Currency]
	if !capped {
		return wait, false
	}
	day, list := next.Amount, s.asked[next.Currency]
	for len(list) > 0 && !list[0].at.After(at.Add(-oneADay)) {
		list = list[1:]
	}
	s.asked[next.Currency] = list
	for _, a := range list {
		day += a.amount
	}
	if day > most {
		return at.Add(time.Hour), false
	}
	return wait, false
}

// Planned is something that a playbook would do.
type Planned struct {
	At          time.Time `json:"at"`
	Ghost       uuid.UUID `json:"ghost"`
	Invoice     string    `json:"invoice"`
	Amount      int64     `json:"amount"` // minor units
	Currency    string    `json:"currency"`
	Action      string    `json:"action"` // "charge", "take_over", "email", "sms", or the playbook's final step
	Template    string    `json:"template,omitempty"`
	Reason      string    `json:"reason"`
	Segment     string    `json:"segment,omitempty"`     // of the playbook, that takes the ghost
	Probability *float64  `json:"probability,omitempty"` // of a charge: of this moment being chosen
}
