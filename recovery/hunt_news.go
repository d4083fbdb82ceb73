package recovery

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/debt"
	"phantom/gate"
	"phantom/state"
	"phantom/task"
)

// GhostsChanged hears in the transaction that stores it which ghosts are not what they were: a hunt
// whose ghost is gone ends there and then, one whose debt has changed is planned anew, and for a
// new ghost one begins where the playbook says so.
func (s *Service) GhostsChanged(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, ghosts []uuid.UUID) error {
	queries := db.New(tx)
	hunts, err := queries.HuntListActiveOf(ctx, db.HuntListActiveOfParams{MerchantID: merchantID, Ghosts: ghosts})
	if err != nil {
		return fmt.Errorf("list hunts: %w", err)
	}
	for _, hunt := range hunts {
		if err := s.ghostChanged(ctx, tx, hunt); err != nil {
			return err
		}
	}
	ended, err := queries.HuntListEndedOf(ctx, db.HuntListEndedOfParams{MerchantID: merchantID, Ghosts: ghosts})
	if err != nil {
		return fmt.Errorf("list ended hunts: %w", err)
	}
	for _, hunt := range ended { // it may have been paid since
		if err := countRecoveriesLater(ctx, tx, hunt); err != nil {
			return err
		}
	}
	return s.huntNew(ctx, tx, merchantID, ghosts)
}

func (s *Service) ghostChanged(ctx context.Context, tx db.DBTX, hunt db.Hunt) error {
	queries := db.New(tx)
	ghost, err := queries.HuntGhostGet(ctx, db.HuntGhostGetParams{MerchantID: hunt.MerchantID, ID: hunt.GhostID})
	if errors.Is(err, pgx.ErrNoRows) {
		return s.endHunt(ctx, tx, hunt, state.HuntStopped, "purged")
	}
	if err != nil {
		return fmt.Errorf("read ghost: %w", err)
	}
	if ghost.Status == state.GhostClosed {
		end, reason := state.HuntStopped, *ghost.ClosedReason
		switch reason {
		case debt.Paid:
			end = state.HuntRecovered
		case debt.PaymentUnderWay: // it may fail yet, and the ghost come back
			if err := cancelUnsent(ctx, queries, hunt, gate.UnderWay, gate.UnderWay.Words()); err != nil {
				return err
			}
			// Its step is planned once more then. What a worker holds is skipped.
			if err := queries.HuntMessageDropCanceled(ctx, db.HuntMessageDropCanceledParams{MerchantID: hunt.MerchantID, HuntID: hunt.ID, Code: string(gate.UnderWay)}); err != nil {
				return fmt.Errorf("drop a message: %w", err)
			}
			return closeLater(ctx, tx, hunt) // it may have been the final step that was canceled
		default: // it has ended without a payment
		}
		return s.endHunt(ctx, tx, hunt, end, string(reason))
	}
	ids, _ := ghost.OwedColumns()
	if err := queries.HuntAddInvoices(ctx, db.HuntAddInvoicesParams{MerchantID: hunt.MerchantID, ID: hunt.ID, Invoices: ids}); err != nil {
		return fmt.Errorf("note invoices: %w", err)
	}
	if err := countRecoveriesLater(ctx, tx, hunt); err != nil {
		return err
	}
	if err := s.dropOutdated(ctx, tx, hunt, ghost); err != nil {
		return err
	}
	if err := wake(ctx, queries, hunt); err != nil {
		return err
	}
	p, err := s.lock(ctx, tx, hunt.MerchantID, hunt.ID)
	if err != nil {
		return err
	}
	if err := p.reopen(ctx); err != nil {
		return err
	}
	return p.plan(ctx)
}

// wake has what a hunt holds looked at again: a reason holds as long as it is so, and news may be
// that it is not.
func wake(ctx context.Context, queries *db.Queries, hunt db.Hunt) error {
	if _, err := queries.HuntWake(ctx, db.HuntWakeParams{MerchantID: hunt.MerchantID, UniqueKey: chargeKey(hunt.ID), Codes: gate.HeldCodes}); err != nil {
		return fmt.Errorf("wake a charge: %w", err)
	}
	if _, err := queries.HuntForgetHolds(ctx, db.HuntForgetHoldsParams{MerchantID: hunt.MerchantID, HuntID: hunt.ID, Codes: gate.HeldCodes}); err != nil {
		return fmt.Errorf("forget what was held: %w", err)
	}
	return nil
}

// dropOutdated cancels a charge that has not been sent and is of another invoice or amount than
// those that are owed now.
func (s *Service) dropOutdated(ctx context.Context, tx db.DBTX, hunt db.Hunt, ghost db.GhostTarget) error {
	queries := db.New(tx)
	invoices, amounts := ghost.OwedColumns()
	dropped, err := queries.TaskCancelOutdated(ctx, db.TaskCancelOutdatedParams{
		MerchantID: hunt.MerchantID, UniqueKey: chargeKey(hunt.ID), Invoices: invoices, Amounts: amounts,
	})
	if err != nil {
		return fmt.Errorf("cancel an outdated charge: %w", err)
	}
	if dropped == 0 {
		return nil
	}
	if err := queries.AttemptCancelUnsent(ctx, db.AttemptCancelUnsentParams{MerchantID: hunt.MerchantID, HuntID: hunt.ID}); err != nil {
		return fmt.Errorf("cancel attempts: %w", err)
	}
	return nil
}

// GhostsExpire hears before the purge touches anything that these ghosts are about to go: their
// hunts end, whether they can go now or not.
func (s *Service) GhostsExpire(ctx context.Context, tx db.DBTX, merchantID uuid.UUID, ghosts []uuid.UUID) error {
	hunts, err := db.New(tx).HuntListActiveOf(ctx, db.HuntListActiveOfParams{MerchantID: merchantID, Ghosts: ghosts})
	if err != nil {
		return fmt.Errorf("list hunts: %w", err)
	}
	for _, hunt := range hunts {
		if err := s.endHunt(ctx, tx, hunt, state.HuntStopped, "purged"); err != nil {
			return err
		}
	}
	paused, err := db.New(tx).HuntListPausedOf(ctx, db.HuntListPausedOfParams{MerchantID: merchantID, Ghosts: ghosts})
	if err != nil {
		return fmt.Errorf("list paused hunts: %w", err)
	}
	for _, id := range paused {
		task.Log(ctx, s.log).Warn("[WORKER] a subscription stays paused: its hunt's customer is purged, and PHANTOM cannot lift the pause when they pay; lift it at Stripe", "hunt", id)
		if err := note(ctx, db.New(tx), merchantID, id, uuid.Nil, "purged while our pause of the subscription holds: lift it at Stripe when the customer pays"); err != nil {
			return err
		}
	}
	return nil
}
