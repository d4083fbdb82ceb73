package billing

import (
	"encoding/json"
	"fmt"
	"testing"
)

// What is charged is the first that is set, in Stripe's order, in whichever shape it comes.
func TestMethodByStripesOrder(t *testing.T) {
	t.Parallel()
	card := func(id string) string {
		return fmt.Sprintf(`{"id":%q,"object":"payment_method","type":"card","card":{"brand":"visa","fingerprint":"f_%s","country":"US"}}`, id, id)
	}
	full := fmt.Sprintf(`{"id":"in_1","default_payment_method":%s,"default_source":%s,"subscription":{"status":"active","default_payment_method":%s,"default_source":%s},
		"customer":{"id":"cus_1","invoice_settings":{"default_payment_method":%s},"default_source":{"id":"card_6","object":"card","brand":"Visa","fingerprint":"f_6"}}}`,
		card("1"), card("2"), card("3"), card("4"), card("5"))
	var o Object
	if err := json.Unmarshal([]byte(full), &o); err != nil {
		t.Fatal(err)
	}
	for i, take := range []func(){
		func() { o.Method = Method{} }, func() { o.Source = Method{} }, func() { o.Subscription.Method = Method{} },
		func() { o.Subscription.Source = Method{} }, func() { o.Customer.Settings.Method = Method{} }, func() { o.Customer.Source = Method{} },
	} {
		if m := o.PaymentMethod(); m.Fingerprint != fmt.Sprint("f_", i+1) || m.Rail() != RailCard {
			t.Errorf("%d: %+v", i, m)
		}
		take()
	}
	if m := o.PaymentMethod(); m.Known() {
		t.Errorf("without any: %+v", m)
	}
	for text, want := range map[string]Method{
		`{"customer":"cus_1","subscription":null}`:                                                                {},
		`{"default_source":{"id":"ba_1","object":"bank_account","country":"US","fingerprint":"x"}}`:               {ID: "ba_1", Type: "bank_account", Fingerprint: "x", Country: "US"},
		`{"default_payment_method":{"id":"pm_1","type":"us_bank_account","us_bank_account":{"fingerprint":"y"}}}`: {ID: "pm_1", Type: "us_bank_account", Fingerprint: "y"},
		`{"default_payment_method":"pm_7"}`:                                                                       {ID: "pm_7"},
	} {
		var o Object
		if err := json.Unmarshal([]byte(text), &o); err != nil || o.PaymentMethod() != want {
			t.Errorf("%s: %+v, %v", text, o.PaymentMethod(), err)
		}
	}
}
