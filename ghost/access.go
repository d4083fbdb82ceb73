package ghost

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"phantom/billing"
	"phantom/db"
	"phantom/debt"
	"phantom/shield"
	"phantom/state"
)

// Shield hears what was read of subscriptions, in the transaction that stores what it means, and
// that a payment was announced.
type Shield interface {
	Told(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, ticket int64, all []shield.Facts) error
	Paid(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, subscription string) error
}

// telling is a subscription of which the shield is told.
type telling struct {
	hash    []byte
	subject subject
}

// tell has the shield told with the next write.
func (w *writing) tell(s subject) {
	w.told = append(w.told, telling{w.hash("subscription", s.subscription.ID), s})
}

// tellShield tells of subscriptions. It comes last in a transaction: what the shield locks comes
// after hunts, customers, cards and the merchant.
func (s *Service) tellShield(ctx context.Context, tx db.DBTX, w *writing, told []telling, now time.Time) error {
	if s.Shield == nil || len(told) == 0 {
		return nil
	}
	givenUp, err := givenUpByUs(ctx, db.New(tx), w, told)
	if err != nil {
		return err
	}
	facts := make([]shield.Facts, 0, len(told))
	for _, t := range told {
		f := accessOf(t.subject, givenUp, now)
		if !t.subject.testClock {
			facts = append(facts, f)
		}
	}
	return s.Shield.Told(ctx, tx, w.merchant, w.ticket, facts)
}

// givenUpByUs says which unpaid invoices a hunt's final step has marked as uncollectible: they are
// still owed.
func givenUpByUs(ctx context.Context, queries *db.Queries, w *writing, told []telling) (map[string]bool, error) {
	params := db.AttemptListGivenUpParams{MerchantID: w.merchant}
	var ids []string
	for _, t := range told {
		for _, d := range t.subject.debts {
			if d.Status == billing.InvoiceUncollectible && d.unpaid() {
				ids, params.Invoices = append(ids, d.Invoice), append(params.Invoices, w.hash("invoice", d.Invoice))
			}
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	hashes, err := queries.AttemptListGivenUp(ctx, params)
	if err != nil {
		return nil, fmt.Errorf("look for what was given up: %w", err)
	}
	byUs := make(map[string]bool)
	for i, id := range ids {
		byUs[id] = slices.ContainsFunc(hashes, func(hash []byte) bool { return bytes.Equal(hash, params.Invoices[i]) })
	}
	return byUs, nil
}

// accessOf is what the shield is told of a subscription. Whether the merchant's app has seen the
// customer decides nothing there: an unpaid subscription owes either way.
func accessOf(s subject, givenUp map[string]bool, now time.Time) shield.Facts {
	sub := s.subscription
	f := shield.Facts{
		Subscription: sub.ID, Customer: sub.Customer, Products: sub.Products, Prices: sub.Prices, Service: serviceOf(sub),
		Monthly: sub.Monthly, Currency: sub.Currency,
	}
	if f.Service == shield.Ended {
		f.EndedAt = now
		if sub.EndedAt != nil {
			f.EndedAt = *sub.EndedAt
		}
	}
	if f.Customer == "" && len(s.known) > 0 { // Stripe has forgotten the subscription
		f.Customer = s.known[0].StripeCustomerID
	}
	debts := slices.Clone(s.debts)
	for i := range debts {
		d := &debts[i]
		if d.Status == billing.InvoicePaid && !d.Refunded && d.Lost == 0 && d.To != nil && d.To.After(f.PaidUntil) {
			f.PaidUntil = *d.To
		}
		f.Disputed = f.Disputed || d.Disputed
		if givenUp[d.Invoice] { // as if it were open: nobody but us has given it up
			d.Status = billing.InvoiceOpen
		}
	}
	found, _ := Judge(sub, debts, func(string) bool { return true }, now)
	for _, owed := range found {
		f.Debts = append(f.Debts, shield.Debt{Kind: owed.Kind, Amount: owed.Amount, Currency: owed.Currency, Since: *owed.FirstFailed})
	}
	if len(found) == 0 {
		f.Debts = underWayOf(debts, now)
		f.PaymentUnderWay = len(f.Debts) > 0
	}
	if len(f.Debts) == 0 { // then neither decides anything, and not every reading knows them
		f.PaidUntil, f.Disputed = time.Time{}, false
	}
	return f
}

// underWayOf are the debts that a bank or the customer is about to pay. What was sent and is not
// late is none.
func underWayOf(debts []Debt, now time.Time) (list []shield.Debt) {
	repeats := repeated(debts, now)
	for i, d := range debts {
		if repeats[i] || d.SendInvoice || d.state(now) != underWay {
			continue
		}
		var f Finding
		f.addAttempts(d)
		list = append(list, shield.Debt{Kind: debt.Owed, Amount: d.Remaining, Currency: d.Currency, Since: *f.FirstFailed})
	}
	return list
}

// serviceOf says whether the merchant serves a subscription. A pause that is a hunt's final step
// is none of the merchant's. Of the merchant's own, void says that nothing is served meanwhile.
// https://docs.stripe.com/billing/subscriptions/pause-payment
func serviceOf(s Subscription) shield.ServiceState {
	switch {
	case s.Status == billing.Canceled || s.Status == "":
		return shield.Ended
	case s.Status == billing.Incomplete || s.Status == billing.IncompleteExpired:
		return shield.Incomplete
	case s.Status == billing.Paused, s.Paused && s.Pause == "void":
		return shield.Suspended
	case s.Paused && !s.ByUs:
		return shield.Unbilled
	}
	return shield.Serving
}

// announcePayment has access raised at once when Stripe says that an invoice was paid. The refresh
// that follows finds out.
func (s *Service) announcePayment(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, e Event) error {
	subscription := idOrNone(e.Subscription)
	if s.Shield == nil || e.Type != "invoice.paid" || subscription == "" {
		return nil
	}
	return s.Shield.Paid(ctx, tx, merchantID, subscription)
}

// told is an event about a ghost.
type told struct {
	Ghost        uuid.UUID    `json:"ghost"`
	Customer     string       `json:"customer"`
	Subscription string       `json:"subscription"`
	Kind         debt.Kind    `json:"kind"`
	Amount       int64        `json:"amount"` // minor units
	Currency     string       `json:"currency"`
	Reason       debt.Closing `json:"reason,omitempty"` // of one that has closed
}

// tellApp tells the merchant's app which ghosts of a subscription have opened or closed. What an
// audit finds at once is told by its end alone.
func (s *Service) tellApp(ctx context.Context, tx db.DBTX, w *writing, of subject) error {
	if s.Emit == nil {
		return nil
	}
	ghostOf := func(id uuid.UUID) *db.GhostTarget {
		if i := slices.IndexFunc(of.known, func(g db.GhostTarget) bool { return g.ID == id }); i >= 0 {
			return &of.known[i]
		}
		return nil
	}
	for _, f := range w.found {
		if g := ghostOf(f.id); g != nil && g.Status == state.GhostOpen {
			continue
		}
		if err := s.Emit(ctx, tx, w.merchant, "ghost.opened", told{f.id, f.of.Customer, f.of.ID, f.Kind, f.Amount, f.Currency, ""}); err != nil {
			return err
		}
	}
	for _, c := range w.closed {
		g := ghostOf(c.id)
		if g == nil || g.Status != state.GhostOpen {
			continue
		}
		if err := s.Emit(ctx, tx, w.merchant, "ghost.closed", told{
			c.id, g.StripeCustomerID, g.StripeSubscriptionID, g.Kind, g.Amount, g.Currency, c.reason,
		}); err != nil {
			return err
		}
	}
	return nil
}

// Seen notes that a merchant's app has let these customers in while they owed: their access is
// proven.
func (s *Service) Seen(ctx context.Context, merchantID uuid.UUID, customers []string) error {
	if err := s.queries.GhostSeen(ctx, db.GhostSeenParams{MerchantID: merchantID, Customers: customers}); err != nil {
		return fmt.Errorf("note who was let in: %w", err)
	}
	return nil
}

// tellOthers tells of the subscriptions of an audit that owe nothing. Those of which anything is
// unpaid were judged, or are about to be read whole.
func (a *audit) tellOthers(ctx context.Context, now time.Time) error {
	if a.s.Shield == nil {
		return nil
	}
	w := &writing{s: a.s, hash: a.reader.Hash, merchant: a.row.MerchantID, live: a.row.Livemode, ticket: a.row.Ticket}
	for row, err := range db.AuditStreamOthers(ctx, a.s.pool, a.row.MerchantID, a.row.ID) {
		if err != nil {
			return fmt.Errorf("read subscriptions: %w", err)
		}
		w.tell(subject{subscription: Subscription{
			ID: row.ID, Customer: row.Customer, Status: row.Status, Paused: row.Paused, Products: row.Products, Prices: row.Prices,
			Pause: row.Pause, ByUs: row.PausedByUs, EndedAt: row.EndedAt, Monthly: row.Monthly, Currency: row.Currency,
		}})
		if len(w.told) == writingBatch {
			if err := w.write(ctx, now); err != nil {
				return err
			}
		}
	}
	return w.write(ctx, now)
}

// timeOrNil is nil for the epoch, which stands for no time in a row.
func timeOrNil(at time.Time) *time.Time {
	if at.Unix() == 0 {
		return nil
	}
	return &at
}
