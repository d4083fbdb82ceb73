package web

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"phantom/playbook"
)

func (s *Server) getPlaybook(ctx context.Context, w http.ResponseWriter, _ *http.Request, merchantID uuid.UUID) error {
	playbook, err := s.config.Recovery.Playbook(ctx, merchantID)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, playbook)
	return nil
}

// setPlaybook replaces the whole playbook, or, asked for a dry run, stores nothing and tells what
// the playbook would do.
func (s *Server) setPlaybook(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	dry := false
	if err := readQuery(r.URL.RawQuery, []string{"dry_run"}, func(_, value string) string {
		if value != "true" && value != "false" {
			return "must be true or false"
		}
		dry = value == "true"
		return ""
	}); err != nil {
		return err
	}
	text, err := jsonBody(r)
	if err != nil {
		return err
	}
	playbook, err := playbook.Parse(text)
	if err != nil {
		return err
	}
	if dry {
		run, err := s.config.Recovery.DryRun(ctx, merchantID, playbook)
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, run)
		return nil
	}
	stored, err := s.config.Recovery.SetPlaybook(ctx, merchantID, playbook)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, stored)
	return nil
}
