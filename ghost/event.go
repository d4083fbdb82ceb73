package ghost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/go-faster/jx"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/connect"
	"phantom/db"
	"phantom/task"
)

// KindWebhook is the kind of the task that does what an event asks for.
const KindWebhook = "webhook"

// Event is what is taken from an event of Stripe's whose signature has been verified. All of it but the account is a hint about what
// to read: what it says about the object is not taken.
type Event struct {
	ID       string
	Type     string
	Account  string // "" for an event of the platform's own
	Created  time.Time
	Livemode bool

	// Of the object. The last three are "" where it has none.
	ObjectID     string
	Subscription string
	Invoice      string
	Charge       string
}

// ErrInvalidEvent says that an event cannot be read or lacks what an event of its type has.
var ErrInvalidEvent = errors.New("the event is malformed or names no object")

// databaseTimeout bounds what is stored while Stripe waits.
const databaseTimeout = 4 * time.Second

const deauthorized = "account.application.deauthorized"

// isUsed reports the types of events that may change a ghost or a merchant.
func isUsed(kind string) bool {
	switch kind {
	case "invoice.payment_failed", "invoice.paid", "invoice.voided", "invoice.marked_uncollectible", "invoice.updated",
		"charge.refunded", deauthorized:
		return true
	}
	return familyShape.MatchString(kind)
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

// webhookParams are the params of [KindWebhook]. Of the last three, one at most is needed: the one nearest to the subscription.
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
	case e.Type == "charge.refunded":
		p.Charge = e.ObjectID
	}
	return p
}

// Receive stores an event and enqueues what it asks for, in one transaction, or disconnects the merchant there and then. It may be
// called any number of times for one event, with one effect. It reports false for an event that is none of our business: of a type
// that changes nothing here, of an account that is not connected or in the other mode, or a deauthorization older than the
// connection. It fails with [ErrInvalidEvent].
func (s *Service) Receive(ctx context.Context, e Event) (received bool, err error) {
	if !isUsed(e.Type) || !idShape.MatchString(e.Account) {
		return false, nil
	}
	if !idShape.MatchString(e.ID) || !idShape.MatchString(e.ObjectID) {
		return false, ErrInvalidEvent
	}
	// Stripe hanging up must not cost the pool a connection, which a cancelled statement does.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), databaseTimeout)
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
	disconnected := false
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
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
			_, err = task.Enqueue(ctx, tx, task.New{MerchantID: merchant.ID, Kind: KindWebhook, Params: e.params()})
			return err
		}
		disconnected, err = s.connect.Disconnect(ctx, tx, e.Account, e.Created)
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

var errOutdated = errors.New("the merchant has connected since, or has left before")

// HandleEvent is the handler of [KindWebhook]: it finds the subscription that an event is about and has it read anew.
func (s *Service) HandleEvent(ctx context.Context, t *task.Task) error {
	return s.handleEvent(connect.Urgent(ctx), t, s.Refresh)
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
	return unhurried(ctx, err)
}

// subscriptionOf climbs from a dispute over its charge and the charge's invoice to the subscription, from wherever the event stands.
// It returns "" where there is none. None of these links ever changes, so that the event may name them; all that does change is read.
func (s *Service) subscriptionOf(ctx context.Context, merchantID uuid.UUID, p webhookParams) (string, error) {
	if p.Subscription != "" {
		return p.Subscription, nil
	}
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
