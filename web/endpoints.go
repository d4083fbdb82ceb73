package web

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"phantom/input"
)

// Where merchants' apps are told what has happened: package outbound delivers.

func (s *Server) listEndpoints(ctx context.Context, w http.ResponseWriter, _ *http.Request, merchantID uuid.UUID) error {
	all, err := s.config.Outbound.List(ctx, merchantID)
	if err != nil {
		return err
	}
	writePage(w, all, uuid.Nil)
	return nil
}

var strictEndpoint = input.Strict{Only: "takes only url and types"}

func (s *Server) createEndpoint(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	text, err := jsonBody(r)
	if err != nil {
		return err
	}
	var given struct {
		URL   string   `json:"url"`
		Types []string `json:"types"`
	}
	if err := strictEndpoint.Decode(text, &given); err != nil {
		return err
	}
	created, err := s.config.Outbound.Create(ctx, merchantID, given.URL, given.Types)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, created)
	return nil
}

func (s *Server) deleteEndpoint(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	if err := s.config.Outbound.Delete(ctx, merchantID, id); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}

func (s *Server) testEndpoint(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	if _, err := bodyFields(r); err != nil {
		return err
	}
	id, err := pathID(r)
	if err != nil {
		return err
	}
	delivery, err := s.config.Outbound.Test(ctx, merchantID, id)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusAccepted, map[string]uuid.UUID{"id": delivery})
	return nil
}

func (s *Server) listDeliveries(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	before, limit, _, err := pageOf(r, "")
	if err != nil {
		return err
	}
	list, next, err := s.config.Outbound.Deliveries(ctx, merchantID, id, before, limit)
	if err != nil {
		return err
	}
	writePage(w, list, next)
	return nil
}
