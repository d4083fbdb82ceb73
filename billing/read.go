package billing

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/go-faster/jx"

	"phantom/connect"
	"phantom/decline"
)

// Object is what is read of an invoice or a subscription before it is changed, in the shapes of API
// version 2023-10-16.
type Object struct {
	ID               string          `json:"id"`
	Status           string          `json:"status"`
	Created          int64           `json:"created"`
	Currency         string          `json:"currency"`
	AmountRemaining  int64           `json:"amount_remaining"`
	AmountPaid       int64           `json:"amount_paid"`
	CollectionMethod string          `json:"collection_method"`
	Attempted        bool            `json:"attempted"`
	AutoAdvance      bool            `json:"auto_advance"`
	PaidOutOfBand    bool            `json:"paid_out_of_band"`
	NextAttempt      *int64          `json:"next_payment_attempt"`
	DueDate          *int64          `json:"due_date"`
	Pause            json.RawMessage `json:"pause_collection"`
	Intent           struct {
		ID     string `json:"id"`
		Status string `json:"status"`
	} `json:"payment_intent"`
	Subscription Subscription      `json:"subscription"`
	Customer     Customer          `json:"customer"`
	Method       Method            `json:"default_payment_method"` // of this invoice alone
	Source       Method            `json:"default_source"`
	Metadata     map[string]string `json:"metadata"`
	Transitions  struct {
		PaidAt *int64 `json:"paid_at"`
	} `json:"status_transitions"`

	Paused bool `json:"-"`
}

// Subscription is what is read of an invoice's subscription.
type Subscription struct {
	Status   string            `json:"status"`
	Pause    json.RawMessage   `json:"pause_collection"`
	Leaving  bool              `json:"cancel_at_period_end"`
	Method   Method            `json:"default_payment_method"`
	Source   Method            `json:"default_source"`
	Metadata map[string]string `json:"metadata"`
}

// UnmarshalJSON takes an id alone for a subscription of which nothing was asked.
func (c *Subscription) UnmarshalJSON(text []byte) error {
	type plain Subscription
	if len(text) == 0 || text[0] != '{' {
		return nil
	}
	return json.Unmarshal(text, (*plain)(c))
}

// Paused says whether collection is paused.
func (c Subscription) Paused() bool { return present(c.Pause) }

// Customer is what is read of an invoice's customer.
type Customer struct {
	ID       string `json:"id"`
	Settings struct {
		Method Method `json:"default_payment_method"`
	} `json:"invoice_settings"`
	Source   Method            `json:"default_source"`
	Metadata map[string]string `json:"metadata"`

	Name    string   `json:"name"`
	Email   string   `json:"email"`
	Locales []string `json:"preferred_locales"` // that they read, the best first
	Address struct {
		Country string `json:"country"`
	} `json:"address"`
}

// UnmarshalJSON takes an id alone for a customer of whom nothing was asked.
func (p *Customer) UnmarshalJSON(text []byte) error {
	type plain Customer
	if len(text) == 0 || text[0] != '{' {
		return json.Unmarshal(text, &p.ID)
	}
	return json.Unmarshal(text, (*plain)(p))
}

// PaymentMethod is what Stripe will charge for an invoice: the first that is set of the invoice's
// own, its subscription's, and its customer's.
// https://docs.stripe.com/billing/subscriptions/payment-methods-setting
func (o Object) PaymentMethod() Method {
	for _, m := range []Method{o.Method, o.Source, o.Subscription.Method, o.Subscription.Source, o.Customer.Settings.Method, o.Customer.Source} {
		if m.Known() {
			return m
		}
	}
	return Method{}
}

// Charge is what is read of an attempt to charge.
type Charge struct {
	ID       string `json:"id"`
	Status   string `json:"status"`
	Amount   int64  `json:"amount"`
	Refunded int64  `json:"amount_refunded"`
	Invoice  string `json:"invoice"`
	Created  int64  `json:"created"`
	Disputed bool   `json:"disputed"`
	Dispute  struct {
		Status string `json:"status"`
	} `json:"dispute"`
	FailureCode string `json:"failure_code"`
	Outcome     struct {
		NetworkStatus      string `json:"network_status"`
		Reason             string `json:"reason"`
		AdviceCode         string `json:"advice_code"`
		NetworkAdviceCode  string `json:"network_advice_code"`
		NetworkDeclineCode string `json:"network_decline_code"`
	} `json:"outcome"`
	Method   Method `json:"payment_method_details"`
	MethodID string `json:"payment_method"`
}

// Key tells the card or the account that was charged from others, as [Method.Key] does.
func (c Charge) Key() string { return cmp.Or(c.Method.Fingerprint, c.MethodID) }

// At is when the charge was made, to the second.
func (c Charge) At() time.Time { return time.Unix(c.Created, 0) }

// Declined says whether a charge has reached the network and was refused there: that is what the
// networks count.
func (c Charge) Declined() bool { return c.Status == ChargeFailed && !c.Blocked() }

// Contested says whether a dispute about the charge is open.
func (c Charge) Contested() bool { return c.Disputed && DisputeIsOpen(c.Dispute.Status) }

// TakenBack says whether a dispute about the charge has cost the merchant its money. One that was
// won, or never became more than a question, says nothing against the next charge.
func (c Charge) TakenBack() bool {
	return c.Disputed && !c.Contested() && !slices.Contains([]string{"won", "warning_closed", "prevented"}, c.Dispute.Status)
}

// With says whether a charge was made with a method: by its fingerprint, or by its id where one of
// the two has none.
func (c Charge) With(m Method) bool {
	if c.MethodID != "" && c.MethodID == m.ID && c.Method.Type != m.Type {
		// Stripe has charged it otherwise than its order told: what was said is said of it
		return true
	}
	if c.Method.Fingerprint != "" && m.Fingerprint != "" {
		return c.Method.Fingerprint == m.Fingerprint
	}
	return c.MethodID != "" && c.MethodID == m.ID
}

// Blocked says whether Stripe itself has stopped a charge: it has not reached the network.
func (c Charge) Blocked() bool { return c.Outcome.NetworkStatus == "not_sent_to_network" }

// Class is what the decline of a charge means for the next attempt, and which code says so.
func (c Charge) Class() (class decline.Class, code string) {
	reason := c.Outcome.Reason
	if reason == "" && c.FailureCode != "card_declined" {
		reason = c.FailureCode
	}
	return decline.Classify(c.Outcome.NetworkAdviceCode, c.Outcome.AdviceCode, reason, c.Outcome.NetworkDeclineCode, c.Method.Brand)
}

// GetJSON reads one object.
func GetJSON(ctx context.Context, reader *connect.Reader, path string, query url.Values, into any) error {
	return reader.Get(ctx, path, query, func(d *jx.Decoder) error { return DecodeJSON(d, into) })
}

// DecodeJSON reads the next value of a stream as encoding/json does.
func DecodeJSON(d *jx.Decoder, into any) error {
	raw, err := d.Raw()
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

// invoiceParts are what a look expands: the payment, and where the payment method may stand.
var invoiceParts = []string{
	"payment_intent", "default_payment_method", "default_source", "subscription.default_payment_method", "subscription.default_source",
	"customer.invoice_settings.default_payment_method", "customer.default_source",
}

// ReadInvoice reads an invoice with its payment, its subscription, and the payment methods that
// Stripe may charge for it.
func ReadInvoice(ctx context.Context, reader *connect.Reader, id string) (Object, error) {
	var o Object
	err := GetJSON(ctx, reader, "/v1/invoices/"+url.PathEscape(id), url.Values{"expand[]": invoiceParts}, &o)
	return o, err
}

// ReadSubscription reads a subscription.
func ReadSubscription(ctx context.Context, reader *connect.Reader, id string) (Object, error) {
	var o struct {
		ID       string            `json:"id"`
		Status   string            `json:"status"`
		Pause    json.RawMessage   `json:"pause_collection"`
		Metadata map[string]string `json:"metadata"`
	}
	err := GetJSON(ctx, reader, "/v1/subscriptions/"+url.PathEscape(id), nil, &o)
	return Object{ID: o.ID, Status: o.Status, Paused: present(o.Pause), Metadata: o.Metadata}, err
}

// grace is how long after its due date an invoice that was sent is only late, as package ghost has
// it.
const grace = 7 * 24 * time.Hour

// undecided says whether it is not known yet if an invoice will be paid: it was not tried, is under
// way, or was sent and is not long overdue. One that is void or still a draft says nothing either.
func (o Object) undecided(now time.Time) bool {
	switch {
	case o.Status == InvoiceVoid || o.Status == InvoiceDraft:
		return true
	case o.Status != InvoiceOpen:
		return false
	case o.CollectionMethod == "send_invoice":
		return o.DueDate == nil || time.Unix(*o.DueDate, 0).Add(grace).After(now)
	}
	return !o.Attempted || o.Intent.Status == "processing" || o.Intent.Status == "requires_action"
}

// ReadPaying says whether the newest invoice of a subscription whose payment is decided is paid.
func ReadPaying(ctx context.Context, reader *connect.Reader, subscription string, now time.Time) (bool, error) {
	query := url.Values{"subscription": {subscription}, "limit": {"100"}, "expand[]": {"data.payment_intent"}}
	for {
		var page struct {
			Data    []Object `json:"data"`
			HasMore bool     `json:"has_more"`
		}
		if err := GetJSON(ctx, reader, "/v1/invoices", query, &page); err != nil {
			return false, err
		}
		for _, i := range page.Data { // the newest first
			if !i.undecided(now) {
				return i.Status == InvoicePaid, nil
			}
		}
		if !page.HasMore || len(page.Data) == 0 {
			return false, nil
		}
		query.Set("starting_after", page.Data[len(page.Data)-1].ID)
	}
}

func present(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// mostChargePages bounds how many charges of one customer are read.
const mostChargePages = 50

// ErrTooManyCharges says that a customer has had more charges since than are read.
var ErrTooManyCharges = errors.New("too many charges of one customer")

// disputable is how long before a moment a charge may have been made about which a dispute is open
// then: banks take them back for 540 days, and decide within months.
const disputable = 2 * 365 * 24 * time.Hour

// ReadCharges reads a customer's charges with their disputes, the newest first: all that were made
// since a time, and all before about which a dispute may be open.
func ReadCharges(ctx context.Context, reader *connect.Reader, customer string, since time.Time) ([]Charge, error) {
	from := since.Add(-disputable).Unix()
	return listCharges(ctx, reader, url.Values{"customer": {customer}, "created[gte]": {strconv.FormatInt(from, 10)}})
}

// listCharges reads the charges that a query asks for, with their disputes, to the end.
func listCharges(ctx context.Context, reader *connect.Reader, query url.Values) (charges []Charge, err error) {
	query.Set("limit", "100")
	query.Set("expand[]", "data.dispute")
	for range mostChargePages {
		var page struct {
			Data    []Charge `json:"data"`
			HasMore bool     `json:"has_more"`
		}
		if err := GetJSON(ctx, reader, "/v1/charges", query, &page); err != nil {
			return nil, err
		}
		charges = append(charges, page.Data...)
		if !page.HasMore || len(page.Data) == 0 {
			return charges, nil
		}
		query.Set("starting_after", charges[len(charges)-1].ID)
	}
	return nil, ErrTooManyCharges
}

// ReadPayments reads the charges of an invoice, the newest first. They may be of several payment
// intents, of which the invoice names the last.
func ReadPayments(ctx context.Context, reader *connect.Reader, o Object) ([]Charge, error) {
	if o.Customer.ID == "" {
		return nil, nil
	}
	since := url.Values{"customer": {o.Customer.ID}, "created[gte]": {strconv.FormatInt(o.Created, 10)}}
	charges, err := listCharges(ctx, reader, since)
	if errors.Is(err, ErrTooManyCharges) && o.Intent.ID != "" {
		// those of the last one are what there is
		charges, err = listCharges(ctx, reader, url.Values{"payment_intent": {o.Intent.ID}})
	}
	return slices.DeleteFunc(charges, func(c Charge) bool { return c.Invoice != o.ID }), err
}
