package recovery

import (
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"

	"phantom/connect"
)

// Kinds of the tasks that change something at Stripe.
const (
	KindPay           = "invoice_pay"
	KindHold          = "invoice_hold"    // auto_advance off: Smart Retries lets go
	KindRelease       = "invoice_release" // and on again
	KindUncollectible = "invoice_mark_uncollectible"
	KindPause         = "subscription_pause"
	KindResume        = "subscription_resume"
	KindCancel        = "subscription_cancel"
)

// mutation is what a kind does: its request, and whether its effect can be seen on the object.
type mutation struct {
	words   string // in a hunt's history
	request func(object, task string) connect.Mutation
	done    func(o object) bool // whether the object shows the effect, whoever caused it
}

func post(path string, form url.Values) connect.Mutation {
	return connect.Mutation{Method: http.MethodPost, Path: path, Body: form.Encode()}
}

// marker is the key in an object's metadata under which the task stands that has taken an invoice over, or paused a subscription. So what
// PHANTOM has done is told from what others do, whatever becomes of events and of our own memory.
const marker = "phantom_task"

var mutations = map[string]mutation{
	KindPay: {
		words: "charge the card on file",
		request: func(id, _ string) connect.Mutation {
			return post("/v1/invoices/"+id+"/pay", url.Values{"off_session": {"true"}, "expand[]": {"payment_intent"}})
		},
		done: func(o object) bool { return o.Status == "paid" },
	},
	KindHold: {
		words: "take the invoice over from Smart Retries",
		request: func(id, task string) connect.Mutation {
			return post("/v1/invoices/"+id, url.Values{"auto_advance": {"false"}, "metadata[" + marker + "]": {task}})
		},
		done: func(o object) bool { return !o.AutoAdvance },
	},
	KindRelease: {
		words: "give the invoice back to Smart Retries",
		request: func(id, _ string) connect.Mutation {
			return post("/v1/invoices/"+id, url.Values{"auto_advance": {"true"}, "metadata[" + marker + "]": {""}})
		},
		done: func(o object) bool { return o.AutoAdvance },
	},
	KindUncollectible: {
		words: "mark the invoice as uncollectible",
		request: func(id, _ string) connect.Mutation {
			return post("/v1/invoices/"+id+"/mark_uncollectible", nil)
		},
		done: func(o object) bool { return o.Status == "uncollectible" },
	},
	KindPause: {
		words: "pause the subscription's collection",
		request: func(id, task string) connect.Mutation {
			return post("/v1/subscriptions/"+id, url.Values{"pause_collection[behavior]": {"keep_as_draft"}, "metadata[" + marker + "]": {task}})
		},
		done: func(o object) bool { return o.Paused },
	},
	KindResume: {
		words: "lift the pause of the subscription",
		request: func(id, _ string) connect.Mutation {
			return post("/v1/subscriptions/"+id, url.Values{"pause_collection": {""}, "metadata[" + marker + "]": {""}})
		},
		done: func(o object) bool { return !o.Paused },
	},
	KindCancel: {
		words: "cancel the subscription",
		request: func(id, _ string) connect.Mutation {
			return connect.Mutation{Method: http.MethodDelete, Path: "/v1/subscriptions/" + id}
		},
		done: func(o object) bool { return o.Status == "canceled" },
	},
}

// ofInvoice says whether a kind changes an invoice; else it changes a subscription.
func ofInvoice(kind string) bool {
	return kind == KindPay || kind == KindHold || kind == KindRelease || kind == KindUncollectible
}

// frozen are the params of a mutation's task. Nothing of them changes once the task exists.
type frozen struct {
	Hunt         uuid.UUID        `json:"hunt"`
	Ghost        uuid.UUID        `json:"ghost"`
	Object       string           `json:"object"` // the invoice or the subscription
	Subscription string           `json:"subscription"`
	Customer     string           `json:"customer"`
	Number       int32            `json:"number"` // of attempts with this object and action
	Amount       int64            `json:"amount"` // minor units
	Currency     string           `json:"currency"`
	Request      connect.Mutation `json:"request"`
	Reason       string           `json:"reason"`      // why this moment
	Probability  float64          `json:"probability"` // of this moment being chosen
	PlannedFor   time.Time        `json:"planned_for"`
}
