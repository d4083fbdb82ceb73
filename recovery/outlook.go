package recovery

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// outlook is what the next steps of a hunt depend on and what does not change on its way. It asks nobody but the advisor, so that a
// hunt that was never begun can be thought through by the same rules ([Service.DryRun]).
type outlook struct {
	playbook   Playbook
	invoice    string // whose charge is thought of
	amount     int64  // of it, minor units
	currency   string
	began, end time.Time
	zone       *time.Location
	category   string
	livemode   bool
	hash       func(subject, value string) []byte
}

// standing is how far a hunt's charges have come.
type standing struct {
	class, code string // of the last failure, Stripe's or ours
	lastFailed  time.Time
	sent        int
	asked       []time.Time // when those were sent, the newest first
	notBefore   time.Time   // when the invoice's attempts refill, as a look has found; zero where none has
	until       time.Time   // when what holds its charges is looked at again; zero where nothing does
	why         code        // what holds them
	refused     int         // requests in a row that Stripe has refused
	fresh       bool        // the customer has left another payment method since
	held        bool        // Smart Retries has let go of the invoice
}

// nextStep is the mutation that follows, or why none does.
type nextStep struct {
	kind   string
	moment Moment
	waits  bool // for the invoice's attempts to refill, or for news: another invoice may be charged meanwhile
	held   code // until something changes
	over   string
}

// nextCharge says what follows where no charge is under way.
func (l outlook) nextCharge(ctx context.Context, advisor Advisor, so standing, now time.Time) (nextStep, error) {
	switch {
	case so.why != "" && !so.fresh:
		at, kind := later(so.until, now), KindPay
		if l.playbook.TakeOver && !so.held {
			kind = KindHold
		}
		return nextStep{kind: kind, held: so.why, waits: at.After(now), moment: Moment{At: at, Reason: so.why.words(), Probability: 1}}, nil
	case isHard(so.class) && !so.fresh:
		return nextStep{over: classWords(so.class)}, nil
	case l.playbook.MaxAttempts == 0 || l.playbook.CardBudget == 0:
		return nextStep{over: codeNoBudget.words()}, nil
	}
	if most, capped := l.playbook.DailyCap[l.currency]; capped && l.amount > most {
		return nextStep{over: "the invoice is larger than the playbook's daily cap"}, nil
	}
	attempt := so.sent + 1
	if so.fresh { // nothing that is known is about it
		moment := Moment{At: now, Reason: "the customer has left another payment method", Probability: 1}
		if l.playbook.TakeOver && !so.held {
			return nextStep{kind: KindHold, moment: moment}, nil
		}
		return nextStep{kind: KindPay, moment: moment}, nil
	}
	free := later(so.notBefore, refill(so.asked, l.playbook.MaxAttempts, budgetDays*oneADay))
	if free.After(l.end) {
		return nextStep{over: codeAttemptsUsedUp.words()}, nil
	}
	moment, err := advisor.Next(ctx, Question{
		Class: so.class, Code: so.code, Attempt: attempt, LastFailed: so.lastFailed, NotBefore: later(later(now, free), so.lastFailed.Add(max(oneADay, networkWait[so.code]))),
		NotAfter: l.end, Zone: l.zone, Category: l.category, Livemode: l.livemode, Seed: l.seed(attempt),
	})
	if err != nil {
		return nextStep{}, fmt.Errorf("ask for the next moment: %w", err)
	}
	if moment.At.After(l.end) {
		return nextStep{over: "the next moment that makes sense lies behind the window"}, nil
	}
	if free.After(now) {
		return nextStep{kind: KindPay, moment: moment, waits: true}, nil
	}
	if l.playbook.TakeOver && !so.held { // only now that a charge will follow
		return nextStep{kind: KindHold, moment: Moment{At: now, Reason: "before our first attempt", Probability: 1}}, nil
	}
	return nextStep{kind: KindPay, moment: moment}, nil
}

// seed is the die of one attempt: even over invoices, and the same in a dry run as when it happens.
func (l outlook) seed(attempt int) []byte {
	return l.hash("moment", l.invoice+" "+strconv.Itoa(attempt))
}

// nextMessage says when a step of the playbook may be sent. It reports false where there is none, or no time for it.
func (l outlook) nextMessage(step int, now time.Time) (Step, time.Time, bool) {
	if step >= len(l.playbook.Steps) {
		return Step{}, time.Time{}, false
	}
	next := l.playbook.Steps[step]
	at := later(l.began.AddDate(0, 0, next.AfterDays), now)
	at = l.quietUntil(next.Channel, at)
	return next, at, !at.After(l.end)
}

// quietUntil is the first moment from at on that is not within quiet hours for a message. The customer's number is not known yet.
func (l outlook) quietUntil(channel string, at time.Time) time.Time {
	return l.playbook.QuietHours.NextFor(at, zonesFor(channel, l.zone, ""))
}
