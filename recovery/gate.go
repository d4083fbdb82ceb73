package recovery

import (
	"slices"
	"time"

	"phantom/db"
)

// facts are what the gate decides by. A part that is nil has not been asked for yet: the gate is asked with what PHANTOM's database says
// before anything is read at Stripe, then with what Stripe says, and at last, in the transaction that marks a request as sent, with all of
// it and the ledger. So the cheapest facts come first, and each time the same rules decide.
type facts struct {
	hunt   huntFacts
	stripe *stripeFacts
	ledger *ledgerFacts
	person *personFacts // of a message
}

// huntFacts are what the database says of a hunt.
type huntFacts struct {
	hunt         db.Hunt
	ghost        db.GhostTarget // zero where it is gone
	playbook     Playbook       // the plan of the hunt's version under the limits of the newest one
	halted       bool
	disconnected bool
}

// stripeFacts are what Stripe says of what is about to be changed. charges are the customer's, the newest first.
type stripeFacts struct {
	object  object // the invoice, or the subscription of a final step
	invoice object // of a final step: the ghost's oldest unpaid invoice
	charges []charge
	needed  bool // of a release: another hunt of the ghost goes on
	paying  bool // of a final step: the newest invoice of the subscription is paid
	taken   bool // of a charge: Smart Retries has let go of the invoice before; of what takes back: it is PHANTOM's
}

// ledgerFacts are what the ledger says of the card that will be charged, and of the merchant.
type ledgerFacts struct {
	attempts []time.Time // on the card within 30 days, the newest first: see card_attempts
	asked    int64       // in the charge's currency within 24 hours, minor units
	twin     bool        // another request about the same object, or a charge of the same card, may be out
}

// personFacts are what is known of the person whom a message is for.
type personFacts struct {
	channel string
	zones   []*time.Location // where they may live, most likely in the first
	stopped bool             // they have asked not to be written to
	sent    []db.MessageListSentRow
}

// ruling is the gate's answer. Without a code the request may leave.
type ruling struct {
	code  code
	until time.Time // for a code that waits
}

func (r ruling) yes() bool { return r.code == "" }

// code says why nothing may leave. Codes are stored in attempts.code; what they mean is in rules.
type code string

// effect is what a code brings about.
type effect int

const (
	waits   effect = iota // the task is put off
	holds                 // the task is put off until something changes: any news has it looked at again
	ends                  // no further charge of the invoice is planned
	expires               // what was planned is not so any more: what is owed now is looked at anew
	drops                 // the task ends, and what made it end has its own consequences
)

const (
	codeHalted          code = "halted"
	codeDisconnected    code = "disconnected"
	codeHuntEnded       code = "hunt_ended"
	codeUntouched       code = "untouched"
	codeGhostClosed     code = "ghost_closed"
	codeGhostPays       code = "ghost_pays"
	codeSwitchedOff     code = "switched_off"
	codeWindowOver      code = "window_over"
	codeBelowMinimum    code = "below_minimum"
	codeInDispute       code = "in_dispute"
	codeWasDisputed     code = "was_disputed"
	codeWrittenOff      code = "written_off"
	codeNotOpen         code = "not_open"
	codeNothingLeft     code = "nothing_left"
	codeAmountChanged   code = "amount_changed"
	codeSentInvoice     code = "sent_invoice"
	codeUnderWay        code = "under_way"
	codeMustConfirm     code = "must_confirm"
	codeNotTried        code = "not_tried"
	codePaused          code = "collection_paused"
	codeNotAlive        code = "subscription_ended"
	codeStripeRetries   code = "stripe_retries"
	codeTakeOverFirst   code = "take_over_first"
	codePaying          code = "customer_pays"
	codeNoMethod        code = "no_method"
	codeUnknownMethod   code = "unknown_method"
	codeCardDead        code = "card_dead"
	codeMustAct         code = "customer_must_act"
	codeIssuedInIndia   code = "issued_in_india"
	codeDebitRefused    code = "debit_refused"
	codeDebitPresented  code = "debit_presented"
	codeDebitRests      code = "debit_rests"
	codeAttemptsUsedUp  code = "attempts_used_up"
	codeNoBudget        code = "no_budget"
	codeCardBudgetSpent code = "card_budget"
	codeNetworkLimit    code = "network_limit"
	codeNetworkWaits    code = "network_waits"
	codeOnceADay        code = "once_a_day"
	codeTwinOut         code = "twin_out"
	codeDailyCap        code = "daily_cap"
	codeStopped         code = "stopped"
	codeQuietHours      code = "quiet_hours"
	codeMessageCap      code = "message_cap"
	codeNotOurs         code = "not_ours"
	codeRefused         code = "refused"
	codeTooOld          code = "too_old"
	codeLeaving         code = "leaving"
	codeExcluded        code = "excluded"
	codeIgnored         code = "ignored"
	codeResubscribed    code = "resubscribed"
	codeKindOff         code = "kind_off"
)

// rules say of each code what it brings about, and what it is in plain words.
var rules = map[code]struct {
	effect effect
	words  string
}{
	codeHalted:          {waits, "sends are halted"},
	codeDisconnected:    {drops, "the merchant is disconnected"},
	codeHuntEnded:       {drops, "the hunt has ended"},
	codeUntouched:       {drops, "the hunt only watches: it charges and writes to nobody"},
	codeGhostClosed:     {drops, "the ghost is gone"},
	codeGhostPays:       {expires, "a payment is under way"},
	codeSwitchedOff:     {waits, "the newest playbook does not recover"},
	codeWindowOver:      {drops, "the window is over"},
	codeBelowMinimum:    {waits, "what is owed is below the newest playbook's minimum"},
	codeInDispute:       {holds, "the customer disputes a charge"},
	codeWasDisputed:     {holds, "the customer has disputed a charge"},
	codeWrittenOff:      {holds, "the invoice was written off: the customer may pay it, and no card is charged for it"},
	codeNotOpen:         {expires, "the invoice is not open any more"},
	codeNothingLeft:     {expires, "nothing is left to pay"},
	codeAmountChanged:   {expires, "the amount has changed since this was planned"},
	codeSentInvoice:     {ends, "the invoice was sent to the customer, and no card is charged for it"},
	codeUnderWay:        {waits, "a payment is under way"},
	codeMustConfirm:     {holds, "the customer must confirm the payment at the bank"},
	codeNotTried:        {waits, "Stripe has not tried yet"},
	codePaused:          {holds, "the subscription's collection is paused: the service is granted"},
	codeNotAlive:        {holds, "the subscription has ended"},
	codeStripeRetries:   {waits, "Smart Retries tries first"},
	codeTakeOverFirst:   {expires, "Smart Retries has not let go of the invoice"},
	codePaying:          {drops, "the customer pays: the newest invoice is paid"},
	codeNoMethod:        {holds, "the customer has no payment method on file"},
	codeUnknownMethod:   {holds, "the payment method on file can only be charged by the customer"},
	codeCardDead:        {holds, classWords("never")},
	codeMustAct:         {holds, classWords("customer")},
	codeIssuedInIndia:   {holds, "cards issued in India are not charged again without the customer"},
	codeDebitRefused:    {holds, "the bank account was refused for another reason than a lack of money"},
	codeDebitPresented:  {holds, "a bank debit is presented again twice at most"},
	codeDebitRests:      {waits, "a bank takes days to answer a debit"},
	codeAttemptsUsedUp:  {waits, "the attempts that the playbook allows are used up"},
	codeNoBudget:        {waits, "the playbook allows no attempt on a card"},
	codeCardBudgetSpent: {waits, "the attempts that the card may have within 30 days are used up"},
	codeNetworkLimit:    {waits, "the card network's limit of attempts is reached"},
	codeNetworkWaits:    {waits, "the card network asks to wait"},
	codeOnceADay:        {waits, "one attempt a day"},
	codeTwinOut:         {waits, "what became of another request comes first"},
	codeDailyCap:        {waits, "the playbook's daily cap is reached"},
	codeStopped:         {drops, whyStopped},
	codeQuietHours:      {waits, "it is night for the customer"},
	codeMessageCap:      {waits, "the person has had enough messages"},
	codeNotOurs:         {drops, "it is not as PHANTOM has left it"},
	codeRefused:         {holds, "Stripe has refused the request"},
	codeTooOld:          {ends, "the invoice is older than the newest playbook allows"},
	codeLeaving:         {holds, "the subscription ends with its period"},
	codeExcluded:        {holds, "the newest playbook excludes the customer, the product or the price"},
	codeIgnored:         {holds, "the customer or the subscription is marked to be left alone: phantom=ignore"},
	codeResubscribed:    {holds, "the customer has subscribed to the same product anew"},
	codeKindOff:         {holds, "the newest playbook does not hunt debts of this kind"},
}

// heldCodes are those that hold until something changes and are looked at again with any news. A
// refusal is not: the news may be of the request itself.
var heldCodes = func() (codes []string) {
	for c, r := range rules {
		if r.effect == holds && c != codeRefused {
			codes = append(codes, string(c))
		}
	}
	slices.Sort(codes)
	return codes
}()

func (c code) words() string  { return rules[c].words }
func (c code) effect() effect { return rules[c].effect }

// passes says whether a reason may be gone some day, so that what it stops is put off and not given
// up.
func (c code) passes() bool { return c.effect() == waits || c.effect() == holds }

// patience between two looks at something that only a person or the merchant changes.
const (
	haltPatience = time.Minute
	offPatience  = 15 * time.Minute
	// heldPatience is for what comes with news, which may be lost.
	heldPatience = 3 * oneADay
)

// mayLeave is the one gate before everything that leaves for a hunt: a charge, a take-over, a final step, what takes one of these back, and
// a message. p is what was planned; a message needs only its zero value. now is by PHANTOM's clock.
func mayLeave(kind string, p frozen, f facts, now time.Time) ruling {
	r := f.hunt.mayLeave(kind, now)
	if r.yes() {
		r = f.hunt.mayChoose(kind, p.Object, now)
	}
	if r.yes() && f.person != nil {
		r = f.person.mayWrite(f.hunt.playbook, now)
	}
	if !r.yes() || f.stripe == nil {
		return r
	}
	switch {
	case kind == KindPay || kind == KindHold:
		r = f.stripe.mayCharge(kind, p, f.hunt, now)
	case isFinal(kind):
		r = f.stripe.mayEnd(f.hunt.playbook, now)
	case kind == KindRelease:
		r = f.stripe.mayRelease()
	case kind == KindResume && !f.stripe.taken: // the merchant has lifted it, and paused on their own account
		r = ruling{code: codeNotOurs}
	}
	if r.yes() {
		r = f.stripe.mayChoose(kind, f.hunt, now)
	}
	if !r.yes() || f.ledger == nil {
		return r
	}
	if f.ledger.twin {
		return ruling{codeTwinOut, now.Add(time.Hour)}
	}
	if kind != KindPay {
		return ruling{}
	}
	return f.ledger.mayCharge(p, f.stripe.object.method(), f.hunt.playbook, now)
}

// mayLeave asks what PHANTOM's own database says. What takes back something of PHANTOM's own is bound by little: the hunt has ended.
func (f huntFacts) mayLeave(kind string, now time.Time) ruling {
	switch {
	case f.disconnected:
		return ruling{code: codeDisconnected}
	case f.halted:
		return ruling{codeHalted, now.Add(haltPatience)}
	case kind == KindResume || kind == KindRelease:
		return ruling{}
	case f.hunt.State != "active":
		return ruling{code: codeHuntEnded}
	case f.hunt.HeldOut || f.hunt.Mode != ModeRecover:
		return ruling{code: codeUntouched}
	case f.ghost.ClosedReason != nil && *f.ghost.ClosedReason == closedUnderWay:
		return ruling{code: codeGhostPays} // it may come back
	case f.ghost.Status != "open":
		return ruling{code: codeGhostClosed}
	case !isFinal(kind) && now.After(windowEnd(f.hunt, f.playbook)): // it waited: for a pace, a cap, a merchant
		return ruling{code: codeWindowOver}
	case f.playbook.Mode != ModeRecover:
		return ruling{codeSwitchedOff, now.Add(offPatience)}
	case f.ghost.Amount < f.playbook.MinAmount[f.ghost.Currency]:
		return ruling{codeBelowMinimum, now.Add(oneADay)}
	}
	return ruling{}
}

// mayCharge reads what Stripe says right before a charge against what was planned, and one retrier at a time.
func (f *stripeFacts) mayCharge(kind string, p frozen, h huntFacts, now time.Time) ruling {
	o := f.object
	switch {
	case slices.ContainsFunc(f.charges, charge.contested):
		return ruling{code: codeInDispute}
	case o.Status == "uncollectible" && !h.chargesWrittenOff():
		return ruling{code: codeWrittenOff}
	case o.Status != "open" && o.Status != "uncollectible":
		return ruling{code: codeNotOpen}
	case o.PaidOutOfBand, o.AmountRemaining <= 0:
		return ruling{code: codeNothingLeft}
	case o.AmountRemaining != p.Amount || o.Currency != p.Currency:
		return ruling{code: codeAmountChanged}
	case o.CollectionMethod != "charge_automatically":
		return ruling{code: codeSentInvoice}
	case o.Intent.Status == "processing":
		return ruling{codeUnderWay, now.Add(oneADay)}
	case o.Intent.Status == "requires_action":
		return ruling{code: codeMustConfirm}
	case !o.Attempted:
		return ruling{codeNotTried, now.Add(2 * time.Hour)}
	case present(o.Subscription.Pause):
		return ruling{code: codePaused}
	case !alive(o.Subscription.Status) && h.ghost.Access != "proven":
		return ruling{code: codeNotAlive}
	case kind == KindPay && o.NextAttempt != nil && h.playbook.TakeOver && !f.taken:
		return ruling{code: codeTakeOverFirst}
	case kind == KindPay && o.NextAttempt != nil: // two retriers at once are the largest risk
		return ruling{codeStripeRetries, time.Unix(*o.NextAttempt, 0).Add(time.Hour)}
	}
	r := mayAsk(f.charges, p, o.method(), h.playbook, now)
	if kind == KindHold && r.code.effect() == waits && r.until.Before(now.Add(oneADay)) {
		return ruling{} // the charge that follows waits for it
	}
	return r
}

func alive(status string) bool {
	return status == "active" || status == "past_due" || status == "trialing"
}

// mayEnd asks before a final step: nobody loses a subscription who has paid or disputes, or, unless the playbook says so, whose newest
// invoice is paid.
func (f *stripeFacts) mayEnd(playbook Playbook, now time.Time) ruling {
	switch o := f.invoice; {
	case o.Status != "open" && o.Status != "uncollectible", o.PaidOutOfBand, o.AmountRemaining <= 0:
		return ruling{code: codeNotOpen}
	case slices.ContainsFunc(f.charges, charge.contested):
		return ruling{code: codeInDispute}
	case o.Intent.Status == "processing":
		return ruling{codeUnderWay, now.Add(oneADay)}
	case f.paying && !playbook.FinalStepIfPaying:
		return ruling{code: codePaying}
	case o.Status == "open" && o.NextAttempt != nil:
		return ruling{codeStripeRetries, time.Unix(*o.NextAttempt, 0).Add(time.Hour)}
	}
	return ruling{}
}

// mayRelease asks before an invoice is given back to Smart Retries.
func (f *stripeFacts) mayRelease() ruling {
	switch o := f.object; {
	case o.Status != "open", o.AmountRemaining <= 0:
		return ruling{code: codeNotOpen}
	case o.AutoAdvance, !f.taken, f.needed: // somebody has given it back, or has taken it themselves
		return ruling{code: codeNotOurs}
	}
	return ruling{}
}

// mayWrite asks whether a person may be written to now.
func (f *personFacts) mayWrite(playbook Playbook, now time.Time) ruling {
	if f.stopped {
		return ruling{code: codeStopped}
	}
	if quiet := playbook.QuietHours.NextFor(now, f.zones); quiet.After(now) {
		return ruling{codeQuietHours, quiet}
	}
	if free := allowed(f.sent, f.channel, now); free.After(now) {
		return ruling{codeMessageCap, free}
	}
	return ruling{}
}
