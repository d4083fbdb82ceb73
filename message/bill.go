package message

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/go-faster/jx"

	"phantom/billing"
	"phantom/connect"
)

// invoice is what a message says of an invoice, and whether it is still owed.
type invoice struct {
	status, currency, page, number string
	customerName, accountName      string
	methodType                     string // of its last charge, "" where there was none
	cardBrand, cardLast4           string
	remaining                      int64
	created                        int64 // Unix seconds
	paid                           bool
	sent                           bool // to be paid by hand: nothing was charged by itself
	owner                          billing.Customer
	contract                       billing.Subscription
}

func (i *invoice) settled() bool {
	return i.paid || i.remaining <= 0 || i.status != billing.InvoiceOpen && i.status != billing.InvoiceUncollectible
}

// tried says whether a payment was: by Stripe, or by the customer on the invoice's page.
func (i *invoice) tried() bool { return !i.sent || i.methodType != "" }

// method is what was charged.
func (i *invoice) method() string { return methodNamed(i.methodType) }

// card is the brand of the card that was charged, and its last digits, "" where it is not known or
// something else was charged.
func (i *invoice) card() (brand, last4 string) {
	brand, known := map[string]string{
		"amex": "American Express", "diners": "Diners Club", "discover": "Discover", "eftpos_au": "eftpos", "jcb": "JCB", "mastercard": "Mastercard",
		"unionpay": "UnionPay", "visa": "Visa",
	}[i.cardBrand]
	if i.method() != byCard || !known || len(i.cardLast4) != 4 || strings.Trim(i.cardLast4, "0123456789") != "" {
		return "", ""
	}
	return brand, i.cardLast4
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
			case "collection_method":
				var method string
				method, err = maybe(d)
				i.sent = method == "send_invoice"
			case "charge":
				err = i.readCharge(d)
			case "customer":
				err = billing.DecodeJSON(d, &i.owner)
			case "subscription":
				err = billing.DecodeJSON(d, &i.contract)
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
		return nil, connect.Unhurried(ctx, err)
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
		return nil, connect.Unhurried(ctx, err)
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
