package recovery

import (
	"cmp"
	"encoding/json"
)

// method is a way to pay: a customer's, or the one that a charge was made with.
type method struct {
	ID          string
	Type        string // Stripe's, as "card" or "sepa_debit"; "" where nothing is known
	Brand       string // of a card
	Fingerprint string
	Country     string // that issued it, in two letters
}

// UnmarshalJSON reads a payment method, a charge's payment_method_details, or one of the older sources. An id alone and null are no error.
func (m *method) UnmarshalJSON(text []byte) error {
	*m = method{}
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

// known says whether there is a method at all.
func (m method) known() bool { return m.ID != "" || m.Type != "" || m.Fingerprint != "" }

// key is what tells a card or an account from another, however often it was entered; "" where nothing does.
func (m method) key() string { return cmp.Or(m.Fingerprint, m.ID) }

// rail is by which rules a method is asked again.
type rail int

const (
	railUnknown rail = iota // wallets and whatever comes: the customer acts
	railCard
	railDebit
)

var rails = map[string]rail{
	"card": railCard,

	"us_bank_account": railDebit, "ach_debit": railDebit, "bank_account": railDebit, // ACH
	"sepa_debit": railDebit, "bacs_debit": railDebit, "au_becs_debit": railDebit, "acss_debit": railDebit, "nz_bank_account": railDebit,
}

func (m method) rail() rail { return rails[m.Type] }
