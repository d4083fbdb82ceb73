package ghost

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-faster/jx"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/connect"
	"phantom/db"
	"phantom/task"
	"phantom/trail"
)

// KindWebhook is the kind of the task that does what an event asks for.
const KindWebhook = "webhook"

// Event is what is taken from an event of Stripe's whose signature has been verified. All of it but
// the account is a hint about what to read: what it says about the object is not taken.
type Event struct {
	ID       string
	Type     string
	Account  string // "" for an event of the platform's own
	Created  time.Time
	Livemode bool

	// Of the object. The last four are "" where it has none.
	ObjectID     string
	Subscription string
	Invoice      string
	Charge       string
	Customer     string // of a payment method that was detached, the one that had it
}

// ErrInvalidEvent says that an event cannot be read or lacks what an event of its type has.
var ErrInvalidEvent = errors.New("the event is malformed or names no object")

const deauthorized = "account.application.deauthorized"

// EventTypes are all that an endpoint has to listen to, in Stripe's order. README.md lists them
// too.
var EventTypes = []string{
	"account.application.deauthorized",
	"charge.dispute.closed", "charge.dispute.created", "charge.dispute.funds_reinstated", "charge.dispute.funds_withdrawn",
	"charge.dispute.updated", "charge.failed", "charge.refunded",
	"customer.deleted", "customer.source.created", "customer.source.deleted", "customer.source.expiring",
	"customer.source.updated", "customer.subscription.created", "customer.subscription.deleted",
	"customer.subscription.paused", "customer.subscription.resumed", "customer.subscription.updated", "customer.updated",
	"invoice.marked_uncollectible", "invoice.paid", "invoice.payment_action_required", "invoice.payment_failed",
	"invoice.updated", "invoice.voided",
	"payment_method.attached", "payment_method.automatically_updated", "payment_method.detached", "payment_method.updated",
}

// isUsed reports the types of events that may change a ghost or a merchant.
func isUsed(kind string) bool {
	return slices.Contains(EventTypes, kind) || familyShape.MatchString(kind)
}

// isCustomers reports the types of events that name a customer and no debt: how they pay has
// changed, or they are gone.
func isCustomers(kind string) bool {
	return kind == "customer.updated" || kind == customerDeleted || strings.HasPrefix(kind, "customer.source.") ||
		strings.HasPrefix(kind, "payment_method.")
}

const customerDeleted = "customer.deleted"

// goesFirst reports the types of events that may end a hunt or close a ghost.
func goesFirst(kind string) bool {
	switch kind {
	case "invoice.paid", "invoice.voided", "invoice.marked_uncollectible", "charge.refunded", "customer.subscription.deleted",
		customerDeleted:
		return true
	}
	return strings.HasPrefix(kind, "charge.dispute.")
}

var familyShape = regexp.MustCompile(`^(customer\.subscription|charge\.dispute)\.[a-z_]{1,64}$`)

// idShape is any id of Stripe's that a path may hold.
var idShape = regexp.MustCompile(`^[A-Za-z0-9_]{1,255}$`)

func idOrNone(id string) string {
	if !idShape.MatchString(id) {
		return ""
	}
	return id
}

// webhookParams are the params of [KindWebhook]. Of the last three, one at most is needed: the one
// nearest to the subscription.
type webhookParams struct {
	Event        string `json:"event"`
	Type         string `json:"type"`
	Object       string `json:"object"`
	Subscription string `json:"subscription,omitempty"`
	Invoice      string `json:"invoice,omitempty"`
	Charge       string `json:"charge,omitempty"`
}

func (e Event) params() webhookParams {
	p := webhookParams{
		Event: e.ID, Type: e.Type, Object: e.ObjectID,
		Subscription: idOrNone(e.Subscription), Invoice: idOrNone(e.Invoice), Charge: idOrNone(e.Charge),
	}
	switch {
	case strings.HasPrefix(e.Type, "customer.subscription."):
		p.Subscription = e.ObjectID
	case strings.HasPrefix(e.Type, "invoice."):
		p.Invoice = e.ObjectID
	case e.Type == "charge.refunded", e.Type == "charge.failed":
		p.Charge = e.ObjectID
	}
	return p
}

// nearest is the object from which the way to the subscription is the shortest.
func (p webhookParams) nearest() (subject, id string) {
	switch {
	case p.Invoice != "":
		return "invoice", p.Invoice
	case p.Charge != "":
		return "charge", p.Charge
	}
	return "dispute", p.Object
}

// Receive stores an event and enqueues what it asks for, in one transaction, or disconnects the
// merchant there and then. It may be called any number of times for one event, with one effect. It
// reports false for an event that is none of our business: of a type that changes nothing here, of
// an account that is not connected or in the other mode, or a deauthorization older than the
// connection. It fails with [ErrInvalidEvent].
func (s *Service) Receive(ctx context.Context, e Event) (received bool, err error) {
	if !isUsed(e.Type) || !idShape.MatchString(e.Account) {
		return false, nil
	}
	if !idShape.MatchString(e.ID) || !idShape.MatchString(e.ObjectID) {
		return false, ErrInvalidEvent
	}
	// Stripe hanging up must not cost the pool a connection, which a cancelled statement does.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cmp.Or(s.DatabaseTimeout, 4*time.Second))
	defer cancel()
	merchant, err := s.queries.WebhookMerchantGet(ctx, db.WebhookMerchantGetParams{Account: e.Account, EventID: e.ID})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("find the event's merchant: %w", err)
	case merchant.Livemode != e.Livemode:
		return false, nil
	case merchant.Seen:
		return true, nil
	case merchant.Disconnected:
		return false, nil
	}
	var hash func(subject, value string) []byte
	if e.Type != deauthorized { // which must not fail for want of a key
		if hash, err = s.connect.Hasher(ctx, merchant.ID); err != nil {
			return false, fmt.Errorf("open the merchant's salt: %w", err)
		}
	}
	disconnected := false
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		added, err := db.New(tx).WebhookEventCreate(ctx, db.WebhookEventCreateParams{
			MerchantID: merchant.ID, ID: e.ID, Type: e.Type, Account: e.Account, ObjectID: e.ObjectID, CreatedAt: e.Created,
		})
		if err != nil {
			return fmt.Errorf("store event: %w", err)
		}
		if added == 0 { // another delivery was faster
			return nil
		}
		if e.Type != deauthorized {
			// First, for the order of locks: the shield's rows come before the refresh's task.
			if err := s.announcePayment(ctx, tx, merchant.ID, e); err != nil {
				return err
			}
			return s.follow(ctx, tx, merchant.ID, hash, e)
		}
		disconnected, err = s.connect.Disconnect(trail.By(ctx, trail.Stripe), tx, e.Account, e.Created)
		if err == nil && !disconnected {
			err = errOutdated
		}
		return err
	})
	switch {
	case errors.Is(err, errOutdated):
		s.log.Info("[SECURITY] a deauthorization older than the connection is ignored", "account", e.Account, "event", e.ID)
		return false, nil
	case err != nil:
		return false, err
	case disconnected:
		s.log.Warn("[SECURITY] merchant disconnected: tokens forgotten, tasks parked", "account", e.Account, "event", e.ID)
	}
	return true, nil
}

// follow has everything read anew that an event is about. What many events ask for at once is read
// once.
func (s *Service) follow(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, hash func(subject, value string) []byte, e Event) error {
	if isCustomers(e.Type) {
		return s.followCustomer(ctx, tx, merchantID, hash, e)
	}
	p := e.params()
	if p.Subscription != "" {
		return s.joinRefresh(ctx, tx, merchantID, hash, p.Subscription, goesFirst(e.Type))
	}
	subject, id := p.nearest()
	return task.Join(ctx, tx, task.New{
		MerchantID: merchantID, Kind: KindWebhook, Params: p, UniqueKey: fmt.Sprintf("%x", hash(subject, id)), First: goesFirst(e.Type),
	})
}

// spacing is how soon after a reading a subscription is read again because an event has come. The
// first event of a burst is answered at once, and the others together.
type spacing struct{ first, others time.Duration }

var defaultSpacing = spacing{first: 500 * time.Millisecond, others: 2 * time.Second}

// joinRefresh has a subscription read anew because of an event.
func (s *Service) joinRefresh(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, hash func(subject, value string) []byte,
	subscription string, first bool) error {
	refresh := refreshOf(merchantID, hash, subscription)
	refresh.First, refresh.Pause = first, s.spacing.others
	if first {
		refresh.Pause = s.spacing.first
	}
	seconds, err := db.New(tx).GhostSecondsSinceRefresh(ctx, db.GhostSecondsSinceRefreshParams{
		MerchantID: merchantID, Subscription: hash("subscription", subscription),
	})
	if err != nil {
		return fmt.Errorf("look when it was read: %w", err)
	}
	refresh.Wait = min(max(refresh.Pause-time.Duration(seconds*float64(time.Second)), 0), refresh.Pause)
	return task.Join(ctx, tx, refresh)
}

// followCustomer has the subscriptions of a customer's ghosts read anew, and tells their hunts. Of
// most customers there are none, and nothing is read.
func (s *Service) followCustomer(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, hash func(subject, value string) []byte, e Event) error {
	customer := idOrNone(e.Customer)
	if strings.HasPrefix(e.Type, "customer.") && !strings.HasPrefix(e.Type, "customer.source.") {
		customer = e.ObjectID
	}
	if customer == "" { // the event does not say who had the payment method
		return nil
	}
	known, err := db.New(tx).GhostListOfCustomer(ctx, db.GhostListOfCustomerParams{MerchantID: merchantID, StripeCustomerID: customer})
	if err != nil {
		return fmt.Errorf("list the customer's ghosts: %w", err)
	}
	if len(known) == 0 {
		return nil
	}
	// The hunts come first: a transaction that has locked one may be about to join its
	// subscription's refresh.
	if e.Type != customerDeleted && s.Hunts != nil {
		ids := make([]uuid.UUID, len(known))
		for i, g := range known {
			ids[i] = g.ID
		}
		if err := s.Hunts.MethodsChanged(ctx, tx, merchantID, ids); err != nil {
			return fmt.Errorf("tell the customer's hunts: %w", err)
		}
	}
	for i, g := range known {
		if i > 0 && g.StripeSubscriptionID == known[i-1].StripeSubscriptionID {
			// in another currency, or of another kind
			continue
		}
		if err := s.joinRefresh(ctx, tx, merchantID, hash, g.StripeSubscriptionID, goesFirst(e.Type)); err != nil {
			return err
		}
	}
	return nil
}

var errOutdated = errors.New("the merchant has connected since, or has left before")

// HandleEvent is the handler of [KindWebhook]: it finds the subscription that an event is about and
// has it read anew.
func (s *Service) HandleEvent(ctx context.Context, t *task.Task) error {
	return s.handleEvent(ranked(ctx, t), t, func(ctx context.Context, merchantID uuid.UUID, subscription string) error {
		hash, err := s.connect.Hasher(ctx, merchantID)
		if err != nil {
			return err
		}
		return db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
			return s.joinRefresh(ctx, tx, merchantID, hash, subscription, t.First)
		})
	})
}

// ranked gives what a task asks of Stripe its place in the account's pace.
func ranked(ctx context.Context, t *task.Task) context.Context {
	if t.First {
		return connect.First(ctx)
	}
	return connect.Urgent(ctx)
}

func (s *Service) handleEvent(ctx context.Context, t *task.Task, refresh func(context.Context, uuid.UUID, string) error) error {
	var p webhookParams
	if err := json.Unmarshal(t.Params, &p); err != nil {
		return task.Review(errors.New("the task's params cannot be read"))
	}
	subscription, err := s.subscriptionOf(ctx, t.MerchantID, p)
	if err == nil && subscription != "" { // what has no subscription is no ghost's
		err = refresh(ctx, t.MerchantID, subscription)
	}
	if errors.Is(err, connect.ErrNotFound) {
		return task.Cancel(err)
	}
	return connect.Unhurried(ctx, err)
}

// subscriptionOf climbs from a dispute over its charge and the charge's invoice to the
// subscription, from wherever the event stands. It returns "" where there is none. None of these
// links ever changes, so that the event may name them; all that does change is read.
func (s *Service) subscriptionOf(ctx context.Context, merchantID uuid.UUID, p webhookParams) (string, error) {
	if p.Subscription != "" {
		return p.Subscription, nil
	}
	subject, id := p.nearest()
	from := link{merchantID, subject, id}
	if subscription, known := s.links.get(from); known {
		return subscription, nil
	}
	subscription, err := s.climb(ctx, merchantID, p)
	if err == nil {
		s.links.put(from, subscription)
	}
	return subscription, err
}

// link is an object from which somebody has climbed.
type link struct {
	merchant    uuid.UUID
	subject, id string
}

// links are some of the subscriptions that were found, so that a burst about one object reads them
// once.
type links struct {
	mutex sync.Mutex
	found map[link]string
}

// mostLinks bounds them: beyond it all are forgotten.
const mostLinks = 10_000

func (l *links) get(from link) (subscription string, known bool) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	subscription, known = l.found[from]
	return subscription, known
}

func (l *links) put(from link, subscription string) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.found == nil || len(l.found) >= mostLinks {
		l.found = make(map[link]string)
	}
	l.found[from] = subscription
}

func (s *Service) climb(ctx context.Context, merchantID uuid.UUID, p webhookParams) (string, error) {
	reader, err := s.connect.Reader(ctx, merchantID)
	if err != nil {
		return "", err
	}
	if p.Charge == "" && p.Invoice == "" {
		if p.Charge, err = referenceIn(ctx, reader, "/v1/disputes/"+p.Object, "charge"); err != nil || p.Charge == "" {
			return "", err
		}
	}
	if p.Invoice == "" {
		if p.Invoice, err = referenceIn(ctx, reader, "/v1/charges/"+p.Charge, "invoice"); err != nil || p.Invoice == "" {
			return "", err
		}
	}
	return referenceIn(ctx, reader, "/v1/invoices/"+p.Invoice, "subscription")
}

// referenceIn reads an object and returns the id in one of its fields, "" where there is none.
func referenceIn(ctx context.Context, reader *connect.Reader, path, field string) (id string, err error) {
	err = reader.Get(ctx, path, nil, func(d *jx.Decoder) error {
		id = ""
		return fields(d, func(d *jx.Decoder, key string) error {
			if key != field {
				return d.Skip()
			}
			return reference(d, &id, nil)
		})
	})
	if err != nil {
		return "", fmt.Errorf("read the event's %s: %w", strings.Split(path, "/")[2], err)
	}
	return idOrNone(id), nil
}
