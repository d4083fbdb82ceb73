package recovery

import (
	"slices"
	"time"
)

// Limits of the card networks, by the card and within their time. They stand under the playbook's own, which are lower or equal.
// https://docs.stripe.com/declines/retries
var networkLimits = []struct {
	brand  string
	most   int
	within time.Duration
}{
	{"visa", 15, budgetDays * oneADay},
	{"mastercard", 10, oneADay},
	{"mastercard", 35, budgetDays * oneADay},
}

const (
	budgetDays   = 30                 // of the card networks' limits, and of the playbook's
	presentments = 3                  // of a bank debit: the first, and two more
	debitRest    = 3 * 24 * time.Hour // between two presentments: a bank takes days to say no
)

// mayAsk asks what the charges of the customer say of the method that will be charged: those with another one decide nothing about it.
func mayAsk(charges []charge, p frozen, m method, playbook Playbook, now time.Time) ruling {
	for _, c := range recent(charges, now) {
		switch {
		case c.takenBack():
			return ruling{code: codeWasDisputed}
		case c.Status == "pending" && c.Invoice == p.Object:
			return ruling{codeUnderWay, now.Add(oneADay)}
		}
	}
	switch {
	case !m.known():
		return ruling{code: codeNoMethod}
	case m.rail() == railUnknown:
		return ruling{code: codeUnknownMethod}
	case playbook.CardBudget <= 0 || playbook.MaxAttempts <= 0:
		return ruling{codeNoBudget, now.Add(oneADay)}
	}
	with := slices.DeleteFunc(slices.Clone(charges), func(c charge) bool { return !c.with(m) })
	if m.rail() == railDebit {
		if r := mayPresent(with, p, now); !r.yes() {
			return r
		}
	} else if r := mayAskCard(with, p, m, now); !r.yes() {
		return r
	}
	var asked []time.Time // for the invoice
	for _, c := range recent(with, now) {
		if c.declined() && c.Invoice == p.Object {
			asked = append(asked, c.at())
		}
	}
	if free := refill(asked, playbook.MaxAttempts, budgetDays*oneADay); free.After(now) {
		return ruling{codeAttemptsUsedUp, free}
	}
	seen := ledgerFacts{attempts: declines(with, now)}
	return seen.mayCharge(p, m, playbook, now)
}

// mayAskCard reads what a card's own declines say. charges are those with it, the newest first.
func mayAskCard(charges []charge, p frozen, m method, now time.Time) ruling {
	var wait time.Time
	judged := false // by the newest attempt for this invoice
	for _, c := range recent(charges, now) {
		if c.Status == "succeeded" {
			break // it has paid since: what was said before does not hold
		}
		if c.Status != "failed" {
			continue
		}
		class, word := c.class()
		switch {
		case class == "never": // whichever invoice it was said for, and also where Stripe itself has blocked the attempt
			return ruling{code: codeCardDead}
		case c.blocked():
			continue
		case m.Country == "IN":
			return ruling{code: codeIssuedInIndia}
		case c.Invoice == p.Object && !judged && class == "customer":
			return ruling{code: codeMustAct}
		}
		judged = judged || c.Invoice == p.Object
		wait = later(wait, c.at().Add(networkWait[word]))
	}
	if wait.After(now) {
		return ruling{codeNetworkWaits, wait}
	}
	return ruling{}
}

// mayPresent asks whether a bank debit may be presented again: after a lack of money alone, twice at most, days apart. What is not said
// to be a lack of money is not taken for one.
func mayPresent(charges []charge, p frozen, now time.Time) ruling {
	count := 0
	var last time.Time
	for _, c := range charges {
		if c.Status != "failed" || c.Invoice != p.Object {
			continue
		}
		if class, _ := c.class(); class != "timed" {
			return ruling{code: codeDebitRefused}
		}
		count, last = count+1, later(last, c.at())
	}
	switch {
	case count >= presentments:
		return ruling{code: codeDebitPresented}
	case last.Add(debitRest).After(now):
		return ruling{codeDebitRests, last.Add(debitRest)}
	}
	return ruling{}
}

// mayCharge asks the card's budgets and the merchant's cap. Whatever of it waits longest is waited for.
func (f *ledgerFacts) mayCharge(p frozen, m method, playbook Playbook, now time.Time) ruling {
	var r ruling
	wait := func(c code, until time.Time) {
		if until.After(now) && until.After(r.until) {
			r = ruling{c, until}
		}
	}
	wait(codeOnceADay, refill(f.attempts, 1, oneADay))
	wait(codeCardBudgetSpent, refill(f.attempts, playbook.CardBudget, budgetDays*oneADay))
	for _, limit := range networkLimits {
		if limit.brand == m.Brand {
			wait(codeNetworkLimit, refill(f.attempts, limit.most, limit.within))
		}
	}
	if most, capped := playbook.DailyCap[p.Currency]; capped && f.asked+p.Amount > most {
		wait(codeDailyCap, now.Add(time.Hour))
	}
	return r
}

// refill is when fewer than most of some attempts, the newest first, are left within a time. It is zero where there have never been as
// many. Stripe tells whole seconds, so that an attempt may have been made up to a second later than it says.
func refill(attempts []time.Time, most int, within time.Duration) time.Time {
	if most <= 0 || len(attempts) < most {
		return time.Time{}
	}
	return attempts[most-1].Add(within + time.Second)
}

// recent are those of some charges, the newest first, that the networks' limits count, by date alone.
func recent(charges []charge, now time.Time) []charge {
	from := now.Add(-budgetDays * oneADay).Unix()
	end := slices.IndexFunc(charges, func(c charge) bool { return c.Created < from })
	if end < 0 {
		return charges
	}
	return charges[:end]
}

// declines are when those of some charges were made that count: they have reached the network and were declined, or are under way.
func declines(charges []charge, now time.Time) (at []time.Time) {
	for _, c := range recent(charges, now) {
		if c.declined() || c.Status == "pending" {
			at = append(at, c.at())
		}
	}
	return at
}
