package web

import (
	"context"
	"net/http"

	"github.com/google/uuid"
)

func (s *Server) listChannels(ctx context.Context, w http.ResponseWriter, _ *http.Request, merchantID uuid.UUID) error {
	channels, err := s.config.Messages.Channels(ctx, merchantID)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, channels)
	return nil
}

func (s *Server) setResend(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	fields, err := bodyFields(r, "api_key", "from")
	if err != nil {
		return err
	}
	channel, err := s.config.Messages.SetResend(ctx, merchantID, fields["api_key"], fields["from"])
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, channel)
	return nil
}

func (s *Server) setTwilio(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	fields, err := bodyFields(r, "account_sid", "auth_token", "from")
	if err != nil {
		return err
	}
	channel, err := s.config.Messages.SetTwilio(ctx, merchantID, fields["account_sid"], fields["auth_token"], fields["from"])
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, channel)
	return nil
}

func (s *Server) deleteChannel(provider string) merchantHandler {
	return func(ctx context.Context, w http.ResponseWriter, _ *http.Request, merchantID uuid.UUID) error {
		if err := s.config.Messages.DeleteChannel(ctx, merchantID, provider); err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, map[string]string{"status": "deleted"})
		return nil
	}
}

func (s *Server) testChannel(provider string) merchantHandler {
	return func(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
		fields, err := bodyFields(r, "to")
		if err != nil {
			return err
		}
		if err := s.config.Messages.TestChannel(ctx, merchantID, provider, fields["to"]); err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, map[string]string{"status": "sent"})
		return nil
	}
}
