package recovery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/connect"
	"phantom/db"
)

// account reads the invoices of a hunt and counts those that are paid, each once, with what came before the payment.
func (s *Service) account(ctx context.Context, merchantID, huntID uuid.UUID) error {
	hunt, err := s.queries.HuntGet(ctx, db.HuntGetParams{MerchantID: merchantID, ID: huntID})
	if err != nil {
		return fmt.Errorf("read hunt: %w", err)
	}
	reader, err := s.connect.Reader(ctx, merchantID)
	if err != nil {
		return err
	}
	for _, invoice := range hunt.Invoices {
		o, err := readInvoice(ctx, reader, invoice)
		if errors.Is(err, connect.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if o.Status != "paid" || o.AmountPaid <= 0 {
			continue
		}
		paidAt := hunt.BeganAt
		if o.Transitions.PaidAt != nil {
			paidAt = time.Unix(*o.Transitions.PaidAt, 0)
		}
		object := reader.Hash("invoice", invoice)
		cause, err := s.cause(ctx, hunt, object, o, paidAt)
		if err != nil {
			return err
		}
		if _, err := s.queries.RecoveryCreate(ctx, db.RecoveryCreateParams{
			MerchantID: merchantID, Invoice: object, HuntID: huntID, Currency: o.Currency, Amount: o.AmountPaid, Cause: cause, RecoveredAt: paidAt,
		}); err != nil {
			return fmt.Errorf("count the payment: %w", err)
		}
	}
	return nil
}

// cause says what came before a payment: our charge if it was that, else the last message before it, else nothing of ours.
func (s *Service) cause(ctx context.Context, hunt db.Hunt, object []byte, o object, paidAt time.Time) (string, error) {
	if hunt.HeldOut || hunt.Mode != ModeRecover {
		return "anyway", nil
	}
	attempts, err := s.queries.AttemptListOfObject(ctx, db.AttemptListOfObjectParams{MerchantID: hunt.MerchantID, Object: object})
	if err != nil {
		return "", fmt.Errorf("list attempts: %w", err)
	}
	for _, a := range attempts {
		if a.Action == KindPay && a.Result != nil && (*a.Result == "paid" || *a.Result == "processing") && !o.PaidOutOfBand {
			return "charge", nil
		}
	}
	channel, err := s.queries.HuntMessageBefore(ctx, db.HuntMessageBeforeParams{MerchantID: hunt.MerchantID, HuntID: hunt.ID, PaidAt: paidAt})
	if errors.Is(err, pgx.ErrNoRows) {
		return "anyway", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the message before: %w", err)
	}
	return channel, nil
}
