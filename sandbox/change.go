package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
)

// Change is a turn that somebody gives the living world from outside: the merchant in the
// dashboard, a customer, a bank.
type Change struct {
	Account string `json:"account"`
	Do      string `json:"do"` // one of Turns

	// ID names the invoice, subscription, charge or dispute that Do is about; "" takes the first
	// that fits. metadata also takes a customer, and has no first.
	ID string `json:"id"`

	// Amount is for refund and dispute in minor units, where 0 means all, for pay_part in minor
	// units, less than what remains. For charges and renewals it is how many, up to 500, and for
	// refuse how often, where 0 means once.
	Amount int64 `json:"amount"`

	// Status is for dispute, update_dispute and close_dispute the dispute's new status; "" means
	// needs_response, under_review and lost. For new_card and attach_card it is "declines" or "",
	// for to_debit "bounces" or "", for cancel_at_period_end "off" or "". For metadata it is
	// "key=value"; "key=" removes the key.
	Status   string `json:"status"`
	Behavior string `json:"behavior"` // pause_collection: "" means void
}

// Turns are what Change.Do can be.
var Turns = []string{"pay", "pay_part", "pay_out_of_band", "to_debit", "void", "mark_uncollectible", "fail_renewal", "cancel", "pause_collection",
	"resume_collection", "same_card", "new_card", "refund", "dispute", "update_dispute",
	"close_dispute", "deauthorize",
	// More of a customer: n charges that are no invoice's; n paid invoices in front of all others
	// of a subscription; another subscription at the same price; a card that is attached and not
	// made the default; the default one detached.
	"charges", "renewals", "resubscribe", "attach_card", "detach_card",
	// More of an invoice: its payment intent gives way to another; another invoice over the same,
	// which fails; the bank wants to see the customer, and no longer does; the bank debit under way
	// fails; attempts by hand are refused with 400.
	"new_intent", "repeat_invoice", "require_action", "action_gone", "bounce_debit", "refuse",
	"metadata", "cancel_at_period_end"}

// Change gives the world a turn, at the sandbox's clock, and emits its events. It returns the id of
// what was changed or made: for fail_renewal and repeat_invoice the new invoice, for resubscribe
// the new subscription, for attach_card and detach_card the payment method, for charges the
// customer. It fails if there is nothing fit for the turn.
func (s *Sandbox) Change(c Change) (id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.accounts[c.Account]
	if a == nil {
		return "", fmt.Errorf("change %q: no merchant %q", c.Do, c.Account)
	}
	now := s.now().Unix()
	a.advance(now)
	if c.Do == "deauthorize" {
		if !s.grants.connected(a.ID) {
			return "", errors.New("deauthorize: the merchant is not connected")
		}
		if done := s.disconnect(a.ID, now); done.status != http.StatusOK {
			return "", errors.New("deauthorize: the state file cannot be written")
		}
		return a.ID, nil
	}
	if id, err = a.turn(c, now); err != nil {
		return "", fmt.Errorf("%s: %w", c.Do, err)
	}
	a.due = 1
	a.sortTables()
	return id, nil
}

func (a *account) turn(c Change, now int64) (string, error) {
	switch c.Do {
	case "pay", "pay_part", "pay_out_of_band", "to_debit", "void", "mark_uncollectible":
		return a.turnInvoice(c, now)
	case "fail_renewal", "cancel", "pause_collection", "resume_collection", "same_card", "new_card":
		return a.turnSubscription(c, now)
	case "charges", "resubscribe", "attach_card", "detach_card":
		return a.turnCustomer(c, now)
	case "renewals":
		return a.turnRenewals(c, now)
	case "new_intent", "repeat_invoice", "require_action", "action_gone", "bounce_debit", "refuse":
		return a.turnIntent(c, now)
	case "metadata":
		return a.turnMetadata(c, now)
	case "cancel_at_period_end":
		return a.turnEnd(c, now)
	case "refund", "dispute":
		ch := first(a.tables["charges"], c.ID, func(ch *charge) bool {
			return ch.Paid && !ch.Disputed && !ch.Refunded && (c.ID != "" || ch.Invoice != "")
		})
		if ch == nil {
			return "", errNothingFits
		}
		if c.Do == "dispute" {
			if c.Amount < 0 || c.Amount > ch.Amount {
				return "", fmt.Errorf("amount %d is not between 0 and the charge's", c.Amount)
			}
			status := orElse(c.Status, "needs_response")
			return a.disputePart(ch, cmp.Or(c.Amount, ch.Amount), now, status).ID, nil
		}
		if c.Amount < 0 || c.Amount > ch.Amount-ch.AmountRefunded {
			return "", fmt.Errorf("amount %d is not between 0 and what is left", c.Amount)
		}
		if c.Amount == 0 {
			c.Amount = ch.Amount - ch.AmountRefunded
		}
		ch.AmountRefunded += c.Amount
		ch.Refunded = ch.AmountRefunded == ch.Amount
		a.emit(now, "charge.refunded", ch, nil)
		return ch.ID, nil
	case "update_dispute", "close_dispute":
		d := first(a.tables["disputes"], c.ID, func(d *dispute) bool { return undecided(d.Status) })
		if d == nil {
			return "", errNothingFits
		}
		before, event := map[string]any{"status": d.Status}, "charge.dispute.updated"
		d.Status = orElse(c.Status, "under_review")
		if c.Do == "close_dispute" {
			d.Status, event = orElse(c.Status, "lost"), "charge.dispute.closed"
		}
		a.emit(now, event, d, before)
		return d.ID, nil
	}
	return "", fmt.Errorf("not one of %v", Turns)
}

var errNothingFits = errors.New("nothing in the living world fits")

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// first is the newest living row that fits, or the one that id names if it fits.
func first[T object](t *table, id string, fits func(T) bool) (none T) {
	for _, o := range slices.Backward(t.rows) {
		if row := o.(T); (id == "" || o.meta().ID == id) && fits(row) {
			return row
		}
	}
	return none
}

func (a *account) turnInvoice(c Change, now int64) (string, error) {
	inv := first(a.tables["invoices"], c.ID, func(v *invoice) bool {
		open := v.Status == "open" && (v.Attempted || v.CollectionMethod == "send_invoice" || c.ID != "") || v.Status == "uncollectible" && c.Do != "mark_uncollectible"
		return open && a.pending(v) == nil && (c.ID != "" || v.TestClock == "") && (v.of.card != nil || c.Do == "pay_out_of_band" || c.Do == "void" || c.Do == "mark_uncollectible")
	})
	if inv == nil {
		return "", errNothingFits
	}
	k := inv.of
	switch c.Do {
	case "pay":
		k.card.dies, k.card.never, inv.welcome = 0, false, true // a card that pays from now on
		if !inv.Attempted {
			inv.AttemptCount++
		}
		if k.card.habit == bankDebit {
			k.card.habit = liquid
		}
		k.attempt(inv, k.card, now)
	case "pay_part":
		if c.Amount <= 0 || c.Amount >= inv.AmountRemaining {
			return "", fmt.Errorf("amount %d is no part of what remains", c.Amount)
		}
		k.payPart(inv, c.Amount, now)
	case "to_debit":
		// the customer leaves a bank account in place of the card, which is charged from now on
		k.card.habit, k.card.dies, inv.welcome = bankDebit, 0, c.Status != "bounces"
		if !inv.welcome {
			k.card.dies = now + 2*day // between the debit's beginning and its end
		}
	case "pay_out_of_band":
		inv.PaidOutOfBand = true
		k.markPaid(inv, now)
	case "void":
		k.void(inv, now)
	case "mark_uncollectible":
		k.writeOff(inv, now)
	}
	a.emit(now, "invoice.updated", inv, nil)
	return inv.ID, nil
}

// healthy says whether a contract is paid up and charged to a card that works, every month.
func (c *contract) healthy() bool {
	return c.sub.Status == "active" && c.sub.PauseCollection == nil && !c.sub.CancelAtPeriodEnd && c.sub.TestClock == "" && c.card != nil &&
		c.card.habit != bankDebit && c.card.dies == 0 && c.sub.CollectionMethod == "charge_automatically" &&
		c.price.Recurring.Interval == "month" && len(c.open) == 0 && !c.owes()
}

// owes says whether an invoice of the contract was given up.
func (c *contract) owes() bool {
	return slices.ContainsFunc(c.acc.tables["invoices"].rows, func(o object) bool {
		inv := o.(*invoice)
		return inv.of == c && (inv.Status == "open" || inv.Status == "uncollectible")
	})
}

func (a *account) contract(id string, fits func(*contract) bool) *contract {
	for _, c := range a.contracts {
		if c.sub.Created != 0 && (id == "" && fits(c) || id != "" && c.sub.ID == id) {
			return c
		}
	}
	return nil
}

func (a *account) turnSubscription(c Change, now int64) (string, error) {
	fits := (*contract).healthy
	if c.Do == "resume_collection" {
		fits = func(k *contract) bool { return k.sub.PauseCollection != nil }
	}
	k := a.contract(c.ID, fits)
	if k == nil {
		return "", errNothingFits
	}
	switch c.Do {
	case "same_card": // that another customer has, from the next charge on
		if k.card == nil || k.card.pm.Card == nil {
			return "", errNothingFits
		}
		used := *k.card.pm.Card
		used.Fingerprint = a.id("", 16, "fingerprint", "of everybody")
		k.card.pm.Card = &used
	case "new_card": // which pays, or with Status "declines" is as empty as the old one
		w := &author{acc: a, r: stream(a.world.seed, "new card", k.cust.ID, len(k.cust.wallet)), epoch: now, start: now + 30, customer: k.cust}
		own, subs := k.cust.InvoiceSettings, k.sub.DefaultPaymentMethod
		fresh := w.card(liquid)
		if c.Status == "declines" {
			fresh.dies, fresh.end = now, insufficientFunds
		}
		for _, inv := range k.open {
			inv.welcome = c.Status != "declines"
		}
		k.replaceCard(fresh)
		a.emit(now, "payment_method.attached", fresh.pm, nil)
		a.emit(now, "customer.updated", k.cust, map[string]any{"invoice_settings": own})
		if subs != k.sub.DefaultPaymentMethod {
			a.emit(now, "customer.subscription.updated", k.sub,
				map[string]any{"default_payment_method": subs})
		}
	case "fail_renewal":
		if k.card == nil || k.sub.CollectionMethod != "charge_automatically" {
			return "", errNothingFits
		}
		k.card.dies, k.card.end = now, insufficientFunds
		return k.billNow(now).ID, nil
	case "cancel":
		k.cancel(now)
	case "pause_collection":
		k.sub.PauseCollection = &pauseCollection{Behavior: orElse(c.Behavior, "void")}
		a.emit(now, "customer.subscription.updated", k.sub, map[string]any{"pause_collection": nil})
	case "resume_collection":
		before := map[string]any{"pause_collection": k.sub.PauseCollection}
		k.sub.PauseCollection = nil
		a.emit(now, "customer.subscription.updated", k.sub, before)
	}
	return k.sub.ID, nil
}

// billNow makes an invoice out of turn and charges it at once. It bills a time before the
// subscription began, which no other invoice does: with the time of another it would ask for the
// same thing once more.
func (c *contract) billNow(now int64) *invoice {
	inv := c.newInvoice(now, "subscription_cycle")
	c.extra++
	inv.Lines.Data[0].Period = period{month(c.sub.StartDate, -c.extra), month(c.sub.StartDate, 1-c.extra)}
	c.finalize(inv, now)
	return inv
}

// addRows makes so many paid invoices with their charges appear, so that a list grows while it is
// read. Nobody becomes a ghost by it and none ceases to be one.
func (s *Sandbox) addRows(a *account, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now().Unix()
	a.advance(now)
	c := a.contract("", (*contract).healthy)
	if c == nil {
		return
	}
	for range n {
		inv := c.newInvoice(now, "subscription_update")
		inv.welcome = true
		c.finalize(inv, now)
	}
	a.due = 1
	a.sortTables()
}
