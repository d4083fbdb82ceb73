package recovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/connect"
	"phantom/db"
	"phantom/task"
)

// planNext plans the next charge and the next message of a hunt, where there is none under way, in the caller's transaction. It may be
// called at any time and any number of times.
func (s *Service) planNext(ctx context.Context, tx db.DBTX, merchantID, huntID uuid.UUID) error {
	p, err := s.lock(ctx, tx, merchantID, huntID)
	if err != nil {
		return err
	}
	return p.plan(ctx)
}

// lock keeps a hunt as it is until the caller's transaction ends.
func (s *Service) lock(ctx context.Context, tx db.DBTX, merchantID, huntID uuid.UUID) (*planning, error) {
	queries := db.New(tx)
	hunt, err := queries.HuntLock(ctx, db.HuntLockParams{MerchantID: merchantID, ID: huntID})
	if err != nil {
		return nil, fmt.Errorf("lock hunt: %w", err)
	}
	return &planning{s: s, tx: tx, queries: queries, hunt: hunt}, nil
}

// planning is one look at a hunt whose row is locked. All from ghost on is there once it is loaded.
type planning struct {
	s       *Service
	tx      db.DBTX
	queries *db.Queries
	hunt    db.Hunt

	ghost    db.GhostTarget
	playbook Playbook
	attempts []db.Attempt
	merchant db.Merchant
	now      time.Time
	hash     func(subject, value string) []byte
	untried  []string // invoices that the customer has left another payment method for: they are charged now
}

// load reads what decides. It reports false where the ghost is gone.
func (p *planning) load(ctx context.Context) (there bool, err error) {
	m := p.hunt.MerchantID
	row, err := p.queries.HuntLoad(ctx, db.HuntLoadParams{MerchantID: m, ID: p.hunt.ID})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("load hunt: %w", err)
	}
	p.hunt, p.ghost, p.merchant, p.now = row.Hunt, row.GhostTarget, row.Merchant, row.Now
	if _, p.playbook, err = playbooksOf(row.Playbook, row.Newest, p.ghost); err != nil {
		return false, fmt.Errorf("read playbook %d: %w", p.hunt.PlaybookVersion, err)
	}
	if p.attempts, err = p.queries.AttemptListOfHunt(ctx, db.AttemptListOfHuntParams{MerchantID: m, HuntID: p.hunt.ID}); err != nil {
		return false, fmt.Errorf("list attempts: %w", err)
	}
	p.hash, err = connect.HasherOf(ctx, p.tx, p.merchant)
	return err == nil, err
}

// plan plans what comes next, where there is none under way.
func (p *planning) plan(ctx context.Context) error {
	if p.hunt.State != "active" || p.hunt.HeldOut || p.hunt.Mode != ModeRecover {
		return nil
	}
	there, err := p.load(ctx)
	if err != nil {
		return err
	}
	if !there || p.ghost.Status != "open" {
		return nil // what closed it ends the hunt
	}
	if err := p.message(ctx); err != nil {
		return err
	}
	return p.charge(ctx)
}

func windowEnd(h db.Hunt, p Playbook) time.Time {
	return h.BeganAt.Add(time.Duration(p.WindowDays) * 24 * time.Hour)
}

func (p *planning) outlook() outlook {
	return outlook{
		playbook: p.playbook, began: p.hunt.BeganAt, end: windowEnd(p.hunt, p.playbook),
		zone: zoneOf(p.ghost.Zone, p.merchant.Timezone), category: category(p.merchant), livemode: p.hunt.Livemode, hash: p.hash,
		currency: p.hunt.Currency,
	}
}

// message plans the step behind the last message.
func (p *planning) message(ctx context.Context) error {
	step := int32(0)
	last, err := p.queries.HuntMessageGetLast(ctx, db.HuntMessageGetLastParams{MerchantID: p.hunt.MerchantID, HuntID: p.hunt.ID})
	switch {
	case err == nil && (last.State == "planned" || last.State == "sending"):
		return nil // one at a time
	case err == nil:
		step = last.Step + 1
	case !errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("read the last message: %w", err)
	}
	next, at, ok := p.outlook().nextMessage(int(step), p.now)
	if !ok {
		return nil
	}
	id := newID()
	if err := p.queries.HuntMessageCreate(ctx, db.HuntMessageCreateParams{
		MerchantID: p.hunt.MerchantID, ID: id, HuntID: p.hunt.ID, Step: step, Channel: next.Channel, Template: next.Template, PlannedFor: at,
	}); err != nil {
		return fmt.Errorf("plan a message: %w", err)
	}
	_, err = task.Enqueue(ctx, p.tx, task.New{
		MerchantID: p.hunt.MerchantID, ID: id, Kind: next.Channel, RunAt: at, UniqueKey: messageKey(p.hunt.ID),
		Params: map[string]any{"hunt": p.hunt.ID, "ghost": p.hunt.GhostID, "step": step, "template": next.Template},
	})
	return err
}

// The unique keys of a hunt's tasks: at most one of each is alive.
func chargeKey(hunt uuid.UUID) string  { return "charge:" + hunt.String() }
func messageKey(hunt uuid.UUID) string { return "message:" + hunt.String() }
func endKey(hunt uuid.UUID) string     { return "end:" + hunt.String() }
func beginKey(hunt uuid.UUID) string   { return "begin:" + hunt.String() }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// charge plans the next charge of the oldest invoice that may still be charged, or first that Smart Retries lets it go.
func (p *planning) charge(ctx context.Context) error {
	if slices.ContainsFunc(p.attempts, func(a db.Attempt) bool { return a.Result == nil }) {
		return nil // one at a time
	}
	var next nextStep
	var chosen invoiceOf
	for _, invoice := range p.playbook.chosen(p.ghost, p.hunt.ByHand, p.now) {
		object := p.hash("invoice", invoice.ID)
		if slices.ContainsFunc(p.hunt.InvoicesOver, func(over []byte) bool { return bytes.Equal(over, object) }) {
			continue
		}
		one, err := p.next(ctx, invoice, object)
		if err != nil {
			return err
		}
		if isSent(p.ghost) {
			one.over = codeSentInvoice.words()
		}
		if one.over != "" {
			if err := p.giveUp(ctx, object, one.over); err != nil {
				return err
			}
			continue
		}
		if len(p.untried) > 0 && !slices.Contains(p.untried, invoice.ID) {
			continue
		}
		if next.kind == "" || !one.waits || one.moment.At.Before(next.moment.At) {
			next, chosen = one, invoice
		}
		if !one.waits {
			break
		}
	}
	if next.kind == "" {
		return nil
	}
	if p.hunt.ChargesOver != nil && next.held == "" {
		if err := p.queries.HuntResumeCharges(ctx, db.HuntResumeChargesParams{MerchantID: p.hunt.MerchantID, ID: p.hunt.ID}); err != nil {
			return fmt.Errorf("go on with the hunt's charges: %w", err)
		}
	}
	if p.hunt.ChargesOver == nil && next.held != "" {
		if err := p.queries.HuntHoldCharges(ctx, db.HuntHoldChargesParams{MerchantID: p.hunt.MerchantID, ID: p.hunt.ID, Why: next.held.words()}); err != nil {
			return fmt.Errorf("note why nothing is charged: %w", err)
		}
	}
	return p.mutateAs(ctx, next.kind, chosen.ID, chosen.Amount, next.moment, next.held)
}

// next is what follows for one invoice.
func (p *planning) next(ctx context.Context, invoice invoiceOf, object []byte) (nextStep, error) {
	var so standing
	idle := 0 // requests in a row that were planned and not executed
	so.lastFailed, so.class, so.code = p.lastFailure(object)
	for _, a := range p.attempts {
		if !bytes.Equal(a.Object, object) {
			continue
		}
		why := code("")
		if a.Code != nil {
			why = code(*a.Code)
		}
		switch so.hold(a, why); {
		case why == codeAttemptsUsedUp:
			so.notBefore = later(so.notBefore, a.PlannedFor)
		case why.effect() == holds && *a.Result == "not_sent": // it has waited, and may go any time
		case *a.Result == "not_sent" || *a.Result == "absent" || *a.Result == "refused":
			idle++
		case a.Action == KindPay:
			so.sent++
			if a.SentAt != nil && *a.Result != "paid" {
				so.asked = append(so.asked, *a.SentAt)
			}
			idle = 0
		}
	}
	slices.SortFunc(so.asked, func(a, b time.Time) int { return b.Compare(a) })
	so.held = isLetGo(p.attempts, object)
	if idle >= mostIdle {
		return nextStep{over: "several requests in a row were planned and could not be sent"}, nil
	}
	so.fresh = slices.Contains(p.untried, invoice.ID)
	l := p.outlook()
	l.invoice, l.amount = invoice.ID, invoice.Amount
	return l.nextCharge(ctx, p.s.advisor, so, p.now)
}

// hold remembers what the last attempt of an invoice has met that holds until something changes,
// and when that is looked at again. A refusal of Stripe's is asked about sooner, and then more and
// more rarely.
func (so *standing) hold(a db.Attempt, why code) {
	if a.Action != KindPay && a.Action != KindHold {
		return
	}
	if *a.Result == "refused" {
		so.refused++
		so.why, so.until = codeRefused, a.PlannedFor
		if a.SentAt != nil {
			so.until = a.SentAt.Add(min(time.Hour<<(2*min(so.refused-1, 8)), oneADay))
		}
		return
	}
	so.refused = 0
	switch {
	case why.effect() == holds && *a.Result == "declined":
		so.why, so.until = why, a.PlannedFor.Add(heldPatience)
	case why.effect() == holds && why != "":
		so.why, so.until = why, a.PlannedFor
	default:
		so.why, so.until = "", time.Time{}
	}
}

// mostIdle bounds how often a charge is planned anew that Stripe's state forbids each time.
const mostIdle = 20

// lastFailure is the latest of Stripe's and ours, for the moment of the next charge. What ends charges is said by an attempt of ours on this
// invoice alone: of others, and of Stripe's, it is not known with which card they were made, and the look before the charge knows.
func (p *planning) lastFailure(object []byte) (at time.Time, class, code string) {
	at, class = p.hunt.BeganAt.Add(-oneADay), p.ghost.DeclineClass
	if p.ghost.LastFailedAt != nil {
		at = *p.ghost.LastFailedAt
	}
	if p.ghost.DeclineCode != nil {
		code = *p.ghost.DeclineCode
	}
	ours := false
	for _, a := range p.attempts {
		if a.Action == KindPay && a.Result != nil && *a.Result == "declined" && a.SentAt != nil && !a.SentAt.Before(at) {
			at, class, code, ours = *a.SentAt, "unknown", "", bytes.Equal(a.Object, object)
			if a.DeclineClass != nil {
				class = *a.DeclineClass
			}
			if a.DeclineCode != nil {
				code = *a.DeclineCode
			}
		}
	}
	if !ours && isHard(class) {
		class, code = "unknown", ""
	}
	return at, class, code
}

// isHard says whether no retry helps after a decline of a class, with the same card.
func isHard(class string) bool { return class == "never" || class == "customer" }

func (p *planning) giveUp(ctx context.Context, invoice []byte, why string) error {
	if err := p.queries.HuntGiveUpInvoice(ctx, db.HuntGiveUpInvoiceParams{
		MerchantID: p.hunt.MerchantID, ID: p.hunt.ID, Invoice: invoice, Why: why,
	}); err != nil {
		return fmt.Errorf("end an invoice's charges: %w", err)
	}
	if p.hunt.ChargesOver != nil && *p.hunt.ChargesOver == why { // it was said before
		return nil
	}
	words := "no further charge is planned: "
	if len(invoicesOf(p.ghost)) > 1 {
		words = "no further charge of one of the invoices is planned: "
	}
	return note(ctx, p.queries, p.hunt.MerchantID, p.hunt.ID, uuid.Nil, words+why)
}

// mutate plans a mutation: its attempt with the next number, its task with the frozen request, and a line of history.
func (p *planning) mutate(ctx context.Context, kind, object string, amount int64, m Moment) error {
	return p.mutateAs(ctx, kind, object, amount, m, "")
}

// mutateAs plans one that is held until something changes, where held says why.
func (p *planning) mutateAs(ctx context.Context, kind, object string, amount int64, m Moment, held code) error {
	id, subject, key := newID(), "subscription", chargeKey(p.hunt.ID)
	if ofInvoice(kind) {
		subject = "invoice"
	}
	if kind == KindRelease { // of each invoice, beside whatever else there is
		key = fmt.Sprintf("release:%s:%x", p.hunt.ID, p.hash(subject, object)[:8])
	}
	number, err := p.queries.AttemptCreate(ctx, db.AttemptCreateParams{
		MerchantID: p.hunt.MerchantID, Object: p.hash(subject, object), Action: kind, TaskID: id, HuntID: p.hunt.ID, Customer: p.hunt.Customer,
		Currency: p.hunt.Currency, Amount: amount, Reason: m.Reason, Probability: m.Probability, PlannedFor: m.At, Code: string(held),
	})
	if err != nil {
		return fmt.Errorf("number the attempt: %w", err)
	}
	added, err := task.Enqueue(ctx, p.tx, task.New{
		MerchantID: p.hunt.MerchantID, ID: id, Kind: kind, RunAt: m.At, UniqueKey: key,
		Params: frozen{
			Hunt: p.hunt.ID, Ghost: p.hunt.GhostID, Object: object, Subscription: p.ghost.StripeSubscriptionID, Customer: p.ghost.StripeCustomerID,
			Number: number, Amount: amount, Currency: p.hunt.Currency, Request: mutations[kind].request(object, id.String()), Reason: m.Reason, Probability: m.Probability, PlannedFor: m.At,
		},
	})
	if err != nil {
		return err
	}
	if added == uuid.Nil { // another one of this kind is alive, in review: its number is not used
		_, err := p.queries.AttemptFinish(ctx, db.AttemptFinishParams{MerchantID: p.hunt.MerchantID, TaskID: id, Result: "not_sent"})
		return err
	}
	return note(ctx, p.queries, p.hunt.MerchantID, p.hunt.ID, id, fmt.Sprintf("planned for %s: %s (%s)",
		m.At.In(zoneOf(p.ghost.Zone, p.merchant.Timezone)).Format("Mon 2 Jan 15:04 MST"), mutations[kind].words, m.Reason))
}

// final plans the playbook's final step; where that marks invoices, of the oldest one that has had none. It reports false where there is
// no such invoice.
func (p *planning) final(ctx context.Context) (planned bool, err error) {
	kind, m := finalKinds[p.playbook.FinalStep], Moment{At: p.now, Reason: "the playbook's final step", Probability: 1}
	if !ofInvoice(kind) {
		return true, p.mutate(ctx, kind, p.ghost.StripeSubscriptionID, p.ghost.Amount, m)
	}
	for _, invoice := range invoicesOf(p.ghost) {
		object := p.hash("invoice", invoice.ID)
		if !slices.ContainsFunc(p.attempts, func(a db.Attempt) bool {
			return a.Action == kind && bytes.Equal(a.Object, object) && *a.Result != "absent"
		}) {
			return true, p.mutate(ctx, kind, invoice.ID, invoice.Amount, m)
		}
	}
	return false, nil
}

func category(m db.Merchant) string {
	if m.BusinessCategory == nil {
		return "other"
	}
	return *m.BusinessCategory
}

// zoneOf is where a ghost's customer is taken to live: in the zone that his charges tell, or else in his merchant's.
func zoneOf(ghost, merchant *string) *time.Location {
	return zoneNamed(ghost, zoneNamed(merchant, time.UTC))
}

// zoneNamed is another zone where the name is none, and never this machine's own.
func zoneNamed(name *string, otherwise *time.Location) *time.Location {
	if name == nil || *name == "" || *name == "Local" {
		return otherwise
	}
	zone, err := time.LoadLocation(*name)
	if err != nil {
		return otherwise
	}
	return zone
}
