// Package forecast says what the next step of a hunt is and when: [Forecast] for one that runs or
// would begin, [Simulation] for many that are thought through for a dry run. It changes nothing.
package forecast

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/decline"
	"phantom/gate"
	"phantom/message"
	"phantom/oracle"
	"phantom/playbook"
	"phantom/state"
)

// Advisor chooses when to charge. An error is a reason to ask again later.
type Advisor interface {
	Next(ctx context.Context, q oracle.Question) (oracle.Moment, error)
}

// Forecast is what the next steps of a hunt depend on and what does not change on its way. It asks
// nobody but the advisor, so that a hunt that was never begun can be thought through by the same
// rules (Service.DryRun of recovery).
type Forecast struct {
	Playbook   playbook.Playbook
	Invoice    string // whose charge is thought of
	Amount     int64  // of it, minor units
	Currency   string
	Began, End time.Time
	Zone       *time.Location
	Category   string // the merchant's business_category, "" where it is not known
	Merchant   uuid.UUID
	Country    string        // of the customer or their card, "" where it is not known
	Memory     oracle.Memory // of the customer
	Person     []byte        // even over customers, and always the same for one
	Livemode   bool
	Real       bool // charges will be made, and are not thought of alone
	Hash       func(subject, value string) []byte
}

// History is how far a hunt's charges have come.
type History struct {
	Class      decline.Class // of the last failure, Stripe's or ours
	Code       string        // of the last failure, Stripe's or ours
	LastFailed time.Time
	Tried      []oracle.Tried // its failures that are known, the oldest first
	Sent       int
	Asked      []time.Time // when those were sent, the newest first
	// when the invoice's attempts refill, as a look has found; zero where none has
	NotBefore time.Time
	// when what holds its charges is looked at again; zero where nothing does
	Until   time.Time
	Why     gate.Code // what holds them
	Refused int       // requests in a row that Stripe has refused
	Fresh   bool      // the customer has left another payment method since
	Held    bool      // Smart Retries has let go of the invoice
}

// Step is the mutation that follows, or why none does.
type Step struct {
	Kind   string
	Moment oracle.Moment
	// what the advisor was asked about the charge; nil where it was not
	Asked *oracle.Question
	Arm   string // of the oracle's, of whom it was asked; "" where it is not on
	// for the invoice's attempts to refill, or for news: another invoice may be charged meanwhile
	Waits bool
	Held  gate.Code // until something changes
	Over  string
}

// Remember notes what the last attempt of an invoice has met that holds until something changes,
// and when that is looked at again. A refusal of Stripe's is asked about sooner, and then more and
// more rarely.
func (so *History) Remember(a db.Attempt, why gate.Code) {
	if a.Action != gate.KindPay && a.Action != gate.KindHold {
		return
	}
	if *a.Result == state.AttemptRefused {
		so.Refused++
		so.Why, so.Until = gate.Refused, a.PlannedFor
		if a.SentAt != nil {
			so.Until = a.SentAt.Add(min(time.Hour<<(2*min(so.Refused-1, 8)), 24*time.Hour))
		}
		return
	}
	so.Refused = 0
	switch {
	case why.Effect() == gate.Holds && *a.Result == state.AttemptDeclined:
		so.Why, so.Until = why, a.PlannedFor.Add(gate.HeldPatience)
	case why.Effect() == gate.Holds && why != "":
		so.Why, so.Until = why, a.PlannedFor
	default:
		so.Why, so.Until = "", time.Time{}
	}
}

// NextCharge says what follows where no charge is under way.
func (l Forecast) NextCharge(ctx context.Context, advisor Advisor, so History, now time.Time) (Step, error) {
	switch {
	case so.Why != "" && !so.Fresh:
		at, kind := later(so.Until, now), gate.KindPay
		if l.Playbook.TakeOver && !so.Held {
			kind = gate.KindHold
		}
		return Step{Kind: kind, Held: so.Why, Waits: at.After(now), Moment: oracle.Moment{At: at, Reason: so.Why.Words(), Probability: 1}}, nil
	case so.Class.IsHard() && !so.Fresh:
		return Step{Over: so.Class.Words()}, nil
	case l.Playbook.MaxAttempts == 0 || l.Playbook.CardBudget == 0:
		return Step{Over: gate.NoBudget.Words()}, nil
	}
	if most, capped := l.Playbook.DailyCap[l.Currency]; capped && l.Amount > most {
		return Step{Over: "the invoice is larger than the playbook's daily cap"}, nil
	}
	attempt := so.Sent + 1
	if so.Fresh { // nothing that is known is about it
		moment := oracle.Moment{At: now, Reason: "the customer has left another payment method", Probability: 1}
		if l.Playbook.TakeOver && !so.Held {
			return Step{Kind: gate.KindHold, Moment: moment}, nil
		}
		return Step{Kind: gate.KindPay, Moment: moment}, nil
	}
	free := later(so.NotBefore, gate.Refill(so.Asked, l.Playbook.MaxAttempts, gate.BudgetDays*24*time.Hour))
	if free.After(l.End) {
		return Step{Over: gate.AttemptsUsedUp.Words()}, nil
	}
	question := l.question(so, attempt, now, later(now, free))
	moment, err := advisor.Next(ctx, question)
	if err != nil {
		return Step{}, fmt.Errorf("ask for the next moment: %w", err)
	}
	arm := ""
	if moment.Advice != nil {
		arm = moment.Advice.Arm
	}
	if moment.At.After(l.End) {
		return Step{Over: "the next moment that makes sense lies behind the window", Arm: arm}, nil
	}
	if free.After(now) {
		return Step{Kind: gate.KindPay, Moment: moment, Asked: &question, Arm: arm, Waits: true}, nil
	}
	if l.Playbook.TakeOver && !so.Held { // only now that a charge will follow
		return Step{Kind: gate.KindHold, Moment: oracle.Moment{At: now, Reason: "before our first attempt", Probability: 1}, Asked: &question, Arm: arm}, nil
	}
	return Step{Kind: gate.KindPay, Moment: moment, Asked: &question, Arm: arm}, nil
}

// question is what the advisor is asked about the next charge, which may not be made before free.
func (l Forecast) question(so History, attempt int, now, free time.Time) oracle.Question {
	recent := 0 // failures that the budget of the invoice counts, Stripe's own among them
	for _, t := range so.Tried {
		if t.At.After(now.AddDate(0, 0, -gate.BudgetDays)) {
			recent++
		}
	}
	return oracle.Question{
		Merchant: l.Merchant, Category: l.Category, Livemode: l.Livemode,
		Invoice: l.Invoice, Amount: l.Amount, Currency: l.Currency, Country: l.Country, Zone: l.Zone, Memory: l.Memory,
		Class: so.Class, Code: so.Code, LastFailed: so.LastFailed, Tried: so.Tried, Attempt: attempt,
		Left: max(l.Playbook.MaxAttempts-recent, 1),
		Now:  now, NotBefore: later(free, so.LastFailed.Add(max(24*time.Hour, decline.NetworkWait[so.Code]))), NotAfter: l.End,
		Seed: l.seed(attempt), Explore: l.Real, Person: l.Person,
	}
}

// Of adds who the hunt is of.
func (l *Forecast) Of(g db.GhostTarget, customer []byte) {
	if l.Person = l.Hash("arm", string(customer)); g.Country != nil {
		l.Country = *g.Country
	}
}

// Tried are the failures of an invoice that are known of a ghost: those that are remembered, and
// the ghost's own first and last, of which a memory may be too old to know.
func (l Forecast) Tried(g db.GhostTarget, invoice string) []oracle.Tried {
	tried := l.Memory.Failures(invoice)
	if invoice != g.StripeInvoiceID || g.DeclineClass.IsHard() {
		return tried
	}
	code := ""
	if g.DeclineCode != nil {
		code = *g.DeclineCode
	}
	for _, at := range []*time.Time{g.FirstFailedAt, g.LastFailedAt} {
		if at != nil && !l.Memory.Holds(*at) {
			tried = oracle.AddFailure(tried, oracle.Tried{At: *at, Class: g.DeclineClass, Code: code})
		}
	}
	return tried
}

// seed is the die of one attempt: even over invoices, and the same in a dry run as when it happens.
func (l Forecast) seed(attempt int) []byte {
	return l.Hash("moment", l.Invoice+" "+strconv.Itoa(attempt))
}

// NextMessage says when a step of the playbook may be sent. It reports false where there is none,
// or no time for it.
func (l Forecast) NextMessage(step int, now time.Time) (playbook.Step, time.Time, bool) {
	if step >= len(l.Playbook.Steps) {
		return playbook.Step{}, time.Time{}, false
	}
	next := l.Playbook.Steps[step]
	at := later(l.Began.AddDate(0, 0, next.AfterDays), now)
	at = l.quietUntil(next.Channel, at)
	return next, at, !at.After(l.End)
}

// quietUntil is the first moment from at on that is not within quiet hours for a message. The
// customer's number is not known yet.
func (l Forecast) quietUntil(channel string, at time.Time) time.Time {
	return l.Playbook.QuietHours.NextFor(at, message.ZonesFor(channel, l.Zone, ""))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
