package gate

import (
	"slices"
	"time"

	"phantom/billing"
	"phantom/decline"
	"phantom/playbook"
)

// Limits of the card networks, by the card and within their time. They stand under the playbook's
// own, which are lower or equal. https://docs.stripe.com/declines/retries
var networkLimits = []struct {
	brand  string
	most   int
	within time.Duration
}{
	{"visa", 15, BudgetDays * day},
	{"mastercard", 10, day},
	{"mastercard", 35, BudgetDays * day},
}

// Limits of time and number.
const (
	BudgetDays   = decline.NetworkDays // of the playbook's budgets too
	presentments = 3                   // of a bank debit: the first, and two more
	debitRest    = 3 * 24 * time.Hour  // between two presentments: a bank takes days to say no
)

// MayAsk asks what the charges of the customer say of the method that will be charged: those with
// another one decide nothing about it.
func MayAsk(charges []billing.Charge, p Request, m billing.Method, playbook playbook.Playbook, now time.Time) Ruling {
	for _, c := range Recent(charges, now) {
		switch {
		case c.TakenBack():
			return Ruling{Code: WasDisputed}
		case c.Status == billing.ChargePending && c.Invoice == p.Object:
			return Ruling{UnderWay, now.Add(day)}
		}
	}
	switch {
	case !m.Known():
		return Ruling{Code: NoMethod}
	case m.Rail() == billing.RailUnknown:
		return Ruling{Code: UnknownMethod}
	case playbook.CardBudget <= 0 || playbook.MaxAttempts <= 0:
		return Ruling{NoBudget, now.Add(day)}
	}
	with := slices.DeleteFunc(slices.Clone(charges), func(c billing.Charge) bool { return !c.With(m) })
	if m.Rail() == billing.RailDebit {
		if r := mayPresent(with, p, now); !r.Yes() {
			return r
		}
	} else if r := mayAskCard(with, p, m, now); !r.Yes() {
		return r
	}
	var asked []time.Time // for the invoice
	for _, c := range Recent(with, now) {
		if c.Declined() && c.Invoice == p.Object {
			asked = append(asked, c.At())
		}
	}
	if free := Refill(asked, playbook.MaxAttempts, BudgetDays*day); free.After(now) {
		return Ruling{AttemptsUsedUp, free}
	}
	seen := LedgerFacts{Attempts: declines(with, now)}
	return seen.mayCharge(p, m, playbook, now)
}

// mayAskCard reads what a card's own declines say. charges are those with it, the newest first.
func mayAskCard(charges []billing.Charge, p Request, m billing.Method, now time.Time) Ruling {
	var wait time.Time
	judged := false // by the newest attempt for this invoice
	for _, c := range Recent(charges, now) {
		if c.Status == billing.ChargeSucceeded {
			break // it has paid since: what was said before does not hold
		}
		if c.Status != billing.ChargeFailed {
			continue
		}
		class, word := c.Class()
		switch {
		case class == decline.Never:
			// whichever invoice it was said for, and also where Stripe itself has blocked the
			// attempt
			return Ruling{Code: CardDead}
		case c.Blocked():
			continue
		case m.Country == "IN":
			return Ruling{Code: IssuedInIndia}
		case c.Invoice == p.Object && !judged && class == decline.Customer:
			return Ruling{Code: MustAct}
		}
		judged = judged || c.Invoice == p.Object
		if until := c.At().Add(decline.NetworkWait[word]); until.After(wait) {
			wait = until
		}
	}
	if wait.After(now) {
		return Ruling{NetworkWaits, wait}
	}
	return Ruling{}
}

// mayPresent asks whether a bank debit may be presented again: after a lack of money alone, twice
// at most, days apart. What is not said to be a lack of money is not taken for one.
func mayPresent(charges []billing.Charge, p Request, now time.Time) Ruling {
	count := 0
	var last time.Time
	for _, c := range charges {
		if c.Status != billing.ChargeFailed || c.Invoice != p.Object {
			continue
		}
		if class, _ := c.Class(); class != decline.Timed {
			return Ruling{Code: DebitRefused}
		}
		if count++; c.At().After(last) {
			last = c.At()
		}
	}
	switch {
	case count >= presentments:
		return Ruling{Code: DebitPresented}
	case last.Add(debitRest).After(now):
		return Ruling{DebitRests, last.Add(debitRest)}
	}
	return Ruling{}
}

// mayCharge asks the card's budgets and the merchant's cap. Of several waits the longest holds.
func (f *LedgerFacts) mayCharge(p Request, m billing.Method, playbook playbook.Playbook, now time.Time) Ruling {
	var r Ruling
	wait := func(c Code, until time.Time) {
		if until.After(now) && until.After(r.Until) {
			r = Ruling{c, until}
		}
	}
	wait(OnceADay, Refill(f.Attempts, 1, day))
	wait(CardBudgetSpent, Refill(f.Attempts, playbook.CardBudget, BudgetDays*day))
	for _, limit := range networkLimits {
		if limit.brand == m.Brand {
			wait(NetworkLimit, Refill(f.Attempts, limit.most, limit.within))
		}
	}
	if most, capped := playbook.DailyCap[p.Currency]; capped && f.Asked+p.Amount > most {
		wait(DailyCap, now.Add(time.Hour))
	}
	return r
}

// Refill is when fewer than most of some attempts, the newest first, are left within a time. It is
// zero where there have never been as many. Stripe tells whole seconds, so that an attempt may have
// been made up to a second later than it says.
func Refill(attempts []time.Time, most int, within time.Duration) time.Time {
	if most <= 0 || len(attempts) < most {
		return time.Time{}
	}
	return attempts[most-1].Add(within + time.Second)
}

// Recent are those of some charges, the newest first, that the networks' limits count, by date
// alone.
func Recent(charges []billing.Charge, now time.Time) []billing.Charge {
	from := now.Add(-BudgetDays * day).Unix()
	end := slices.IndexFunc(charges, func(c billing.Charge) bool { return c.Created < from })
	if end < 0 {
		return charges
	}
	return charges[:end]
}

// declines are when those of some charges were made that count: they have reached the network and
// were declined, or are under way.
func declines(charges []billing.Charge, now time.Time) (at []time.Time) {
	for _, c := range Recent(charges, now) {
		if c.Declined() || c.Status == billing.ChargePending {
			at = append(at, c.At())
		}
	}
	return at
}
