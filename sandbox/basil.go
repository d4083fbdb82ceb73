package sandbox

import "encoding/json"

// basilVersion is an API version under which an invoice has other fields: an endpoint keeps the version it was made with.
const basilVersion = "2025-03-31.basil"

// basil turns an event into the shape of that version. Only invoices differ: payment_intent, charge, paid and
// paid_out_of_band are gone, and the subscription lies in parent.
func basil(payload []byte) []byte {
	var e map[string]json.RawMessage
	var data struct {
		Object             map[string]any  `json:"object"`
		PreviousAttributes json.RawMessage `json:"previous_attributes,omitempty"`
	}
	if json.Unmarshal(payload, &e) != nil || json.Unmarshal(e["data"], &data) != nil {
		return payload // cannot happen: the payload is our own
	}
	e["api_version"] = json.RawMessage(`"` + basilVersion + `"`)
	if o := data.Object; o["object"] == "invoice" {
		o["parent"] = map[string]any{"type": "subscription_details", "quote_details": nil,
			"subscription_details": map[string]any{"metadata": map[string]string{}, "subscription": o["subscription"]}}
		for _, gone := range []string{"payment_intent", "charge", "paid", "paid_out_of_band", "subscription"} {
			delete(o, gone)
		}
		e["data"], _ = json.Marshal(data)
	}
	out, err := json.Marshal(e)
	if err != nil {
		return payload
	}
	return out
}
