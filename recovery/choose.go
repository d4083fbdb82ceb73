package recovery

import (
	"slices"
	"time"

	"phantom/db"
	"phantom/task"
)

// What a playbook says of customers whose subscription ends with its period.
const (
	LeavingStop    = "stop"    // they are not hunted
	LeavingMessage = "message" // they are written to, and nothing is charged
	LeavingHunt    = "hunt"    // as all others
)

// Kinds of ghosts, as package ghost tells them apart in ghost_targets.kind.
const (
	kindWrittenOff  = "written_off"
	kindChargedBack = "charged_back"
)

// ignoreKey and ignoreValue are the metadata of a customer or a subscription that a merchant leaves
// alone.
const (
	ignoreKey   = "phantom"
	ignoreValue = "ignore"
)

// Exclude names whom nobody hunts and nothing is sent to.
type Exclude struct {
	Customers []string `json:"customers"`
	Products  []string `json:"products"`
	Prices    []string `json:"prices"`
}

func (e Exclude) has(g db.GhostTarget) bool {
	return slices.Contains(e.Customers, g.StripeCustomerID) || share(e.Products, g.Products) ||
		share(e.Prices, g.Prices)
}

// spares says why a ghost is left alone altogether, "" where it is not. p is what holds for the
// ghost. It decides when a hunt is to begin and before everything that leaves for one, so that what
// a merchant excludes is left alone at once. Each of these may pass.
func (p Playbook) spares(g db.GhostTarget) code {
	switch {
	case g.Kind == kindChargedBack, g.Kind == kindWrittenOff && !p.WrittenOff:
		return codeKindOff
	case g.Ignored:
		return codeIgnored
	case p.Exclude.has(g):
		return codeExcluded
	case g.Resubscribed && !p.Resubscribed:
		return codeResubscribed
	case g.Leaving && p.WhenLeaving == LeavingStop:
		return codeLeaving
	}
	return ""
}

// onlyMessages says whether messages alone may leave for a customer who is about to.
func (p Playbook) onlyMessages(leaving bool) bool {
	return leaving && p.WhenLeaving == LeavingMessage
}

// sparesFinal says why a ghost is spared the final step, "" where it is not.
func (p Playbook) sparesFinal(g db.GhostTarget) code {
	if why := p.spares(g); why != "" || !p.onlyMessages(g.Leaving) {
		return why
	}
	return codeLeaving
}

// tooOld says whether an invoice of that age is left alone. Rows of before its column tell no age:
// Stripe does, before anything is charged.
func (p Playbook) tooOld(created int64, now time.Time) bool {
	return created > 0 && now.Sub(time.Unix(created, 0)) > time.Duration(p.MaxDebtAgeDays)*oneADay
}

// chosen are the invoices of a ghost that a hunt is about, the oldest first: all of them where
// somebody has named the ghost, and else those that are not too old.
func (p Playbook) chosen(g db.GhostTarget, byHand bool, now time.Time) []invoiceOf {
	return slices.DeleteFunc(invoicesOf(g), func(i invoiceOf) bool {
		return !byHand && p.tooOld(i.Created, now)
	})
}

// hunts says whether a hunt of a ghost may begin. p is what holds for the ghost.
func (p Playbook) hunts(g db.GhostTarget, byHand bool, now time.Time) bool {
	return g.Status == "open" && g.Amount >= p.MinAmount[g.Currency] && p.spares(g) == "" &&
		len(p.chosen(g, byHand, now)) > 0
}

// mayChoose asks what the newest playbook says of the ghost and of the invoice that is to be
// charged. What takes back something of PHANTOM's own is not bound by it.
func (f huntFacts) mayChoose(kind, invoice string, now time.Time) ruling {
	if kind == KindResume || kind == KindRelease {
		return ruling{}
	}
	if c := f.playbook.spares(f.ghost); c != "" {
		return ruling{c, now.Add(oneADay)}
	}
	if f.playbook.onlyMessages(f.ghost.Leaving) && !Writes(kind) {
		return ruling{codeLeaving, now.Add(oneADay)}
	}
	if f.hunt.ByHand || isFinal(kind) {
		return ruling{}
	}
	young := f.playbook.chosen(f.ghost, false, now)
	old := len(young) == 0
	if !Writes(kind) {
		old = slices.ContainsFunc(invoicesOf(f.ghost), func(i invoiceOf) bool {
			return i.ID == invoice && f.playbook.tooOld(i.Created, now)
		})
	}
	if old {
		return ruling{code: codeTooOld}
	}
	return ruling{}
}

// mayChoose asks the same of what Stripe says now: the list of ghosts may lag behind it.
func (f *stripeFacts) mayChoose(kind string, h huntFacts, now time.Time) ruling {
	o := f.object
	switch {
	case kind == KindResume || kind == KindRelease:
		return ruling{}
	case isFinal(kind):
		o = f.invoice
	case !h.hunt.ByHand && h.playbook.tooOld(o.Created, now):
		return ruling{code: codeTooOld}
	}
	return h.playbook.mayTouch(o.Customer.Metadata, o.Subscription, kind, now)
}

// mayTouch asks what a merchant has written on a customer and a subscription at Stripe.
func (p Playbook) mayTouch(customer map[string]string, c contract, kind string,
	now time.Time) ruling {
	tomorrow := now.Add(oneADay)
	switch {
	case customer[ignoreKey] == ignoreValue, c.Metadata[ignoreKey] == ignoreValue:
		return ruling{codeIgnored, tomorrow}
	case c.Leaving && p.WhenLeaving == LeavingStop, p.onlyMessages(c.Leaving) && !Writes(kind):
		return ruling{codeLeaving, tomorrow}
	}
	return ruling{}
}

// chargesWrittenOff says whether an uncollectible invoice may be charged, which Stripe allows:
// where the ghost is one of what was written off, and the newest playbook hunts those.
func (f huntFacts) chargesWrittenOff() bool {
	return f.ghost.Kind == kindWrittenOff && f.playbook.WrittenOff
}

// mayTouch puts a message off whose customer is left alone, as the invoice that was just read says,
// and skips it where that is too old.
func (m *message) mayTouch(i *invoice) error {
	if !m.byHand && m.playbook.tooOld(i.created, m.Now) {
		return stop(skipped(codeTooOld.words()))
	}
	r := m.playbook.mayTouch(i.owner.Metadata, i.contract, m.Channel, m.Now)
	if !r.yes() {
		return task.Snooze(r.until.Sub(m.Now))
	}
	return nil
}
