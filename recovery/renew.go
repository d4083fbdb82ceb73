package recovery

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"phantom/db"
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
		if hunt.Mode != ModeRecover || hunt.HeldOut {
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

// renew looks at a customer's payment methods after they have changed.
func (s *Service) renew(context.Context, uuid.UUID, uuid.UUID) error { return nil }
