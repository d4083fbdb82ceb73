package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-faster/jx"

	"phantom/connect"
	"phantom/decline"
)

// object is what is read of an invoice or a subscription before it is changed, in the shapes of API version 2023-10-16.
type object struct {
	ID               string          `json:"id"`
	Status           string          `json:"status"`
	Currency         string          `json:"currency"`
	AmountRemaining  int64           `json:"amount_remaining"`
	AmountPaid       int64           `json:"amount_paid"`
	CollectionMethod string          `json:"collection_method"`
	Attempted        bool            `json:"attempted"`
	AutoAdvance      bool            `json:"auto_advance"`
	PaidOutOfBand    bool            `json:"paid_out_of_band"`
	NextAttempt      *int64          `json:"next_payment_attempt"`
	Pause            json.RawMessage `json:"pause_collection"`
	Intent           struct {
		ID     string `json:"id"`
		Status string `json:"status"`
	} `json:"payment_intent"`
	Subscription struct {
		Status string          `json:"status"`
		Pause  json.RawMessage `json:"pause_collection"`
	} `json:"subscription"`
	Transitions struct {
		PaidAt *int64 `json:"paid_at"`
	} `json:"status_transitions"`

	Paused bool `json:"-"`
}

// charge is what is read of an attempt to charge.
type charge struct {
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
	Method struct {
		Card struct {
			Brand       string `json:"brand"`
			Fingerprint string `json:"fingerprint"`
		} `json:"card"`
	} `json:"payment_method_details"`
}

// contested says whether a dispute about the charge is open.
func (c charge) contested() bool {
	return c.Disputed && c.Dispute.Status != "won" && c.Dispute.Status != "lost" && c.Dispute.Status != "warning_closed"
}

func (c charge) blocked() bool { return c.Outcome.NetworkStatus == "not_sent_to_network" }

func (c charge) class() (class, code string) {
	reason := c.Outcome.Reason
	if reason == "" && c.FailureCode != "card_declined" {
		reason = c.FailureCode
	}
	return decline.Classify(c.Outcome.NetworkAdviceCode, c.Outcome.AdviceCode, reason, c.Outcome.NetworkDeclineCode, c.Method.Card.Brand)
}

// getJSON reads one object.
func getJSON(ctx context.Context, reader *connect.Reader, path string, query url.Values, into any) error {
	return reader.Get(ctx, path, query, func(d *jx.Decoder) error {
		raw, err := d.Raw()
		if err != nil {
			return err
		}
		return json.Unmarshal(raw, into)
	})
}

// readInvoice reads an invoice with its payment and its subscription.
func readInvoice(ctx context.Context, reader *connect.Reader, id string) (object, error) {
	var o object
	err := getJSON(ctx, reader, "/v1/invoices/"+url.PathEscape(id), url.Values{"expand[]": {"payment_intent", "subscription"}}, &o)
	return o, err
}

// readSubscription reads a subscription.
func readSubscription(ctx context.Context, reader *connect.Reader, id string) (object, error) {
	var o struct {
		ID     string          `json:"id"`
		Status string          `json:"status"`
		Pause  json.RawMessage `json:"pause_collection"`
	}
	err := getJSON(ctx, reader, "/v1/subscriptions/"+url.PathEscape(id), nil, &o)
	return object{ID: o.ID, Status: o.Status, Paused: present(o.Pause)}, err
}

func present(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// readObject reads what a kind changes.
func readObject(ctx context.Context, reader *connect.Reader, kind, id string) (object, error) {
	if ofInvoice(kind) {
		return readInvoice(ctx, reader, id)
	}
	return readSubscription(ctx, reader, id)
}

const budgetDays = 30 // of the card networks' limits

// recent are those of a customer's charges that the networks' limits count, by date alone.
func recent(charges []charge, now time.Time) []charge {
	from := now.AddDate(0, 0, -budgetDays).Unix()
	end := slices.IndexFunc(charges, func(c charge) bool { return c.Created < from })
	if end < 0 {
		return charges
	}
	return charges[:end]
}

// readCharges reads a customer's last charges with their disputes, the newest first: one page, which holds more than any budget, and
// years of a subscription.
func readCharges(ctx context.Context, reader *connect.Reader, customer string) ([]charge, error) {
	var page struct {
		Data []charge `json:"data"`
	}
	err := getJSON(ctx, reader, "/v1/charges", url.Values{
		"customer": {customer}, "limit": {"100"}, "expand[]": {"data.dispute"},
	}, &page)
	return page.Data, err
}

// readPayments reads the charges of an invoice, the newest first: one page, which holds more than anybody is charged.
func readPayments(ctx context.Context, reader *connect.Reader, o object) ([]charge, error) {
	if o.Intent.ID == "" {
		return nil, nil
	}
	var page struct {
		Data []charge `json:"data"`
	}
	err := getJSON(ctx, reader, "/v1/charges", url.Values{"payment_intent": {o.Intent.ID}, "limit": {"100"}}, &page)
	return page.Data, err
}

// mostEventPages bounds the search for an execution among all events of an account.
const mostEventPages = 30

// errTooManyEvents says that an account has had more events since than are looked through.
var errTooManyEvents = errors.New("too many events around a charge to be sure whose it was")

// findCharge looks for what a task's charge has done since a time: the type of the event that its key has left, "" where nothing was
// executed. An execution leaves a charge on the invoice, and only around those of that time are the account's events looked through.
func findCharge(ctx context.Context, reader *connect.Reader, p frozen, taskID string, since time.Time) (eventType string, err error) {
	charges, err := readCharges(ctx, reader, p.Customer)
	if err != nil {
		return "", err
	}
	for _, c := range chargesSince(charges, p, since) {
		at := time.Unix(c.Created, 0)
		// Nearly always it stands right beside its charge, and a minute of a busy account has more events than are looked through.
		eventType, err = findExecution(ctx, reader, KindPay, taskID, at.Add(-2*time.Second), at.Add(3*time.Second))
		if eventType == "" && err == nil {
			eventType, err = findExecution(ctx, reader, KindPay, taskID, at.Add(-10*time.Second), at.Add(time.Minute))
		}
		if eventType != "" || err != nil {
			return eventType, err
		}
	}
	return "", nil
}

// chargesSince are those that a task, first sent at a time, may have made.
func chargesSince(charges []charge, p frozen, since time.Time) (list []charge) {
	for _, c := range charges {
		if c.Invoice == p.Object && !time.Unix(c.Created, 0).Before(since.Add(-clockSkew)) {
			list = append(list, c)
		}
	}
	return list
}

// clockSkew is how far Stripe's clock and the database's may differ.
const clockSkew = 2 * time.Minute

// findExecution looks for an event that our key has caused, of the kind's types, within a span. Its type is "" where there is none.
func findExecution(ctx context.Context, reader *connect.Reader, kind, taskID string, from, to time.Time) (eventType string, err error) {
	err = readEvents(ctx, reader, mutations[kind].events, from, to, func(e happened) bool {
		// An invoice's event says more than a charge's.
		if e.Request.Key == "task_"+taskID && (eventType == "" || strings.HasPrefix(e.Type, "invoice.")) {
			eventType = e.Type
		}
		return eventType != ""
	})
	return eventType, err
}

// keyOf is the idempotency key of the request that made a charge. It is "" where somebody else did, or where Stripe tells no more: its
// events live for 30 days.
func keyOf(ctx context.Context, reader *connect.Reader, c charge) (key string, err error) {
	at := time.Unix(c.Created, 0)
	err = readEvents(ctx, reader, []string{"charge.pending", "charge.succeeded"}, at.Add(-10*time.Second), at.Add(time.Minute), func(e happened) bool {
		if e.Data.Object.ID == c.ID && e.Request.Key != "" {
			key = e.Request.Key
		}
		return key != ""
	})
	return key, err
}

// happened is what is read of an event.
type happened struct {
	ID   string `json:"id"`
	Type string `json:"type"`
	Data struct {
		Object struct {
			ID string `json:"id"`
		} `json:"object"`
	} `json:"data"`
	Request struct {
		Key string `json:"idempotency_key"`
	} `json:"request"`
}

// readEvents reads the events of some types within a span, to the end of the page on which enough says that it has seen what it needs.
func readEvents(ctx context.Context, reader *connect.Reader, types []string, from, to time.Time, enough func(happened) bool) error {
	query := url.Values{
		"limit": {"100"}, "types[]": types,
		"created[gte]": {strconv.FormatInt(from.Unix(), 10)}, "created[lte]": {strconv.FormatInt(to.Unix(), 10)},
	}
	for range mostEventPages {
		var page struct {
			Data    []happened `json:"data"`
			HasMore bool       `json:"has_more"`
		}
		if err := getJSON(ctx, reader, "/v1/events", query, &page); err != nil {
			return err
		}
		seen := false
		for _, e := range page.Data {
			seen = enough(e) || seen
		}
		if seen || !page.HasMore || len(page.Data) == 0 {
			return nil
		}
		query.Set("starting_after", page.Data[len(page.Data)-1].ID)
	}
	return errTooManyEvents
}
