package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/connect"
	"phantom/db"
)

// account reads the invoices of a hunt and counts those that are paid, each once, with what has come for it since the hunt began and what
// came before the payment.
func (s *Service) account(ctx context.Context, merchantID, huntID uuid.UUID) error {
	hunt, err := s.queries.HuntGet(ctx, db.HuntGetParams{MerchantID: merchantID, ID: huntID})
	if err != nil {
		return fmt.Errorf("read hunt: %w", err)
	}
	reader, err := s.connect.Reader(ctx, merchantID)
	if err != nil {
		return err
	}
	owed := map[string]int64{}
	if err := json.Unmarshal(hunt.Owed, &owed); err != nil {
		return fmt.Errorf("read what was owed: %w", err)
	}
	allPaid := len(hunt.Invoices) > 0
	for _, invoice := range hunt.Invoices {
		o, err := readInvoice(ctx, reader, invoice)
		if errors.Is(err, connect.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if o.Status != "paid" {
			allPaid = false
			continue
		}
		charges, err := readPayments(ctx, reader, o)
		if err != nil {
			return err
		}
		money := moneySince(o, charges, owed, hunt.BeganAt)
		if money.amount == 0 {
			continue
		}
		object := reader.Hash("invoice", invoice)
		cause, err := s.cause(ctx, reader, hunt, object, money)
		if err != nil {
			return err
		}
		if _, err := s.queries.RecoveryCreate(ctx, db.RecoveryCreateParams{
			MerchantID: merchantID, Invoice: object, HuntID: huntID, Currency: o.Currency, Amount: money.amount, Cause: cause, RecoveredAt: money.at,
		}); err != nil {
			return fmt.Errorf("count the payment: %w", err)
		}
	}
	if !allPaid || !hunt.Paused {
		return nil
	}
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return s.liftPause(ctx, tx, hunt) })
}

// liftPause plans that the pause goes which was the hunt's final step: the debt is paid.
func (s *Service) liftPause(ctx context.Context, tx db.DBTX, hunt db.Hunt) error {
	queries := db.New(tx)
	hunt, err := queries.HuntLock(ctx, db.HuntLockParams{MerchantID: hunt.MerchantID, ID: hunt.ID})
	if err != nil {
		return fmt.Errorf("lock hunt: %w", err)
	}
	p := &planning{s: s, tx: tx, queries: queries, hunt: hunt}
	there, err := p.load(ctx)
	if err != nil || !there || !hunt.Paused {
		return err
	}
	for _, a := range p.attempts {
		if a.Action == KindResume && a.Result == nil {
			return nil // it is planned
		}
	}
	return p.mutate(ctx, KindResume, p.ghost.StripeSubscriptionID, hunt.Amount, Moment{At: p.now, Reason: "the debt is paid", Probability: 1})
}

// cause says what came before a payment: our charge if it was that, else the last message before it, else nothing of ours.
func (s *Service) cause(ctx context.Context, reader *connect.Reader, hunt db.Hunt, object []byte, p payment) (string, error) {
	if hunt.HeldOut || hunt.Mode != ModeRecover {
		return "anyway", nil
	}
	attempts, err := s.queries.AttemptListOfObject(ctx, db.AttemptListOfObjectParams{MerchantID: hunt.MerchantID, Object: object})
	if err != nil {
		return "", fmt.Errorf("list attempts: %w", err)
	}
	if ours, err := chargedByUs(ctx, reader, attempts, p); ours || err != nil {
		return "charge", err
	}
	channel, err := s.queries.HuntMessageBefore(ctx, db.HuntMessageBeforeParams{MerchantID: hunt.MerchantID, HuntID: hunt.ID, PaidAt: p.at})
	if errors.Is(err, pgx.ErrNoRows) {
		return "anyway", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the message before: %w", err)
	}
	return channel, nil
}

// chargedByUs says whether one of these attempts made the charge that paid. An attempt that Stripe answered with paid did. A debit that
// was under way may have failed since, and of an attempt whose outcome is unknown nothing is known: there the key of the request that
// made the charge decides, and where Stripe does not tell it, the charge is not ours.
func chargedByUs(ctx context.Context, reader *connect.Reader, attempts []db.Attempt, p payment) (bool, error) {
	perhaps := map[string]bool{} // by key
	for _, a := range attempts {
		if a.Action != KindPay || a.SentAt == nil {
			continue
		}
		if a.Result != nil && *a.Result == "paid" {
			return true, nil
		}
		if a.Result == nil || *a.Result == "processing" {
			perhaps["task_"+a.TaskID.String()] = true
		}
	}
	if len(perhaps) == 0 || p.by == nil {
		return false, nil
	}
	key, err := keyOf(ctx, reader, *p.by)
	if errors.Is(err, errTooManyEvents) {
		return false, nil
	}
	return perhaps[key], err
}
