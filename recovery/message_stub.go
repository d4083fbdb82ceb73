package recovery

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// planNext plans what comes next in a hunt, in the caller's transaction.
func (s *Service) planNext(context.Context, pgx.Tx, uuid.UUID, uuid.UUID) error { return nil }
