package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/billing"
	"phantom/connect"
	"phantom/db"
	"phantom/gate"
	"phantom/state"
	"phantom/task"
)

// MethodsChanged hears that the payment methods of these ghosts' customer may have changed: each
// hunt that acts looks at them soon.
func (s *Service) MethodsChanged(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, ghosts []uuid.UUID) error {
	hunts, err := db.New(tx).HuntListActiveOf(ctx, db.HuntListActiveOfParams{MerchantID: merchantID, Ghosts: ghosts})
	if err != nil {
		return fmt.Errorf("list hunts: %w", err)
	}
	for _, hunt := range hunts {
		if hunt.Mode != state.ModeRecover || hunt.HeldOut {
			continue
		}
		// Joined: one that runs may have looked before this change.
		if err := task.Join(ctx, tx, task.New{
			MerchantID: merchantID, Kind: KindHunt, UniqueKey: methodKey(hunt.ID), Params: huntParams{hunt.ID, "method"},
		}); err != nil {
			return err
		}
	}
	return nil
}

func methodKey(hunt uuid.UUID) string { return "method:" + hunt.String() }

// renew looks at what would be charged for a hunt now. Where that is a payment method with which an
// invoice was never tried, the customer has left it in order to pay. It is charged at once, in the
// place of what was planned with another one, also where nothing more was to be charged.
func (s *Service) renew(ctx context.Context, merchantID, huntID uuid.UUID) error {
	hunt, err := s.queries.HuntGet(ctx, db.HuntGetParams{MerchantID: merchantID, ID: huntID})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read hunt: %w", err)
	}
	if hunt.State != state.HuntActive || hunt.HeldOut || hunt.Mode != state.ModeRecover {
		return nil
	}
	ghost, err := s.queries.HuntGhostGet(ctx, db.HuntGhostGetParams{MerchantID: merchantID, ID: hunt.GhostID})
	if errors.Is(err, pgx.ErrNoRows) || err == nil && ghost.Status != state.GhostOpen {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read ghost: %w", err)
	}
	reader, err := s.connect.Reader(ctx, merchantID)
	if err != nil {
		return err
	}
	now, err := s.queries.Now(ctx)
	if err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	charges, err := billing.ReadCharges(ctx, reader, ghost.StripeCustomerID, now)
	if errors.Is(err, billing.ErrTooManyCharges) {
		return task.Review(err)
	}
	if err != nil {
		return err
	}
	var untried []string
	for _, invoice := range ghost.Owed() {
		o, err := billing.ReadInvoice(ctx, reader, invoice.ID)
		if errors.Is(err, connect.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		m := o.PaymentMethod()
		tried := slices.ContainsFunc(charges, func(c billing.Charge) bool { return c.Invoice == invoice.ID && c.With(m) })
		if m.Known() && m.Rail() != billing.RailUnknown && !tried && o.AmountRemaining > 0 && !o.PaidOutOfBand {
			untried = append(untried, invoice.ID)
		}
	}
	if len(untried) == 0 {
		return nil
	}
	busy := false
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		p, err := s.lock(ctx, tx, merchantID, huntID)
		if err != nil || p.hunt.State != state.HuntActive {
			return err
		}
		if busy, err = p.sending(ctx); busy || err != nil {
			return err
		}
		p.untried = untried
		return p.chargeUntried(ctx)
	})
	if err == nil && busy { // it may be about the method of before: what it brings comes first
		return task.Snooze(renewPatience)
	}
	return err
}

// renewPatience is how soon another payment method is looked at again while a charge is under way.
const renewPatience = 10 * time.Second

// sending says whether a worker holds the hunt's charge.
func (p *planning) sending(ctx context.Context) (busy bool, err error) {
	for _, kind := range []string{gate.KindPay, gate.KindHold} {
		runs, err := p.queries.TaskKeyRuns(ctx, db.TaskKeyRunsParams{
			MerchantID: p.hunt.MerchantID, Kind: kind, UniqueKey: chargeKey(p.hunt.ID),
		})
		if err != nil {
			return false, fmt.Errorf("look for a charge under way: %w", err)
		}
		busy = busy || runs
	}
	return busy, nil
}

// chargeUntried plans the charge of an invoice with a payment method that it was never tried with,
// in the place of what is planned. Where none of these invoices may be charged, the plan is made
// anew as it was.
func (p *planning) chargeUntried(ctx context.Context) error {
	m := p.hunt.MerchantID
	if _, err := p.queries.TaskCancelKeys(ctx, db.TaskCancelKeysParams{
		MerchantID: m, UniqueKeys: []string{chargeKey(p.hunt.ID)}, Why: "the customer has left another payment method",
	}); err != nil {
		return fmt.Errorf("cancel what is planned: %w", err)
	}
	if err := p.queries.AttemptCancelUnsent(ctx, db.AttemptCancelUnsentParams{MerchantID: m, HuntID: p.hunt.ID}); err != nil {
		return fmt.Errorf("cancel attempts: %w", err)
	}
	if err := p.reopen(ctx); err != nil {
		return err
	}
	if err := p.plan(ctx); err != nil {
		return err
	}
	p.untried = nil
	return p.plan(ctx)
}

// reopen has every reason for which an invoice is charged no more judged again.
func (p *planning) reopen(ctx context.Context) error {
	if len(p.hunt.InvoicesOver) == 0 {
		return nil
	}
	if err := p.queries.HuntReopenInvoices(ctx, db.HuntReopenInvoicesParams{MerchantID: p.hunt.MerchantID, ID: p.hunt.ID}); err != nil {
		return fmt.Errorf("reopen invoices: %w", err)
	}
	p.hunt.InvoicesOver = nil
	return nil
}
