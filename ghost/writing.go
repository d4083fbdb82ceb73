package ghost

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/debt"
	"phantom/oracle"
	"phantom/state"
	"phantom/task"
	"phantom/vault"
)

// writing collects judged subscriptions and writes what has changed, many in one statement.
type writing struct {
	s        *Service
	hash     func(subject, value string) []byte
	merchant uuid.UUID
	live     bool  // what was read is
	ticket   int64 // taken before Stripe was read

	hashes [][]byte // of each judged subscription
	found  []found
	closed []closing
	looks  []task.New // at subscriptions of which an invoice will become a debt
	told   []telling  // what the shield is told
}

type found struct {
	at int // index of its subscription in hashes
	id uuid.UUID
	Finding
	of Subscription
}

type closing struct {
	at     int
	id     uuid.UUID
	reason debt.Closing
}

// writingBatch is how many subscriptions are judged and written at a time.
const writingBatch = 500

// add compares what was found of a subscription with what is known.
func (w *writing) add(s subject, findings []Finding) {
	index := len(w.hashes)
	changed := false
	taken := make(map[uuid.UUID]bool)
	for _, f := range findings {
		id := newID()
		i := s.ghostOf(f, findings)
		if i >= 0 {
			id = s.known[i].ID
			taken[id] = true
			if f.Email == "" && s.sealed > 0 { // what is known is better than what does not open
				f.Email = Email(id, s.known[i].Email)
			}
		}
		if i < 0 || !s.same(s.known[i], f) {
			w.found = append(w.found, found{index, id, f, s.subscription})
			changed = true
		}
	}
	for _, g := range s.known {
		if taken[g.ID] {
			continue
		}
		reason := Reason(s.subscription, s.debts, g.StripeInvoiceID)
		// A payment that was under way has come to an end: the reason is another one now.
		waited := g.Status == state.GhostClosed && *g.ClosedReason == debt.PaymentUnderWay && reason != debt.PaymentUnderWay
		if g.Status == state.GhostOpen || waited {
			w.closed = append(w.closed, closing{index, g.ID, reason})
			changed = true
		}
	}
	if changed {
		w.hashes = append(w.hashes, w.hash("subscription", s.subscription.ID))
	}
}

// lookAgain has a subscription read anew when the next of its invoices becomes a debt; that look
// plans the one after. The key holds the time too: so the look that runs does not stand in the way
// of the next one.
func (w *writing) lookAgain(s subject, now time.Time) {
	at, ok := nextDebt(s.debts, now)
	if !ok || s.subscription.Status == "" {
		return
	}
	w.looks = append(w.looks, task.New{
		ID: newID(), Params: refreshParams{s.subscription.ID}, RunAt: at.Add(time.Minute),
		UniqueKey: fmt.Sprintf("%x:%d", w.hash("subscription", s.subscription.ID), at.Unix()),
	})
}

// is reports whether a known ghost is the one that was found: rows are told apart by customer,
// subscription, currency and kind.
func (s subject) is(g db.GhostTarget, f Finding) bool { return s.sameDebtor(g, f) && g.Kind == f.Kind }

func (s subject) sameDebtor(g db.GhostTarget, f Finding) bool {
	return g.StripeCustomerID == s.subscription.Customer && g.Currency == f.Currency
}

// ghostOf is the known ghost of a finding, or -1. A debt that has become one of another kind stays
// the ghost that it was, with its hunt and its age, where nothing else is found of its old kind.
func (s subject) ghostOf(f Finding, findings []Finding) int {
	if i := slices.IndexFunc(s.known, func(g db.GhostTarget) bool { return s.is(g, f) }); i >= 0 {
		return i
	}
	return slices.IndexFunc(s.known, func(g db.GhostTarget) bool {
		return s.sameDebtor(g, f) && g.Status == state.GhostOpen &&
			slices.ContainsFunc(f.Invoices, func(i debt.Invoice) bool { return i.ID == g.StripeInvoiceID }) &&
			!slices.ContainsFunc(findings, func(other Finding) bool { return s.is(g, other) })
	})
}

// same reports whether a ghost's row says already what was found. What the merchant's app closed
// stays as it is.
func (s subject) same(g db.GhostTarget, f Finding) bool {
	if g.ClosedReason != nil && *g.ClosedReason == debt.NoAccess {
		return true
	}
	of := s.subscription
	return g.Status == state.GhostOpen && g.Kind == f.Kind && g.StripeInvoiceID == f.Invoice && g.Amount == f.Amount && g.Rule == f.Rule &&
		g.Hidden == f.Hidden && g.DeclineClass == f.Class && text0(g.DeclineCode) == f.Code && g.AttemptCount == f.Attempts &&
		bytes.Equal(g.Card, f.Card) && text0(g.Zone) == f.Zone && text0(g.Country) == f.Country && g.CardAttempts == f.CardAttempts &&
		sameTime(g.FirstFailedAt, f.FirstFailed) && sameTime(g.LastFailedAt, f.LastFailed) &&
		Email(g.ID, g.Email) == f.Email && slices.Equal(owedInvoices(g), f.Invoices) &&
		g.Leaving == of.Leaving && g.Ignored == of.Ignored && g.Resubscribed == of.Resubscribed &&
		slices.Equal(g.Products, listed(of.Products)) && slices.Equal(g.Prices, listed(of.Prices))
}

// owedInvoices reads what ghost_targets.invoices holds; nothing of what was written before that
// column was there.
func owedInvoices(g db.GhostTarget) (list []debt.Invoice) {
	if json.Unmarshal(g.Invoices, &list) != nil {
		return nil
	}
	return list
}

func text0[Text ~string](text *Text) Text {
	if text == nil {
		return ""
	}
	return *text
}

func sameTime(a, b *time.Time) bool { return a == b || a != nil && b != nil && a.Equal(*b) }

// write stores the batch in one transaction, without what somebody has read later. What it wrote is
// forgotten, so that it can go on.
func (w *writing) write(ctx context.Context, now time.Time) error {
	if len(w.hashes)+len(w.looks)+len(w.told) == 0 {
		return nil
	}
	err := db.InTx(ctx, w.s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		live, err := queries.GhostLockMerchant(ctx, w.merchant)
		if err := inMode(w.live, live, err); err != nil {
			return err
		}
		asked := slices.Clone(w.hashes)
		for _, t := range w.told {
			asked = append(asked, t.hash)
		}
		fresher, err := queries.GhostListFresher(ctx, db.GhostListFresherParams{MerchantID: w.merchant, Subscriptions: asked, Ticket: w.ticket})
		if err != nil {
			return err
		}
		isStale := func(hash []byte) bool {
			return slices.ContainsFunc(fresher, func(x []byte) bool { return bytes.Equal(x, hash) })
		}
		stale := make(map[int]bool)
		for i, hash := range w.hashes {
			stale[i] = isStale(hash)
		}
		if err := w.store(ctx, tx, stale); err != nil {
			return err
		}
		told := slices.DeleteFunc(slices.Clone(w.told), func(t telling) bool { return isStale(t.hash) })
		return w.s.tellShield(ctx, tx, w, told, now)
	})
	if err != nil {
		return fmt.Errorf("write ghosts: %w", err)
	}
	w.hashes, w.found, w.closed, w.looks, w.told = w.hashes[:0], w.found[:0], w.closed[:0], w.looks[:0], w.told[:0]
	return nil
}

// store writes what is not stale. A look too many does no harm, so that they are planned for all.
func (w *writing) store(ctx context.Context, tx db.DBTX, stale map[int]bool) error {
	queries := db.New(tx)
	if _, err := task.EnqueueKeyed(ctx, tx, w.merchant, KindRefresh, w.looks); err != nil {
		return err
	}
	upsert := db.GhostUpsertParams{MerchantID: w.merchant, Anyway: true}
	for _, f := range w.found {
		if !stale[f.at] {
			addFinding(&upsert, f)
		}
	}
	if len(upsert.Ids) > 0 {
		if err := queries.GhostSetKind(ctx, db.GhostSetKindParams{MerchantID: w.merchant, Ids: upsert.Ids, Kinds: upsert.Kinds}); err != nil {
			return err
		}
		if _, err := queries.GhostUpsert(ctx, upsert); err != nil {
			return err
		}
	}
	ended := db.GhostCloseParams{MerchantID: w.merchant}
	for _, c := range w.closed {
		if !stale[c.at] {
			ended.Ids = append(ended.Ids, c.id)
			ended.Reasons = append(ended.Reasons, string(c.reason))
		}
	}
	if len(ended.Ids) > 0 {
		if _, err := queries.GhostClose(ctx, ended); err != nil {
			return err
		}
	}
	return w.s.tellHunts(ctx, tx, w.merchant, slices.Concat(upsert.Ids, ended.Ids))
}

// memories are what is remembered of a subject's customer, for each of its ghosts. Other ghosts of
// theirs have invoices that were not read.
func (w *writing) memories(s subject) map[uuid.UUID]oracle.Memory {
	of := make(map[uuid.UUID]oracle.Memory)
	if s.memory == nil {
		return of
	}
	for _, f := range w.found {
		of[f.id] = *s.memory
	}
	for _, g := range s.known {
		of[g.ID] = *s.memory
	}
	return of
}

func owed(list []debt.Invoice) []byte {
	text, err := json.Marshal(list)
	if err != nil {
		panic(err) // ids and numbers always marshal
	}
	return text
}

func addFinding(p *db.GhostUpsertParams, f found) {
	p.Ids = append(p.Ids, f.id)
	p.Kinds = append(p.Kinds, string(f.Kind))
	p.Customers = append(p.Customers, f.of.Customer)
	p.Subscriptions = append(p.Subscriptions, f.of.ID)
	p.Leavings = append(p.Leavings, f.of.Leaving)
	p.Ignoreds = append(p.Ignoreds, f.of.Ignored)
	p.Resubscribeds = append(p.Resubscribeds, f.of.Resubscribed)
	// unnest takes lists apart wholly
	p.Products = append(p.Products, strings.Join(f.of.Products, " "))
	p.Prices = append(p.Prices, strings.Join(f.of.Prices, " "))
	p.Countries = append(p.Countries, f.Country)
	p.Invoices = append(p.Invoices, f.Invoice)
	p.Owed = append(p.Owed, owed(f.Invoices))
	email := f.Email
	if email == "" {
		email = "-" // arrays hold no NULL of this type: has_emails keeps it out of the row
	}
	p.Emails = append(p.Emails, vault.NewToken(emailContext(f.id), email))
	p.HasEmails = append(p.HasEmails, f.Email != "")
	p.Amounts = append(p.Amounts, f.Amount)
	p.Currencies = append(p.Currencies, f.Currency)
	p.Rules = append(p.Rules, string(f.Rule))
	p.Hiddens = append(p.Hiddens, f.Hidden)
	p.Classes = append(p.Classes, string(f.Class))
	p.Codes = append(p.Codes, f.Code)
	p.Attempts = append(p.Attempts, f.Attempts)
	p.Cards = append(p.Cards, f.Card)
	p.CardAttempts = append(p.CardAttempts, f.CardAttempts)
	p.FirstFailed = append(p.FirstFailed, *f.FirstFailed)
	p.LastFailed = append(p.LastFailed, *f.LastFailed)
	p.Zones = append(p.Zones, f.Zone)
}
