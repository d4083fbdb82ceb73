package ghost

import (
	"time"

	"github.com/go-faster/jx"

	"phantom/decline"
)

// What is read of Stripe's objects, API version 2023-10-16: the few fields that decide. Everything else in them is skipped unread,
// which is what makes reading a long history quick.

type subscription struct {
	ID, Customer, Status string
	Paused               bool // collection is paused: the merchant grants free service
	testClock            bool
	created              int64
}

type invoice struct {
	ID, Subscription, Customer, Status, Currency, Email string
	SendInvoice, OutOfBand                              bool
	Remaining                                           int64 // minor units
	AttemptCount                                        int32
	Intent                                              string // status of its payment intent, where that was asked for
	intentID                                            string
	testClock                                           bool
	created, due                                        int64
}

type charge struct {
	id, invoice, intent, status        string
	refunded                           bool
	created                            int64
	country, cardCountry               string
	brand, fingerprint                 string
	networkStatus                      string
	networkAdvice, advice, networkCode string
	failureCode, declineCode, dispute  string
	disputeStatus                      string // where it was asked for
	disputed                           bool
}

type dispute struct {
	id, charge, status string
	created            int64
}

// fields calls field for each key of an object; a key that field does not know it must skip.
func fields(d *jx.Decoder, field func(d *jx.Decoder, key string) error) error {
	if d.Next() == jx.Null {
		return d.Null()
	}
	// The conversion in the caller's switch does not allocate: the key does not outlive it.
	return d.ObjBytes(func(d *jx.Decoder, key []byte) error { return field(d, string(key)) })
}

// text reads a string, or null as "".
func text(d *jx.Decoder, into *string) (err error) {
	if d.Next() == jx.Null {
		return d.Null()
	}
	*into, err = d.Str()
	return err
}

// word reads a string of a small vocabulary, without a copy of its own for each of a million.
func word(d *jx.Decoder, into *string) error {
	if d.Next() == jx.Null {
		return d.Null()
	}
	raw, err := d.StrBytes()
	if err != nil {
		return err
	}
	for _, known := range vocabulary {
		if string(raw) == known {
			*into = known
			return nil
		}
	}
	*into = string(raw)
	return nil
}

var vocabulary = []string{
	"succeeded", "paid", "active", "open", "failed", "approved_by_network", "declined_by_network", "visa", "mastercard", "usd", "eur",
	"gbp", "US", "DE", "GB", "canceled", "past_due", "uncollectible", "void", "draft", "trialing", "pending", "not_sent_to_network",
	"insufficient_funds", "generic_decline", "do_not_honor", "card_declined", "amex", "processing", "requires_action", "jpy",
}

// number reads an integer, or null as 0.
func number(d *jx.Decoder, into *int64) (err error) {
	if d.Next() == jx.Null {
		return d.Null()
	}
	*into, err = d.Int64()
	return err
}

func truth(d *jx.Decoder, into *bool) (err error) {
	if d.Next() == jx.Null {
		return d.Null()
	}
	*into, err = d.Bool()
	return err
}

// reference reads an object's id, whether the object is expanded or not. Of an expanded one status takes its status.
func reference(d *jx.Decoder, id, status *string) error {
	if d.Next() != jx.Object {
		return text(d, id)
	}
	return fields(d, func(d *jx.Decoder, key string) error {
		switch key {
		case "id":
			return text(d, id)
		case "status":
			if status != nil {
				return word(d, status)
			}
		}
		return d.Skip()
	})
}

// present reports whether there is anything but null.
func present(d *jx.Decoder, into *bool) error {
	*into = d.Next() != jx.Null
	return d.Skip()
}

func (s *subscription) decode(d *jx.Decoder) error {
	return fields(d, func(d *jx.Decoder, key string) error {
		switch key {
		case "id":
			return text(d, &s.ID)
		case "customer":
			return reference(d, &s.Customer, nil)
		case "status":
			return word(d, &s.Status)
		case "created":
			return number(d, &s.created)
		case "pause_collection":
			return present(d, &s.Paused)
		case "test_clock":
			return present(d, &s.testClock)
		}
		return d.Skip()
	})
}

func (i *invoice) decode(d *jx.Decoder) error {
	return fields(d, func(d *jx.Decoder, key string) error {
		switch key {
		case "id":
			return text(d, &i.ID)
		case "subscription":
			return reference(d, &i.Subscription, nil)
		case "customer":
			return reference(d, &i.Customer, nil)
		case "status":
			return word(d, &i.Status)
		case "currency":
			return word(d, &i.Currency)
		case "customer_email":
			return text(d, &i.Email)
		case "collection_method":
			var method string
			err := word(d, &method)
			i.SendInvoice = method == "send_invoice"
			return err
		case "paid_out_of_band":
			return truth(d, &i.OutOfBand)
		case "amount_remaining":
			return number(d, &i.Remaining)
		case "attempt_count":
			var count int64
			err := number(d, &count)
			i.AttemptCount = int32(min(max(count, 0), 1<<30))
			return err
		case "payment_intent":
			return reference(d, &i.intentID, &i.Intent)
		case "created":
			return number(d, &i.created)
		case "due_date":
			return number(d, &i.due)
		case "test_clock":
			return present(d, &i.testClock)
		}
		return d.Skip()
	})
}

func (c *charge) decode(d *jx.Decoder) error {
	return fields(d, func(d *jx.Decoder, key string) error {
		switch key {
		case "id":
			return text(d, &c.id)
		case "invoice":
			return reference(d, &c.invoice, nil)
		case "payment_intent":
			return reference(d, &c.intent, nil)
		case "status":
			return word(d, &c.status)
		case "refunded":
			return truth(d, &c.refunded)
		case "created":
			return number(d, &c.created)
		case "disputed":
			return truth(d, &c.disputed)
		case "dispute":
			return reference(d, &c.dispute, &c.disputeStatus)
		case "failure_code":
			return word(d, &c.failureCode)
		case "billing_details":
			return fields(d, c.decodeBilling)
		case "outcome":
			return fields(d, c.decodeOutcome)
		case "payment_method_details":
			return fields(d, c.decodeMethod)
		}
		return d.Skip()
	})
}

func (c *charge) decodeBilling(d *jx.Decoder, key string) error {
	if key != "address" {
		return d.Skip()
	}
	return fields(d, func(d *jx.Decoder, key string) error {
		if key != "country" {
			return d.Skip()
		}
		return word(d, &c.country)
	})
}

func (c *charge) decodeOutcome(d *jx.Decoder, key string) error {
	switch key {
	case "network_status":
		return word(d, &c.networkStatus)
	case "reason":
		return word(d, &c.declineCode)
	case "advice_code":
		return word(d, &c.advice)
	case "network_advice_code":
		return word(d, &c.networkAdvice)
	case "network_decline_code":
		return word(d, &c.networkCode)
	}
	return d.Skip()
}

// decodeMethod reads the card, or the bank account of a debit.
func (c *charge) decodeMethod(d *jx.Decoder, _ string) error {
	if d.Next() != jx.Object {
		return d.Skip()
	}
	return fields(d, func(d *jx.Decoder, key string) error {
		switch key {
		case "brand":
			return word(d, &c.brand)
		case "country":
			return word(d, &c.cardCountry)
		case "fingerprint":
			return text(d, &c.fingerprint)
		}
		return d.Skip()
	})
}

// outcome is what became of an attempt: 'succeeded', 'failed', 'pending', or 'blocked' where it never reached the card's network.
func (c *charge) outcome() string {
	switch {
	case c.status == "failed" && c.networkStatus == "not_sent_to_network":
		return "blocked"
	case c.status == "succeeded", c.status == "pending":
		return c.status
	default:
		return "failed"
	}
}

// decline is why the attempt failed. Stripe says so in outcome.reason, and in failure_code where that says more.
func (c *charge) decline() (class, code string) {
	reason := c.declineCode
	if reason == "" && c.failureCode != "card_declined" {
		reason = c.failureCode
	}
	return decline.Classify(c.networkAdvice, c.advice, reason, c.networkCode, c.brand)
}

// sequence is what joins the attempts of one debt.
func (c *charge) sequence() string {
	for _, id := range []string{c.invoice, c.intent} {
		if id != "" {
			return id
		}
	}
	return c.id
}

func (p *dispute) decode(d *jx.Decoder) error {
	return fields(d, func(d *jx.Decoder, key string) error {
		switch key {
		case "id":
			return text(d, &p.id)
		case "charge":
			return reference(d, &p.charge, nil)
		case "status":
			return word(d, &p.status)
		case "created":
			return number(d, &p.created)
		}
		return d.Skip()
	})
}

// isOpen reports a dispute that is not decided: the money is the bank's for now.
func isOpen(disputeStatus string) bool {
	switch disputeStatus {
	case "warning_needs_response", "warning_under_review", "needs_response", "under_review":
		return true
	}
	return false
}

func at(unix int64) time.Time { return time.Unix(unix, 0).UTC() }
