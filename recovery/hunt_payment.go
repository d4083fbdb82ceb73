package recovery

import (
	"time"

	"phantom/billing"
)

// payment is what has come for an invoice since its hunt began.
type payment struct {
	amount int64 // minor units; 0 where nothing has
	at     time.Time
	by     *billing.Charge // that completed it; nil where the money came outside of Stripe
}

// moneySince says what a paid invoice has brought since its hunt began: what Stripe says was paid,
// less the charges of before and what has gone back already, and never more than remained when the
// hunt began. A credit note is no money: Stripe does not count it as paid. owed holds what remained
// of each invoice that the hunt began with. charges are the invoice's, the newest first.
func moneySince(o billing.Object, charges []billing.Charge, owed map[string]int64, began time.Time) payment {
	if o.Status != billing.InvoicePaid {
		return payment{}
	}
	p := payment{amount: o.AmountPaid, at: began}
	if o.Transitions.PaidAt != nil {
		p.at = time.Unix(*o.Transitions.PaidAt, 0)
	}
	since := began.Add(-clockSkew)
	if p.at.Before(since) {
		return payment{} // nothing was at risk any more
	}
	for _, c := range charges {
		switch {
		case c.Status != billing.ChargeSucceeded:
		case time.Unix(c.Created, 0).Before(since):
			p.amount -= c.Amount
		default:
			p.amount -= c.Refunded
			if p.by == nil && !o.PaidOutOfBand {
				p.by = &c
			}
		}
	}
	if most, known := owed[o.ID]; known {
		p.amount = min(p.amount, most)
	}
	if p.amount <= 0 {
		return payment{}
	}
	return p
}

// settlement is what became of the invoices with which a hunt began.
type settlement struct {
	owed bool      // something still is
	last time.Time // when the last payment came; zero where none has
}

func (d *settlement) add(o billing.Object, p payment) {
	d.owed = d.owed || o.Status == billing.InvoiceOpen || o.Status == billing.InvoiceUncollectible
	if p.amount > 0 && p.at.After(d.last) {
		d.last = p.at
	}
}

// paid says whether money came and nothing is owed any more. What a merchant gives up is not owed,
// and no payment.
func (d settlement) paid() bool { return !d.owed && !d.last.IsZero() }
