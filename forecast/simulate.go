package forecast

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/debt"
	"phantom/gate"
	"phantom/message"
	"phantom/oracle"
)

// What a dry run lists, besides the channels of messages.
const (
	ActionCharge   = "charge"
	ActionTakeOver = "take_over"
)

// Simulation thinks hunts through as they would go if every charge were declined for the same
// reason as before: by [Forecast], which is what plans a real one, and by what is checked before a
// charge is sent, as far as it is known without asking Stripe.
type Simulation struct {
	advisor Advisor
	queue   queue
	number  int
	last    map[string]time.Time // of the attempts on a card
	cards   map[string]int       // attempts on a card within 30 days
	asked   map[string][]asked   // by currency, the oldest first
	Letters *Letters
}

type asked struct {
	at     time.Time
	amount int64
}

// Hunt is a hunt in a simulation.
type Hunt struct {
	Forecast
	History
	ghost    db.GhostTarget
	customer string
	card     string         // that is charged, as far as is known: the one that failed last
	email    string         // the person behind their address, "" for none
	later    []debt.Invoice // the invoices whose turn comes when this one's charges are over
	before   int            // attempts on it that came before the hunt
	step     int
	stopped  bool // its final step is taken

	oldest  debt.Invoice // that is hunted: what messages are about
	Segment string       // of the playbook, "" for none
}

// NewHunt is a hunt of a ghost that begins, or began, as l says.
func NewHunt(g db.GhostTarget, customer string, l Forecast, now time.Time, byHand bool) *Hunt {
	address, _ := message.EmailOf(g.ID, g.Email)
	h := &Hunt{Forecast: l, ghost: g, customer: customer, later: l.Playbook.Chosen(g, byHand, now)}
	h.Currency = g.Currency
	if h.card = string(g.Card); h.card == "" {
		h.card = customer
	}
	h.LastFailed, h.Class = l.Began.Add(-24*time.Hour), g.DeclineClass
	if g.LastFailedAt != nil {
		h.LastFailed = *g.LastFailedAt
	}
	if g.DeclineCode != nil {
		h.Code = *g.DeclineCode
	}
	if address != "" {
		h.email = string(message.Hasher(l.Hash).Email(address))
	}
	if len(h.later) > 0 {
		h.oldest = h.later[0]
	}
	h.Of(g, []byte(customer))
	h.turn()
	if h.LastFailed.After(now.AddDate(0, 0, -gate.BudgetDays)) {
		// each of its other invoices has failed once at least
		h.before = max(int(g.AttemptCount)-len(h.later), 0)
	}
	return h
}

// turn goes on with the next invoice. It reports false where there is none.
func (h *Hunt) turn() bool {
	if len(h.later) == 0 {
		return false
	}
	h.Invoice, h.Amount, h.later = h.later[0].ID, h.later[0].Amount, h.later[1:]
	h.Sent, h.Asked, h.Held, h.before = 0, nil, false, 1
	h.History.Tried = h.Forecast.Tried(h.ghost, h.Invoice)
	return true
}

// NewSimulation returns a simulation that asks advisor for moments.
func NewSimulation(advisor Advisor) *Simulation {
	return &Simulation{advisor: advisor, last: map[string]time.Time{}, cards: map[string]int{}, asked: map[string][]asked{}, Letters: newLetters()}
}

// Remember tells the simulation of the charges and messages that count against budgets and caps
// already, and of who wants none.
func (s *Simulation) Remember(ctx context.Context, queries *db.Queries, merchantID uuid.UUID) error {
	sent, err := queries.HuntReadSent(ctx, merchantID)
	if err != nil {
		return fmt.Errorf("list charges: %w", err)
	}
	for _, a := range sent {
		s.asked[a.Currency] = append(s.asked[a.Currency], asked{a.SentAt, a.Amount})
	}
	tried, err := queries.CardAttemptCount(ctx, merchantID)
	if err != nil {
		return fmt.Errorf("count attempts on cards: %w", err)
	}
	for _, c := range tried {
		s.last[string(c.Card)], s.cards[string(c.Card)] = c.Last, int(c.Attempts)
	}
	return s.Letters.load(ctx, queries, merchantID)
}

// event is something that is planned for a time.
type event struct {
	Planned
	number int // keeps what is planned for one time in the order in which it was planned
	hunt   *Hunt
	kind   string
}

// queue is a heap of what is to come.
type queue []*event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return cmp.Or(q[i].At.Compare(q[j].At), cmp.Compare(q[i].number, q[j].number)) < 0
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(*event)) }
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}

func (s *Simulation) plan(h *Hunt, kind string, p Planned) {
	p.Ghost, p.Invoice, p.Currency, p.Segment = h.ghost.ID, cmp.Or(p.Invoice, h.Invoice), h.ghost.Currency, h.Segment
	s.number++
	heap.Push(&s.queue, &event{Planned: p, number: s.number, hunt: h, kind: kind})
}

// Begin plans a hunt's first message, its first charge and its end, as planNext and
// begin of package recovery do.
func (s *Simulation) Begin(ctx context.Context, h *Hunt) error {
	// the gate would let nothing leave
	if h.oldest.ID == "" || gate.Spares(h.Playbook, h.ghost) != "" {
		return nil
	}
	s.cards[h.card] = max(s.cards[h.card], int(h.ghost.CardAttempts))
	s.message(h, h.Began)
	if err := s.charge(ctx, h, h.Began); err != nil {
		return err
	}
	if kind := gate.FinalKinds[h.Playbook.FinalStep]; kind != "" && !h.Playbook.OnlyMessages(h.ghost.Leaving) {
		s.plan(h, kind, Planned{At: h.End, Action: h.Playbook.FinalStep, Amount: h.ghost.Amount, Reason: "the playbook's final step"})
	}
	return nil
}

func (s *Simulation) message(h *Hunt, now time.Time) {
	step, at, ok := h.NextMessage(h.step, now)
	if !ok {
		return
	}
	reason := "a step of the playbook"
	if at.After(later(h.Began.AddDate(0, 0, step.AfterDays), now)) {
		reason += ", when the quiet hours are over"
	}
	invoice := h.oldest // whichever is being charged
	s.plan(h, step.Channel, Planned{At: at, Action: step.Channel, Template: step.Template, Invoice: invoice.ID, Amount: invoice.Amount, Reason: reason})
}

func (s *Simulation) charge(ctx context.Context, h *Hunt, now time.Time) error {
	if h.ghost.Rule.IsSent() || h.Playbook.OnlyMessages(h.ghost.Leaving) {
		return nil
	}
	next, err := h.NextCharge(ctx, s.advisor, h.History, now)
	for err == nil && next.Over != "" {
		if !h.turn() {
			return nil
		}
		next, err = h.NextCharge(ctx, s.advisor, h.History, now)
	}
	if err != nil {
		return err
	}
	p := Planned{At: next.Moment.At, Action: ActionTakeOver, Amount: h.Amount, Reason: next.Moment.Reason}
	if next.Kind == gate.KindPay {
		p.Action, p.Probability = ActionCharge, &next.Moment.Probability
	}
	s.plan(h, next.Kind, p)
	return nil
}

// Run lets happen what is planned before a time, and hands each thing to done in its order.
func (s *Simulation) Run(ctx context.Context, until time.Time, done func(Planned)) error {
	for s.queue.Len() > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		next := heap.Pop(&s.queue).(*event)
		if !next.At.Before(until) {
			return nil
		}
		final := next.Action == next.hunt.Playbook.FinalStep
		if next.hunt.stopped || !final && !next.At.Before(next.hunt.End) {
			continue
		}
		if err := s.happen(ctx, next, done); err != nil {
			return err
		}
	}
	return nil
}

func (s *Simulation) happen(ctx context.Context, next *event, done func(Planned)) error {
	h, at := next.hunt, next.At
	switch next.kind {
	case gate.KindPay:
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
		h.Sent, h.LastFailed, h.Asked = h.Sent+1, at, append([]time.Time{at}, h.Asked...)
		h.History.Tried = oracle.AddFailure(h.History.Tried, oracle.Tried{At: at, Class: h.Class, Code: h.Code})
		return s.charge(ctx, h, at)
	case gate.KindHold:
		if _, over := s.checks(next); over {
			if !h.turn() {
				return nil
			}
			return s.charge(ctx, h, at)
		}
		done(next.Planned)
		h.Held = true
		return s.charge(ctx, h, at)
	case gate.KindPause, gate.KindCancel:
		done(next.Planned)
		h.stopped = true
	case gate.KindUncollectible:
		for _, invoice := range h.ghost.Owed() {
			next.Invoice, next.Amount = invoice.ID, invoice.Amount
			done(next.Planned)
		}
		h.stopped = true
	default:
		s.write(next, done)
	}
	return nil
}

// write does with a message what beginMessage and freeze of package message do.
func (s *Simulation) write(next *event, done func(Planned)) {
	h, at := next.hunt, next.At
	if quiet := h.quietUntil(next.kind, at); quiet.After(at) {
		next.At = quiet
		heap.Push(&s.queue, next)
		return
	}
	if free := s.Letters.allowed(h, next.kind, at); free.After(at) {
		next.At, next.Reason = free, "a step of the playbook, when the limits on messages to one person allow it"
		heap.Push(&s.queue, next)
		return
	}
	switch {
	case !s.Letters.skips(h, next.kind):
		done(next.Planned)
		s.Letters.wrote(h, next.kind, at)
	case s.Letters.Unwanted(h):
		h.stopped = true
		return
	}
	h.step++
	s.message(h, at)
}

// checks are those of [gate.MayLeave] that need no answer of Stripe's.
func (s *Simulation) checks(next *event) (wait time.Time, over bool) {
	h, at := next.hunt, next.At
	if h.before+h.Sent >= h.Playbook.MaxAttempts {
		return wait, true
	}
	if free := s.last[h.card].Add(24 * time.Hour); free.After(at) {
		return free, false
	}
	if s.cards[h.card] >= h.Playbook.CardBudget {
		return at.Add(24 * time.Hour), false
	}
	most, capped := h.Playbook.DailyCap[next.Currency]
	if !capped {
		return wait, false
	}
	total, list := next.Amount, s.asked[next.Currency]
	for len(list) > 0 && !list[0].at.After(at.Add(-24*time.Hour)) {
		list = list[1:]
	}
	s.asked[next.Currency] = list
	for _, a := range list {
		total += a.amount
	}
	if total > most {
		return at.Add(time.Hour), false
	}
	return wait, false
}

// Planned is something that a playbook would do.
type Planned struct {
	At       time.Time `json:"at"`
	Ghost    uuid.UUID `json:"ghost"`
	Invoice  string    `json:"invoice"`
	Amount   int64     `json:"amount"` // minor units
	Currency string    `json:"currency"`
	// "charge", "take_over", "email", "sms", or the playbook's final step
	Action      string   `json:"action"`
	Template    string   `json:"template,omitempty"`
	Reason      string   `json:"reason"`
	Segment     string   `json:"segment,omitempty"`     // of the playbook, that takes the ghost
	Probability *float64 `json:"probability,omitempty"` // of a charge: of this moment being chosen
}
