package recovery

import (
	"context"

	"github.com/google/uuid"
	"phantom/db"
)

// observe writes into the history of a hunt that only watches what it would do.
func (s *Service) observe(context.Context, db.DBTX, uuid.UUID, uuid.UUID) error { return nil }
