package gate

import (
	"slices"
	"time"

	"phantom/decline"
)

// Ruling is the gate's answer. Without a code the request may leave.
type Ruling struct {
	Code  Code
	Until time.Time // for a code that waits
}

// Yes says that the request may leave.
func (r Ruling) Yes() bool { return r.Code == "" }

// Code says why nothing may leave. Codes are stored in attempts.code and messages.code; what they
// mean is in rules.
type Code string

// Effect is what a code brings about.
type Effect int

// The effects.
const (
	Waits Effect = iota // the task is put off
	// the task is put off until something changes: any news has it looked at again
	Holds
	Ends    // no further charge of the invoice is planned
	Expires // what was planned is not so any more: what is owed now is looked at anew
	Drops   // the task ends, and what made it end has its own consequences
)

// The codes.
const (
	Halted          Code = "halted"
	Disconnected    Code = "disconnected"
	HuntEnded       Code = "hunt_ended"
	Untouched       Code = "untouched"
	GhostClosed     Code = "ghost_closed"
	GhostPays       Code = "ghost_pays"
	SwitchedOff     Code = "switched_off"
	WindowOver      Code = "window_over"
	BelowMinimum    Code = "below_minimum"
	InDispute       Code = "in_dispute"
	WasDisputed     Code = "was_disputed"
	WrittenOff      Code = "written_off"
	NotOpen         Code = "not_open"
	NothingLeft     Code = "nothing_left"
	AmountChanged   Code = "amount_changed"
	SentInvoice     Code = "sent_invoice"
	UnderWay        Code = "under_way"
	MustConfirm     Code = "must_confirm"
	NotTried        Code = "not_tried"
	Paused          Code = "collection_paused"
	NotAlive        Code = "subscription_ended"
	StripeRetries   Code = "stripe_retries"
	TakeOverFirst   Code = "take_over_first"
	Paying          Code = "customer_pays"
	NoMethod        Code = "no_method"
	UnknownMethod   Code = "unknown_method"
	CardDead        Code = "card_dead"
	MustAct         Code = "customer_must_act"
	IssuedInIndia   Code = "issued_in_india"
	DebitRefused    Code = "debit_refused"
	DebitPresented  Code = "debit_presented"
	DebitRests      Code = "debit_rests"
	AttemptsUsedUp  Code = "attempts_used_up"
	NoBudget        Code = "no_budget"
	CardBudgetSpent Code = "card_budget"
	NetworkLimit    Code = "network_limit"
	NetworkWaits    Code = "network_waits"
	OnceADay        Code = "once_a_day"
	TwinOut         Code = "twin_out"
	DailyCap        Code = "daily_cap"
	Stopped         Code = "stopped"
	QuietHours      Code = "quiet_hours"
	MessageCap      Code = "message_cap"
	NotOurs         Code = "not_ours"
	Refused         Code = "refused"
	TooOld          Code = "too_old"
	Leaving         Code = "leaving"
	Excluded        Code = "excluded"
	Ignored         Code = "ignored"
	Resubscribed    Code = "resubscribed"
	KindOff         Code = "kind_off"
	NoEmail         Code = "no_email"
	SealedEmail     Code = "sealed_email"
	NoPhone         Code = "no_phone"
	NoMobile        Code = "no_mobile"
)

// rules say of each code what it brings about, and what it is in plain words.
var rules = map[Code]struct {
	effect Effect
	words  string
}{
	Halted:          {Waits, "sends are halted"},
	Disconnected:    {Drops, "the merchant is disconnected"},
	HuntEnded:       {Drops, "the hunt has ended"},
	Untouched:       {Drops, "the hunt only watches: it charges and writes to nobody"},
	GhostClosed:     {Drops, "the ghost is gone"},
	GhostPays:       {Expires, "a payment is under way"},
	SwitchedOff:     {Waits, "the newest playbook does not recover"},
	WindowOver:      {Drops, "the window is over"},
	BelowMinimum:    {Waits, "what is owed is below the newest playbook's minimum"},
	InDispute:       {Holds, "the customer disputes a charge"},
	WasDisputed:     {Holds, "the customer has disputed a charge"},
	WrittenOff:      {Holds, "the invoice was written off: the customer may pay it, and no card is charged for it"},
	NotOpen:         {Expires, "the invoice is not open any more"},
	NothingLeft:     {Expires, "nothing is left to pay"},
	AmountChanged:   {Expires, "the amount has changed since this was planned"},
	SentInvoice:     {Ends, "the invoice was sent to the customer, and no card is charged for it"},
	UnderWay:        {Waits, "a payment is under way"},
	MustConfirm:     {Holds, "the customer must confirm the payment at the bank"},
	NotTried:        {Waits, "Stripe has not tried yet"},
	Paused:          {Holds, "the subscription's collection is paused: the service is granted"},
	NotAlive:        {Holds, "the subscription has ended"},
	StripeRetries:   {Waits, "Smart Retries tries first"},
	TakeOverFirst:   {Expires, "Smart Retries has not let go of the invoice"},
	Paying:          {Drops, "the customer pays: the newest invoice is paid"},
	NoMethod:        {Holds, "the customer has no payment method on file"},
	UnknownMethod:   {Holds, "the payment method on file can only be charged by the customer"},
	CardDead:        {Holds, decline.Never.Words()},
	MustAct:         {Holds, decline.Customer.Words()},
	IssuedInIndia:   {Holds, "cards issued in India are not charged again without the customer"},
	DebitRefused:    {Holds, "the bank account was refused for another reason than a lack of money"},
	DebitPresented:  {Holds, "a bank debit is presented again twice at most"},
	DebitRests:      {Waits, "a bank takes days to answer a debit"},
	AttemptsUsedUp:  {Waits, "the attempts that the playbook allows are used up"},
	NoBudget:        {Waits, "the playbook allows no attempt on a card"},
	CardBudgetSpent: {Waits, "the attempts that the card may have within 30 days are used up"},
	NetworkLimit:    {Waits, "the card network's limit of attempts is reached"},
	NetworkWaits:    {Waits, "the card network asks to wait"},
	OnceADay:        {Waits, "one attempt a day"},
	TwinOut:         {Waits, "what became of another request comes first"},
	DailyCap:        {Waits, "the playbook's daily cap is reached"},
	Stopped:         {Drops, "the customer has asked not to be written to"},
	QuietHours:      {Waits, "it is night for the customer"},
	MessageCap:      {Waits, "the person has had enough messages"},
	NotOurs:         {Drops, "it is not as PHANTOM has left it"},
	Refused:         {Holds, "Stripe has refused the request"},
	TooOld:          {Ends, "the invoice is older than the newest playbook allows"},
	Leaving:         {Holds, "the subscription ends with its period"},
	Excluded:        {Holds, "the newest playbook excludes the customer, the product or the price"},
	Ignored:         {Holds, "the customer or the subscription is marked to be left alone: phantom=ignore"},
	Resubscribed:    {Holds, "the customer has subscribed to the same product anew"},
	KindOff:         {Holds, "the newest playbook does not hunt debts of this kind"},
	NoEmail:         {Drops, "the customer has no usable email address"},
	SealedEmail:     {Drops, "the customer's stored email address does not open"},
	NoPhone:         {Drops, "the customer has no phone number"},
	NoMobile:        {Drops, "the customer's phone number is no mobile number of a country that is written to"},
}

// HeldCodes are those that hold until something changes and are looked at again with any news. A
// refusal is not: the news may be of the request itself.
var HeldCodes = func() (codes []string) {
	for c, r := range rules {
		if r.effect == Holds && c != Refused {
			codes = append(codes, string(c))
		}
	}
	slices.Sort(codes)
	return codes
}()

// Words say a code to a merchant, in a hunt's history and in messages.
func (c Code) Words() string { return rules[c].words }

// Effect is what a code brings about.
func (c Code) Effect() Effect { return rules[c].effect }

// Passes says whether a reason may be gone some day, so that what it stops is put off and not given
// up.
func (c Code) Passes() bool { return c.Effect() == Waits || c.Effect() == Holds }
