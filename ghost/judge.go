package ghost

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"phantom/billing"
	"phantom/debt"
	"phantom/decline"
)

// Grace is how long after its due date an invoice that was sent to the customer is only late.
const Grace = 7 * 24 * time.Hour

// Subscription is what decides, together with its debts, whether its customer is a ghost.
type Subscription struct {
	ID, Customer string
	Status       string // Stripe's; "" where Stripe does not know it any more
	Paused       bool   // collection is paused: the merchant grants free service

	// What playbooks choose by. It decides nothing here.
	Leaving          bool // it ends with its period
	Ignored          bool // metadata: phantom=ignore, its own or its customer's
	Resubscribed     bool // a newer one of the customer's to the same product is alive
	Products, Prices []string

	// What the shield is told. It decides nothing here.
	Pause    string // how collection is paused; "" where it is not
	ByUs     bool   // a hunt's final step has paused it
	EndedAt  *time.Time
	Monthly  int64 // what it brings in, in minor units of its currency
	Currency string
}

// Debt is one finalised invoice of the subscription, paid or not.
type Debt struct {
	Invoice, Currency, Status string
	Email                     string
	Remaining                 int64 // minor units
	Created                   time.Time
	Due                       *time.Time
	SendInvoice, OutOfBand    bool
	AttemptCount              int32  // Stripe's count of its own schedule
	Intent                    string // status of its payment intent
	Disputed, Refunded        bool   // a dispute that is open; the money went back
	Lost                      int64  // minor units that disputes have taken back for good
	LostAt                    time.Time
	Lines                     int64      // what it bills, as a number; 0 where nothing is known
	From, To                  *time.Time // which time that is for
	// a person says that it repeats no other: metadata phantom=owed
	Separate bool
	Attempts []Attempt
	// in the last 30 days on the card of the last attempt, for any invoice: see
	// keepCardAttempts
	CardAttempts int32
}

// Attempt is one try to charge for an invoice.
type Attempt struct {
	At      time.Time
	Outcome string // 'succeeded', 'failed', 'pending' or 'blocked'
	Class   decline.Class
	Code    string
	Card    []byte // keyed hash of its fingerprint
	Zone    string // the customer's time zone, "" where no country is known
	Country string // the customer's, or their card's
}

// Finding is a ghost: what a customer owes for one subscription in one currency, of one kind.
type Finding struct {
	Kind                     debt.Kind
	Rule                     debt.Rule
	Currency, Invoice, Email string // Invoice is the oldest that is owed
	Amount                   int64
	Invoices                 []debt.Invoice // the oldest first
	Hidden                   bool
	Class                    decline.Class
	Code                     string
	Attempts, CardAttempts   int32
	FirstFailed, LastFailed  *time.Time
	Card                     []byte
	Zone                     string // that of the last failure that tells one
	Country                  string // of the last failure that tells one
	zoneAt, placedAt         time.Time
}

// Judge finds what a subscription's customer owes while they keep access, one finding for each
// currency and kind in their order, and the money at risk: unpaid, but under way, waiting for the
// customer or disputed. debts are all its finalised invoices. proven says for a currency whether
// the merchant's own app has seen the customer use the product.
func Judge(s Subscription, debts []Debt, proven func(currency string) bool, now time.Time) (found []Finding, atRisk map[string]int64) {
	type heap struct {
		currency string
		kind     debt.Kind
	}
	repeats := repeated(debts, now)
	paying := latest(debts, repeats, now) == billing.InvoicePaid
	healthy := s.Status == billing.Active && paying
	owed := make(map[heap][]Debt)
	for i, d := range debts {
		state := d.state(now)
		switch {
		case state == lost && s.Status != "":
			owed[heap{d.Currency, debt.ChargedBack}] = append(owed[heap{d.Currency, debt.ChargedBack}], d)
		case repeats[i]:
		case state == underWay && billing.IsLive(s.Status):
			if atRisk == nil {
				atRisk = make(map[string]int64)
			}
			atRisk[d.Currency] += d.Remaining
		case state == due:
			if kind := s.owes(d, paying, proven(d.Currency)); kind != "" {
				owed[heap{d.Currency, kind}] = append(owed[heap{d.Currency, kind}], d)
			}
		}
	}
	for of, list := range owed {
		found = append(found, finding(s, of.currency, of.kind, list, healthy))
	}
	slices.SortFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Currency, b.Currency), cmp.Compare(a.Kind, b.Kind))
	})
	return found, atRisk
}

// owes is the table "Who is a ghost": of which kind a debt is that an invoice which is due makes of
// this subscription's customer, or "". Marking an invoice uncollectible turns a subscription active
// again: without a kind of its own such a debt would leave no trace.
func (s Subscription) owes(d Debt, paying, proven bool) debt.Kind {
	open := d.Status == billing.InvoiceOpen
	switch s.Status {
	case billing.Active, billing.PastDue:
		switch {
		case open || paying && s.Status == billing.Active:
			return debt.Owed
		case !paying:
			return debt.WrittenOff
		}
	case billing.Trialing:
		if open {
			return debt.Owed
		}
	case billing.Unpaid, billing.Canceled:
		if proven {
			return debt.Owed
		}
	}
	return ""
}

// repeated marks unpaid invoices that bill once more what another bills: the same lines for the
// same time, as three requests for one upgrade make them. They are one debt until a person says
// otherwise. The oldest stands for them; where one of them is paid, or about to be, none of the
// others is owed.
func repeated(debts []Debt, now time.Time) []bool {
	marks := make([]bool, len(debts))
	for i, d := range debts {
		if d.Lines == 0 || d.Separate || d.Status != billing.InvoiceOpen && d.Status != billing.InvoiceUncollectible {
			continue
		}
		marks[i] = slices.ContainsFunc(debts, func(other Debt) bool {
			if other.Invoice == d.Invoice || other.Separate || !d.bills(other) {
				return false
			}
			older := cmp.Or(other.Created.Compare(d.Created), cmp.Compare(other.Invoice, d.Invoice)) < 0
			switch of := other.state(now); {
			case other.Status == billing.InvoicePaid:
				return of != lost
			case of == underWay && d.state(now) != underWay:
				return true
			case d.state(now) == underWay && of != underWay:
				return false
			}
			return other.unpaid() && older
		})
	}
	return marks
}

// unpaid says whether something of a debt is left that somebody may pay.
func (d Debt) unpaid() bool {
	return d.Remaining > 0 && !d.OutOfBand && (d.Status == billing.InvoiceOpen || d.Status == billing.InvoiceUncollectible)
}

// bills says whether two invoices bill the same lines for times of which the shorter lies in the
// other by more than a half. Lines that are for a moment bill something new each time.
func (d Debt) bills(other Debt) bool {
	if d.Lines != other.Lines || d.Currency != other.Currency || d.From == nil || other.From == nil {
		return false
	}
	shorter := min(d.To.Sub(*d.From), other.To.Sub(*other.From))
	from, to := *d.From, *d.To
	if other.From.After(from) {
		from = *other.From
	}
	if other.To.Before(to) {
		to = *other.To
	}
	return 2*to.Sub(from) > shorter
}

type debtState int

const (
	none     debtState = iota
	due                // owed after a failed payment
	underWay           // unpaid for a reason that is not the customer's refusal
	lost               // paid, and charged back
)

// state says what an invoice is by itself.
func (d Debt) state(now time.Time) debtState {
	switch {
	case d.Status == billing.InvoicePaid && d.Lost > 0:
		return lost
	case !d.unpaid():
		return none
	case d.Disputed:
		return underWay
	case d.SendInvoice:
		switch {
		case d.Due == nil:
			return none
		case d.Due.Before(now.Add(-Grace)):
			return due
		case d.Status == billing.InvoiceOpen:
			return underWay
		}
		return none // given up before it was late
	case d.AttemptCount == 0:
		return none // a draft, the hour before the first attempt, or written off under a pause
	case d.Intent == "processing", d.Intent == "requires_action", d.pending():
		return underWay
	}
	return due
}

// nextDebt is when the first of the invoices that were sent becomes a debt without anybody's doing:
// Stripe sends no event then.
func nextDebt(debts []Debt, now time.Time) (at time.Time, ok bool) {
	for _, d := range debts {
		if d.Status != billing.InvoiceOpen || !d.SendInvoice || d.Due == nil || d.Remaining <= 0 || d.OutOfBand {
			continue
		}
		if end := d.Due.Add(Grace); !end.Before(now) && (!ok || end.Before(at)) {
			at, ok = end, true
		}
	}
	return at, ok
}

// pending reports a bank debit on its way: its charge is neither paid nor failed.
func (d Debt) pending() bool {
	return slices.ContainsFunc(d.Attempts, func(a Attempt) bool { return a.Outcome == billing.ChargePending })
}

// latest is the status of the newest invoice whose payment is decided. One that is open and not due
// yet (not tried, under way, within the grace) says nothing: with each renewal it would end a
// hidden ghost for an hour or for days. Nor does one that is void: a subscription's own status
// follows the newest that is not. One that repeats another says nothing either.
func latest(debts []Debt, repeats []bool, now time.Time) string {
	var newest Debt
	for i, d := range debts {
		if !repeats[i] && d.Status != billing.InvoiceVoid && (d.Status != billing.InvoiceOpen || d.state(now) == due) && cmp.Or(d.Created.Compare(newest.Created), cmp.Compare(d.Invoice, newest.Invoice)) > 0 {
			newest = d
		}
	}
	return newest.Status
}

func finding(s Subscription, currency string, kind debt.Kind, owed []Debt, healthy bool) Finding {
	slices.SortFunc(owed, func(a, b Debt) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Invoice, b.Invoice))
	})
	f := Finding{
		Kind: kind, Currency: currency, Invoice: owed[0].Invoice, Hidden: kind == debt.Owed && healthy, Class: decline.Unknown, Rule: debt.PaymentFailed,
	}
	overdue := true
	for _, d := range owed {
		amount := d.Remaining
		if kind == debt.ChargedBack {
			amount = d.Lost
		}
		f.Amount += amount
		f.Invoices = append(f.Invoices, debt.Invoice{ID: d.Invoice, Amount: amount, Created: d.Created.Unix()})
		f.Email = cmp.Or(d.Email, f.Email) // the newest that has one
		overdue = overdue && d.SendInvoice
		f.addAttempts(d)
	}
	switch {
	case kind == debt.ChargedBack:
		f.Rule = debt.DisputeLost
	case kind == debt.WrittenOff:
		f.Rule = debt.MarkedUncollectible
	case s.Status == billing.Unpaid || s.Status == billing.Canceled:
		f.Rule = debt.AccessProven
	case healthy:
		f.Rule = debt.OlderUnpaid
	case s.Status == billing.Trialing:
		f.Rule = debt.UnpaidBeforeTrial
	case overdue:
		f.Rule = debt.SentOverdue
	}
	return f
}

// addAttempts counts the failures of one debt. Where Stripe shows no charge, its own count and the
// invoice's dates stand in. What was charged back has failed when its dispute began.
func (f *Finding) addAttempts(d Debt) {
	if f.Kind == debt.ChargedBack {
		f.failed(d.LostAt)
		return
	}
	failed := 0
	// Two of one second are in no order of their own.
	for _, a := range slices.SortedFunc(slices.Values(d.Attempts), func(a, b Attempt) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Code, b.Code), bytes.Compare(a.Card, b.Card))
	}) {
		if a.Outcome != billing.ChargeFailed && a.Outcome != billing.ChargeBlocked {
			continue
		}
		failed++
		if f.failed(a.At) {
			f.Class, f.Code, f.Card, f.CardAttempts = cmp.Or(a.Class, decline.Unknown), a.Code, a.Card, d.CardAttempts
		}
		if a.Zone != "" && !a.At.Before(f.zoneAt) {
			f.Zone, f.zoneAt = a.Zone, a.At
		}
		if a.Country != "" && !a.At.Before(f.placedAt) {
			f.Country, f.placedAt = a.Country, a.At
		}
	}
	if failed == 0 {
		failed = int(d.AttemptCount)
		when := d.Created
		if d.SendInvoice {
			when = *d.Due
		}
		f.failed(when)
	}
	f.Attempts += int32(failed)
}

// failed widens the span of failures and reports whether this is the latest so far.
func (f *Finding) failed(at time.Time) bool {
	if f.FirstFailed == nil || at.Before(*f.FirstFailed) {
		f.FirstFailed = &at
	}
	if f.LastFailed == nil || !at.Before(*f.LastFailed) {
		f.LastFailed = &at
		return true
	}
	return false
}

// Reason says why a ghost, whose oldest invoice is given, is none any more.
func Reason(s Subscription, debts []Debt, invoice string) debt.Closing {
	i := slices.IndexFunc(debts, func(d Debt) bool { return d.Invoice == invoice })
	if i < 0 {
		if s.Status == billing.Canceled {
			return debt.Ended
		}
		return debt.NotFound
	}
	d := debts[i]
	switch {
	case d.Refunded && d.Status == billing.InvoicePaid:
		return debt.Refunded
	case d.Status == billing.InvoicePaid, d.OutOfBand, d.Remaining <= 0 && d.Status != billing.InvoiceVoid:
		return debt.Paid
	case d.Disputed:
		return debt.Disputed
	case s.Status == billing.Canceled, s.Status == billing.IncompleteExpired:
		return debt.Ended
	case s.Status == billing.Unpaid, s.Status == billing.Paused, s.Status == billing.Incomplete:
		return debt.Suspended
	case s.Paused:
		return debt.FreeService
	case d.Status == billing.InvoiceVoid:
		return debt.Voided
	case d.Status == billing.InvoiceUncollectible:
		return debt.GivenUp
	default:
		return debt.PaymentUnderWay
	}
}
