package db

import (
	"encoding/json"
	"slices"

	"phantom/debt"
)

// Owed are the invoices that a ghost owes, the oldest first: one at least.
func (g GhostTarget) Owed() (list []debt.Invoice) {
	_ = json.Unmarshal(g.Invoices, &list) // our own; without it there is the oldest one
	if !slices.ContainsFunc(list, func(i debt.Invoice) bool { return i.ID == g.StripeInvoiceID }) {
		list = slices.Insert(list, 0, debt.Invoice{ID: g.StripeInvoiceID, Amount: g.Amount})
	}
	return list
}

// OwedOf is what remains of one of the ghost's invoices, in minor units; 0 where it does not owe
// that one.
func (g GhostTarget) OwedOf(invoice string) int64 {
	for _, i := range g.Owed() {
		if i.ID == invoice {
			return i.Amount
		}
	}
	return 0
}

// OwedColumns are the ids and the amounts of [GhostTarget.Owed], as two columns.
func (g GhostTarget) OwedColumns() (ids []string, amounts []int64) {
	for _, i := range g.Owed() {
		ids, amounts = append(ids, i.ID), append(amounts, i.Amount)
	}
	return ids, amounts
}
