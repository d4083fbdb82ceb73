package recovery

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"

	"phantom/billing"
	"phantom/connect"
	"phantom/gate"
)

// mutation is what a kind does: its request, and whether its effect can be seen on the object.
type mutation struct {
	words   string // in a hunt's history
	request func(object, task string) connect.Mutation
	// whether the object shows the effect, no matter who caused it
	done func(o billing.Object) bool
}

func post(path string, form url.Values) connect.Mutation {
	return connect.Mutation{Method: http.MethodPost, Path: path, Body: form.Encode()}
}

// marker is the key in an object's metadata under which the task stands that has taken an invoice
// over, or paused a subscription. So what PHANTOM has done is told from what others do, no matter
// what becomes of events and of our own memory.
const marker = "phantom_task"

var mutations = map[string]mutation{
	gate.KindPay: {
		words: "charge the card on file",
		request: func(id, _ string) connect.Mutation {
			return post("/v1/invoices/"+id+"/pay", url.Values{"off_session": {"true"}, "expand[]": {"payment_intent"}})
		},
		done: func(o billing.Object) bool { return o.Status == billing.InvoicePaid },
	},
	gate.KindHold: {
		words: "take the invoice over from Smart Retries",
		request: func(id, task string) connect.Mutation {
			return post("/v1/invoices/"+id, url.Values{"auto_advance": {"false"}, "metadata[" + marker + "]": {task}})
		},
		done: func(o billing.Object) bool { return !o.AutoAdvance },
	},
	gate.KindRelease: {
		words: "give the invoice back to Smart Retries",
		request: func(id, _ string) connect.Mutation {
			return post("/v1/invoices/"+id, url.Values{"auto_advance": {"true"}, "metadata[" + marker + "]": {""}})
		},
		done: func(o billing.Object) bool { return o.AutoAdvance },
	},
	gate.KindUncollectible: {
		words: "mark the invoice as uncollectible",
		request: func(id, _ string) connect.Mutation {
			return post("/v1/invoices/"+id+"/mark_uncollectible", nil)
		},
		done: func(o billing.Object) bool { return o.Status == billing.InvoiceUncollectible },
	},
	gate.KindPause: {
		words: "pause the subscription's collection",
		request: func(id, task string) connect.Mutation {
			return post("/v1/subscriptions/"+id, url.Values{"pause_collection[behavior]": {"keep_as_draft"}, "metadata[" + marker + "]": {task}})
		},
		done: func(o billing.Object) bool { return o.Paused },
	},
	gate.KindResume: {
		words: "lift the pause of the subscription",
		request: func(id, _ string) connect.Mutation {
			return post("/v1/subscriptions/"+id, url.Values{"pause_collection": {""}, "metadata[" + marker + "]": {""}})
		},
		done: func(o billing.Object) bool { return !o.Paused },
	},
	gate.KindCancel: {
		words: "cancel the subscription",
		request: func(id, _ string) connect.Mutation {
			return connect.Mutation{Method: http.MethodDelete, Path: "/v1/subscriptions/" + id}
		},
		done: func(o billing.Object) bool { return o.Status == billing.Canceled },
	},
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

// planned is what the gate is asked about.
func (f frozen) planned() gate.Request {
	return gate.Request{Object: f.Object, Amount: f.Amount, Currency: f.Currency}
}

// readObject reads what a kind changes.
func readObject(ctx context.Context, reader *connect.Reader, kind, id string) (billing.Object, error) {
	if gate.OfInvoice(kind) {
		return billing.ReadInvoice(ctx, reader, id)
	}
	return billing.ReadSubscription(ctx, reader, id)
}
