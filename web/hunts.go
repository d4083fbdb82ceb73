package web

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"phantom/db"
	"phantom/recovery"
	"phantom/state"
)

func (s *Server) startHunts(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	ghosts, err := chosenGhosts(r)
	if err != nil {
		return err
	}
	at, err := s.config.Recovery.HaltedAt(ctx, merchantID)
	if err != nil {
		return err
	}
	if ghosts == nil {
		all, err := s.config.Recovery.StartAll(ctx, merchantID)
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusAccepted, allStarted{all, halted{at}})
		return nil
	}
	started, err := s.config.Recovery.Start(ctx, merchantID, ghosts)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusAccepted, struct {
		recovery.Started
		halted
	}{started, halted{at}})
	return nil
}

type allStarted struct {
	recovery.AllStarted
	halted
}

// getStart says how far the hunts of all ghosts have come.
func (s *Server) getStart(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	all, err := s.config.Recovery.ReadStart(ctx, merchantID, id)
	if err != nil {
		return err
	}
	at, err := s.config.Recovery.HaltedAt(ctx, merchantID)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, allStarted{all, halted{at}})
	return nil
}

// chosenGhosts reads {"ghosts": "all"}, which is nil, or {"ghosts": [ids]}. A malformed id is no
// other than an unknown one.
func chosenGhosts(r *http.Request) ([]uuid.UUID, error) {
	text, err := jsonBody(r)
	if err != nil {
		return nil, err
	}
	var object map[string]json.RawMessage
	if len(text) > 0 {
		if object, err = jsonObject(text); err != nil {
			return nil, err
		}
	}
	for name := range object {
		if name != "ghosts" {
			return nil, &paramError{"body", "takes only ghosts"}
		}
	}
	if string(object["ghosts"]) == `"all"` {
		return nil, nil
	}
	var list []*string
	if err := json.Unmarshal(object["ghosts"], &list); err != nil || list == nil || slices.Contains(list, nil) {
		return nil, &paramError{"ghosts", "must be all or a list of ids"}
	}
	ids := make([]uuid.UUID, 0, len(list))
	for _, text := range list {
		id, err := parseID(*text)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (s *Server) listHunts(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	filter, err := huntFilter(r.URL.RawQuery)
	if err != nil {
		return err
	}
	page, err := s.config.Recovery.Hunts(ctx, merchantID, filter)
	if err != nil {
		return err
	}
	writePage(w, page.Hunts, page.Next)
	return nil
}

// huntFilter reads the query of GET /api/hunts.
func huntFilter(query string) (recovery.HuntFilter, error) {
	filter := recovery.HuntFilter{Limit: defaultLimit}
	err := readQuery(query, []string{"cursor", "ghost", "limit", "state"}, func(name, value string) string {
		switch name {
		case "cursor":
			return setCursor(&filter.Before, value)
		case "ghost":
			id, err := parseID(value)
			if err != nil {
				return "must be a ghost's id"
			}
			filter.Ghost = &id
		case "limit":
			return setLimit(&filter.Limit, value)
		case "state":
			if !slices.Contains(db.Texts(state.Hunts), value) {
				return "must be one of " + strings.Join(db.Texts(state.Hunts), ", ")
			}
			filter.State = &value
		}
		return ""
	})
	return filter, err
}

func (s *Server) getHunt(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	hunt, err := s.config.Recovery.Hunt(ctx, merchantID, id)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, hunt)
	return nil
}

func (s *Server) getAdvice(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	advice, err := s.config.Recovery.Advice(ctx, merchantID, id)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, advice)
	return nil
}

func (s *Server) stopHunt(ctx context.Context, w http.ResponseWriter, r *http.Request, merchantID uuid.UUID) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	if err := s.config.Recovery.Stop(ctx, merchantID, id); err != nil {
		return err
	}
	return s.getHunt(ctx, w, r, merchantID)
}
