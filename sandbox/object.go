package sandbox

import (
	"encoding/json"
	"strconv"
)

// The objects below have the shapes of API version 2023-10-16. Fields that Stripe has and that
// nobody here reads are left out: a client must cope with that, as it must with new ones.

// stamp is a Unix time in seconds that is null when zero.
type stamp int64

func (s stamp) MarshalJSON() ([]byte, error) {
	if s == 0 {
		return []byte("null"), nil
	}
	return strconv.AppendInt(nil, int64(s), 10), nil
}

// text is a string, often an id, that is null when empty.
type text string

func (t text) MarshalJSON() ([]byte, error) {
	if t == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(t))
}

type head struct {
	ID       string `json:"id"`
	Object   string `json:"object"`
	Created  int64  `json:"created"`
	Livemode bool   `json:"livemode"`
}

func (h *head) meta() *head { return h }

type object interface{ meta() *head }

type dict map[string]string

type address struct {
	City       text `json:"city"`
	Country    text `json:"country"`
	Line1      text `json:"line1"`
	Line2      text `json:"line2"`
	PostalCode text `json:"postal_code"`
	State      text `json:"state"`
}

type customer struct {
	head
	Name             text             `json:"name"`
	Email            text             `json:"email"`
	Phone            text             `json:"phone"`
	Address          address          `json:"address"`
	Balance          int64            `json:"balance"`
	Currency         string           `json:"currency"`
	DefaultSource    text             `json:"default_source"`
	Delinquent       bool             `json:"delinquent"`
	Description      text             `json:"description"`
	InvoicePrefix    string           `json:"invoice_prefix"`
	InvoiceSettings  customerSettings `json:"invoice_settings"`
	Metadata         dict             `json:"metadata"`
	PreferredLocales []string         `json:"preferred_locales"`
	TestClock        text             `json:"test_clock"`

	wallet   []*card
	subs     int  // how many it has had
	reminded int  // emails while a card of its was dead
	moved    bool // it is about to come round
	oneOffs  int  // charges that are no invoice's
	payer    *payer
}

type customerSettings struct {
	DefaultPaymentMethod text `json:"default_payment_method"`
	Footer               text `json:"footer"`
}

type paymentMethod struct {
	head
	Type           string         `json:"type"`
	Customer       text           `json:"customer"`
	BillingDetails billingDetails `json:"billing_details"`
	Card           *cardDetails   `json:"card,omitempty"`
	SepaDebit      *sepaDetails   `json:"sepa_debit,omitempty"`
	Metadata       dict           `json:"metadata"`
}

type billingDetails struct {
	Address address `json:"address"`
	Email   text    `json:"email"`
	Name    text    `json:"name"`
	Phone   text    `json:"phone"`
}

type cardDetails struct {
	Brand       string `json:"brand"`
	Country     string `json:"country"`
	ExpMonth    int    `json:"exp_month"`
	ExpYear     int    `json:"exp_year"`
	Fingerprint string `json:"fingerprint"`
	Funding     string `json:"funding"`
	Last4       string `json:"last4"`
	// on charges only; on a payment method the key is "networks"
	Network string `json:"network,omitempty"`
}

type sepaDetails struct {
	BankCode    string `json:"bank_code"`
	Country     string `json:"country"`
	Fingerprint string `json:"fingerprint"`
	Last4       string `json:"last4"`
}

type price struct {
	head
	Active            bool      `json:"active"`
	BillingScheme     string    `json:"billing_scheme"`
	Currency          string    `json:"currency"`
	Nickname          string    `json:"nickname"`
	Product           string    `json:"product"`
	Recurring         recurring `json:"recurring"`
	Type              string    `json:"type"`
	UnitAmount        int64     `json:"unit_amount"`
	UnitAmountDecimal string    `json:"unit_amount_decimal"`
	Metadata          dict      `json:"metadata"`
}

type recurring struct {
	Interval      string `json:"interval"`
	IntervalCount int    `json:"interval_count"`
	UsageType     string `json:"usage_type"`
}

// list is also the envelope of nested lists such as subscription.items.
type list[T any] struct {
	Object  string `json:"object"`
	URL     string `json:"url"`
	HasMore bool   `json:"has_more"`
	Data    []T    `json:"data"`
}

type subscription struct {
	head
	BillingCycleAnchor   int64            `json:"billing_cycle_anchor"`
	CancelAt             stamp            `json:"cancel_at"`
	CancelAtPeriodEnd    bool             `json:"cancel_at_period_end"`
	CanceledAt           stamp            `json:"canceled_at"`
	CollectionMethod     string           `json:"collection_method"`
	Currency             string           `json:"currency"`
	CurrentPeriodStart   int64            `json:"current_period_start"`
	CurrentPeriodEnd     int64            `json:"current_period_end"`
	Customer             string           `json:"customer"`
	DaysUntilDue         stamp            `json:"days_until_due"`
	DefaultPaymentMethod text             `json:"default_payment_method"`
	DefaultSource        text             `json:"default_source"`
	EndedAt              stamp            `json:"ended_at"`
	Items                list[*subItem]   `json:"items"`
	LatestInvoice        text             `json:"latest_invoice"`
	Metadata             dict             `json:"metadata"`
	PauseCollection      *pauseCollection `json:"pause_collection"`
	StartDate            int64            `json:"start_date"`
	Status               string           `json:"status"`
	TestClock            text             `json:"test_clock"`
	TrialStart           stamp            `json:"trial_start"`
	TrialEnd             stamp            `json:"trial_end"`
}

type pauseCollection struct {
	Behavior  string `json:"behavior"`
	ResumesAt stamp  `json:"resumes_at"`
}

type subItem struct {
	ID           string `json:"id"`
	Object       string `json:"object"`
	Created      int64  `json:"created"`
	Metadata     dict   `json:"metadata"`
	Price        *price `json:"price"`
	Quantity     int64  `json:"quantity"`
	Subscription string `json:"subscription"`
}

type invoice struct {
	head
	AccountCountry       string        `json:"account_country"`
	AccountName          string        `json:"account_name"`
	AmountDue            int64         `json:"amount_due"`
	AmountPaid           int64         `json:"amount_paid"`
	AmountRemaining      int64         `json:"amount_remaining"`
	AttemptCount         int64         `json:"attempt_count"`
	Attempted            bool          `json:"attempted"`
	AutoAdvance          bool          `json:"auto_advance"`
	BillingReason        string        `json:"billing_reason"`
	Charge               text          `json:"charge"`
	CollectionMethod     string        `json:"collection_method"`
	Currency             string        `json:"currency"`
	Customer             string        `json:"customer"`
	CustomerEmail        text          `json:"customer_email"`
	CustomerName         text          `json:"customer_name"`
	DefaultPaymentMethod text          `json:"default_payment_method"`
	DefaultSource        text          `json:"default_source"`
	DueDate              stamp         `json:"due_date"`
	EndingBalance        *int64        `json:"ending_balance"`
	HostedInvoiceURL     text          `json:"hosted_invoice_url"`
	InvoicePDF           text          `json:"invoice_pdf"`
	Lines                list[*line]   `json:"lines"`
	Metadata             dict          `json:"metadata"`
	NextPaymentAttempt   stamp         `json:"next_payment_attempt"`
	Number               text          `json:"number"`
	Paid                 bool          `json:"paid"`
	PaidOutOfBand        bool          `json:"paid_out_of_band"`
	PaymentIntent        text          `json:"payment_intent"`
	PeriodStart          int64         `json:"period_start"`
	PeriodEnd            int64         `json:"period_end"`
	StartingBalance      int64         `json:"starting_balance"`
	Status               string        `json:"status"`
	Transitions          statusChanges `json:"status_transitions"`
	Subscription         text          `json:"subscription"`
	Subtotal             int64         `json:"subtotal"`
	TestClock            text          `json:"test_clock"`
	Total                int64         `json:"total"`

	of        *contract
	tries     int      // charges so far, of all who caused any
	firstFail int64    // start of the retry window
	welcome   bool     // its next charge succeeds with any card
	step      int64    // when something next happens to it by itself; 0 = never
	former    []string // payment intents that others have replaced, oldest first
	refuse    int64    // so many attempts by hand will be refused
}

type statusChanges struct {
	FinalizedAt           stamp `json:"finalized_at"`
	MarkedUncollectibleAt stamp `json:"marked_uncollectible_at"`
	PaidAt                stamp `json:"paid_at"`
	VoidedAt              stamp `json:"voided_at"`
}

type line struct {
	ID           string `json:"id"`
	Object       string `json:"object"`
	Amount       int64  `json:"amount"`
	Currency     string `json:"currency"`
	Description  string `json:"description"`
	Livemode     bool   `json:"livemode"`
	Metadata     dict   `json:"metadata"`
	Period       period `json:"period"`
	Price        *price `json:"price"`
	Proration    bool   `json:"proration"`
	Quantity     int64  `json:"quantity"`
	Subscription text   `json:"subscription"`
	Type         string `json:"type"`
}

type period struct {
	Start int64 `json:"start"`
	End   int64 `json:"end"`
}

type intent struct {
	head
	Amount             int64      `json:"amount"`
	AmountReceived     int64      `json:"amount_received"`
	CaptureMethod      string     `json:"capture_method"`
	ConfirmationMethod string     `json:"confirmation_method"`
	Currency           string     `json:"currency"`
	Customer           string     `json:"customer"`
	Invoice            text       `json:"invoice"`
	LastPaymentError   *cardError `json:"last_payment_error"`
	LatestCharge       text       `json:"latest_charge"`
	Metadata           dict       `json:"metadata"`
	PaymentMethod      text       `json:"payment_method"`
	PaymentMethodTypes []string   `json:"payment_method_types"`
	Status             string     `json:"status"`
}

// cardError is a decline: payment_intent.last_payment_error and the body of a 402.
type cardError struct {
	Type               string `json:"type"`
	Code               string `json:"code"`
	DeclineCode        string `json:"decline_code,omitempty"`
	AdviceCode         string `json:"advice_code,omitempty"`
	NetworkAdviceCode  string `json:"network_advice_code,omitempty"`
	NetworkDeclineCode string `json:"network_decline_code,omitempty"`
	Message            string `json:"message"`
	Charge             string `json:"charge,omitempty"`
	DocURL             string `json:"doc_url,omitempty"`
}

type charge struct {
	head
	Amount               int64                `json:"amount"`
	AmountCaptured       int64                `json:"amount_captured"`
	AmountRefunded       int64                `json:"amount_refunded"`
	BillingDetails       billingDetails       `json:"billing_details"`
	Captured             bool                 `json:"captured"`
	Currency             string               `json:"currency"`
	Customer             string               `json:"customer"`
	Description          text                 `json:"description"`
	Dispute              text                 `json:"dispute"`
	Disputed             bool                 `json:"disputed"`
	FailureCode          text                 `json:"failure_code"`
	FailureMessage       text                 `json:"failure_message"`
	Invoice              text                 `json:"invoice"`
	Metadata             dict                 `json:"metadata"`
	Outcome              outcome              `json:"outcome"`
	Paid                 bool                 `json:"paid"`
	PaymentIntent        text                 `json:"payment_intent"`
	PaymentMethod        text                 `json:"payment_method"`
	PaymentMethodDetails paymentMethodDetails `json:"payment_method_details"`
	Refunded             bool                 `json:"refunded"`
	Status               string               `json:"status"`
}

// outcome carries advice_code, network_advice_code and network_decline_code although version
// 2023-10-16 of the typed client does not name them: Stripe sends them to every version.
type outcome struct {
	AdviceCode         text   `json:"advice_code"`
	NetworkAdviceCode  text   `json:"network_advice_code"`
	NetworkDeclineCode text   `json:"network_decline_code"`
	NetworkStatus      string `json:"network_status"`
	Reason             text   `json:"reason"`
	RiskLevel          string `json:"risk_level,omitempty"`
	RiskScore          int    `json:"risk_score,omitempty"`
	SellerMessage      string `json:"seller_message"`
	Type               string `json:"type"`
}

type paymentMethodDetails struct {
	Type      string       `json:"type"`
	Card      *cardDetails `json:"card,omitempty"`
	SepaDebit *sepaDetails `json:"sepa_debit,omitempty"`
}

type dispute struct {
	head
	Amount             int64  `json:"amount"`
	Charge             string `json:"charge"`
	Currency           string `json:"currency"`
	IsChargeRefundable bool   `json:"is_charge_refundable"`
	Metadata           dict   `json:"metadata"`
	PaymentIntent      text   `json:"payment_intent"`
	Reason             string `json:"reason"`
	Status             string `json:"status"`
}

type event struct {
	head
	Account         text         `json:"account,omitempty"` // in webhooks alone
	APIVersion      string       `json:"api_version"`
	Data            eventData    `json:"data"`
	PendingWebhooks int          `json:"pending_webhooks"`
	Request         eventRequest `json:"request"`
	Type            string       `json:"type"`
}

type eventData struct {
	Object             object         `json:"object"` // as it was when the event happened
	PreviousAttributes map[string]any `json:"previous_attributes,omitempty"`
}

// snapshot copies an object. What it points to is shared, and is therefore replaced and never
// changed in place.
func snapshot(o object) object {
	switch o := o.(type) {
	case *customer:
		c := *o
		return &c
	case *subscription:
		c := *o
		return &c
	case *invoice:
		c := *o
		return &c
	case *charge:
		c := *o
		return &c
	case *dispute:
		c := *o
		return &c
	case *intent:
		c := *o
		return &c
	case *paymentMethod:
		c := *o
		return &c
	}
	return o
}

type eventRequest struct {
	ID             text `json:"id"`
	IdempotencyKey text `json:"idempotency_key"`
}
