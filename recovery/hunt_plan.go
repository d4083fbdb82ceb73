package recovery

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/connect"
	"phantom/db"
	"phantom/debt"
	"phantom/decline"
	"phantom/forecast"
	"phantom/gate"
	"phantom/oracle"
	"phantom/playbook"
	"phantom/state"
	"phantom/task"
	"phantom/zone"
)

// planNext plans the next charge and the next message of a hunt, where there is none under way, in
// the caller's transaction. It may be called at any time and any number of times.
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
	return s.planning(tx, hunt), nil
}

func (s *Service) planning(tx db.DBTX, hunt db.Hunt) *planning {
	return &planning{s: s, tx: tx, queries: db.New(tx), hunt: hunt}
}

// planning is one look at a hunt whose row is locked. All from ghost on is there once it is loaded.
type planning struct {
	s       *Service
	tx      db.DBTX
	queries *db.Queries
	hunt    db.Hunt
	arm     string // of the oracle's, once it was asked; "" where it is not on
	thought bool   // nothing follows from it

	ghost    db.GhostTarget
	playbook playbook.Playbook
	attempts []db.Attempt
	merchant db.Merchant
	now      time.Time
	hash     func(subject, value string) []byte
	memory   oracle.Memory // of the customer
	// invoices that the customer has left another payment method for: they are charged now
	untried []string
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
	if _, p.playbook, err = playbook.Of(row.Playbook, row.Newest, p.ghost); err != nil {
		return false, fmt.Errorf("read playbook %d: %w", p.hunt.PlaybookVersion, err)
	}
	if p.attempts, err = p.queries.AttemptListOfHunt(ctx, db.AttemptListOfHuntParams{MerchantID: m, HuntID: p.hunt.ID}); err != nil {
		return false, fmt.Errorf("list attempts: %w", err)
	}
	if p.hash, err = connect.HasherOf(ctx, p.tx, p.merchant); err != nil {
		return false, err
	}
	p.memory = oracle.MemoryOf(p.ghost.ID, row.Memory)
	return true, nil
}

// plan plans what comes next, where there is none under way.
func (p *planning) plan(ctx context.Context) error {
	if p.hunt.State != state.HuntActive || p.hunt.HeldOut || p.hunt.Mode != state.ModeRecover {
		return nil
	}
	there, err := p.load(ctx)
	if err != nil {
		return err
	}
	if !there || p.ghost.Status != state.GhostOpen {
		return nil // what closed it ends the hunt
	}
	if err := p.message(ctx); err != nil {
		return err
	}
	return p.charge(ctx)
}

func (p *planning) forecast() forecast.Forecast {
	l := forecast.Forecast{
		Playbook: p.playbook, Began: p.hunt.BeganAt, End: gate.WindowEnd(p.hunt, p.playbook), Merchant: p.merchant.ID, Memory: p.memory,
		Zone: zone.OfGhost(p.ghost.Zone, p.merchant.Timezone), Livemode: p.hunt.Livemode, Hash: p.hash, Currency: p.hunt.Currency, Real: !p.thought,
	}
	l.Category, l.Country = placeOf(p.merchant)
	l.Of(p.ghost, p.hunt.Customer)
	return l
}

// message plans the step behind the last message.
func (p *planning) message(ctx context.Context) error {
	step := int32(0)
	last, err := p.queries.HuntMessageGetLast(ctx, db.HuntMessageGetLastParams{MerchantID: p.hunt.MerchantID, HuntID: p.hunt.ID})
	switch {
	case err == nil && (last.State == state.MessagePlanned || last.State == state.MessageSending):
		return nil // one at a time
	case err == nil:
		step = last.Step + 1
	case !errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("read the last message: %w", err)
	}
	next, at, ok := p.forecast().NextMessage(int(step), p.now)
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

// charge plans the next charge of the oldest invoice that may still be charged, or first that Smart
// Retries lets it go.
func (p *planning) charge(ctx context.Context) error {
	if slices.ContainsFunc(p.attempts, func(a db.Attempt) bool { return a.Result == nil }) {
		return nil // one at a time
	}
	next, chosen, err := p.choose(ctx, func(object []byte, why string) error { return p.giveUp(ctx, object, why) })
	if err != nil {
		return err
	}
	// whether or not a charge follows: who is compared is decided before
	if p.arm != "" && p.hunt.OracleArm == nil {
		if err := p.queries.HuntSetArm(ctx, db.HuntSetArmParams{MerchantID: p.hunt.MerchantID, ID: p.hunt.ID, Arm: p.arm}); err != nil {
			return fmt.Errorf("note who chooses: %w", err)
		}
	}
	if next.Kind == "" {
		return nil
	}
	if p.hunt.ChargesOver != nil && next.Held == "" {
		if err := p.queries.HuntResumeCharges(ctx, db.HuntResumeChargesParams{MerchantID: p.hunt.MerchantID, ID: p.hunt.ID}); err != nil {
			return fmt.Errorf("go on with the hunt's charges: %w", err)
		}
	}
	if p.hunt.ChargesOver == nil && next.Held != "" {
		if err := p.queries.HuntHoldCharges(ctx, db.HuntHoldChargesParams{MerchantID: p.hunt.MerchantID, ID: p.hunt.ID, Why: next.Held.Words()}); err != nil {
			return fmt.Errorf("note why nothing is charged: %w", err)
		}
	}
	return p.planMutationAs(ctx, next.Kind, chosen.ID, chosen.Amount, next.Moment, next.Held, next.Asked)
}

// choose is the oldest invoice that may still be charged, with what follows for it. over is told of
// those before it of which no further charge is planned.
func (p *planning) choose(ctx context.Context, over func(object []byte, why string) error) (next forecast.Step, chosen debt.Invoice, err error) {
	for _, invoice := range p.playbook.Chosen(p.ghost, p.hunt.ByHand, p.now) {
		object := p.hash("invoice", invoice.ID)
		if slices.ContainsFunc(p.hunt.InvoicesOver, func(over []byte) bool { return bytes.Equal(over, object) }) {
			continue
		}
		one := forecast.Step{Over: gate.SentInvoice.Words()}
		if !p.ghost.Rule.IsSent() {
			if one, err = p.next(ctx, invoice, object); err != nil {
				return next, chosen, err
			}
		}
		p.arm = cmp.Or(p.arm, one.Arm)
		if one.Over != "" {
			if err := over(object, one.Over); err != nil {
				return next, chosen, err
			}
			continue
		}
		if len(p.untried) > 0 && !slices.Contains(p.untried, invoice.ID) {
			continue
		}
		if next.Kind == "" || !one.Waits || one.Moment.At.Before(next.Moment.At) {
			next, chosen = one, invoice
		}
		if !one.Waits {
			break
		}
	}
	return next, chosen, nil
}

// next is what follows for one invoice.
func (p *planning) next(ctx context.Context, invoice debt.Invoice, object []byte) (forecast.Step, error) {
	var so forecast.History
	idle := 0 // requests in a row that were planned and not executed
	l := p.forecast()
	l.Invoice, l.Amount = invoice.ID, invoice.Amount
	so.Tried = l.Tried(p.ghost, invoice.ID)
	so.LastFailed, so.Class, so.Code = p.lastFailure(object)
	for _, a := range p.attempts {
		if !bytes.Equal(a.Object, object) {
			continue
		}
		why := gate.Code("")
		if a.Code != nil {
			why = gate.Code(*a.Code)
		}
		switch so.Remember(a, why); {
		case why == gate.AttemptsUsedUp:
			if a.PlannedFor.After(so.NotBefore) {
				so.NotBefore = a.PlannedFor
			}
		case why.Effect() == gate.Holds && *a.Result == state.AttemptNotSent:
			// it has waited, and may go any time
		case *a.Result == state.AttemptNotSent || *a.Result == state.AttemptAbsent || *a.Result == state.AttemptRefused:
			idle++
		case a.Action == gate.KindPay:
			so.Sent++
			if a.SentAt != nil && *a.Result != state.AttemptPaid {
				so.Asked = append(so.Asked, *a.SentAt)
				so.Tried = oracle.AddFailure(so.Tried, failureOf(a))
			}
			idle = 0
		}
	}
	slices.SortFunc(so.Asked, func(a, b time.Time) int { return b.Compare(a) })
	so.Held = isLetGo(p.attempts, object)
	if idle >= mostIdle {
		return forecast.Step{Over: "several requests in a row were planned and could not be sent"}, nil
	}
	so.Fresh = slices.Contains(p.untried, invoice.ID)
	return l.NextCharge(ctx, p.s.advisor, so, p.now)
}

// failureOf is an attempt of ours that has not paid, as the oracle is told of it.
func failureOf(a db.Attempt) oracle.Tried {
	tried := oracle.Tried{At: *a.SentAt, Class: decline.Unknown}
	if a.DeclineClass != nil {
		tried.Class = *a.DeclineClass
	}
	if a.DeclineCode != nil {
		tried.Code = *a.DeclineCode
	}
	return tried
}

// mostIdle bounds how often a charge is planned anew that Stripe's state forbids each time.
const mostIdle = 20

// lastFailure is the latest of Stripe's and ours, for the moment of the next charge. What ends
// charges is said by an attempt of ours on this invoice alone: of others, and of Stripe's, it is
// not known with which card they were made, and the look before the charge knows.
func (p *planning) lastFailure(object []byte) (at time.Time, class decline.Class, code string) {
	at, class = p.hunt.BeganAt.Add(-oneADay), p.ghost.DeclineClass
	if p.ghost.LastFailedAt != nil {
		at = *p.ghost.LastFailedAt
	}
	if p.ghost.DeclineCode != nil {
		code = *p.ghost.DeclineCode
	}
	ours := false
	for _, a := range p.attempts {
		if a.Action == gate.KindPay && a.Result != nil && *a.Result == state.AttemptDeclined && a.SentAt != nil && !a.SentAt.Before(at) {
			at, class, code, ours = *a.SentAt, decline.Unknown, "", bytes.Equal(a.Object, object)
			if a.DeclineClass != nil {
				class = *a.DeclineClass
			}
			if a.DeclineCode != nil {
				code = *a.DeclineCode
			}
		}
	}
	if !ours && class.IsHard() {
		class, code = decline.Unknown, ""
	}
	return at, class, code
}

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
	if len(p.ghost.Owed()) > 1 {
		words = "no further charge of one of the invoices is planned: "
	}
	return note(ctx, p.queries, p.hunt.MerchantID, p.hunt.ID, uuid.Nil, words+why)
}

// planMutation plans a mutation: its attempt with the next number, its task with the frozen
// request, and a line of history.
func (p *planning) planMutation(ctx context.Context, kind, object string, amount int64, m oracle.Moment) error {
	return p.planMutationAs(ctx, kind, object, amount, m, "", nil)
}

// planMutationAs plans one that is held until something changes, where held says why. What the
// oracle has said about it, asked so, is kept.
func (p *planning) planMutationAs(ctx context.Context, kind, object string, amount int64, m oracle.Moment, held gate.Code, asked *oracle.Question) error {
	id, subject, key := newID(), "subscription", chargeKey(p.hunt.ID)
	if gate.OfInvoice(kind) {
		subject = "invoice"
	}
	if kind == gate.KindRelease { // of each invoice, beside anything else that is planned
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
		_, err := p.queries.AttemptFinish(ctx, db.AttemptFinishParams{MerchantID: p.hunt.MerchantID, TaskID: id, Result: string(state.AttemptNotSent)})
		return err
	}
	if m.Advice != nil && asked != nil {
		if err := oracle.Keep(ctx, p.tx, p.hunt.MerchantID, id, *asked, m); err != nil {
			return err
		}
	}
	return note(ctx, p.queries, p.hunt.MerchantID, p.hunt.ID, id, fmt.Sprintf("planned for %s: %s (%s)",
		m.At.In(zone.OfGhost(p.ghost.Zone, p.merchant.Timezone)).Format("Mon 2 Jan 15:04 MST"), mutations[kind].words, m.Reason))
}

// final plans the playbook's final step; where that marks invoices, of the oldest one that has had
// none. It reports false where there is no such invoice.
func (p *planning) final(ctx context.Context) (planned bool, err error) {
	kind, m := gate.FinalKinds[p.playbook.FinalStep], oracle.Moment{At: p.now, Reason: "the playbook's final step", Probability: 1}
	if !gate.OfInvoice(kind) {
		return true, p.planMutation(ctx, kind, p.ghost.StripeSubscriptionID, p.ghost.Amount, m)
	}
	for _, invoice := range p.ghost.Owed() {
		object := p.hash("invoice", invoice.ID)
		if !slices.ContainsFunc(p.attempts, func(a db.Attempt) bool {
			return a.Action == kind && bytes.Equal(a.Object, object) && *a.Result != state.AttemptAbsent
		}) {
			return true, p.planMutation(ctx, kind, invoice.ID, invoice.Amount, m)
		}
	}
	return false, nil
}

// placeOf is a merchant's category and country, "" where they are not known.
func placeOf(m db.Merchant) (category, country string) {
	if m.BusinessCategory != nil {
		category = *m.BusinessCategory
	}
	if m.Country != nil {
		country = *m.Country
	}
	return category, country
}
