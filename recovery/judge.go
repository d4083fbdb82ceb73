package recovery

import (
	"slices"
	"time"

	"phantom/db"
)

// verdict says whether a charge may be sent now. No field set means yes.
type verdict struct {
	over  string    // no: and no further charge of this invoice
	again string    // no: but what is owed may be planned anew
	hold  bool      // with again: once Smart Retries has let go
	wait  time.Time // not before
	why   string    // with wait
}

// Why a charge waits.
const (
	underWay    = "a payment is under way"
	afterTheirs = "Smart Retries tries first"
	onceADay    = "one attempt a day"
	budgetSpent = "the attempts that the card may have within 30 days are used up"
)

// judge reads what Stripe says right before a charge against what was planned: rule 7 of the rules about money, the budgets, and one
// retrier at a time. charges are those of the customer, the newest first.
func judge(o object, charges []charge, p frozen, ghost db.GhostTarget, playbook Playbook, now time.Time) verdict {
	switch {
	case slices.ContainsFunc(charges, charge.contested):
		return verdict{over: "the customer disputes a charge"}
	case o.Status == "uncollectible":
		return verdict{over: "the invoice was written off: the customer may pay it, and no card is charged for it"}
	case o.Status != "open":
		return verdict{again: "the invoice is " + o.Status}
	case o.PaidOutOfBand, o.AmountRemaining <= 0:
		return verdict{again: "nothing is left to pay"}
	case o.AmountRemaining != p.Amount || o.Currency != p.Currency:
		return verdict{again: "the amount has changed since this was planned"}
	case o.CollectionMethod != "charge_automatically":
		return verdict{over: "the invoice was sent to the customer, and no card is charged for it"}
	case o.Intent.Status == "processing":
		return verdict{wait: now.Add(oneADay), why: underWay}
	case o.Intent.Status == "requires_action":
		return verdict{over: "the customer must confirm the payment at the bank"}
	case !o.Attempted:
		return verdict{wait: now.Add(2 * time.Hour), why: "Stripe has not tried yet"}
	case present(o.Subscription.Pause):
		return verdict{over: "the subscription's collection is paused: the service is granted"}
	case !alive(o.Subscription.Status) && ghost.Access != "proven":
		return verdict{over: "the subscription is " + o.Subscription.Status}
	case o.NextAttempt != nil && playbook.TakeOver:
		return verdict{again: "Smart Retries has not let go of the invoice", hold: true}
	case o.NextAttempt != nil:
		return verdict{wait: time.Unix(*o.NextAttempt, 0).Add(time.Hour), why: afterTheirs} // two retriers at once are the largest risk
	}
	charges = recent(charges, now)
	return judgeCharges(charges, p, playbook, now)
}

func alive(status string) bool {
	return status == "active" || status == "past_due" || status == "trialing"
}

// judgeCharges counts all of a customer's cards as one, which can only be too careful.
func judgeCharges(charges []charge, p frozen, playbook Playbook, now time.Time) verdict {
	onCards, onInvoice, known := 0, 0, false
	var oldest, last, asked time.Time // asked: before which a network does not want to be asked again
	var card string                   // of the newest charge of this invoice
	dead := map[string]bool{}
	for _, c := range charges { // the newest first
		at := time.Unix(c.Created, 0)
		switch {
		case c.Disputed:
			return verdict{over: "the customer has disputed a charge"}
		case c.Status == "pending" && c.Invoice == p.Object:
			return verdict{wait: now.Add(oneADay), why: underWay}
		case c.blocked():
			continue // it never reached the card's network
		}
		onCards++
		oldest, last = at, later(last, at)
		if c.Invoice == p.Object {
			onInvoice++
		}
		if c.Status != "failed" {
			continue
		}
		class, code := c.class()
		asked = later(asked, at.Add(networkWait[code]))
		dead[c.Method.Card.Fingerprint] = dead[c.Method.Card.Fingerprint] || class == "never"
		if c.Invoice == p.Object && !known {
			known, card = true, c.Method.Card.Fingerprint
			if class == "never" || class == "customer" {
				return verdict{over: classWords(class)}
			}
		}
	}
	free := oldest.AddDate(0, 0, budgetDays)
	switch {
	case card != "" && dead[card]:
		return verdict{over: classWords("never")} // said of the same card, for another invoice
	case playbook.CardBudget <= 0:
		return verdict{over: "the attempts that the card may have are used up"}
	case onInvoice >= playbook.MaxAttempts:
		return verdict{over: "the attempts that the playbook allows are used up"}
	case onCards >= playbook.CardBudget:
		return verdict{wait: free, why: budgetSpent}
	case last.Add(oneADay).After(now):
		return verdict{wait: last.Add(oneADay), why: onceADay}
	case asked.After(now):
		return verdict{wait: asked, why: "the card network asks to wait"}
	}
	return verdict{}
}
