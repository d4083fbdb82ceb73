// Package gate decides whether something may leave for a hunt now: a charge, a take-over, a final
// step, what takes one of these back, or a message. [MayLeave] is asked with what is known so far,
// and once more with everything in the transaction that marks a request as sent. It reads nothing
// itself. Each refusal has a [Code]; docs/rules.md has the rules.
package gate

import (
	"slices"
	"time"

	"phantom/billing"
	"phantom/db"
	"phantom/debt"
	"phantom/playbook"
	"phantom/state"
)

// Facts are what the gate decides by. A part that is nil has not been asked for yet: the gate is
// asked with what PHANTOM's database says before anything is read at Stripe, then with what Stripe
// says, and at last, in the transaction that marks a request as sent, with all of it and the
// ledger. So the cheapest facts come first, and each time the same rules decide.
type Facts struct {
	Hunt   HuntFacts
	Stripe *StripeFacts
	Ledger *LedgerFacts
	Person *PersonFacts // of a message
}

// HuntFacts are what the database says of a hunt.
type HuntFacts struct {
	Hunt  db.Hunt
	Ghost db.GhostTarget // zero where it is gone
	// the plan of the hunt's version under the limits of the newest one
	Playbook     playbook.Playbook
	Halted       bool
	Disconnected bool
}

// StripeFacts are what Stripe says of what is about to be changed. Charges are the customer's, the
// newest first.
type StripeFacts struct {
	Object  billing.Object // the invoice, or the subscription of a final step
	Invoice billing.Object // of a final step: the ghost's oldest unpaid invoice
	Charges []billing.Charge
	Needed  bool // of a release: another hunt of the ghost goes on
	Paying  bool // of a final step: the newest invoice of the subscription is paid
	// of a charge: Smart Retries has let go of the invoice before; of what takes back: it is
	// PHANTOM's
	Taken bool
}

// LedgerFacts are what the ledger says of the card that will be charged, and of the merchant.
type LedgerFacts struct {
	Attempts []time.Time // on the card within 30 days, the newest first: see card_attempts
	Asked    int64       // in the charge's currency within 24 hours, minor units
	// another request about the same object, or a charge of the same card, may be out
	Twin bool
}

// PersonFacts are what is known of the person whom a message is for.
type PersonFacts struct {
	Channel string
	Zones   []*time.Location // where they may live, most likely in the first
	Stopped bool             // they have asked not to be written to
	Sent    []db.MessageListSentRow
}

// patience between two looks at something that only a person or the merchant changes.
const (
	haltPatience = time.Minute
	offPatience  = 15 * time.Minute
	// HeldPatience is for what comes with news, which may be lost.
	HeldPatience = 3 * day
)

// Freshness is how long what was read holds: from the beginning of the read to the leaving of the
// request that it decides about.
const Freshness = 5 * time.Second

// MayLeave is the one gate before everything that leaves for a hunt: a charge, a take-over, a final
// step, what takes one of these back, and a message. p is what was planned; a message needs only
// its zero value. now is by PHANTOM's clock.
func MayLeave(kind string, p Request, f Facts, now time.Time) Ruling {
	r := f.Hunt.mayLeave(kind, now)
	if r.Yes() {
		r = f.Hunt.mayChoose(kind, p.Object, now)
	}
	if r.Yes() && f.Person != nil {
		r = f.Person.mayWrite(f.Hunt.Playbook, now)
	}
	if !r.Yes() || f.Stripe == nil {
		return r
	}
	switch {
	case kind == KindPay || kind == KindHold:
		r = f.Stripe.mayCharge(kind, p, f.Hunt, now)
	case IsFinal(kind):
		r = f.Stripe.mayEnd(f.Hunt.Playbook, now)
	case kind == KindRelease:
		r = f.Stripe.mayRelease()
	case kind == KindResume && !f.Stripe.Taken:
		// the merchant has lifted it, and paused on their own account
		r = Ruling{Code: NotOurs}
	}
	if r.Yes() {
		r = f.Stripe.mayChoose(kind, f.Hunt, now)
	}
	if !r.Yes() || f.Ledger == nil {
		return r
	}
	if f.Ledger.Twin {
		return Ruling{TwinOut, now.Add(time.Hour)}
	}
	if kind != KindPay {
		return Ruling{}
	}
	return f.Ledger.mayCharge(p, f.Stripe.Object.PaymentMethod(), f.Hunt.Playbook, now)
}

// mayLeave asks what PHANTOM's own database says. What takes back something of PHANTOM's own is
// bound by little: the hunt has ended.
func (f HuntFacts) mayLeave(kind string, now time.Time) Ruling {
	switch {
	case f.Disconnected:
		return Ruling{Code: Disconnected}
	case f.Halted:
		return Ruling{Halted, now.Add(haltPatience)}
	case kind == KindResume || kind == KindRelease:
		return Ruling{}
	case f.Hunt.State != state.HuntActive:
		return Ruling{Code: HuntEnded}
	case f.Hunt.HeldOut || f.Hunt.Mode != state.ModeRecover:
		return Ruling{Code: Untouched}
	case f.Ghost.ClosedReason != nil && *f.Ghost.ClosedReason == debt.PaymentUnderWay:
		return Ruling{Code: GhostPays} // it may come back
	case f.Ghost.Status != state.GhostOpen:
		return Ruling{Code: GhostClosed}
	case !IsFinal(kind) && now.After(WindowEnd(f.Hunt, f.Playbook)):
		// it waited: for a pace, a cap, a merchant
		return Ruling{Code: WindowOver}
	case f.Playbook.Mode != state.ModeRecover:
		return Ruling{SwitchedOff, now.Add(offPatience)}
	case f.Ghost.Amount < f.Playbook.MinAmount[f.Ghost.Currency]:
		return Ruling{BelowMinimum, now.Add(day)}
	}
	return Ruling{}
}

// mayCharge reads what Stripe says right before a charge against what was planned, and one retrier
// at a time.
func (f *StripeFacts) mayCharge(kind string, p Request, h HuntFacts, now time.Time) Ruling {
	o := f.Object
	switch {
	case slices.ContainsFunc(f.Charges, billing.Charge.Contested):
		return Ruling{Code: InDispute}
	case o.Status == billing.InvoiceUncollectible && !h.chargesWrittenOff():
		return Ruling{Code: WrittenOff}
	case o.Status != billing.InvoiceOpen && o.Status != billing.InvoiceUncollectible:
		return Ruling{Code: NotOpen}
	case o.PaidOutOfBand, o.AmountRemaining <= 0:
		return Ruling{Code: NothingLeft}
	case o.AmountRemaining != p.Amount || o.Currency != p.Currency:
		return Ruling{Code: AmountChanged}
	case o.CollectionMethod != "charge_automatically":
		return Ruling{Code: SentInvoice}
	case o.Intent.Status == "processing":
		return Ruling{UnderWay, now.Add(day)}
	case o.Intent.Status == "requires_action":
		return Ruling{Code: MustConfirm}
	case !o.Attempted:
		return Ruling{NotTried, now.Add(2 * time.Hour)}
	case o.Subscription.Paused():
		return Ruling{Code: Paused}
	case !billing.IsLive(o.Subscription.Status) && h.Ghost.Access != "proven":
		return Ruling{Code: NotAlive}
	case kind == KindPay && o.NextAttempt != nil && h.Playbook.TakeOver && !f.Taken:
		return Ruling{Code: TakeOverFirst}
	case kind == KindPay && o.NextAttempt != nil: // two retriers at once are the largest risk
		return Ruling{StripeRetries, time.Unix(*o.NextAttempt, 0).Add(time.Hour)}
	}
	r := MayAsk(f.Charges, p, o.PaymentMethod(), h.Playbook, now)
	if kind == KindHold && r.Code.Effect() == Waits && r.Until.Before(now.Add(day)) {
		return Ruling{} // the charge that follows waits for it
	}
	return r
}

// mayEnd asks before a final step: nobody loses a subscription who has paid or disputes, or, unless
// the playbook says so, whose newest invoice is paid.
func (f *StripeFacts) mayEnd(playbook playbook.Playbook, now time.Time) Ruling {
	switch o := f.Invoice; {
	case o.Status != billing.InvoiceOpen && o.Status != billing.InvoiceUncollectible, o.PaidOutOfBand, o.AmountRemaining <= 0:
		return Ruling{Code: NotOpen}
	case slices.ContainsFunc(f.Charges, billing.Charge.Contested):
		return Ruling{Code: InDispute}
	case o.Intent.Status == "processing":
		return Ruling{UnderWay, now.Add(day)}
	case f.Paying && !playbook.FinalStepIfPaying:
		return Ruling{Code: Paying}
	case o.Status == billing.InvoiceOpen && o.NextAttempt != nil:
		return Ruling{StripeRetries, time.Unix(*o.NextAttempt, 0).Add(time.Hour)}
	}
	return Ruling{}
}

// mayRelease asks before an invoice is given back to Smart Retries.
func (f *StripeFacts) mayRelease() Ruling {
	switch o := f.Object; {
	case o.Status != billing.InvoiceOpen, o.AmountRemaining <= 0:
		return Ruling{Code: NotOpen}
	case o.AutoAdvance, !f.Taken, f.Needed:
		// somebody has given it back, or has taken it themselves
		return Ruling{Code: NotOurs}
	}
	return Ruling{}
}

// mayWrite asks whether a person may be written to now.
func (f *PersonFacts) mayWrite(playbook playbook.Playbook, now time.Time) Ruling {
	if f.Stopped {
		return Ruling{Code: Stopped}
	}
	if quiet := playbook.QuietHours.NextFor(now, f.Zones); quiet.After(now) {
		return Ruling{QuietHours, quiet}
	}
	if free := AllowedAt(f.Sent, f.Channel, now); free.After(now) {
		return Ruling{MessageCap, free}
	}
	return Ruling{}
}

// WindowEnd is when the window of a hunt is over.
func WindowEnd(h db.Hunt, p playbook.Playbook) time.Time {
	return h.BeganAt.Add(time.Duration(p.WindowDays) * 24 * time.Hour)
}
