package web

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// halted is since when nothing is sent for the merchant, by their own halt or the operator's, or
// null.
type halted struct {
	HaltedAt *time.Time `json:"halted_at"`
}

func (s *Server) halt(
	ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID,
) error {
	if _, err := bodyFields(r); err != nil {
		return err
	}
	at, err := s.config.Recovery.Halt(ctx, merchantID)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, halted{at})
	return nil
}

func (s *Server) unhalt(
	ctx context.Context, w http.ResponseWriter, _ *http.Request, merchantID uuid.UUID,
) error {
	at, err := s.config.Recovery.Unhalt(ctx, merchantID)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, halted{at})
	return nil
}
