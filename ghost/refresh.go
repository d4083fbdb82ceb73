package ghost

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/go-faster/jx"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/billing"
	"phantom/connect"
	"phantom/db"
	"phantom/debt"
	"phantom/oracle"
	"phantom/state"
	"phantom/task"
)

// KindRefresh is the kind of the task that reads one subscription anew.
const KindRefresh = "refresh"

type refreshParams struct {
	Subscription string `json:"subscription"`
}

// RefreshLater has a subscription read anew by a task.
func (s *Service) RefreshLater(ctx context.Context, merchantID uuid.UUID, subscription string) error {
	hash, err := s.connect.Hasher(ctx, merchantID)
	if err != nil {
		return err
	}
	return task.Join(ctx, s.pool, refreshOf(merchantID, hash, subscription))
}

// RefreshIn has a subscription read anew by a task, once the caller's transaction has committed.
// It joins what waits alone: one that runs could not be settled before the caller commits. It may
// begin to run in between; a heartbeat of both then waits for neither.
func RefreshIn(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, subscription string) error {
	hash, err := connect.HasherIn(ctx, tx, merchantID)
	if err != nil {
		return err
	}
	refresh := refreshOf(merchantID, hash, subscription)
	runs, err := db.New(tx).TaskKeyRuns(ctx, db.TaskKeyRunsParams{MerchantID: merchantID, Kind: KindRefresh, UniqueKey: refresh.UniqueKey})
	if err != nil {
		return fmt.Errorf("look for a refresh that runs: %w", err)
	}
	if !runs {
		return task.Join(ctx, tx, refresh)
	}
	refresh.UniqueKey = ""
	_, err = task.Enqueue(ctx, tx, refresh)
	return err
}

// refreshOf is the one task that reads a subscription for all who ask. Its key is the
// subscription's keyed hash.
func refreshOf(merchantID uuid.UUID, hash func(subject, value string) []byte, subscription string) task.New {
	return task.New{
		MerchantID: merchantID, Kind: KindRefresh, Params: refreshParams{subscription},
		UniqueKey: fmt.Sprintf("%x", hash("subscription", subscription)),
	}
}

// HandleRefresh is the handler of [KindRefresh].
func (s *Service) HandleRefresh(ctx context.Context, t *task.Task) error {
	var p refreshParams
	if err := json.Unmarshal(t.Params, &p); err != nil || p.Subscription == "" {
		return task.Review(errors.New("the task's params name no subscription"))
	}
	return connect.Unhurried(ctx, s.Refresh(ranked(ctx, t), t.MerchantID, p.Subscription))
}

// errOvertaken says that an audit began after we did: what it reads is newer than what we have.
var errOvertaken = errors.New("an audit began in the meantime")

// Refresh reads one subscription with its debts from Stripe, judges it and writes what has changed,
// unless somebody who began later has written already. It may run any number of times, in any
// order.
func (s *Service) Refresh(ctx context.Context, merchantID uuid.UUID, subscription string) error {
	reader, err := s.connect.Reader(ctx, merchantID)
	if err != nil {
		return err
	}
	for range 5 {
		if err = s.refresh(ctx, reader, subscription); !errors.Is(err, errOvertaken) {
			break
		}
	}
	return err
}

func (s *Service) refresh(ctx context.Context, reader *connect.Reader, id string) error {
	merchant := reader.Merchant.ID
	ticket, err := s.queries.GhostTicket(ctx)
	if err != nil {
		return fmt.Errorf("take a ticket: %w", err)
	}
	known, err := s.queries.GhostListOfSubscription(ctx, db.GhostListOfSubscriptionParams{MerchantID: merchant, StripeSubscriptionID: id})
	if err != nil {
		return fmt.Errorf("list ghosts: %w", err)
	}
	now, err := s.queries.Now(ctx)
	if err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	read := &rereading{reader: reader, now: now}
	subject, err := read.subject(ctx, id, known)
	if err != nil {
		return err
	}
	return db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		live, err := queries.GhostShareMerchant(ctx, merchant)
		if err := inMode(reader.Merchant.Livemode, live, err); err != nil {
			return err
		}
		newest, err := queries.GhostNewestAudit(ctx, merchant)
		if err != nil {
			return err
		}
		if newest.Ticket > ticket {
			return errOvertaken
		}
		ours, err := queries.GhostClaimRefresh(ctx, db.GhostClaimRefreshParams{
			MerchantID: merchant, Subscription: reader.Hash("subscription", id), Ticket: ticket,
		})
		if err != nil || ours == 0 {
			return err
		}
		subject.known, err = queries.GhostListOfSubscription(ctx, db.GhostListOfSubscriptionParams{MerchantID: merchant, StripeSubscriptionID: id})
		if err != nil {
			return err
		}
		now, err := queries.Now(ctx)
		if err != nil {
			return err
		}
		found, _ := Judge(subject.subscription, subject.debts, provenIn(subject.known), now)
		if newest.Counted {
			keepCardAttempts(found, subject, now)
		}
		w := &writing{s: s, hash: reader.Hash, merchant: merchant, live: live, ticket: ticket}
		w.add(subject, found)
		w.lookAgain(subject, now)
		if err := w.store(ctx, tx, nil); err != nil {
			return err
		}
		if err := read.seen.store(ctx, queries, merchant); err != nil {
			return err
		}
		if err := oracle.KeepMemories(ctx, tx, merchant, w.memories(subject)); err != nil {
			return err
		}
		// Of closed ghosts too: a payment after a hunt's end is counted, and lifts its pause.
		ids := make([]uuid.UUID, len(subject.known))
		for i, g := range subject.known {
			ids[i] = g.ID
		}
		if err := s.tellHunts(ctx, tx, merchant, ids); err != nil {
			return err
		}
		if err := s.tellApp(ctx, tx, w, subject); err != nil {
			return err
		}
		return s.tellShield(ctx, tx, w, []telling{{subject: subject}}, now)
	})
}

// keepCardAttempts lets no refresh lower what an audit has counted on the same card. An audit sees
// the whole account, a refresh only the customer's own charges, because Stripe lists none by card:
// the same card may pay for another customer. A limit of the networks had better be reached too
// early than too late; what is too many by then, the next audit sets right.
func keepCardAttempts(found []Finding, s subject, now time.Time) {
	since := now.AddDate(0, 0, -budgetDays)
	for i := range found {
		f := &found[i]
		for _, g := range s.known {
			if s.is(g, *f) && len(f.Card) > 0 && bytes.Equal(g.Card, f.Card) && (g.ClosedAt == nil || g.ClosedAt.After(since)) {
				f.CardAttempts = max(f.CardAttempts, g.CardAttempts+s.triedSince(*f, g))
			}
		}
	}
}

// triedSince counts the attempts on a finding's card, for its own invoices, that came after the
// last one which its ghost knew of: they are not among those that an audit has counted. Those for
// others, which the ghost never knew of, may be.
func (s subject) triedSince(f Finding, g db.GhostTarget) (n int32) {
	if g.LastFailedAt == nil {
		return 0
	}
	for _, d := range s.debts {
		if !slices.ContainsFunc(f.Invoices, func(i debt.Invoice) bool { return i.ID == d.Invoice }) {
			continue
		}
		for _, a := range d.Attempts {
			if a.At.After(*g.LastFailedAt) && a.Outcome == billing.ChargeFailed && bytes.Equal(a.Card, f.Card) {
				n++
			}
		}
	}
	return n
}

// rereading reads one subscription with what decides about it.
type rereading struct {
	reader *connect.Reader
	now    time.Time
	seen   cardAttempts
}

// mostPages bounds a list: so many pages hold years of a customer who is charged each hour.
const mostPages = 50

// disputeLife is how long after a charge a bank may still take it back.
const disputeLife = 540 * 24 * time.Hour

// both does two readings at a time. Neither is broken off by the other's failure, so that what is
// said of the two does not rest on which was faster.
func both(one, other func() error) error {
	var group sync.WaitGroup
	var failed error
	group.Go(func() { failed = other() })
	err := one()
	group.Wait()
	return errors.Join(err, failed)
}

// subject reads the subscription with its invoices, and all charges of its customer that may belong
// to one that is unpaid, contested, or a known ghost's. What of an invoice was tried is told by its
// charges, as in an audit, and not by its payment intent: it may have had several. A subscription
// that Stripe does not know has no status.
func (r *rereading) subject(ctx context.Context, id string, known []db.GhostTarget) (subject, error) {
	var sub subscription
	var invoices []invoice
	if err := both(func() error {
		query := url.Values{"expand[]": {"customer"}}
		err := r.reader.Get(ctx, "/v1/subscriptions/"+url.PathEscape(id), query, func(d *jx.Decoder) error {
			sub = subscription{}
			return sub.decode(d)
		})
		if errors.Is(err, connect.ErrNotFound) {
			sub, err = subscription{ID: id}, nil
		}
		return err
	}, func() (err error) { invoices, err = r.invoices(ctx, id, known); return err }); err != nil {
		return subject{}, err
	}
	s := subject{subscription: Subscription{
		ID: id, Customer: sub.Customer, Status: sub.Status, Paused: sub.Paused, Leaving: sub.Leaving, Ignored: sub.Ignored,
		Products: sub.Products, Prices: sub.Prices, Pause: sub.pause, ByUs: sub.byUs, EndedAt: sub.ended(),
		Monthly: sub.monthly, Currency: sub.currency,
	}, testClock: sub.testClock}
	if sub.testClock {
		return s, nil
	}
	invoices = slices.DeleteFunc(invoices, func(i invoice) bool { return i.Status == billing.InvoiceDraft || i.testClock })
	for _, i := range invoices {
		s.debts = append(s.debts, debtOfInvoice(i))
	}
	oldest, owing := oldestOwing(invoices, known)
	if !owing || sub.Customer == "" {
		return s, nil
	}
	if from := r.now.Add(-disputeLife); from.Before(oldest) {
		oldest = from
	}
	var charges []charge
	if err := both(func() (err error) {
		charges, err = r.charges(ctx, sub.Customer, oldest)
		return err
	}, func() (err error) {
		s.subscription.Resubscribed, err = r.resubscribed(ctx, &sub)
		return err
	}); err != nil {
		return subject{}, err
	}
	s.memory = remembered(invoices, charges, r.now)
	r.addAttempts(s.debts, invoices, charges)
	return s, nil
}

// remembered is what the oracle remembers of a customer by their charges, the newest first. In
// newer versions a charge names its invoice by the payment intent alone.
func remembered(invoices []invoice, charges []charge, now time.Time) *oracle.Memory {
	named := make(map[string]string) // invoices by their payment intents
	for _, i := range invoices {
		for _, intent := range i.payments {
			named[intent] = i.ID
		}
	}
	var seen []oracle.Seen
	for _, c := range slices.Backward(charges) {
		one := oracle.Seen{At: at(c.created), Invoice: cmp.Or(named[c.sequence()], c.sequence()), Brand: c.brand, Funding: c.funding}
		switch c.outcome() {
		case billing.ChargeFailed:
			one.Class, one.Code = c.decline()
		case billing.ChargeSucceeded:
		default:
			continue
		}
		seen = append(seen, one)
	}
	memory := oracle.Remember(seen, now)
	return &memory
}

// debtOfInvoice is what an invoice says of a debt, without its attempts.
func debtOfInvoice(i invoice) Debt {
	d := Debt{
		Invoice: i.ID, Currency: i.Currency, Status: i.Status, Remaining: i.Remaining, Created: at(i.created), Due: i.dueAt(),
		SendInvoice: i.SendInvoice, OutOfBand: i.OutOfBand, AttemptCount: i.AttemptCount, Intent: i.Intent, Lines: i.Lines, Separate: i.Separate,
	}
	if i.Status != billing.InvoiceOpen {
		d.Intent = "" // it decides only there, and an audit asks for no other
	}
	if i.unpaid() { // nobody is written to about others
		d.Email = i.Email
	}
	if i.to > i.from {
		d.From, d.To = ptr(at(i.from)), ptr(at(i.to))
	}
	return d
}

// oldestOwing says when the oldest of these invoices was made that is unpaid, contested, or a known
// ghost's, and whether there is one.
func oldestOwing(invoices []invoice, known []db.GhostTarget) (oldest time.Time, owing bool) {
	for _, i := range invoices {
		if !i.unpaid() && !i.disputed && !slices.ContainsFunc(known, func(g db.GhostTarget) bool { return g.StripeInvoiceID == i.ID }) {
			continue
		}
		if created := at(i.created); !owing || created.Before(oldest) {
			oldest = created
		}
		owing = true
	}
	return oldest, owing
}

// addAttempts adds the charges to the debts, which are those of the invoices, in their order.
func (r *rereading) addAttempts(debts []Debt, invoices []invoice, charges []charge) {
	r.seen = cardAttempts{hash: r.reader.Hash, from: r.now.AddDate(0, 0, -budgetDays).Unix()}
	place := make(map[string]int) // by the id of an invoice, or of a payment intent that it names
	for n, i := range invoices {
		place[i.ID] = n
		for _, intent := range i.payments {
			place[intent] = n
		}
	}
	for _, c := range slices.Backward(charges) { // Stripe lists the newest first
		r.seen.add(&c)
		if n, of := place[c.sequence()]; of {
			r.addAttempt(&debts[n], &c)
		}
	}
	r.countCards(debts, charges)
}

// invoices are the newest of a subscription, all that are unpaid, all that are not older than
// these, and those of its known ghosts.
func (r *rereading) invoices(ctx context.Context, subscription string, known []db.GhostTarget) (all []invoice, err error) {
	id := func(i *invoice) string { return i.ID }
	query := url.Values{"subscription": {subscription}, "expand[]": {"data.payment_intent", "data.charge"}}
	all, more, err := list(ctx, r.reader, "/v1/invoices", query, 1, (*invoice).decode, id)
	if errors.Is(err, connect.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	add := func(some []invoice) {
		for _, i := range some {
			if !slices.ContainsFunc(all, func(x invoice) bool { return x.ID == i.ID }) {
				all = append(all, i)
			}
		}
	}
	if more {
		last := all[len(all)-1]
		oldest := last.created
		for _, status := range []string{billing.InvoiceOpen, billing.InvoiceUncollectible} {
			query.Set("status", status)
			unpaid, _, err := list(ctx, r.reader, "/v1/invoices", query, mostPages, (*invoice).decode, id)
			if err != nil {
				return nil, err
			}
			for _, i := range unpaid {
				if i.unpaid() {
					oldest = min(oldest, i.created)
				}
			}
			add(unpaid)
		}
		if oldest < last.created { // the same may have been billed twice then, and paid
			query.Del("status")
			query.Set("starting_after", last.ID)
			query.Set("created[gte]", strconv.FormatInt(oldest, 10))
			between, _, err := list(ctx, r.reader, "/v1/invoices", query, mostPages, (*invoice).decode, id)
			if err != nil {
				return nil, err
			}
			add(between)
		}
	}
	for _, g := range known {
		if g.Status != state.GhostOpen && (g.ClosedReason == nil || *g.ClosedReason != debt.PaymentUnderWay) {
			continue
		}
		for _, owed := range append(owedInvoices(g), debt.Invoice{ID: g.StripeInvoiceID}) {
			if slices.ContainsFunc(all, func(i invoice) bool { return i.ID == owed.ID }) {
				continue
			}
			one, err := r.invoice(ctx, owed.ID)
			if err != nil {
				return nil, err
			}
			add(one)
		}
	}
	return all, nil
}

// invoice is one invoice, or none where Stripe does not know it.
func (r *rereading) invoice(ctx context.Context, id string) (list []invoice, err error) {
	query := url.Values{"expand[]": {"payment_intent", "charge"}}
	err = r.reader.Get(ctx, "/v1/invoices/"+url.PathEscape(id), query, func(d *jx.Decoder) error {
		list = make([]invoice, 1)
		return list[0].decode(d)
	})
	if errors.Is(err, connect.ErrNotFound) {
		return nil, nil
	}
	return list, err
}

// charges are those of a customer since a time, with their disputes.
func (r *rereading) charges(ctx context.Context, customer string, since time.Time) ([]charge, error) {
	query := url.Values{
		"customer": {customer}, "created[gte]": {strconv.FormatInt(since.Unix(), 10)}, "expand[]": {"data.dispute"},
	}
	all, _, err := list(ctx, r.reader, "/v1/charges", query, mostPages, (*charge).decode, func(c *charge) string { return c.id })
	return all, err
}

// resubscribed says whether the customer has a newer subscription to one of the same products that
// is alive.
func (r *rereading) resubscribed(ctx context.Context, of *subscription) (bool, error) {
	query := url.Values{"customer": {of.Customer}, "status": {"all"}}
	all, _, err := list(ctx, r.reader, "/v1/subscriptions", query, mostPages, (*subscription).decode, func(s *subscription) string { return s.ID })
	return slices.ContainsFunc(all, func(s subscription) bool {
		return s.created > of.created && billing.IsLive(s.Status) && !s.testClock &&
			slices.ContainsFunc(s.Products, func(product string) bool { return slices.Contains(of.Products, product) })
	}), err
}

// addAttempt adds a charge to its debt.
func (r *rereading) addAttempt(d *Debt, c *charge) {
	a := Attempt{At: at(c.created), Outcome: c.outcome()}
	if a.Outcome == billing.ChargeFailed || a.Outcome == billing.ChargeBlocked {
		a.Class, a.Code = c.decline()
		a.Zone, a.Country = zoneToStore(c, r.reader.Merchant), c.placed()
	}
	if c.fingerprint != "" && (a.Class != "" || c.created > r.now.AddDate(0, 0, -budgetDays-1).Unix()) {
		a.Card = r.reader.Hash("card", c.fingerprint)
	}
	d.Attempts = append(d.Attempts, a)
	d.Refunded = d.Refunded || c.refunded
	if !c.disputed {
		return
	}
	d.Disputed = d.Disputed || billing.DisputeIsOpen(c.disputeStatus)
	if billing.DisputeIsLost(c.disputeStatus) {
		d.Lost += c.disputeAmount
		if began := at(c.disputeCreated); began.After(d.LostAt) {
			d.LostAt = began
		}
	}
}

// countCards counts the recent attempts on each debt's last card.
func (r *rereading) countCards(debts []Debt, charges []charge) {
	for i := range debts {
		d := &debts[i]
		if len(d.Attempts) == 0 || d.Attempts[len(d.Attempts)-1].Card == nil {
			continue
		}
		last := d.Attempts[len(d.Attempts)-1].Card
		for _, c := range charges {
			recent := c.created > r.now.AddDate(0, 0, -budgetDays).Unix()
			if recent && c.outcome() == billing.ChargeFailed && c.fingerprint != "" && slices.Equal(r.reader.Hash("card", c.fingerprint), last) {
				d.CardAttempts++
			}
		}
	}
}

// list reads a list of Stripe's, newest first, most pages at most.
func list[T any](ctx context.Context, reader *connect.Reader, path string, query url.Values, most int,
	decode func(*T, *jx.Decoder) error, id func(*T) string) (all []T, more bool, err error) {
	query = maps.Clone(query)
	query.Set("limit", strconv.Itoa(pageSize))
	for range most {
		kept := len(all)
		err := reader.Get(ctx, path, query, func(d *jx.Decoder) error {
			all, more = all[:kept], false
			return fields(d, func(d *jx.Decoder, key string) error {
				switch key {
				case "has_more":
					return truth(d, &more)
				case "data":
					return d.Arr(func(d *jx.Decoder) error {
						var one T
						err := decode(&one, d)
						all = append(all, one)
						return err
					})
				}
				return d.Skip()
			})
		})
		if err != nil || !more || len(all) == kept {
			return all, more, err
		}
		query.Set("starting_after", id(&all[len(all)-1]))
	}
	return all, more, nil
}
