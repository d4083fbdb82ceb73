package web

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"phantom/message"
)

func (s *Server) listTemplates(ctx context.Context, w http.ResponseWriter, _ *http.Request, merchantID uuid.UUID) error {
	templates, err := s.config.Messages.Templates(ctx, merchantID)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string][]message.Template{"data": templates})
	return nil
}

// templateOf reads a template's wording, nil if the body is empty.
func templateOf(r *http.Request) (*message.Template, error) {
	fields, err := bodyFields(r, "subject", "html", "text")
	if err != nil || len(fields) == 0 {
		return nil, err
	}
	return &message.Template{
		Channel: r.PathValue("channel"), Name: r.PathValue("name"), Subject: fields["subject"], HTML: fields["html"], Text: fields["text"],
	}, nil
}

func (s *Server) setTemplate(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	template, err := templateOf(r)
	if err != nil {
		return err
	}
	if template == nil {
		template = &message.Template{Channel: r.PathValue("channel"), Name: r.PathValue("name")}
	}
	stored, err := s.config.Messages.SetTemplate(ctx, merchantID, *template)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, stored)
	return nil
}

func (s *Server) deleteTemplate(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	if err := s.config.Messages.DeleteTemplate(ctx, merchantID, r.PathValue("channel"), r.PathValue("name")); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "deleted"})
	return nil
}

func (s *Server) previewTemplate(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	draft, err := templateOf(r)
	if err != nil {
		return err
	}
	preview, err := s.config.Messages.PreviewTemplate(ctx, merchantID, r.PathValue("channel"), r.PathValue("name"), draft)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, preview)
	return nil
}
