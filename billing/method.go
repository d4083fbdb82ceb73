package billing

import (
	"cmp"
	"encoding/json"
)

// Method is a way to pay: a customer's, or the one that a charge was made with.
type Method struct {
	ID          string
	Type        string // Stripe's, as "card" or "sepa_debit"; "" where nothing is known
	Brand       string // of a card
	Fingerprint string
	Country     string // that issued it, in two letters
}

// UnmarshalJSON reads a payment method, a charge's payment_method_details, or one of the older
// sources. An id alone and null are no error.
func (m *Method) UnmarshalJSON(text []byte) error {
	*m = Method{}
	if len(text) == 0 || text[0] != '{' {
		if len(text) > 0 && text[0] == '"' {
			return json.Unmarshal(text, &m.ID)
		}
		return nil
	}
	type details struct {
		Brand       string `json:"brand"`
		Fingerprint string `json:"fingerprint"`
		Country     string `json:"country"`
	}
	var head struct {
		ID     string `json:"id"`
		Object string `json:"object"`
		Type   string `json:"type"`
		details
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return err
	}
	m.ID, m.Type = head.ID, head.Type
	if m.Type == "" { // a card or a bank account of before there were payment methods
		m.Type = head.Object
	}
	var byType map[string]json.RawMessage
	if err := json.Unmarshal(text, &byType); err != nil {
		return err
	}
	var d details
	if raw, there := byType[m.Type]; there {
		_ = json.Unmarshal(raw, &d) // what is no object says nothing
	}
	m.Brand, m.Fingerprint = cmp.Or(d.Brand, head.Brand), cmp.Or(d.Fingerprint, head.Fingerprint)
	m.Country = cmp.Or(d.Country, head.Country)
	return nil
}

// Known says whether there is a method at all.
func (m Method) Known() bool { return m.ID != "" || m.Type != "" || m.Fingerprint != "" }

// Key is what tells a card or an account from another, however often it was entered; "" where
// nothing does.
func (m Method) Key() string { return cmp.Or(m.Fingerprint, m.ID) }

// Rail is by which rules a method is asked again.
type Rail int

// The rails.
const (
	RailUnknown Rail = iota // wallets and all other kinds: the customer acts
	RailCard
	RailDebit
)

var rails = map[string]Rail{
	"card": RailCard,

	"us_bank_account": RailDebit, "ach_debit": RailDebit, "bank_account": RailDebit, // ACH
	"sepa_debit": RailDebit, "bacs_debit": RailDebit, "au_becs_debit": RailDebit, "acss_debit": RailDebit, "nz_bank_account": RailDebit,
}

// Rail is by which rules the method is asked again.
func (m Method) Rail() Rail { return rails[m.Type] }
