package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-faster/jx"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/resend/resend-go/v2"

	"phantom/connect"
	"phantom/db"
	"phantom/money"
	"phantom/task"
	"phantom/vault"
)

// letter is a message as it will leave, and who it is for. It is what is sealed.
type letter struct {
	Invoice string          `json:"invoice"`
	Person  []byte          `json:"person"`
	Persons [][]byte        `json:"persons"`
	Channel []byte          `json:"channel"` // fingerprint of the account
	Email   json.RawMessage `json:"email,omitempty"`
	SMS     *text           `json:"sms,omitempty"`

	secret string
}

// number is where an SMS goes, "" of an email.
func (l *letter) number() string {
	if l == nil || l.SMS == nil {
		return ""
	}
	return l.SMS.To
}

// compose writes a message from what Stripe says now. Where there is nothing to send its error is an [*ending].
func (s *Service) compose(ctx context.Context, m *message) (*letter, error) {
	t := m.task
	ghost, err := s.queries.MessageGetGhost(ctx, db.MessageGetGhostParams{MerchantID: t.MerchantID, ID: m.GhostID})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, stop(skipped("the ghost is gone"))
	}
	if err != nil {
		return nil, fmt.Errorf("read ghost: %w", err)
	}
	account, err := s.open(ctx, t.MerchantID, providerOf(m.Channel))
	if errors.Is(err, ErrNotFound) {
		return nil, stop(skipped("the channel is not set up"))
	}
	if err != nil {
		return nil, err
	}
	wording, err := s.template(ctx, t.MerchantID, m.Channel, m.Template)
	if errors.Is(err, ErrNotFound) {
		return nil, stop(failed("its template does not exist"))
	}
	if err != nil {
		return nil, err
	}
	reader, err := s.connect.Reader(ctx, t.MerchantID)
	if err != nil {
		return nil, err
	}
	m.hash = reader.Hash
	email, err := ghostEmail(m.GhostID, ghost.Email)
	if err != nil {
		return nil, err
	}
	l := &letter{Invoice: m.invoice, Channel: account.fingerprint(m.hash), Persons: [][]byte{m.Customer}, secret: account.secret}
	if email != "" {
		l.Persons = append(l.Persons, m.hash.email(email))
	}
	// Whoever is over a cap already is not worth a question to Stripe. The count that decides comes later.
	if err := s.underCaps(ctx, s.queries, m, l.Persons, m.Now); err != nil {
		return nil, err
	}
	if m.Channel == Email {
		if email == "" {
			return nil, stop(skipped(whyNoEmail))
		}
		l.Person = m.hash.email(email)
	}
	if err := writable(ctx, reader, ghost.StripeCustomerID, l.Invoice); err != nil {
		return nil, err
	}
	invoice, err := readBill(ctx, reader, l.Invoice)
	if err != nil {
		return nil, err
	}
	if err := m.mayTouch(invoice); err != nil {
		return nil, err
	}
	switch {
	case invoice.settled():
		return nil, stop(skipped("the invoice is settled"))
	case !payPage(invoice.page, s.config.Dev):
		return nil, stop(skipped("the invoice has no page to pay on"))
	}
	customer := fields{
		CustomerName: addressee(invoice.customerName), Company: company(invoice.accountName), Amount: money.Format(invoice.remaining, invoice.currency),
		InvoiceNumber: plain(invoice.number, 40), PayURL: invoice.page, DeclineReason: reasonOf(invoice.method(), ghost.DeclineClass),
		Method: invoice.method(), CardHint: invoice.card(),
	}
	if m.Channel == Email {
		return l, s.composeEmail(m, l, wording, customer, account, email)
	}
	return l, s.composeSMS(ctx, m, l, wording, customer, account, reader, ghost.StripeCustomerID)
}

func stop(e ending) error { return &e }

// writable fails where a customer must not be written to about an invoice now: with an [*ending] where he disputes one of his charges, for
// he is in his bank's hands, and with a snooze where a bank is still moving the money for it.
func writable(ctx context.Context, reader *connect.Reader, customer, invoice string) error {
	charges, err := readCharges(ctx, reader, customer, time.Now())
	if err != nil {
		return ofStripe(ctx, err)
	}
	if slices.ContainsFunc(charges, charge.contested) {
		return stop(skipped("the customer disputes a charge"))
	}
	if slices.ContainsFunc(charges, func(c charge) bool { return c.Status == "pending" && c.Invoice == invoice }) {
		return task.Snooze(oneADay)
	}
	return nil
}

// Why a message is skipped because of who it is for.
const (
	whyStopped  = "the customer has asked not to be written to"
	whyNoEmail  = "the customer has no usable email address"
	whyNoPhone  = "the customer has no phone number"
	whyNoMobile = "the customer's phone number is no mobile number of a country that is written to"
)

// unreachable are those that say that a customer cannot be reached on a channel. They are looked for among the messages of before.
var unreachable = []string{whyNoEmail, whyNoPhone, whyNoMobile}

func (s *Service) composeEmail(m *message, l *letter, wording Template, customer fields, account channel, to string) error {
	name, ok := sender(account.from)
	if !ok {
		return stop(failed("the channel's sender is no address"))
	}
	if customer.Company == "" {
		customer.Company = company(name)
	}
	if customer.Company == "" {
		return stop(skipped("neither the account at Stripe nor the channel's sender has a name"))
	}
	customer.UnsubscribeURL = s.config.PublicURL + "/u/" + unsubscribeToken(m.task.MerchantID, l.Person, m.hash)
	rendered, err := wording.render(customer)
	if err != nil {
		return stop(failed("its template cannot be rendered: " + err.Error()))
	}
	l.Email, err = emailBytes(&resend.SendEmailRequest{
		From: account.from, To: []string{to}, Subject: rendered.Subject, Html: rendered.HTML, Text: rendered.Text,
		Headers: map[string]string{ // RFC 8058
			"List-Unsubscribe":      "<" + customer.UnsubscribeURL + ">",
			"List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
		},
	})
	return err
}

func (s *Service) composeSMS(ctx context.Context, m *message, l *letter, wording Template, customer fields, account channel, reader *connect.Reader, id string) error {
	owner, err := readCustomer(ctx, reader, id)
	if err != nil {
		return err
	}
	to, ok := parsePhone(owner.phone, owner.country)
	switch {
	case owner.phone == "":
		return stop(skipped(whyNoPhone))
	case !ok || !textable(to):
		return stop(skipped(whyNoMobile))
	case customer.Company == "":
		return stop(skipped("the account at Stripe has no public name"))
	}
	l.Person = m.hash.phone(to)
	l.Persons = append(l.Persons, l.Person)
	rendered, err := wording.render(customer)
	if err != nil {
		return stop(failed("its template cannot be rendered: " + err.Error()))
	}
	l.SMS = &text{account.account, account.from, to, rendered.Text}
	return nil
}

// ghostEmail opens a ghost's address, "" where there is none that can be written to.
func ghostEmail(id uuid.UUID, email *vault.EncryptedToken) (string, error) {
	if email == nil {
		return "", nil
	}
	address, err := email.Reveal("ghost_targets.email:" + id.String())
	if err != nil {
		return "", err
	}
	if address = strings.TrimSpace(address); !isMailbox(address) {
		return "", nil
	}
	return address, nil
}

// invoice is what a message says of an invoice, and whether it is still owed.
type invoice struct {
	status, currency, page, number string
	customerName, accountName      string
	methodType                     string // of its last charge, "" where there was none
	cardBrand, cardLast4           string
	remaining                      int64
	created                        int64 // Unix seconds
	paid                           bool
	owner                          payer
	contract                       contract
}

func (i *invoice) settled() bool {
	return i.paid || i.remaining <= 0 || i.status != "open" && i.status != "uncollectible"
}

// method is what was charged.
func (i *invoice) method() string { return methodNamed(i.methodType) }

// card is how customers know their card, "" where something else was charged.
func (i *invoice) card() string {
	if i.method() != byCard {
		return ""
	}
	brand, ok := map[string]string{
		"amex": "American Express", "diners": "Diners Club", "discover": "Discover", "eftpos_au": "eftpos", "jcb": "JCB", "mastercard": "Mastercard",
		"unionpay": "UnionPay", "visa": "Visa",
	}[i.cardBrand]
	if !ok || len(i.cardLast4) != 4 || strings.Trim(i.cardLast4, "0123456789") != "" {
		return ""
	}
	return brand + " ending in " + i.cardLast4
}

// readBill asks Stripe how an invoice stands now.
func readBill(ctx context.Context, reader *connect.Reader, id string) (*invoice, error) {
	var i *invoice
	err := reader.Get(ctx, "/v1/invoices/"+url.PathEscape(id), url.Values{"expand[]": {"charge", "customer", "subscription"}}, func(d *jx.Decoder) error {
		i = &invoice{}
		return d.ObjBytes(func(d *jx.Decoder, key []byte) (err error) {
			switch string(key) {
			case "status":
				i.status, err = maybe(d)
			case "currency":
				i.currency, err = maybe(d)
			case "hosted_invoice_url":
				i.page, err = maybe(d)
			case "number":
				i.number, err = maybe(d)
			case "customer_name":
				i.customerName, err = maybe(d)
			case "account_name":
				i.accountName, err = maybe(d)
			case "amount_remaining":
				i.remaining, err = d.Int64()
			case "paid":
				i.paid, err = d.Bool()
			case "charge":
				err = i.readCharge(d)
			case "customer":
				err = decodeJSON(d, &i.owner)
			case "subscription":
				err = decodeJSON(d, &i.contract)
			case "created":
				i.created, err = d.Int64()
			default:
				err = d.Skip()
			}
			return err
		})
	})
	switch {
	case errors.Is(err, connect.ErrNotFound):
		return nil, stop(skipped("the invoice is gone"))
	case err != nil:
		return nil, ofStripe(ctx, err)
	}
	return i, nil
}

func (i *invoice) readCharge(d *jx.Decoder) error {
	return within(d, "payment_method_details", func(d *jx.Decoder) error {
		return d.ObjBytes(func(d *jx.Decoder, key []byte) (err error) {
			switch {
			case string(key) == "type":
				i.methodType, err = maybe(d)
			case string(key) == "card" && d.Next() == jx.Object:
				err = i.readCard(d)
			default:
				err = d.Skip()
			}
			return err
		})
	})
}

func (i *invoice) readCard(d *jx.Decoder) error {
	return d.ObjBytes(func(d *jx.Decoder, key []byte) (err error) {
		switch string(key) {
		case "brand":
			i.cardBrand, err = maybe(d)
		case "last4":
			i.cardLast4, err = maybe(d)
		default:
			err = d.Skip()
		}
		return err
	})
}

// customer is what an SMS needs to know.
type customer struct{ phone, country string }

func readCustomer(ctx context.Context, reader *connect.Reader, id string) (*customer, error) {
	var c *customer
	err := reader.Get(ctx, "/v1/customers/"+url.PathEscape(id), nil, func(d *jx.Decoder) error {
		c = &customer{}
		return d.ObjBytes(func(d *jx.Decoder, key []byte) (err error) {
			switch string(key) {
			case "phone":
				c.phone, err = maybe(d)
			case "address":
				if d.Next() != jx.Object {
					return d.Skip()
				}
				err = d.ObjBytes(func(d *jx.Decoder, key []byte) (err error) {
					if string(key) != "country" {
						return d.Skip()
					}
					c.country, err = maybe(d)
					return err
				})
			default:
				err = d.Skip()
			}
			return err
		})
	})
	switch {
	case errors.Is(err, connect.ErrNotFound):
		return nil, stop(skipped("the customer is gone"))
	case err != nil:
		return nil, ofStripe(ctx, err)
	}
	return c, nil
}

// maybe reads a text, "" where there is something else.
func maybe(d *jx.Decoder) (string, error) {
	if d.Next() != jx.String {
		return "", d.Skip()
	}
	return d.Str()
}

// within reads one field of an object, if it is one.
func within(d *jx.Decoder, field string, read func(*jx.Decoder) error) error {
	if d.Next() != jx.Object {
		return d.Skip()
	}
	return d.ObjBytes(func(d *jx.Decoder, key []byte) error {
		if string(key) != field || d.Next() != jx.Object {
			return d.Skip()
		}
		return read(d)
	})
}

// ofStripe makes Stripe's failures no failed try, and its wish to slow down a short wait.
func ofStripe(ctx context.Context, err error) error {
	var slow *connect.ReadError
	if errors.As(err, &slow) && slow.SlowDown {
		return task.Snooze(10 * time.Second)
	}
	return unhurried(ctx, err)
}
