package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/stripe/stripe-go/v76/webhook"

	"phantom/connect"
	"phantom/db"
	"phantom/ghost"
)

const (
	// WebhookPath is where Stripe's events come in.
	WebhookPath = "/api/webhooks/stripe"
	// bytes: an invoice with its lines is larger than anything else that is sent here
	maxEvent  = 1 << 20
	tolerance = 300 * time.Second
)

// webhook takes an event of Stripe's. Nothing of it is looked at before its signature fits, and
// nothing of it is logged.
func (s *Server) webhook(w http.ResponseWriter, r *http.Request) {
	if len(s.config.WebhookSecrets) == 0 {
		writeError(w, http.StatusServiceUnavailable, "webhooks_not_configured", "This server takes no webhooks: STRIPE_WEBHOOK_SECRET is not set.")
		return
	}
	s.takeEvent(w, r, func() (string, []string, error) { return "", s.config.WebhookSecrets, nil })
}

// ownWebhook takes an event of the endpoint of a merchant who is connected by a key of their own.
// Such an event names no account. Of others it is refused as one that nobody has signed.
func (s *Server) ownWebhook(w http.ResponseWriter, r *http.Request) {
	s.takeEvent(w, r, func() (string, []string, error) {
		id, err := uuid.Parse(r.PathValue("merchant_id"))
		if err != nil || id.String() != r.PathValue("merchant_id") {
			return "", nil, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), s.config.DatabaseTimeout)
		defer cancel()
		account, secret, err := s.config.Connect.OwnEndpoint(ctx, id)
		if errors.Is(err, connect.ErrUnknownAccount) {
			return "", nil, nil
		}
		return account, []string{secret}, err
	})
}

// takeEvent takes an event that one of the secrets has signed. whose says which these are, and of
// which account its events are where they name none: "" where they do.
func (s *Server) takeEvent(w http.ResponseWriter, r *http.Request, whose func() (account string, secrets []string, err error)) {
	// What is not even shaped like a signature of this moment is refused before its body is read.
	header, err := signatureOf(r.Header.Values("Stripe-Signature"), time.Now())
	if err != nil {
		s.refuseEvent(w, err)
		return
	}
	body, done, err := s.readUnverified(r)
	defer done()
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		writeError(w, http.StatusRequestEntityTooLarge, "request_too_large", "The request's body is too large.")
		return
	case errors.Is(err, errTooManyBytes):
		writeOverloaded(w)
		return
	case err != nil: // the sender has gone, or was too slow
		writeError(w, http.StatusBadRequest, connect.CodeInvalidRequest, "The request's body ended too early.")
		return
	}
	account, secrets, err := whose()
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if err := verify(body, header, secrets); err != nil {
		s.refuseEvent(w, err)
		return
	}
	s.forged.Store(false)
	event, err := decodeEvent(body)
	done() // a slow database uses up nothing of what strangers' bodies may hold
	received := false
	if account != "" {
		if event.Account != "" && event.Account != account {
			event.Account = "" // of an account that is connected to theirs: none of ours
		} else {
			event.Account = account
		}
	}
	if err == nil {
		received, err = s.config.Ghost.Receive(r.Context(), event)
	}
	switch {
	case errors.Is(err, ghost.ErrInvalidEvent):
		s.config.Log.Warn("[STRIPE] an event that Stripe has signed cannot be read", "cause", err)
		writeError(w, http.StatusBadRequest, "invalid_event", "The event cannot be read.")
		return
	case db.Unavailable(err):
		s.fail(w, r, &connect.Error{Code: connect.CodeDatabaseUnavailable, Message: "The database is not available.", Cause: err})
		return
	case err != nil:
		s.fail(w, r, err)
		return
	}
	s.databaseAnswered()
	status := "ignored"
	if received {
		status = "received"
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": status})
}

// refuseEvent logs the first refusal after an event that was taken, so that a wrong secret or clock
// is seen and nobody fills the log.
func (s *Server) refuseEvent(w http.ResponseWriter, cause error) {
	if !s.forged.Swap(true) {
		s.config.Log.Warn("[SECURITY] a webhook is refused: check STRIPE_WEBHOOK_SECRET, or the secret given to phantom connect, if it was Stripe's", "cause", cause)
	}
	writeError(w, http.StatusBadRequest, "invalid_signature", "The Stripe-Signature header does not fit the request.")
}

var (
	errNoSignature = errors.New("no signature, or a malformed one")
	errOld         = errors.New("signed more than 300 s ago: sent again, or the clocks differ")
	errFuture      = errors.New("signed more than 300 s from now: the clocks differ")
	errNoSecret    = errors.New("no secret fits the signature")
)

// What stripe-go would also take, such as capital hex digits or a plus sign before the time, is
// refused: a changed header is not the one that was sent.
var (
	timeShape      = regexp.MustCompile(`^[1-9][0-9]{0,11}$`)
	signatureShape = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// signatureOf returns the one Stripe-Signature header if its shape is right and its time within the
// tolerance, of which stripe-go checks the past alone. Parts of unknown schemes are passed over.
func signatureOf(headers []string, now time.Time) (string, error) {
	if len(headers) != 1 {
		return "", errNoSignature
	}
	var at int64
	signatures := 0
	for part := range strings.SplitSeq(headers[0], ",") {
		switch key, value, _ := strings.Cut(part, "="); key {
		case "t":
			if at != 0 || !timeShape.MatchString(value) {
				return "", errNoSignature
			}
			at, _ = strconv.ParseInt(value, 10, 64) // twelve digits fit
		case "v1":
			if !signatureShape.MatchString(value) {
				return "", errNoSignature
			}
			signatures++
		}
	}
	age := now.Sub(time.Unix(at, 0))
	switch {
	case at == 0 || signatures == 0:
		return "", errNoSignature
	case age > tolerance:
		return "", errOld
	case age < -tolerance:
		return "", errFuture
	}
	return headers[0], nil
}

// verify holds the signature against each secret, in constant time. An empty secret would let
// everybody sign.
func verify(body []byte, header string, secrets []string) error {
	for _, secret := range secrets {
		if secret != "" && webhook.ValidatePayloadWithTolerance(body, header, secret, tolerance) == nil {
			return nil
		}
	}
	return errNoSecret
}

// envelope is all that is read of an event. API versions differ in what a field of the object
// holds, so what has another shape than expected there is as good as missing.
type envelope struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Account  string `json:"account"`
	Created  int64  `json:"created"`
	Livemode bool   `json:"livemode"`
	Data     struct {
		Object struct {
			ID           reference `json:"id"`
			Subscription reference `json:"subscription"`
			Invoice      reference `json:"invoice"`
			Charge       reference `json:"charge"`
			Customer     reference `json:"customer"`
			Parent       parent    `json:"parent"`
		} `json:"object"`
		Previous previous `json:"previous_attributes"`
	} `json:"data"`
}

// lastSecond bounds an event's time to what a database takes.
const lastSecond = 1 << 33

// decodeEvent reads an event. Its error is [ghost.ErrInvalidEvent], and quotes nothing.
func decodeEvent(body []byte) (ghost.Event, error) {
	var e envelope
	if err := json.Unmarshal(body, &e); err != nil || e.ID == "" || e.Type == "" || e.Created <= 0 || e.Created > lastSecond {
		return ghost.Event{}, ghost.ErrInvalidEvent
	}
	object := e.Data.Object
	if object.Customer == "" {
		object.Customer = e.Data.Previous.Customer
	}
	if object.Subscription == "" {
		object.Subscription = object.Parent.Details.Subscription
	}
	return ghost.Event{
		ID: e.ID, Type: e.Type, Account: e.Account, Created: time.Unix(e.Created, 0), Livemode: e.Livemode,
		ObjectID: string(object.ID), Subscription: string(object.Subscription), Invoice: string(object.Invoice), Charge: string(object.Charge),
		Customer: string(object.Customer),
	}, nil
}

// previous holds what has changed of the object. A payment method that was detached has no customer
// any more.
type previous struct {
	Customer reference `json:"customer"`
}

func (p *previous) UnmarshalJSON(text []byte) error {
	type shape previous // without this method
	var read shape
	if json.Unmarshal(text, &read) == nil {
		*p = previous(read)
	}
	return nil
}

// parent is where an invoice names its subscription from API version 2025-03-31 on.
type parent struct {
	Details struct {
		Subscription reference `json:"subscription"`
	} `json:"subscription_details"`
}

func (p *parent) UnmarshalJSON(text []byte) error {
	type shape parent
	var read shape
	if json.Unmarshal(text, &read) == nil {
		*p = parent(read)
	}
	return nil
}

// reference is an id, whether the object behind it is expanded or not; "" for anything else.
type reference string

func (r *reference) UnmarshalJSON(text []byte) error {
	*r = ""
	var id string
	if json.Unmarshal(text, &id) == nil {
		*r = reference(id)
		return nil
	}
	var expanded struct {
		ID any `json:"id"`
	}
	if json.Unmarshal(text, &expanded) == nil {
		id, _ = expanded.ID.(string)
		*r = reference(id)
	}
	return nil
}
