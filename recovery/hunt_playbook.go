package recovery

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"phantom/db"
	"phantom/input"
	"phantom/playbook"
	"phantom/state"
	"phantom/trail"
)

// Playbook returns the newest playbook of a merchant.
func (s *Service) Playbook(ctx context.Context, merchantID uuid.UUID) (playbook.Versioned, error) {
	return playbook.Newest(ctx, s.queries, merchantID)
}

// SetPlaybook stores a playbook as the merchant's newest version, which hunts that begin from now
// on keep. Every template that its steps name must exist, and every channel be set up if it is to
// recover: else it fails with a [*input.FieldError].
func (s *Service) SetPlaybook(ctx context.Context, merchantID uuid.UUID, p playbook.Playbook) (playbook.Versioned, error) {
	if err := s.messages.CheckSteps(ctx, merchantID, p); err != nil {
		return playbook.Versioned{}, err
	}
	body, err := json.Marshal(p)
	if err != nil {
		return playbook.Versioned{}, fmt.Errorf("marshal playbook: %w", err)
	}
	if _, err := playbook.Parse(body); err != nil {
		// anyone who reads it later does so by the same rules
		return playbook.Versioned{}, err
	}
	var version int32
	err = db.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		queries := db.New(tx)
		if err := queries.MerchantLock(ctx, merchantID); err != nil {
			return err
		}
		if p.Mode == state.ModeRecover {
			reads, err := queries.MerchantReadOnly(ctx, merchantID)
			if err != nil {
				return fmt.Errorf("read how the merchant is connected: %w", err)
			}
			if reads {
				return input.Wrong("mode", "must not be recover: the account is connected with a key that only reads (phantom connect)")
			}
		}
		before, err := playbook.FieldsOfNewest(ctx, queries, merchantID)
		if err != nil {
			return err
		}
		version, err = queries.PlaybookCreate(ctx, db.PlaybookCreateParams{MerchantID: merchantID, Body: body})
		if err != nil {
			return err
		}
		change, err := playbook.ChangeOf(merchantID, before, playbook.Versioned{Version: version, Playbook: p})
		if err != nil {
			return err
		}
		if err := trail.Record(ctx, tx, change); err != nil {
			return err
		}
		return huntLater(ctx, tx, merchantID, playbook.Versioned{Version: version, Playbook: p})
	})
	if err != nil {
		return playbook.Versioned{}, fmt.Errorf("store playbook: %w", err)
	}
	return playbook.Versioned{Version: version, Playbook: p}, nil
}
