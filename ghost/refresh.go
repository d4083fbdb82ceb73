package ghost

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/go-faster/jx"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"phantom/connect"
	"phantom/db"
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
// The caller may be a task that runs: were it to lock another that does, a heartbeat of both could
// come in between. So it joins only what waits.
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
	return unhurried(ctx, s.Refresh(ranked(ctx, t), t.MerchantID, p.Subscription))
}

// unhurried lets a task wait where Stripe fails or asks for fewer requests: that is no failed try. Eight of those would leave the task to
// a person after a quarter of an hour, and what it was to bring, the end of a hunt among it, would come no more. What the merchant's token may not read is
// one: waiting gives no permission, and a person does.
func unhurried(ctx context.Context, err error) error {
	var read *connect.ReadError
	switch {
	case ctx.Err() != nil, !errors.As(err, &read), errors.Is(err, connect.ErrRevoked), errors.Is(err, connect.ErrNotFound),
		errors.Is(err, connect.ErrForbidden):
		return err
	case read.SlowDown:
		return task.Snooze(slowDown)
	}
	return task.Snooze(outage)
}

// outage is how long a task waits that Stripe gives no usable answer, after all that the reader has tried.
const outage = time.Minute

// errOvertaken says that an audit began after we did: what it reads is newer than what we have.
var errOvertaken = errors.New("an audit began in the meantime")

// Refresh reads one subscription with its debts from Stripe, judges it and writes what has changed, unless somebody who began later
// has written already. It may run any number of times, in any order.
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
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
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
		// Of closed ghosts too: a payment after a hunt's end is counted, and lifts its pause.
		ids := make([]uuid.UUID, len(subject.known))
		for i, g := range subject.known {
			ids[i] = g.ID
		}
		return s.tellHunts(ctx, tx, merchant, ids)
	})
}

// keepCardAttempts lets no refresh lower what an audit has counted on the same card. An audit sees the whole account, a refresh only
// the customer's own charges, because Stripe lists none by card: the same card may pay for another customer. A limit of the networks
// had better be reached too early than too late; what is too many by then, the next audit sets right.
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

// triedSince counts the attempts on a finding's card, for the subscription's unpaid invoices, that came after the last one which its ghost
// knew of: they are not among those that an audit has counted.
func (s subject) triedSince(f Finding, g db.GhostTarget) (n int32) {
	if g.LastFailedAt == nil {
		return 0
	}
	for _, d := range s.debts {
		for _, a := range d.Attempts {
			if a.At.After(*g.LastFailedAt) && a.Outcome == "failed" && bytes.Equal(a.Card, f.Card) {
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

// subject reads the subscription, its newest invoices and all its unpaid ones, and the attempts for those that are unpaid or a known
// ghost's. A subscription that Stripe does not know has no status.
func (r *rereading) subject(ctx context.Context, id string, known []db.GhostTarget) (subject, error) {
	var sub subscription
	var invoices []invoice
	var group errgroup.Group
	group.Go(func() error {
		err := r.reader.Get(ctx, "/v1/subscriptions/"+url.PathEscape(id), nil, func(d *jx.Decoder) error {
			sub = subscription{}
			return sub.decode(d)
		})
		if errors.Is(err, connect.ErrNotFound) {
			sub, err = subscription{ID: id}, nil
		}
		return err
	})
	group.Go(func() (err error) { invoices, err = r.invoices(ctx, id); return err })
	if err := group.Wait(); err != nil {
		return subject{}, err
	}
	s := subject{subscription: Subscription{ID: id, Customer: sub.Customer, Status: sub.Status, Paused: sub.Paused}}
	if sub.testClock {
		return s, nil
	}
	var attempts []*attemptsOf
	for _, i := range invoices {
		if i.Status == "draft" || i.testClock {
			continue
		}
		s.debts = append(s.debts, Debt{
			Invoice: i.ID, Currency: i.Currency, Status: i.Status, Email: i.Email, Remaining: i.Remaining, Created: at(i.created), Due: i.dueAt(),
			SendInvoice: i.SendInvoice, OutOfBand: i.OutOfBand, AttemptCount: i.AttemptCount, Intent: i.Intent,
		})
		wanted := i.unpaid() || slices.ContainsFunc(known, func(g db.GhostTarget) bool { return g.StripeInvoiceID == i.ID })
		if wanted && i.intentID != "" {
			attempts = append(attempts, &attemptsOf{debt: len(s.debts) - 1, intent: i.intentID})
		}
	}
	var recent []charge
	for _, a := range attempts {
		group.Go(func() (err error) {
			a.charges, err = r.charges(ctx, url.Values{"payment_intent": {a.intent}})
			return err
		})
	}
	if len(attempts) > 0 && sub.Customer != "" {
		group.Go(func() (err error) {
			recent, err = r.charges(ctx, url.Values{
				"customer": {sub.Customer}, "created[gte]": {strconv.FormatInt(r.now.AddDate(0, 0, -budgetDays).Unix(), 10)},
			})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return subject{}, err
	}
	r.seen = cardAttempts{hash: r.reader.Hash, from: r.now.AddDate(0, 0, -budgetDays).Unix()}
	for _, c := range recent {
		r.seen.add(&c)
	}
	for _, a := range attempts {
		r.addAttempts(&s.debts[a.debt], a.charges)
		for _, c := range a.charges {
			r.seen.add(&c)
		}
	}
	r.countCards(s.debts, recent)
	return s, nil
}

// attemptsOf are the charges of one debt.
type attemptsOf struct {
	debt    int
	intent  string
	charges []charge
}

// invoices are the newest of a subscription, and where there are more than a page also all that are unpaid.
func (r *rereading) invoices(ctx context.Context, subscription string) ([]invoice, error) {
	query := url.Values{"subscription": {subscription}, "expand[]": {"data.payment_intent"}}
	all, more, err := list(ctx, r.reader, "/v1/invoices", query, 1, (*invoice).decode, func(i *invoice) string { return i.ID })
	if errors.Is(err, connect.ErrNotFound) {
		return nil, nil
	}
	if err != nil || !more {
		return all, err
	}
	for _, status := range []string{"open", "uncollectible"} {
		query.Set("status", status)
		older, _, err := list(ctx, r.reader, "/v1/invoices", query, 10, (*invoice).decode, func(i *invoice) string { return i.ID })
		if err != nil {
			return nil, err
		}
		for _, i := range older {
			if !slices.ContainsFunc(all, func(x invoice) bool { return x.ID == i.ID }) {
				all = append(all, i)
			}
		}
	}
	return all, nil
}

func (r *rereading) charges(ctx context.Context, query url.Values) ([]charge, error) {
	query.Set("expand[]", "data.dispute")
	all, _, err := list(ctx, r.reader, "/v1/charges", query, 5, (*charge).decode, func(c *charge) string { return c.id })
	return all, err
}

// addAttempts adds the charges of a debt, which Stripe lists newest first.
func (r *rereading) addAttempts(d *Debt, charges []charge) {
	for _, c := range slices.Backward(charges) {
		a := Attempt{At: at(c.created), Outcome: c.outcome()}
		if a.Outcome == "failed" || a.Outcome == "blocked" {
			a.Class, a.Code = c.decline()
			a.Zone = zoneToStore(&c, r.reader.Merchant)
		}
		if c.fingerprint != "" && (a.Class != "" || c.created > r.now.AddDate(0, 0, -budgetDays-1).Unix()) {
			a.Card = r.reader.Hash("card", c.fingerprint)
		}
		d.Attempts = append(d.Attempts, a)
		d.Refunded = d.Refunded || c.refunded
		d.Disputed = d.Disputed || isOpen(c.disputeStatus)
	}
}

// countCards counts the recent attempts on each debt's last card.
func (r *rereading) countCards(debts []Debt, recent []charge) {
	for i := range debts {
		d := &debts[i]
		if len(d.Attempts) == 0 || d.Attempts[len(d.Attempts)-1].Card == nil {
			continue
		}
		last := d.Attempts[len(d.Attempts)-1].Card
		for _, c := range recent {
			if c.outcome() == "failed" && c.fingerprint != "" && slices.Equal(r.reader.Hash("card", c.fingerprint), last) {
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
