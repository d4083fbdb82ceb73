package web

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"phantom/connect"
	"phantom/figures"
	"phantom/ghost"
	"phantom/trail"
)

// merchantHandler answers a request on behalf of one merchant. Its error is for [Server.fail].
type merchantHandler func(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error

// authenticated asks for a merchant's API key before anything else of the request is looked at. The
// merchant comes from the key alone.
func (s *Server) authenticated(next merchantHandler) http.HandlerFunc {
	return s.withKey(func(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID, connected bool) error {
		if !connected {
			return connect.ErrDisconnected
		}
		return next(ctx, w, r, merchantID)
	})
}

// evenDisconnected is for what a merchant who has left may still do: stop a hunt, halt, and take
// back the credentials of their providers. Each of these only ends something, and none shows what
// identifies a customer.
func (s *Server) evenDisconnected(next merchantHandler) http.HandlerFunc {
	return s.withKey(func(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID, _ bool) error {
		return next(ctx, w, r, merchantID)
	})
}

// withKey asks for a key that may do what the method says: to write, for all methods but GET and
// HEAD. So no new route can forget it, and previews and dry runs, which change nothing, ask for it
// too: they are for those who are about to write. What is changed is the key's doing.
func (s *Server) withKey(next func(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID, connected bool) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := s.untilLeft(r)
		defer cancel()
		caller, err := s.config.Connect.Authenticate(ctx, bearer(r.Header))
		if err == nil {
			s.databaseAnswered()
			if !caller.MayRead() || r.Method != http.MethodGet && r.Method != http.MethodHead && !caller.MayWrite() {
				err = connect.ErrScope
			}
		}
		if err == nil {
			ctx := trail.By(ctx, trail.Key(caller.Key))
			err = s.limited(ctx, w, r, caller.Merchant, func(w http.ResponseWriter) error { return next(ctx, w, r, caller.Merchant, caller.Connected) })
		}
		switch {
		case err == nil:
		case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
			// untilLeft has ended it, and hardly anybody still listens.
			writeError(w, http.StatusServiceUnavailable, connect.CodeDatabaseUnavailable, "The connection was closed before the answer.")
		default:
			s.fail(w, r, err)
		}
	}
}

// bearer returns the one token of the one Authorization header, or "".
func bearer(header http.Header) string {
	values := header.Values("Authorization")
	if len(values) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimLeft(token, " ")
}

func (s *Server) startAudit(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	if _, err := bodyFields(r); err != nil {
		return err
	}
	id, err := s.config.Ghost.StartAudit(ctx, merchantID, nil)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusAccepted, map[string]uuid.UUID{"id": id})
	return nil
}

func (s *Server) getAudit(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	audit, err := s.config.Ghost.Audit(ctx, merchantID, id)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, audit)
	return nil
}

func (s *Server) listGhosts(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	filter, err := ghostFilter(r.URL.RawQuery)
	if err != nil {
		return err
	}
	page, err := s.config.Ghost.List(ctx, merchantID, filter)
	if err != nil {
		return err
	}
	writePage(w, page.Ghosts, page.Next)
	return nil
}

// writePage answers a part of a list; next is the zero id on the last page.
func writePage[T any](w http.ResponseWriter, data []T, next uuid.UUID) {
	answer := struct {
		Data       []T     `json:"data"`
		NextCursor *string `json:"next_cursor"`
	}{Data: data}
	if next != uuid.Nil {
		cursor := base64.RawURLEncoding.EncodeToString(next[:])
		answer.NextCursor = &cursor
	}
	writeJSON(w, http.StatusOK, answer)
}

func (s *Server) getGhost(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	found, err := s.config.Ghost.Get(ctx, merchantID, id)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, found)
	return nil
}

func (s *Server) setAccess(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	fields, err := bodyFields(r, "access")
	if err != nil {
		return err
	}
	access := fields["access"]
	if access != "proven" && access != "none" {
		return &paramError{"access", "must be proven or none"}
	}
	changed, err := s.config.Ghost.SetAccess(ctx, merchantID, id, access == "proven")
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, changed)
	return nil
}

func (s *Server) summary(ctx context.Context, w http.ResponseWriter, _ *http.Request, merchantID uuid.UUID) error {
	summary, err := s.config.Ghost.Summary(ctx, merchantID)
	if err != nil {
		return err
	}
	brought, err := s.config.Recovery.Figures(ctx, merchantID)
	if err != nil {
		return err
	}
	at, err := s.config.Recovery.HaltedAt(ctx, merchantID)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, struct {
		ghost.Summary
		halted
		Recovery figures.Figures `json:"recovery"`
	}{summary, halted{at}, brought})
	return nil
}

func (s *Server) listTasks(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	filter, err := taskFilter(r.URL.RawQuery)
	if err != nil {
		return err
	}
	page, err := s.config.Tasks(ctx, merchantID, filter)
	if err != nil {
		return err
	}
	writePage(w, page.Tasks, page.Next)
	return nil
}

func (s *Server) listTrail(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	filter, err := trailFilter(r.URL.RawQuery)
	if err != nil {
		return err
	}
	page, err := s.config.Trail(ctx, merchantID, filter)
	if err != nil {
		return err
	}
	writePage(w, page.Entries, page.Next)
	return nil
}

func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(s.config.OpenAPI())
}
