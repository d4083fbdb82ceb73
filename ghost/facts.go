package ghost

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"time"

	"github.com/go-faster/jx"

	"phantom/billing"
	"phantom/decline"
)

// What is read of Stripe's objects, in the shapes of API version 2023-10-16 and of those from
// 2025-03-31 on: the few fields that decide. Everything else in them is skipped unread, which is
// what makes reading a long history quick.

type subscription struct {
	ID, Customer, Status string
	Paused               bool // collection is paused: the merchant grants free service
	Leaving              bool // it ends with its period
	Ignored              bool // its metadata, or its customer's, says phantom=ignore
	Products, Prices     []string
	testClock            bool
	created              int64

	pause    string // how collection is paused; "" where it is not
	byUs     bool   // a hunt's final step has paused it
	endedAt  int64
	monthly  int64 // what it brings in, in minor units
	currency string
}

type invoice struct {
	ID, Subscription, Customer, Status, Currency, Email string
	SendInvoice, OutOfBand                              bool
	Remaining                                           int64 // minor units
	AttemptCount                                        int32
	// status of its payment intent, where that was asked for
	Intent   string
	Separate bool  // its metadata says phantom=owed
	Lines    int64 // what it bills: see lines
	// the time that its lines are for, if any
	from, to int64
	intentID string
	// payment intents, in newer versions
	payments []string
	// its last charge, where that was asked for
	disputed     bool
	testClock    bool
	created, due int64
}

type charge struct {
	id, invoice, intent, status        string
	customer, currency, funding        string
	refunded                           bool
	created, amount                    int64
	country, cardCountry               string
	brand, fingerprint                 string
	networkStatus                      string
	networkAdvice, advice, networkCode string
	failureCode, declineCode, dispute  string
	disputeStatus                      string // where it was asked for, as the next two
	disputeAmount, disputeCreated      int64
	disputed                           bool
}

type contest struct {
	id, charge, status string
	amount, created    int64
}

func (s *subscription) decode(d *jx.Decoder) error {
	return fields(d, func(d *jx.Decoder, key string) error {
		switch key {
		case "id":
			return text(d, &s.ID)
		case "customer":
			return s.decodeCustomer(d)
		case "status":
			return word(d, &s.Status)
		case "created":
			return number(d, &s.created)
		case "cancel_at_period_end":
			return truth(d, &s.Leaving)
		case "metadata":
			return s.decodeMetadata(d)
		case "items":
			return s.decodeItems(d)
		case "pause_collection":
			return s.decodePause(d)
		case "ended_at":
			return number(d, &s.endedAt)
		case "currency":
			return word(d, &s.currency)
		case "test_clock":
			return present(d, &s.testClock)
		}
		return d.Skip()
	})
}

// pausedBy is the key of metadata under which a hunt's final step leaves its task.
const pausedBy = "phantom_task"

func (s *subscription) decodeMetadata(d *jx.Decoder) error {
	if d.Next() != jx.Object {
		return d.Skip()
	}
	return fields(d, func(d *jx.Decoder, key string) error {
		var said string
		switch key {
		case marker:
			err := text(d, &said)
			s.Ignored = s.Ignored || said == "ignore"
			return err
		case pausedBy:
			err := text(d, &said)
			s.byUs = said != ""
			return err
		}
		return d.Skip()
	})
}

// decodePause reads how collection is paused. One that names no behavior is one all the same.
func (s *subscription) decodePause(d *jx.Decoder) error {
	if d.Next() != jx.Object {
		return present(d, &s.Paused)
	}
	s.Paused, s.pause = true, "keep_as_draft"
	return fields(d, func(d *jx.Decoder, key string) error {
		if key != "behavior" {
			return d.Skip()
		}
		return word(d, &s.pause)
	})
}

// ended is when the subscription ended, if it has.
func (s *subscription) ended() *time.Time {
	if s.endedAt == 0 {
		return nil
	}
	return ptr(at(s.endedAt))
}

// decodeCustomer reads the customer's id, and their metadata where they are expanded.
func (s *subscription) decodeCustomer(d *jx.Decoder) error {
	if d.Next() != jx.Object {
		return text(d, &s.Customer)
	}
	return fields(d, func(d *jx.Decoder, key string) error {
		switch key {
		case "id":
			return text(d, &s.Customer)
		case "metadata":
			return marked(d, "ignore", &s.Ignored)
		}
		return d.Skip()
	})
}

func (s *subscription) decodeItems(d *jx.Decoder) error {
	if d.Next() != jx.Object {
		return d.Skip()
	}
	return fields(d, func(d *jx.Decoder, key string) error {
		if key != "data" {
			return d.Skip()
		}
		return d.Arr(func(d *jx.Decoder) error {
			i := item{quantity: 1}
			err := i.decode(d)
			s.Prices, s.Products = with(s.Prices, i.price), with(s.Products, i.product)
			s.monthly += i.monthly()
			return err
		})
	})
}

// item is one of a subscription's items.
type item struct {
	price, product          string
	amount, quantity, count int64 // minor units a piece, pieces, and intervals that these are for
	interval                string
}

func (i *item) decode(d *jx.Decoder) error {
	return fields(d, func(d *jx.Decoder, key string) error {
		switch key {
		case "quantity":
			return number(d, &i.quantity)
		case "price":
			return fields(d, i.decodePrice)
		}
		return d.Skip()
	})
}

func (i *item) decodePrice(d *jx.Decoder, key string) error {
	switch key {
	case "id":
		return text(d, &i.price)
	case "product":
		return reference(d, &i.product, nil)
	case "unit_amount": // null where the amount goes by tiers
		return number(d, &i.amount)
	case "recurring":
		return fields(d, i.decodeRecurring)
	}
	return d.Skip()
}

func (i *item) decodeRecurring(d *jx.Decoder, key string) error {
	switch key {
	case "interval":
		return word(d, &i.interval)
	case "interval_count":
		return number(d, &i.count)
	}
	return d.Skip()
}

// monthly is what the item brings in within a month. What is absurdly large counts as nothing.
func (i *item) monthly() int64 {
	const most = 1 << 40
	if i.amount <= 0 || i.quantity <= 0 || i.amount > most || i.quantity > 1<<20 {
		return 0
	}
	total, count := i.amount*i.quantity, max(i.count, 1)
	switch i.interval {
	case "year":
		return total / (12 * count)
	case "week":
		return total / 12 * 52 / count
	case "day":
		return total / 12 * 365 / count
	}
	return total / count
}

// with is a short list with one more, if it is not there.
func with(list []string, one string) []string {
	if one == "" || slices.Contains(list, one) {
		return list
	}
	return append(list, one)
}

func (i *invoice) decode(d *jx.Decoder) error {
	return fields(d, func(d *jx.Decoder, key string) error {
		switch key {
		case "id":
			return text(d, &i.ID)
		case "subscription":
			return reference(d, &i.Subscription, nil)
		case "parent": // the subscription's place in newer versions
			return i.decodeParent(d)
		case "payments": // those of the payment intents
			return elements(d, i.decodePayment)
		case "lines":
			return i.decodeLines(d)
		case "metadata":
			return marked(d, "owed", &i.Separate)
		case "charge":
			return i.decodeCharge(d)
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

func (i *invoice) decodeParent(d *jx.Decoder) error {
	if d.Next() != jx.Object {
		return d.Skip()
	}
	return fields(d, func(d *jx.Decoder, key string) error {
		if key != "subscription_details" || d.Next() != jx.Object {
			return d.Skip()
		}
		return fields(d, func(d *jx.Decoder, key string) error {
			if key != "subscription" {
				return d.Skip()
			}
			return reference(d, &i.Subscription, nil)
		})
	})
}

func (i *invoice) decodePayment(d *jx.Decoder, key string) error {
	if key != "payment" || d.Next() != jx.Object {
		return d.Skip()
	}
	return fields(d, func(d *jx.Decoder, key string) error {
		if key != "payment_intent" {
			return d.Skip()
		}
		err := reference(d, &i.intentID, &i.Intent)
		i.payments = with(i.payments, i.intentID)
		return err
	})
}

func (i *invoice) decodeCharge(d *jx.Decoder) error {
	if d.Next() != jx.Object {
		return d.Skip()
	}
	return fields(d, func(d *jx.Decoder, key string) error {
		if key != "disputed" {
			return d.Skip()
		}
		return truth(d, &i.disputed)
	})
}

// decodeLines takes what is billed and for which time. What is billed becomes a number that is the
// same for the same prices, quantities and amounts in any order; 0 where there are no lines. An
// answer of Stripe's holds the first ten lines.
func (i *invoice) decodeLines(d *jx.Decoder) error {
	if d.Next() != jx.Object {
		return d.Skip()
	}
	return fields(d, func(d *jx.Decoder, key string) error {
		if key != "data" {
			return d.Skip()
		}
		return d.Arr(func(d *jx.Decoder) error {
			var l line
			err := l.decode(d)
			i.Lines += l.sum()
			if l.to > l.from {
				if i.to == 0 || l.from < i.from {
					i.from = l.from
				}
				i.to = max(i.to, l.to)
			}
			return err
		})
	})
}

// line is one of an invoice's lines.
type line struct {
	price                      string
	amount, quantity, from, to int64
}

func (l *line) decode(d *jx.Decoder) error {
	return fields(d, func(d *jx.Decoder, key string) error {
		switch key {
		case "amount":
			return number(d, &l.amount)
		case "quantity":
			return number(d, &l.quantity)
		case "price":
			return reference(d, &l.price, nil)
		case "pricing": // the price's place in newer versions
			return fields(d, func(d *jx.Decoder, key string) error {
				if key != "price_details" {
					return d.Skip()
				}
				return fields(d, func(d *jx.Decoder, key string) error {
					if key != "price" {
						return d.Skip()
					}
					return reference(d, &l.price, nil)
				})
			})
		case "period":
			return fields(d, func(d *jx.Decoder, key string) error {
				switch key {
				case "start":
					return number(d, &l.from)
				case "end":
					return number(d, &l.to)
				}
				return d.Skip()
			})
		}
		return d.Skip()
	})
}

// sum is a number that other lines do not have but by chance.
func (l *line) sum() int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(l.price))
	_, _ = h.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(l.amount)), uint64(l.quantity)))
	return int64(h.Sum64())
}

func (c *charge) decode(d *jx.Decoder) error {
	return fields(d, func(d *jx.Decoder, key string) error {
		switch key {
		case "id":
			return text(d, &c.id)
		case "invoice":
			return reference(d, &c.invoice, nil)
		case "customer":
			return reference(d, &c.customer, nil)
		case "amount":
			return number(d, &c.amount)
		case "currency":
			return word(d, &c.currency)
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
			return c.decodeDispute(d)
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

func (c *charge) decodeDispute(d *jx.Decoder) error {
	if d.Next() != jx.Object {
		return text(d, &c.dispute)
	}
	var p contest
	err := p.decode(d)
	c.dispute, c.disputeStatus, c.disputeAmount, c.disputeCreated = p.id, p.status, p.amount, p.created
	return err
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
		case "funding":
			return word(d, &c.funding)
		case "country":
			return word(d, &c.cardCountry)
		case "fingerprint":
			return text(d, &c.fingerprint)
		}
		return d.Skip()
	})
}

// outcome is what became of an attempt: 'succeeded', 'failed', 'pending', or 'blocked' where it
// never reached the card's network.
func (c *charge) outcome() string {
	switch {
	case c.status == billing.ChargeFailed && c.networkStatus == "not_sent_to_network":
		return billing.ChargeBlocked
	case c.status == billing.ChargeSucceeded, c.status == billing.ChargePending:
		return c.status
	default:
		return billing.ChargeFailed
	}
}

// decline is why the attempt failed. Stripe says so in outcome.reason, and in failure_code where
// that says more.
func (c *charge) decline() (class decline.Class, code string) {
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

func (p *contest) decode(d *jx.Decoder) error {
	return fields(d, func(d *jx.Decoder, key string) error {
		switch key {
		case "id":
			return text(d, &p.id)
		case "charge":
			return reference(d, &p.charge, nil)
		case "status":
			return word(d, &p.status)
		case "amount":
			return number(d, &p.amount)
		case "created":
			return number(d, &p.created)
		}
		return d.Skip()
	})
}

func at(unix int64) time.Time { return time.Unix(unix, 0).UTC() }
