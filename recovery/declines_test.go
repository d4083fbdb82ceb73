package recovery

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"phantom/billing"
	"phantom/connect"
	"phantom/decline"
	"phantom/gate"
	"phantom/playbook"
	"phantom/state"
)

// The codes as the project's notes on Stripe list them, with what becomes of the hunt's charges.
var listedCodes = map[decline.Class]string{
	"never": `incorrect_number lost_card pickup_card stolen_card revocation_of_authorization revocation_of_all_authorizations
		stop_payment_order invalid_account fraudulent merchant_blacklist restricted_card security_violation transaction_not_allowed
		highest_risk_level do_not_try_again`,
	"customer": `authentication_required expired_card incorrect_cvc invalid_cvc invalid_expiry_month invalid_expiry_year incorrect_zip
		card_not_supported currency_not_supported new_account_information_available call_issuer pin_try_exceeded a_code_of_next_year`,
	"timed": "insufficient_funds card_velocity_exceeded withdrawal_count_limit_exceeded",
	"low":   "do_not_honor generic_decline no_action_taken",
	"soon":  "processing_error issuer_not_available reenter_transaction try_again_later",
}

// cardOnFile is the card that was charged.
var cardOnFile = billing.Method{ID: "pm_1", Type: "card", Brand: "visa", Fingerprint: "f", Country: "US"}

// Each code of a declined charge does what its class says, in the answer to our own charge and in
// what is read before the next.
func TestDeclinesByCode(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for class, codes := range listedCodes {
		for code := range strings.FieldsSeq(codes) {
			body := fmt.Sprintf(`{"error":{"code":"card_declined","decline_code":%q,"type":"card_error"}}`, code)
			o := outcomeOf(gate.KindPay, connect.Answer{Status: http.StatusPaymentRequired, Body: []byte(body)})
			over := class == "never" || class == "customer"
			if o.class != class || o.code != code || (o.held != "") != over || o.result != state.AttemptDeclined || o.status != state.TaskFailed {
				t.Errorf("%s: %+v", code, o)
			}
			c := billing.Charge{Status: "failed", Invoice: "in_1", Created: now.Add(-48 * time.Hour).Unix(), Method: cardOnFile}
			c.Outcome.Reason, c.Outcome.NetworkStatus = code, "declined_by_network"
			r := gate.MayAsk([]billing.Charge{c}, gate.Request{Object: "in_1"}, cardOnFile, playbook.Default(), now)
			if over != (!r.Yes() && r.Code.Effect() == gate.Holds) || !over && !r.Yes() {
				t.Errorf("%s read before the charge: %+v", code, r)
			}
			c.Method.Fingerprint = "another"
			if r := gate.MayAsk([]billing.Charge{c}, gate.Request{Object: "in_1"}, cardOnFile, playbook.Default(), now); !r.Yes() {
				t.Errorf("%s of another card: %+v", code, r)
			}
		}
	}
}
