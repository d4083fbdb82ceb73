package gate

import (
	"slices"
	"time"

	"phantom/billing"
	"phantom/db"
	"phantom/debt"
	"phantom/playbook"
	"phantom/state"
)

// ignoreKey and ignoreValue are the metadata of a customer or a subscription that a merchant leaves
// alone.
const (
	ignoreKey   = "phantom"
	ignoreValue = "ignore"
)

// Spares says why a ghost is left alone altogether, "" where it is not. p is what holds for the
// ghost. It decides when a hunt is to begin and before everything that leaves for one, so that what
// a merchant excludes is left alone at once. Each of these may pass.
func Spares(p playbook.Playbook, g db.GhostTarget) Code {
	switch {
	case g.Kind == debt.ChargedBack, g.Kind == debt.WrittenOff && !p.WrittenOff:
		return KindOff
	case g.Ignored:
		return Ignored
	case p.Exclude.Has(g):
		return Excluded
	case g.Resubscribed && !p.Resubscribed:
		return Resubscribed
	case g.Leaving && p.WhenLeaving == playbook.LeavingStop:
		return Leaving
	}
	return ""
}

// SparesFinal says why a ghost is spared the final step, "" where it is not.
func SparesFinal(p playbook.Playbook, g db.GhostTarget) Code {
	if why := Spares(p, g); why != "" || !p.OnlyMessages(g.Leaving) {
		return why
	}
	return Leaving
}

// MayHunt says whether a hunt of a ghost may begin. p is what holds for the ghost.
func MayHunt(p playbook.Playbook, g db.GhostTarget, byHand bool, now time.Time) bool {
	return g.Status == state.GhostOpen && g.Amount >= p.MinAmount[g.Currency] && Spares(p, g) == "" &&
		len(p.Chosen(g, byHand, now)) > 0
}

// mayChoose asks what the newest playbook says of the ghost and of the invoice that is to be
// charged. What takes back something of PHANTOM's own is not bound by it.
func (f HuntFacts) mayChoose(kind, invoice string, now time.Time) Ruling {
	if kind == KindResume || kind == KindRelease {
		return Ruling{}
	}
	if c := Spares(f.Playbook, f.Ghost); c != "" {
		return Ruling{c, now.Add(day)}
	}
	if f.Playbook.OnlyMessages(f.Ghost.Leaving) && !Writes(kind) {
		return Ruling{Leaving, now.Add(day)}
	}
	if f.Hunt.ByHand || IsFinal(kind) {
		return Ruling{}
	}
	young := f.Playbook.Chosen(f.Ghost, false, now)
	old := len(young) == 0
	if !Writes(kind) {
		old = slices.ContainsFunc(f.Ghost.Owed(), func(i debt.Invoice) bool {
			return i.ID == invoice && f.Playbook.TooOld(i.Created, now)
		})
	}
	if old {
		return Ruling{Code: TooOld}
	}
	return Ruling{}
}

// mayChoose asks the same of what Stripe says now: the list of ghosts may lag behind it.
func (f *StripeFacts) mayChoose(kind string, h HuntFacts, now time.Time) Ruling {
	o := f.Object
	switch {
	case kind == KindResume || kind == KindRelease:
		return Ruling{}
	case IsFinal(kind):
		o = f.Invoice
	case !h.Hunt.ByHand && h.Playbook.TooOld(o.Created, now):
		return Ruling{Code: TooOld}
	}
	return MayTouch(h.Playbook, o.Customer.Metadata, o.Subscription, kind, now)
}

// MayTouch asks what a merchant has written on a customer and a subscription at Stripe.
func MayTouch(p playbook.Playbook, customer map[string]string, c billing.Subscription, kind string,
	now time.Time) Ruling {
	tomorrow := now.Add(day)
	switch {
	case customer[ignoreKey] == ignoreValue, c.Metadata[ignoreKey] == ignoreValue:
		return Ruling{Ignored, tomorrow}
	case c.Leaving && p.WhenLeaving == playbook.LeavingStop, p.OnlyMessages(c.Leaving) && !Writes(kind):
		return Ruling{Leaving, tomorrow}
	}
	return Ruling{}
}

// chargesWrittenOff says whether an uncollectible invoice may be charged, which Stripe allows:
// where the ghost is one of what was written off, and the newest playbook hunts those.
func (f HuntFacts) chargesWrittenOff() bool {
	return f.Ghost.Kind == debt.WrittenOff && f.Playbook.WrittenOff
}
